"""How a client's write to a foreign store gets its stamp and its entry in the log.

    1. what is known of the key is looked up, so that the write's time is later than anything it follows
    2. the intent goes into the log; when it cannot, the answer is 503 and nothing is written
       (of a PUT, 1 and 2 at the same time: see `_begin`)
    3. the object goes into the store with its stamp in its metadata
    4. what the object cannot hold (the stamp of a delete, of a completed upload, of new tags) becomes a mark
    5. the client has its answer; what is owed takes the intent's place in the log

A crash between any two of these leaves an intent. `recover` ends it: what the store holds then is what the other
regions are owed. A write whose answer never came is ended like that as well, a little later.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec
import structlog

from nearpoint.awsproto import AwsError
from nearpoint.gateway.entries import Entry, Intent, Log, Operation, Standing, UnloggedError
from nearpoint.gateway.kept import Kept
from nearpoint.gateway.origin import Origin, Seen
from nearpoint.gateway.stamps import Known, Mark, bare, mark_of, version_of
from nearpoint.regions.rules import Rule, Tags, destinations
from nearpoint.regions.version import Stamp
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.message import Response

log = structlog.get_logger("nearpoint.gateway")

LOGGED_HEADER = "x-nearpoint-logged"  # to access points, as the embedded store says it (`bucket.server`)
UNSURE_S = 5.0  # after which a store has done what it was asked to, or will not any more
AGAIN_S = 0.5
LANDED_MAX = 100


@dataclass(slots=True)
class Flight:
    """Writes of one key that are under way together. `landed` are the versions that they made, by the store's id."""

    count: int = 0
    crowded: bool = False
    newest_us: int = 0
    landed: dict[str, Stamp] = field(default_factory=dict)

    def note(self, layer: str | None, stamp: Stamp | None) -> None:
        """A version has been made."""
        if layer is not None and stamp is not None and layer != "null":
            self.landed[layer] = stamp
            if len(self.landed) > LANDED_MAX:
                del self.landed[next(iter(self.landed))]


class Flights:
    """Which keys are being written. What was written in a crowd is looked at afterwards (`Origin.put_right`)."""

    def __init__(self) -> None:
        self._flights: dict[tuple[str, str], Flight] = {}

    def begin(self, bucket: str, key: str) -> Flight:
        """One more write of a key."""
        flight = self._flights.setdefault((bucket, key), Flight())
        flight.count += 1
        flight.crowded = flight.crowded or flight.count > 1
        return flight

    def end(self, bucket: str, key: str) -> None:
        """It is over."""
        flight = self._flights[(bucket, key)]
        flight.count -= 1
        if not flight.count:
            del self._flights[(bucket, key)]


Send = Callable[[int], Awaitable[Response]]


class Writes:
    """Makes writes to one foreign store. `spawn` carries on with something after the answer has gone out."""

    def __init__(
        self,
        origin: Origin,
        log: Log,
        kept: Kept,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        spawn: Callable[[Awaitable[None]], None],
    ) -> None:
        self.origin = origin
        self.flights = Flights()
        self._log = log
        self._kept = kept
        self._sleep = sleep
        self._spawn = spawn
        self._ending: Counter[tuple[str, str]] = Counter()

    def may_concern(self, bucket: str, key: str, operation: Operation, tags: Tags | None, known: Known) -> list[str]:
        """The buckets that a write may have to go to. `tags` None: they are not known yet."""
        rules = self._kept.rules(bucket)
        is_replica = operation == "amend" and known.role == "replica"
        if tags is None:
            rules = tuple(_without_tags(rule) for rule in rules)
        return destinations(rules, key=key, tags=tags or (), change=operation, is_replica=is_replica)

    async def standing(self, bucket: str, key: str) -> Standing:
        """How a key stands. Raises UnloggedError."""
        if self._ending[(bucket, key)]:
            return "PENDING"
        return await self._log.standing(bucket, list({rule.destination for rule in self._kept.rules(bucket)}), key)

    async def write(
        self,
        bucket: str,
        key: str,
        operation: Operation,
        send: Send,
        *,
        tags: Tags | None = None,
        size: int = 0,
        completes: bool = False,
    ) -> Response:
        """Make a write: `send` is given its time and sends it on. The answer, whatever the store said.

        Raises AwsError (ServiceUnavailable: nothing has been written), and what `send` raises.
        """
        flight = self.flights.begin(bucket, key)
        self._ending[(bucket, key)] += 1
        handed_on = False
        intent = Intent(
            bucket=bucket, key=key, operation=operation, time_us=0, written_us=self.origin.now_us(), destinations=(),
            size=size, completes=completes, tags=tuple(tags or ()) if operation == "amend" else (),
        )  # fmt: skip
        try:
            try:
                number, intent, seen = await self._begin(intent, flight, tags)
            except UnloggedError as error:
                raise AwsError("ServiceUnavailable", f"The log of {self.origin.region}: {error}") from error
            handed_on = True
            return await self._made(intent, number, flight, seen, send)
        finally:
            self.flights.end(bucket, key)
            if not handed_on:
                self._ended(bucket, key)

    async def _begin(self, intent: Intent, flight: Flight, tags: Tags | None) -> tuple[int, Intent, Seen]:
        """Look the key up, and put the intent into the log: its number, the intent with its time, what was seen.

        The log has the intent before the store has the object, in any case. Of a PUT it is written while the key is
        looked up, since nobody reads the time in it: the object carries its own stamp, and whoever ends the intent
        after a crash asks the store what the key is. What a delete, the end of an upload and new tags leave behind has
        no stamp but the one in the intent; there the look-up, which decides the time, comes first.

        Raises UnloggedError, and what the look-up raises; the intent is taken back then, since nothing was written.
        """
        bucket, key, operation = intent.bucket, intent.key, intent.operation
        if operation == "put" and not intent.completes:
            to = self.may_concern(bucket, key, operation, tags, Known())
            intent = msgspec.structs.replace(intent, destinations=tuple(to))
            opening = asyncio.ensure_future(self._log.begin(intent))
            try:
                seen = await self.origin.look(bucket, key)
                number = await asyncio.shield(opening)
            except BaseException:
                self._ending[(bucket, key)] += 1
                self._spawn(self._take_back(opening, intent))
                raise
            return number, msgspec.structs.replace(intent, time_us=self._time_us(seen, flight)), seen
        seen = await self.origin.look(bucket, key)
        to = self.may_concern(bucket, key, operation, tags, seen.known)
        time_us = self._time_us(seen, flight)
        intent = msgspec.structs.replace(intent, time_us=time_us, destinations=tuple(to))
        return await self._log.begin(intent), intent, seen

    def _time_us(self, seen: Seen, flight: Flight) -> int:
        """The time of a write that follows what was seen, and those under way that have theirs."""
        flight.newest_us = max(seen.known.next_us(self.origin.now_us()), flight.newest_us + 1)
        return flight.newest_us

    async def _take_back(self, opening: asyncio.Future[int], intent: Intent) -> None:
        """End an intent, if there comes to be one, whose write was not made."""
        number = None
        try:
            with suppress(UnloggedError):
                number = await opening
        finally:
            if number is None:
                self._ended(intent.bucket, intent.key)
        if number is not None:
            await self._drop(number, intent)

    async def _made(self, intent: Intent, number: int, flight: Flight, seen: Seen, send: Send) -> Response:
        bucket, key = intent.bucket, intent.key
        try:
            response = await send(intent.time_us)
        except BaseException as error:
            sure = isinstance(error, UpstreamError) and error.retry_safe
            self._spawn(self._drop(number, intent) if sure else self._end_later(number, intent))
            raise
        if response.status >= 500:
            self._spawn(self._end_later(number, intent))
            return response
        if response.status >= 300:
            self._spawn(self._drop(number, intent))
            return response
        try:
            stamp = await self._mark(intent, seen.known, response)
            flight.note(response.headers.get("x-amz-version-id"), stamp)
            if flight.crowded:
                await self.origin.put_right(bucket, key, flight.landed)
        except (AwsError, UpstreamError, UnloggedError) as error:
            # It is written and in the log; what is missing, `recover` does.
            log.warning("a write is ended later", bucket=bucket, key=key, error=str(error))
            self._spawn(self._end_later(number, intent))
            return response
        except BaseException:  # the client has gone
            self._spawn(self._end_later(number, intent))
            raise
        self._spawn(self._end(number, intent))
        if intent.destinations:
            response.headers.set(LOGGED_HEADER, f"{number};{','.join(intent.destinations)}")
        return response

    async def _mark(self, intent: Intent, known: Known, response: Response) -> Stamp | None:
        """Keep what the object cannot hold. The stamp of the version that was made."""
        bucket, key, region = intent.bucket, intent.key, self.origin.region
        if intent.operation == "marker":
            stamp = Stamp(intent.time_us, region, "")
            layer = response.headers.get("x-amz-version-id") or ""
            mark = Mark(
                time_us=intent.time_us, region=region, deleted=True, version=version_of(stamp, key), layer=layer
            )
            await self.origin.keep(bucket, key, mark)
            return stamp
        if intent.operation == "amend":
            if known.stamp is not None and known.etag is not None:
                await self.origin.keep(bucket, key, mark_of(known, amended=(intent.time_us, region)))
            return None
        etag = bare(response.headers.get("etag"))
        if intent.completes:
            etag = etag or (await self.origin.look(bucket, key)).known.etag or ""
            await self.origin.keep(bucket, key, Mark(time_us=intent.time_us, region=region, etag=etag))
        return Stamp(intent.time_us, region, etag)

    async def put_right(self, bucket: str, key: str, flight: Flight) -> None:
        """After a version came from elsewhere while others wrote: see to it that the newest is on top.

        Whoever copied meanwhile may have seen the wrong one, so what is put right is owed anew.
        """
        opened: list[tuple[int, Intent]] = []

        async def before() -> None:
            if not opened:
                to = self.may_concern(bucket, key, "put", None, Known())
                now_us = self.origin.now_us()
                intent = Intent(
                    bucket=bucket, key=key, operation="put", time_us=now_us, written_us=now_us, destinations=tuple(to)
                )  # fmt: skip
                opened.append((await self._log.begin(intent), intent))
                self._ending[(bucket, key)] += 1

        try:
            await self.origin.put_right(bucket, key, flight.landed, before)
        finally:
            for number, intent in opened:
                self._spawn(self._end(number, intent))

    async def recover(self) -> int:
        """End the intents that an earlier process has left. How many there were."""
        left = await self._log.open()
        for number, intent in left:
            self._ending[(intent.bucket, intent.key)] += 1
            self._spawn(self._end_later(number, intent, wait_s=0.0))
        return len(left)

    async def _end_later(self, number: int, intent: Intent, wait_s: float = UNSURE_S) -> None:
        """End an intent of which it is not known what became."""
        await self._sleep(wait_s)
        while True:
            try:
                await self._find_out(intent)
                break
            except (AwsError, UpstreamError, UnloggedError) as error:
                if isinstance(error, AwsError) and error.code in ("NoSuchBucket", "NoSuchKey"):
                    break
                log.warning("an intent is still open", bucket=intent.bucket, key=intent.key, error=str(error))
                await self._sleep(AGAIN_S)
        await self._end(number, intent)

    async def _find_out(self, intent: Intent) -> None:
        """Put down what the store does not say of a write that was, perhaps, made."""
        bucket, key, region = intent.bucket, intent.key, self.origin.region
        known = (await self.origin.look(bucket, key)).known
        newer = known.stamp is not None and known.stamp.time_us >= intent.time_us
        if intent.operation == "marker" and known.etag is None and not newer:
            stamp = Stamp(intent.time_us, region, "")
            mark = Mark(time_us=intent.time_us, region=region, deleted=True, version=version_of(stamp, key))
            await self.origin.keep(bucket, key, mark)
        elif intent.completes and known.etag is not None and known.role == "upload" and not newer:
            mark = Mark(time_us=intent.time_us, region=region, etag=known.etag)
            await self.origin.keep(bucket, key, mark)
        elif intent.operation == "amend" and known.etag is not None and not newer:
            happened = sorted(await self.origin.tags(bucket, key)) == sorted(intent.tags)
            if happened and known.amended < (intent.time_us, region):
                await self.origin.keep(bucket, key, mark_of(known, amended=(intent.time_us, region)))
        await self.origin.put_right(bucket, key, {})

    async def _end(self, number: int, intent: Intent) -> None:
        to: Sequence[str] = intent.destinations
        try:
            while True:
                try:
                    if intent.operation != "marker" and any(rule.tags for rule in self._kept.rules(intent.bucket)):
                        to = await self._by_tags(intent)
                    entries = [
                        Entry(
                            bucket=intent.bucket, destination=destination, key=intent.key, operation=intent.operation,
                            written_us=intent.written_us, size=intent.size,
                        )
                        for destination in to
                    ]  # fmt: skip
                    await self._log.end(number, entries)
                    return
                except (UnloggedError, UpstreamError) as error:
                    log.debug("an intent is not ended yet", error=str(error))
                    await self._sleep(AGAIN_S)
        finally:
            self._ended(intent.bucket, intent.key)

    async def _by_tags(self, intent: Intent) -> list[str]:
        """Where the object goes by the tags that it has."""
        tags: list[tuple[str, str]] = []
        with suppress(AwsError):
            tags = await self.origin.tags(intent.bucket, intent.key)
        rules = self._kept.rules(intent.bucket)
        found = destinations(rules, key=intent.key, tags=tags, change=intent.operation, is_replica=False)
        return [name for name in found if name in intent.destinations]

    async def _drop(self, number: int, intent: Intent) -> None:
        """The store has refused the write."""
        try:
            while True:
                try:
                    await self._log.end(number, [])
                    return
                except UnloggedError:
                    await self._sleep(AGAIN_S)
        finally:
            self._ended(intent.bucket, intent.key)

    def _ended(self, bucket: str, key: str) -> None:
        self._ending[(bucket, key)] -= 1
        if self._ending[(bucket, key)] <= 0:
            del self._ending[(bucket, key)]


def _without_tags(rule: Rule) -> Rule:
    return Rule(
        id=rule.id, priority=rule.priority, destination=rule.destination, prefix=rule.prefix, tags=(),
        delete_markers=rule.delete_markers, replica_modifications=rule.replica_modifications,
    )  # fmt: skip
