"""Log files that wait for delivery: cut by hour, size and quiet; bounded; found again after a restart."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from nearpoint.edge import logspool
from nearpoint.edge.log_target import LogTarget
from nearpoint.edge.logline import HEAD
from nearpoint.edge.logspool import FILE_S_MAX, QUIET_S, LogSpool

MOMENT = 1_800_000_000.0  # 2027-01-15 08:00:00


class Clock:
    def __init__(self) -> None:
        self.now = MOMENT

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def spool(folder: Path, clock: Clock, **bounds: int) -> LogSpool:
    numbers = itertools.count()
    made = LogSpool(folder, clock=clock, random_hex=lambda: f"{next(numbers):08x}{id(numbers):x}", **bounds)
    made.serve({"E1": LogTarget(bucket="logs", prefix="cdn/"), "E2": LogTarget(bucket="logs")})
    return made


def test_a_quiet_file_is_due_under_cloudfronts_name(tmp_path: Path, clock: Clock) -> None:
    made = spool(tmp_path, clock)
    made.write("E1", clock.now, b"a\n")
    made.write("E2", clock.now, b"b\n")
    made.write("E3", clock.now, b"not logged\n")
    assert made.due() == []
    clock.now += QUIET_S - 1
    made.write("E1", clock.now, b"c\n")
    clock.now += 1
    (quiet,) = made.due()
    assert quiet.key.startswith("E2.2027-01-15-08.")
    assert quiet.key.endswith(".gz")
    clock.now += QUIET_S
    first, second = made.due()
    assert (first, second.key.startswith("cdn/E1.2027-01-15-08.")) == (quiet, True)
    assert second.path.read_bytes() == HEAD + b"a\nc\n"
    made.done(first.path)
    made.done(second.path)
    assert made.due(everything=True) == []
    assert not first.path.exists()


def test_a_busy_file_is_cut_by_hour_size_and_time(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logspool, "FILE_BYTES_MAX", 1_000)
    made = spool(tmp_path, clock)
    made.write("E1", clock.now, b"x" * 1_000)
    assert len(made.due()) == 1
    for _ in range(int(FILE_S_MAX) + 1):
        made.write("E1", clock.now, b"y\n")
        clock.now += 1
    assert len(made.due()) == 2
    made.write("E1", clock.now, b"z\n")
    made.write("E1", clock.now + 3600, b"z\n")
    assert len(made.due(everything=True)) == 4


def test_what_was_not_delivered_is_found_again(tmp_path: Path, clock: Clock) -> None:
    made = spool(tmp_path, clock)
    made.write("E1", clock.now, b"a\n")  # and nobody closes it
    again = LogSpool(tmp_path, clock=clock, random_hex=lambda: "0")
    (found,) = again.due()
    assert (found.target, found.path.read_bytes()) == (LogTarget(bucket="logs", prefix="cdn/"), HEAD + b"a\n")


def test_a_distribution_that_goes_elsewhere_begins_a_new_file(tmp_path: Path, clock: Clock) -> None:
    made = spool(tmp_path, clock)
    made.write("E1", clock.now, b"a\n")
    made.serve({"E1": LogTarget(bucket="others")})
    made.write("E1", clock.now, b"b\n")
    assert [each.target.bucket for each in made.due(everything=True)] == ["logs", "others"]


def test_what_nobody_takes_is_bounded(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logspool, "FILE_BYTES_MAX", 1_000)
    made = spool(tmp_path, clock, bytes_max=5_000)
    for number in range(10):
        made.write("E1", clock.now, f"{number}\n".encode() * 500)
    left = made.due(everything=True)
    assert sum(each.path.stat().st_size for each in left) <= 5_000
    assert made.dropped == 10 - len(left)
    assert left[-1].path.read_bytes().endswith(b"9\n")
