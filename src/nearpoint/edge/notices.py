"""What is said in the log now and then, however often it happens: an outage must not drown it."""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Notices:
    """Says when a thing is due again. Keys are of a few; `clock` gives Unix seconds."""

    def __init__(self, every_s: float, clock: Callable[[], float]) -> None:
        self._every_s = every_s
        self._clock = clock
        self._said: dict[Hashable, tuple[float, int]] = {}  # when, and how often it happened since

    def due(self, key: Hashable) -> int | None:
        """How often it happened unsaid, this time not counted; None: it was said a moment ago."""
        now = self._clock()
        said_at, count = self._said.get(key, (now - self._every_s, 0))
        if 0 <= now - said_at < self._every_s:
            self._said[key] = (said_at, count + 1)
            return None
        self._said[key] = (now, 0)
        return count
