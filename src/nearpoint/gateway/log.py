"""The log of one foreign store, a JetStream stream: intents, what is owed, and what was given up.

The server syncs every message before it acknowledges it (`sync_interval: always`). One stream holds three families of
subjects, so that one sequence numbers everything:

    nearpoint.REGION.intent                  a write that is under way: written before the object, removed after it
    nearpoint.REGION.due.PAIR.KEY            what a bucket owes to another
    nearpoint.REGION.parked.PAIR.KEY         what was given up, with the reason

PAIR and KEY are digests: a pair's entries are read in order by a wildcard, and how one key stands is one look-up,
whatever is pending. What is pending is counted once at start and kept up from then on.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson
import structlog

from nearpoint.gateway.entries import Entry, Intent, Pair, Standing, Tally, UnloggedError

if TYPE_CHECKING:
    from nats.aio.client import Client as NatsClient

log = structlog.get_logger("nearpoint.gateway")

TIMEOUT_S = 5.0
PAGE_ROWS = 1000
HANDED_MAX = 50_000  # rows that are remembered between being read and being struck off
AT_ONCE = 64
START_TRIES = 100
_GONE = frozenset({10037, 10057})  # JetStream: no message found, and what a file store says of a sequence it never had


class Numbered(NamedTuple):
    """An entry and where it stands in the log."""

    sequence: int
    entry: Entry


def _token(*parts: str) -> str:
    text = "\0".join(parts).encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=12).hexdigest()


class JetStreamLog:
    """`Log`, and what copiers ask of one. Make it with `open_log`."""

    def __init__(self, client: NatsClient, region: str) -> None:
        self._client = client
        self._stream = f"nearpoint-log-{region}"
        self._prefix = f"nearpoint.{region}"
        self._encode = msgspec.json.encode
        self._entries = msgspec.json.Decoder(Entry)
        self._handed: OrderedDict[int, tuple[str, Pair, int]] = OrderedDict()
        self._grown = asyncio.Event()
        self._places = asyncio.Semaphore(AT_ONCE)
        self._read_to = 0  # up to which sequence the entries have been counted
        self._count_to = 0
        self._removed_uncounted: set[int] = set()
        self._closing = False
        self.intents: dict[int, Intent] = {}  # that have not been ended
        self.counted = asyncio.Event()
        self.tallies: dict[Pair, Tally] = {}
        self.last = 0

    async def start(self) -> None:
        """Make the stream if it is not there. A JetStream that is starting is waited for."""
        from nats.js.api import RetentionPolicy, StreamConfig

        jetstream = self._client.jetstream(timeout=TIMEOUT_S)
        config = StreamConfig(
            name=self._stream,
            subjects=[f"{self._prefix}.>"],
            retention=RetentionPolicy.LIMITS,
            allow_direct=True,
        )
        for attempt in range(START_TRIES):
            try:
                await jetstream.add_stream(config)
                break
            except Exception:
                if attempt == START_TRIES - 1:
                    raise
                await asyncio.sleep(0.1)
        info = await jetstream.stream_info(self._stream)
        self.last = self._count_to = info.state.last_seq

    async def count(self) -> None:
        """Count what the log held at start, while it is in use."""
        for family in ("due", "parked"):
            await self._count(family)
        self._read_to = self._count_to
        self._removed_uncounted.clear()
        self.counted.set()

    async def begin(self, intent: Intent) -> int:
        number = await self._append(f"{self._prefix}.intent", self._encode(intent))
        self.intents[number] = intent
        return number

    async def end(self, number: int, entries: list[Entry]) -> None:
        await asyncio.gather(*(self._owe(entry) for entry in entries))
        self.intents.pop(number, None)
        await self._delete(number)

    async def open(self) -> list[tuple[int, Intent]]:
        found: list[tuple[int, Intent]] = []
        decode = msgspec.json.Decoder(Intent).decode
        after = 0
        while True:
            page = await self._page(f"{self._prefix}.intent", after)
            for sequence, _, data in page:
                after = sequence
                try:
                    found.append((sequence, decode(data)))
                except msgspec.MsgspecError as error:
                    await self._set_aside(sequence, error)
            if len(page) < PAGE_ROWS:
                self.intents |= dict(found)
                return found

    async def standing(self, bucket: str, destinations: list[str], key: str) -> Standing:
        worst: Standing = ""
        for destination in {*destinations, *(to for of, to in self.tallies if of == bucket)}:
            tally = self.tallies.get((bucket, destination))
            where = f"{_token(bucket, destination)}.{_token(key)}"
            sure = self.counted.is_set()
            if (not sure or (tally and tally.failed)) and await self._is_there(f"{self._prefix}.parked.{where}"):
                return "FAILED"
            if (not sure or (tally and tally.pending)) and await self._is_there(f"{self._prefix}.due.{where}"):
                worst = "PENDING"
        return worst

    async def due(self, pair: Pair, after: int, limit: int) -> list[Numbered]:
        """What waits behind the sequence `after`, in order."""
        found: list[Numbered] = []
        for sequence, subject, data in await self._page(f"{self._prefix}.due.{_token(*pair)}.*", after, limit):
            entry = await self._read(sequence, data)
            if entry is not None:
                self._hand(sequence, subject, entry)
                found.append(Numbered(sequence, entry))
        return found

    async def parked(self, limit: int) -> list[Entry]:
        """What was given up, the oldest first."""
        rows = [
            await self._read(sequence, data)
            for sequence, _, data in await self._page(f"{self._prefix}.parked.*.*", 0, limit)
        ]
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
            page = await self._page(f"{self._prefix}.parked.*.*", after)
            for sequence, _, data in page:
                after = sequence
                entry = await self._read(sequence, data)
                if entry is None or (entry.bucket, entry.destination) not in leads:
                    continue
                await self._owe(msgspec.structs.replace(entry, reason=""))
                await self._delete(sequence)
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
                await self._purge(f"{self._prefix}.{family}.{_token(*pair)}.*")
            del self.tallies[pair]

    async def grows(self, seen: int, wait_s: float) -> None:
        """Until there is more than `seen`, or `wait_s` has passed."""
        try:
            async with asyncio.timeout(wait_s):
                while self.last <= seen and not self._closing:
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            pass

    @property
    def told_to(self) -> int:
        """Up to which number everything that is owed is in the log: nothing that was begun before is still open."""
        return min(self.last, min(self.intents, default=self.last + 1) - 1)

    @property
    def is_closing(self) -> bool:
        """Whether nobody is to wait any more."""
        return self._closing

    def stop_waiting(self) -> None:
        """Let everybody go who waits for the log to grow."""
        self._closing = True
        self._grown.set()

    # What follows speaks JetStream (ADR-6, ADR-31 of NATS: direct and batched reads).

    async def _owe(self, entry: Entry) -> None:
        pair = (entry.bucket, entry.destination)
        subject = f"{self._prefix}.due.{_token(*pair)}.{_token(entry.key)}"
        sequence = await self._append(subject, self._encode(entry))
        tally = self._tally(pair)
        tally.pending += 1
        tally.size += entry.size
        self._hand(sequence, subject, entry)
        self.last = max(self.last, sequence)
        self._grown.set()

    async def _strike(self, sequence: int, reason: str | None) -> None:
        known = self._handed.pop(sequence, None)
        if reason is not None or known is None:
            found = await self._get({"seq": sequence})
            entry = None if found is None else await self._read(sequence, found[1])
            if found is None or entry is None:
                return
            known = (found[0], (entry.bucket, entry.destination), entry.size)
            if reason is not None:
                subject = found[0].replace(".due.", ".parked.", 1)
                await self._append(subject, self._encode(msgspec.structs.replace(entry, reason=reason)))
                self._tally(known[1]).failed += 1
        if not await self._delete(sequence):
            return
        if self._read_to < sequence <= self._count_to:
            self._removed_uncounted.add(sequence)
            return
        tally = self._tally(known[1])
        tally.pending -= 1
        tally.size -= known[2]

    async def _count(self, family: str) -> None:
        after = 0
        while True:
            page = await self._page(f"{self._prefix}.{family}.*.*", after)
            for sequence, _, data in page:
                after = sequence
                entry = await self._read(sequence, data)
                if entry is None or sequence > self._count_to or sequence in self._removed_uncounted:
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

    def _hand(self, sequence: int, subject: str, entry: Entry) -> None:
        self._handed[sequence] = (subject, (entry.bucket, entry.destination), entry.size)
        while len(self._handed) > HANDED_MAX:
            self._handed.popitem(last=False)

    async def _read(self, sequence: int, data: bytes) -> Entry | None:
        try:
            return self._entries.decode(data)
        except msgspec.MsgspecError as error:
            await self._set_aside(sequence, error)
            return None

    async def _set_aside(self, sequence: int, error: Exception) -> None:
        """An entry that cannot be read is said aloud and goes: what it was about, reconciling finds."""
        log.error("an entry of the log cannot be read", stream=self._stream, sequence=sequence, error=str(error))
        await self._delete(sequence)

    async def _append(self, subject: str, data: bytes) -> int:
        answer = await self._ask(subject, data)
        if "error" in answer:
            raise UnloggedError(str(answer["error"].get("description")))
        return int(answer["seq"])

    async def _delete(self, sequence: int) -> bool:
        request = orjson.dumps({"seq": sequence, "no_erase": True})
        answer = await self._ask(f"$JS.API.STREAM.MSG.DELETE.{self._stream}", request)
        error = answer.get("error")
        if error is not None and error.get("err_code") not in _GONE:
            raise UnloggedError(str(error.get("description")))
        return error is None

    async def _purge(self, subject: str) -> None:
        await self._ask(f"$JS.API.STREAM.PURGE.{self._stream}", orjson.dumps({"filter": subject}))

    async def _is_there(self, subject: str) -> bool:
        return await self._get({"last_by_subj": subject}) is not None

    async def _get(self, request: dict[str, Any]) -> tuple[str, bytes] | None:
        """Subject and data of one message."""
        message = await self._request(f"$JS.API.DIRECT.GET.{self._stream}", orjson.dumps(request))
        headers = message.headers or {}
        if headers.get("Status") == "404":
            return None
        if "Nats-Sequence" not in headers:
            raise UnloggedError(f"{self._stream} answers {headers.get('Status')}")
        return headers["Nats-Subject"], message.data

    async def _page(self, subject: str, after: int, limit: int = PAGE_ROWS) -> list[tuple[int, str, bytes]]:
        """Sequence, subject and data of the messages behind a sequence."""
        self._check_connected()
        inbox = self._client.new_inbox()
        found: list[tuple[int, str, bytes]] = []
        try:
            subscription = await self._client.subscribe(inbox)
            try:
                request = orjson.dumps({"seq": after + 1, "next_by_subj": subject, "batch": limit})
                await self._client.publish(f"$JS.API.DIRECT.GET.{self._stream}", request, reply=inbox)
                while True:
                    message = await subscription.next_msg(timeout=TIMEOUT_S)
                    headers = message.headers or {}
                    if "Nats-Sequence" not in headers:
                        if headers.get("Status") in ("204", "404"):
                            return found
                        raise UnloggedError(f"{self._stream} answers {headers.get('Status')}")
                    found.append((int(headers["Nats-Sequence"]), headers["Nats-Subject"], message.data))
            finally:
                await subscription.unsubscribe()
        except Exception as error:
            raise _unlogged(error) from error

    async def _ask(self, subject: str, data: bytes) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads((await self._request(subject, data)).data)
        return answer

    def _check_connected(self) -> None:
        """Whoever waits for the server to come back, waits in vain: another region may take the write meanwhile."""
        if not self._client.is_connected:
            raise UnloggedError("NATS is not connected")

    async def _request(self, subject: str, data: bytes) -> Any:
        self._check_connected()
        try:
            async with self._places:
                return await self._client.request(subject, data, timeout=TIMEOUT_S)
        except Exception as error:
            raise _unlogged(error) from error


def _unlogged(error: Exception) -> UnloggedError:
    return error if isinstance(error, UnloggedError) else UnloggedError(str(error) or type(error).__name__)
