"""The log of one foreign store, in two JetStream streams: intents, and what is owed or was given up.

    nearpoint-intents.REGION.write           a write that is under way: there before the object, gone after it
    nearpoint-log.REGION.due.PAIR.KEY        what a bucket owes to another
    nearpoint-log.REGION.parked.PAIR.KEY     what was given up, with the reason

PAIR and KEY are digests: a pair's entries are read in order by a wildcard, and how one key stands is one look-up,
whatever is pending. What is pending is counted once at start and kept up from then on. Intents that are over are
removed a few times a second, all at once; one that a crash leaves behind costs a look at the store.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import structlog

from nearpoint.gateway.entries import Entry, Intent, Pair, Standing, Tally, UnloggedError
from nearpoint.gateway.stream import PAGE_ROWS, Message, Stream

if TYPE_CHECKING:
    from nats.aio.client import Client as NatsClient

log = structlog.get_logger("nearpoint.gateway")

HANDED_MAX = 50_000  # rows that are remembered between being read and being struck off
SWEEP_S = 0.2
AGAIN_S = 0.5


class Numbered(NamedTuple):
    """An entry and where it stands in the log."""

    sequence: int
    entry: Entry


def _token(*parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=12).hexdigest()


class JetStreamLog:
    """`Log`, and what copiers ask of one. Make it, `start` it, and have `count` and `sweep` run."""

    def __init__(self, client: NatsClient, region: str) -> None:
        self._begun = Stream(client, f"nearpoint-intents-{region}", f"nearpoint-intents.{region}")
        self._stream = Stream(client, f"nearpoint-log-{region}", f"nearpoint-log.{region}")
        self._entries = msgspec.json.Decoder(Entry)
        self._handed: OrderedDict[int, Entry] = OrderedDict()
        self._listeners: list[Callable[[tuple[str, int, Entry] | None], None]] = []
        self._grown = asyncio.Event()
        self._swept = asyncio.Event()
        self._swept_to = 0
        self._last_begun = 0
        self._read_to = 0  # up to which sequence the entries have been counted
        self._count_to = 0
        self._removed_uncounted: set[int] = set()
        self.is_closing = False
        self.intents: dict[int, Intent] = {}  # that have not been ended
        self.counted = asyncio.Event()
        self.tallies: dict[Pair, Tally] = {}
        self.last = 0

    async def start(self) -> None:
        """Make the streams if they are not there. A JetStream that is starting is waited for."""
        self._last_begun = await self._begun.start()
        self.last = self._count_to = await self._stream.start()

    async def count(self) -> None:
        """Count what the log held at start, while it is in use."""
        for family in ("due", "parked"):
            await self._count(family)
        self._read_to = self._count_to
        self._removed_uncounted.clear()
        self.counted.set()

    async def sweep(self) -> None:
        """Remove the intents that are over, until cancelled."""
        while True:
            await self._swept.wait()
            self._swept.clear()
            below = self.told_to + 1
            if below > self._swept_to:
                try:
                    await self._begun.purge("write", below)
                    self._swept_to = below
                except UnloggedError as error:
                    log.debug("intents are not removed yet", error=str(error))
                    self._swept.set()
            await asyncio.sleep(SWEEP_S)

    def listen(self, listener: Callable[[tuple[str, int, Entry] | None], None]) -> None:
        """Have a listener told what is added (`+`) and struck off (`-`), and of None when a write is over."""
        self._listeners.append(listener)

    def _tell(self, event: tuple[str, int, Entry] | None) -> None:
        for listener in self._listeners:
            listener(event)

    async def begin(self, intent: Intent) -> int:
        number = await self._begun.append("write", msgspec.json.encode(intent))
        self._last_begun = max(self._last_begun, number)
        self.intents[number] = intent
        return number

    async def end(self, number: int, entries: list[Entry]) -> None:
        await asyncio.gather(*(self._owe(entry) for entry in entries))
        self.intents.pop(number, None)
        self._swept.set()
        self._tell(None)

    async def open(self) -> list[tuple[int, Intent]]:
        found: list[tuple[int, Intent]] = []
        decode = msgspec.json.Decoder(Intent).decode
        after = 0
        while True:
            page = await self._begun.page("write", after)
            for message in page:
                after = message.sequence
                try:
                    found.append((message.sequence, decode(message.data)))
                except msgspec.MsgspecError as error:
                    await self._set_aside(self._begun, message, error)
            if len(page) < PAGE_ROWS:
                self.intents |= dict(found)
                return found

    @property
    def told_to(self) -> int:
        """Up to which intent everything that is owed is in the log."""
        return min(self.intents, default=self._last_begun + 1) - 1

    async def standing(self, bucket: str, destinations: list[str], key: str) -> Standing:
        worst: Standing = ""
        for destination in {*destinations, *(to for of, to in self.tallies if of == bucket)}:
            tally = self.tallies.get((bucket, destination))
            where = f"{_token(bucket, destination)}.{_token(key)}"
            sure = self.counted.is_set()
            if (not sure or (tally and tally.failed)) and await self._stream.newest(f"parked.{where}"):
                return "FAILED"
            if (not sure or (tally and tally.pending)) and await self._stream.newest(f"due.{where}"):
                worst = "PENDING"
        return worst

    async def due(self, pair: Pair, after: int, limit: int) -> list[Numbered]:
        """What waits behind the sequence `after`, in order."""
        found: list[Numbered] = []
        for message in await self._stream.page(f"due.{_token(*pair)}.*", after, limit):
            entry = await self._read(message)
            if entry is not None:
                self._hand(message.sequence, entry)
                found.append(Numbered(message.sequence, entry))
        return found

    async def parked(self, limit: int) -> list[Entry]:
        """What was given up, the oldest first."""
        rows = [await self._read(message) for message in await self._stream.page("parked.*.*", 0, limit)]
        return [entry for entry in rows if entry is not None]

    async def oldest_us(self, pair: Pair) -> int | None:
        """When the oldest of what is owed was written."""
        found = await self.due(pair, 0, 1)
        return found[0].entry.written_us if found else None

    async def settle(self, done: Sequence[int], given_up: Sequence[tuple[int, str]]) -> None:
        """Strike off what was copied and park what was given up. What is gone already is no error."""
        await asyncio.gather(*(self._strike(sequence, None) for sequence in done))
        await asyncio.gather(*(self._strike(sequence, reason) for sequence, reason in given_up))

    async def retry(self, leads: set[Pair]) -> int:
        """Take up what was given up, as far as a rule still leads there. How much it was."""
        taken, after = 0, 0
        while True:
            page = await self._stream.page("parked.*.*", after)
            for message in page:
                after = message.sequence
                entry = await self._read(message)
                if entry is None or (entry.bucket, entry.destination) not in leads:
                    continue
                await self._owe(msgspec.structs.replace(entry, reason=""))
                await self._stream.delete(message.sequence)
                self._tally((entry.bucket, entry.destination)).failed -= 1
                taken += 1
            if len(page) < PAGE_ROWS:
                return taken

    async def give_up(self, pair: Pair, reason: str) -> None:
        """Park everything that a bucket owes to another."""
        while rows := await self.due(pair, 0, PAGE_ROWS):
            await self.settle((), [(row.sequence, reason) for row in rows])

    async def forget(self, bucket: str) -> None:
        """Drop all that a bucket owes, which is no more."""
        for pair in [pair for pair in self.tallies if pair[0] == bucket]:
            for family in ("due", "parked"):
                await self._stream.purge(f"{family}.{_token(*pair)}.*")
            del self.tallies[pair]

    async def grows(self, seen: int, wait_s: float) -> None:
        """Until there is more than `seen`, or `wait_s` has passed."""
        try:
            async with asyncio.timeout(wait_s):
                while self.last <= seen and not self.is_closing:
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            pass

    def stop_waiting(self) -> None:
        """Let everybody go who waits for the log to grow."""
        self.is_closing = True
        self._grown.set()

    async def _owe(self, entry: Entry) -> None:
        pair = (entry.bucket, entry.destination)
        sequence = await self._stream.append(f"due.{_token(*pair)}.{_token(entry.key)}", msgspec.json.encode(entry))
        tally = self._tally(pair)
        tally.pending += 1
        tally.size += entry.size
        self._hand(sequence, entry)
        self.last = max(self.last, sequence)
        self._grown.set()
        self._tell(("+", sequence, entry))

    async def _strike(self, sequence: int, reason: str | None) -> None:
        entry = self._handed.pop(sequence, None)
        if entry is None:
            found = await self._stream.at(sequence)
            entry = None if found is None else await self._read(found)
            if entry is None:
                return
        pair = (entry.bucket, entry.destination)
        if reason is not None:
            where = f"parked.{_token(*pair)}.{_token(entry.key)}"
            await self._stream.append(where, msgspec.json.encode(msgspec.structs.replace(entry, reason=reason)))
            self._tally(pair).failed += 1
        if not await self._stream.delete(sequence):
            return
        self._tell(("-", sequence, entry))
        if self._read_to < sequence <= self._count_to:
            self._removed_uncounted.add(sequence)
            return
        tally = self._tally(pair)
        tally.pending -= 1
        tally.size -= entry.size

    async def _count(self, family: str) -> None:
        after = 0
        while True:
            try:
                page = await self._stream.page(f"{family}.*.*", after)
            except UnloggedError:
                await asyncio.sleep(AGAIN_S)
                continue
            for message in page:
                after = message.sequence
                entry = await self._read(message)
                if entry is None or after > self._count_to or after in self._removed_uncounted:
                    continue
                tally = self._tally((entry.bucket, entry.destination))
                if family == "parked":
                    tally.failed += 1
                else:
                    tally.pending += 1
                    tally.size += entry.size
            if family == "due":
                self._read_to = after
            if len(page) < PAGE_ROWS:
                return

    def _tally(self, pair: Pair) -> Tally:
        return self.tallies.setdefault(pair, Tally())

    def _hand(self, sequence: int, entry: Entry) -> None:
        self._handed[sequence] = entry
        while len(self._handed) > HANDED_MAX:
            self._handed.popitem(last=False)

    async def _read(self, message: Message) -> Entry | None:
        try:
            return self._entries.decode(message.data)
        except msgspec.MsgspecError as error:
            await self._set_aside(self._stream, message, error)
            return None

    async def _set_aside(self, stream: Stream, message: Message, error: Exception) -> None:
        """An entry that cannot be read is said aloud and goes: what it was about, reconciling finds."""
        log.error("an entry of the log cannot be read", stream=stream.name, at=message.sequence, error=str(error))
        await stream.delete(message.sequence)
