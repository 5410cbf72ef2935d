"""Real stores, each a process: two embedded ones, SeaweedFS, and `rclone serve s3`. One set for each worker that runs
tests of this folder; a store is started when the first test asks for it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

BIN = Path(sys.executable).parent


@dataclass
class RealStore:
    """A running store with a bucket. `read_only` are credentials that may not write, where the store has such."""

    name: str
    endpoint: str
    region: str
    bucket: str
    access_key_id: str = "STOREKEY"
    secret_key: str = "store-secret"
    read_only: tuple[str, str] | None = None
    folder: Path | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def client(self, **config: Any) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_key,
            config=Config(
                signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 0}, **config
            ),
        )


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + 60
    while not _answers(url):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


@contextlib.contextmanager
def _process(command: list[str], url: str, folder: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    log = folder / "log"
    with log.open("ab") as out, subprocess.Popen(command, stdout=out, stderr=out, cwd=folder, **options) as process:
        try:
            _wait(process, url, log)
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    """Below 22,000: SeaweedFS's gRPC ports are these plus 10,000 and must not meet ephemeral ones."""
    while True:
        port = random.randrange(11_000, 21_900)
        with contextlib.suppress(OSError):
            for each in (port, port + 10_000):
                socket.create_server(("127.0.0.1", each)).close()
            return port


@contextlib.contextmanager
def _embedded(folder: Path, region: str) -> Iterator[RealStore]:
    folder.mkdir(parents=True)
    sock = socket.create_server(("127.0.0.1", 0), backlog=128)
    store = RealStore(f"embedded-{region}", f"http://127.0.0.1:{sock.getsockname()[1]}", region, f"data-{region}")
    config = folder / "config.json"
    config.touch(mode=0o600)
    config.write_text(
        json.dumps(
            {
                "region": region,
                "folder": str(folder / "data"),
                "access_key_id": store.access_key_id,
                "secret_key": store.secret_key,
                "sockets": {"http": sock.fileno()},
            }
        )
    )
    command = [sys.executable, "-m", "nearpoint.bucket", "--config", str(config)]
    with _process(command, f"{store.endpoint}/-/live", folder, pass_fds=[sock.fileno()]) as store.process:
        constraint = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        store.client().create_bucket(Bucket=store.bucket, **constraint)
        yield store
    sock.close()


@pytest.fixture(scope="session")
def near(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealStore]:
    """An embedded store."""
    with _embedded(tmp_path_factory.mktemp("near") / "store", "eu-west-1") as store:
        yield store


@pytest.fixture(scope="session")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealStore]:
    """Another embedded store."""
    with _embedded(tmp_path_factory.mktemp("far") / "store", "us-east-1") as store:
        yield store


@pytest.fixture(scope="session")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealStore]:
    """SeaweedFS."""
    folder = tmp_path_factory.mktemp("weed")
    master, volume, filer, port = (_free_port() for _ in range(4))
    store = RealStore("seaweedfs", f"http://127.0.0.1:{port}", "weed-1", "weed-data", read_only=("READER", "reader"))
    identities = [
        {
            "name": "writer",
            "credentials": [{"accessKey": store.access_key_id, "secretKey": store.secret_key}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        },
        {
            "name": "reader",
            "credentials": [{"accessKey": "READER", "secretKey": "reader"}],
            "actions": ["Read", "List"],
        },
    ]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    (folder / "data").mkdir()
    command = [
        str(BIN / "weed"), "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1",
        f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", "-s3", f"-s3.port={port}",
        f"-s3.config={config}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-master.telemetry=false",
        "-master.electionTimeout=1s", "-master.volumeSizeLimitMB=256", "-volume.max=50",
        f"-filer.localSocket={folder / 'filer.sock'}",
    ]  # fmt: skip
    environ = {**os.environ, "HOME": str(folder)}
    with _process(command, store.endpoint, folder, env=environ) as store.process:
        client = store.client()
        deadline = time.monotonic() + 30
        while True:
            try:
                client.create_bucket(Bucket=store.bucket)
                client.put_object(Bucket=store.bucket, Key="ready", Body=b"1")
                client.delete_object(Bucket=store.bucket, Key="ready")
                break
            except Exception:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield store


@pytest.fixture(scope="session")
def rclone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealStore]:
    """`rclone serve s3` over a folder."""
    folder = tmp_path_factory.mktemp("rclone")
    port = _free_port()
    store = RealStore("rclone", f"http://127.0.0.1:{port}", "rclone-1", "rclone-data")
    store.folder = folder / "data" / store.bucket
    store.folder.mkdir(parents=True)
    command = [
        str(BIN / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}",
        "--auth-key", f"{store.access_key_id},{store.secret_key}", str(folder / "data"),
    ]  # fmt: skip
    environ = {**os.environ, "HOME": str(folder)}
    with _process(command, store.endpoint, folder, env=environ) as store.process:
        yield store


@dataclass
class Front:
    """A running `nearpoint accesspoint`."""

    process: subprocess.Popen[str]
    url: str
    admin: str
    config: Path
    log: Path

    def admin_get(self, path: str) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(f"{self.admin}{path}", timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 30
        while self.admin_get("/-/ready")[0] != 200:
            assert time.monotonic() < deadline, self.admin_get("/-/ready")
            time.sleep(0.05)

    def client(self, **options: Any) -> Any:
        """A boto3 client; plain SigV4 in path style unless `config` says otherwise."""
        config = {"signature_version": "s3v4", "s3": {"addressing_style": "path"}, **options.pop("config", {})}
        arguments = {
            "endpoint_url": self.url,
            "region_name": "us-west-2",
            "aws_access_key_id": "CLIENT",
            "aws_secret_access_key": "client-secret",
            **options,
        }
        return boto3.Session().client("s3", config=Config(retries={"max_attempts": 0}, **config), **arguments)


def settings_text(points: dict[str, list[RealStore]], *, extra: str = "", keys: str = "") -> str:
    """A nearpoint.toml. `points` are the stores of each access point, by its name."""
    stores = {store.region: store for members in points.values() for store in members}
    parts = ['[listen]\nhttp = ["127.0.0.1:0"]\nadmin = "127.0.0.1:0"\n']
    for store in stores.values():
        parts.append(
            f'[[regions]]\nname = "{store.region}"\nendpoint = "{store.endpoint}"\ncredentials = '
            f'{{ access-key-id = "{store.access_key_id}", secret-key = "{store.secret_key}" }}\n'
        )
    for name, members in points.items():
        shown = ", ".join(f'{{ region = "{store.region}", bucket = "{store.bucket}" }}' for store in members)
        parts.append(f'[[access-points]]\nname = "{name}"\nmembers = [{shown}]\n')
        if name == "both":
            parts.append('domains = ["photos.nearpoint.test"]\n')
    parts.append(f'[[access-keys]]\naccess-key-id = "CLIENT"\nsecret-key = "client-secret"\n{keys}')
    return extra + "".join(parts)


@contextlib.contextmanager
def running_front(folder: Path, text: str, *options: str, ready: bool = True) -> Iterator[Front]:
    """The command over a file with that text; `ready`: once it is."""
    config, log = folder / "nearpoint.toml", folder / "accesspoint.log"
    config.touch(mode=0o600)
    config.write_text(text)
    command = [str(BIN / "nearpoint"), "accesspoint", "--config", str(config), *options]
    with log.open("w") as out, subprocess.Popen(command, stderr=out, text=True) as process:
        try:
            deadline = time.monotonic() + 30
            while not (health := re.search(r"http://\S+(?=/-/ready)", log.read_text())):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
            endpoint = re.search(r"endpoint +(http://\S+)", log.read_text())
            assert endpoint is not None
            front = Front(process, endpoint[1], health[0], config, log)
            while not _answers(f"{front.admin}/-/live"):
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            if ready:
                front.wait_ready()
            yield front
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()


@pytest.fixture(scope="session")
def start_front() -> Any:
    """`running_front` for tests that want one of their own."""
    return running_front


@pytest.fixture(scope="session")
def make_settings() -> Any:
    """`settings_text`."""
    return settings_text


@pytest.fixture(scope="session")
def front(
    tmp_path_factory: pytest.TempPathFactory, near: RealStore, far: RealStore, weed: RealStore, rclone: RealStore
) -> Iterator[Front]:
    """An access point over each store by itself, and one (`both`) over the embedded ones; two workers.

    Buckets that keep versions and can lock them stand behind `embeddedlocked` and `weedslocked`.
    """
    locked = [dataclasses.replace(store, bucket=f"{store.bucket}-locked") for store in (near, weed)]
    for store in locked:
        place = (
            {"CreateBucketConfiguration": {"LocationConstraint": store.region}} if store.region == "eu-west-1" else {}
        )
        store.client().create_bucket(Bucket=store.bucket, ObjectLockEnabledForBucket=True, **place)
    text = settings_text(
        {
            "embedded": [near], "weeds": [weed], "clones": [rclone], "both": [near, far],
            "embeddedlocked": [locked[0]], "weedslocked": [locked[1]],
        }
    )  # fmt: skip
    with running_front(tmp_path_factory.mktemp("front"), text, "--workers", "2") as made:
        yield made


@pytest.fixture(scope="session")
def data_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `nearpoint aws-data` writes."""
    from nearpoint.cli.aws_data import write

    folder = tmp_path_factory.mktemp("aws-data")
    write(folder)
    return folder
