"""Log lines on their way to a bucket: files in a folder, one distribution and hour each, until they are delivered.

A file is written to until it is large, old or quiet, and then it is for whoever delivers. What is there when a process
starts is what an earlier one has not delivered. The folder is bounded: what cannot be delivered pushes out the oldest.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import structlog

from nearpoint.edge.log_target import LogTarget
from nearpoint.edge.logline import HEAD

log = structlog.get_logger("nearpoint.edge")

FILE_BYTES_MAX = 8_388_608
FILE_S_MAX = 60.0
QUIET_S = 5.0
SPOOL_BYTES_MAX = 268_435_456
_TARGET = "target.json"


@dataclass(slots=True, kw_only=True)
class _Open:
    path: Path
    descriptor: int
    size: int
    begun_at: float
    last_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A file to deliver: its lines' target, and the name that it has there."""

    path: Path
    target: LogTarget

    @property
    def key(self) -> str:
        """`PREFIX/DISTID.YYYY-MM-DD-HH.UNIQUE.gz` (Developer Guide, "Standard logging (legacy)")."""
        return f"{self.target.prefix}{self.path.name}.gz"


class LogSpool:
    """The spool of one process (`LogSink`). `random_hex` gives names that no other file has."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Callable[[], float],
        random_hex: Callable[[], str],
        bytes_max: int = SPOOL_BYTES_MAX,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._random_hex = random_hex
        self._bytes_max = bytes_max
        self._targets: dict[str, LogTarget] = {}
        self._open: dict[tuple[str, str], _Open] = {}
        self._finished: dict[Path, int] = {}  # with their size, oldest first
        self.dropped = 0  # files that had to go undelivered
        folder.mkdir(parents=True, exist_ok=True)
        left = [each for each in folder.glob("*/*.*.*") if each.is_file()]
        for each in sorted(left, key=lambda path: path.stat().st_mtime):
            self._finished[each] = each.stat().st_size

    def serve(self, targets: Mapping[str, LogTarget]) -> None:
        """From now on the logs of these distributions go there."""
        for (id, hour), each in list(self._open.items()):
            if targets.get(id) != self._targets.get(id):
                self._finish((id, hour), each)
        self._targets = dict(targets)

    def write(self, distribution_id: str, now: float, lines: bytes) -> None:
        """Keep whole lines of a distribution. Raises OSError when they cannot be kept."""
        target = self._targets.get(distribution_id)
        if target is None:
            return
        hour = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d-%H")
        key = (distribution_id, hour)
        file = self._open.get(key)
        if file is None:
            file = self._open[key] = self._begin(target, f"{distribution_id}.{hour}")
        view = memoryview(lines)
        while view:
            view = view[os.write(file.descriptor, view) :]
        file.size += len(lines)
        file.last_at = self._clock()
        if file.size >= FILE_BYTES_MAX:
            self._finish(key, file)

    def _begin(self, target: LogTarget, name: str) -> _Open:
        folder = self._folder / sha256(f"{target.bucket}\n{target.prefix}".encode()).hexdigest()[:16]
        if not folder.exists():
            folder.mkdir()
            said = {"bucket": target.bucket, "prefix": target.prefix}
            (folder / _TARGET).write_text(json.dumps(said))
        path = folder / f"{name}.{self._random_hex()}"
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.write(descriptor, HEAD)
        now = self._clock()
        return _Open(path=path, descriptor=descriptor, size=len(HEAD), begun_at=now, last_at=now)

    def _finish(self, key: tuple[str, str], file: _Open) -> None:
        del self._open[key]
        os.close(file.descriptor)
        self._finished[file.path] = file.size
        while sum(self._finished.values()) > self._bytes_max:
            oldest = next(iter(self._finished))
            self.dropped += 1
            log.warning("an access log is given up: too much could not be delivered", file=oldest.name)
            self.done(oldest)

    def due(self, *, everything: bool = False) -> list[Finished]:
        """What is to be delivered now, oldest first."""
        now = self._clock()
        for key, file in list(self._open.items()):
            if everything or now - file.begun_at >= FILE_S_MAX or now - file.last_at >= QUIET_S:
                self._finish(key, file)
        found = []
        for path in list(self._finished):
            target = _target_of(path.parent)
            if target is None:
                self.done(path)
            else:
                found.append(Finished(path=path, target=target))
        return found

    def done(self, path: Path) -> None:
        """A file has been delivered, or is given up."""
        self._finished.pop(path, None)
        with contextlib.suppress(OSError):
            path.unlink()

    def close(self) -> None:
        """Close what is open; it stays for `due`."""
        for key, file in list(self._open.items()):
            self._finish(key, file)


def _target_of(folder: Path) -> LogTarget | None:
    try:
        said = json.loads((folder / _TARGET).read_bytes())
        return LogTarget(bucket=said["bucket"], prefix=said["prefix"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
