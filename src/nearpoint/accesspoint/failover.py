"""Sends a call to one region after the other until one has answered, and brings the answer back.

A read goes on to the next region whatever went wrong before the client saw a byte, and a download that breaks in the
middle goes on from another region. A write goes on only where the region before cannot have acted on it, or where
doing it twice is the same as once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import structlog

from nearpoint.accesspoint.call import Call
from nearpoint.accesspoint.fleet import Fleet
from nearpoint.accesspoint.health import Outcome, State
from nearpoint.accesspoint.prober import OUTCOMES
from nearpoint.accesspoint.resume import Download, download_of, fits, resume_headers, resume_query
from nearpoint.accesspoint.routes import Route
from nearpoint.accesspoint.uploads import UPLOAD_XML_BYTES_MAX, query_for_store, xml_for_client
from nearpoint.awsproto.errors import AwsError
from nearpoint.regions.forward import forward
from nearpoint.regions.payload import Payload
from nearpoint.regions.store import Store
from nearpoint.wire.client import Timeouts, UpstreamError
from nearpoint.wire.message import BytesBody, Request, Response, StreamBody, read_all

log = structlog.get_logger("nearpoint.accesspoint")

SERVER_ERRORS = frozenset({500, 502, 503, 504})
# A store that says so has not acted on the request (S3 API Reference, SlowDown and ServiceUnavailable).
NOT_ACTED_ON = 503
CONNECT_S = 1.0
# While there is another region to ask, a read waits for the first byte no longer than this.
FIRST_BYTE_S_MIN = 0.4
FIRST_BYTE_S_MAX = 1.0
# A repeatable write waits longer, since the store syncs its disk; the last one to be asked may take its time.
REPEATABLE_WRITE_S = 5.0
PATIENT_S = 30.0
# A store that has not answered `Expect: 100-continue` by then gets the body all the same (RFC 9110 §10.1.1), unless
# its region has been found dead in the meantime.
CONTINUE_S = 1.5
_PATIENT = Timeouts(connect_s=CONNECT_S, read_s=PATIENT_S, continue_s=CONTINUE_S)
# A download that stands still for so long goes on elsewhere, so one bound serves for its first byte and all others.
_BRISK = Timeouts(connect_s=CONNECT_S, read_s=FIRST_BYTE_S_MAX, continue_s=CONTINUE_S)
REGION_HEADER = "x-nearpoint-region"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """A request that may go to a store. `copy_bucket` names the bucket of a copy's source in a region."""

    request: Request
    call: Call
    payload: Payload
    copy_bucket: Callable[[str], str] | None = None


def may_go_on(call: Call, *, sendable: bool, retry_safe: bool) -> bool:
    """Whether a call that failed in one region may be sent to the next.

    `sendable`: its body can be sent (again); `retry_safe`: the region cannot have acted on it.
    """
    return sendable and (call.is_read or retry_safe or call.repeatable)


def first_byte_s(call: Call, rtt_ms_p50: float | None) -> float:
    """How long a region that is not the last one has for the first byte of its answer."""
    if call.is_read:
        usual_s = FIRST_BYTE_S_MAX if rtt_ms_p50 is None else 0.25 + 4 * rtt_ms_p50 / 1000
        return min(FIRST_BYTE_S_MAX, max(FIRST_BYTE_S_MIN, usual_s))
    return REPEATABLE_WRITE_S if call.repeatable else PATIENT_S


class Failover:
    """Carries calls to the stores and tells the fleet what became of them."""

    def __init__(self, fleet: Fleet, stores: dict[str, Store], *, clock_s: Callable[[], float]) -> None:
        self._fleet = fleet
        self._stores = stores
        self._clock_s = clock_s

    async def send(self, incoming: Incoming, routes: Sequence[Route]) -> Response:
        """The answer of the first region that gives one. Raises AwsError: ServiceUnavailable when none does."""
        call, payload = incoming.call, incoming.payload
        routes = [route for route in routes if route.region in self._stores]
        for at, route in enumerate(routes):
            is_last = at == len(routes) - 1
            started_s = self._clock_s()
            try:
                if call.is_download and not is_last:
                    response = await self._ask(incoming, route, _BRISK)
                elif is_last or not payload.kept:
                    response = await self._ask(incoming, route, _PATIENT)
                else:
                    response = await self._ask_briefly(incoming, route)
            except UpstreamError as error:
                self._observe(route, OUTCOMES[error.reason])
                if is_last or not may_go_on(call, sendable=payload.sendable, retry_safe=error.retry_safe):
                    break
                continue
            if response.status not in SERVER_ERRORS:
                self._observe(route, Outcome.OK)
                return await self._finish(incoming, route, routes, response, self._clock_s() - started_s)
            self._observe(route, Outcome.SERVER_ERROR)
            not_acted_on = response.status == NOT_ACTED_ON
            if is_last or not may_go_on(call, sendable=payload.sendable, retry_safe=not_acted_on):
                return await self._finish(incoming, route, routes, response, self._clock_s() - started_s)
            await response.body.close()
        raise AwsError("ServiceUnavailable", headers={"Retry-After": "1"})

    async def _ask_briefly(self, incoming: Incoming, route: Route) -> Response:
        """As `_ask`, for a body in memory, while there is another region to ask."""
        wait_s = first_byte_s(incoming.call, self._fleet.rtt_ms_p50(route.region))
        try:
            async with asyncio.timeout(wait_s) as limit:
                return await self._ask(incoming, route, _PATIENT)
        except TimeoutError:
            if not limit.expired():
                raise
            raise UpstreamError("timeout", f"no answer from {route.region} in {wait_s:.2f} s") from None

    async def _ask(self, incoming: Incoming, route: Route, timeouts: Timeouts) -> Response:
        call, request = incoming.call, incoming.request
        query = query_for_store(request.query) if call.upload_region is not None else request.query
        copy_source: Callable[[str], str] | None = None
        if call.copy_source is not None and incoming.copy_bucket is not None:
            value = call.copy_source.header(incoming.copy_bucket(route.region))
            copy_source = lambda _: value  # noqa: E731

        def before_body() -> None:
            if self._fleet.states[route.region] is State.EJECTED:
                raise UpstreamError("timeout", f"{route.region} did not ask for the body", retry_safe=True)

        return await forward(
            request,
            incoming.payload,
            self._stores[route.region],
            bucket=route.bucket,
            key=call.key,
            query=query,
            copy_source=copy_source,
            before_body=before_body,
            timeouts=timeouts,
        )

    async def _finish(
        self, incoming: Incoming, route: Route, routes: Sequence[Route], response: Response, took_s: float
    ) -> Response:
        if incoming.call.holds_upload_ids and response.status == 200:
            document = await read_all(response.body, UPLOAD_XML_BYTES_MAX)
            response.headers.remove("content-length")
            response = Response(response.status, response.headers, xml_for_client(document, route.region))
        elif incoming.call.is_download and not isinstance(response.body, BytesBody):
            download = download_of(response.status, response.headers)
            if download is not None:
                response.body = self._whole(incoming, route, routes, response, download)
        response.headers.set(REGION_HEADER, route.region)
        response.headers.add("Server-Timing", f'store;dur={took_s * 1000:.1f};desc="{route.region}"')
        return response

    def _whole(
        self, incoming: Incoming, route: Route, routes: Sequence[Route], response: Response, download: Download
    ) -> StreamBody:
        """The body of a download, carried on by the other regions, then by the first again, when it breaks off."""
        parts = _Parts(response)

        async def chunks() -> AsyncIterator[bytes]:
            sent = 0
            left = [*(other for other in routes if other is not route), route]
            at = route
            while True:
                try:
                    async for piece in parts.current.body:
                        sent += len(piece)
                        yield piece
                except UpstreamError as error:
                    self._observe(at, OUTCOMES[error.reason])
                    await parts.current.body.close()
                    found = await self._rest(incoming, left, download, sent)
                    if found is None:
                        raise
                    at, parts.current = found
                    left.remove(at)
                    log.info("download goes on", region=at.region, after_bytes=sent)
                else:
                    return

        return StreamBody(chunks(), download.length, parts.close)

    async def _rest(
        self, incoming: Incoming, routes: Sequence[Route], download: Download, sent: int
    ) -> tuple[Route, Response] | None:
        request = incoming.request
        rest = Request(request.method, request.path, resume_headers(request.headers, download, sent))
        ordered = sorted(routes, key=lambda route: self._fleet.states[route.region] is State.EJECTED)
        for route in ordered:
            try:
                response = await forward(
                    rest,
                    incoming.payload,
                    self._stores[route.region],
                    bucket=route.bucket,
                    key=incoming.call.key,
                    query=resume_query(request.query),
                    timeouts=_PATIENT if route is ordered[-1] else _BRISK,
                )
            except UpstreamError as error:
                self._observe(route, OUTCOMES[error.reason])
                continue
            if fits(download, sent, response.status, response.headers):
                return route, response
            await response.body.close()
        return None

    def _observe(self, route: Route, outcome: Outcome) -> None:
        if self._fleet.observe(route.region, outcome, self._clock_s()):
            log.info(
                "region health",
                region=route.region,
                health=self._fleet.states[route.region].value,
                saw=outcome.value,
            )


class _Parts:
    """The answer that a download is being read from at the moment."""

    __slots__ = ("current",)

    def __init__(self, response: Response) -> None:
        self.current = Response(response.status, response.headers, response.body)

    async def close(self) -> None:
        await self.current.body.close()
