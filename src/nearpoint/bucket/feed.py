"""The log as a stream: what is pending, then what is added and what has arrived, the moment it is on disk.

For those who route reads. Lines of JSON, one an event:

    ["+", sequence, bucket, destination, key]    the bucket owes this key to the destination
    ["-", sequence, bucket, destination, key]    no longer: it has arrived, or was given up
    ["all", bucket, destination]                 it owes more than is told: of any key it may
    ["told", bucket, destination]                no longer: what follows is told in full again
    ["at", sequence]                             everything up to here has been told
    []                                           still here

A follower is told of at most KEYS_MAX rows that are pending at the same time; the pair of buckets that goes beyond it
is told of as a whole. Events may come twice: the sequence says what they are about. A follower that cannot keep up, and
everyone when the log changed as a whole, is let go, and begins again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import apsw
import orjson

from nearpoint.bucket import outbox
from nearpoint.bucket.writer import Entry, LogChange

KEYS_MAX = 20_000
WAITING_BYTES_MAX = 4 * 1024 * 1024
BEAT_S = 1.0  # and so often it is looked at whether a pair can be told in full again

Pair = tuple[str, str]


def _line(*event: object) -> bytes:
    return orjson.dumps(event) + b"\n"


def _told(sign: str, entry: Entry) -> bytes:
    return _line(sign, entry.sequence, entry.bucket, entry.destination, entry.key.decode(errors="replace"))


class Follower:
    """What one follower has been told, and what it is to be told next. Decides, and knows no clock."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.waiting_bytes = 0
        self.count = 0  # of rows that it has been told of and that are pending
        self.untold: set[Pair] = set()
        self._counts: dict[Pair, int] = {}
        self._through: dict[Pair, int] = {}  # the last sequence of a pair that a list has covered

    def say(self, line: bytes) -> None:
        """Have a line sent."""
        self.lines.append(line)
        self.waiting_bytes += len(line)

    def taken(self) -> bytes:
        """The lines that wait; they do no longer."""
        data, self.lines, self.waiting_bytes = b"".join(self.lines), [], 0
        return data

    def room(self) -> int:
        """How many rows more it may be told of."""
        return KEYS_MAX - self.count

    def list(self, pair: Pair, rows: list[Entry] | None) -> None:
        """Everything that is pending of a pair, or None where that is more than there is room for."""
        if rows is None:
            self._hide(pair)
            return
        if pair in self.untold:
            self.untold.discard(pair)
            self.say(_line("told", *pair))
        for entry in rows:
            self.say(_told("+", entry))
        if rows:
            self._through[pair] = rows[-1].sequence
        self._counts[pair] = len(rows)
        self.count += len(rows)

    def added(self, entry: Entry, line: bytes) -> None:
        """A row is new; `line` says so."""
        pair = (entry.bucket, entry.destination)
        if pair in self.untold or entry.sequence <= self._through.get(pair, 0):
            return
        if self.count >= KEYS_MAX:
            self._hide(pair)
            return
        self._counts[pair] = self._counts.get(pair, 0) + 1
        self.count += 1
        self.say(line)

    def struck(self, entry: Entry, line: bytes) -> None:
        """A row is gone; `line` says so."""
        pair = (entry.bucket, entry.destination)
        if pair in self.untold:
            return
        if self._counts.get(pair, 0) > 0:
            self._counts[pair] -= 1
            self.count -= 1
        self.say(line)

    def _hide(self, pair: Pair) -> None:
        if pair not in self.untold:
            self.untold.add(pair)
            self.count -= self._counts.pop(pair, 0)
            self.say(_line("all", *pair))


class Feed:
    """Tells every follower. `db` is read on the event loop, where changes are published too."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db
        self._followers: dict[Follower, asyncio.Event] = {}
        self._closed = False

    def publish(self, change: LogChange) -> None:
        """Tell of a commit. Rows are told as added before they are told as struck."""
        if change.afresh:
            self._let_go()
        if not self._followers:
            return
        added = [(entry, _told("+", entry)) for entry in change.added]
        struck = [(entry, _told("-", entry)) for entry in change.struck]
        at = _line("at", change.added[-1].sequence) if change.added else b""
        for follower, woken in list(self._followers.items()):
            for entry, line in added:
                follower.added(entry, line)
            for entry, line in struck:
                follower.struck(entry, line)
            if at:
                follower.say(at)
            if follower.waiting_bytes > WAITING_BYTES_MAX:
                del self._followers[follower]
            woken.set()

    def close(self) -> None:
        """Let go of everyone, for good."""
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        followers, self._followers = self._followers, {}
        for woken in followers.values():
            woken.set()

    async def follow(self) -> AsyncIterator[bytes]:
        """The stream for one follower. It ends when the follower has to begin again."""
        if self._closed:
            return
        follower, woken = Follower(), asyncio.Event()
        self._begin(follower)
        self._followers[follower] = woken
        try:
            while follower in self._followers:
                if follower.lines:
                    yield follower.taken()
                    continue
                woken.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await woken.wait()
                    continue
                self._look_again(follower)
                follower.say(b"[]\n")
        finally:
            self._followers.pop(follower, None)

    def _begin(self, follower: Follower) -> None:
        """What is pending now, as of one moment. Commits that come between are published later."""
        with self._db:
            last = outbox.last(self._db)
            for pair in outbox.pairs(self._db):
                follower.list(pair, self._rows(pair, follower.room()))
        follower.say(_line("at", last))

    def _look_again(self, follower: Follower) -> None:
        for pair in list(follower.untold):
            rows = self._rows(pair, min(follower.room(), KEYS_MAX // 2))
            if rows is not None:
                follower.list(pair, rows)

    def _rows(self, pair: Pair, count: int) -> list[Entry] | None:
        if count <= 0 or outbox.owes(self._db, *pair, count):
            return None
        return outbox.of_pair(self._db, *pair, count)
