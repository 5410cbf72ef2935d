"""What workers say of themselves on the board they share."""

from __future__ import annotations

import os

import pytest

from nearpoint.node.board import NOTICE_BYTES_MAX, SILENT_S, Board


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_all_have_to_be_ready() -> None:
    clock = Clock()
    board = Board(2, clock_s=clock)
    board.write(0, [])
    assert board.read() == ["worker 2 has not started"]
    board.write(1, ["no region answers"])
    board.write(0, ["no region answers"])
    assert board.read() == ["no region answers"]
    board.write(0, [])
    board.write(1, [])
    assert board.read() == []
    clock.now_s += SILENT_S + 0.1
    board.write(0, [])
    assert board.read() == ["worker 2 is silent"]


def test_a_fork_shares_it() -> None:
    board = Board(1)
    pid = os.fork()
    if pid == 0:
        board.write(0, ["said by the child"])
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.read() == ["said by the child"]


def test_what_does_not_fit_is_cut() -> None:
    board = Board(1)
    board.write(0, [f"region {at} " + "x" * 100 for at in range(200)])
    found = board.read()
    assert found[-1] == "and more"
    board.write(0, ["é" * 5000])
    assert board.read() == ["more than fits here"]


def test_a_notice_reaches_everybody_once() -> None:
    board = Board(2)
    assert board.notice(0) is None
    board.put_up(b"first")
    assert board.notice(0) == (1, b"first")
    assert board.notice(1) is None
    board.put_up(b"second, longer")
    assert board.notice(1) == (2, b"second, longer")
    board.put_up(b"")
    assert board.notice(2) == (3, b"")


def test_a_notice_that_is_being_written_is_not_read() -> None:
    board = Board(1)
    board.put_up(b"x" * 100)
    at = board._notice_at + 50
    board._memory[at : at + 1] = b"y"
    assert board.notice(0) is None


def test_a_notice_has_its_bounds() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        Board(1).put_up(bytes(NOTICE_BYTES_MAX + 1))
