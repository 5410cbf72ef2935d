"""Which rows of a log are copied next (pure): many keys at once, the rows of one key in order, failed ones later.

A window holds a bounded part of what one bucket owes to another. A batch takes the rows of a key in order; until it is
settled, no other batch has rows of that key. A row that failed goes back in front of its key's others and holds up only
those.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

ROWS_MAX = 2000
BATCH_ROWS_MAX = 64
BATCH_BYTES_MAX = 1024 * 1024  # more than that, and a batch takes its memory from everything else


@dataclass(slots=True)
class Row:
    """A row of the log. `written` in microseconds; `content` is whether to send the content with it."""

    sequence: int
    key: str
    version: str
    operation: str
    size: int
    written: int
    content: bool = True
    attempts: int = 0


@dataclass(slots=True)
class Window:
    """The rows that are held, by key."""

    held: int = 0
    after: int = 0  # the highest sequence that was ever taken in
    _keys: dict[str, deque[Row]] = field(default_factory=dict)
    _ready: deque[str] = field(default_factory=deque)
    _later: list[tuple[float, str]] = field(default_factory=list)

    @property
    def room(self) -> int:
        """How many rows may still come."""
        return max(0, ROWS_MAX - self.held)

    def add(self, rows: Iterable[Row]) -> None:
        """Take in what comes next in the log."""
        for row in rows:
            self.held += 1
            self.after = max(self.after, row.sequence)
            waiting = self._keys.get(row.key)
            if waiting is None:
                self._keys[row.key] = deque([row])
                self._ready.append(row.key)
            else:
                waiting.append(row)

    def take(self, now_s: float) -> list[Row]:
        """The next batch; empty when nothing can be done now."""
        while self._later and self._later[0][0] <= now_s:
            self._ready.append(heapq.heappop(self._later)[1])
        batch: list[Row] = []
        size = 0
        while self._ready and len(batch) < BATCH_ROWS_MAX:
            waiting = self._keys[self._ready[0]]
            if batch and size + waiting[0].size > BATCH_BYTES_MAX:
                break
            self._ready.popleft()
            while waiting and len(batch) < BATCH_ROWS_MAX and (not batch or size + waiting[0].size <= BATCH_BYTES_MAX):
                row = waiting.popleft()
                batch.append(row)
                size += row.size
        return batch

    def next_retry_s(self) -> float | None:
        """When a row that failed may be tried again; None when there is none."""
        return self._later[0][0] if self._later else None

    def settle(self, batch: Sequence[Row], again: Sequence[Row] = (), at_s: float = 0.0) -> None:
        """A batch is over: the rows in `again` (in the batch's order) are tried once more from `at_s` on, the others
        are done with."""
        self.held -= len(batch) - len(again)
        for row in reversed(again):
            self._keys[row.key].appendleft(row)
        failed = {row.key for row in again}
        for key in dict.fromkeys(row.key for row in batch):
            if key in failed:
                heapq.heappush(self._later, (at_s, key))
            elif self._keys[key]:
                self._ready.append(key)
            else:
                del self._keys[key]
