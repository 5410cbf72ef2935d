"""A store as its supervisor runs it: its own process on a free port, and clients of it."""

from __future__ import annotations

import hashlib
import http.client
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from nearpoint.signing import Credentials, Message, sign_v4, sign_v4a

ACCESS_KEY = "AKIATESTTESTTESTTEST"
SECRET_KEY = "test-secret-test-secret-test-secret-test"


class StoreProcess:
    """One store. `start` may be called again after `kill` or `stop`: the port stays, as under the supervisor."""

    def __init__(self, folder: Path, region: str = "us-east-1") -> None:
        self.folder = folder
        self.region = region
        self.sock = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.sock.getsockname()[1]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, **config: Any) -> None:
        self.launch(**config)
        self.wait()

    def launch(self, **config: Any) -> None:
        """Start without waiting for the first answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "config.json"
        path.touch(mode=0o600)
        path.write_text(
            json.dumps(
                {
                    "region": self.region,
                    "folder": str(self.folder / "data"),
                    "access_key_id": ACCESS_KEY,
                    "secret_key": SECRET_KEY,
                    "account_id": "123456789012",
                    "sockets": {"http": self.sock.fileno()},
                    **config,
                }
            )
        )
        self.process = subprocess.Popen(
            [sys.executable, "-m", "nearpoint.bucket", "--config", str(path)],
            pass_fds=[self.sock.fileno()],
            stderr=(self.folder / "log").open("ab"),
        )

    def wait(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            try:
                urllib.request.urlopen(f"{self.endpoint}/-/live", timeout=20).read()
                return
            except OSError:
                time.sleep(0.01)
        raise AssertionError("the store did not start")

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.sock.close()

    def client(self, **config: Any) -> Any:
        settings = {
            "s3": {"addressing_style": "path"},
            "retries": {"max_attempts": 1, "mode": "standard"},
            "signature_version": "s3v4",
            **config,
        }
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=self.region,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(**settings),
        )


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read()

    @property
    def code(self) -> str | None:
        return self.field("Code")

    def field(self, name: str) -> str | None:
        return ET.fromstring(self.body).findtext(name)


class Caller:
    """Signs and sends one request."""

    def __init__(self, store: Any, access_key: str, secret_key: str) -> None:
        self.store = store
        self.credentials = Credentials(access_key, secret_key)
        self.host = f"127.0.0.1:{store.port}"

    def send(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes = b"") -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.store.port, timeout=20)
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers:
            connection.putheader(name, value)
        connection.endheaders(body or None)
        try:
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def signed(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: list[tuple[str, str]] | None = None,
        payload_hash: str | None = None,
        now: datetime | None = None,
        region: str = "us-east-1",
        v4a: bool = False,
        credentials: Credentials | None = None,
    ) -> Answer:
        plain = [("Host", self.host), *(headers or [])]
        path, _, query = path.partition("?")
        message = Message(method, path, query, plain)
        digest = payload_hash or hashlib.sha256(body).hexdigest()
        moment, who = now or datetime.now(UTC), credentials or self.credentials
        if v4a:
            added = sign_v4a(message, who, region_set="*", service="s3", now=moment, payload_hash=digest)
        else:
            added = sign_v4(message, who, region=region, service="s3", now=moment, payload_hash=digest)
        length = [] if method in ("GET", "HEAD", "DELETE") else [("Content-Length", str(len(body)))]
        return self.send(method, f"{path}?{query}" if query else path, [*plain, *added, *length], body)


@pytest.fixture(scope="session")
def caller(running: StoreProcess) -> Caller:
    return Caller(running, ACCESS_KEY, SECRET_KEY)


@pytest.fixture(scope="session")
def caller_of() -> Any:
    """Makes the `caller` of a store."""
    return lambda store: Caller(store, ACCESS_KEY, SECRET_KEY)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreProcess]:
    """A store for all tests of this worker that leave it running."""
    store = StoreProcess(tmp_path_factory.mktemp("store"))
    store.start()
    yield store
    store.close()


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[StoreProcess]:
    """A store of the test's own, not started."""
    store = StoreProcess(tmp_path / "own")
    yield store
    store.close()


@pytest.fixture(scope="session")
def s3(running: StoreProcess) -> Any:
    return running.client()


_numbers = itertools.count(1)


@pytest.fixture
def bucket(s3: Any) -> str:
    """A new bucket."""
    name = f"bucket-{os.getpid()}-{next(_numbers)}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def versioned(s3: Any, bucket: str) -> str:
    """A new bucket that keeps versions."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


@pytest.fixture(scope="session")
def refused() -> Any:
    """`refused(call, …)` calls and returns (error code, status) of the refusal that it must get."""
    from botocore.exceptions import ClientError

    def call(function: Any, **arguments: Any) -> tuple[str, int]:
        with pytest.raises(ClientError) as caught:
            function(**arguments)
        response = caught.value.response
        return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]

    return call
