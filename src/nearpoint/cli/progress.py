"""Shows how a deployment goes: on a terminal a table of the resources under way, otherwise a line for each event."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.table import Table

from nearpoint.aws.stacks import ChangeSet, Event
from nearpoint.cli.console import CommandError, Exit, notes, table

_COLOURS = {"Add": "green", "Modify": "yellow", "Remove": "red"}


class Progress:
    """The Reporter of a command. `yes`: nobody is asked."""

    def __init__(self, *, yes: bool) -> None:
        self._yes = yes
        self._started_at = time.monotonic()
        self._resources: dict[str, Event] = {}
        self._live: Live | None = None

    def step(self, text: str) -> None:
        notes.print(f"[dim]{time.monotonic() - self._started_at:6.1f} s[/]  {text}", soft_wrap=True, highlight=False)

    def note(self, text: str) -> None:
        notes.print(f"[yellow]note:[/] {text}", soft_wrap=True)

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
        if self._live is not None and not event.failed:
            self._resources[event.logical_id] = event
            self._live.update(self._view())
            return
        colour = "red" if event.failed else "green" if event.status.endswith("_COMPLETE") else "dim"
        reason = f"  {event.reason}" if event.reason else ""
        self.step(f"[{colour}]{event.status:<24}[/] {event.logical_id} ({event.type}){reason}")

    def _view(self) -> Table:
        rows = table("resource", "type", "status")
        for event in self._resources.values():
            colour = "green" if event.status.endswith("_COMPLETE") else "yellow"
            rows.add_row(event.logical_id, event.type, f"[{colour}]{event.status}[/]")
        return rows

    @contextmanager
    def live(self) -> Iterator[None]:
        """While it lasts, events are shown in place, if this is a terminal."""
        if not notes.is_terminal:
            yield
            return
        with Live(console=notes, refresh_per_second=8) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def confirm(self, question: str) -> bool:
        if self._yes:
            return True
        if not sys.stdin.isatty():
            raise CommandError(f"{question}\nNobody is there to answer; say --yes.", Exit.REFUSED)
        live, self._live = self._live, None
        if live is not None:
            live.stop()
        notes.print(f"{question} [bold]\\[y/N][/] ", end="", soft_wrap=True)
        answer = sys.stdin.readline().strip().lower() in ("y", "yes")
        if live is not None:
            live.start()
            self._live = live
        return answer
