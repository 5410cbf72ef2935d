"""Regions whose stores serve in this process, and copiers between them; and whole worlds, with ways to disturb them."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import boto3
import orjson
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

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
        self.folder = folder
        self._client = Client()
        self._regions: dict[str, Region] = {}
        self._copying: dict[str, asyncio.Task[None]] = {}
        self.copiers: dict[str, Copier] = {}

    def __getitem__(self, name: str) -> Region:
        return self._regions[name]

    async def start(self, *names: str) -> None:
        for name in names:
            self._regions[name] = Region(name, self.folder / name, self._client)
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


# What a store's process runs before anything else, where its clock is to be wrong: it reads by how much at its start.
_WRONG_CLOCK = """
import pathlib, sys, time
for _word in sys.orig_argv:
    _file = pathlib.Path(__file__).parent / (pathlib.Path(_word).stem + ".skew")
    if _word.endswith(".json") and _file.exists():
        _skew_ns, _time, _time_ns = int(_file.read_text()) * 10**9, time.time, time.time_ns
        time.time_ns = lambda: _time_ns() + _skew_ns
        time.time = lambda: _time() + _skew_ns / 1e9
"""


class LiveWorld:
    """A running world, clients of it, and what can happen to it. `foreign` are URLs of other stores, by region."""

    def __init__(self, folder: Path, names: tuple[str, ...], foreign: dict[str, str]) -> None:
        self.regions = names
        self._foreign = foreign
        self.data = folder / "data"
        self._clocks = folder / "clocks"
        self._clocks.mkdir(parents=True)
        (self._clocks / "sitecustomize.py").write_text(_WRONG_CLOCK)
        self._disks: list[Path] = []

    def start(self) -> None:
        path = os.pathsep.join(filter(None, (str(self._clocks), os.environ.get("PYTHONPATH"))))
        ours = ",".join(name for name in self.regions if name not in self._foreign)
        stores = [word for name, url in self._foreign.items() for word in ("--store", f"{name}={url}")]
        self.command("up", "--detach", "--regions", ours, "--edges", "FRA", *stores, PYTHONPATH=path)
        self.settings: dict[str, Any] = json.loads((self.data / "world.json").read_bytes())

    def close(self) -> None:
        self.command("down")
        for disk in self._disks:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)

    def ran(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """`nearpoint WORDS`, however it ends."""
        return subprocess.run(
            [sys.executable, "-m", "nearpoint", *words, "--data", str(self.data)],
            capture_output=True, text=True, check=False, timeout=180, env=os.environ | env,
        )  # fmt: skip

    def command(self, *words: str, **env: str) -> str:
        """What a command that ends well prints."""
        ran = self.ran(*words, **env)
        assert ran.returncode == 0, ran.stderr + ran.stdout
        return ran.stdout

    def client(self, service: str, region: str, attempts: int = 1) -> Any:
        """A boto3 client of a region that stands there, or in the first region of the world."""
        here = region if region in self.regions else self.regions[0]
        proxy = f"http://{here}:x@127.0.0.1:{self.settings['ports']['proxy']}"
        make: Any = boto3.client
        return make(
            service, region_name=region, verify=str(self.data / "ca" / "bundle.pem"),
            aws_access_key_id=self.settings["access_key_id"], aws_secret_access_key=self.settings["secret_key"],
            config=Config(
                proxies={"http": proxy, "https": proxy}, retries={"total_max_attempts": attempts}, read_timeout=8,
                connect_timeout=5, max_pool_connections=20,
            ),
        )  # fmt: skip

    def s3(self, region: str) -> Any:
        """A client of the region's S3 endpoint, without retries."""
        return self.client("s3", region)

    def ask(self, method: str, path: str, body: Any = None, port: str = "admin") -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.settings["ports"][port], timeout=60)
        headers = {"Authorization": f"Bearer {self.settings['admin_token']}"}
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body).encode() if body else None, headers)
            return json.loads(connection.getresponse().read())

    def make_access_point(self, name: str, buckets: dict[str, str]) -> str:
        """An access point over buckets that are made in their regions, with rules between all; its ARN."""
        for region, bucket in buckets.items():
            where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
            self.client("s3", region, 5).create_bucket(Bucket=bucket, **where)
        control = self.control()
        account = self.settings["account_id"]
        members = [{"Bucket": bucket} for bucket in buckets.values()]
        control.create_multi_region_access_point(
            AccountId=account, ClientToken=name, Details={"Name": name, "Regions": members}
        )
        listed = control.list_multi_region_access_points(AccountId=account)["AccessPoints"]
        [alias] = [each["Alias"] for each in listed if each["Name"] == name]
        arn = f"arn:aws:s3::{account}:accesspoint/{alias}"
        if len(buckets) > 1:
            self.command("replication", "enable", name)
        for region in self.regions:
            s3 = self.client("s3", region)
            retried(lambda s3=s3: s3.put_object(Bucket=arn, Key="-", Body=b"first"))
        return arn

    def control(self) -> Any:
        """A client of the one region that manages access points."""
        return self.client("s3control", "us-west-2", 5)

    def store(self, region: str, client: Client) -> Store:
        """A region's store itself, or the gateway of one that is not ours, past the world's front."""
        access = self.settings["stores"][region]
        socket_name = f"{'gateway' if region in self._foreign else 'store'}.{region}"
        spec = StoreSpec(
            region=region,
            endpoint=f"http://127.0.0.1:{self.settings['ports'][socket_name]}",
            access_key_id=access["access_key_id"],
            secret_key=access["secret_key"],
            signing_region="us-east-1" if region in self._foreign else region,
            kind="s3" if region in self._foreign else "embedded",
        )
        return Store(spec, client, clock=lambda: datetime.now(UTC))

    # --- what can happen

    def kill(self, name: str) -> None:
        """kill -9; the supervisor starts it again."""
        self._signal(name, signal.SIGKILL)

    def freeze(self, name: str, seconds: float) -> None:
        """Let a process stand still, as one does whose machine swaps or whose disk hangs."""
        self._signal(name, signal.SIGSTOP)
        time.sleep(seconds)
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        pids = {row["name"]: row["pid"] for row in self.ask("GET", "/status")["processes"]}
        if pids.get(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[name], number)

    def skew(self, region: str, seconds: int) -> None:
        """Set a store's clock wrong, from its next start on."""
        (self._clocks / f"store-{region}.skew").write_text(str(seconds))

    def own_disk(self, region: str, size_mb: int) -> bool:
        """Give a store a small disk of its own, before the start; False where nobody may mount one."""
        folder = self.data / "stores" / region
        folder.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
            return False
        self._disks.append(folder)
        return True

    def fill_disk(self) -> Path | None:
        """Leave no byte on that disk; the file that fills it, to be removed again."""
        if not self._disks:
            return None
        filler = self._disks[0] / "filler"
        found = os.statvfs(self._disks[0])
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, max(1, found.f_bavail * found.f_frsize))
            while file.write(b"x" * 4096):
                pass
        return filler

    # --- what can be waited for

    def wait_until_settled(self, timeout_s: float = 120) -> None:
        """Until nothing is pending and every process is there; nothing may have been given up."""
        until = time.monotonic() + timeout_s
        status: Any = None
        while time.monotonic() < until:
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
                status = self.ask("GET", "/status", port="replication")
                if not status["unreachable"] and not any(pair["pending"] for pair in status["pairs"]):
                    assert not status["parked"], [(row["key"], row["reason"]) for row in status["parked"]]
                    if self.ask("GET", "/status")["ready"]:
                        return
            time.sleep(0.2)
        raise AssertionError(f"pending does not drop to zero: {status}")


def retried(call: Any, timeout_s: float = 60) -> Any:
    """A boto3 call, until it goes through."""
    until = time.monotonic() + timeout_s
    while True:
        try:
            return call()
        except (ClientError, BotoCoreError):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


@pytest.fixture
def make_live(tmp_path: Path) -> Iterator[Callable[..., LiveWorld]]:
    """Makes a world over some regions; it is started by the test."""
    made: list[LiveWorld] = []

    def make(*names: str, foreign: dict[str, str] | None = None) -> LiveWorld:
        made.append(LiveWorld(tmp_path / f"world-{len(made)}", names, foreign or {}))
        return made[-1]

    yield make
    for world in made:
        world.close()


@pytest.fixture
def live(make_live: Callable[..., LiveWorld]) -> LiveWorld:
    """A world of two regions, running."""
    world = make_live("us-east-1", "eu-west-1")
    world.start()
    return world
