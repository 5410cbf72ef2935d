"""The stand-alone edge beside nginx `proxy_cache`: hits of 1 KB, 100 KB and 10 MB, 304s, hits under a Vary, misses.

    python -m bench.edge [--seconds 4] [--rounds 5] [--connections 64] [--json]

One worker each, in turn on the same core, wrk and the origin on cores of their own, access log on for both (buffered
for both), a cache folder on disk for both. Figures are medians of the rounds: requests per second, p99, and processor
time a request. nginx and wrk come with Debian (`apt-get install nginx-light wrk`);
without wrk nothing is measured, without nginx its column stays empty.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

WRK_CORE, SERVER_CORE, ORIGIN_CORE = 0, 1, 2
_UNITS_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
_NGINX = """
worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log {folder}/nginx-access.log combined buffer=64k flush=1s;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  proxy_cache_path {folder}/cache levels=1:2 keys_zone=bench:64m max_size=4g inactive=1h use_temp_path=off;
  sendfile on; keepalive_requests 1000000000; keepalive_timeout 60s;
  upstream origin {{ server 127.0.0.1:{origin_port}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_cache bench; proxy_cache_key $uri$is_args$args; add_header X-Cache $upstream_cache_status;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is asked for. `target` is times nginx's, from issues 2 and 4; a miss asks for a new path every time."""

    name: str
    path: str
    headers: tuple[str, ...] = ()
    miss: bool = False
    target: float


ROWS = (
    Row(name="1 KB hit", path="/1", target=1.5),
    Row(name="100 KB hit", path="/100", target=1.5),
    Row(name="10 MB hit", path="/10M", target=1.0),
    Row(name="304", path="/1", headers=('If-None-Match: "bench"',), target=1.5),
    Row(
        name="1 KB hit, Vary and three parameters",
        path="/vary?a=1&b=2&c=3",
        headers=("Accept-Language: de", "Accept-Encoding: gzip, br"),
        target=1.2,
    ),
    Row(name="1 KB miss, stored", path="/1", miss=True, target=0.7),
)


async def origin(sock: socket.socket) -> None:
    """Answers that may be kept, from memory."""
    from nearpoint.wire.message import Request, Response
    from nearpoint.wire.server import Peer, Server

    def reply(size: int, more: str = "") -> bytes:
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nCache-Control: max-age=3600\r\n"
            f'ETag: "bench"\r\n{more}Content-Length: {size}\r\n\r\n'
        )
        return head.encode() + b"x" * size

    small, large, huge = reply(1024), reply(102_400), reply(10_485_760)
    varied = reply(1024, "Vary: Accept-Language, Accept-Encoding\r\n")

    def instant(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], peer: Peer) -> bytes:
        if target.startswith(b"/100"):
            return large
        if target.startswith(b"/10M"):
            return huge
        return varied if target.startswith(b"/vary") else small

    async def handle(request: Request) -> Response:
        return Response(404)

    await Server(handle, instant=instant).start(sock)
    await asyncio.Event().wait()


def core(number: int) -> str:
    """The number of a core that this process may use, for taskset."""
    cores = sorted(os.sched_getaffinity(0))
    return str(cores[number % len(cores)])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], port: int, on_core: int) -> Iterator[int]:
    """Run a server on a core until the block ends; yields its process id when it answers."""
    process = subprocess.Popen(["taskset", "-c", core(on_core), *command], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended with {process.returncode}")
            time.sleep(0.05)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def cpu_s(pid: int) -> float:
    """The processor time that a process and its children have used."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_s(int(child)) for child in children)


def load(port: int, pid: int, row: Row, *, connections: int, seconds: int, folder: Path) -> dict[str, float]:
    """What wrk measures, and the server's processor time a request, which a busy machine does not blur.

    Raises RuntimeError when an answer was not as it should be or a connection broke.
    """
    command = ["taskset", "-c", core(WRK_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
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
    before_s = cpu_s(pid)
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{port}{row.path}"], capture_output=True, text=True, check=True
    ).stdout
    used_s = cpu_s(pid) - before_s
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
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


_runs = itertools.count()


def measure(*, rounds: int, connections: int, seconds: int, only: str = "") -> list[dict[str, object]]:
    """A result a row: medians for `nearpoint` and, where it is installed, `nginx`, and how they compare."""
    results: list[dict[str, object]] = []
    nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nearpoint-bench-")))
        folder.chmod(0o755)
        origin_port, edge_port, nginx_port = free_port(), free_port(), free_port()
        stack.enter_context(
            running([sys.executable, "-m", "bench.edge", "--origin", str(origin_port)], origin_port, ORIGIN_CORE)
        )
        program = (
            "import pathlib, sys; from nearpoint.cli.edge import run_edge; "
            "sys.exit(run_edge(sys.argv[1], sys.argv[2], access_log=sys.argv[3], cache_mb=1024, "
            "cache_dir=pathlib.Path(sys.argv[4]), cache_gb=4))"
        )
        command = [sys.executable, "-c", program, f"127.0.0.1:{edge_port}", f"http://127.0.0.1:{origin_port}"]
        command += [str(folder / "edge-access.log"), str(folder / "edge-cache")]
        pid = stack.enter_context(running(command, edge_port, SERVER_CORE))
        subjects = {"nearpoint": (edge_port, pid)}
        if nginx is not None:
            config = folder / "nginx.conf"
            config.write_text(_NGINX.format(folder=folder, port=nginx_port, origin_port=origin_port))
            pid = stack.enter_context(running([nginx, "-p", str(folder), "-c", str(config)], nginx_port, SERVER_CORE))
            subjects["nginx"] = (nginx_port, pid)
        for row in ROWS:
            if only not in row.name:
                continue
            samples: dict[str, list[dict[str, float]]] = {name: [] for name in subjects}
            for _ in range(rounds):
                for name, (port, pid) in subjects.items():
                    samples[name].append(load(port, pid, row, connections=connections, seconds=seconds, folder=folder))
            medians = {
                name: {key: round(statistics.median(one[key] for one in of), 3) for key in of[0]}
                for name, of in samples.items()
            }
            result: dict[str, object] = {"row": row.name, "target": row.target, **medians}
            if "nginx" in medians:
                result["times_nginx"] = round(medians["nearpoint"]["per_s"] / medians["nginx"]["per_s"], 2)
            else:
                result["skipped"] = "nginx is not installed (apt-get install nginx-light)"
            results.append(result)
    return results


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.edge")
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", default="", help="only the rows whose names hold this")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--origin", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.origin is not None:
        import uvloop

        uvloop.run(origin(socket.create_server(("127.0.0.1", options.origin))))
    if shutil.which("wrk") is None:
        print("skipped: wrk is not installed (apt-get install wrk)", file=sys.stderr)
        return 0
    results = measure(
        rounds=options.rounds, connections=options.connections, seconds=options.seconds, only=options.only
    )
    if options.json:
        print(json.dumps(results))
        return 0
    for result in results:
        cells = [f"{result['row']:38}"]
        for name in ("nearpoint", "nginx"):
            figures = result.get(name)
            if isinstance(figures, dict):
                rate, p99, cpu = figures["per_s"], figures["ms_p99"], figures["cpu_us"]
                cells.append(f"{name} {rate:>9,.0f} /s  p99 {p99:>6.2f} ms  cpu {cpu:>5.1f} µs")
        cells.append(f"x{result['times_nginx']} (wanted {result['target']})" if "nginx" in result else "")
        print("   ".join(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
