"""How often records were used of late, and which have left lately: counters in memory that all workers share.

A slot may stand for several records and two workers may count at the same time; the policy that reads it decides
between likely and unlikely, and an error costs a hit, never an answer.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from nearpoint.edge.eviction import USES_MAX
from nearpoint.edge.store.room import take_blocks

_HEADER_BYTES = 4_096
_SLOTS_MIN = 1 << 14
_SLOTS_MAX = 1 << 24
_BYTES_A_SLOT = 1_024  # of the store: a slot for each of the smallest objects


def slots_for(capacity_bytes: int) -> int:
    """How many slots a store of this size has: a power of two."""
    slots = _SLOTS_MIN
    while slots < _SLOTS_MAX and slots * _BYTES_A_SLOT < capacity_bytes:
        slots *= 2
    return slots


class Counts:
    """The counters of one store; raises OSError. A record is known by a number made of its key."""

    def __init__(self, path: Path, capacity_bytes: int) -> None:
        self._slots = slots_for(capacity_bytes)
        self._mask = self._slots - 1
        size = _HEADER_BYTES + self._slots * 9
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size != size:
                os.ftruncate(descriptor, 0)
                os.ftruncate(descriptor, size)
            take_blocks(descriptor, 0, size)
            self._map = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        self._view = memoryview(self._map)
        self._header = self._view[:_HEADER_BYTES].cast("Q")
        self._uses = self._view[_HEADER_BYTES : _HEADER_BYTES + self._slots]
        self._ghosts = self._view[_HEADER_BYTES + self._slots :].cast("Q")

    def close(self) -> None:
        for view in (self._header, self._uses, self._ghosts, self._view):
            view.release()
        self._map.close()

    @property
    def news(self) -> int:
        """A number that grows with every note that has been written."""
        return self._header[0]

    def tell(self) -> None:
        """There is a new note."""
        self._header[0] = (self._header[0] + 1) & 0xFFFF_FFFF_FFFF_FFFF

    def touch(self, number: int) -> None:
        """One more use."""
        slot = number & self._mask
        uses = self._uses[slot]
        if uses < USES_MAX:
            self._uses[slot] = uses + 1

    def uses(self, number: int) -> int:
        """How often it was used, USES_MAX at most."""
        return self._uses[number & self._mask]

    def set_uses(self, number: int, uses: int) -> None:
        self._uses[number & self._mask] = uses

    def bury(self, number: int, left_kib: int) -> None:
        """It has left the small queue, when `left_kib` had left in all."""
        self._ghosts[number & self._mask] = (number >> 32 & 0xFFFF_FFFF) << 32 | (left_kib & 0xFFFF_FFFF)

    def resurrect(self, number: int, left_kib: int, within_kib: int) -> bool:
        """Whether it left lately: no more than `within_kib` have left since."""
        slot = number & self._mask
        ghost = self._ghosts[slot]
        if not ghost or ghost >> 32 != number >> 32 & 0xFFFF_FFFF:
            return False
        self._ghosts[slot] = 0
        return (left_kib - ghost) & 0xFFFF_FFFF <= within_kib


def number_of(key: bytes) -> int:
    """The number that stands for a record's or part's key."""
    low, high = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    return ((low ^ high * 0x9E37_79B9_7F4A_7C15) * 0xC2B2_AE3D_27D4_EB4F & 0xFFFF_FFFF_FFFF_FFFF) ^ low >> 29
