"""What an access point adds to one request, what it carries, and what it keeps: overhead, a large object, memory.

    python -m bench.accesspoint_transfer [--mib 1024] [--seconds 5] [--json]

- overhead: signed 1 KB GETs at 200 a second, through the access point and at the store directly; the difference in ms
- large object: one object of `--mib` MiB through one worker, and through nginx proxying the same store, in MB/s; how
  much more memory the worker has at its peak
- memory of one worker with 1,000 idle connections and 200 busy ones
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import uvloop

from bench import accesspoint as bench
from nearpoint.wire.message import Headers, Request, Response, StreamBody
from nearpoint.wire.server import Server

RATE_PER_S = 200
IDLE, BUSY = 1000, 200
_PIECE = b"x" * 262_144


def _serve_store(sock: socket.socket, size_bytes: int) -> None:
    bench._pin(0)

    async def pieces(left: int) -> AsyncIterator[bytes]:
        while left:
            piece = _PIECE[:left]
            left -= len(piece)
            yield piece

    async def handle(request: Request) -> Response:
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


def _memory_kib(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise LookupError(field)


async def _ask(port: int, request: bytes) -> int:
    """The size of the answer's body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200"):
        raise SystemExit(f"unexpected answer: {head!r}")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    left = length
    while left:
        left -= len(await reader.read(1 << 20))
    writer.close()
    return length


async def _paced(port: int, requests: Sequence[bytes]) -> list[float]:
    """How long each request took, in ms, one connection, RATE_PER_S requests a second."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    took_ms = []
    due_s = time.perf_counter()
    for request in requests:
        due_s += 1 / RATE_PER_S
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
        started_s = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"unexpected answer: {head!r}")
        await reader.readexactly(1024)
        took_ms.append((time.perf_counter() - started_s) * 1000)
    writer.close()
    return took_ms


async def overhead(port: int, store_port: int, seconds: int) -> dict[str, float]:
    requests = bench.signed_requests(RATE_PER_S * seconds)
    through = statistics.quantiles(await _paced(port, requests), n=100)
    direct = statistics.quantiles(await _paced(store_port, requests), n=100)
    return {
        "overhead_ms_p50": round(through[49] - direct[49], 2),
        "overhead_ms_p99": round(through[98] - direct[98], 2),
        "store_ms_p50": round(direct[49], 2),
        "store_ms_p99": round(direct[98], 2),
    }


async def _mb_per_s(port: int, request: bytes) -> float:
    started_s = time.perf_counter()
    size = await _ask(port, request)
    return size / (time.perf_counter() - started_s) / 1e6


async def large_object(port: int, nginx_port: int | None, worker: int) -> dict[str, float]:
    request = bench.signed_requests(1, "/large")[0]
    before_kib = _memory_kib(worker, "VmHWM")
    ours = await _mb_per_s(port, request)
    found: dict[str, float] = {
        "mb_per_s": round(ours),
        "more_memory_mib": round((_memory_kib(worker, "VmHWM") - before_kib) / 1024),
    }
    if nginx_port is not None:
        theirs = await _mb_per_s(nginx_port, b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        found |= {"nginx_mb_per_s": round(theirs), "ratio": round(ours / theirs, 2)}
    return found


async def memory(port: int, worker: int) -> dict[str, float]:
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(IDLE)]
    requests = bench.signed_requests(BUSY * 10)

    async def busy(mine: Sequence[bytes]) -> None:
        for request in mine:
            await _ask(port, request)

    await asyncio.gather(*(busy(requests[at::BUSY]) for at in range(BUSY)))
    found: dict[str, float] = {"memory_mib": round(_memory_kib(worker, "VmRSS") / 1024)}
    for _, writer in idle:
        writer.close()
    return found


def _start_nginx(directory: Path, store_port: int) -> tuple[subprocess.Popen[bytes], int] | None:
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if nginx is None:
        return None
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
    (directory / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; worker_cpu_affinity 0010; pid {directory}/pid; error_log stderr crit;\n"
        "events {}\n"
        f"http {{ access_log off; proxy_temp_path {directory}/p; client_body_temp_path {directory}/b;"
        f" fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;"
        f" server {{ listen 127.0.0.1:{port};"
        f" location / {{ proxy_pass http://127.0.0.1:{store_port}; proxy_http_version 1.1;"
        " proxy_max_temp_file_size 0; } } }\n"
    )
    process = subprocess.Popen([nginx, "-p", str(directory), "-c", str(directory / "nginx.conf")])
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    return process, port


def run(mib: int = 1024, seconds: int = 5) -> dict[str, dict[str, float]]:
    """All rows."""
    spawn = multiprocessing.get_context("fork")
    store_sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
    sock = socket.create_server(("127.0.0.1", 0), backlog=2048)
    store_port: int = store_sock.getsockname()[1]
    port: int = sock.getsockname()[1]
    children: list[BaseProcess] = [
        spawn.Process(target=_serve_store, args=(store_sock, mib * 1024 * 1024)),
        spawn.Process(target=bench._serve_access_point, args=(sock, store_port)),
    ]
    for child in children:
        child.start()
    worker = children[1].pid or 0
    bench._pin(2)
    with tempfile.TemporaryDirectory() as directory:
        nginx = _start_nginx(Path(directory), store_port)
        try:
            uvloop.run(_paced(port, bench.signed_requests(50)))
            return {
                "overhead at 200/s": uvloop.run(overhead(port, store_port, seconds)),
                f"{mib} MiB object": uvloop.run(large_object(port, None if nginx is None else nginx[1], worker)),
                "1,000 idle, 200 busy": uvloop.run(memory(port, worker)),
            }
        finally:
            if nginx is not None:
                nginx[0].terminate()
                nginx[0].wait()
            for child in children:
                child.terminate()
                child.join()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows: dict[str, Any] = run(arguments.mib, arguments.seconds)
    if arguments.json:
        json.dump(rows, sys.stdout)
        return
    for name, row in rows.items():
        sys.stdout.write(f"{name:24} " + "  ".join(f"{key} {value}" for key, value in row.items()) + "\n")


if __name__ == "__main__":
    main()
