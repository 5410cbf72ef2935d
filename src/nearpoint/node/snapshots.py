"""The snapshot a node runs by: the newest it has heard of, from NATS or, before NATS answers, from its own disk.

A node that loses NATS goes on with what it has; a node that starts without NATS begins with what it had.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from nearpoint.state import nats
from nearpoint.state.planner import NodeStatus
from nearpoint.state.resources import Snapshot

log = structlog.get_logger("nearpoint.node")

RETRY_S = 1.0
STATUS_EVERY_S = 0.5


class SnapshotFollower:
    """Holds the current snapshot and replaces it by newer ones, never by an older one.

    `on_swap` is called with each snapshot that takes over. `have` is set once there is one.
    """

    def __init__(self, nats_url: str, name: str, cache_file: Path, on_swap: Callable[[Snapshot], None]) -> None:
        self.current: Snapshot | None = None
        self.have = asyncio.Event()
        self._nats_url = nats_url
        self._name = name
        self._cache_file = cache_file
        self._on_swap = on_swap
        self._swapped = asyncio.Event()

    def load_cached(self) -> None:
        """Begin with the snapshot of the last run, if it can be read."""
        try:
            snapshot = msgspec.json.decode(self._cache_file.read_bytes(), type=Snapshot)
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("the kept snapshot cannot be used", error=str(error))
            return
        self._take(snapshot)

    def _take(self, snapshot: Snapshot) -> None:
        if self.current is not None and snapshot.generation <= self.current.generation:
            return
        self.current = snapshot
        self._on_swap(snapshot)
        self.have.set()
        self._swapped.set()

    def _keep(self, snapshot: Snapshot) -> None:
        temporary = self._cache_file.with_suffix(".tmp")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(msgspec.json.encode(snapshot))
            temporary.replace(self._cache_file)
        except OSError as error:
            log.warning("the snapshot cannot be kept", error=str(error))

    async def run(self, locations: list[str]) -> None:
        """Follow NATS and report for each location, until cancelled."""
        while True:
            try:
                client = await nats.connect(self._nats_url, name=self._name)
                channel = await nats.SnapshotChannel.open(client)
            except Exception as error:
                log.warning("no snapshots from NATS yet", error=str(error) or type(error).__name__)
                await asyncio.sleep(RETRY_S)
                continue
            break

        async def follow() -> None:
            async for snapshot in channel.watch():
                self._take(snapshot)
                if self.current is snapshot:
                    self._keep(snapshot)

        async def report() -> None:
            while True:
                self._swapped.clear()
                if self.current is not None:
                    for location in locations:
                        status = NodeStatus(location=location, generation=self.current.generation)
                        try:
                            await client.publish(nats.STATUS_SUBJECT, msgspec.json.encode(status))
                        except Exception as error:
                            log.debug("status not sent", error=str(error) or type(error).__name__)
                try:
                    await asyncio.wait_for(self._swapped.wait(), STATUS_EVERY_S)
                except TimeoutError:
                    continue

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(follow())
            tasks.create_task(report())
