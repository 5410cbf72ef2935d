"""Has blocks of the disk ready for files that are written through memory.

A write to a mapped page for which a full disk has no block ends the process (SIGBUS). So the blocks are taken before
anything is written to them, and whoever can't have them is told.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

STEP_BYTES = 1 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def take_blocks(descriptor: int, at: int, size: int) -> None:
    """Have blocks for `size` bytes of a file from `at` on; what is written there stays. Raises OSError.

    A file system that can't do so is believed to have room: posix_fallocate would write to the file in its stead, at
    the same time as others do.
    """
    while _libc.fallocate(descriptor, 0, at, size):
        number = ctypes.get_errno()
        if number in (errno.EOPNOTSUPP, errno.ENOSYS):
            return
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


class Room:
    """The blocks of one file, from its beginning on; never more than `bytes_max`."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self._bytes_max = bytes_max
        self._ready_bytes = 0

    def have(self, size: int) -> None:
        """Have blocks for the first `size` bytes. Raises OSError where the disk is full."""
        if size > self._ready_bytes:
            wanted = min(-(-size // STEP_BYTES) * STEP_BYTES, self._bytes_max)
            if wanted > self._ready_bytes:
                take_blocks(self._descriptor, self._ready_bytes, wanted - self._ready_bytes)
                self._ready_bytes = wanted

    def close(self) -> None:
        os.close(self._descriptor)
