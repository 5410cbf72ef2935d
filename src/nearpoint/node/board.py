"""A notice board in memory that forked workers share: each says what keeps it from being ready, any may read all.

One of them may put up a notice for all others: what it has found out about the stores.
"""

from __future__ import annotations

import mmap
import time
import zlib
from collections.abc import Callable

import orjson

SLOT_BYTES = 4096
SILENT_S = 3.0
NOTICE_BYTES_MAX = 1_048_576
_HEAD_BYTES = 12  # number, length, checksum: four bytes each


class Board:
    """Made before the workers are forked. `clock_s` has to be the same clock in all of them."""

    def __init__(self, workers: int, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        # Shared with children, gone with the last of them. Pages that nobody writes take no memory.
        self._memory = mmap.mmap(-1, workers * SLOT_BYTES + _HEAD_BYTES + NOTICE_BYTES_MAX)
        self._notice_at = workers * SLOT_BYTES
        self._workers = workers
        self._clock_s = clock_s

    def write(self, worker: int, blocks: list[str]) -> None:
        """What keeps this worker from being ready, nothing if it is. Has to be repeated within SILENT_S."""
        while len(text := orjson.dumps([self._clock_s(), blocks])) > SLOT_BYTES - 2:
            blocks = [*blocks[: len(blocks) // 2], "and more"] if len(blocks) > 2 else ["more than fits here"]
        at = worker * SLOT_BYTES
        self._memory[at : at + 2 + len(text)] = len(text).to_bytes(2, "big") + text

    def read(self) -> list[str]:
        """What keeps any of the workers from being ready."""
        found: list[str] = []
        now_s = self._clock_s()
        for worker in range(self._workers):
            at = worker * SLOT_BYTES
            size = int.from_bytes(self._memory[at : at + 2], "big")
            if not size:
                found.append(f"worker {worker + 1} has not started")
                continue
            try:
                at_s, blocks = orjson.loads(self._memory[at + 2 : at + 2 + size])
            except orjson.JSONDecodeError:
                continue  # being written: there is a good one in a moment
            if now_s - at_s > SILENT_S:
                found.append(f"worker {worker + 1} is silent")
            found.extend(str(block) for block in blocks)
        return list(dict.fromkeys(found))

    def put_up(self, notice: bytes) -> None:
        """Put up the notice in place of the one before. Only one worker may. Raises ValueError beyond its size."""
        if len(notice) > NOTICE_BYTES_MAX:
            raise ValueError(f"a notice of {len(notice)} bytes does not fit")
        at = self._notice_at
        number = int.from_bytes(self._memory[at : at + 4], "big") + 1
        numbers = (number & 0xFFFFFFFF, len(notice), zlib.crc32(notice))
        self._memory[at + _HEAD_BYTES : at + _HEAD_BYTES + len(notice)] = notice
        self._memory[at : at + _HEAD_BYTES] = b"".join(each.to_bytes(4, "big") for each in numbers)

    def notice(self, seen: int) -> tuple[int, bytes] | None:
        """The number and text of the notice; None when it is the one seen last, or just being written."""
        at = self._notice_at
        head = self._memory[at : at + _HEAD_BYTES]
        number, size, checksum = (int.from_bytes(head[at : at + 4], "big") for at in (0, 4, 8))
        if number == seen or size > NOTICE_BYTES_MAX:
            return None
        text = self._memory[at + _HEAD_BYTES : at + _HEAD_BYTES + size]
        return (number, text) if zlib.crc32(text) == checksum else None
