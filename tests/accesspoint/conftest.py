"""A small world for conversations: two stores over real sockets, an access point in front of them, and clients."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from nearpoint.accesspoint.server import AccessPointNode
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.signing import Credentials, Message, SignatureError, read_claim, sign_v4, sign_v4a, verify
from nearpoint.state.resources import AccessKey, AccessPoint, Bucket, Member, Role, Snapshot
from nearpoint.wire.client import Client, Origin
from nearpoint.wire.message import Body, Headers, Request, Response, StreamBody, read_all
from nearpoint.wire.server import Server

ACCOUNT = "123456789012"
ALIAS = "mfzwi23gnjvgw.mrap"
HOST = f"{ALIAS}.accesspoint.s3-global.amazonaws.com"
ROOT = Credentials("AKIAROOT", "root-secret")
STORE = Credentials("STOREKEY", "store-secret")
SESSION_SECRET = "session-secret"


@dataclass
class FakeStore:
    """One region's store: keeps objects, verifies signatures, and fails as it is told (`behave`)."""

    region: str
    behave: str = "ok"
    lag_s: float = 0.0
    ignores_conditions: bool = False
    mislabels: bool = False
    modified: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    seen: list[Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    marked: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    origin: Origin = field(default_factory=lambda: Origin(host="127.0.0.1", port=1))
    server: Server | None = None

    async def start(self) -> None:
        sock = socket.create_server(("127.0.0.1", self.origin.port if self.server else 0))
        self.origin = Origin(host="127.0.0.1", port=sock.getsockname()[1])
        self.server = Server(self.handle)
        await self.server.start(sock)

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.drain(0.0)

    async def halt(self) -> None:
        """Refuse connections until `resume`."""
        await self.stop()
        self.server = None

    async def resume(self) -> None:
        sock = socket.create_server(("127.0.0.1", self.origin.port))
        self.server = Server(self.handle)
        await self.server.start(sock)

    @property
    def requests(self) -> list[Request]:
        """What came in, without the probes."""
        return [request for request in self.seen if "nearpoint-probe" not in request.target]

    async def handle(self, request: Request) -> Response:
        self.seen.append(request)
        if self.lag_s:
            await asyncio.sleep(self.lag_s)
        if self.behave == "hang":
            await asyncio.sleep(60)
        if self.behave == "swallow" and request.method == "PUT":
            await read_all(request.body, 1 << 26)
            raise ConnectionResetError
        if self.behave == "far away":
            await asyncio.sleep(0.5)
        if self.behave.isdigit():
            return Response(int(self.behave), Headers([("Retry-After", "1")]), b"<Error><Code>Fake</Code></Error>")
        message = Message(request.method, request.path, request.query, list(request.headers))
        claim = read_claim(message)
        assert claim is not None
        try:
            verify(claim, message, STORE.secret_key, now=datetime.now(UTC), region="local", service="s3")
        except SignatureError as error:
            self.refused.append(error.code)
            return Response(403, body=error.text.encode())
        if request.method in ("PUT", "POST"):
            body = await read_all(request.body, 1 << 26)
            self.bodies.append(body)
            if request.query.startswith("uploads"):
                text = f"<R><Bucket>b</Bucket><Key>k</Key><UploadId>own.{self.region}/+id</UploadId></R>"
                return Response(200, Headers([("Content-Type", "application/xml")]), text.encode())
            if request.query.startswith("delete"):
                return Response(200, body=b"<DeleteResult></DeleteResult>")
            if not request.query:
                self.objects[request.path] = body
            return Response(200, Headers([("ETag", f'"{hashlib.md5(body).hexdigest()}"')]))
        data = self.objects.get(request.path)
        if request.path in self.marked:
            return Response(404, Headers([("x-amz-delete-marker", "true")]))
        if data is None:
            return Response(404, body=b"<Error><Code>NoSuchKey</Code></Error>")
        return self._object(request, data)

    def _object(self, request: Request, data: bytes) -> Response:
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        wanted = request.headers.get("if-match")
        if wanted is not None and wanted != etag and not self.ignores_conditions:
            return Response(412)
        headers = Headers([("ETag", etag), ("x-amz-meta-Odd", "caf\xc3\xa9")])
        if self.modified:
            headers.add("Last-Modified", self.modified)
        status, part = 200, data
        asked = request.headers.get("range")
        if asked is not None:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            end = min(int(last), len(data) - 1) if last else len(data) - 1
            part = data[int(first) : end + 1]
            headers.add("Content-Range", f"bytes {first}-{end}/{len(data)}")
            status = 206
            if self.mislabels:
                status = 200
                headers.add("x-amz-checksum-crc32", "AAAAAA==")
        headers.add("Content-Length", str(len(part)))
        if request.method == "HEAD":
            return Response(status, headers)
        if self.behave in ("break", "break once", "stall"):
            behave, self.behave = self.behave, "ok" if self.behave == "break once" else self.behave
            return Response(status, headers, StreamBody(_broken(part, behave), len(part)))
        return Response(status, headers, part)


async def _broken(data: bytes, behave: str) -> AsyncIterator[bytes]:
    yield data[: len(data) // 2]
    await asyncio.sleep(60 if behave == "stall" else 0.05)
    raise ConnectionResetError


Ask = Callable[..., Awaitable[tuple[int, Headers, bytes]]]


class World:
    """Two regions, `near` and `far`, behind one access point. `snapshot` may be replaced at any time."""

    def __init__(self, stores: dict[str, FakeStore]) -> None:
        self.stores = stores
        self.client = Client()
        self.snapshot = Snapshot(
            generation=1,
            account_id=ACCOUNT,
            session_secret=SESSION_SECRET,
            access_keys={
                ROOT.access_key_id: AccessKey(
                    access_key_id=ROOT.access_key_id,
                    secret_key=ROOT.secret_key,
                    principal_arn=f"arn:aws:iam::{ACCOUNT}:root",
                )
            },
            access_points={ALIAS: self.access_point()},
        )
        self.node = AccessPointNode(
            "here",
            lambda: self.snapshot,
            {
                name: Store(
                    StoreSpec(
                        region=name,
                        endpoint="http://s3.local:9000",
                        access_key_id=STORE.access_key_id,
                        secret_key=STORE.secret_key,
                        signing_region="local",
                    ),
                    self.client,
                    clock=lambda: datetime.now(UTC),
                    connect_to=store.origin,
                )
                for name, store in stores.items()
            },
        )
        self.origin = Origin(host="127.0.0.1", port=1)
        self.server = Server(self.node.handle)

    def access_point(self, **dials: int) -> AccessPoint:
        members = (
            Member(bucket="near-bucket", region="near", dial_percent=dials.get("near", 100)),
            Member(bucket="far-bucket", region="far", dial_percent=dials.get("far", 100)),
        )
        return AccessPoint(alias=ALIAS, name="mine", account_id=ACCOUNT, created_at=0.0, members=members)

    def publish(
        self, *access_points: AccessPoint, roles: tuple[Role, ...] = (), buckets: tuple[Bucket, ...] = ()
    ) -> None:
        self.snapshot = Snapshot(
            generation=self.snapshot.generation + 1,
            account_id=ACCOUNT,
            session_secret=SESSION_SECRET,
            access_keys=self.snapshot.access_keys,
            access_points={one.alias: one for one in access_points},
            roles={role.arn: role for role in roles},
            buckets={bucket.name: bucket for bucket in buckets},
        )

    def measured(self, **rtt_ms: float) -> None:
        """Let the node know distances without probing."""
        from nearpoint.accesspoint.health import Outcome

        for region, value in rtt_ms.items():
            self.node.fleet.observe_probe(region, Outcome.OK, value, 0.0)

    async def ask(
        self,
        method: str,
        target: str,
        *,
        headers: list[tuple[str, str]] | None = None,
        body: Body | bytes = b"",
        payload_hash: str | None = None,
        credentials: Credentials = ROOT,
        host: str = HOST,
        v4_region: str | None = None,
        region_set: str = "*",
        now: datetime | None = None,
    ) -> tuple[int, Headers, bytes]:
        """A signed request to the access point, and its answer with the whole body."""
        fields = [("Host", host), *(headers or [])]
        if payload_hash is None:
            payload_hash = hashlib.sha256(body).hexdigest() if isinstance(body, bytes) else "UNSIGNED-PAYLOAD"
        path, _, query = target.partition("?")
        message = Message(method, path, query, fields)
        moment = now or datetime.now(UTC)
        if v4_region is None:
            extra = sign_v4a(message, credentials, region_set=region_set, now=moment, payload_hash=payload_hash)
        else:
            extra = sign_v4(message, credentials, region=v4_region, now=moment, payload_hash=payload_hash)
        return await self.raw(Request(method, target, Headers([*fields, *extra]), body))

    async def raw(self, request: Request) -> tuple[int, Headers, bytes]:
        """A request as it is."""
        response = await self.client.send(request, self.origin)
        return response.status, response.headers, await read_all(response.body, 1 << 27)


@pytest.fixture
async def world(loopback_socket: socket.socket) -> AsyncIterator[World]:
    stores = {name: FakeStore(name) for name in ("near", "far")}
    for store in stores.values():
        await store.start()
    made = World(stores)
    await made.server.start(loopback_socket)
    made.origin = Origin(host="127.0.0.1", port=loopback_socket.getsockname()[1])
    made.measured(near=1.0, far=50.0)
    for name, store in stores.items():
        store.objects[f"/{name}-bucket/hello.txt"] = f"hello from {name}".encode()
    yield made
    await made.client.close()
    await made.server.drain(0.0)
    for store in stores.values():
        await store.stop()
