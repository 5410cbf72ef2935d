"""Regions whose stores serve in this process, and copiers between them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from nearpoint.awsproto.xml import element
from nearpoint.bucket.server import StoreServer, utc_now
from nearpoint.bucket.store import Store as Embedded
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.replication.copier import Copier
from nearpoint.replication.peer import Peer
from nearpoint.signing import Credentials
from nearpoint.wire.client import Client
from nearpoint.wire.message import Headers, Request, Response, read_all
from nearpoint.wire.server import Server

CREDENTIALS = Credentials("AKIATESTTESTTESTTEST", "test-secret-test-secret-test-secret-test")


class Answer:
    """A response that has been read."""

    def __init__(self, response: Response, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


class Region:
    """One region: its embedded store, served; and a client of it. `fault` may answer in the store's place."""

    def __init__(self, name: str, folder: Path, client: Client) -> None:
        self.name = name
        self.embedded = Embedded(folder, name)
        self.fault: Callable[[Request], Awaitable[Response | None]] | None = None
        self._answers = StoreServer(self.embedded, CREDENTIALS, clock=utc_now)
        self._server = Server(self._handle)
        self._client = client

    async def start(self) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        spec = StoreSpec(
            region=self.name,
            endpoint=f"http://127.0.0.1:{sock.getsockname()[1]}",
            access_key_id=CREDENTIALS.access_key_id,
            secret_key=CREDENTIALS.secret_key,
            signing_region=self.name,
            kind="embedded",
        )
        await self._server.start(sock)
        self.store = Store(spec, self._client, clock=lambda: datetime.now(UTC))
        self.peer = Peer(self.store)

    async def _handle(self, request: Request) -> Response:
        if self.fault is not None:
            answer = await self.fault(request)
            if answer is not None:
                return answer
        return await self._answers.handle(request)

    async def close(self) -> None:
        self.embedded.stop_waiting()
        await self._server.drain(1)
        await self.embedded.close()

    async def ask(
        self, method: str, bucket: str, key: str | None = None, body: bytes = b"", query: str = "", **headers: str
    ) -> Answer:
        """One S3 call. Header names have `_` for `-`."""
        fields = Headers((name.replace("_", "-"), value) for name, value in headers.items())
        response = await self.store.send(method, bucket, key, query=query, headers=fields, body=body)
        return Answer(response, await read_all(response.body, 2**30))

    async def make(self, bucket: str) -> None:
        """A bucket that keeps versions."""
        inner = f"<LocationConstraint>{self.name}</LocationConstraint>" if self.name != "us-east-1" else ""
        body = f"<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>" if inner else ""
        assert (await self.ask("PUT", bucket, body=body.encode())).status == 200
        await self.keep_versions(bucket)

    async def keep_versions(self, bucket: str) -> None:
        body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        assert (await self.ask("PUT", bucket, query="versioning", body=body)).status == 200

    async def replicate(self, bucket: str, *destinations: str, markers: bool = True) -> None:
        """Everything in the bucket, to the destinations."""
        on = "<Status>Enabled</Status>"
        with_markers = f"<Status>{'Enabled' if markers else 'Disabled'}</Status>"
        rules = "".join(
            f"<Rule><ID>to-{name}</ID><Priority>{at}</Priority>{on}<Filter></Filter>"
            f"<DeleteMarkerReplication>{with_markers}</DeleteMarkerReplication>"
            f"<SourceSelectionCriteria><ReplicaModifications>{on}</ReplicaModifications></SourceSelectionCriteria>"
            f"<Destination>{element('Bucket', 'arn:aws:s3:::' + name)}</Destination></Rule>"
            for at, name in enumerate(destinations)
        )
        body = f"<ReplicationConfiguration><Role>arn:aws:iam::1:role/r</Role>{rules}</ReplicationConfiguration>"
        answer = await self.ask("PUT", bucket, query="replication", body=body.encode())
        assert answer.status == 200, answer.body

    async def history(self, bucket: str) -> list[Any]:
        """Every version with everything on it, as it would travel, without where it stands in this region."""
        found = []
        rows, more = await self.peer.history(bucket, "", 5000)
        assert not more
        for each in rows:
            body = orjson.dumps([(each.key, each.id, True)])
            response = await self.store.send("POST", "-", "versions", query=urlencode({"bucket": bucket}), body=body)
            found.append((each.key, each.id, await read_all(response.body, 2**30)))
        return sorted(found)

    async def pending(self) -> int:
        return sum(pair["pending"] for pair in (await self.peer.owed())["pairs"])


class Regions:
    """Regions by name, and the copiers between them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._client = Client()
        self._regions: dict[str, Region] = {}
        self._copying: dict[str, asyncio.Task[None]] = {}
        self.copiers: dict[str, Copier] = {}

    def __getitem__(self, name: str) -> Region:
        return self._regions[name]

    async def start(self, *names: str) -> None:
        for name in names:
            self._regions[name] = Region(name, self._folder / name, self._client)
            await self._regions[name].start()

    def copy(self, *names: str) -> None:
        """Start the copiers of these regions, or of all."""
        peers = {name: region.peer for name, region in self._regions.items()}
        for name in names or self._regions:
            self.copiers[name] = Copier(name, peers)
            self._copying[name] = asyncio.create_task(self.copiers[name].run())

    async def stop_copying(self) -> None:
        for task in self._copying.values():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._copying.clear()

    async def settled(self) -> None:
        """Until nothing is pending anywhere."""
        async with asyncio.timeout(30):
            while sum([await region.pending() for region in self._regions.values()]):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        await self.stop_copying()
        for region in self._regions.values():
            await region.close()
        await self._client.close()


@pytest.fixture
async def regions(tmp_path: Path) -> AsyncIterator[Regions]:
    made = Regions(tmp_path)
    yield made
    await made.close()


@pytest.fixture
async def pair(regions: Regions) -> Regions:
    """Buckets `aaa` in us-east-1 and `bbb` in eu-west-1, which replicate to each other; no copiers yet."""
    await regions.start("us-east-1", "eu-west-1")
    await regions["us-east-1"].make("aaa")
    await regions["eu-west-1"].make("bbb")
    await regions["us-east-1"].replicate("aaa", "bbb")
    await regions["eu-west-1"].replicate("bbb", "aaa")
    return regions
