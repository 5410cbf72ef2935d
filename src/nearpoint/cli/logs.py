"""`nearpoint logs`: what the processes and the functions wrote, in the order of time, and go on writing."""

from __future__ import annotations

import heapq
import json
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

from nearpoint.cli.console import CommandError, Exit
from nearpoint.world.layout import Layout

TAIL_BYTES_MAX = 4 * 1024 * 1024
POLL_S = 0.2
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_OF_NATS = re.compile(r"\[\d+\] (\d{4})/(\d\d)/(\d\d) (\d\d:\d\d:\d\d\.\d{6})")  # UTC, as its configuration says


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a log. `at` is when it was written, `record` the object that it holds, if any."""

    log: str
    at: datetime
    text: str
    record: dict[str, Any] | None

    @property
    def readable(self) -> str:
        """A function's line with its time, as it was printed; any other as it is."""
        record = self.record or {}
        return f"{record['at']} {record['line']}" if record.keys() >= {"at", "line"} else self.text

    @property
    def as_json(self) -> str:
        """An object for scripts, with the name of its log; a line that is none becomes the `line` of one."""
        return json.dumps({"log": self.log} | ({"line": self.text} if self.record is None else self.record))


class _Log:
    """A log that grows, and how far it was read."""

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path
        self._offset = 0
        self._at = _EARLIEST

    def last(self, count: int) -> list[Line]:
        """The last lines."""
        with self._path.open("rb") as file:
            self._offset = file.seek(0, 2)
            file.seek(max(0, self._offset - TAIL_BYTES_MAX))
            content = file.read(self._offset - file.tell())
        return self._lines(content.splitlines()[-count:] if count else [])

    def more(self) -> list[Line]:
        """The lines that are whole by now and were not read yet."""
        with self._path.open("rb") as file:
            if file.seek(0, 2) < self._offset:
                self._offset = 0  # rotated
            file.seek(self._offset)
            content = file.read(TAIL_BYTES_MAX)
        whole, newline, _ = content.rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return self._lines(whole.splitlines())

    def _lines(self, raw: list[bytes]) -> list[Line]:
        """A line that does not say its time has that of the line before it, so that a traceback stays in one piece."""
        lines = []
        for each in raw:
            text = each.decode("utf-8", "replace")
            record = _object(text)
            self._at = _time(text, record or {}) or self._at
            lines.append(Line(log=self._name, at=self._at, text=text, record=record))
        return lines


def _object(text: str) -> dict[str, Any] | None:
    with suppress(ValueError):
        value = json.loads(text)
        return value if isinstance(value, dict) else None
    return None


def _time(text: str, record: dict[str, Any]) -> datetime | None:
    """A function's line says it in `at`, a process's in `timestamp`, NATS's in front."""
    said = record.get("at") or record.get("timestamp")
    if said is None and (of_nats := _OF_NATS.match(text)) is not None:
        year, month, day, clock = of_nats.groups()
        said = f"{year}-{month}-{day}T{clock}Z"
    try:
        at = datetime.fromisoformat(said or "")
    except (TypeError, ValueError):
        return None
    return at if at.tzinfo is not None else None


def _files(layout: Layout, names: list[str]) -> dict[str, Path]:
    """Log files by name: a function's as `functions/NAME`, a process's as its name. All functions without names."""
    found = {f"functions/{path.stem}": path for path in sorted(layout.function_logs.glob("*.log"))}
    if names:
        found |= {path.stem: path for path in sorted(layout.logs.glob("*.log"))}
        found |= {path.stem: path for path in sorted(layout.function_logs.glob("*.log"))}
        missing = [name for name in names if name not in found]
        if missing:
            known = ", ".join(sorted(found)) or "none yet"
            raise CommandError(f"No log named {', '.join(missing)}. There are: {known}.")
        return {name: found[name] for name in names}
    return found


def logs(*, data: Path, names: list[str], lines: int, follow: bool, as_json: bool) -> None:
    """Print the last `lines` of each named log (all functions' without a name), merged by time; with `follow` go on.

    With `as_json` an object a line, as it was kept, with the name of its log; otherwise functions' lines as printed.
    """
    layout = Layout(data)
    if not layout.logs.is_dir():
        raise CommandError(f"No world has been on {layout.data}. `nearpoint up` starts one.", Exit.UNREACHABLE)
    opened = {name: _Log(name, path) for name, path in _files(layout, names).items()}
    if not opened and not follow:
        known = ", ".join(sorted(path.stem for path in layout.logs.glob("*.log")))
        raise CommandError(f"No function has run yet. Processes have logs too, by name: {known or 'none yet'}.")
    _show((log.last(lines) for log in opened.values()), several=len(opened) != 1, as_json=as_json)
    while follow:
        time.sleep(POLL_S)
        for name, path in _files(layout, names).items():
            opened.setdefault(name, _Log(name, path))
        _show((log.more() for log in opened.values()), several=len(opened) != 1, as_json=as_json)


def _show(found: Iterable[list[Line]], *, several: bool, as_json: bool) -> None:
    for line in heapq.merge(*found, key=attrgetter("at")):
        text = line.as_json if as_json else f"{line.log}: {line.readable}" if several else line.readable
        sys.stdout.write(text + "\n")
    sys.stdout.flush()
