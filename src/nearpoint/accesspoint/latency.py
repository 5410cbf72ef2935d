"""How far every region is, measured, and the order that follows from it.

The median of a short window follows a real change and ignores single late answers; the order has hysteresis, so
regions at the same distance don't take turns.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

# About five seconds of probes: a region that moved is noticed after half of it.
WINDOW_SAMPLES = 21
# A region takes another's place when it is nearer by more than both.
MARGIN_RATIO = 0.03
MARGIN_MS = 0.5


class LatencyWindow:
    """The last measured round trips to one region, in milliseconds."""

    __slots__ = ("_samples_ms", "rtt_ms_p50")

    def __init__(self) -> None:
        self._samples_ms: deque[float] = deque(maxlen=WINDOW_SAMPLES)
        self.rtt_ms_p50: float | None = None

    def add(self, rtt_ms: float) -> None:
        """Take in one measurement."""
        self._samples_ms.append(rtt_ms)
        self.rtt_ms_p50 = median(self._samples_ms)

    @property
    def samples(self) -> int:
        """How many measurements the median rests on."""
        return len(self._samples_ms)


def order_by_latency(
    regions: Iterable[str], rtt_ms: Mapping[str, float | None], previous: Sequence[str]
) -> tuple[str, ...]:
    """The regions, nearest first; those without a measurement last, by name.

    Where regions are within the margin of the nearest of them, the one that came first in `previous` stays first.
    """
    known = {region: value for region in regions if (value := rtt_ms.get(region)) is not None}
    unknown = sorted(region for region in regions if region not in known)
    rank = {region: at for at, region in enumerate(previous)}
    ordered: list[str] = []
    while known:
        nearest_ms = min(known.values())
        limit_ms = nearest_ms + max(MARGIN_MS, MARGIN_RATIO * nearest_ms)
        tied = [region for region, value in known.items() if value <= limit_ms]
        first = min(tied, key=lambda region: (rank.get(region, len(rank)), known[region], region))
        ordered.append(first)
        del known[first]
    return (*ordered, *unknown)
