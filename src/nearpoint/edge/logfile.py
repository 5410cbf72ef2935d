"""An access log in one file that several processes write, rotated and compressed by whichever of them notices first.

`access.log` becomes `access.log.20261123-081500` when it is large or old enough; once everybody has let go of it, it is
compressed to `….gz`. Of those the latest are kept. Something that is not a regular file (a pipe, /dev/null) is only
written to; a file that somebody else has moved away is begun anew, so logrotate may do it as well.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import os
import re
import shutil
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog

from nearpoint.edge.logline import HEAD

log = structlog.get_logger("nearpoint.edge")

LOOK_S = 0.5  # how often each process looks whether the file is still the one it writes to
LET_GO_S = 5.0  # by then every process has written what it had for the old file


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """When a file is put away, and how many of those are kept. 0: never for its size or age, and all of them."""

    bytes_max: int = 268_435_456
    age_s_max: float = 86_400
    kept_max: int = 30


class LogFile:
    """One process's hold on the log. Raises OSError where the path cannot be written."""

    def __init__(self, path: Path, rotation: Rotation | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._rotation = rotation or Rotation()
        self._clock = clock
        self._look_at = 0.0
        self._compressor: threading.Thread | None = None
        self._descriptor = -1
        self._begun_at: float | None = None
        self._open()
        self._regular = stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def write(self, distribution_id: str, now: float, lines: bytes) -> None:
        """Append whole lines. Raises OSError."""
        if self._regular:
            self._look()
        view = memoryview(lines)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def close(self) -> None:
        """Let go of the file, and wait for what is being compressed."""
        os.close(self._descriptor)
        if self._compressor is not None:
            self._compressor.join()

    def _open(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._begun_at = None
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            with _locked(self._path, wait=True):  # only one of those who have come writes the head
                if os.fstat(descriptor).st_size == 0:
                    os.write(descriptor, HEAD)
        else:
            os.write(descriptor, HEAD)

    def _look(self) -> None:
        now = self._clock()
        if 0 <= self._look_at - now <= LOOK_S:
            return
        self._look_at = now + LOOK_S
        mine = os.fstat(self._descriptor)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            self._open()
            return
        if (there.st_dev, there.st_ino) != (mine.st_dev, mine.st_ino):
            self._open()
        elif self._is_due(mine, now):
            try:
                self._rotate(mine, now)
            except OSError as error:
                log.warning("an access log cannot be put away", file=str(self._path), error=str(error))
                self._rotation = Rotation(bytes_max=0, age_s_max=0)
                self._open()
        self._compress(now)

    def _is_due(self, found: os.stat_result, now: float) -> bool:
        rotation = self._rotation
        if found.st_size <= len(HEAD):
            return False
        if rotation.bytes_max and found.st_size >= rotation.bytes_max:
            return True
        if self._begun_at is None:
            self._begun_at = _begun_at(self._path)
        return bool(rotation.age_s_max and self._begun_at) and now - (self._begun_at or now) >= rotation.age_s_max

    def _rotate(self, mine: os.stat_result, now: float) -> None:
        with _locked(self._path, wait=False) as locked:
            if not locked:
                return  # another process is at it
            with contextlib.suppress(FileNotFoundError):
                there = self._path.stat()
                if there.st_ino == mine.st_ino:
                    self._path.rename(_free_name(self._path, now))
        self._open()

    def _compress(self, now: float) -> None:
        """Compress, in a thread, what has been put away and nobody writes to any more."""
        if self._compressor is not None and self._compressor.is_alive():
            return
        if any(now - each.stat().st_mtime > LET_GO_S for each in _put_away(self._path)):
            self._compressor = threading.Thread(target=self._compress_all, args=(now,), name="log-compressor")
            self._compressor.start()

    def _compress_all(self, now: float) -> None:
        with _locked(self._path, wait=False, name="compress") as locked:
            if not locked:
                return
            try:
                for each in _put_away(self._path):
                    if now - each.stat().st_mtime > LET_GO_S:
                        compress(each)
                if self._rotation.kept_max:
                    for old in _put_away(self._path, compressed=True)[: -self._rotation.kept_max]:
                        old.unlink()
            except OSError as error:
                log.warning("an access log could not be compressed", error=str(error))


def compress(path: Path) -> Path:
    """Compress a file; it is gone when its compressed copy is complete. Raises OSError."""
    made, part = path.with_name(path.name + ".gz"), path.with_name(path.name + ".gz.part")
    with path.open("rb") as source, gzip.open(part, "wb", compresslevel=6) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    part.replace(made)
    path.unlink()
    return made


def _begun_at(path: Path) -> float | None:
    """When the first line of a log was written; None: there is none yet."""
    with path.open("rb") as file:
        file.seek(len(HEAD))
        moment = file.read(19).decode("latin-1").replace("\t", " ")
    try:
        return datetime.strptime(moment, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


@contextlib.contextmanager
def _locked(path: Path, *, wait: bool, name: str = "lock") -> Iterator[bool]:
    """Whether this process has the lock beside the file."""
    try:
        descriptor = os.open(path.with_name(f".{path.name}.{name}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError:  # the file may be written, its folder may not: then nobody puts it away
        yield wait
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        yield False
    else:
        yield True
    finally:
        os.close(descriptor)


def _free_name(path: Path, now: float) -> Path:
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%d-%H%M%S")
    name = path.with_name(f"{path.name}.{stamp}")
    number = 1
    while name.exists() or name.with_name(name.name + ".gz").exists():
        name = path.with_name(f"{path.name}.{stamp}-{number}")
        number += 1
    return name


def _put_away(path: Path, *, compressed: bool = False) -> list[Path]:
    pattern = re.compile(re.escape(path.name) + r"\.\d{8}-\d{6}(-\d+)?" + (r"\.gz" if compressed else ""))
    return sorted(each for each in path.parent.iterdir() if pattern.fullmatch(each.name))
