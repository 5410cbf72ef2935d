"""A world of two regions' embedded stores and the front, served on loopback; boto3 clients that believe it is AWS."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
import urllib3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config

from nearpoint.awsapi.call import Context
from nearpoint.awsapi.front import Front
from nearpoint.bucket.server import StoreServer
from nearpoint.bucket.store import Store as EmbeddedStore
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.signing import Credentials
from nearpoint.stack.services.context import Context as Domain
from nearpoint.state.planner import build
from nearpoint.state.resources import AccessKey, Role, Snapshot
from nearpoint.state.store import MemoryState
from nearpoint.wire.client import Client
from nearpoint.wire.message import Request, Response
from nearpoint.wire.server import Server

ACCOUNT = "123456789012"
REGIONS = ("us-east-1", "eu-west-1")
ROOT = AccessKey(
    access_key_id="AKIAROOTROOTROOTROOT", secret_key="root-secret", principal_arn=f"arn:aws:iam::{ACCOUNT}:root"
)
SECRET = "session-secret"


def utc_now() -> datetime:
    return datetime.now(UTC)


class World:
    """The front on a port, its state, and clients."""

    def __init__(self, packages: Path) -> None:
        self.state = MemoryState()
        self.stores: dict[str, Store] = {}
        self.embedded: dict[str, EmbeddedStore] = {}
        self.servers: list[Server] = []
        self.client_of_stores = Client()
        self.port = 0
        self.published = asyncio.Event()
        self.published.set()
        self.domain = Domain(
            state=self.state, account_id=ACCOUNT, now=time.time, random_bytes=os.urandom, packages_dir=packages
        )
        self.context = Context(
            domain=self.domain, snapshot=self.snapshot, stores=self.stores, published=self._wait_published
        )
        self.front = Front(self.context)
        self._pool: Any = None

    async def _wait_published(self, timeout_s: float) -> bool:
        try:
            await asyncio.wait_for(self.published.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def snapshot(self) -> Snapshot:
        return build(self.state, generation=1, account_id=ACCOUNT, session_secret=SECRET)

    async def serve(self, handler: Callable[[Request], Any]) -> int:
        sock = socket.create_server(("127.0.0.1", 0))
        server = Server(handler)
        await server.start(sock)
        self.servers.append(server)
        return int(sock.getsockname()[1])

    async def start(self, folder: Path) -> None:
        for region in REGIONS:
            store = EmbeddedStore(folder / region, region)
            self.embedded[region] = store
            credentials = Credentials(f"AKIASTORE{region}", f"secret of {region}")
            port = await self.serve(StoreServer(store, credentials, clock=utc_now).handle)
            spec = StoreSpec(
                region=region,
                endpoint=f"http://127.0.0.1:{port}",
                access_key_id=credentials.access_key_id,
                secret_key=credentials.secret_key,
                signing_region=region,
                kind="embedded",
            )
            self.stores[region] = Store(spec, self.client_of_stores, clock=utc_now)
        await self.state.put(ROOT)
        await self.front.start()
        self.port = await self.serve(self.front.handle)
        self._pool = urllib3.HTTPConnectionPool("127.0.0.1", self.port, maxsize=8)

    async def stop(self) -> None:
        await self.front.close()
        await self.client_of_stores.close()
        for server in self.servers:
            await server.drain(1.0)
        for store in self.embedded.values():
            await store.close()
        self._pool.close()

    async def role(self, name: str, *statements: dict[str, Any], trust: dict[str, Any] | None = None) -> Role:
        """A role with these identity policy statements, trusting the account."""
        document = trust or {"Effect": "Allow", "Principal": {"AWS": ACCOUNT}, "Action": "sts:AssumeRole"}
        role = Role(
            name=name,
            role_id=f"AROA{name.upper()}",
            arn=f"arn:aws:iam::{ACCOUNT}:role/{name}",
            created_at=1_700_000_000.25,
            trust={"Version": "2012-10-17", "Statement": [document]},
            inline_policies={"inline": {"Version": "2012-10-17", "Statement": list(statements)}} if statements else {},
            managed_policy_arns=("arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",),
            tags={"team": "edge"},
        )
        await self.state.put(role)
        return role

    def client(
        self,
        service: str,
        region: str = "us-east-1",
        *,
        keys: tuple[str, str, str | None] = (ROOT.access_key_id, ROOT.secret_key, None),
        by_address: bool = False,
        **config: Any,
    ) -> Any:
        """A boto3 client. It calls AWS's own host names, which end here; or (`by_address`) 127.0.0.1 as endpoint."""
        session = boto3.session.Session(keys[0], keys[1], keys[2], region_name=region)
        settings = Config(retries={"total_max_attempts": 1}, **config)
        if by_address:
            return session.client(service, endpoint_url=f"http://127.0.0.1:{self.port}", config=settings)
        client = session.client(service, config=settings)
        client.meta.events.register("before-send", self._send)
        return client

    def _send(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        parts = urlsplit(request.url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {
            name: value.decode() if isinstance(value, bytes) else str(value) for name, value in request.headers.items()
        }
        headers = {
            name: value
            for name, value in headers.items()
            if name.lower() not in {"transfer-encoding", "expect", "host"}
        }
        headers["Host"] = parts.netloc
        body = request.body
        if hasattr(body, "read"):
            body = body.read()
        answer = self._pool.urlopen(
            request.method,
            target,
            headers=headers,
            body=body,
            preload_content=False,
            decode_content=False,
            redirect=False,
            retries=False,
        )
        return AWSResponse(request.url, answer.status, answer.headers, answer)

    async def raw(self, request: Request) -> Response:
        """The front's answer to a request as it is."""
        return await self.front.handle(request)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    started = World(tmp_path / "packages")
    await started.start(tmp_path / "stores")
    try:
        yield started
    finally:
        await started.stop()


@pytest.fixture
def call() -> Callable[..., Any]:
    """Runs a boto3 call in a thread, so that the loop can answer it; a body is read there as well."""

    def whole(function: Callable[..., Any], params: dict[str, Any]) -> Any:
        result = function(**params)
        if isinstance(result, dict) and hasattr(result.get("Body"), "read"):
            result["Body"] = result["Body"].read()
        return result

    async def run(function: Callable[..., Any], /, **params: Any) -> Any:
        return await asyncio.to_thread(whole, function, params)

    return run
