"""A notice board in memory that forked workers share: each says what keeps it from being ready, any may read all."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable

import orjson

SLOT_BYTES = 4096
SILENT_S = 3.0


class Board:
    """Made before the workers are forked. `clock_s` has to be the same clock in all of them."""

    def __init__(self, workers: int, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._memory = mmap.mmap(-1, workers * SLOT_BYTES)  # shared with children, gone with the last of them
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
