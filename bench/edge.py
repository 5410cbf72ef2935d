"""The stand-alone edge beside nginx, Varnish and Envoy: hits of 1 KB, 100 KB and 10 MB, 304s, a Vary, misses.

    python -m bench.edge [--seconds 2] [--rounds 5] [--connections 64] [--only ROW] [--json]

One worker each, in turn on the same core, wrk and the origin on cores of their own, access log on for all (see
`bench.edge_peers`). Figures are medians of the rounds: requests per second, p99, and processor time a request, which a
busy machine blurs less. Where one core of wrk would be the limit (100 KB and 10 MB), it has two. `bare` is a loop that
reads something and sends the same bytes from memory, always: what the kernel and the event loop take for themselves.
wrk comes with Debian (`apt-get install wrk`); without it nothing is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from bench.edge_peers import (
    HINTS,
    LOAD_CORE,
    ORIGIN_CORE,
    SERVER_CORE,
    Subject,
    core,
    cpu_s,
    envoy,
    free_ports,
    nearpoint,
    nginx,
    running,
    varnish,
)

PEERS = ("nginx", "nginx, no sendfile", "varnish", "envoy", "envoy, not stored", "bare")  # as they are shown
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is asked for. `targets` are times a peer's rate, from issue 4; a miss asks for a new path every time."""

    name: str
    path: str
    headers: tuple[str, ...] = ()
    miss: bool = False
    targets: dict[str, float]
    peers: tuple[str, ...] = ("nginx", "varnish")
    load_cores: int = 1
    load_at: tuple[int, ...] = (LOAD_CORE, 2)


ROWS = (
    Row(name="1 KB hit", path="/1", targets={"nginx": 1.5}),
    Row(
        name="100 KB hit",
        path="/100",
        targets={"nginx": 1.5},
        peers=("nginx", "nginx, no sendfile", "varnish", "bare"),
        load_cores=2,
    ),
    Row(name="10 MB hit", path="/10M", targets={"nginx": 1.0}, load_cores=2),
    Row(
        name="304",
        path="/1",
        headers=('If-None-Match: "bench"',),
        targets={"nginx": 1.5},
        peers=("nginx", "varnish", "bare"),
    ),
    Row(
        name="1 KB hit, Vary and three parameters",
        path="/vary?a=1&b=2&c=3",
        headers=("Accept-Language: de", "Accept-Encoding: gzip, br"),
        targets={"nginx": 1.2},
    ),
    Row(
        name="1 KB miss, stored",
        path="/1",
        miss=True,
        targets={"nginx": 0.7, "envoy": 2.0},
        peers=("nginx", "varnish", "envoy", "envoy, not stored"),
    ),
)


async def origin(sock: socket.socket) -> None:
    """Answers that may be kept, from memory. Dated (RFC 9110 §6.6.1): Envoy keeps no answer without a date."""
    from nearpoint.wire.dates import http_date
    from nearpoint.wire.message import Request, Response
    from nearpoint.wire.server import Peer, Server

    @lru_cache(maxsize=8)
    def head(size: int, more: str, second: int) -> bytes:
        return (
            f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nDate: {http_date(datetime.fromtimestamp(second, UTC))}\r\n"
            f'Cache-Control: max-age=3600\r\nETag: "bench"\r\n{more}Content-Length: {size}\r\n\r\n'
        ).encode()

    small, large, huge = b"x" * 1024, b"x" * 102_400, b"x" * 10_485_760

    def instant(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], peer: Peer) -> tuple[bytes, bytes]:
        body = large if target.startswith(b"/100") else huge if target.startswith(b"/10M") else small
        more = "Vary: Accept-Language, Accept-Encoding\r\n" if target.startswith(b"/vary") else ""
        return head(len(body), more, int(time.time())), body

    async def handle(request: Request) -> Response:
        return Response(404)

    await Server(handle, instant=instant).start(sock)
    await asyncio.Event().wait()


async def bare(sock: socket.socket) -> None:
    """Sends one of two answers whatever is said: no request is looked at beyond its path."""
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 102400\r\nX-Head: " + b"x" * 300 + b"\r\n\r\n" + b"x" * 102_400
    small = b"HTTP/1.1 304 Not Modified\r\nX-Head: " + b"x" * 300 + b"\r\n\r\n"

    class Sends(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.write = transport.write

        def data_received(self, data: bytes) -> None:
            self.write(large if data[5] == 0x31 and data[6] == 0x30 else small)

    await asyncio.get_running_loop().create_server(Sends, sock=sock, backlog=4096)
    await asyncio.Event().wait()


_runs = itertools.count()


def load(subject: Subject, row: Row, *, connections: int, seconds: int, folder: Path) -> dict[str, float]:
    """What wrk measures, and the server's processor time a request.

    Raises RuntimeError when an answer was not as it should be or a connection broke.
    """
    cores = ",".join(map(core, row.load_at[: row.load_cores]))
    command = ["taskset", "-c", cores, "wrk", f"-t{row.load_cores}", f"-c{connections}", f"-d{seconds}s"]
    command += ["--latency", "--timeout", "20s"]
    for header in row.headers:
        command += ["-H", header]
    if row.miss:
        script = folder / f"miss-{next(_runs)}.lua"
        script.write_text(
            f"local n = 0\nrequest = function()\n  n = n + 1\n"
            f'  return wrk.format("GET", "{row.path}/{script.stem}/" .. n)\nend\n'
        )
        command += ["-s", str(script)]
    before_s = sum(map(cpu_s, subject.pids))
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{subject.port}{row.path}"], capture_output=True, text=True, check=True
    ).stdout
    used_s = sum(map(cpu_s, subject.pids)) - before_s
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(f"{subject.name}: {output}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    count = re.search(r"(\d+) requests in", output)
    assert rate is not None
    assert count is not None
    times = {
        percent: float(value) * _UNITS_MS[unit]
        for percent, value, unit in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s)\s*$", output, re.M)
    }
    return {
        "per_s": float(rate[1]),
        "ms_p50": times["50"],
        "ms_p99": times["99"],
        "cpu_us": used_s / int(count[1]) * 1e6,
    }


@contextlib.contextmanager
def origin_running() -> Iterator[int]:
    """The origin on its core; yields its port."""
    (port,) = free_ports(1)
    with running([sys.executable, "-m", "bench.edge", "--serve", "origin", str(port)], port, ORIGIN_CORE):
        yield port


@contextlib.contextmanager
def bare_running() -> Iterator[Subject]:
    (port,) = free_ports(1)
    with running([sys.executable, "-m", "bench.edge", "--serve", "bare", str(port)], port, SERVER_CORE) as pid:
        yield Subject(name="bare", port=port, pids=(pid,))


def measure(*, rounds: int, connections: int, seconds: int, only: str = "") -> list[dict[str, object]]:
    """A result a row: medians for each server, and how `nearpoint` compares with each."""
    results: list[dict[str, object]] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearpoint-bench-")))
        folder.chmod(0o755)
        origin_port = stack.enter_context(origin_running())
        subjects: dict[str, Subject] = {}
        starts = (nearpoint, nginx, partial(nginx, sendfile=False), varnish, envoy, partial(envoy, stores=False))
        for start in starts:
            subject = stack.enter_context(start(folder, origin_port))
            if subject is not None:
                subjects[subject.name] = subject
        subjects["bare"] = stack.enter_context(bare_running())
        for row in ROWS:
            if only not in row.name:
                continue
            there = [subjects[name] for name in ("nearpoint", *row.peers) if name in subjects]
            samples: dict[str, list[dict[str, float]]] = {subject.name: [] for subject in there}
            for subject in there:
                load(subject, row, connections=connections, seconds=1, folder=folder)
            for _ in range(rounds):
                for subject in there:
                    samples[subject.name].append(
                        load(subject, row, connections=connections, seconds=seconds, folder=folder)
                    )
            medians = {
                name: {key: round(statistics.median(one[key] for one in of), 3) for key in of[0]}
                for name, of in samples.items()
            }
            own = medians["nearpoint"]
            results.append(
                {
                    "row": row.name,
                    "wanted": row.targets,
                    **medians,
                    "times": {
                        name: round(own["per_s"] / figures["per_s"], 2)
                        for name, figures in medians.items()
                        if name != "nearpoint"
                    },
                    "times_by_cpu": {
                        name: round(figures["cpu_us"] / own["cpu_us"], 2)
                        for name, figures in medians.items()
                        if name != "nearpoint"
                    },
                    "skipped": {name: HINTS[name.partition(",")[0]] for name in row.peers if name not in subjects},
                }
            )
    return results


def shown(result: dict[str, object]) -> str:
    """A row as text: a line for each server."""
    lines = [str(result["row"])]
    wanted, times, by_cpu = result["wanted"], result["times"], result["times_by_cpu"]
    assert isinstance(wanted, dict)
    assert isinstance(times, dict)
    assert isinstance(by_cpu, dict)
    for name in ("nearpoint", *PEERS):
        figures = result.get(name)
        if not isinstance(figures, dict):
            continue
        line = f"  {name:18}{figures['per_s']:>10,.0f} /s   p99 {figures['ms_p99']:>7.2f} ms   "
        line += f"cpu {figures['cpu_us']:>7.1f} µs"
        if name in times:
            line += f"   x{times[name]} (by cpu x{by_cpu[name]})"
            if name in wanted:
                line += f", wanted {wanted[name]}{': missed' if times[name] < wanted[name] else ''}"
        lines.append(line)
    skipped = result["skipped"]
    assert isinstance(skipped, dict)
    lines += [f"  {name:18}skipped: not installed ({hint})" for name, hint in skipped.items()]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.edge")
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", default="", help="only the rows whose names hold this")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve is not None:
        import uvloop

        role, port = options.serve
        serve = {"origin": origin, "bare": bare}[role]
        uvloop.run(serve(socket.create_server(("127.0.0.1", int(port)))))
    if shutil.which("wrk") is None:
        print("skipped: wrk is not installed (apt-get install wrk)", file=sys.stderr)
        return 0
    results = measure(
        rounds=options.rounds, connections=options.connections, seconds=options.seconds, only=options.only
    )
    print(json.dumps(results) if options.json else "\n".join(map(shown, results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
