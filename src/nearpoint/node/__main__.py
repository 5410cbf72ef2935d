"""A worker process: some locations, one snapshot, one pool of functions."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from nearpoint.edge.logspool import LogSpool
from nearpoint.edge.metrics import WORKER_READY, EdgeMetrics
from nearpoint.edge.properties import ConfigError
from nearpoint.edge.viewer import Whereabouts
from nearpoint.functions.logs import FileLog
from nearpoint.functions.sandbox import Sandbox
from nearpoint.node.behind import KeysBehind
from nearpoint.node.functions import EdgeFunctions
from nearpoint.node.location import CacheSpace, Location, load
from nearpoint.node.log_delivery import LogDelivery
from nearpoint.node.snapshots import SnapshotFollower
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.replay import SpoolSpace
from nearpoint.regions.store import Store
from nearpoint.state.resources import Snapshot
from nearpoint.telemetry import garbage
from nearpoint.telemetry.child import Child, run_child
from nearpoint.telemetry.metrics import Registry
from nearpoint.wire.certificates import CertificateFolder
from nearpoint.wire.client import Client, Origin
from nearpoint.wire.server import Server
from nearpoint.wire.tls import Authority

log = structlog.get_logger("nearpoint.node")

DRAIN_S = 5.0
REPORT_EVERY_S = 0.5
# What the edges of one process may keep, all together.
CACHE_MEMORY_BYTES = 268_435_456
CACHE_MEMORY_BYTES_MIN = 16_777_216
CACHE_DISK_BYTES = 536_870_912
MEASURED_WAIT_S = 3.0


def _now() -> datetime:
    return datetime.now(UTC)


class Node:
    """The locations of one process."""

    def __init__(self, config: dict[str, Any]) -> None:
        cache_dir = Path(config["cache_dir"])
        cache_dir.mkdir(parents=True, exist_ok=True)
        self.follower = SnapshotFollower(
            config["nats_url"], config["name"], cache_dir / "snapshot.json", on_swap=self._swap
        )
        self.client = Client()
        self.functions_log = FileLog(Path(config["function_logs_dir"]))
        self.sandbox = Sandbox(
            cache_dir=cache_dir / "functions", packages_dir=Path(config["packages_dir"]), log=self.functions_log
        )
        functions = EdgeFunctions(self.snapshot, self.sandbox, self.functions_log)
        aws_api = Origin(host="127.0.0.1", port=config["aws_api_port"])
        self._empty = Snapshot(generation=0, account_id="", session_secret="")
        space = SpoolSpace()
        count = max(1, len(config["locations"]))
        cache = CacheSpace(
            memory_bytes=max(CACHE_MEMORY_BYTES // count, CACHE_MEMORY_BYTES_MIN),
            folder=cache_dir / "edges",
            disk_bytes=CACHE_DISK_BYTES // count,
        )
        self._seen_invalidations: set[str] = set()
        self.logs = LogSpool(cache_dir / "access-logs", clock=time.time, random_hex=lambda: secrets.token_hex(4))
        registry = Registry(cache_dir.parent / "metrics" / f"{config['name']}.metrics")
        self.ready = registry.counter(WORKER_READY)
        self.ready.set(0)
        metrics = EdgeMetrics(registry)
        self.behind = KeysBehind(list(config["stores"]), cache_dir.parent / "writes", config["name"], config["others"])
        self.locations = [
            Location(
                name,
                pop=given["pop"],
                snapshot=self.snapshot,
                stores=self._stores(config["stores"], given["relays"]),
                functions=functions,
                client=self.client,
                aws_api=aws_api,
                where=Whereabouts(**given["where"]),
                shields={
                    region: None if port is None else Origin(host="127.0.0.1", port=port)
                    for region, port in given.get("shields", {}).items()
                },
                logs=self.logs,
                space=space,
                cache=cache,
                metrics=metrics,
                behind=self.behind,
            )
            for name, given in config["locations"].items()
        ]

        some: dict[str, Any] = next(iter(config["locations"].values()), {"relays": {}})
        self.delivery = LogDelivery(
            self.logs, stores=self._stores(config["stores"], some["relays"]), snapshot=self.snapshot
        )

    def snapshot(self) -> Snapshot:
        """The current snapshot; an empty one before the first."""
        return self.follower.current or self._empty

    def _swap(self, snapshot: Snapshot) -> None:
        def refused(distribution_id: str, error: ConfigError) -> None:
            log.error("a distribution cannot be served", distribution=distribution_id, error=str(error))

        load(self.locations, snapshot, refused, self._seen_invalidations)
        log.info("running by a new snapshot", generation=snapshot.generation)

    def _stores(self, stores: dict[str, dict[str, Any]], relays: dict[str, int]) -> dict[str, Store]:
        return {
            region: Store(
                StoreSpec.of_config(region, given),
                self.client,
                clock=_now,
                connect_to=Origin(host="127.0.0.1", port=relays[region]),
            )
            for region, given in stores.items()
        }

    def nearest_stores(self) -> dict[str, Store]:
        """Every region's store as it is reached from the location of this process that is nearest to it."""

        def rtt_ms(location: Location, region: str) -> float:
            measured = location.access_point.fleet.rtt_ms_p50(region)
            return float("inf") if measured is None else measured

        return {
            region: min(self.locations, key=lambda each: rtt_ms(each, region)).stores[region]
            for region in self.locations[0].stores
        }

    def report(self) -> dict[str, Any]:
        """What every location measures and chooses."""
        return {location.name: location.access_point.report() for location in self.locations}

    async def close(self) -> None:
        await asyncio.gather(*(location.close() for location in self.locations))
        await self.delivery.finish()
        await self.sandbox.close()
        self.functions_log.flush()
        await self.client.close()


async def _measured(locations: Sequence[Location]) -> None:
    """Wait, though not for long, until every location knows how far the regions are: its choices are right then."""
    loop = asyncio.get_running_loop()
    until = loop.time() + MEASURED_WAIT_S
    while loop.time() < until and not all(each.access_point.is_measured for each in locations):  # noqa: ASYNC110
        await asyncio.sleep(0.02)


async def main(child: Child) -> None:
    """Serve this node's locations until the supervisor says stop; ready once all of them run by a snapshot."""
    node = Node(child.config)
    node.follower.load_cached()
    tasks = [asyncio.create_task(node.follower.run([location.name for location in node.locations]))]
    await node.follower.have.wait()
    tls = Authority.load_or_create(Path(child.config["ca_dir"])).server_context(alpn=("h2", "http/1.1"))
    own = Path(child.config["certificates_dir"])
    CertificateFolder(own, lambda why: log.error("a certificate cannot be used", why=why)).before(tls)
    servers = []
    for location in node.locations:
        for scheme in ("https", "http"):
            server = Server(
                location.handle,
                tls=tls if scheme == "https" else None,
                instant=location.edge.instant(scheme),
                error=location.edge.refusal,
            )
            await server.start(child.listener(f"node.{location.name}.{scheme}"))
            servers.append(server)
        location.start()
        tasks.append(asyncio.create_task(location.access_point.run()))
    tasks.append(asyncio.create_task(node.delivery.run()))
    await _measured(node.locations)
    tasks.append(asyncio.create_task(node.behind.run(node.nearest_stores())))
    garbage.settle()
    node.ready.set(1)
    child.ready()

    async def report() -> None:
        while True:
            child.send({"routes": node.report()})
            await asyncio.sleep(REPORT_EVERY_S)

    tasks.append(asyncio.create_task(report()))
    stopping = asyncio.create_task(child.stopping.wait())
    done, _ = await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
    node.ready.set(0)
    await asyncio.gather(*(server.drain(DRAIN_S) for server in servers))
    for task in (stopping, *tasks):
        task.cancel()
    await node.close()
    for task in done - {stopping}:
        task.result()  # a task that ended by itself ended by an error: the supervisor starts this process again


if __name__ == "__main__":
    run_child("node", main)
