"""Finds out what the user's own stores can do, as soon as they have a bucket, and puts it where every node sees it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import structlog

from nearpoint.node.store_limits import limits_of
from nearpoint.regions.capabilities import probe
from nearpoint.regions.store import Store
from nearpoint.state.resources import Bucket, StoreLimits
from nearpoint.state.store import State

log = structlog.get_logger("nearpoint.control")

FIRST_S = 3.0  # how long a world waits with being ready; what has not been found out by then is refused until it is
TRIAL_S = 10.0
AGAIN_S = 30.0  # for what could not be found out
RENEW_S = 3600.0  # a store may be given versions, or another program
AT_ONCE = 4


class StoreTrials:
    """`stores` are those of the user, by region. `tell` hears all that is known whenever something is new."""

    def __init__(self, state: State, stores: Mapping[str, Store], tell: Callable[[list[StoreLimits]], None]) -> None:
        self._state = state
        self._stores = stores
        self._tell = tell
        self._tried_at_s: dict[str, float] = {}
        self._at_once = asyncio.Semaphore(AT_ONCE)
        self._changed = asyncio.Event()
        state.on_change(self._changed.set)

    async def first(self) -> None:
        """Try what is there, for a moment."""
        try:
            async with asyncio.timeout(FIRST_S):
                await self._round()
        except TimeoutError:
            log.warning("own stores have not all answered")

    async def run(self) -> None:
        """Go on until cancelled."""
        while True:
            await self._round()
            self._changed.clear()
            try:
                async with asyncio.timeout(AGAIN_S):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _round(self) -> None:
        buckets = {f"{one.region}/{one.name}": one for one in self._state.list(Bucket) if one.region in self._stores}
        for limits in self._state.list(StoreLimits):
            if limits.id not in buckets:
                await self._state.delete(limits)
        now_s = asyncio.get_running_loop().time()
        await asyncio.gather(*(self._try(one) for id, one in buckets.items() if self._is_due(id, now_s)))
        self._tell(self._state.list(StoreLimits))

    def _is_due(self, id: str, now_s: float) -> bool:
        known = self._state.get(StoreLimits, id)
        tried_at_s = self._tried_at_s.get(id)
        if known is None or tried_at_s is None:
            return True
        is_complete = known.is_known and not known.unknown
        return now_s - tried_at_s >= (RENEW_S if is_complete else AGAIN_S)

    async def _try(self, bucket: Bucket) -> None:
        async with self._at_once:
            store = self._stores[bucket.region]
            found = await probe(
                store,
                bucket.name,
                token=secrets.token_hex(8),
                clock=lambda: datetime.now(UTC),
                timeout_s=TRIAL_S,
            )
        limits = limits_of(found)
        self._tried_at_s[limits.id] = asyncio.get_running_loop().time()
        before = self._state.get(StoreLimits, limits.id)
        if self._state.get(Bucket, bucket.name) is None or limits == before:
            return
        if before is not None and not limits.is_known:
            return  # it cannot be asked now: what was known of it stands
        await self._state.put(limits)
        log.info(
            "own store tried",
            region=bucket.region,
            bucket=bucket.name,
            access=found.access,
            problem=found.problem,
            lacks=limits.lacks,
            refused_here=sorted(limits.refused),
            put_right_here=sorted(limits.mended),
        )
