"""What a million cached objects of 1 KB cost: memory a worker's tier, disk, time to start, pauses; what is evicted.

    python -m bench.edge_store [--objects 1000000] [--json]

Figures: bytes of resident memory an object beyond its 1,024 in the memory tier (hot ones included), bytes on disk an
object, microseconds to keep one, to find one, and seconds until a new process can serve them. Then, in a worker that
has them all in memory and answers one hit after the other: seconds until an invalidation of everything that another
process has noted is in force, and the longest pause between two answers meanwhile, and while more is kept. Last, the
hit rate on a Zipf(0.9) trace at 1 % capacity beside an exact simulation of the published policy (Yang et al., SOSP
2023, algorithm 1; the one of `tests/edge/test_eviction.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import repeat
from pathlib import Path

from nearpoint.edge.bounds import Bounds
from nearpoint.edge.cache import MemoryCache
from nearpoint.edge.config import standalone_distribution
from nearpoint.edge.engine import Edge
from nearpoint.edge.entry import Entry
from nearpoint.edge.freshness import Freshness, Source
from nearpoint.edge.hot import HotPaths
from nearpoint.edge.metrics import EdgeMetrics
from nearpoint.edge.ports import OriginTarget
from nearpoint.edge.store.disk import DiskStore
from nearpoint.edge.store.record import Record, key_bytes
from nearpoint.telemetry import garbage
from nearpoint.wire.message import Headers, Peer, Request, Response

FIELDS = (
    b'Content-Type: text/plain\r\nETag: "0123456789abcdef"\r\nCache-Control: max-age=3600\r\n'
    b"Date: Mon, 23 Nov 2026 06:38:42 GMT\r\nVia: 1.1 0123456789abcdef0123456789abcdef.cloudfront.net (CloudFront)\r\n"
)
PEER = Peer("127.0.0.1", "https")
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
    paths = HotPaths(clock=time.time, ids=repeat(b"x" * 56), pop="LOC50-P1", values=metrics.registry.values)
    hook, fields = paths.instant("https"), [(b"Host", b"d111111abcdef8.cloudfront.net")]
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
            assert hook(b"GET", b"/objects/%07d" % at, fields, PEER) is not None
    gc.collect()
    return (resident_bytes() - before) / objects - 1024


def alone(objects: int, *, hot: bool) -> int:
    """`memory` in a process of its own."""
    program = f"from bench.edge_store import memory; print(round(memory({objects}, hot={hot})))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return int(done.stdout)


class Pauses:
    """The longest time between two calls of `answered`."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._last_s = time.perf_counter()

    def answered(self) -> None:
        now_s = time.perf_counter()
        self.longest_s = max(self.longest_s, now_s - self._last_s)
        self._last_s = now_s


async def serving(objects: int, folder: Path) -> dict[str, float]:
    """Pauses of a worker with so many objects in memory."""

    async def fetch(target: OriginTarget, request: Request, /) -> Response:
        return Response(200, Headers([("Cache-Control", "max-age=60"), ("Content-Length", "1")]), b"x")

    store = DiskStore(folder, 1 << 30)
    edge = Edge(fetch=fetch, store=store, bounds=Bounds(cache_bytes_max=1 << 40))
    distribution = standalone_distribution(host="bench", port=80, tls=False)
    edge.load((), default=distribution)
    hook, peer, fields = edge.instant("http"), Peer("127.0.0.1", "http"), [(b"Host", b"bench")]
    headers = Headers([("Host", "bench")])
    counters = (edge.metrics.requests(None, None, "Hit"), edge.metrics.bytes(None, None))

    def made(at: int) -> Entry:
        return Entry(
            key=("standalone", *key_of(at)[1:]),
            variance=(),
            variant=(),
            status=200,
            fields=bytes(bytearray(FIELDS)),
            body=os.urandom(1024),
            freshness=FRESH,
            requested_at=1.0,
            received_at=1.0,
        )

    garbage.settle()  # as a worker does when it starts
    for at in range(objects):
        entry = made(at)
        edge.cache.put(entry)
        target = f"/objects/{at:07}"
        edge._hot.offer(
            scheme="http", headers=headers, target=target, names=[], entry=entry, standalone=True, counters=counters
        )
    edge.start()
    numbers = random.Random(1)

    def ask() -> bool:
        return hook(b"GET", b"/objects/%07d" % numbers.randrange(objects), fields, peer) is not None

    pauses = Pauses()
    for at in range(objects, objects + objects // 3):
        edge.cache.put(made(at))
        assert ask()
        pauses.answered()
        if at % 64 == 0:
            await asyncio.sleep(0)
    keeping_s = pauses.longest_s
    program = (
        "import sys, time; from pathlib import Path; from nearpoint.edge.store.disk import DiskStore; "
        "from nearpoint.edge.store.record import Note; store = DiskStore(Path(sys.argv[1]), 1 << 30); "
        "store.note(Note(distribution_id='standalone', id='I1', at=time.time(), exact=(), prefixes=('/',))); "
        "store.flush(); print(time.time()); store.close()"
    )
    noting = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(folder), stdout=asyncio.subprocess.PIPE
    )
    pauses = Pauses()
    while ask():
        pauses.answered()
        await asyncio.sleep(0)
    in_force_at = time.time()
    for at in range(200):  # they are gone for the ordinary path, too
        response = await edge.handle(Request("GET", f"/objects/{at:07}", headers, client_ip="127.0.0.1"))
        assert response.headers.get("x-cache") == "Miss from cloudfront"
        pauses.answered()
    output, _ = await noting.communicate()
    await edge.close()
    store.close()
    return {
        "longest_pause_keeping_ms": round(keeping_s * 1000, 1),
        "invalidation_in_force_s": round(max(0.0, in_force_at - float(output)), 3),
        "longest_pause_invalidating_ms": round(pauses.longest_s * 1000, 1),
    }


def serving_alone(objects: int) -> dict[str, float]:
    """`serving` in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="nearpoint-bench-") as folder:
        program = (
            "import asyncio, json; from pathlib import Path; from bench.edge_store import serving; "
            f"print(json.dumps(asyncio.run(serving({objects}, Path({folder!r})))))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        figures: dict[str, float] = json.loads(done.stdout)
        return figures


def eviction(objects: int = 1_000_000, requests: int = 1_000_000) -> dict[str, float]:
    """Hit rates of the memory tier's policy and of the published one."""
    from tests.edge.test_eviction import memory_hits, simulated_hits, zipf

    trace = zipf(alpha=0.9, objects=objects, requests=requests, seed=1)
    published, ours = (hits(trace, objects // 100) / requests for hits in (simulated_hits, memory_hits))
    return {"zipf_hit_rate": round(ours, 4), "zipf_hit_rate_published": round(published, 4)}


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
        **serving_alone(options.objects),
        **eviction(),
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:24} {value:>12,}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
