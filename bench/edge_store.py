"""What a million cached objects of 1 KB cost: memory a worker's tier, disk, and time to start with them.

    python -m bench.edge_store [--objects 1000000] [--json]

Figures: bytes of resident memory an object beyond its 1,024 in the memory tier (hot ones included), bytes on disk an
object, microseconds to keep one, to find one, and seconds until a new process can serve them.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nearpoint.edge.cache import MemoryCache
from nearpoint.edge.entry import Entry
from nearpoint.edge.freshness import Freshness, Source
from nearpoint.edge.hot import HotPaths
from nearpoint.edge.metrics import EdgeMetrics
from nearpoint.edge.store.disk import DiskStore
from nearpoint.edge.store.record import Record, key_bytes
from nearpoint.wire.message import Headers

FIELDS = (
    b'Content-Type: text/plain\r\nETag: "0123456789abcdef"\r\nCache-Control: max-age=3600\r\n'
    b"Date: Mon, 23 Nov 2026 06:38:42 GMT\r\nVia: 1.1 0123456789abcdef0123456789abcdef.cloudfront.net (CloudFront)\r\n"
)
FRESH = Freshness(
    fresh_s=9e9,
    initial_age_s=0,
    source=Source.MAX_AGE,
    stale_while_revalidate_s=0,
    stale_if_error_s=0,
    stale_when_unreachable=True,
)


def resident_bytes() -> int:
    """What this process has in memory of its own."""
    pages = Path("/proc/self/statm").read_text().split()
    return (int(pages[1]) - int(pages[2])) * os.sysconf("SC_PAGE_SIZE")


def key_of(at: int) -> tuple[object, ...]:
    return ("E1ABCDEF23GHIJ", "GET", f"/objects/{at:07}", "", 0, (), "")


def memory(objects: int, *, hot: bool) -> float:
    """Bytes a cached object beyond its own."""
    metrics = EdgeMetrics()
    paths = HotPaths(clock=time.time, ids=iter(()), pop="LOC50-P1", values=metrics.registry.values)
    cache = MemoryCache(1 << 40)
    cache.on_drop = paths.forget
    counters = (metrics.requests(None, None, "Hit"), metrics.bytes(None, None))
    headers = Headers([("Host", "d111111abcdef8.cloudfront.net")])
    gc.collect()
    before = resident_bytes()
    for at in range(objects):
        entry = Entry(
            key=key_of(at),
            variance=(),
            variant=(),
            status=200,
            fields=bytes(bytearray(FIELDS)),
            body=os.urandom(1024),
            freshness=FRESH,
            requested_at=1.0,
            received_at=1.0,
        )
        cache.put(entry)
        if hot:
            paths.offer(
                scheme="https",
                headers=headers,
                target=f"/objects/{at:07}",
                names=[],
                entry=entry,
                standalone=False,
                counters=counters,
            )
    gc.collect()
    return (resident_bytes() - before) / objects - 1024


def alone(objects: int, *, hot: bool) -> int:
    """`memory` in a process of its own."""
    program = f"from bench.edge_store import memory; print(round(memory({objects}, hot={hot})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(done.stdout)


def disk(objects: int) -> dict[str, float]:
    folder = Path(tempfile.mkdtemp(prefix="nearpoint-bench-"))
    try:
        return _disk(folder, objects)
    finally:
        shutil.rmtree(folder)


def _disk(folder: Path, objects: int) -> dict[str, float]:
    store = DiskStore(folder, 8 << 30)
    began_s, body = time.process_time(), os.urandom(1024)
    for at in range(objects):
        store.keep(
            Record(
                key=key_bytes(key_of(at)),
                variance=(),
                variant=(),
                status=200,
                fields=FIELDS,
                requested_at=1.0,
                born_at=1.0,
                fresh_until=9e9,
                stale_while_until=9e9,
                stale_if_error_until=9e9,
                stale_when_unreachable=True,
                size=1024,
                body=body,
            )
        )
        if at % 2_000 == 1_999:
            store.flush()
    store.flush()
    keep_us = (time.process_time() - began_s) / objects * 1e6
    assert store.totals.records == objects, store.totals
    store.close()
    used = sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
    began_s = time.perf_counter()
    store = DiskStore(folder, 8 << 30)
    found = store.find(key_bytes(key_of(objects // 2)), lambda names: ())
    start_s = time.perf_counter() - began_s
    assert found is not None
    began_s = time.process_time()
    for at in range(0, objects, max(1, objects // 100_000)):
        assert store.find(key_bytes(key_of(at)), lambda names: ()) is not None
    find_us = (time.process_time() - began_s) / min(objects, 100_000) * 1e6
    store.close()
    return {
        "keep_cpu_us": round(keep_us, 1),
        "find_cpu_us": round(find_us, 1),
        "disk_bytes_each": round(used / objects),
        "start_s": round(start_s, 3),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.edge_store")
    parser.add_argument("--objects", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    figures: dict[str, float] = {
        "objects": options.objects,
        "memory_bytes_each": alone(options.objects, hot=False),
        "memory_bytes_each_hot": alone(options.objects, hot=True),
        **disk(options.objects),
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
