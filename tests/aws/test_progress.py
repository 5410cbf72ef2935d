"""What a deployment shows: a table in place on a terminal, lines elsewhere, and no question to nobody."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from nearpoint.aws.stacks import Event
from nearpoint.cli import progress
from nearpoint.cli.console import CommandError, Exit
from nearpoint.cli.progress import Progress


def event(at: float, logical_id: str, status: str, reason: str = "") -> Event:
    type_ = "AWS::Lambda::Function"
    return Event(id=f"{at}", at=at, logical_id=logical_id, type=type_, status=status, reason=reason)


EVENTS = (
    event(100.0, "Signer", "CREATE_IN_PROGRESS"),
    event(100.5, "Other", "CREATE_IN_PROGRESS"),
    event(102.5, "Other", "CREATE_COMPLETE"),
    event(103.0, "Signer", "CREATE_FAILED", "too [small]"),
    event(104.0, "Signer", "DELETE_IN_PROGRESS"),
    event(105.5, "Signer", "DELETE_COMPLETE"),
)


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> list[str]:
    out = io.StringIO()
    monkeypatch.setattr(progress, "notes", Console(file=out, force_terminal=terminal, width=100, no_color=True))
    watching = Progress(yes=True)
    with watching.live():
        for each in EVENTS:
            watching.event(each)
        watching.step("next")
    return out.getvalue().splitlines()


def test_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, terminal=False)
    assert len(lines) == len(EVENTS) + 1
    words = lines[3].split(" s  ", 1)[1].split()
    assert words == ["CREATE_FAILED", "Signer", "(AWS::Lambda::Function)", "too", "[small]"]


def test_a_table_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, terminal=True)
    assert "next" in lines[-1]  # below the table, which stays
    (signer,) = [line.split() for line in lines[-6:] if "Signer" in line]
    # Its failure stays in sight while it is being removed; the time is that of the removal.
    assert signer == ["Signer", "Function", "DELETE_COMPLETE", "1.5", "s", "too", "[small]"]
    (other,) = [line.split() for line in lines[-6:] if "Other" in line]
    assert other == ["Other", "Function", "CREATE_COMPLETE", "2.0", "s"]


def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert Progress(yes=True).confirm("Go on?")
    with pytest.raises(CommandError, match="say --yes") as refused:
        Progress(yes=False).confirm("Go on?")
    assert refused.value.code == Exit.REFUSED
