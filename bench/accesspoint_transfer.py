"""What an access point adds to one request, what it carries, and what it keeps: overhead, large objects, memory.

    python -m bench.accesspoint_transfer [--mib 1024] [--seconds 3] [--rounds 3] [--json]

- overhead: signed 1 KB GETs at 200 a second on one connection, through the access point and at the store directly in
  turns, by the same client; the difference of the medians and of the 99th percentiles, in ms
- download and upload: one object of `--mib` MiB through one worker, and through nginx proxying the same store on the
  same core, in turns, in MB/s; how much more memory the worker has at its peak
- memory of one worker with 1,000 idle connections and 200 busy ones

Exit code 1 when a target was missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from bench import accesspoint as bench
from bench import accesspoint_peers as peers
from bench.edge_peers import HINTS, LOAD_CORE, ORIGIN_CORE
from nearpoint.signing import UNSIGNED_PAYLOAD, Message, sign_v4a
from nearpoint.wire.message import Headers, Request, Response, StreamBody
from nearpoint.wire.server import Server

RATE_PER_S = 200
IDLE, BUSY = 1000, 200
_PIECE = b"x" * 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure with its unit. `target` says what issue 3 asks of it, `met` whether it was met."""

    name: str
    value: float
    unit: str
    note: str = ""
    target: str = ""
    met: bool = True


def _serve_store(sock: socket.socket, size_bytes: int) -> None:
    bench._pin(ORIGIN_CORE)

    async def pieces(left: int) -> AsyncIterator[bytes]:
        while left:
            piece = _PIECE[:left]
            left -= len(piece)
            yield piece

    async def handle(request: Request) -> Response:
        if request.method == "PUT":
            async for _ in request.body:
                pass
            return Response(200, Headers([("ETag", '"d41d8cd98f00b204e9800998ecf8427e"')]))
        large = request.path.endswith("/large")
        size = size_bytes if large else 1024
        headers = Headers([("Content-Length", str(size)), ("ETag", '"d41d8cd98f00b204e9800998ecf8427e"')])
        if request.method == "HEAD":
            return Response(200, headers)
        return Response(200, headers, StreamBody(pieces(size), size) if large else b"x" * size)

    async def serve() -> None:
        await Server(handle).start(sock)
        await asyncio.Event().wait()

    uvloop.run(serve())


def _memory_mib(pid: int, field: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def _connected(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _body_of(sock: socket.socket, buffer: bytearray) -> int:
    """Read one answer; the size of its body. The bytes go where those before them went."""
    head = b""
    while b"\r\n\r\n" not in head:
        piece = sock.recv(65_536)
        if not piece:
            raise SystemExit(f"the connection ended in a head: {head!r}")
        head += piece
    head, _, rest = head.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"unexpected answer: {head!r}")
    length = int((head.lower() + b"\r\n").partition(b"content-length: ")[2].partition(b"\r")[0])
    left = length - len(rest)
    while left:
        size = sock.recv_into(buffer, min(left, len(buffer)))
        if not size:
            raise SystemExit("the connection ended in a body")
        left -= size
    return length


def _paced(port: int, requests: Sequence[bytes]) -> list[float]:
    """How long each request took, in ms: one connection, RATE_PER_S requests a second, nothing else in this process."""
    buffer = bytearray(65_536)
    took_ms = []
    with _connected(port) as sock:
        due_s = time.perf_counter()
        for request in requests:
            due_s += 1 / RATE_PER_S
            time.sleep(max(0.0, due_s - time.perf_counter()))
            started_s = time.perf_counter()
            sock.sendall(request)
            _body_of(sock, buffer)
            took_ms.append((time.perf_counter() - started_s) * 1000)
    return took_ms


def overhead(port: int, store_port: int, seconds: int, rounds: int) -> list[Row]:
    """What the access point adds at a pace that leaves it idle most of the time."""
    requests = bench.signed_requests(RATE_PER_S * seconds)
    through: list[float] = []
    direct: list[float] = []
    for _ in range(rounds):
        through += _paced(port, requests)
        direct += _paced(store_port, requests)
    ours, theirs = statistics.quantiles(through, n=100), statistics.quantiles(direct, n=100)
    rows = []
    for at, name, limit_ms in ((49, "p50", 0.6), (98, "p99", 3.0)):
        added_ms = ours[at] - theirs[at]
        rows.append(
            Row(
                name=f"overhead at {RATE_PER_S}/s, {name}",
                value=added_ms,
                unit="ms",
                note=f"{ours[at]:.2f} after {theirs[at]:.2f}",
                target=f"under {limit_ms} ms",
                met=added_ms < limit_ms,
            )
        )
    return rows


def _download_mb_per_s(port: int, request: bytes) -> float:
    buffer = bytearray(1 << 20)
    with _connected(port) as sock:
        started_s = time.perf_counter()
        sock.sendall(request)
        size = _body_of(sock, buffer)
        return size / (time.perf_counter() - started_s) / 1e6


def _upload_mb_per_s(port: int, head: bytes, size_bytes: int) -> float:
    piece = memoryview(_PIECE)
    with _connected(port) as sock:
        started_s = time.perf_counter()
        sock.sendall(head)
        for at in range(0, size_bytes, len(piece)):
            sock.sendall(piece[: size_bytes - at])
        _body_of(sock, bytearray(65_536))
        return size_bytes / (time.perf_counter() - started_s) / 1e6


def _upload_head(size_bytes: int) -> bytes:
    message = Message("PUT", "/large", "", [("Host", bench.HOST)])
    signed = sign_v4a(message, bench.ROOT, now=datetime.now(UTC), payload_hash=UNSIGNED_PAYLOAD)
    fields = [("Host", bench.HOST), ("Content-Length", str(size_bytes)), *signed]
    return ("PUT /large HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields) + "\r\n").encode()


def large_object(port: int, nginx_port: int | None, worker: int, mib: int, rounds: int) -> list[Row]:
    """One object down and up."""
    size_bytes = mib * 1024 * 1024
    before_mib = _memory_mib(worker, "VmHWM")
    rows = []
    for name in ("download", "upload"):
        ours: list[float] = []
        theirs: list[float] = []
        for _ in range(rounds):
            for to_port, taken in ((port, ours), (nginx_port, theirs)):
                if to_port is None:
                    continue
                if name == "upload":
                    taken.append(_upload_mb_per_s(to_port, _upload_head(size_bytes), size_bytes))
                else:
                    taken.append(_download_mb_per_s(to_port, bench.signed_requests(1, "/large")[0]))
        rate = statistics.median(ours)
        label = f"{mib} MiB {name}"
        if theirs:
            ratio = rate / statistics.median(theirs)
            note = f"nginx {statistics.median(theirs):.0f}, ratio {ratio:.2f}"
            target = "at least 0.8 times nginx"
            rows.append(Row(name=label, value=rate, unit="MB/s", note=note, target=target, met=ratio >= 0.8))
        else:
            rows.append(Row(name=label, value=rate, unit="MB/s", note=HINTS["nginx"]))
    more_mib = _memory_mib(worker, "VmHWM") - before_mib
    rows.append(Row(name="… more memory", value=more_mib, unit="MiB", target="under 64 MiB", met=more_mib < 64))
    return rows


async def memory(port: int, worker: int) -> list[Row]:
    """What a worker takes with many connections."""
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(IDLE)]
    requests = bench.signed_requests(BUSY * 10)

    async def busy(mine: Sequence[bytes]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for request in mine:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"unexpected answer: {head!r}")
            await reader.readexactly(1024)
        writer.close()

    await asyncio.gather(*(busy(requests[at::BUSY]) for at in range(BUSY)))
    found_mib = _memory_mib(worker, "VmRSS")
    for _, writer in idle:
        writer.close()
    name = "memory, 1,000 idle, 200 busy"
    return [Row(name=name, value=found_mib, unit="MiB", target="under 150 MiB", met=found_mib < 150)]


def run(mib: int = 1024, seconds: int = 3, rounds: int = 3) -> list[Row]:
    """All rows."""
    store_sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    store_port, port = int(store_sock.getsockname()[1]), int(sock.getsockname()[1])
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        worker = stack.enter_context(
            bench.processes(
                (_serve_store, (store_sock, mib * 1024 * 1024)), (bench._serve_access_point, (sock, store_port))
            )
        )[1]
        nginx = stack.enter_context(peers.nginx(folder, store_port))
        bench._pin(LOAD_CORE)
        _paced(port, bench.signed_requests(RATE_PER_S))
        return [
            *overhead(port, store_port, seconds, rounds),
            *large_object(port, None if nginx is None else nginx.port, worker, mib, rounds),
            *uvloop.run(memory(port, worker)),
        ]


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = run(arguments.mib, arguments.seconds, arguments.rounds)
    if arguments.json:
        json.dump([asdict(row) for row in rows], sys.stdout)
    else:
        for row in rows:
            verdict = f"{'met' if row.met else 'MISSED'}: {row.target}" if row.target else ""
            sys.stdout.write(f"{row.name:32} {row.value:8.2f} {row.unit:5} {row.note:28} {verdict}\n")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
