"""Sends a call to one region after the other until one has answered, and brings the answer back.

A read goes on to the next region whatever went wrong before the client saw a byte, and a download that breaks in the
middle goes on from another region. A write goes on only where the region before cannot have acted on it, or where
doing it twice is the same as once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from nearpoint.accesspoint.attempt import Attempts, Incoming
from nearpoint.accesspoint.call import Call
from nearpoint.accesspoint.download import carried_on
from nearpoint.accesspoint.fallback import DELETED_S, FALLBACK_HEADER, Lookout, is_deleted
from nearpoint.accesspoint.fleet import Fleet
from nearpoint.accesspoint.health import Outcome, State
from nearpoint.accesspoint.hedging import Budget, SlowMark, race
from nearpoint.accesspoint.limits import mend
from nearpoint.accesspoint.newest import Behind
from nearpoint.accesspoint.prober import OUTCOMES
from nearpoint.accesspoint.resume import download_of
from nearpoint.accesspoint.routes import Route
from nearpoint.accesspoint.uploads import UPLOAD_XML_BYTES_MAX, completed_for_client, xml_for_client
from nearpoint.awsproto.errors import AwsError
from nearpoint.regions.replay import SpoolSpace
from nearpoint.regions.store import Store
from nearpoint.regions.version import LOGGED_HEADER
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.message import BytesBody, Response, StreamBody, read_all

log = structlog.get_logger("nearpoint.accesspoint")

SERVER_ERRORS = frozenset({500, 502, 503, 504})
# A store that says so has not acted on the request (S3 API Reference, SlowDown and ServiceUnavailable).
NOT_ACTED_ON = 503
REGION_HEADER = "x-nearpoint-region"
# Of an answer that no store gave: refused here, or none answered. No region is called so.
NO_REGION = "none"


def may_go_on(call: Call, *, sendable: bool, retry_safe: bool) -> bool:
    """Whether a call that failed in one region may be sent to the next.

    `sendable`: its body can be sent (again); `retry_safe`: the region cannot have acted on it.
    """
    return sendable and (call.is_read or retry_safe or call.repeatable)


class Failover:
    """Carries calls to the stores and tells the fleet what became of them."""

    def __init__(
        self, fleet: Fleet, stores: dict[str, Store], *, clock_s: Callable[[], float], space: SpoolSpace, behind: Behind
    ) -> None:
        """`space` bounds what is kept of bodies so that they can be sent again; `behind` hears of writes."""
        self._behind = behind
        self._fleet = fleet
        self._stores = stores
        self._clock_s = clock_s
        self._space = space
        self._attempts = Attempts(fleet, stores, clock_s=clock_s)
        self._lookout = Lookout(stores)
        self._budget = Budget()
        self._slow = {region: SlowMark() for region in stores}

    async def send(self, incoming: Incoming, routes: Sequence[Route]) -> Response:
        """The answer of the first region that gives one. Raises AwsError: ServiceUnavailable when none does."""
        routes = [route for route in routes if route.region in self._stores]
        payload = incoming.payload
        if payload.kept:
            return await self._send(incoming, routes)
        if len(routes) > 1:
            payload.record(self._space)
        try:
            return await self._send(incoming, routes)
        finally:
            payload.forget()

    async def _send(self, incoming: Incoming, routes: Sequence[Route]) -> Response:
        call, payload = incoming.call, incoming.payload
        last = len(routes) - 1
        tried: list[str] = []
        for at, route in enumerate(routes):
            started_s = self._clock_s()
            try:
                if at == 0 and last > 0 and incoming.table.hedge_reads and call.is_read and not incoming.by_version:
                    response, route = await self._hedged(incoming, routes[0], routes[1])  # noqa: PLW2901
                else:
                    response = await self._attempts.ask(incoming, route, is_last=at == last)
            except AwsError as error:  # the request proved wrong on the way there, or its copy's source did
                _say(error.headers, route, self._clock_s() - started_s)
                raise
            except UpstreamError as error:
                self._observe(route, OUTCOMES[error.reason])
                tried.append(_timing(route, self._clock_s() - started_s))
                if at == last or not may_go_on(call, sendable=payload.sendable, retry_safe=error.retry_safe):
                    break
                continue
            took_s = self._clock_s() - started_s
            if response.status not in SERVER_ERRORS:
                self._observe(route, Outcome.OK)
                if response.status == 404 and call.may_be_elsewhere and incoming.table.read_fallback:
                    return await self._elsewhere(incoming, route, routes, response, took_s)
                return await self._finish(incoming, route, routes, response, took_s)
            self._observe(route, Outcome.SERVER_ERROR)
            tried.append(_timing(route, took_s))
            not_acted_on = response.status == NOT_ACTED_ON
            if at == last or not may_go_on(call, sendable=payload.sendable, retry_safe=not_acted_on):
                return await self._finish(incoming, route, routes, response, took_s)
            await response.body.close()
        said = {REGION_HEADER: NO_REGION, "Server-Timing": ", ".join(tried)} if tried else {}
        raise AwsError("ServiceUnavailable", headers={"Retry-After": "1", **said})

    async def _hedged(self, incoming: Incoming, first: Route, second: Route) -> tuple[Response, Route]:
        """The answer of the first region, or the second's when that is quicker though asked later."""
        self._budget.earn()
        mark = self._slow[first.region]
        started_s = self._clock_s()
        if mark.p95_s is None or self._fleet.states[second.region] is not State.HEALTHY:
            response = await self._attempts.ask(incoming, first, is_last=False)
            by_second = False
        else:
            response, by_second = await race(
                self._attempts.ask(incoming, first, is_last=False),
                lambda: self._attempts.ask(incoming, second, is_last=False),
                mark.p95_s,
                self._budget,
            )
        if not by_second:
            mark.add(self._clock_s() - started_s)
        return response, second if by_second else first

    async def _elsewhere(
        self, incoming: Incoming, route: Route, routes: Sequence[Route], response: Response, took_s: float
    ) -> Response:
        """The answer of a region that has the key which `route` has not; the 404 where there is none."""
        states, key = self._fleet.states, incoming.call.key
        others = [one for one in routes if one is not route and states[one.region] is State.HEALTHY]
        if key is not None and others and not is_deleted(response):
            started_s = self._clock_s()
            found = await self._lookout.find((incoming.table.alias, key), others, started_s)
            if found is not None:
                try:
                    elsewhere = await self._attempts.ask(incoming, found, is_last=False)
                except UpstreamError as error:
                    self._observe(found, OUTCOMES[error.reason])
                else:
                    if elsewhere.status not in SERVER_ERRORS and elsewhere.status != 404:
                        await response.body.close()
                        elsewhere.headers.set(FALLBACK_HEADER, "1")
                        took_s += self._clock_s() - started_s
                        return await self._finish(incoming, found, routes, elsewhere, took_s)
                    await elsewhere.body.close()
        return await self._finish(incoming, route, routes, response, took_s)

    async def _finish(
        self, incoming: Incoming, route: Route, routes: Sequence[Route], response: Response, took_s: float
    ) -> Response:
        call = incoming.call
        if incoming.limits is not None and route.region in incoming.limits and call.is_read:
            try:
                mend(incoming.request, response, incoming.limits[route.region])
            except AwsError as error:
                await response.body.close()
                _say(error.headers, route, took_s)
                raise
        if call.holds_upload_ids and response.status == 200:
            document = await read_all(response.body, UPLOAD_XML_BYTES_MAX)
            response.headers.remove("content-length")
            response = Response(response.status, response.headers, xml_for_client(document, route.region))
        elif call.is_download and type(response.body) is not BytesBody:
            download = download_of(response.status, response.headers)
            if download is not None:
                others = [other for other in routes if other is not route]
                response.body = carried_on(incoming, route, others, response, download, self._attempts, self._broke_off)
        elif not call.is_read and response.status < 300:
            self._note_write(incoming, route, response)
            if call.is_completion:
                asked = incoming.request
                location = f"{asked.scheme}://{asked.headers.get('host')}{asked.path}"
                response.headers.remove("content-length")
                body = response.body
                response.body = StreamBody(completed_for_client(body, location), on_close=body.close)
        headers = response.headers
        if call.is_bucket_head:
            headers.set("x-amz-access-point-alias", "true")  # S3 API Reference, HeadBucket
        headers.add(REGION_HEADER, route.region)
        headers.add("Server-Timing", _timing(route, took_s))
        return response

    def _note_write(self, incoming: Incoming, route: Route, response: Response) -> None:
        """What this node has written is newest where it was written; what it has deleted it need not look for."""
        call, alias, missing = incoming.call, incoming.table.alias, self._lookout.missing
        logged = response.headers.get(LOGGED_HEADER)
        if logged is not None:
            response.headers.remove(LOGGED_HEADER)
            keys = incoming.bulk_keys if call.key is None else (call.key,)
            self._behind.wrote(route.region, route.bucket, keys, logged)
        if not incoming.table.read_fallback:
            return
        until_s = self._clock_s() + DELETED_S
        for key in incoming.bulk_keys:
            missing.note((alias, key), until_s)
        if call.key is not None and call.action in ("s3:PutObject", "s3:DeleteObject"):
            if call.action == "s3:PutObject":
                missing.forget((alias, call.key))
            else:
                missing.note((alias, call.key), until_s)

    def _broke_off(self, route: Route, error: UpstreamError) -> None:
        self._observe(route, OUTCOMES[error.reason])

    def _observe(self, route: Route, outcome: Outcome) -> None:
        if self._fleet.observe(route.region, outcome, self._clock_s()):
            log.info(
                "region health",
                region=route.region,
                health=self._fleet.states[route.region].value,
                saw=outcome.value,
            )


def _timing(route: Route, took_s: float) -> str:
    """What a region took, as Server-Timing says it (W3C Server Timing, "The Server-Timing Header Field")."""
    return f'store;dur={took_s * 1000:.1f};desc="{route.region}"'


def _say(headers: dict[str, str], route: Route, took_s: float) -> None:
    """Name the region that was asked in an error's header."""
    headers[REGION_HEADER] = route.region
    headers["Server-Timing"] = _timing(route, took_s)
