"""Bytes in a file of their own: on disk, or in memory alone. The kernel sends them without copying them here first.

The file lives as long as the Blob does, even after it has been unlinked, so nobody who still sends it can be given
other bytes. Its bytes never change.
"""

from __future__ import annotations

import os
import resource
from functools import cache
from pathlib import Path
from typing import ClassVar, Self

from nearpoint.wire.filebody import FileBody

# Below this size copying is cheaper than another system call (measured: they are equal at about 48 KB).
BLOB_BYTES_MIN = 32_769
SPARE_DESCRIPTORS = 4_096  # left for connections


@cache
def descriptors_max() -> int:
    """How many blobs this process may have open; raises the soft limit as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1_048_576
    if soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
        except (OSError, ValueError):
            pass
    return max(soft - SPARE_DESCRIPTORS, soft // 2)


class Blob:
    """An open file of `size` bytes. len() is its size; `fileno` is for wire's FileBody.

    `body_id` says which body in the disk tier it is (a part of), 0: none; `checksum` is the store's.
    """

    __slots__ = ("_descriptor", "body_id", "checksum", "size")

    count: ClassVar[int] = 0  # how many this process has

    def __init__(self, descriptor: int, size: int, *, body_id: int = 0, checksum: int = 0) -> None:
        self._descriptor = descriptor
        self.size = size
        self.body_id = body_id
        self.checksum = checksum
        Blob.count += 1

    @classmethod
    def held(cls, data: bytes) -> Self | bytes:
        """How a body of this size is best kept in memory: as a blob, or as it is."""
        return data if len(data) < BLOB_BYTES_MIN else cls.in_memory(data) or data

    @classmethod
    def in_memory(cls, data: bytes) -> Self | None:
        """A blob of the machine's memory; None where there are too many already."""
        if cls.too_many():
            return None
        try:
            made = cls(os.memfd_create("nearpoint-body"), len(data))
            made.write(data)
        except OSError:
            return None
        return made

    @classmethod
    def open(cls, path: Path, size: int, *, body_id: int = 0, checksum: int = 0) -> Self | None:
        """A file on disk that has this size; None when it is not there or is another."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        made = cls(descriptor, size, body_id=body_id, checksum=checksum)
        return made if os.fstat(descriptor).st_size == size else None

    @classmethod
    def too_many(cls) -> bool:
        """No more should be opened."""
        return cls.count >= descriptors_max()

    def write(self, data: bytes) -> None:
        """Put its bytes in, once, when it has been made. Raises OSError."""
        view = memoryview(data)
        at = 0
        while view:
            written = os.pwrite(self._descriptor, view, at)
            view = view[written:]
            at += written

    def fileno(self) -> int:
        return self._descriptor

    def __len__(self) -> int:
        return self.size

    def read(self) -> bytes:
        """All of it. Raises OSError."""
        return FileBody(self, 0, self.size).whole()

    def body(self, first: int, length: int) -> FileBody:
        """`length` bytes of it from `first` on."""
        return FileBody(self, first, length)

    def __del__(self) -> None:
        Blob.count -= 1
        os.close(self._descriptor)
