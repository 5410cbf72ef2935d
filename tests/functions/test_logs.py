"""Lines and files of a function's log."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.functions.logs import FileLog, LineCutter
from nearpoint.state.resources import Function

FUNCTION = Function(
    name="edge-function",
    version="3",
    account_id="1",
    region="us-east-1",
    role_arn="r",
    runtime="python3.11",
    handler="app.handler",
    code_sha256="0",
    code_size_bytes=0,
    last_modified=0,
)


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@given(st.lists(st.binary(max_size=20)))
def test_lines_do_not_depend_on_how_the_bytes_came(chunks):
    cutter, whole = LineCutter(10, 1000), LineCutter(10, 1000)
    pieces = [line for chunk in chunks for line in cutter.feed(chunk)] + cutter.finish()
    at_once = whole.feed(b"".join(chunks)) + whole.finish()
    assert "".join(pieces) == "".join(at_once)


@given(st.lists(st.text(alphabet="abc", max_size=8)))
def test_short_lines_come_out_as_they_went_in(lines):
    cutter = LineCutter()
    assert cutter.feed("".join(f"{line}\n" for line in lines).encode()) + cutter.finish() == lines


def test_a_long_line_is_cut_and_too_much_is_dropped():
    cutter = LineCutter(10, 25)
    assert cutter.feed(b"x" * 12 + b"\n" + b"y" * 100) == ["x" * 10, "xx", "y" * 10]
    assert cutter.finish() == ["yy", "... 88 bytes of output dropped"]
    assert LineCutter().feed(b"a\r\n\xff\n") == ["a", "\ufffd"]


async def test_a_line_in_the_file(tmp_path):
    log = FileLog(tmp_path / "functions")
    log(FUNCTION, "r-1", 'text "é" \x1b[31m')
    log.flush()
    (record,) = read(tmp_path / "functions" / "edge-function.log")
    assert record.pop("at").endswith("Z")
    assert record == {"request_id": "r-1", "version": "3", "line": 'text "é" \x1b[31m'}
    assert log.path("../../etc/x y").parent == tmp_path / "functions"


async def test_files_are_rotated_by_size(tmp_path):
    log = FileLog(tmp_path, file_bytes_max=1000, files_kept=2)
    for number in range(40):
        log(FUNCTION, str(number), "x" * 100)
        log.flush()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["edge-function.log", "edge-function.log.1", "edge-function.log.2"]
    kept = [record["request_id"] for name in reversed(names) for record in read(tmp_path / name)]
    assert kept == [str(number) for number in range(40 - len(kept), 40)]
    assert all((tmp_path / name).stat().st_size <= 1000 for name in names)


async def test_several_writers_lose_nothing(tmp_path):
    logs = [FileLog(tmp_path, file_bytes_max=2000, files_kept=200) for _ in range(4)]
    for number in range(100):
        for writer, log in enumerate(logs):
            log(FUNCTION, f"{writer}-{number}", "x")
    pending = [log._pending for log in logs]
    assert all(pending)

    def flush(log: FileLog) -> None:
        for record in log._pending.pop("edge-function"):
            log._append(log.path("edge-function"), record)

    threads = [threading.Thread(target=flush, args=(log,)) for log in logs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = [record["request_id"] for path in tmp_path.iterdir() for record in read(path)]
    assert sorted(records) == sorted(f"{writer}-{number}" for writer in range(4) for number in range(100))


async def test_a_disk_that_refuses_costs_the_log_only(tmp_path):
    log = FileLog(tmp_path / "logs")
    (tmp_path / "logs" / "edge-function.log").mkdir()
    log(FUNCTION, "r", "x")
    log.flush()
    with pytest.raises(IsADirectoryError):
        (tmp_path / "logs" / "edge-function.log").read_text()
