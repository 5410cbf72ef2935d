"""What `nearpoint logs` makes of the lines it finds."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from nearpoint.cli.console import CommandError, Exit
from nearpoint.cli.logs import logs

RECORD = {"at": "2026-11-23T05:00:00.000Z", "request_id": "abc", "version": "1", "line": "hello {from} the function"}

READY = {"event": "ready", "timestamp": "2026-11-23T05:00:01.000000Z"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "logs" / "functions"
    folder.mkdir(parents=True)
    (folder / "sign.log").write_text(json.dumps(RECORD) + "\nnot json\n")
    (tmp_path / "logs" / "control.log").write_text(json.dumps(READY) + "\n")
    return tmp_path


def test_functions_lines_are_shown_as_they_were_printed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs(data=data, names=[], lines=50, follow=False, as_json=False)
    assert capsys.readouterr().out == "2026-11-23T05:00:00.000Z hello {from} the function\nnot json\n"


def test_scripts_get_an_object_a_line_with_the_name_of_its_log(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs(data=data, names=["sign", "control"], lines=2, follow=False, as_json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"log": "sign"} | RECORD,
        {"log": "sign", "line": "not json"},
        {"log": "control"} | READY,
    ]


def test_several_logs_are_told_apart(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logs(data=data, names=["control", "sign"], lines=1, follow=False, as_json=False)
    assert capsys.readouterr().out == f"sign: not json\ncontrol: {json.dumps(READY)}\n"


def test_an_unknown_name_lists_those_that_there_are(data: Path) -> None:
    with pytest.raises(CommandError, match="There are: control, functions/sign, sign"):
        logs(data=data, names=["nobody"], lines=1, follow=False, as_json=False)


def test_logs_are_merged_by_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "logs"
    (folder / "functions").mkdir(parents=True)
    (folder / "control.log").write_text(
        '{"event": "first", "timestamp": "2026-11-23T05:00:00.5Z"}\n'
        '{"event": "third", "timestamp": "2026-11-23T05:00:02.000001Z"}\nTraceback\n  at once behind it\n'
    )
    (folder / "nats.log").write_text("[7] 2026/11/23 05:00:02.000002 [INF] fourth\n")
    (folder / "functions" / "sign.log").write_text(json.dumps(RECORD | {"at": "2026-11-23T05:00:01Z"}) + "\n")
    logs(data=tmp_path, names=["nats", "sign", "control"], lines=50, follow=False, as_json=False)
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "control", "sign", "control", "control", "control", "nats",
    ]  # fmt: skip


def test_the_last_lines_are_those_of_each_log(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for lines, expected in ((0, ""), (1, "not json\n"), (9, f"{RECORD['at']} {RECORD['line']}\nnot json\n")):
        logs(data=data, names=["sign"], lines=lines, follow=False, as_json=False)
        assert capsys.readouterr().out == expected


def test_what_is_written_is_followed_by_time_and_over_rotations(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    control, sign = data / "logs" / "control.log", data / "logs" / "functions" / "sign.log"

    def write(text: str, path: Path, how: str = "a") -> None:
        with path.open(how) as file:
            file.write(text)

    steps = iter(
        (
            lambda: (write('{"timestamp": "2026-11-23T05:00:03Z"}\n', control), write(json.dumps(RECORD) + "\n", sign)),
            lambda: write("not whole", sign),
            lambda: write(" yet\n", sign),
            lambda: write("rotated\n", sign, "w"),
        )
    )

    def sleep(_: float) -> None:
        try:
            next(steps)()
        except StopIteration:
            raise KeyboardInterrupt from None

    monkeypatch.setattr("nearpoint.cli.logs.time", SimpleNamespace(sleep=sleep))
    with pytest.raises(KeyboardInterrupt):
        logs(data=data, names=["control", "sign"], lines=0, follow=True, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        f"sign: {RECORD['at']} {RECORD['line']}",
        'control: {"timestamp": "2026-11-23T05:00:03Z"}',
        "sign: not whole yet",
        "sign: rotated",
    ]


def test_a_folder_where_no_world_has_been_is_said(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No world has been on") as caught:
        logs(data=tmp_path, names=[], lines=1, follow=False, as_json=False)
    assert caught.value.code is Exit.UNREACHABLE
