"""`python -m nearpoint.replication --config FILE`: a copier for each region, in one process.

The file is JSON: `stores` (region: endpoint, access_key_id, secret_key, signing_region), `relays` (for each region, the
loopback port by which it reaches each region; left out: the endpoints themselves), `token`, `folder` (what sweeps
remember), and the socket `http`. It holds secrets: mode 0600.
"""

from __future__ import annotations

import asyncio
import gc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.replication.copier import Copier
from nearpoint.replication.peer import Peer
from nearpoint.replication.repair import Repairer
from nearpoint.replication.service import Service
from nearpoint.telemetry.child import Child, run_child
from nearpoint.wire.client import Client, Origin
from nearpoint.wire.server import Server

log = structlog.get_logger("nearpoint.replication")

_DRAIN_S = 2.0


def _now() -> datetime:
    return datetime.now(UTC)


def peers_from(location: str, config: dict[str, Any], client: Client) -> dict[str, Peer]:
    """Every region's store as it is reached from a location."""
    relays: dict[str, int] = config.get("relays", {}).get(location, {})
    return {
        region: Peer(
            Store(
                StoreSpec.of_config(region, given),
                client,
                clock=_now,
                connect_to=Origin(host="127.0.0.1", port=relays[region]) if region in relays else None,
            )
        )
        for region, given in config["stores"].items()
    }


async def main(child: Child) -> None:
    """Copy until told to stop. What is under way then is simply done again by the next copier."""
    config = child.config
    client = Client()
    copiers: dict[str, Copier] = {}
    own: dict[str, Peer] = {}
    for region in config["stores"]:
        peers = peers_from(region, config, client)
        copiers[region] = Copier(region, peers)
        own[region] = peers[region]
    repairer = Repairer(Path(config["folder"]), own)
    server = Server(Service(copiers, own, config["token"], repairer).handle)
    await server.start(child.listener("http"))
    running = [asyncio.create_task(copier.run()) for copier in copiers.values()]
    running.append(asyncio.create_task(repairer.run()))
    gc.collect()
    gc.freeze()
    child.ready()
    stopping = asyncio.create_task(child.stopping.wait())
    await asyncio.wait({stopping, *running}, return_when=asyncio.FIRST_COMPLETED)
    for task in running:
        if task.done():
            log.error("a copier or the repairer ended", exc_info=task.exception())
        task.cancel()
    await server.drain(_DRAIN_S)
    await client.close()


if __name__ == "__main__":
    run_child("replication", main)
