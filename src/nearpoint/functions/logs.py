"""Where a function's output goes: cut into lines, bounded, and kept in one rotated file a function.

`DATA/logs/functions/NAME.log` holds one JSON object a line: `at` (UTC, ISO 8601), `request_id`, `version`, `line`.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import orjson

from nearpoint.state.resources import Function

# Called with the function, the request id (or `init`) and a line without its end. Must neither block nor raise.
LogSink = Callable[[Function, str, str], None]

LINE_BYTES_MAX = 8 * 1024
CALL_BYTES_MAX = 256 * 1024


class LineCutter:
    """Cuts the bytes of one call's output into lines; pure. A long line is cut, too many bytes are dropped.

    `feed` and `finish` return the complete lines.
    """

    def __init__(self, line_bytes_max: int = LINE_BYTES_MAX, call_bytes_max: int = CALL_BYTES_MAX) -> None:
        self._line_bytes_max = line_bytes_max
        self._left = call_bytes_max
        self._pending = b""
        self._dropped = 0

    def feed(self, data: bytes) -> list[str]:
        """The lines that are complete by now, one too long in pieces; nothing beyond the bound of the call."""
        taken = data[: self._left]
        self._left -= len(taken)
        self._dropped += len(data) - len(taken)
        *whole, self._pending = (self._pending + taken).split(b"\n")
        lines = [line for part in whole for line in self._bounded(part)]
        while len(self._pending) > self._line_bytes_max:
            lines.append(_text(self._pending[: self._line_bytes_max]))
            self._pending = self._pending[self._line_bytes_max :]
        return lines

    def finish(self) -> list[str]:
        """The rest, and a last word about what was dropped."""
        lines = [_text(self._pending)] if self._pending else []
        self._pending = b""
        if self._dropped:
            lines.append(f"... {self._dropped} bytes of output dropped")
        return lines

    def _bounded(self, line: bytes) -> list[str]:
        step = self._line_bytes_max
        return [_text(line[at : at + step]) for at in range(0, max(len(line), 1), step)]


def _text(line: bytes) -> str:
    return line.decode("utf-8", "replace").rstrip("\r")


class FileLog:
    """A LogSink that appends to `folder/NAME.log`; several processes may write to the same folder.

    Lines are gathered for `delay_s` and written together. A file that has grown past `file_bytes_max` becomes
    `NAME.log.1`, and so on up to `files_kept`. What the disk refuses is dropped: a function never waits for its log.
    """

    def __init__(
        self, folder: Path, *, file_bytes_max: int = 10 * 1024 * 1024, files_kept: int = 3, delay_s: float = 0.05
    ) -> None:
        self._folder = folder
        self._file_bytes_max = file_bytes_max
        self._files_kept = files_kept
        self._delay_s = delay_s
        self._pending: dict[str, list[bytes]] = {}
        self._timer: asyncio.TimerHandle | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, function: Function, request_id: str, line: str) -> None:
        at = datetime.now(UTC)
        record = {"at": at, "request_id": request_id, "version": function.version, "line": line}
        encoded = orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)
        self._pending.setdefault(function.name, []).append(encoded)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._delay_s, self.flush)

    def flush(self) -> None:
        """Write what is gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        pending, self._pending = self._pending, {}
        for name, records in pending.items():
            with contextlib.suppress(OSError):
                self._append(self.path(name), b"".join(records))

    def path(self, name: str) -> Path:
        """The file of the function of that name."""
        return self._folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)[:140]}.log"

    def _append(self, path: Path, data: bytes) -> None:
        while True:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                if not _is_at(fd, path):
                    continue  # rotated between open and lock
                if os.fstat(fd).st_size + len(data) > self._file_bytes_max and os.fstat(fd).st_size > 0:
                    self._rotate(path)
                    continue
                os.write(fd, data)
                return
            finally:
                os.close(fd)

    def _rotate(self, path: Path) -> None:
        for number in range(self._files_kept - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number + 1}"))
        path.replace(path.with_name(f"{path.name}.1"))


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False
