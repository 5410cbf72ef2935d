"""The log of one foreign store, in two JetStream streams: intents, and what is owed or was given up.

    nearpoint-intents.REGION.write           a write that is under way: there before the object, gone after it
    nearpoint-log.REGION.due.PAIR.KEY        what a bucket owes to another
    nearpoint-log.REGION.parked.PAIR.KEY     what was given up, with the reason
    nearpoint-log.REGION.damaged.PAIR.KEY    what could not be read, until both buckets have been compared

PAIR and KEY are digests: a pair's entries are read in order by a wildcard, and how one key stands is one look-up,
whatever is pending. What is pending is counted once at start and kept up from then on, sequence by sequence: a server
that is killed or stands still may have done what it never answered for, so an entry counts when it is seen, and no more
when it is known to be gone. Intents that are over are
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
_ANY = "any"  # an intent that cannot be read may have been about any pair


class Numbered(NamedTuple):
    """An entry and where it stands in the log."""

    sequence: int
    entry: Entry


def _token(*parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=12).hexdigest()


def _where(message: Message) -> tuple[str, str]:
    """The digests of pair and key in an entry's subject."""
    _, pair, key = message.subject.rsplit(".", 2)
    return pair, key


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
        self._reading: list[set[int]] = []  # what was struck off while a page was read, for each page
        self._doubtful: dict[int, Entry] = {}  # of which it is not known whether they were struck off
        self._damaged: dict[int, tuple[str, str]] = {}  # the digests of pair and key
        self._compared: set[Pair] = set()  # since something was last set aside
        self.is_closing = False
        self.intents: dict[int, Intent] = {}  # that have not been ended
        self.counted = asyncio.Event()
        self.tallies: dict[Pair, Tally] = {}
        self.last = 0

    async def start(self) -> None:
        """Make the streams if they are not there. A JetStream that is starting is waited for."""
        self._last_begun = await self._begun.start()
        self.last = await self._stream.start()
        page: list[Message] | None = None
        while page is None or len(page) == PAGE_ROWS:
            page = await self._stream.page("damaged.*.*", max(self._damaged, default=0))
            self._damaged |= {message.sequence: _where(message) for message in page}

    async def count(self) -> None:
        """Count what the log held at start, while it is in use."""
        for family in ("due", "parked"):
            after: int | None = 0
            while after is not None:
                try:
                    _, after = await self._page(f"{family}.*.*", after)
                except UnloggedError:
                    await asyncio.sleep(AGAIN_S)
        self.counted.set()

    async def sweep(self) -> None:
        """Remove the intents that are over, and doubts about what is, until cancelled."""
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
            try:
                await self._settle_doubts()
            except UnloggedError:
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
        unread = set(self._damaged.values())
        for destination in {*destinations, *(to for of, to in self.tallies if of == bucket)}:
            tally = self.tallies.get((bucket, destination))
            digests = (_token(bucket, destination), _token(key))
            if digests in unread:
                return "FAILED"
            where = ".".join(digests)
            sure = self.counted.is_set()
            if (not sure or (tally and tally.failed)) and await self._stream.newest(f"parked.{where}"):
                return "FAILED"
            if (not sure or (tally and tally.pending)) and await self._stream.newest(f"due.{where}"):
                worst = "PENDING"
        return worst

    async def due(self, pair: Pair, after: int, limit: int) -> list[Numbered]:
        """What waits behind the sequence `after`, in order."""
        found, _ = await self._page(f"due.{_token(*pair)}.*", after, limit)
        for row in found:
            self._hand(row.sequence, row.entry)
        return found

    async def parked(self, limit: int) -> list[Entry]:
        """What was given up, the oldest first."""
        found, _ = await self._page("parked.*.*", 0, limit)
        return [row.entry for row in found]

    async def damaged(self, leads: set[Pair]) -> list[Pair | None]:
        """Whose entries could not be read, as far as a rule still leads there; None where that cannot be known."""
        pairs = {_token(*pair): pair for pair in leads}
        for pair in {pair for pair, _ in self._damaged.values()} - pairs.keys() - ({_ANY} if leads else set()):
            await self._drop_damaged(pair)
        return [pairs.get(pair) for pair, _ in self._damaged.values()]

    async def compared(self, pair: Pair, leads: set[Pair]) -> int:
        """Both buckets have been compared and mended: what could not be read says nothing any more. How much it was."""
        self._compared.add(pair)
        struck = await self._drop_damaged(_token(*pair))
        return struck + (await self._drop_damaged(_ANY) if leads <= self._compared else 0)

    async def _drop_damaged(self, pair: str) -> int:
        numbers = [number for number, (of, _) in self._damaged.items() if of == pair]
        if numbers:
            await self._stream.purge(f"damaged.{pair}.*")
        for number in numbers:
            self._damaged.pop(number, None)
        return len(numbers)

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
        taken = 0
        after: int | None = 0
        while after is not None:
            rows, after = await self._page("parked.*.*", after)
            for sequence, entry in rows:
                if (entry.bucket, entry.destination) in leads:
                    await self._owe(msgspec.structs.replace(entry, reason=""))
                    await self._remove(sequence, entry)
                    taken += 1
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
        self._hand(sequence, entry)
        self._note(sequence, entry)

    async def _strike(self, sequence: int, reason: str | None) -> None:
        entry = self._handed.pop(sequence, None)
        if entry is None:
            found = await self._stream.at(sequence)
            entry = None if found is None else await self._read(found)
            if entry is None:
                return
        if reason is not None:
            parked = msgspec.structs.replace(entry, reason=reason or "?")
            where = f"parked.{_token(entry.bucket, entry.destination)}.{_token(entry.key)}"
            once = {"Nats-Msg-Id": f"parked-{sequence}"}  # though it be tried again
            self._note(await self._stream.append(where, msgspec.json.encode(parked), once), parked)
        await self._remove(sequence, entry)

    async def _remove(self, sequence: int, entry: Entry) -> None:
        """Take an entry out of the log."""
        try:
            await self._stream.delete(sequence)
        except UnloggedError:
            self._doubtful[sequence] = entry
            self._swept.set()
            raise
        self._forget(sequence, entry)

    def _note(self, sequence: int, entry: Entry) -> None:
        """There is an entry. It counts once."""
        tally = self._tally((entry.bucket, entry.destination))
        if entry.reason:
            tally.parked.add(sequence)
        elif tally.due.add(sequence):
            tally.size += entry.size
            self.last = max(self.last, sequence)
            self._grown.set()
            self._tell(("+", sequence, entry))

    def _forget(self, sequence: int, entry: Entry) -> None:
        """It is gone. Pages that are being read may have it still."""
        self._doubtful.pop(sequence, None)
        for gone in self._reading:
            gone.add(sequence)
        tally = self._tally((entry.bucket, entry.destination))
        if entry.reason:
            tally.parked.discard(sequence)
        elif tally.due.discard(sequence):
            tally.size -= entry.size
            self._tell(("-", sequence, entry))

    async def _settle_doubts(self) -> None:
        """Look at what may have been struck off without an answer."""
        for sequence, entry in list(self._doubtful.items()):
            if await self._stream.at(sequence) is None:
                self._forget(sequence, entry)
            else:
                self._doubtful.pop(sequence, None)  # whoever wanted it gone tries again

    async def _page(self, subject: str, after: int, limit: int = PAGE_ROWS) -> tuple[list[Numbered], int | None]:
        """Entries behind a sequence, and where to go on: None at the end. What had not been seen counts from now on."""
        gone: set[int] = set()
        self._reading.append(gone)
        try:
            page = await self._stream.page(subject, after, limit)
        finally:
            self._reading = [each for each in self._reading if each is not gone]
        found: list[Numbered] = []
        for message in page:
            entry = await self._read(message)
            if entry is not None:
                found.append(Numbered(message.sequence, entry))
                if message.sequence not in gone:
                    self._note(message.sequence, entry)
        return found, page[-1].sequence if len(page) == limit else None

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
        """An entry that cannot be read is in nobody's way any more, and told of until reconciling has found its key."""
        log.error("an entry of the log cannot be read", stream=stream.name, at=message.sequence, error=str(error))
        pair, key = (_ANY, _ANY) if stream is self._begun else _where(message)
        once = {"Nats-Msg-Id": f"damaged-{stream.name}-{message.sequence}"}
        number = await self._stream.append(f"damaged.{pair}.{key}", message.data, once)
        self._damaged[number] = (pair, key)
        self._compared.clear()
        await stream.delete(message.sequence)
