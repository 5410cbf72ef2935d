"""Shows how a deployment goes: on a terminal a live table of the resources, otherwise a line for each event."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from nearpoint.aws.stacks import ChangeSet, Event
from nearpoint.cli.console import CommandError, Exit, notes, table

_COLOURS = {"Add": "green", "Modify": "yellow", "Remove": "red"}
_REFRESH_HZ = 4


@dataclass(slots=True)
class _Row:
    """A resource in the table; times are the events', in Unix seconds."""

    type: str
    status: str
    reason: str
    started_at: float
    ended_at: float | None = None
    failed: bool = False

    def take(self, event: Event) -> None:
        if not event.status.endswith("_IN_PROGRESS"):
            self.ended_at = event.at
        elif self.ended_at is not None:  # taken up once more, such as by a rollback
            self.started_at, self.ended_at = event.at, None
        self.status = event.status
        self.failed = self.failed or event.failed
        # What went wrong stays in sight while the resource is being rolled back.
        undone = self.status.startswith(("DELETE_", "ROLLBACK_"))
        self.reason = event.reason or (self.reason if undone else "")

    @property
    def colour(self) -> str:
        if self.failed or "ROLLBACK" in self.status:
            return "red"
        return "yellow" if self.ended_at is None else "green"


class Progress:
    """The Reporter of a command. `yes`: nobody is asked."""

    def __init__(self, *, yes: bool) -> None:
        self._yes = yes
        self._started_at = time.monotonic()
        self._rows: dict[str, _Row] = {}
        self._live: Live | None = None
        self._shows_live = False

    def step(self, text: str) -> None:
        self._stop()
        notes.print(
            f"[dim]{time.monotonic() - self._started_at:6.1f} s[/]  {escape(text)}", soft_wrap=True, highlight=False
        )

    def note(self, text: str) -> None:
        notes.print(f"[yellow]note:[/] {escape(text)}", soft_wrap=True)

    def changes(self, change_set: ChangeSet) -> None:
        if not change_set.changes:
            self.step("no resource changes, only outputs or tags")
            return
        rows = table("change", "resource", "type", "what")
        for change in change_set.changes:
            what = {"True": "replaced", "Conditional": "perhaps replaced"}.get(change.replacement or "", "")
            what = ", ".join(filter(None, (what, " ".join(change.scope))))
            colour = "red" if what.startswith("replaced") else _COLOURS.get(change.action, "")
            rows.add_row(
                f"[{colour}]{change.action}[/]" if colour else change.action, change.logical_id, change.type, what
            )
        notes.print(rows)

    def event(self, event: Event) -> None:
        if self._shows_live:
            row = self._rows.get(event.logical_id)
            if row is None:
                row = self._rows[event.logical_id] = _Row(event.type, event.status, event.reason, event.at)
            row.take(event)
            self._start()
            return
        colour = "red" if event.failed else "green" if event.status.endswith("_COMPLETE") else "dim"
        line = Text.from_markup(f"[dim]{time.monotonic() - self._started_at:6.1f} s[/]  ")
        line.append(f"{event.status:<24}", style=colour)
        line.append(f" {event.logical_id} ({event.type})" + (f"  {event.reason}" if event.reason else ""))
        notes.print(line, soft_wrap=True)

    def _view(self) -> Table:
        now = time.time()
        rows = table("resource", "type", "status", ">time", "reason")
        rows.columns[0].no_wrap = rows.columns[2].no_wrap = True
        rows.columns[1].overflow = "ellipsis"  # on narrow terminals the type gives way
        for name, row in self._rows.items():
            elapsed_s = max(0.0, (row.ended_at or now) - row.started_at)
            status = Text(row.status, style=row.colour)
            rows.add_row(
                name,
                row.type.rpartition("::")[2],
                status,
                f"{elapsed_s:.1f} s" if elapsed_s < 60 else f"{elapsed_s / 60:.0f} min",
                Text(row.reason, style=row.colour if row.failed else ""),
            )
        return rows

    def _start(self) -> None:
        if self._live is None:
            self._live = Live(console=notes, get_renderable=self._view, refresh_per_second=_REFRESH_HZ)
            self._live.start()

    def _stop(self) -> None:
        """Leave the table as it is now, and begin a new one with what comes."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._rows.clear()

    @contextmanager
    def live(self) -> Iterator[None]:
        """While it lasts, events are shown in place, if this is a terminal."""
        self._shows_live = notes.is_terminal
        try:
            yield
        finally:
            self._stop()
            self._shows_live = False

    def confirm(self, question: str) -> bool:
        if self._yes:
            return True
        if not sys.stdin.isatty():
            raise CommandError(f"{question}\nNobody is there to answer; say --yes.", Exit.REFUSED)
        self._stop()
        notes.print(f"{escape(question)} [bold]\\[y/N][/] ", end="", soft_wrap=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")
