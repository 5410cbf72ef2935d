"""Content in files: written once under a number of its own, flushed with its folder, never changed.

The number is (boot << 32 | counter), so a file without a row is either of this boot and being written, or an orphan of
an earlier one that the sweep removes.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_SHARDS = 256
_BOOT_SHIFT = 32
_COPY_BYTES = 8 * 1024 * 1024


class Disk:
    """The content files of one store. Every method may block and may raise OSError."""

    def __init__(self, folder: Path, boot: int) -> None:
        self._folder = folder
        self._boot = boot
        self._numbers = itertools.count((boot << _BOOT_SHIFT) + 1)
        folder.mkdir(mode=0o700, exist_ok=True)
        self._held: dict[int, int] = {}
        self._doomed: set[int] = set()
        for shard in range(_SHARDS):
            (folder / f"{shard:02x}").mkdir(mode=0o700, exist_ok=True)
        flush_folder(folder)
        flush_folder(folder.parent)

    def number(self) -> int:
        """A number that no content has had."""
        return next(self._numbers)

    def path(self, number: int) -> Path:
        """Where content of that number lies when it lies in a file."""
        return self._folder / f"{number % _SHARDS:02x}" / f"{number:016x}"

    def create(self, number: int) -> int:
        """A descriptor to write new content to."""
        return os.open(self.path(number), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)

    def seal(self, number: int, fd: int) -> None:
        """Make what was written, and its name, last."""
        os.fsync(fd)
        flush_folder(self.path(number).parent)

    def open(self, number: int) -> int:
        """A descriptor to read from. Raises FileNotFoundError when the content has been replaced meanwhile."""
        return os.open(self.path(number), os.O_RDONLY | os.O_CLOEXEC)

    def link(self, source: int) -> int:
        """The number of a lasting copy of content, which shares its bytes where the file system can."""
        number = self.number()
        try:
            os.link(self.path(source), self.path(number))
        except OSError as error:
            if error.errno not in (errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EXDEV):
                raise
            self._copy(source, number)
        flush_folder(self.path(number).parent)
        return number

    def _copy(self, source: int, number: int) -> None:
        reading = self.open(source)
        try:
            writing = self.create(number)
            try:
                while os.copy_file_range(reading, writing, _COPY_BYTES):
                    pass
                os.fsync(writing)
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def hold(self, numbers: Iterable[int]) -> None:
        """Keep files that are about to be read, until `release`, even when their rows go. Event loop only."""
        for number in numbers:
            self._held[number] = self._held.get(number, 0) + 1

    def release(self, numbers: Iterable[int]) -> list[int]:
        """End a `hold`; the files that are to be removed now. Event loop only."""
        free: list[int] = []
        for number in numbers:
            self._held[number] -= 1
            if self._held[number] == 0:
                del self._held[number]
                if number in self._doomed:
                    self._doomed.discard(number)
                    free.append(number)
        return free

    def doom(self, numbers: Iterable[int]) -> list[int]:
        """The files without a row that can be removed now; the others go when they are released. Event loop only."""
        free: list[int] = []
        for number in numbers:
            if number in self._held:
                self._doomed.add(number)
            else:
                free.append(number)
        return free

    def remove(self, numbers: Iterable[int]) -> None:
        """Remove files that are there; what stays behind after a crash is swept at the next start."""
        for number in numbers:
            with suppress(FileNotFoundError):
                self.path(number).unlink()

    def orphans(self, is_known: Callable[[int], bool]) -> Iterator[Path]:
        """Files of earlier boots that no row knows, shard by shard."""
        for shard in range(_SHARDS):
            for path in (self._folder / f"{shard:02x}").iterdir():
                try:
                    number = int(path.name, 16)
                except ValueError:
                    continue
                if number >> _BOOT_SHIFT < self._boot and not is_known(number):
                    yield path


def flush_folder(path: Path) -> None:
    """Make the names in a folder last."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write the whole of `data`."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
