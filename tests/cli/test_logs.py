"""What `nearpoint logs` makes of the lines it finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nearpoint.cli.console import CommandError
from nearpoint.cli.logs import logs

RECORD = {"at": "2026-11-23T05:00:00.000Z", "request_id": "abc", "version": "1", "line": "hello {from} the function"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "logs" / "functions"
    folder.mkdir(parents=True)
    (folder / "sign.log").write_text(json.dumps(RECORD) + "\nnot json\n")
    (tmp_path / "logs" / "control.log").write_text('{"event": "ready"}\n')
    return tmp_path


def test_functions_lines_are_shown_as_they_were_printed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs(data=data, names=[], lines=50, follow=False, as_json=False)
    assert capsys.readouterr().out == "2026-11-23T05:00:00.000Z hello {from} the function\nnot json\n"


def test_scripts_get_an_object_a_line_with_the_name_of_its_log(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs(data=data, names=["sign", "control"], lines=2, follow=False, as_json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"log": "sign"} | RECORD,
        {"log": "sign", "line": "not json"},
        {"log": "control", "event": "ready"},
    ]


def test_several_logs_are_told_apart(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs(data=data, names=["control", "sign"], lines=1, follow=False, as_json=False)
    assert capsys.readouterr().out == 'control: {"event": "ready"}\nsign: not json\n'


def test_an_unknown_name_lists_those_that_there_are(data: Path) -> None:
    with pytest.raises(CommandError, match="There are: control, functions/sign, sign"):
        logs(data=data, names=["nobody"], lines=1, follow=False, as_json=False)
