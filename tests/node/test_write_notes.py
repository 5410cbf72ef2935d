"""Processes of one machine tell each other of writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nearpoint.node.behind import KeysBehind
from nearpoint.node.write_notes import SLOTS, Ring, WriteNotes
from nearpoint.replication.pending import Note

OTHERS = [("us", "aaa"), ("eu", "bbb")]


def of(number: int) -> Note:
    return Note(number, 2, 3, 2**63 + number)


def notes(folder: Path, name: str, other: str) -> tuple[WriteNotes, list[tuple[int, Note]]]:
    heard: list[tuple[int, Note]] = []
    return WriteNotes(folder, name, [other], lambda region, note: heard.append((region, note))), heard


def test_what_one_tells_the_other_hears_once_in_order(tmp_path: Path) -> None:
    one, heard_by_one = notes(tmp_path, "one", "two")
    two, heard_by_two = notes(tmp_path, "two", "one")
    for number in range(3):
        one.tell(9, of(number))
    two.tell(8, of(7))
    for _ in range(2):
        one.listen()
        two.listen()
    assert heard_by_two == [(9, of(0)), (9, of(1)), (9, of(2))]
    assert heard_by_one == [(8, of(7))]


def test_a_ring_holds_the_last_ones_and_outlives_its_process(tmp_path: Path) -> None:
    two, heard = notes(tmp_path, "two", "one")
    pid = os.fork()
    if pid == 0:
        one, _ = notes(tmp_path, "one", "two")
        for number in range(SLOTS + 5):
            one.tell(1, of(number))
        os._exit(0)
    os.waitpid(pid, 0)
    two.listen()
    assert heard == [(1, of(number)) for number in range(5, SLOTS + 5)]
    again, _ = notes(tmp_path, "one", "two")  # started anew, it goes on where it was
    again.tell(1, of(77))
    two.listen()
    assert heard[-1] == (1, of(77))


def test_what_is_damaged_or_half_written_is_passed_over(tmp_path: Path) -> None:
    two, heard = notes(tmp_path, "two", "one")
    one, _ = notes(tmp_path, "one", "two")
    for number in range(3):
        one.tell(1, of(number))
    with (tmp_path / "one.ring").open("r+b") as file:
        file.seek(48 * 2 + 5)
        file.write(b"\xff")
    two.listen()
    assert heard == [(1, of(0)), (1, of(2))]
    assert Ring(tmp_path / "one.ring").read(1) is None


@pytest.mark.parametrize("logged", ["", "x;bbb", ";bbb", "-1;bbb", "²;bbb"])
def test_a_store_that_says_nonsense_changes_nothing(tmp_path: Path, logged: str) -> None:
    behind = KeysBehind(["us", "eu"], tmp_path, "one", [])
    behind.wrote("us", "aaa", ["k"], logged)
    behind.wrote("elsewhere", "aaa", ["k"], "1;bbb")
    assert not behind.any()


def test_a_write_is_behind_elsewhere_in_every_process(tmp_path: Path) -> None:
    one, two = (KeysBehind(["us", "eu"], tmp_path, name, [other]) for name, other in (("one", "two"), ("two", "one")))
    one.wrote("us", "aaa", ["k", "l"], "12;bbb,ccc")
    for each in (one, two):
        assert each.any()
        assert each.newer_in("bbb", "k", OTHERS) == each.newer_in("ccc", "l", OTHERS) == ["us"]
        assert each.newer_in("aaa", "k", OTHERS) == each.newer_in("bbb", "m", OTHERS) == []
