"""What happens when the cache can't answer: ask for everybody who waits, keep what may be kept, pass on the rest.

`lead` is one request to the origin on behalf of all (its landing says what the others may have of it); `pass_on` is a
request that goes to the origin as it is, for one viewer alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any

import structlog

from nearpoint.edge.answers import Fields, passed_fields, result_word
from nearpoint.edge.blob import Blob
from nearpoint.edge.bounds import Bounds
from nearpoint.edge.cache import MemoryCache
from nearpoint.edge.collapse import Filling, Flight, Landing, Private, Stored, Trouble
from nearpoint.edge.compress import Coding, choose_coding, compressed, compressing, encoded_fields
from nearpoint.edge.deliver import from_entry, part_of, shaped
from nearpoint.edge.entry import Entry, encode_fields
from nearpoint.edge.errors import error_page
from nearpoint.edge.fill import Fill, FillMemory
from nearpoint.edge.headers import refreshed_headers
from nearpoint.edge.key import Key
from nearpoint.edge.origin import Arrived, OriginAsker
from nearpoint.edge.storable import Keep, Verdict, Why, decide
from nearpoint.edge.visit import ERROR, GENERATED, MISS, REFRESH_HIT, Answer, Visit, answer_of, variant_of
from nearpoint.wire.message import Headers, Response, read_all
from nearpoint.wire.ranges import Span, content_range

log = structlog.get_logger("nearpoint.edge")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """An origin's answer as it came, with what it will be called."""

    visit: Visit
    forwarded: Headers
    response: Response
    status: int
    fields: Fields
    requested_at: float
    received_at: float
    result: str
    how: str  # Cache-Status, so far


class Transfer:
    """The origin side of one edge."""

    def __init__(
        self, *, asker: OriginAsker, cache: MemoryCache, bounds: Bounds, clock: Callable[[], float], via: str
    ) -> None:
        self.asker = asker
        self.flights: dict[Key, Flight] = {}
        self._cache = cache
        self._bounds = bounds
        self._clock = clock
        self._via = via
        self._remembered: dict[Key, tuple[Why, float]] = {}
        self._fill_memory = FillMemory(bounds.fill_bytes_max)
        self._tasks: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run something in the background, until `close`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Stop what runs in the background."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- what is not kept is remembered, so that nobody waits in line for it

    def remembers(self, key: Key, now: float) -> Why | None:
        """Why the answers of this key were not kept lately, if they were not."""
        found = self._remembered.get(key)
        if found is None:
            return None
        if now >= found[1]:
            del self._remembered[key]
            return None
        return found[0]

    def forget_remembered(self) -> None:
        """Behaviors have changed: what was not kept may be kept now."""
        self._remembered.clear()

    def _remember(self, key: Key, why: Why) -> None:
        if len(self._remembered) >= self._bounds.remembered_max:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[key] = (why, self._clock() + self._bounds.remember_s)

    # --- for everybody

    async def lead(self, visit: Visit, forwarded: Headers, entry: Entry | None) -> Landing:
        """Ask the origin for everybody who waits for the visit's key; `entry` is what is stored and stale.

        HEAD asks with GET: what comes is kept for both.
        When the leader is cancelled its flight lands with nothing, and one of those who waited leads.
        """
        flight = self.flights[visit.key] = Flight(self._clock())
        landing: Landing | None = None
        try:
            landing = await self._fly(visit, forwarded, entry)
            if isinstance(landing, Private):
                self._remember(visit.key, landing.why)
            elif isinstance(landing, Trouble) and entry is not None:
                entry.retry_at = self._clock() + self._bounds.stale_retry_s
            return landing
        finally:
            flight.land(landing)
            if not isinstance(landing, Filling):
                self._end(visit.key, flight)

    def _end(self, key: Key, flight: Flight) -> None:
        if self.flights.get(key) is flight:
            del self.flights[key]

    async def _fly(self, visit: Visit, forwarded: Headers, entry: Entry | None) -> Landing:
        headers = forwarded if entry is None else _with_validators(forwarded, entry)
        requested_at = self._clock()
        arrived = await self.asker.ask(visit, headers, method="GET" if visit.request.method == "HEAD" else None)
        if isinstance(arrived, Trouble):
            return arrived
        received_at = self._clock()
        visit.origin_s = received_at - requested_at
        response = arrived.response
        status, source = response.status, response.headers
        if entry is not None:
            if status >= 500 and may_be_stale(entry, received_at, unreachable=False):
                await response.body.close()
                return Trouble(status=status, result=ERROR, reason="origin-error", unreachable=False)
            if status == 304:
                await response.body.close()
                status, source = entry.status, Headers(refreshed_headers(list(entry.headers()), list(source)))
        reply = _Reply(
            visit=visit,
            forwarded=forwarded,
            response=response,
            status=status,
            fields=passed_fields(visit, source, received_at=received_at, via=self._via),
            requested_at=requested_at,
            received_at=received_at,
            result=GENERATED if arrived.generated else MISS,
            how=f"fwd={'uri-miss' if entry is None else 'stale'}; fwd-status={response.status}",
        )
        verdict = _verdict(visit, status, source, arrived, requested_at, received_at)
        if entry is not None and response.status == 304:
            return self._refreshed(reply, entry, verdict)
        if isinstance(verdict, Keep):
            return await self._keep(reply, verdict)
        if entry is not None and status < 500:
            self._cache.drop(entry)
        return self._private(reply, verdict)

    def _refreshed(self, reply: _Reply, entry: Entry, verdict: Verdict) -> Landing:
        """The origin says that what is stored is still right (RFC 9111 §4.3.4)."""
        if isinstance(verdict, Keep):
            renewed = self._entry(reply, verdict, entry.body)
            self._cache.put(renewed)
            return Stored(entry=renewed, result=REFRESH_HIT, note=f"{reply.how}; stored")
        self._cache.drop(entry)
        note = f"{reply.how}; detail={verdict.value}"
        answer = from_entry(reply.visit.request, entry, now=reply.received_at, result=REFRESH_HIT, note=note)
        return Private(answer=answer, why=verdict)

    async def _keep(self, reply: _Reply, verdict: Keep) -> Landing:
        """Take the body in: before the answer begins when it is small, while it is read otherwise."""
        body = reply.response.body
        length = body.length
        if length is not None and length > self._bounds.object_bytes_max:
            return self._private(reply, Why.TOO_LARGE)
        if length is None and not body.delimited:
            # Only the end of the connection would end it, so whether it is whole can't be known.
            return self._private(reply, Why.INCOMPLETE)
        coding = _coding(reply, length)
        if coding is not None:
            reply = replace(reply, fields=encoded_fields(reply.fields, coding))
        if length is not None and length <= self._bounds.read_whole_bytes_max:
            try:
                data = await read_all(body, length)
            except asyncio.CancelledError:
                await body.close()
                raise
            except Exception as error:
                log.warning("origin broke off", origin=reply.visit.behavior.origin.domain, error=repr(error))
                return Trouble(status=502, result=ERROR, reason="origin-lost", unreachable=True)
            if len(data) != length:
                return Trouble(status=502, result=ERROR, reason="origin-lost", unreachable=True)
            entry = self._entry(reply, verdict, data if coding is None else compressed(data, coding))
            stored = self._cache.put(entry)
            return Stored(entry=entry, result=reply.result, note=f"{reply.how}; stored" if stored else reply.how)
        body = body if coding is None else compressing(body, coding)
        fill = Fill(body, limit_bytes=self._bounds.object_bytes_max, memory=self._fill_memory)
        flight = self.flights[reply.visit.key]

        async def store() -> None:
            try:
                data = await fill.run()
                if data is not None:
                    self._cache.put(self._entry(reply, verdict, data))
                elif not fill.whole:
                    self._remember(reply.visit.key, Why.TOO_LARGE)
            finally:
                self._end(reply.visit.key, flight)

        self.spawn(store())
        return Filling(
            status=reply.status,
            fields=reply.fields,
            fill=fill,
            freshness=verdict.freshness,
            variance=verdict.variance,
            variant=variant_of(verdict.variance, reply.forwarded),
            result=reply.result,
            note=f"{reply.how}; stored",
        )

    def _private(self, reply: _Reply, why: Why) -> Private:
        """The answer is for the one who asked, under the conditions that were kept from the origin."""
        request, body = reply.visit.request, reply.response.body
        answer = shaped(request, reply.status, Headers(reply.fields), body.length)
        if isinstance(answer, Answer):
            self.spawn(body.close())
        elif isinstance(answer, Span):
            fields = [*reply.fields, ("Content-Range", content_range(answer, body.length))]
            answer = Answer(status=206, fields=fields, body=part_of(body, answer))
        else:
            answer = Answer(status=reply.status, fields=reply.fields)
            if request.method == "HEAD":
                answer.content_length = body.length
                self.spawn(body.close())
            else:
                answer.body = body
        answer.result = result_word(reply.visit, answer.status, reply.result)
        answer.status_note = f"{reply.how}; detail={why.value}"
        return Private(answer=answer, why=why)

    def _entry(self, reply: _Reply, verdict: Keep, body: bytes | Blob) -> Entry:
        return Entry(
            key=reply.visit.key,
            variance=verdict.variance,
            variant=variant_of(verdict.variance, reply.forwarded),
            status=reply.status,
            fields=encode_fields(reply.fields),
            body=Blob.held(body) if isinstance(body, bytes) else body,
            freshness=verdict.freshness,
            requested_at=reply.requested_at,
            received_at=reply.received_at,
        )

    # --- for one alone

    async def pass_on(self, visit: Visit, why: Why, *, remembered: bool = False) -> Answer:
        """Go to the origin with the request as it is, conditions, range and body included; nothing is stored."""
        request = visit.request
        requested_at = self._clock()
        arrived = await self.asker.ask(visit, self.asker.forwarded(visit, storing=False))
        forward = "method" if why is Why.METHOD else "bypass"
        if isinstance(arrived, Trouble):
            return self.trouble(visit, arrived, forward)
        response = arrived.response
        received_at = self._clock()
        visit.origin_s = received_at - requested_at
        if remembered and request.method == "GET":
            verdict = _verdict(visit, response.status, response.headers, arrived, requested_at, received_at)
            if isinstance(verdict, Keep) and (response.body.length or 0) <= self._bounds.object_bytes_max:
                self._remembered.pop(visit.key, None)
        elif request.method not in SAFE_METHODS and visit.distribution.standalone and 200 <= response.status < 400:
            self._cache.drop_key(visit.key)  # RFC 9111 §4.4
        answer = Answer(
            status=response.status,
            fields=passed_fields(visit, response.headers, received_at=received_at, via=self._via),
            body=response.body,
            result=result_word(visit, response.status, GENERATED if arrived.generated else MISS),
            status_note=f"fwd={forward}; fwd-status={response.status}; detail={why.value}",
        )
        if request.method == "HEAD" or response.status == 304:
            length = response.headers.get("content-length")
            answer.content_length = int(length) if length is not None and length.isdecimal() else None
        return answer

    def trouble(self, visit: Visit, trouble: Trouble, forward: str) -> Answer:
        """The page for an origin or a function that failed."""
        log.warning(
            "no answer from the origin" if trouble.unreachable else "function failed",
            request_id=visit.request_id,
            origin=visit.behavior.origin.domain,
            status=trouble.status,
            reason=trouble.reason,
            text=trouble.text,
        )
        page = error_page(trouble.status, visit.request_id)
        return answer_of(page, result=trouble.result, note=f"fwd={forward}; detail={trouble.reason}", via=self._via)


def may_be_stale(entry: Entry, now: float, *, unreachable: bool) -> bool:
    """Whether an expired entry may stand in for an origin that fails (RFC 9111 §4.2.4, RFC 5861 §4)."""
    return now < entry.stale_if_error_until or (unreachable and entry.stale_when_unreachable)


def _coding(reply: _Reply, length: int | None) -> Coding | None:
    visit, source = reply.visit, reply.response.headers
    if visit.distribution.standalone:
        return None
    return choose_coding(visit.behavior, visit.request.headers, status=reply.status, headers=source, length=length)


def _with_validators(forwarded: Headers, entry: Entry) -> Headers:
    headers = forwarded.copy()
    stored = entry.headers()
    for name, validator in (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified")):
        value = stored.get(validator)
        if value is not None:
            headers.set(name, value)
    return headers


def _verdict(visit: Visit, status: int, headers: Headers, arrived: Arrived, *times: float) -> Verdict:
    return decide(
        status=status,
        headers=headers,
        policy=visit.behavior.cache,
        errors=visit.distribution.errors,
        authorized=arrived.authorized,
        requested_at=times[0],
        received_at=times[1],
    )
