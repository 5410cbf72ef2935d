"""When buckets are compared without being asked to (pure): now and then, after an outage, and when the log was damaged.

`next_at` is jittered, so that worlds that were started together do not compare together. A region that was away is
looked at once the logs have caught up, or after a while if they do not.
"""

from __future__ import annotations

from dataclasses import dataclass, field

EVERY_S = 86_400.0
EVERY_MIN_S = 60.0
EVERY_MAX_S = 14 * 86_400.0  # half of how long a store remembers what it removed for good, unless it is offered again
JITTER = 0.2
OUTAGE_S = 60.0  # shorter ones the log bridges: nobody writes behind its back in between
CATCH_UP_MAX_S = 600.0
RETRY_S = 300.0  # after a sweep that came to nothing


def next_at(last_at: float, every_s: float, draw: float) -> float:
    """When to compare next, a fifth earlier or later than a turn after the last one. `draw` is from [0, 1)."""
    return last_at + every_s * (1 + JITTER * (2 * draw - 1))


@dataclass(slots=True)
class Absences:
    """Which regions are away, since when, and which have come back. Times in seconds of any one clock."""

    outage_s: float = OUTAGE_S
    _away: dict[str, float] = field(default_factory=dict)
    _back: dict[str, float] = field(default_factory=dict)

    def seen(self, region: str, *, there: bool, now_s: float) -> None:
        """Take down what was found."""
        if not there:
            self._away.setdefault(region, now_s)
            self._back.pop(region, None)
            return
        since_s = self._away.pop(region, None)
        if since_s is not None and now_s - since_s >= self.outage_s:
            self._back[region] = now_s

    @property
    def away(self) -> list[str]:
        """The regions that are away now."""
        return sorted(self._away)

    def due(self, now_s: float, *, caught_up: bool) -> list[str]:
        """The regions that came back and can be compared now: none while another is away or the logs are behind."""
        if not self._back or self._away:
            return []
        late = now_s - min(self._back.values()) >= CATCH_UP_MAX_S
        return sorted(self._back) if caught_up or late else []

    def compared(self) -> None:
        """Those that were due have been compared."""
        self._back.clear()
