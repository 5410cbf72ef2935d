"""Delivers the standard logs of distributions to the buckets that their `Logging` names."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Mapping

import structlog

from nearpoint.edge.logspool import Finished, LogSpool
from nearpoint.regions.store import Store
from nearpoint.state.resources import Snapshot
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.message import Headers

log = structlog.get_logger("nearpoint.node")

EVERY_S = 1.0
RETRY_S = 10.0  # after a failure
LAST_S = 5.0  # what delivering may take when the process ends; the rest is for the next one


class LogDelivery:
    """Carries what a spool has finished to the stores, through any of the process's locations."""

    def __init__(self, spool: LogSpool, *, stores: Mapping[str, Store], snapshot: Callable[[], Snapshot]) -> None:
        self._spool = spool
        self._stores = stores
        self._snapshot = snapshot
        self._said: dict[str, str] = {}  # by bucket: what is in the way, as the log has it

    async def run(self) -> None:
        """Deliver until cancelled."""
        while True:
            complete = await self._deliver(self._spool.due())
            await asyncio.sleep(EVERY_S if complete else RETRY_S)

    async def finish(self) -> None:
        """Deliver all there is, as far as that is possible at once."""
        self._spool.close()
        try:
            async with asyncio.timeout(LAST_S):
                await self._deliver(self._spool.due(everything=True))
        except TimeoutError:
            log.warning("access logs wait for the next start")

    async def _deliver(self, files: list[Finished]) -> bool:
        """Whether all of them have arrived."""
        complete = True
        for each in files:
            why = await self._put(each)
            if why is None:
                self._spool.done(each.path)
                self._said.pop(each.target.bucket, None)
                continue
            complete = False
            if self._said.get(each.target.bucket) != why:
                self._said[each.target.bucket] = why
                log.warning("access logs are not delivered yet", bucket=each.target.bucket, why=why)
        return complete

    async def _put(self, file: Finished) -> str | None:
        """Why it could not be delivered, or None."""
        bucket = self._snapshot().buckets.get(file.target.bucket)
        store = self._stores.get(bucket.region) if bucket is not None else None
        if store is None:
            return "there is no such bucket"
        try:
            data = await asyncio.to_thread(lambda: gzip.compress(file.path.read_bytes(), 6))
            response = await store.send(
                "PUT",
                file.target.bucket,
                file.key,
                headers=Headers([("Content-Type", "application/x-gzip")]),
                body=data,
            )
            await response.body.close()
        except (UpstreamError, OSError) as error:
            return str(error)
        return None if response.status == 200 else f"the store answered {response.status}"
