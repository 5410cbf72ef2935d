"""Writes that the processes of one machine tell each other of, before the client is told: rings in shared files.

Each process writes into a ring of its own and reads those of the others, so nobody waits for anybody. A ring holds the
last few thousand writes; what is older has come by the regions' logs long since.
"""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from nearpoint.replication.pending import Note

SLOTS = 4096
_ENTRY = struct.Struct("<QQQQQI")  # region, source, destination, key, sequence, CRC-32 of all that
_SLOT_BYTES = 48
_SIZE = _SLOT_BYTES * (1 + SLOTS)


class Ring:
    """A file of writes. One process writes it, any may read it."""

    def __init__(self, path: Path) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, _SIZE)
            self._memory = mmap.mmap(fd, _SIZE)
        finally:
            os.close(fd)
        self.count = memoryview(self._memory)[:8].cast("Q")  # one number: how many were ever written

    def write(self, region: int, note: Note) -> None:
        """Add one."""
        at = self.count[0]
        data = struct.pack("<QQQQQ", region, *note)
        offset = _SLOT_BYTES * (1 + at % SLOTS)
        self._memory[offset : offset + _ENTRY.size] = data + zlib.crc32(data).to_bytes(4, "little")
        self.count[0] = at + 1

    def read(self, at: int) -> tuple[int, Note] | None:
        """The one with that number: region and note. None when it has been overwritten, or is being."""
        offset = _SLOT_BYTES * (1 + at % SLOTS)
        data = self._memory[offset : offset + _ENTRY.size]
        *fields, crc = _ENTRY.unpack(data)
        if zlib.crc32(data[:-4]) != crc or self.count[0] - at > SLOTS:
            return None
        return fields[0], Note._make(fields[1:])


class WriteNotes:
    """This process's ring and those of the others in the same folder, which may start later."""

    def __init__(self, folder: Path, name: str, others: Sequence[str], heard: Callable[[int, Note], None]) -> None:
        """`heard` gets what another process wrote: the region's number and the note. Raises OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._own = Ring(folder / f"{name}.ring")
        self._others = [Ring(folder / f"{other}.ring") for other in others]
        self._read = [ring.count[0] for ring in self._others]
        self._heard = heard

    def tell(self, region: int, note: Note) -> None:
        """Tell the others of a write."""
        self._own.write(region, note)

    def listen(self) -> None:
        """Take in what the others have told since the last time."""
        for number, ring in enumerate(self._others):
            if ring.count[0] == self._read[number]:
                continue
            written = ring.count[0]
            for at in range(max(self._read[number], written - SLOTS), written):
                entry = ring.read(at)
                if entry is not None:
                    self._heard(*entry)
            self._read[number] = written
