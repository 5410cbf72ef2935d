"""A coarse clock: one timer for many deadlines.

A timer per request costs more than the request. Whoever has deadlines notes `now` and compares it on every tick; a
time-out is late by at most two ticks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Ticker:
    """Calls `on_tick(now)` every `period_s` seconds between `start` and `stop`, on the running loop."""

    __slots__ = ("_handle", "_loop", "_on_tick", "_period_s", "now")

    def __init__(self, period_s: float, on_tick: Callable[[float], None]) -> None:
        self.now = 0.0
        self._period_s = period_s
        self._on_tick = on_tick
        self._loop: asyncio.AbstractEventLoop | None = None
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Set `now` and begin to tick; without effect while ticking."""
        if self._handle is None:
            self._loop = asyncio.get_running_loop()
            self.now = self._loop.time()
            self._handle = self._loop.call_later(self._period_s, self._tick)

    def stop(self) -> None:
        """Stop ticking; `start` begins again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        assert self._loop is not None
        self.now = self._loop.time()
        self._handle = self._loop.call_later(self._period_s, self._tick)
        self._on_tick(self.now)
