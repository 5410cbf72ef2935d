"""Regions whose store is somebody else's (another S3 store behind a gateway) beside regions of our own, and copiers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nearpoint.awsproto.xml import element
from nearpoint.bucket.server import StoreServer, utc_now
from nearpoint.bucket.store import Store as Embedded
from nearpoint.gateway.__main__ import Gateway
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.replication.copier import Copier
from nearpoint.replication.peer import Peer
from nearpoint.signing import Credentials
from nearpoint.state import nats
from nearpoint.wire.client import Client
from nearpoint.wire.message import Headers, Request, Response, read_all
from nearpoint.wire.server import Server

CREDENTIALS = Credentials("AKIATESTTESTTESTTEST", "test-secret-test-secret-test-secret-test")
SIGNING_REGION = "us-east-1"
Fault = Callable[[Request], Awaitable[Response | None]]


class NatsServer:
    """A server with JetStream that a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            port = sock.getsockname()[1]
        self.url = f"nats://127.0.0.1:{port}"
        self._port = port
        self._config = folder / "nats.conf"
        self._config.write_text(
            f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder / "js"}", sync_interval: always }}\n'
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        executable = Path(sys.executable).with_name("nats-server")
        self._process = subprocess.Popen(
            [executable, "-c", self._config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(400):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
                return
            time.sleep(0.025)
        raise RuntimeError("nats-server does not start")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Answer:
    """A response that has been read."""

    def __init__(self, response: Response, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    @property
    def described(self) -> dict[str, str]:
        """What of it describes the object, whichever store it comes from."""
        kept = ("content-type", "cache-control", "content-disposition", "content-language", "expires", "etag")
        return {
            name.lower(): value
            for name, value in self.headers
            if name.lower() in kept or name.lower().startswith("x-amz-meta-")
        }


class Asked:
    """A store that is asked over HTTP."""

    store: Store
    name: str

    async def ask(
        self, method: str, bucket: str, key: str | None = None, body: bytes = b"", query: str = "", **headers: str
    ) -> Answer:
        """One S3 call. Header names have `_` for `-`."""
        fields = Headers((name.replace("_", "-"), value) for name, value in headers.items())
        response = await self.store.send(method, bucket, key, query=query, headers=fields, body=body)
        return Answer(response, await read_all(response.body, 2**30))

    async def upload(self, bucket: str, key: str, parts: list[bytes], **headers: str) -> Answer:
        """In parts; the answer of completing."""
        made = await self.ask("POST", bucket, key, query="uploads", **headers)
        upload = made.body.decode().split("<UploadId>")[1].split("<")[0]
        named = ""
        for number, part in enumerate(parts, 1):
            answer = await self.ask("PUT", bucket, key, part, query=f"partNumber={number}&uploadId={upload}")
            assert answer.status == 200, answer.body
            named += f"<Part><PartNumber>{number}</PartNumber><ETag>{answer.header('etag')}</ETag></Part>"
        body = f"<CompleteMultipartUpload>{named}</CompleteMultipartUpload>".encode()
        return await self.ask("POST", bucket, key, body, query=f"uploadId={upload}")

    async def tag(self, bucket: str, key: str, **tags: str) -> Answer:
        """Give an object these tags alone."""
        inner = "".join(f"<Tag><Key>{name}</Key><Value>{value}</Value></Tag>" for name, value in tags.items())
        body = f"<Tagging><TagSet>{inner}</TagSet></Tagging>".encode()
        return await self.ask("PUT", bucket, key, body, query="tagging")

    async def make(self, bucket: str, *, versions: bool = True) -> None:
        """A bucket."""
        inner = f"<LocationConstraint>{self.name}</LocationConstraint>"
        named = self.store.spec.kind == "embedded" and self.name != "us-east-1"
        body = f"<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>".encode() if named else b""
        answer = await self.ask("PUT", bucket, body=body)
        assert answer.status == 200, answer.body
        if versions:
            body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            assert (await self.ask("PUT", bucket, query="versioning", body=body)).status == 200

    async def replicate(self, bucket: str, *destinations: str, prefix: str = "") -> Answer:
        """Everything in the bucket (below a prefix), to the destinations."""
        on = "<Status>Enabled</Status>"
        rules = "".join(
            f"<Rule><ID>to-{name}</ID><Priority>{at}</Priority>{on}<Filter><Prefix>{prefix}</Prefix></Filter>"
            f"<DeleteMarkerReplication>{on}</DeleteMarkerReplication>"
            f"<SourceSelectionCriteria><ReplicaModifications>{on}</ReplicaModifications></SourceSelectionCriteria>"
            f"<Destination>{element('Bucket', 'arn:aws:s3:::' + name)}</Destination></Rule>"
            for at, name in enumerate(destinations)
        )
        body = f"<ReplicationConfiguration><Role>arn:aws:iam::1:role/r</Role>{rules}</ReplicationConfiguration>"
        return await self.ask("PUT", bucket, query="replication", body=body.encode())


class Backing(Asked):
    """A store of another maker: here an embedded one that nobody asks for its log. `fault` may answer in its place."""

    def __init__(self, name: str, folder: Path, client: Client) -> None:
        self.name = name
        self.embedded = Embedded(folder, SIGNING_REGION)
        self.fault: Fault | None = None
        self.asked: list[str] = []
        self._answers = StoreServer(self.embedded, CREDENTIALS, clock=utc_now)
        self._server = Server(self._handle)
        self._client = client

    async def start(self) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        await self._server.start(sock)
        self.store = Store(
            spec_of(self.name, sock.getsockname()[1], "s3"), self._client, clock=lambda: datetime.now(UTC)
        )

    async def _handle(self, request: Request) -> Response:
        self.asked.append(f"{request.method} {request.target}")
        answer = await self.fault(request) if self.fault is not None else None
        return answer or await self._answers.handle(request)

    async def close(self) -> None:
        self.embedded.stop_waiting()
        await self._server.drain(0.2)
        await self.embedded.close()


def spec_of(region: str, port: int, kind: Any) -> StoreSpec:
    return StoreSpec(
        region=region,
        endpoint=f"http://127.0.0.1:{port}",
        access_key_id=CREDENTIALS.access_key_id,
        secret_key=CREDENTIALS.secret_key,
        signing_region=region if kind == "embedded" else SIGNING_REGION,
        kind=kind,
    )


class Ours(Asked):
    """A region with an embedded store."""

    def __init__(self, name: str, folder: Path, client: Client) -> None:
        self.name = name
        self.embedded = Embedded(folder, name)
        self._server = Server(StoreServer(self.embedded, CREDENTIALS, clock=utc_now).handle)
        self._client = client

    async def start(self) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        await self._server.start(sock)
        spec = spec_of(self.name, sock.getsockname()[1], "embedded")
        self.store = Store(spec, self._client, clock=lambda: datetime.now(UTC))
        self.peer = Peer(self.store)

    async def close(self) -> None:
        self.embedded.stop_waiting()
        await self._server.drain(0.2)
        await self.embedded.close()


class Foreign(Asked):
    """A region whose store is behind a gateway. `behind` is that store, asked directly."""

    def __init__(self, name: str, behind: Any, nats_url: str, client: Client) -> None:
        self.name = name
        self.behind = behind
        self._nats_url = nats_url
        self._client = client
        self._gateway: Gateway | None = None
        self._server: Server | None = None
        self._port = 0

    async def start(self) -> None:
        self._nats = await nats.connect(self._nats_url, name="test")
        spec = self.behind.store.spec
        given = {
            "endpoint": spec.endpoint, "access_key_id": spec.access_key_id, "secret_key": spec.secret_key,
            "signing_region": spec.signing_region,
        }  # fmt: skip
        self._gateway = Gateway(self.name, given, self._nats, self._client)
        await self._gateway.start()
        self._server = Server(self._gateway.handle)
        sock = socket.create_server(("127.0.0.1", self._port))
        self._port = sock.getsockname()[1]
        await self._server.start(sock)
        self.store = Store(
            StoreSpec(
                region=self.name, endpoint=f"http://127.0.0.1:{self._port}", access_key_id=spec.access_key_id,
                secret_key=spec.secret_key, signing_region=spec.signing_region, kind="s3",
            ),
            self._client, clock=lambda: datetime.now(UTC),
        )  # fmt: skip
        self.peer = Peer(self.store)

    async def close(self) -> None:
        if self._server is None or self._gateway is None:
            return
        self._gateway.stop_waiting()
        await self._server.drain(0.2)
        await self._gateway.close()
        await self._nats.close()
        self._server = self._gateway = None

    async def restart(self) -> None:
        """As after a crash: what was in memory is gone."""
        await self.close()
        await self.start()


class Regions:
    """Regions by name, and the copiers between them."""

    def __init__(self, folder: Path, server: NatsServer) -> None:
        self._folder = folder
        self._client = Client()
        self._regions: dict[str, Any] = {}
        self._copying: list[asyncio.Task[None]] = []
        self._backing: list[Backing] = []
        self.nats = server
        self.copiers: dict[str, Copier] = {}

    def __getitem__(self, name: str) -> Any:
        return self._regions[name]

    async def ours(self, name: str) -> Ours:
        made = self._regions[name] = Ours(name, self._folder / name, self._client)
        await made.start()
        return made

    async def foreign(self, name: str, behind: Any = None) -> Foreign:
        if behind is None:
            behind = Backing(name, self._folder / name, self._client)
            await behind.start()
            self._backing.append(behind)
        made = self._regions[name] = Foreign(name, behind, self.nats.url, self._client)
        await made.start()
        return made

    def directly(self, spec: StoreSpec) -> Asked:
        """A store that is there already."""
        asked = Asked()
        asked.name = spec.region
        asked.store = Store(spec, self._client, clock=lambda: datetime.now(UTC))
        return asked

    def copy(self) -> None:
        peers = {name: region.peer for name, region in self._regions.items()}
        for name in self._regions:
            self.copiers[name] = Copier(name, peers)
            self._copying.append(asyncio.create_task(self.copiers[name].run()))

    async def stop_copying(self) -> None:
        for task in self._copying:
            task.cancel()
        await asyncio.gather(*self._copying, return_exceptions=True)
        self._copying.clear()

    async def settled(self) -> None:
        """Until nothing is pending anywhere, twice in a row: what is written may still become owed."""
        calm = 0
        async with asyncio.timeout(60):
            while calm < 3:
                owed = [await region.peer.owed() for region in self._regions.values()]
                pending = sum(pair["pending"] for each in owed for pair in each["pairs"])
                calm = 0 if pending else calm + 1
                await asyncio.sleep(0.03)

    async def close(self) -> None:
        await self.stop_copying()
        for region in self._regions.values():
            await region.close()
        for backing in self._backing:
            await backing.close()
        await self._client.close()


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def regions(tmp_path: Path, nats_server: NatsServer) -> AsyncIterator[Regions]:
    made = Regions(tmp_path, nats_server)
    yield made
    await made.close()


US, EU = "us-east-1", "eu-west-1"


@pytest.fixture(scope="session")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory, seaweedfs_in: Callable[..., Any]) -> StoreSpec:
    """How a real SeaweedFS is reached."""
    made = seaweedfs_in(tmp_path_factory.mktemp("seaweedfs"), CREDENTIALS.access_key_id, CREDENTIALS.secret_key)
    return spec_of(EU, made.port, "s3")


@pytest.fixture(params=["another S3", "SeaweedFS"])
async def pair(regions: Regions, request: pytest.FixtureRequest) -> Regions:
    """Bucket `aaa` in an embedded us-east-1 and `bbb` in a foreign eu-west-1, replicating to each other; no copiers."""
    behind = None
    if request.param == "SeaweedFS":
        behind = regions.directly(request.getfixturevalue("seaweedfs"))
        await behind.ask("DELETE", "bbb")
    return await joined(regions, behind)


@pytest.fixture
async def foreign(regions: Regions) -> Regions:
    """As `pair`, over a store whose answers a test can change."""
    return await joined(regions, None)


async def joined(regions: Regions, behind: Any) -> Regions:
    us, eu = await regions.ours(US), await regions.foreign(EU, behind)
    await us.make("aaa")
    await eu.make("bbb")
    assert (await us.replicate("aaa", "bbb")).status == 200
    assert (await eu.replicate("bbb", "aaa")).status == 200
    return regions
