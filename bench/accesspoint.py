"""Signed 1 KB GETs through one access point worker to a store that answers at once, every signature new.

    python -m bench.accesspoint [--requests 20000] [--connections 64] [--json]

Starts three processes, each pinned to a core of its own where there are as many: the store, the access point worker,
and the client. Requests are signed (SigV4A) before the clock starts, so that only the worker is measured. The second
row repeats one presigned URL. Columns: requests per second; p50 and p99 of the time a request took, in ms; processor
time of the worker for one request, in µs, which a busy machine changes less than the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import socket
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import uvloop

from nearpoint.accesspoint.server import AccessPointNode
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.signing import EMPTY_SHA256, Credentials, Message, presign_v4a, sign_v4a
from nearpoint.state.resources import AccessKey, AccessPoint, Member, Snapshot
from nearpoint.telemetry import garbage
from nearpoint.wire.client import Client, Origin
from nearpoint.wire.message import Request, Response
from nearpoint.wire.server import Peer, Server

ACCOUNT = "123456789012"
ALIAS = "mfzwi23gnjvgw.mrap"
HOST = f"{ALIAS}.accesspoint.s3-global.amazonaws.com"
ROOT = Credentials("AKIAROOT", "root-secret")
REGIONS = ("eu-west-1", "us-east-1")
_BODY = b"x" * 1024
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\nContent-Type: application/octet-stream\r\n"
    b'ETag: "d41d8cd98f00b204e9800998ecf8427e"\r\nLast-Modified: Mon, 23 Nov 2026 05:00:00 GMT\r\n'
    b"x-amz-request-id: 0123456789ABCDEF\r\nAccept-Ranges: bytes\r\n\r\n" + _BODY
)
_HEAD = b"HTTP/1.1 404 Not Found\r\nx-amz-request-id: 0123456789ABCDEF\r\nContent-Length: 0\r\n\r\n"


def _instant(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], peer: Peer) -> bytes:
    return _ANSWER if method == b"GET" else _HEAD


async def _never(request: Request) -> Response:
    return Response(501)


def _pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def _serve_store(sock: socket.socket) -> None:
    _pin(0)

    async def serve() -> None:
        await Server(_never, instant=_instant).start(sock)
        await asyncio.Event().wait()

    uvloop.run(serve())


def _snapshot() -> Snapshot:
    members = tuple(Member(bucket=f"data-{region}", region=region) for region in REGIONS)
    return Snapshot(
        generation=1,
        account_id=ACCOUNT,
        session_secret="x",
        access_keys={
            ROOT.access_key_id: AccessKey(
                access_key_id=ROOT.access_key_id,
                secret_key=ROOT.secret_key,
                principal_arn=f"arn:aws:iam::{ACCOUNT}:root",
            )
        },
        access_points={
            ALIAS: AccessPoint(alias=ALIAS, name="bench", account_id=ACCOUNT, created_at=0.0, members=members)
        },
    )


def _serve_access_point(sock: socket.socket, store_port: int) -> None:
    _pin(1)

    async def serve() -> None:
        client = Client()
        stores = {
            region: Store(
                StoreSpec(
                    region=region,
                    endpoint=f"http://127.0.0.1:{store_port}",
                    access_key_id="store",
                    secret_key="secret",
                ),
                client,
                clock=lambda: datetime.now(UTC),
                connect_to=Origin(host="127.0.0.1", port=store_port),
            )
            for region in REGIONS
        }
        snapshot = _snapshot()
        node = AccessPointNode("bench", lambda: snapshot, stores)
        garbage.settle()
        await Server(node.handle).start(sock)
        await node.run()

    uvloop.run(serve())


def signed_requests(count: int, name: str | None = None) -> list[bytes]:
    """Requests for as many keys (or all for the path `name`), each with a signature of its own."""
    requests = []
    now = datetime.now(UTC)
    for at in range(count):
        path = name or f"/folder/object-{at:06d}"
        message = Message("GET", path, "", [("Host", HOST)])
        headers = [("Host", HOST), *sign_v4a(message, ROOT, now=now, payload_hash=EMPTY_SHA256)]
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers)
        requests.append(f"GET {path} HTTP/1.1\r\n{fields}\r\n".encode("latin-1"))
    return requests


def presigned_request() -> bytes:
    """A request with a presigned URL."""
    query = presign_v4a(Message("GET", "/object", "", [("Host", HOST)]), ROOT, now=datetime.now(UTC), expires_s=3600)
    return f"GET /object?{query} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode("latin-1")


class _Connection(asyncio.Protocol):
    """Sends one request after the other and counts the answers, which all have 1,024 bytes of body."""

    def __init__(self, requests: Iterator[bytes], done: Callable[[list[float]], None]) -> None:
        self._requests = requests
        self._done = done
        self._buffer = b""
        self._took_s: list[float] = []
        self._started_s = 0.0
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            self._done(self._took_s)
            return
        self._started_s = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0 or len(self._buffer) < end + 4 + len(_BODY):
            return
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"unexpected answer: {self._buffer[:600]!r}")
        self._took_s.append(time.perf_counter() - self._started_s)
        self._buffer = b""
        self._next()


def _cpu_s(pid: int) -> float:
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def _drive(port: int, requests: Sequence[bytes], connections: int, worker: int) -> dict[str, float]:
    loop = asyncio.get_running_loop()
    took_s: list[float] = []
    left = connections
    finished = loop.create_future()

    def done(took: list[float]) -> None:
        nonlocal left
        took_s.extend(took)
        left -= 1
        if not left:
            finished.set_result(None)

    source = iter(requests)
    cpu_s = _cpu_s(worker)
    started_s = time.perf_counter()
    for _ in range(connections):
        await loop.create_connection(lambda: _Connection(source, done), "127.0.0.1", port)
    async with asyncio.timeout(120):
        await finished
    elapsed_s = time.perf_counter() - started_s
    quantiles = statistics.quantiles(took_s, n=100)
    return {
        "requests_per_s": round(len(took_s) / elapsed_s),
        "ms_p50": round(quantiles[49] * 1000, 2),
        "ms_p99": round(quantiles[98] * 1000, 2),
        "worker_us": round((_cpu_s(worker) - cpu_s) / len(took_s) * 1e6),
    }


def run(requests: int = 20_000, connections: int = 64) -> dict[str, dict[str, float]]:
    """Both rows."""
    spawn = multiprocessing.get_context("fork")
    store_sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    children: list[BaseProcess] = [
        spawn.Process(target=_serve_store, args=(store_sock,)),
        spawn.Process(target=_serve_access_point, args=(sock, store_sock.getsockname()[1])),
    ]
    for child in children:
        child.start()
    port = sock.getsockname()[1]
    worker = children[1].pid or 0
    _pin(2)
    try:
        fresh = signed_requests(requests)
        repeated = [presigned_request()] * requests
        uvloop.run(_drive(port, fresh[: requests // 10], connections, worker))
        return {
            "signed GET, every signature new": uvloop.run(_drive(port, fresh, connections, worker)),
            "presigned GET, one URL": uvloop.run(_drive(port, repeated, connections, worker)),
            "signed GET, one at a time": uvloop.run(_drive(port, fresh[: requests // 10], 1, worker)),
        }
    finally:
        for child in children:
            child.terminate()
            child.join()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = run(arguments.requests, arguments.connections)
    if arguments.json:
        json.dump(rows, sys.stdout)
        return
    for name, row in rows.items():
        sys.stdout.write(
            f"{name:34} {row['requests_per_s']:7,.0f} /s  p50 {row['ms_p50']} ms  p99 {row['ms_p99']} ms  "
            f"worker {row['worker_us']:.0f} µs\n"
        )


if __name__ == "__main__":
    main()
