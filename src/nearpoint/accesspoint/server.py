"""One location's access point. Read this first: a request's way, from top to bottom of `AccessPointNode._answer`.

1. who asks: the signature is verified before anything else (`authorize`)
2. which access point: the Host or path names it (`routes`)
3. what is asked: the S3 call, its key and its action (`call`)
4. may they: identity and access point policy (`authorize`)
5. where: the active healthy regions, nearest first (`choose`), or the one region of a multipart upload (`uploads`)
6. there and back: `failover` sends it to one region after the other and brings the answer back
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog

from nearpoint.accesspoint.authorize import Access, Permissions, View, authenticate, check_region_set
from nearpoint.accesspoint.call import Call, read_call
from nearpoint.accesspoint.choose import Choice, Chosen, NoActiveRegion, choose
from nearpoint.accesspoint.copying import CopySource
from nearpoint.accesspoint.failover import Failover, Incoming
from nearpoint.accesspoint.fleet import Fleet
from nearpoint.accesspoint.known import KnownCallers
from nearpoint.accesspoint.prober import Prober
from nearpoint.accesspoint.routes import Address, Route, RouteTable, address_of
from nearpoint.awsproto import xml
from nearpoint.awsproto.errors import AwsError
from nearpoint.awsproto.service import load_service
from nearpoint.regions.payload import Payload, payload_of
from nearpoint.regions.store import Store
from nearpoint.state.resources import Snapshot
from nearpoint.wire.message import Request, Response

log = structlog.get_logger("nearpoint.accesspoint")

# A body up to this size is read and checked before it is sent, and can be sent again elsewhere.
KEEP_BYTES_MAX = 65_536
# 1,000 keys of 1,024 bytes, escaped (S3 API Reference, DeleteObjects).
DELETE_XML_BYTES_MAX = 8 * 1024 * 1024

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
    ) -> None:
        """`stores` are reached from this location, by region. `clock` is wall time, `clock_s` monotonic seconds.

        `find_address` says which access point a Host and path name, where there are more names than AWS's.
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
        self._failover = Failover(self.fleet, self._stores, clock_s=clock_s)
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
        """Answer one request. What goes wrong is answered in S3's own terms; never raises but for a client gone."""
        self._asked_at_s = self._clock_s()
        request_id = self._new_request_id()
        try:
            response = await self._answer(request)
        except AwsError as error:
            if error.status >= 500:
                log.warning("request failed", request_id=request_id, code=error.code, location=self.location)
            response = self._s3.error(error, request_id)
        if "x-amz-request-id" not in response.headers:
            response.headers.add("x-amz-request-id", request_id)
        return response

    def _is_idle(self) -> bool:
        return self._clock_s() - self._asked_at_s > IDLE_AFTER_S

    async def _answer(self, request: Request) -> Response:
        now = self._clock()
        view = self._current_view()
        caller = self._known.find(request, view.snapshot, now) if request.query else None
        if caller is None:
            caller = authenticate(request, view.snapshot, now)
            if request.query:
                self._known.remember(request, caller, view.snapshot)
        address = self._find_address(request.host, request.path)
        table = None if address is None else view.table(address.alias)
        if address is None or table is None:
            raise AwsError("NoSuchAccessPoint")
        check_region_set(caller.claim, table)
        call = read_call(request.method, address.path, request.query, request.headers, table.regions)
        payload = payload_of(request.body, request.headers, caller.verified)
        permissions = Permissions(view, request, caller, table, now)
        permissions.check_access_point(call.access)
        routes = self._routes(table, call)
        permissions.check_bucket(call.access, routes[0].bucket)
        if call.is_bulk_delete:
            await self._check_keys(payload, permissions, routes[0])
        copy_bucket = None
        if call.copy_source is not None:
            copy_bucket = self._copy_bucket(view, permissions, call.copy_source, table)
        await payload.keep(KEEP_BYTES_MAX)
        incoming = Incoming(request=request, call=call, payload=payload, copy_bucket=copy_bucket)
        return await self._failover.send(incoming, routes)

    def _current_view(self) -> View:
        snapshot = self._snapshot()
        if snapshot is not self._view.snapshot:
            self._view = self._view.after(snapshot)
        return self._view

    def _routes(self, table: RouteTable, call: Call) -> tuple[Route, ...]:
        """Where the call can go, in order. Raises AwsError when there is nowhere."""
        if call.upload_region is not None:
            route = table.route(call.upload_region)
            if route is None:
                raise AwsError("NoSuchUpload")
            return (route,)
        choice = self.choice(table)
        if isinstance(choice, NoActiveRegion):
            raise AwsError("ServiceUnavailable", "No Region of this access point is active")
        return choice.order

    def choice(self, table: RouteTable) -> Choice:
        """The regions of an access point in the order this location asks them, now."""
        kept = self._choices.get(table.alias)
        if kept is not None and kept[0] == self.fleet.epoch and kept[1] is table:
            return kept[2]
        choice = choose(table.routes, self.fleet.states, self.fleet.order, self._draw())
        if all(route.dial_percent in (0, 100) for route in table.routes):
            self._choices[table.alias] = (self.fleet.epoch, table, choice)
        return choice

    async def _check_keys(self, payload: Payload, permissions: Permissions, route: Route) -> None:
        """Every key of a DeleteObjects needs the permission by itself."""
        if not permissions.matter:
            return
        await payload.keep(DELETE_XML_BYTES_MAX)
        if payload.data is None:
            raise AwsError("MissingContentLength" if payload.length is None else "MaxMessageLengthExceeded")
        try:
            root = xml.parse(payload.data, bytes_max=DELETE_XML_BYTES_MAX)
        except xml.XmlError:
            raise AwsError("MalformedXML") from None
        for item in root.children:
            key = item.child("Key") if item.tag == "Object" else None
            if key is None:
                continue
            action = "s3:DeleteObject" if item.child("VersionId") is None else "s3:DeleteObjectVersion"
            access = Access(action=action, key=key.text)
            permissions.check_access_point(access)
            permissions.check_bucket(access, route.bucket)

    def _copy_bucket(
        self, view: View, permissions: Permissions, source: CopySource, table: RouteTable
    ) -> Callable[[str], str]:
        """Which bucket of a region holds the source of a copy. Raises AwsError when it may not be read."""
        action = "s3:GetObjectVersion" if source.version_query else "s3:GetObject"
        access = Access(action=action, key=source.key)
        if source.alias is not None:
            of_source = view.table(source.alias)
            if of_source is None:
                raise AwsError("NoSuchAccessPoint")
            permissions = permissions.at(of_source)
            permissions.check_access_point(access)
            for route in of_source.routes:
                permissions.check_bucket(access, route.bucket)
            buckets = {route.region: route.bucket for route in of_source.routes}
        else:
            assert source.bucket is not None
            permissions.check_bucket(access, source.bucket)
            known = view.snapshot.buckets.get(source.bucket)
            where = [route.region for route in table.routes] if known is None else [known.region]
            buckets = dict.fromkeys(where, source.bucket)

        def bucket_in(region: str) -> str:
            bucket = buckets.get(region)
            if bucket is None:
                raise AwsError("NotImplemented", "The source of a copy must be in the Region that serves the request")
            return bucket

        return bucket_in

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
