"""One request to the origin for everyone who asks for the same at the same time."""

from __future__ import annotations

import asyncio

import msgspec

from nearpoint.edge.entry import Entry, Variant
from nearpoint.edge.fill import Fill
from nearpoint.edge.freshness import Freshness
from nearpoint.edge.storable import Why
from nearpoint.edge.vary import Variance
from nearpoint.edge.visit import Answer, Trouble


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer, in the cache or as good as: everybody of its variant may have it while it is fresh.

    `fields` are the entry's. `why`: the reason that it is not in the cache after all.
    """

    entry: Entry
    fields: list[tuple[str, str]]
    result: str
    note: str
    why: Why | None = None


class Filling(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that will be stored, its body still on the way: those of its variant may read along."""

    status: int
    fields: list[tuple[str, str]]
    fill: Fill
    freshness: Freshness
    variance: Variance
    variant: Variant
    requested_at: float
    result: str
    note: str


class Private(msgspec.Struct, frozen=True, kw_only=True):
    """An answer for the one who asked; the others ask for themselves."""

    answer: Answer
    why: Why


Landing = Stored | Filling | Private | Trouble


class Flight:
    """A request to the origin that is under way. `landing` is None when whoever led it has gone away."""

    __slots__ = ("_followed", "_landed", "landing", "started_at")

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.landing: Landing | None = None
        self._landed = False
        self._followed: asyncio.Event | None = None  # made when somebody follows, as hardly ever anybody does

    def land(self, landing: Landing | None) -> None:
        """Tell everybody who waits; only the first call counts."""
        if not self._landed:
            self.landing = landing
            self._landed = True
            if self._followed is not None:
                self._followed.set()

    async def wait(self, timeout_s: float | None = None) -> Landing | None:
        """The landing, or None when the leader has gone. Raises TimeoutError."""
        if not self._landed:
            if self._followed is None:
                self._followed = asyncio.Event()
            async with asyncio.timeout(timeout_s):
                await self._followed.wait()
        return self.landing
