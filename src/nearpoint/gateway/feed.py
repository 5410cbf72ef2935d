"""The log of a foreign store as a stream of events, as the embedded store tells its own (`bucket.feed`).

A follower is told what is pending, then what is added and what has arrived. `at` says up to which write everything is
told; writes are numbered by their intents.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import orjson

from nearpoint.bucket.feed import BEAT_S, WAITING_BYTES_MAX, Follower
from nearpoint.bucket.writer import Entry as Told
from nearpoint.gateway.entries import Entry, Pair
from nearpoint.gateway.log import JetStreamLog
from nearpoint.gateway.stream import PAGE_ROWS

Event = tuple[str, int, Entry]


class _Place:
    """A follower's place. While what is pending is being read for it, what happens is `kept` for afterwards."""

    def __init__(self) -> None:
        self.follower = Follower()
        self.woken = asyncio.Event()
        self.kept: list[Event] | None = None

    def hear(self, event: Event) -> None:
        if self.kept is not None:
            self.kept.append(event)
            return
        sign, sequence, entry = event
        told = _told(sequence, entry)
        line = _line(sign, sequence, entry.bucket, entry.destination, entry.key)
        if sign == "+":
            self.follower.added(told, line)
        else:
            self.follower.struck(told, line)
        self.woken.set()


class Feed:
    """Tells every follower what `log` says."""

    def __init__(self, log: JetStreamLog) -> None:
        self._log = log
        self._places: set[_Place] = set()
        log.listen(self._changed)

    def _changed(self, event: Event | None) -> None:
        for place in list(self._places):
            if event is None:
                place.woken.set()
            else:
                place.hear(event)
            if place.follower.waiting_bytes > WAITING_BYTES_MAX:
                self._places.discard(place)

    async def follow(self) -> AsyncIterator[bytes]:
        """The stream for one follower. It ends when the follower has to begin again. Raises UnloggedError."""
        place, at = _Place(), -1
        self._places.add(place)
        follower = place.follower
        try:
            await self._list(place, [pair for pair, tally in self._log.tallies.items() if tally.pending > 0])
            while place in self._places and not self._log.is_closing:
                told_to = self._log.told_to  # whatever it owes has been heard
                if told_to != at:
                    at = told_to
                    follower.say(_line("at", at))
                if follower.lines:
                    yield follower.taken()
                    continue
                place.woken.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await place.woken.wait()
                    continue
                await self._list(place, list(follower.untold))
                follower.say(b"[]\n")
        finally:
            self._places.discard(place)

    async def _list(self, place: _Place, pairs: list[Pair]) -> None:
        """Tell a follower all that some pairs owe, as far as there is room for it."""
        if not pairs:
            return
        place.kept = []
        for pair in pairs:
            place.follower.list(pair, await self._rows(pair, place.follower.room()))
        kept, place.kept = place.kept, None
        for event in kept:
            place.hear(event)

    async def _rows(self, pair: Pair, count: int) -> list[Told] | None:
        tally = self._log.tallies.get(pair)
        if count <= 0 or (tally is not None and tally.pending > count):
            return None
        found: list[Told] = []
        after = 0
        while len(found) <= count:
            rows = await self._log.due(pair, after, PAGE_ROWS)
            found += [_told(row.sequence, row.entry) for row in rows]
            if len(rows) < PAGE_ROWS:
                return found
            after = rows[-1].sequence
        return None


def _told(sequence: int, entry: Entry) -> Told:
    return Told(sequence, entry.bucket, entry.destination, entry.key.encode("utf-8", "surrogateescape"))


def _line(*event: object) -> bytes:
    return orjson.dumps(event) + b"\n"
