"""The edge beyond its peak rate: latency at a steady load, two workers, HTTP/2, idle connections.

    python -m bench.edge_scale [--seconds 3] [--rounds 5] [--idle 10000] [--only ROW] [--json]

- p99 at 70 % of nginx's peak: nginx's rate of 1 KB hits is measured, then both get 70 % of it at an even pace, from
  h2load (`--rps`), which writes down how long each request took.
- two workers on two cores, as many times one worker: 1 KB hits by the hook, and ranges of them by the ordinary path;
  wrk on two cores of its own. Where wrk or a busy machine is the limit, processor time a request says whether a second
  worker costs more than the first.
- HTTP/2 over TLS: 1 KB hits, 64 connections with 8 streams each; no target.
- memory of idle keep-alive connections that have asked once, beyond what the server had before.

wrk and h2load come with Debian (`apt-get install wrk nghttp2-client nginx-light`).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.edge import ROWS, Row, load, origin_running
from bench.edge_peers import LOAD_CORE, Subject, core, cpu_s, memory_bytes, nearpoint, nginx

SHARE_OF_PEAK = 0.7
TIMES_ONE_WORKER = 1.8
IDLE_MIB_MAX = 200
HIT = ROWS[0]
RANGE = Row(name="range", path="/1", headers=("Range: bytes=0-511",), targets={})
TLS_PAIR = (
    "tls_certs=(pathlib.Path(sys.argv[4]).parent / 'c.pem',), tls_keys=(pathlib.Path(sys.argv[4]).parent / 'k.pem',)"
)


def paced(subject: Subject, rate: float, *, connections: int, seconds: int, folder: Path) -> dict[str, float]:
    """The times that requests took which came at a steady rate."""
    log = folder / "paced.log"
    log.unlink(missing_ok=True)
    command = ["taskset", "-c", core(LOAD_CORE), "h2load", "--h1", "-t1", f"-c{connections}", f"-D{seconds}"]
    command += [f"--rps={rate / connections:.2f}", f"--log-file={log}", f"http://127.0.0.1:{subject.port}/1"]
    subprocess.run(command, capture_output=True, check=True)
    rows = [line.split("\t") for line in log.read_text().splitlines()]
    if any(row[1] != "200" for row in rows):
        raise RuntimeError(f"{subject.name}: not every answer was a 200")
    taken_us = sorted(int(row[2]) for row in rows)
    return {
        "per_s": round(len(rows) / seconds),
        "ms_p50": taken_us[len(rows) // 2] / 1000,
        "ms_p99": taken_us[len(rows) * 99 // 100] / 1000,
    }


def steady(folder: Path, origin_port: int, *, seconds: int, rounds: int) -> dict[str, object]:
    """p99 of both at 70 % of nginx's peak."""
    if shutil.which("h2load") is None:
        return {"row": "p99 at 70 % of nginx's peak", "skipped": "apt-get install nghttp2-client"}
    with nearpoint(folder, origin_port) as own, nginx(folder, origin_port) as peer:
        if peer is None:
            return {"row": "p99 at 70 % of nginx's peak", "skipped": "apt-get install nginx-light"}
        peak = max(load(peer, HIT, connections=64, seconds=seconds, folder=folder)["per_s"] for _ in range(rounds))
        load(own, HIT, connections=64, seconds=1, folder=folder)
        samples: dict[str, list[dict[str, float]]] = {"nearpoint": [], "nginx": []}
        for _ in range(rounds):
            for subject in (own, peer):
                samples[subject.name].append(
                    paced(subject, peak * SHARE_OF_PEAK, connections=64, seconds=seconds, folder=folder)
                )
    medians = {
        name: {key: round(statistics.median(one[key] for one in of), 3) for key in of[0]}
        for name, of in samples.items()
    }
    met = medians["nearpoint"]["ms_p99"] <= medians["nginx"]["ms_p99"]
    return {"row": "p99 at 70 % of nginx's peak", "wanted": "no worse than nginx's", "met": met, **medians}


def two_workers(folder: Path, origin_port: int, row: Row, *, seconds: int, rounds: int) -> dict[str, object]:
    """How many times one worker's rate two workers on two cores reach."""
    cores = f"{core(2)},{core(-1)}"
    samples: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    loaded = Row(name=row.name, path=row.path, headers=row.headers, targets={}, load_cores=2, load_at=(0, 1))
    with (
        nearpoint(folder, origin_port) as one,
        nearpoint(folder, origin_port, workers=2, on_core=cores) as two,
    ):
        for subject in (one, two):
            load(subject, HIT, connections=128, seconds=1, folder=folder)
        for _ in range(rounds):
            for count, subject in ((1, one), (2, two)):
                samples[count].append(load(subject, loaded, connections=128, seconds=seconds, folder=folder))
    rate = {count: statistics.median(each["per_s"] for each in of) for count, of in samples.items()}
    cpu = {count: statistics.median(each["cpu_us"] for each in of) for count, of in samples.items()}
    return {
        "row": f"two workers, {row.name}",
        "wanted": TIMES_ONE_WORKER,
        "met": rate[2] / rate[1] >= TIMES_ONE_WORKER,
        "times_one": round(rate[2] / rate[1], 2),
        "per_s": [round(rate[1]), round(rate[2])],
        "cpu_us": [round(cpu[1], 1), round(cpu[2], 1)],
    }


def http2(folder: Path, origin_port: int, *, seconds: int, rounds: int) -> dict[str, object]:
    """1 KB hits over HTTP/2 and TLS."""
    name = "1 KB hit, HTTP/2 over TLS"
    if shutil.which("h2load") is None or shutil.which("openssl") is None:
        return {"row": name, "skipped": "apt-get install nghttp2-client openssl"}
    certificate, key = folder / "c.pem", folder / "k.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(certificate)], capture_output=True, check=True)
    key.chmod(0o644)
    samples: dict[str, list[tuple[float, float]]] = {}
    with (
        nearpoint(folder, origin_port, more=TLS_PAIR) as own,
        nginx(folder, origin_port, certificate=(certificate, key)) as peer,
    ):
        there = [own] if peer is None else [own, peer]
        for each in range(rounds + 1):
            for subject in there:
                before_s = sum(map(cpu_s, subject.pids))
                command = ["taskset", "-c", core(LOAD_CORE), "h2load", "-t1", "-c64", "-m8", f"-D{seconds}"]
                command.append(f"https://127.0.0.1:{subject.port}/1")
                output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
                used_s = sum(map(cpu_s, subject.pids)) - before_s
                count = int(output.partition("status codes: ")[2].partition(" 2xx")[0])
                if each:  # the first one is to warm up
                    samples.setdefault(subject.name, []).append((count / seconds, used_s / count * 1e6))
    result: dict[str, object] = {"row": name}
    for subject_name, of in samples.items():
        rate, cpu_us = (round(statistics.median(column), 1) for column in zip(*of, strict=True))
        result[subject_name] = {"per_s": rate, "cpu_us": cpu_us}
    return result


def idle(folder: Path, origin_port: int, count: int) -> dict[str, object]:
    """Memory of `count` connections that have asked once and wait."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    name = f"{count:,} idle connections"
    if hard < count + 100:
        return {"row": name, "skipped": f"no more than {hard} files may be open (ulimit -n)"}
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with nearpoint(folder, origin_port) as subject, contextlib.ExitStack() as stack:
        load(subject, HIT, connections=64, seconds=1, folder=folder)
        before = sum(map(memory_bytes, subject.pids))
        for _ in range(count):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", subject.port)))
            sock.sendall(b"GET /1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % subject.port)
            if not sock.recv(65_536).startswith(b"HTTP/1.1 200"):
                raise RuntimeError("not answered")
        added = sum(map(memory_bytes, subject.pids)) - before
    mib = round(added / 2**20, 1)
    return {
        "row": name,
        "wanted": f"under {IDLE_MIB_MAX} MiB",
        "met": mib < IDLE_MIB_MAX,
        "mib": mib,
        "bytes_each": round(added / count),
        "mib_before": round(before / 2**20, 1),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.edge_scale")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--only", default="", help="steady, workers, http2 or idle")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    if shutil.which("wrk") is None:
        print("skipped: wrk is not installed (apt-get install wrk)", file=sys.stderr)
        return 0
    times = {"seconds": options.seconds, "rounds": options.rounds}
    results: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="nearpoint-bench-") as name, origin_running() as origin_port:
        folder = Path(name)
        folder.chmod(0o755)
        if options.only in ("", "steady"):
            results.append(steady(folder, origin_port, **times))
        if options.only in ("", "workers"):
            results += [two_workers(folder, origin_port, row, **times) for row in (HIT, RANGE)]
        if options.only in ("", "http2"):
            results.append(http2(folder, origin_port, **times))
        if options.only in ("", "idle"):
            results += [idle(folder, origin_port, count) for count in (1_000, options.idle)]
    if options.json:
        print(json.dumps(results))
        return 0
    for result in results:
        print(result.pop("row"))
        for key, value in result.items():
            print(f"  {key:12} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
