"""One attempt: a call goes to one region, with as much patience as there are other regions to ask.

A read that has elsewhere to go waits for its first byte only briefly; a write waits longer, but not for a region that
has been found dead in the meantime.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from msgspec import Struct

from nearpoint.accesspoint.authorize import Limits
from nearpoint.accesspoint.call import Call
from nearpoint.accesspoint.copying import CopyPlan
from nearpoint.accesspoint.fleet import Fleet
from nearpoint.accesspoint.health import State
from nearpoint.accesspoint.known import Known
from nearpoint.accesspoint.routes import Route, RouteTable
from nearpoint.accesspoint.uploads import query_for_store
from nearpoint.regions.forward import forward, outgoing
from nearpoint.regions.payload import Payload
from nearpoint.regions.store import Store
from nearpoint.wire.client import Timeouts, UpstreamError
from nearpoint.wire.message import Request, Response

CONNECT_S = 1.0
# While there is another region to ask, a read waits for the first byte no longer than this.
FIRST_BYTE_S_MIN = 0.4
FIRST_BYTE_S_MAX = 1.0
# A repeatable write waits longer, since the store syncs its disk; the last one to be asked may take its time.
REPEATABLE_WRITE_S = 5.0
PATIENT_S = 30.0
# The last one to be asked, when it has been found dead: there may be life in it after all.
DEAD_S = 2.0
# A write looks this often whether its region has been found dead, and gives it at least so long.
WATCH_S = 0.2
# A store that has not answered `Expect: 100-continue` by then gets the body all the same (RFC 9110 §10.1.1), unless
# its region has been found dead in the meantime.
CONTINUE_S = 1.5
PATIENT = Timeouts(connect_s=CONNECT_S, read_s=PATIENT_S, continue_s=CONTINUE_S)
# A download that stands still for so long goes on elsewhere, so one bound serves for its first byte and all others.
BRISK = Timeouts(connect_s=CONNECT_S, read_s=FIRST_BYTE_S_MAX, continue_s=CONTINUE_S)
# A signature is good for 15 minutes (S3 API Reference, RequestTimeTooSkewed).
PREPARED_S = 60.0
PREPARED_BYTES_MAX = 4_096  # of header fields; what has more is made anew every time


class Incoming(Struct, frozen=True, kw_only=True):
    """A request that may go to a store. `copy` says where its source is; `known` remembers it for the next time;
    `limits` is what some of the stores would do wrong. `by_version`: the regions are to be asked in the order of what
    they have, and no other is quicker."""

    request: Request
    call: Call
    payload: Payload
    table: RouteTable
    copy: CopyPlan | None = None
    known: Known | None = None
    bulk_keys: tuple[str, ...] = ()
    by_version: bool = False
    limits: Limits | None = None


def first_byte_s(rtt_ms_p50: float | None) -> float:
    """How long a region that is not the last one has for the first byte of its answer to a read."""
    usual_s = FIRST_BYTE_S_MAX if rtt_ms_p50 is None else 0.25 + 4 * rtt_ms_p50 / 1000
    return min(FIRST_BYTE_S_MAX, max(FIRST_BYTE_S_MIN, usual_s))


@lru_cache(maxsize=64)
def _head_within(tenths_s: int) -> Timeouts:
    return Timeouts(connect_s=CONNECT_S, read_s=PATIENT_S, continue_s=CONTINUE_S, head_s=tenths_s / 10)


class Attempts:
    """Asks regions."""

    def __init__(self, fleet: Fleet, stores: Mapping[str, Store], *, clock_s: Callable[[], float]) -> None:
        self._fleet = fleet
        self._stores = stores
        self._clock_s = clock_s

    async def ask(self, incoming: Incoming, route: Route, *, is_last: bool) -> Response:
        """The region's answer. Raises UpstreamError, and AwsError for a request that proved wrong on the way."""
        call = incoming.call
        if not call.is_read and (incoming.payload.kept or (call.repeatable and not is_last)):
            return await self._send_watched(incoming, route, is_last=is_last)
        if is_last or not call.is_read:
            is_dead = self._fleet.states[route.region] is State.EJECTED
            return await self._send(incoming, route, _head_within(round(DEAD_S * 10)) if is_dead else PATIENT)
        if call.is_download:
            return await self._send(incoming, route, BRISK)
        wait_s = first_byte_s(self._fleet.rtt_ms_p50(route.region))
        return await self._send(incoming, route, _head_within(round(wait_s * 10)))

    async def rest(self, incoming: Incoming, request: Request, query: str, route: Route, *, is_last: bool) -> Response:
        """The answer to `request`, which asks for the rest of a download. Raises UpstreamError."""
        return await forward(
            request,
            incoming.payload,
            self._stores[route.region],
            bucket=route.bucket,
            key=incoming.call.key,
            query=query,
            timeouts=PATIENT if is_last else BRISK,
        )

    def living_first(self, routes: Sequence[Route]) -> list[Route]:
        """The routes in their order, those to regions that have been found dead last."""
        return sorted(routes, key=lambda route: self._fleet.states[route.region] is State.EJECTED)

    async def _send_watched(self, incoming: Incoming, route: Route, *, is_last: bool) -> Response:
        """A write, left when its region is found dead; one that can be repeated elsewhere, too, when it takes long."""
        started_s = self._clock_s()
        elsewhere = incoming.call.repeatable and not is_last
        limit_s = REPEATABLE_WRITE_S if elsewhere and incoming.payload.kept else float("inf")
        dead_s = WATCH_S if elsewhere else DEAD_S
        task = asyncio.ensure_future(self._send(incoming, route, PATIENT))
        try:
            while True:
                await asyncio.wait({task}, timeout=WATCH_S)
                if task.done():
                    return task.result()
                waited_s = self._clock_s() - started_s
                is_dead = self._fleet.states[route.region] is State.EJECTED
                if waited_s >= limit_s or (is_dead and waited_s >= dead_s and incoming.payload.sendable):
                    raise UpstreamError("timeout", f"no answer from {route.region} in {waited_s:.2f} s")
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})  # so that nobody reads the body any more when it goes elsewhere
                if not task.cancelled() and task.exception() is None:
                    await task.result().body.close()

    async def _send(self, incoming: Incoming, route: Route, timeouts: Timeouts) -> Response:
        call, request, store = incoming.call, incoming.request, self._stores[route.region]
        if incoming.known is not None:
            return await store.send_signed(self._prepared(incoming, incoming.known, route, store), timeouts)
        query = query_for_store(request.query) if call.upload_region is not None else request.query
        if incoming.copy is not None and incoming.copy.is_across(route.region):
            return await incoming.copy.carry(request, store, route.bucket, query)
        copy_source = None if incoming.copy is None else incoming.copy.header(route.region)

        def before_body() -> None:
            if self._fleet.states[route.region] is State.EJECTED:
                raise UpstreamError("timeout", f"{route.region} did not ask for the body", retry_safe=True)

        return await forward(
            request,
            incoming.payload,
            store,
            bucket=route.bucket,
            key=call.key,
            query=query,
            copy_source=copy_source,
            before_body=before_body,
            timeouts=timeouts,
        )

    def _prepared(self, incoming: Incoming, known: Known, route: Route, store: Store) -> Request:
        """The store's request for one that has been seen before: the same one again, if it is young enough."""
        now_s = self._clock_s()
        fields = list(incoming.request.headers)
        kept = known.prepared.get(route.region)
        if kept is not None and kept[1] > now_s and kept[0] == fields and kept[2] == route.bucket:
            return kept[3]
        made = outgoing(incoming.request, incoming.payload, store, bucket=route.bucket, key=incoming.call.key)
        if sum(len(name) + len(value) for name, value in fields) <= PREPARED_BYTES_MAX:
            known.prepared[route.region] = (fields, now_s + PREPARED_S, route.bucket, made)
        return made
