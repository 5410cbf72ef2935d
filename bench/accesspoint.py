"""Signed 1 KB GETs through one access point worker to a store that answers at once, every signature new.

    python -m bench.accesspoint [--requests 8000] [--rounds 5] [--connections 64] [--json]

The store and the client have a core each, and the worker the last one; Envoy, which signs with SigV4A and proxies but
verifies nothing, takes turns with it there. Requests are signed (SigV4A) before the clock starts, so that only the
worker is measured. Rows: every request new, by the account root and by a user whom policies have to allow; one
presigned URL again and again; one request at a time. Columns are medians of the rounds: requests per second; p50 and
p99 of the time a request took, in ms; processor time of the worker for one request, in µs, which a busy machine changes
less than the rest. Exit code 1 when a target was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from bench import accesspoint_peers as peers
from bench.edge_peers import HINTS, LOAD_CORE, ORIGIN_CORE, SERVER_CORE, core
from nearpoint.accesspoint.server import AccessPointNode
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.signing import EMPTY_SHA256, Credentials, Message, presign_v4a, sign_v4a
from nearpoint.state.resources import AccessKey, AccessPoint, Member, Role, Snapshot
from nearpoint.telemetry import garbage
from nearpoint.wire.client import Client, Origin
from nearpoint.wire.message import Request, Response
from nearpoint.wire.server import Peer, Server

ACCOUNT = "123456789012"
ALIAS = "mfzwi23gnjvgw.mrap"
HOST = f"{ALIAS}.accesspoint.s3-global.amazonaws.com"
ROOT = Credentials("AKIAROOT", "root-secret")
USER = Credentials("AKIAUSER", "user-secret")
_USER_ARN = f"arn:aws:iam::{ACCOUNT}:user/bench"
REGIONS = ("eu-west-1", "us-east-1")
_READS = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3::{ACCOUNT}:accesspoint/{ALIAS}/object/*",
        },
        {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "arn:aws:s3:::data-*"},
    ],
}
FRESH, ENVOY = "signed GET, every signature new", "… Envoy, which only signs and proxies"
PRESIGNED, BY_USER = "presigned GET, one URL", "signed GET, a user's, by policy"
ALONE = "signed GET, one at a time"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the issue asks of a row, and whether it was met."""

    text: str
    met: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured of one kind of request: medians of the rounds."""

    name: str
    requests_per_s: float
    ms_p50: float
    ms_p99: float
    worker_us: float
    target: Target | None = None


def _pin(number: int) -> None:
    os.sched_setaffinity(0, {int(core(number))})


def _serve_store(sock: socket.socket) -> None:
    _pin(ORIGIN_CORE)

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
            ),
            USER.access_key_id: AccessKey(
                access_key_id=USER.access_key_id, secret_key=USER.secret_key, principal_arn=_USER_ARN
            ),
        },
        roles={
            _USER_ARN: Role(
                name="bench",
                role_id="AROABENCH",
                arn=_USER_ARN,
                created_at=0.0,
                trust={},
                inline_policies={"reads": _READS},
            )
        },
        access_points={
            ALIAS: AccessPoint(alias=ALIAS, name="bench", account_id=ACCOUNT, created_at=0.0, members=members)
        },
    )


def _serve_access_point(sock: socket.socket, store_port: int) -> None:
    _pin(SERVER_CORE)

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


def signed_requests(count: int, name: str | None = None, who: Credentials = ROOT) -> list[bytes]:
    """Requests for as many keys (or all for the path `name`), each with a signature of its own."""
    requests = []
    now = datetime.now(UTC)
    for at in range(count):
        path = name or f"/folder/object-{at:06d}"
        message = Message("GET", path, "", [("Host", HOST)])
        headers = [("Host", HOST), *sign_v4a(message, who, now=now, payload_hash=EMPTY_SHA256)]
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
    return sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir()) / 1e9


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
        "requests_per_s": len(took_s) / elapsed_s,
        "ms_p50": quantiles[49] * 1000,
        "ms_p99": quantiles[98] * 1000,
        "worker_us": (_cpu_s(worker) - cpu_s) / len(took_s) * 1e6,
    }


@contextlib.contextmanager
def processes(*targets: tuple[Callable[..., None], tuple[Any, ...]]) -> Iterator[list[int]]:
    """Functions, each in a process of its own until the block ends; yields their ids."""
    spawn = multiprocessing.get_context("fork")
    children = [spawn.Process(target=target, args=arguments, daemon=True) for target, arguments in targets]
    for child in children:
        child.start()
    try:
        yield [child.pid or 0 for child in children]
    finally:
        for child in children:
            child.terminate()
            child.join()


def run(requests: int = 8_000, rounds: int = 5, connections: int = 64) -> list[Row]:
    """All rows."""
    store_sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    store_port, port = int(store_sock.getsockname()[1]), int(sock.getsockname()[1])
    fresh = signed_requests(requests)
    plain = [f"GET /folder/object-{at:06d} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode() for at in range(requests)]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        worker = stack.enter_context(
            processes((_serve_store, (store_sock,)), (_serve_access_point, (sock, store_port)))
        )[1]
        envoy = stack.enter_context(peers.envoy(folder, store_port, ROOT.access_key_id, ROOT.secret_key))
        _pin(LOAD_CORE)
        plan = [
            (FRESH, port, worker, fresh, connections),
            (PRESIGNED, port, worker, [presigned_request()] * requests, connections),
            (BY_USER, port, worker, signed_requests(requests, who=USER), connections),
            (ALONE, port, worker, fresh[: requests // 8], 1),
        ]
        if envoy is not None:
            plan.insert(1, (ENVOY, envoy.port, envoy.pids[0], plain, connections))
        for _, at, pid, load, count in plan:
            uvloop.run(_drive(at, load[: requests // 8], count, pid))
        found: dict[str, list[dict[str, float]]] = {}
        for _ in range(rounds):
            for name, at, pid, load, count in plan:
                found.setdefault(name, []).append(uvloop.run(_drive(at, load, count, pid)))
    medians = {
        name: {column: statistics.median(one[column] for one in taken) for column in taken[0]}
        for name, taken in found.items()
    }
    return [Row(name=name, target=_target(name, medians), **columns) for name, columns in medians.items()]


def _target(name: str, rows: dict[str, dict[str, float]]) -> Target | None:
    rate = rows[name]["requests_per_s"]
    if name == FRESH:
        text, met = "at least 4,500 /s", rate >= 4_500
        if ENVOY in rows:
            ratio = rate / rows[ENVOY]["requests_per_s"]
            text, met = f"{text}, and 0.5 times Envoy ({ratio:.2f})", met and ratio >= 0.5
        return Target(text=text, met=met)
    return Target(text="at least 10,000 /s", met=rate >= 10_000) if name == PRESIGNED else None


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=8_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = run(arguments.requests, arguments.rounds, arguments.connections)
    if arguments.json:
        json.dump([asdict(row) for row in rows], sys.stdout)
    else:
        for row in rows:
            verdict = "" if row.target is None else f"  {'met' if row.target.met else 'MISSED'}: {row.target.text}"
            sys.stdout.write(
                f"{row.name:38} {row.requests_per_s:7,.0f} /s  p50 {row.ms_p50:5.2f} ms  p99 {row.ms_p99:5.2f} ms  "
                f"cpu {row.worker_us:3.0f} µs{verdict}\n"
            )
        if all(row.name != ENVOY for row in rows):
            sys.stdout.write(f"no row of Envoy: {HINTS['envoy']}\n")
    return 0 if all(row.target is None or row.target.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
