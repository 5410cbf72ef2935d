"""What happens when the cache can't answer: ask for everybody who waits, keep what may be kept, pass on the rest.

`lead` is one request to the origin on behalf of all (its landing says what the others may have of it); `pass_on` is a
request that goes to the origin as it is, for one viewer alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from nearpoint.edge.answers import passed_fields, result_word
from nearpoint.edge.bounds import Bounds
from nearpoint.edge.collapse import Filling, Flight, Landing, Private, Stored
from nearpoint.edge.deception import is_deceptive
from nearpoint.edge.deliver import PartsOf
from nearpoint.edge.entry import Entry
from nearpoint.edge.errors import error_page
from nearpoint.edge.headers import refreshed_headers
from nearpoint.edge.keep import Keeper, Reply
from nearpoint.edge.key import Key, key_cookies
from nearpoint.edge.metrics import EdgeMetrics
from nearpoint.edge.notices import Notices
from nearpoint.edge.origin import Arrived, OriginAsker
from nearpoint.edge.partfill import PartError, PartFiller
from nearpoint.edge.parts import aligned_range, range_field, read_content_range
from nearpoint.edge.storable import Keep, Verdict, Why, decide
from nearpoint.edge.tiers import Tiers
from nearpoint.edge.unkept import Unkept
from nearpoint.edge.visit import ERROR, GENERATED, HIT, MISS, Answer, Trouble, Visit, answer_of
from nearpoint.wire.message import Body, Headers

log = structlog.get_logger("nearpoint.edge")

TROUBLE_EVERY_S = 1.0  # how often the log says that an origin fails
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class Transfer:
    """The origin side of one edge."""

    def __init__(
        self,
        *,
        asker: OriginAsker,
        tiers: Tiers,
        bounds: Bounds,
        clock: Callable[[], float],
        via: str,
        metrics: EdgeMetrics,
    ) -> None:
        self.asker = asker
        self.flights: dict[Key, Flight] = {}
        self._tiers = tiers
        self._bounds = bounds
        self._clock = clock
        self._via = via
        self._unkept = Unkept(metrics, clock)
        self._notices = Notices(TROUBLE_EVERY_S, clock)
        self._remembered: dict[Key, tuple[Why, float]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._filler = PartFiller(tiers, self.spawn)
        self._keeper = Keeper(tiers=tiers, bounds=bounds, spawn=self.spawn, filler=self._filler)

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
            landing = await self._fly(visit, forwarded, entry, flight)
            if isinstance(landing, Stored):
                if landing.why is not None:
                    self._unkept.note(visit, landing.why)
            elif isinstance(landing, Private):
                self._remember(visit.key, landing.why)
                self._unkept.note(visit, landing.why)
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

    def _filled(self, visit: Visit, flight: Flight, why: Why | None) -> None:
        """What a flight has brought is in the cache, or is not."""
        if why is not None:
            self._unkept.note(visit, why)
            if why is not Why.INCOMPLETE:
                self._remember(visit.key, why)
        self._end(visit.key, flight)

    async def _fly(self, visit: Visit, forwarded: Headers, entry: Entry | None, flight: Flight) -> Landing:
        headers, ranged = forwarded, False
        wanted: tuple[int, int | None] | None = None
        if entry is not None:
            headers = _with_validators(forwarded, entry)
        elif (wanted := wanted_range(visit)) is not None:
            # What a range needs is asked for, not all; what comes is kept in parts.
            headers, ranged = forwarded.copy(), True
            headers.set("Range", range_field(*wanted))
        requested_at = self._clock()
        arrived = await self.asker.ask(
            visit, headers, method="GET" if visit.request.method == "HEAD" else None, storing=True
        )
        if isinstance(arrived, Trouble):
            return arrived
        received_at = self._clock()
        visit.origin_s = received_at - requested_at
        response = arrived.response
        status, source = response.status, response.headers
        part: tuple[int, int, int] | None = None
        if entry is not None:
            if status >= 500 and may_be_stale(entry, received_at, unreachable=False):
                await response.body.close()
                return Trouble(status=status, result=ERROR, reason="origin-error", unreachable=False)
            if status == 304:
                await response.body.close()
                status, source = entry.status, Headers(refreshed_headers(list(entry.headers()), list(source)))
        elif ranged and status == 206:
            part = read_content_range(source.get("content-range"))
            if part is None or wanted is None or part[0] != wanted[0]:
                await response.body.close()
                return Trouble(status=502, result=ERROR, reason="origin-range", unreachable=False)
            status, source = 200, source.copy()
            source.remove("content-range")
        reply = Reply(
            visit=visit,
            forwarded=forwarded,
            response=response,
            status=status,
            fields=passed_fields(visit, source, received_at=received_at, via=self._via),
            # What the shield had from the origin earlier is not newer for having come by it.
            requested_at=requested_at if arrived.requested_at is None else min(requested_at, arrived.requested_at),
            received_at=received_at,
            result=GENERATED if arrived.generated else HIT if arrived.hit else MISS,
            how=f"fwd={'uri-miss' if entry is None else 'stale'}; fwd-status={response.status}"
            + ("; detail=shield-hit" if arrived.hit else ""),
            part=part,
        )
        verdict = _verdict(visit, status, source, arrived, requested_at, received_at)
        if entry is not None and response.status == 304:
            return self._keeper.refreshed(reply, entry, verdict, self.parts_of(visit, forwarded, entry))
        if part is not None and isinstance(verdict, Keep) and same_body(source) is None:
            verdict = Why.PARTIAL
        if isinstance(verdict, Keep):
            return await self._keeper.keep(reply, verdict, partial(self._filled, visit, flight))
        if entry is not None and status < 500:
            self._tiers.drop(entry)
        return self._keeper.private(reply, verdict)

    def parts_of(self, visit: Visit, forwarded: Headers, entry: Entry) -> PartsOf:
        """How a visit reads an entry whose body is in parts; what is missing is asked of the origin."""

        async def ask(first: int, last: int) -> Body:
            validator = same_body(entry.headers())
            if validator is None:
                raise PartError("no-validator", changed=True)
            headers = forwarded.copy()
            headers.set("Range", range_field(first, last))
            headers.set("If-Range", validator)
            arrived = await self.asker.ask(visit, headers, method="GET", storing=True)
            if isinstance(arrived, Trouble):
                raise PartError(arrived.reason)
            response = arrived.response
            stated = read_content_range(response.headers.get("content-range"))
            if (
                response.status != 206
                or stated != (first, last, len(entry.body))
                or same_body(response.headers) not in (validator, None)
            ):
                await response.body.close()
                if response.status < 500:
                    self._tiers.drop(entry)
                raise PartError("origin-changed", changed=response.status < 500)
            return response.body

        return lambda first, length: self._filler.body(entry, first, length, ask)

    # --- for one alone

    async def pass_on(self, visit: Visit, why: Why, *, remembered: bool = False) -> Answer:
        """Go to the origin with the request as it is, conditions, range and body included; nothing is stored."""
        request = visit.request
        requested_at = self._clock()
        arrived = await self.asker.ask(visit, self.asker.forwarded(visit, storing=False), storing=False)
        forward = "method" if why is Why.METHOD else "bypass"
        if isinstance(arrived, Trouble):
            return self.trouble(visit, arrived, forward)
        response = arrived.response
        received_at = self._clock()
        visit.origin_s = received_at - requested_at
        self._unkept.note(visit, why)
        if remembered and request.method == "GET":
            verdict = _verdict(visit, response.status, response.headers, arrived, requested_at, received_at)
            if isinstance(verdict, Keep) and (response.body.length or 0) <= self._bounds.object_bytes_max:
                self._remembered.pop(visit.key, None)
        elif request.method not in SAFE_METHODS and visit.distribution.standalone and 200 <= response.status < 400:
            self._tiers.drop_key(visit.key, received_at)  # RFC 9111 §4.4
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
        unsaid = self._notices.due((visit.behavior.origin.domain, trouble.reason))
        if unsaid is not None:
            log.warning(
                "no answer from the origin" if trouble.unreachable else "function failed",
                request_id=visit.request_id,
                origin=visit.behavior.origin.domain,
                status=trouble.status,
                reason=trouble.reason,
                text=trouble.text,
                others_before=unsaid,
            )
        page = error_page(trouble.status, visit.request_id)
        answer = answer_of(page, result=trouble.result, note=f"fwd={forward}; detail={trouble.reason}", via=self._via)
        answer.trouble = trouble
        return answer


def may_be_stale(entry: Entry, now: float, *, unreachable: bool) -> bool:
    """Whether an expired entry may stand in for an origin that fails (RFC 9111 §4.2.4, RFC 5861 §4)."""
    return now < entry.stale_if_error_until or (unreachable and entry.stale_when_unreachable)


def wanted_range(visit: Visit) -> tuple[int, int | None] | None:
    """What to ask the origin for in the stead of a viewer's range; None: for all of it."""
    request = visit.request
    sent = request.headers.by_name()
    if "range" not in sent or request.method != "GET" or "if-range" in sent:
        return None
    return aligned_range(sent["range"][0])


def same_body(headers: Headers) -> str | None:
    """What two answers with the same body share: a strong ETag, or else when it was modified (RFC 9110 §13.1.5)."""
    etag = headers.get("etag")
    if etag is not None:
        return etag if etag.startswith('"') else None
    return headers.get("last-modified")


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
        shield_s=arrived.fresh_s,
        strips_cookies=not visit.behavior.origin_fields.passes_cookies,
        deceptive=not visit.distribution.standalone
        and is_deceptive(
            visit.path,
            content_type=headers.get("content-type") or "",
            forwarded=arrived.forwarded,
            keyed_cookies=key_cookies(visit.key),
        ),
    )
