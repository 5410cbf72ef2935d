"""Which entries of a log there are: a bit for each sequence, so that a million of them take little memory (pure)."""

from __future__ import annotations

_BLOCK_BITS = 1024


class Sequences:
    """A set of sequences that knows how many it has. Blocks without any take no memory."""

    __slots__ = ("_blocks", "_count")

    def __init__(self) -> None:
        self._blocks: dict[int, int] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, sequence: int) -> bool:
        """Whether it was not there."""
        block, at = divmod(sequence, _BLOCK_BITS)
        bits = self._blocks.get(block, 0)
        if bits >> at & 1:
            return False
        self._blocks[block] = bits | 1 << at
        self._count += 1
        return True

    def discard(self, sequence: int) -> bool:
        """Whether it was there."""
        block, at = divmod(sequence, _BLOCK_BITS)
        bits = self._blocks.get(block, 0)
        if not bits >> at & 1:
            return False
        bits ^= 1 << at
        if bits:
            self._blocks[block] = bits
        else:
            del self._blocks[block]
        self._count -= 1
        return True
