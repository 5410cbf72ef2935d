"""`python -m nearpoint.gateway --config FILE`: the gateway of one region's store.

The file is JSON: `region`, `store` (endpoint, access_key_id, secret_key, signing_region: the foreign store),
`nats_url`, and the socket `http`. It holds secrets: mode 0600. Clients sign with the store's own credentials.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import time
from collections.abc import Awaitable
from datetime import UTC, datetime
from typing import Any

import structlog

from nearpoint.gateway.abilities import Abilities, try_out
from nearpoint.gateway.calls import Calls
from nearpoint.gateway.giving import Giving
from nearpoint.gateway.internal import Internal
from nearpoint.gateway.kept import Kept
from nearpoint.gateway.log import JetStreamLog
from nearpoint.gateway.origin import Origin
from nearpoint.gateway.server import GatewayServer
from nearpoint.gateway.taking import Taking
from nearpoint.gateway.writes import Writes
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.refusals import error_page
from nearpoint.regions.store import Store
from nearpoint.signing import Credentials
from nearpoint.state import nats
from nearpoint.telemetry.child import Child, run_child
from nearpoint.wire.client import Client
from nearpoint.wire.server import Server

log = structlog.get_logger("nearpoint.gateway")

NATS_WAIT_S = 30.0
DRAIN_S = 5.0


def _now() -> datetime:
    return datetime.now(UTC)


def _now_us() -> int:
    return time.time_ns() // 1000


class Gateway:
    """A gateway, wired together. `handle` is the Exchange."""

    def __init__(self, region: str, given: dict[str, Any], nats_client: Any, client: Client) -> None:
        spec = StoreSpec.of_config(region, given)
        store = Store(spec, client, clock=_now)
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = JetStreamLog(nats_client, region)
        self._kept = Kept(nats_client, region)
        origin = Origin(store, self._kept, now_us=_now_us)
        abilities = Abilities(lambda bucket: try_out(store, bucket))
        self._writes = Writes(origin, self._log, self._kept, spawn=self.spawn)
        giving, taking = Giving(origin, self._writes), Taking(origin, self._writes, abilities)
        server = GatewayServer(
            credentials=Credentials(spec.access_key_id, spec.secret_key),
            signing_region=spec.signing_region,
            clock=_now,
            origin=origin,
            calls=Calls(origin, self._writes, self._kept),
            internal=Internal(self._log, self._kept, origin, giving, taking, abilities),
            kept=self._kept,
            log=self._log,
            abilities=abilities,
        )
        self.handle = server.handle

    async def start(self) -> None:
        """Take up what an earlier process has left. Call before anything is answered."""
        await asyncio.gather(self._log.start(), self._kept.start())
        left = await self._writes.recover()
        if left:
            log.info("intents are taken up", count=left)
        self.spawn(self._log.count())
        self.spawn(self._log.sweep())

    def spawn(self, work: Awaitable[None]) -> None:
        """Carry on with something in the background."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("something in the background ended badly", exc_info=task.exception())

    def stop_waiting(self) -> None:
        """Let everybody go who waits for something."""
        self._log.stop_waiting()

    async def close(self) -> None:
        """What is not ended is ended by the next process."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def main(child: Child) -> None:
    """Serve until told to stop, then drain."""
    config = child.config
    nats_client = await nats.connect(config["nats_url"], name=f"gateway {config['region']}", wait_s=NATS_WAIT_S)
    client = Client()
    gateway = Gateway(config["region"], config["store"], nats_client, client)
    await gateway.start()
    server = Server(
        gateway.handle, error=lambda status, reason: error_page(status, reason, secrets.token_hex(8).upper())
    )
    await server.start(child.listener("http"))
    gc.collect()
    gc.freeze()
    child.ready()
    await child.stopping.wait()
    gateway.stop_waiting()
    await server.drain(DRAIN_S)
    await gateway.close()
    await client.close()
    await nats_client.close()


if __name__ == "__main__":
    run_child("gateway", main)
