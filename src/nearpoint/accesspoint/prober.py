"""Asks every region's store something small, all the time, through the path that requests take.

Probes leave on schedule whether or not the last one has come back, so a region that falls silent is known within a
second: an interval, twice over, and one time-out. A location that nobody asks probes its steady regions more slowly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from nearpoint.accesspoint.fleet import Fleet
from nearpoint.accesspoint.health import Outcome
from nearpoint.regions.store import Store
from nearpoint.wire.client import Timeouts, UpstreamError

log = structlog.get_logger("nearpoint.accesspoint")

INTERVAL_S = 0.25
IDLE_INTERVAL_S = 1.0
JITTER_RATIO = 0.1
# The first measurements come quickly, so that a node that has just started chooses well.
FIRST_INTERVAL_S = 0.05
FIRST_PROBES = 5
TIMEOUT_S_MIN = 0.25
TIMEOUT_S_MAX = 0.45
# A probe that has timed out is still waited for: its connection is made by then, and how long it took is a
# measurement, so a region that moved far away is not taken for a dead one forever.
LATE_S = 3.0
# A wait that ends so much after its time was held up here, in this process, and says nothing of the region.
HELD_UP_S = 0.05
_TIMEOUTS = Timeouts(connect_s=LATE_S, read_s=LATE_S)
# Any answer below 500 is a sign of life, so the bucket need not exist.
PROBE_BUCKET = "nearpoint-probe"

OUTCOMES: Mapping[str, Outcome] = {
    "connect": Outcome.REFUSED,
    "timeout": Outcome.TIMEOUT,
    "lost": Outcome.LOST,
    "protocol": Outcome.LOST,
}


def timeout_s(rtt_ms_p50: float | None) -> float:
    """After how long a probe counts as failed: some round trips and a margin; all the time for an unmeasured region."""
    if rtt_ms_p50 is None:
        return LATE_S
    rtt_s = rtt_ms_p50 / 1000
    return max(TIMEOUT_S_MIN, min(TIMEOUT_S_MAX, 0.1 + 2 * rtt_s), 0.05 + 1.3 * rtt_s)


class Prober:
    """Keeps a fleet's picture of the stores up to date.

    `clock_s` is monotonic; `draw` gives numbers in [0, 1); `is_idle` says that no request has come for a while.
    """

    def __init__(
        self,
        fleet: Fleet,
        stores: Mapping[str, Store],
        *,
        clock_s: Callable[[], float],
        draw: Callable[[], float],
        is_idle: Callable[[], bool],
    ) -> None:
        self._fleet = fleet
        self._stores = stores
        self._clock_s = clock_s
        self._draw = draw
        self._is_idle = is_idle

    async def run(self) -> None:
        """Probe until cancelled."""
        async with asyncio.TaskGroup() as group:
            for region in self._stores:
                group.create_task(self._watch(region))

    async def _watch(self, region: str) -> None:
        probes: set[asyncio.Task[Outcome]] = set()
        sent = 0
        try:
            while True:
                probe = asyncio.create_task(self.probe(region))
                probes.add(probe)
                probe.add_done_callback(probes.discard)
                sent += 1
                interval_s = FIRST_INTERVAL_S if sent <= FIRST_PROBES else self._interval_s(region)
                await asyncio.sleep(interval_s * (1 + JITTER_RATIO * (2 * self._draw() - 1)))
        finally:
            for probe in probes:
                probe.cancel()

    def _interval_s(self, region: str) -> float:
        return IDLE_INTERVAL_S if self._is_idle() and self._fleet.is_steady(region) else INTERVAL_S

    async def probe(self, region: str) -> Outcome:
        """One probe, taken into the fleet's picture."""
        started_s = self._clock_s()
        asking = asyncio.create_task(self._ask(region))
        try:
            in_time = await self._in_time(asking, timeout_s(self._fleet.rtt_ms_p50(region)))
            outcome = asking.result() if in_time else Outcome.TIMEOUT
            now_s = self._clock_s()
            if self._fleet.observe_probe(region, outcome, (now_s - started_s) * 1000, now_s):
                log.info("region health", region=region, health=self._fleet.states[region].value, saw=outcome.value)
            if not in_time and await asking is Outcome.OK:
                self._fleet.measure(region, (self._clock_s() - started_s) * 1000)
        finally:
            asking.cancel()
        return outcome

    async def _in_time(self, asking: asyncio.Task[Outcome], limit_s: float) -> bool:
        """Whether the answer came within the limit; once as long again, where this process was late to look."""
        started_s = self._clock_s()
        await asyncio.wait({asking}, timeout=limit_s)
        if not asking.done() and self._clock_s() - started_s > limit_s + HELD_UP_S:
            await asyncio.wait({asking}, timeout=limit_s)
        return asking.done()

    async def _ask(self, region: str) -> Outcome:
        try:
            response = await self._stores[region].send("HEAD", PROBE_BUCKET, timeouts=_TIMEOUTS)
        except UpstreamError as error:
            return OUTCOMES[error.reason]
        await response.body.close()
        return Outcome.SERVER_ERROR if response.status >= 500 else Outcome.OK
