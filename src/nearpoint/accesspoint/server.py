"""One location's access point. Read this first: a request's way, from top to bottom of `AccessPointNode._answer`.

1. who asks: the signature is verified before anything else (`authorize`)
2. which access point: the Host or path names it (`routes`)
3. what is asked: the S3 call, its key and its action (`call`)
4. may they: identity and access point policy (`authorize`)
5. where: the active healthy regions, nearest first (`choose`), or the one region of a multipart upload (`uploads`)
6. there and back: `failover` sends it to one region after the other and brings the answer back

A presigned request that was seen before (`known`) skips what cannot have changed since.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from nearpoint.accesspoint.affinity import PREFER_HEADER, prefer
from nearpoint.accesspoint.attempt import Incoming
from nearpoint.accesspoint.authorize import Access, Caller, Permissions, View, authenticate, check_region_set
from nearpoint.accesspoint.bulk_delete import XML_BYTES_MAX, Wanted, check_digests, headers_for, read_bulk_delete
from nearpoint.accesspoint.call import Call, check_head, read_call
from nearpoint.accesspoint.choose import Choice, Chosen, NoActiveRegion, choose
from nearpoint.accesspoint.copying import CopyPlan
from nearpoint.accesspoint.documents import bytes_max, read_document
from nearpoint.accesspoint.failover import NO_REGION, REGION_HEADER, Failover
from nearpoint.accesspoint.fleet import Fleet
from nearpoint.accesspoint.known import Known, KnownCallers
from nearpoint.accesspoint.limits import able, needs, needs_of_bulk_delete, protect
from nearpoint.accesspoint.newest import CONSISTENCY_HEADER, Behind, Newest, NothingBehind, Order, is_strong
from nearpoint.accesspoint.prober import Prober
from nearpoint.accesspoint.public_access import refuse_public_acl, refuse_public_grants
from nearpoint.accesspoint.routes import Address, Route, RouteTable, address_of
from nearpoint.awsproto import xml
from nearpoint.awsproto.errors import AwsError
from nearpoint.awsproto.service import load_service
from nearpoint.regions.hoisted import unhoisted
from nearpoint.regions.payload import Payload, payload_of
from nearpoint.regions.refusals import refusal_of_body
from nearpoint.regions.replay import SpoolSpace
from nearpoint.regions.store import Store
from nearpoint.state.resources import Snapshot
from nearpoint.wire.exchange import RequestBodyError
from nearpoint.wire.message import BodyTooLargeError, Headers, Request, Response, read_all

log = structlog.get_logger("nearpoint.accesspoint")

# A body up to this size is read and checked before it is sent, and can be sent again elsewhere.
KEEP_BYTES_MAX = 65_536

# A location that has not been asked for so long is idle.
IDLE_AFTER_S = 30.0


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _new_request_id() -> str:
    return secrets.token_hex(8).upper()


class AccessPointNode:
    """The access points of a world as one location serves them. `handle` is an Exchange; `run` keeps it informed."""

    def __init__(
        self,
        location: str,
        snapshot: Callable[[], Snapshot],
        stores: Mapping[str, Store],
        *,
        clock: Callable[[], datetime] = _utc_now,
        clock_s: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        new_request_id: Callable[[], str] = _new_request_id,
        find_address: Callable[[str, str], Address | None] = address_of,
        space: SpoolSpace | None = None,
        behind: Behind | None = None,
    ) -> None:
        """`stores` are reached from this location, by region. `clock` is wall time, `clock_s` monotonic seconds.

        `find_address` says which access point a Host and path name, where there are more names than AWS's.
        `space` bounds what is kept on disk of uploads under way; the nodes of a process share one. `behind` knows
        which keys are on their way to which bucket.
        """
        self.location = location
        self._snapshot = snapshot
        self._stores = dict(stores)
        self._clock = clock
        self._draw = draw
        self._new_request_id = new_request_id
        self._find_address = find_address
        self._s3 = load_service("s3")
        self.fleet = Fleet(self._stores)
        self._clock_s = clock_s
        self._asked_at_s = -IDLE_AFTER_S
        self._prober = Prober(self.fleet, self._stores, clock_s=clock_s, draw=draw, is_idle=self._is_idle)
        self._behind = behind or NothingBehind()
        self._newest = Newest(self.fleet, self._stores, self._behind)
        self._failover = Failover(
            self.fleet, self._stores, clock_s=clock_s, space=space or SpoolSpace(), behind=self._behind
        )
        self._known = KnownCallers()
        self._view = View(snapshot())
        self._choices: dict[str, tuple[int, RouteTable, Choice]] = {}

    @property
    def is_measured(self) -> bool:
        """True once every region has been measured or found unreachable: from then on choices rest on facts."""
        return self.fleet.is_measured

    async def run(self) -> None:
        """Measure the regions until cancelled."""
        await self._prober.run()

    async def handle(self, request: Request) -> Response:
        """Answer one request. What goes wrong is answered in S3's own terms; never raises but for a client gone.

        Every answer says which region gave it, and what it took. What no region was asked for says so, too.
        """
        asked_at_s = self._asked_at_s = self._clock_s()
        try:
            response = await self._answer(request)
        except Exception as error:
            response = self._refused(error)
        if "x-amz-request-id" not in response.headers:
            response.headers.add("x-amz-request-id", self._new_request_id())
        if REGION_HEADER not in response.headers:
            response.headers.add(REGION_HEADER, NO_REGION)
            took_ms = (self._clock_s() - asked_at_s) * 1000
            response.headers.add("Server-Timing", f'accesspoint;dur={took_ms:.1f};desc="{self.location}"')
        return response

    def _refused(self, error: Exception) -> Response:
        request_id = self._new_request_id()
        if isinstance(error, (RequestBodyError, BodyTooLargeError)):
            error = refusal_of_body(error)
        elif not isinstance(error, AwsError):
            log.error("request failed", request_id=request_id, location=self.location, exc_info=error)
            error = AwsError("InternalError")
        elif error.status >= 500:
            log.warning("request failed", request_id=request_id, code=error.code, location=self.location)
        return self._s3.error(error, request_id)

    def _is_idle(self) -> bool:
        return self._clock_s() - self._asked_at_s > IDLE_AFTER_S

    async def _answer(self, request: Request) -> Response:
        now = self._clock()
        view = self._current_view()
        has_query = "?" in request.target
        known = self._known.find(request, view.snapshot, now) if has_query else None
        if known is not None:
            caller = known.caller
        else:
            caller = authenticate(request, view.identity, now)
            if has_query:
                signed, request = request, unhoisted(request)
                if request is signed:
                    known = self._known.remember(request, caller, view.snapshot)
        table, call = self._asked(request, view, caller, known)
        payload = payload_of(request.body, request.headers, caller.verified)
        document: xml.Node | None = None
        if call.document is not None:
            await payload.keep(bytes_max(call.document))
            document = await _read(payload, call.document)
        permissions = Permissions(view, request, caller, table, now, document)
        if not call.is_bulk_delete:
            permissions.check_access_point(call.access)
        routes = self._routes(table, call, request)
        consistency = request.headers.get(CONSISTENCY_HEADER)
        strong = consistency is not None and is_strong(call, consistency)
        if strong:
            routes = self._members(table, routes)
        limits = view.limits(table)
        if limits is not None:
            routes = able(routes, needs(call, request), limits)
            protect(call, request, payload, routes, limits)
        if call.is_bulk_delete:
            return await self._delete_objects(request, call, payload, permissions, table, routes)
        permissions.check_bucket(call.access, routes[0].bucket)
        if permissions.matter and len(routes) > 1:
            routes = (routes[0], *(one for one in routes[1:] if permissions.may_ask(call.access, one.bucket)))
        if not call.is_read:
            bucket = routes[0].bucket
            refuse_public_acl(request, lambda setting: view.blocks(bucket, table, setting))
            refuse_public_grants(document, lambda setting: view.blocks(bucket, table, setting))
            if not payload.kept:
                await payload.keep(KEEP_BYTES_MAX)
        copy = None if call.copy_source is None else self._copy_plan(view, permissions, call, table)
        if copy is not None and copy.source.alias is not None and table.read_fallback and self._behind.any():
            copy = await self._newest_source(copy, routes[0].region)
        if call.upload_region is not None:
            known = None
        order: Order | None = None
        first = routes[0]
        if strong:
            order = await self._newest.order(call.key or "", routes)
            routes = order.routes
        elif call.may_be_elsewhere and table.read_fallback and self._behind.any():
            routes = await self._newest.pending(call.key or "", routes)
        incoming = Incoming(
            request=request,
            call=call,
            payload=payload,
            table=table,
            copy=copy,
            known=known,
            limits=limits,
            by_version=strong or routes[0] is not first,
        )
        response = await self._failover.send(incoming, routes)
        if order is not None:
            response.headers.set(CONSISTENCY_HEADER, order.said(response.headers.get(REGION_HEADER)))
        return response

    def _asked(self, request: Request, view: View, caller: Caller, known: Known | None) -> tuple[RouteTable, Call]:
        """The access point that is asked, and for what. Raises AwsError."""
        if known is not None and known.table is not None and known.call is not None:
            table = view.table(known.table.alias)
            if table is known.table:
                return table, known.call
        address = self._find_address(request.host, request.path)
        found = None if address is None else view.table(address.alias)
        if address is None or found is None:
            raise AwsError("NoSuchAccessPoint")
        check_region_set(caller.claim, found)
        check_head(request.headers, found.account_id)
        call = read_call(request.method, address.path, request.query, request.headers, found.regions)
        if known is not None:
            known.table, known.call = found, call
        return found, call

    def _current_view(self) -> View:
        snapshot = self._snapshot()
        if snapshot is not self._view.snapshot:
            self._view = self._view.after(snapshot)
        return self._view

    def _routes(self, table: RouteTable, call: Call, request: Request) -> tuple[Route, ...]:
        """Where the call can go, in order. Raises AwsError when there is nowhere."""
        if call.upload_region is not None:
            route = table.route(call.upload_region)
            if route is None:
                raise AwsError("NoSuchUpload")
            return (route,)
        choice = self.choice(table)
        if isinstance(choice, NoActiveRegion):
            raise AwsError("ServiceUnavailable", "No Region of this access point is active")
        wanted = request.headers.get(PREFER_HEADER) if table.affinity else None
        return choice.order if wanted is None else prefer(choice.order, wanted, self.fleet.states)

    async def _newest_source(self, plan: CopyPlan, region: str) -> CopyPlan:
        """The plan, with the one source that has the newest version where the one in `region` is behind."""
        if region not in plan.buckets or plan.source.version_query:
            return plan
        own = Route(region=region, bucket=plan.buckets[region])
        others = [Route(region=each, bucket=bucket) for each, bucket in plan.buckets.items() if each != region]
        newest = (await self._newest.pending(plan.source.key, (own, *others)))[0]
        return plan if newest is own else replace(plan, buckets={newest.region: newest.bucket})

    def _members(self, table: RouteTable, routes: Sequence[Route]) -> tuple[Route, ...]:
        """Every region of the access point, the active ones in their order, then those that are dialled down."""
        return (*routes, *(one for one in table.routes if one not in routes and one.region in self._stores))

    def choice(self, table: RouteTable) -> Choice:
        """The regions of an access point in the order this location asks them, now."""
        kept = self._choices.get(table.alias)
        if kept is not None and kept[0] == self.fleet.epoch and kept[1] is table:
            return kept[2]
        choice = choose(table.routes, self.fleet.states, self.fleet.order, self._draw())
        if all(route.dial_percent in (0, 100) for route in table.routes):
            self._choices[table.alias] = (self.fleet.epoch, table, choice)
        return choice

    async def _delete_objects(
        self,
        request: Request,
        call: Call,
        payload: Payload,
        permissions: Permissions,
        table: RouteTable,
        routes: tuple[Route, ...],
    ) -> Response:
        """Every key of a DeleteObjects needs the permission by itself."""
        await payload.keep(XML_BYTES_MAX)
        data = payload.data
        if data is None:
            raise AwsError("MissingContentLength" if payload.length is None else "MaxMessageLengthExceeded")

        def may_delete(wanted: Wanted, bucket: str = routes[0].bucket) -> bool:
            access = Access(
                action="s3:DeleteObject" if wanted.version_id is None else "s3:DeleteObjectVersion", key=wanted.key
            )
            return permissions.may_ask_access_point(access) and permissions.may_ask(access, bucket)

        wanted = read_bulk_delete(data, may_delete)
        limits = self._view.limits(table)
        if limits is not None:
            routes = able(routes, needs_of_bulk_delete(wanted), limits)
        if wanted.denied:
            check_digests(request.headers, data)
            if not wanted.allowed:
                headers = Headers([("Content-Type", "application/xml")])
                return Response(200, headers, wanted.answer(b""))
            document = wanted.document()
            payload.replace(document)
            request = Request(request.method, request.target, headers_for(request.headers, document))
        if permissions.matter:
            others = (one for one in routes[1:] if all(may_delete(each, one.bucket) for each in wanted.allowed))
            routes = (routes[0], *others)
        keys = tuple(one.key for one in wanted.allowed if one.version_id is None)
        incoming = Incoming(request=request, call=call, payload=payload, table=table, bulk_keys=keys)
        response = await self._failover.send(incoming, routes)
        if wanted.denied and response.status == 200:
            answer = wanted.answer(await read_all(response.body, XML_BYTES_MAX))
            response.headers.remove("content-length")
            response = Response(200, response.headers, answer)
        return response

    def _copy_plan(self, view: View, permissions: Permissions, call: Call, table: RouteTable) -> CopyPlan:
        """Where the source of a copy is. Raises AwsError when it may not be read."""
        source = call.copy_source
        assert source is not None
        access = Access(action="s3:GetObjectVersion" if source.version_query else "s3:GetObject", key=source.key)
        if source.alias is not None:
            of_source = view.table(source.alias)
            if of_source is None:
                raise AwsError("NoSuchAccessPoint")
            permissions = permissions.at(of_source)
            permissions.check_access_point(access)
            order = self.choice(of_source)
            routes = order.order if isinstance(order, Chosen) else ()
            buckets = {route.region: route.bucket for route in (*routes, *of_source.routes)}
        else:
            assert source.bucket is not None
            permissions.check_bucket(access, source.bucket)
            known = view.snapshot.buckets.get(source.bucket)
            # A bucket that is not in the registry is looked for where the request goes.
            where = [route.region for route in table.routes] if known is None else [known.region]
            buckets = dict.fromkeys(where, source.bucket)
        return CopyPlan(
            source=source,
            target_key=call.key or "",
            buckets=buckets,
            stores=self._stores,
            allowed=lambda bucket: permissions.check_bucket(access, bucket),
            clock=self._clock,
            s3=self._s3,
        )

    def report(self) -> dict[str, Any]:
        """What this location measures and would choose: for `nearpoint routes` and the console. Plain values."""
        regions = {one.region: one for one in self.fleet.report()}
        view = self._current_view()
        access_points: dict[str, Any] = {}
        for alias in sorted(view.snapshot.access_points):
            table = view.table(alias)
            if table is None:
                continue
            choice = self.choice(table)
            chosen = choice.order[0].region if isinstance(choice, Chosen) else None
            access_points[alias] = {
                "name": view.snapshot.access_points[alias].name,
                "settings": {
                    "read_fallback": table.read_fallback,
                    "hedge_reads": table.hedge_reads,
                    "affinity": table.affinity,
                },
                "chosen": chosen,
                "routes": [
                    {
                        "region": route.region,
                        "bucket": route.bucket,
                        "dial_percent": route.dial_percent,
                        "rtt_ms": self.fleet.rtt_ms_p50(route.region),
                        "health": regions[route.region].health if route.region in regions else "no store",
                        "chosen": route.region == chosen,
                        "reason": "nearest" if route.region == chosen else choice.rejected.get(route.region, ""),
                    }
                    for route in table.routes
                ],
            }
        return {
            "location": self.location,
            "regions": {
                one.region: {
                    "rtt_ms": one.rtt_ms_p50,
                    "health": one.health,
                    "reason": one.reason,
                    "samples": one.samples,
                }
                for one in regions.values()
            },
            "access_points": access_points,
        }


async def _read(payload: Payload, root: str) -> xml.Node | None:
    """The document that has been kept; a long one is read beside what else there is to do."""
    data, has_length = payload.data, payload.length is not None
    if data is None or len(data) <= KEEP_BYTES_MAX:
        return read_document(data, root, has_length=has_length)
    return await asyncio.to_thread(read_document, data, root, has_length=has_length)
