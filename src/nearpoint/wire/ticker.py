"""A coarse clock: one timer for many deadlines.

A timer per request costs more than the request. Whoever has deadlines notes `now` and compares it on every tick; a
time-out is late by at most two ticks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any


class Ticker:
    """Calls `on_tick(now)` every `period_s` seconds between `start` and `stop`, on the running loop.

    `now` and `loop` are good from the first `start` on; to ask asyncio for the running loop is a system call.
    """

    __slots__ = ("_handle", "_on_tick", "_period_s", "loop", "now")

    def __init__(self, period_s: float, on_tick: Callable[[float], None]) -> None:
        self.now = 0.0
        self._period_s = period_s
        self._on_tick = on_tick
        self.loop: asyncio.AbstractEventLoop
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Set `now` and begin to tick; without effect while ticking."""
        if self._handle is None:
            self.loop = asyncio.get_running_loop()
            self.now = self.loop.time()
            self._handle = self.loop.call_later(self._period_s, self._tick)

    def stop(self) -> None:
        """Stop ticking; `start` begins again."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _tick(self) -> None:
        self.now = self.loop.time()
        self._handle = self.loop.call_later(self._period_s, self._tick)
        self._on_tick(self.now)


class Deadlines:
    """`asyncio.timeout` for many at a time: `with deadlines.within(seconds):`, with one timer for all of them."""

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.waiting: dict[Deadline, None] = {}
        self.ticker = Ticker(period_s, self._tick)

    def within(self, seconds: float) -> Deadline:
        """What is awaited in the block is cancelled after so many seconds; the block raises TimeoutError then."""
        return Deadline(self, seconds)

    def _tick(self, now: float) -> None:
        for each in [each for each in self.waiting if now >= each.until]:
            each.strike()
        if not self.waiting:
            self.ticker.stop()


class Deadline:
    """One block of `Deadlines`."""

    __slots__ = ("_cancelled_before", "_of", "_seconds", "_struck", "_task", "until")

    def __init__(self, of: Deadlines, seconds: float) -> None:
        self._of = of
        self._seconds = seconds
        self._struck = False
        self._task: asyncio.Task[Any] | None = None
        self._cancelled_before = 0
        self.until = 0.0

    def __enter__(self) -> None:
        of = self._of
        of.ticker.start()
        self._task = task = asyncio.current_task(of.ticker.loop)
        assert task is not None
        self._cancelled_before = task.cancelling()
        self.until = of.ticker.now + of.period_s + self._seconds  # `now` is of the last tick
        of.waiting[self] = None

    def strike(self) -> None:
        """Time is up."""
        assert self._task is not None
        del self._of.waiting[self]
        self._struck = True
        self._task.cancel()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if not self._struck:
            del self._of.waiting[self]
            return
        assert self._task is not None
        if self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError from error
