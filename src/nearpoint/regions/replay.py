"""What has been read of a request body so far, so that it can be sent again: in memory first, then in a file.

The file has no name, so nothing is left behind however the process ends, and all files of a node share one bound.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

MEMORY_BYTES_MAX = 262_144
FILE_BYTES_MAX = 64 * 1024 * 1024
SPACE_BYTES_MAX = 1024 * 1024 * 1024
_READ_BYTES = 262_144


class SpoolSpace:
    """The disk space that the kept bodies of one process may take together."""

    def __init__(
        self,
        *,
        directory: Path | None = None,
        space_bytes_max: int = SPACE_BYTES_MAX,
        file_bytes_max: int = FILE_BYTES_MAX,
        memory_bytes_max: int = MEMORY_BYTES_MAX,
    ) -> None:
        """`directory` is the system's one for temporary files by default."""
        self.directory = directory
        self.file_bytes_max = file_bytes_max
        self.memory_bytes_max = memory_bytes_max
        self.left_bytes = space_bytes_max


class Replay:
    """The pieces of one body in order. `whole` turns False, for good, when they no longer fit."""

    __slots__ = ("_file", "_file_bytes", "_memory_bytes", "_pieces", "_space", "whole")

    def __init__(self, space: SpoolSpace) -> None:
        self._space = space
        self._pieces: list[bytes] = []
        self._memory_bytes = 0
        self._file: int | None = None
        self._file_bytes = 0
        self.whole = True

    def add(self, piece: bytes) -> None:
        """Take in the next piece, or let go of everything when it does not fit."""
        if not self.whole:
            return
        if self._file is None and self._memory_bytes + len(piece) <= self._space.memory_bytes_max:
            self._pieces.append(piece)
            self._memory_bytes += len(piece)
            return
        if self._file_bytes + len(piece) > self._space.file_bytes_max or len(piece) > self._space.left_bytes:
            self.close()
            return
        try:
            if self._file is None:
                self._file = _unnamed_file(self._space.directory)
            _write(self._file, piece)
        except OSError:  # the disk is full, or there is none to write to
            self.close()
            return
        self._file_bytes += len(piece)
        self._space.left_bytes -= len(piece)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        at = 0
        while self._file is not None and at < self._file_bytes:
            piece = os.pread(self._file, min(_READ_BYTES, self._file_bytes - at), at)
            if not piece:
                raise OSError("the kept part of a body is shorter than what was written")
            at += len(piece)
            yield piece

    def close(self) -> None:
        """Let go of memory and file."""
        self.whole = False
        self._pieces.clear()
        if self._file is not None:
            os.close(self._file)
            self._file = None
            self._space.left_bytes += self._file_bytes

    def __del__(self) -> None:
        self.close()


def _unnamed_file(directory: Path | None) -> int:
    with tempfile.TemporaryFile(dir=directory, buffering=0) as file:
        return os.dup(file.fileno())


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
