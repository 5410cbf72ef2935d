"""How long writes take to arrive elsewhere, as percentiles (pure): counted in buckets of equal ratio."""

from __future__ import annotations

import math

_RATIO = 1.1  # a percentile is off by 5 % at most
_LOG_RATIO = math.log(_RATIO)
_BUCKETS = 256  # from 0.1 ms to some weeks
_FIRST_MS = 0.1


class Lags:
    """The lags of one pair of buckets. Old ones count half as much each time `fade` is called."""

    __slots__ = ("_counts", "count", "max_ms")

    def __init__(self) -> None:
        self._counts = [0.0] * _BUCKETS
        self.count = 0
        self.max_ms = 0.0

    def add(self, lag_ms: float) -> None:
        """Take down one."""
        at = 0 if lag_ms <= _FIRST_MS else min(_BUCKETS - 1, 1 + int(math.log(lag_ms / _FIRST_MS) / _LOG_RATIO))
        self._counts[at] += 1
        self.count += 1
        self.max_ms = max(self.max_ms, lag_ms)

    def fade(self) -> None:
        """Let what was count half."""
        self._counts = [each / 2 if each > 0.01 else 0.0 for each in self._counts]

    def percentile_ms(self, percent: float) -> float | None:
        """The lag that so many percent did not exceed; None before the first."""
        total = sum(self._counts)
        if total == 0:
            return None
        seen = 0.0
        for at, each in enumerate(self._counts):
            seen += each
            if seen >= total * percent / 100:
                return min(self.max_ms, _FIRST_MS * _RATIO**at)
        return self.max_ms
