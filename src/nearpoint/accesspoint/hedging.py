"""Hedged reads: a second region is asked when the first is slower than it usually is, and the first answer wins.

Dean and Barroso, "The Tail at Scale" (2013): asking again after the 95th percentile costs at most one request in
twenty; a budget keeps it there when everything is slow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from nearpoint.wire.message import Response

QUANTILE = 0.95
WINDOW_SAMPLES = 128
SAMPLES_MIN = 20
_RECOMPUTE_EVERY = 16
# At most one request in twenty is asked twice; a quiet time does not save up for a storm.
SHARE_MAX = 0.05
SAVED_MAX = 4.0
# The event loop's timers know whole milliseconds: a shorter wait would ask twice at once and waste the budget.
WAIT_MIN_S = 0.002


class SlowMark:
    """The 95th percentile of the times that one region took to begin its answers."""

    __slots__ = ("_samples_s", "_since", "p95_s")

    def __init__(self) -> None:
        self._samples_s: deque[float] = deque(maxlen=WINDOW_SAMPLES)
        self._since = 0
        self.p95_s: float | None = None

    def add(self, took_s: float) -> None:
        """Take in one time. `p95_s` stays None until there are enough of them."""
        self._samples_s.append(took_s)
        self._since += 1
        count = len(self._samples_s)
        if count >= SAMPLES_MIN and (self.p95_s is None or self._since >= _RECOMPUTE_EVERY):
            self._since = 0
            self.p95_s = sorted(self._samples_s)[int(QUANTILE * (count - 1))]


class Budget:
    """How many requests may be asked twice: a share of all of them."""

    __slots__ = ("_saved",)

    def __init__(self) -> None:
        self._saved = 1.0

    def earn(self) -> None:
        """One more request has come in."""
        self._saved = min(SAVED_MAX, self._saved + SHARE_MAX)

    def take(self) -> bool:
        """Spend one second question, if there is one to spend."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True


async def race(
    first: Awaitable[Response], second: Callable[[], Awaitable[Response]], wait_s: float, budget: Budget
) -> tuple[Response, bool]:
    """The first answer below 500, and whether it is the second's; the loser is cancelled.

    The second is asked after `wait_s`, or WAIT_MIN_S if that is more, if the budget has room. When neither has a good
    answer, the first's outcome is the outcome: its answer, or what it raised.
    """
    asked = [asyncio.ensure_future(first)]
    winner: asyncio.Future[Response] | None = None
    try:
        await asyncio.wait(asked, timeout=max(wait_s, WAIT_MIN_S))
        if not asked[0].done() and budget.take():
            asked.append(asyncio.ensure_future(second()))
        waiting = set(asked)
        while waiting and winner is None:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            winner = next((one for one in asked if one in done and _is_good(one)), None)
        winner = winner or asked[0]
        return winner.result(), winner is not asked[0]
    finally:
        for one in asked:
            if one is not winner:
                await _drop(one)


def _is_good(one: asyncio.Future[Response]) -> bool:
    return not one.cancelled() and one.exception() is None and one.result().status < 500


async def _drop(one: asyncio.Future[Response]) -> None:
    one.cancel()
    await asyncio.wait({one})
    if not one.cancelled() and one.exception() is None:
        await one.result().body.close()
