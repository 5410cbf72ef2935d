"""Logs go from the spool to the bucket's store, and wait there as long as that cannot be reached."""

from __future__ import annotations

import gzip
import itertools
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import structlog

from nearpoint.edge.log_target import LogTarget
from nearpoint.edge.logspool import LogSpool
from nearpoint.node.log_delivery import LogDelivery
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.state.resources import Bucket, Snapshot
from nearpoint.wire.client import Client
from nearpoint.wire.message import Request, Response, read_all
from nearpoint.wire.server import Server

REGION = "eu-west-1"


class Stand:
    """A store that keeps what is put, a spool and what delivers from it."""

    def __init__(self, folder: Path, client: Client, port: int) -> None:
        self.status = 200
        self.objects: dict[str, bytes] = {}
        self.buckets = {"logs": Bucket(name="logs", region=REGION, created_at=0)}
        numbers = itertools.count()
        self.spool = LogSpool(folder, clock=lambda: 1_800_000_000.0, random_hex=lambda: f"{next(numbers)}")
        self.spool.serve({"E1": LogTarget(bucket="logs", prefix="cdn/")})
        spec = StoreSpec(
            region=REGION,
            endpoint=f"http://127.0.0.1:{port}",
            access_key_id="AKIA",
            secret_key="secret",
            signing_region=REGION,
        )
        store = Store(spec, client, clock=lambda: datetime.now(UTC))
        self.delivery = LogDelivery(self.spool, stores={REGION: store}, snapshot=self.snapshot)

    def snapshot(self) -> Snapshot:
        return Snapshot(generation=1, account_id="1", session_secret="s", buckets=self.buckets)


@pytest.fixture
async def stand(tmp_path: Path) -> AsyncIterator[Stand]:
    client = Client()
    sock = socket.create_server(("127.0.0.1", 0))
    made: Any = None

    async def store(request: Request) -> Response:
        assert request.method == "PUT"
        data = await read_all(request.body, 1_000_000)
        if made.status == 200:
            made.objects[request.path] = gzip.decompress(data)
        return Response(made.status)

    server = Server(store)
    await server.start(sock)
    made = Stand(tmp_path, client, int(sock.getsockname()[1]))
    yield made
    await server.drain(0)
    await client.close()


async def test_what_is_written_arrives(stand: Stand) -> None:
    stand.spool.write("E1", 1_800_000_000, b"a line\n")
    await stand.delivery.finish()
    ((path, data),) = stand.objects.items()
    assert path.startswith("/logs/cdn/E1.2027-01-15-08.")
    assert path.endswith(".gz")
    assert data.endswith(b"\na line\n")
    assert stand.spool.due() == []


async def test_what_does_not_arrive_waits(stand: Stand) -> None:
    stand.spool.write("E1", 1_800_000_000, b"a line\n")
    stand.status = 503
    with structlog.testing.capture_logs() as logs:
        await stand.delivery.finish()
        await stand.delivery.finish()
    assert len(logs) == 1  # it says so once
    buckets, stand.buckets = stand.buckets, {}
    await stand.delivery.finish()
    assert stand.objects == {}
    assert len(stand.spool.due()) == 1
    stand.status, stand.buckets = 200, buckets
    await stand.delivery.finish()
    assert len(stand.objects) == 1
