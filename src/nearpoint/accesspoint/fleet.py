"""All that one node knows about the regions: their health and their distance, and the order that follows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from nearpoint.accesspoint.health import Outcome, RegionHealth, State
from nearpoint.accesspoint.latency import LatencyWindow, order_by_latency

# The first probe includes the time to connect; the median of three leaves it out.
SAMPLES_MIN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionReport:
    """One region as this node sees it. `rtt_ms_p50` is None until a probe has come back."""

    region: str
    health: str
    reason: str
    rtt_ms_p50: float | None
    samples: int


class Fleet:
    """Health and latency of the regions. `epoch` rises whenever `states` or `order` change."""

    def __init__(self, regions: Iterable[str]) -> None:
        self._health = {region: RegionHealth() for region in regions}
        self._latency = {region: LatencyWindow() for region in self._health}
        self.states: Mapping[str, State] = dict.fromkeys(self._health, State.HEALTHY)
        self.order: tuple[str, ...] = tuple(sorted(self._health))
        self.epoch = 0

    @property
    def regions(self) -> tuple[str, ...]:
        """The names of the regions."""
        return tuple(self._health)

    @property
    def is_measured(self) -> bool:
        """True once every region has a median to go by or has been ejected."""
        return all(
            window.samples >= SAMPLES_MIN or self.states[region] is not State.HEALTHY
            for region, window in self._latency.items()
        )

    def rtt_ms_p50(self, region: str) -> float | None:
        """The measured round trip to a region, or None."""
        window = self._latency.get(region)
        return None if window is None else window.rtt_ms_p50

    def observe(self, region: str, outcome: Outcome, now_s: float) -> bool:
        """Take in what a request to a region came to; True when the region's state changed."""
        health = self._health.get(region)
        return health is not None and self._noted(health.observe(outcome, probe=False, now_s=now_s))

    def observe_probe(self, region: str, outcome: Outcome, rtt_ms: float, now_s: float) -> bool:
        """Take in what a probe came to; the round trip counts only when it is OK."""
        if outcome is Outcome.OK:
            self.measure(region, rtt_ms)
        return self._noted(self._health[region].observe(outcome, probe=True, now_s=now_s))

    def measure(self, region: str, rtt_ms: float) -> None:
        """Take in a round trip, be it one that came too late to count as a sign of health."""
        self._latency[region].add(rtt_ms)
        order = order_by_latency(
            self._latency, {name: window.rtt_ms_p50 for name, window in self._latency.items()}, self.order
        )
        if order != self.order:
            self.order = order
            self.epoch += 1

    def is_steady(self, region: str) -> bool:
        """True while nothing has been wrong with the region lately."""
        return self._health[region].is_steady

    def _noted(self, changed: bool) -> bool:
        if changed:
            self.states = {region: health.state for region, health in self._health.items()}
            self.epoch += 1
        return changed

    def report(self) -> list[RegionReport]:
        """Every region, nearest first."""
        return [
            RegionReport(
                region=region,
                health=self._health[region].state.value,
                reason=self._health[region].reason,
                rtt_ms_p50=self._latency[region].rtt_ms_p50,
                samples=self._latency[region].samples,
            )
            for region in self.order
        ]
