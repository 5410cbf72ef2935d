"""The server and the client by themselves: prebuilt replies, a handler, a proxy; 64 connections of wrk.

    python -m bench.wire [--seconds 4] [--connections 64] [--json]

Each process is pinned to a core of its own where there are enough: wrk, the server under test, the origin behind the
proxy. wrk comes with Debian (`apt-get install wrk`); without it the rows are skipped. Columns: requests per second;
p50 and p99 of the time a request took, in ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from multiprocessing.process import BaseProcess

import uvloop

from nearpoint.wire.client import Client, Origin
from nearpoint.wire.message import Headers, Request, Response
from nearpoint.wire.server import Peer, Server

KIB = 1024
_FIELDS = (
    "Content-Type: text/plain\r\nX-Cache: Hit from cloudfront\r\nAge: 3\r\nDate: Mon, 23 Nov 2026 04:32:00 GMT\r\n"
)
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


def prebuilt(size: int) -> bytes:
    """A whole response with a body of `size` bytes."""
    return f"HTTP/1.1 200 OK\r\n{_FIELDS}Content-Length: {size}\r\n\r\n".encode() + b"x" * size


async def serve_instant(sock: socket.socket, _: int) -> None:
    """`/1` and `/100`: that many KiB from memory."""
    replies = {b"/1": prebuilt(KIB), b"/100": prebuilt(100 * KIB)}

    def instant(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], peer: Peer) -> bytes | None:
        return replies.get(target)

    async def missing(request: Request) -> Response:
        return Response(404)

    await Server(missing, instant=instant).start(sock)


async def serve_handler(sock: socket.socket, _: int) -> None:
    """1 KiB from a handler."""
    data = b"x" * KIB

    async def handler(request: Request) -> Response:
        return Response(200, Headers([("Content-Type", "text/plain")]), data)

    await Server(handler).start(sock)


async def serve_proxy(sock: socket.socket, origin_port: int) -> None:
    """Whatever the origin says."""
    client = Client()
    origin = Origin(host="127.0.0.1", port=origin_port)

    async def handler(request: Request) -> Response:
        return await client.send(request, origin)

    await Server(handler).start(sock)


_ROLES: dict[str, Callable[[socket.socket, int], Awaitable[None]]] = {
    "instant": serve_instant,
    "handler": serve_handler,
    "proxy": serve_proxy,
}
ROWS = (
    ("prebuilt reply, 1 KiB", "instant", "/1"),
    ("prebuilt reply, 100 KiB", "instant", "/100"),
    ("handler, 1 KiB", "handler", "/"),
    ("proxied, 1 KiB", "proxy", "/1"),
)


def _core(number: int) -> set[int]:
    cores = sorted(os.sched_getaffinity(0))
    return {cores[number % len(cores)]}


def _run(role: str, sock: socket.socket, origin_port: int, core: int) -> None:
    os.sched_setaffinity(0, _core(core))

    async def main() -> None:
        await _ROLES[role](sock, origin_port)
        await asyncio.Event().wait()

    uvloop.run(main())


def start(role: str, core: int, origin_port: int = 0) -> tuple[BaseProcess, int]:
    """A server of that role in a process of its own, and its port."""
    sock = socket.create_server(("127.0.0.1", 0))
    process = multiprocessing.get_context("fork").Process(
        target=_run, args=(role, sock, origin_port, core), daemon=True
    )
    process.start()
    port = int(sock.getsockname()[1])
    sock.close()
    return process, port


def load(port: int, path: str, connections: int, seconds: int) -> dict[str, float]:
    """What wrk measures. Raises RuntimeError when a response was not a 200 or a connection broke."""
    output = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency", f"http://127.0.0.1:{port}{path}"],
        capture_output=True,
        text=True,
        check=True,
        preexec_fn=lambda: os.sched_setaffinity(0, _core(0)),
    ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    times = {
        percent: float(value) * _UNITS_MS[unit]
        for percent, value, unit in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)$", output, re.M)
    }
    assert rate is not None
    return {"per_s": float(rate[1]), "ms_p50": round(times["50"], 3), "ms_p99": round(times["99"], 3)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.wire")
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        print("skipped: wrk is not installed (apt-get install wrk)", file=sys.stderr)
        return 0
    origin, origin_port = start("instant", 2)
    servers = [origin]
    results: dict[str, dict[str, float]] = {}
    try:
        for title, role, path in ROWS:
            server, port = start(role, 1, origin_port)
            servers.append(server)
            results[title] = load(port, path, options.connections, options.seconds)
            server.terminate()
    finally:
        for server in servers:
            server.terminate()
            server.join()
    if options.json:
        print(json.dumps(results))
    else:
        for title, row in results.items():
            print(f"{title:26}{row['per_s']:>10,.0f} /s   p50 {row['ms_p50']:.2f} ms   p99 {row['ms_p99']:.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
