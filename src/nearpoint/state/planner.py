"""Turns resources into the next snapshot, and knows when every node runs by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from typing import Protocol

import msgspec
import structlog
from msgspec import Struct

from nearpoint.state.resources import (
    AccessKey,
    AccessPoint,
    Bucket,
    CachePolicy,
    Distribution,
    Function,
    Invalidation,
    KeyGroup,
    OriginAccessControl,
    OriginRequestPolicy,
    PublicKey,
    ResponseHeadersPolicy,
    Role,
    Snapshot,
    StoreLimits,
)
from nearpoint.state.store import State

log = structlog.get_logger("nearpoint.state")

INVALIDATIONS_KEPT = 3000  # CloudFront: up to 3,000 paths in progress a distribution
NODE_SILENT_S = 3.0  # a node that has not reported for so long is not waited for


class NodeStatus(Struct, frozen=True, kw_only=True):
    """What a node says every half second and after each swap."""

    location: str
    generation: int


class Publisher(Protocol):
    """Where the planner puts snapshots: `SnapshotChannel`."""

    async def publish(self, snapshot: Snapshot) -> None: ...

    async def latest(self) -> Snapshot | None: ...


def build(
    state: State,
    *,
    generation: int,
    account_id: str,
    session_secret: str,
    own_stores: Collection[str] = (),
) -> Snapshot:
    """The snapshot of what the state holds now. Pure: the same state gives the same snapshot.

    `own_stores` are the regions on stores of the user's own, which have to be tried before they are trusted.
    """
    invalidations = sorted(state.list(Invalidation), key=lambda each: each.created_at)
    return Snapshot(
        generation=generation,
        account_id=account_id,
        session_secret=session_secret,
        access_keys={key.access_key_id: key for key in state.list(AccessKey)},
        roles={role.arn: role for role in state.list(Role)},
        buckets={bucket.name: bucket for bucket in state.list(Bucket)},
        access_points={point.alias: point for point in state.list(AccessPoint)},
        store_limits={each.id: each for each in _limits(state, own_stores)} if own_stores else {},
        distributions={each.domain: each for each in state.list(Distribution)},
        functions={function.arn: function for function in state.list(Function) if function.version != "$LATEST"},
        invalidations=tuple(invalidations[-INVALIDATIONS_KEPT:]),
        cache_policies={each.id: each for each in state.list(CachePolicy)},
        origin_request_policies={each.id: each for each in state.list(OriginRequestPolicy)},
        response_headers_policies={each.id: each for each in state.list(ResponseHeadersPolicy)},
        origin_access_controls={each.id: each for each in state.list(OriginAccessControl)},
        public_keys={each.id: each for each in state.list(PublicKey)},
        key_groups={each.id: each for each in state.list(KeyGroup)},
    )


def _limits(state: State, own_stores: Collection[str]) -> Iterator[StoreLimits]:
    for bucket in state.list(Bucket):
        if bucket.region in own_stores:
            untried = StoreLimits(region=bucket.region, bucket=bucket.name, is_known=False)
            yield state.get(StoreLimits, untried.id) or untried


class Planner:
    """Publishes a snapshot after every change, changes that come together in one.

    `current` is the latest snapshot; the control plane itself reads by it.
    """

    def __init__(
        self,
        state: State,
        channel: Publisher,
        *,
        account_id: str,
        session_secret: str,
        own_stores: Collection[str] = (),
    ) -> None:
        self._state = state
        self._channel = channel
        self._account_id = account_id
        self._session_secret = session_secret
        self._own_stores = own_stores
        self._published_version = -1
        self._changed = asyncio.Event()
        self._progress = asyncio.Condition()
        self._nodes: dict[str, tuple[int, float]] = {}
        self._listeners: list[Callable[[Snapshot], None]] = []
        self.current = Snapshot(generation=0, account_id=account_id, session_secret=session_secret)
        state.on_change(self._changed.set)

    def on_publish(self, listener: Callable[[Snapshot], None]) -> None:
        """Hear every snapshot that has gone out."""
        self._listeners.append(listener)

    async def start(self) -> None:
        """Continue the numbering where the last planner left it and publish what the state holds now."""
        latest = await self._channel.latest()
        if latest is not None:
            self.current = latest
        await self._publish()

    async def _publish(self) -> None:
        version = self._state.version
        snapshot = build(
            self._state,
            generation=self.current.generation,
            account_id=self._account_id,
            session_secret=self._session_secret,
            own_stores=self._own_stores,
        )
        # Much of what is written (stacks, events) is not for the nodes: it gets no generation.
        if snapshot != self.current or self._published_version < 0:
            snapshot = msgspec.structs.replace(snapshot, generation=self.current.generation + 1)
            await self._channel.publish(snapshot)
            self.current = snapshot
            for listener in self._listeners:
                listener(snapshot)
        self._published_version = version
        async with self._progress:
            self._progress.notify_all()

    async def run(self) -> None:
        """Publish after changes until cancelled. A failure to publish is retried: the state already has the change."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            await asyncio.sleep(0.005)  # changes of one call go out together
            while self._published_version < self._state.version:
                try:
                    await self._publish()
                except Exception as error:
                    log.warning("snapshot not published, trying again", error=str(error) or type(error).__name__)
                    await asyncio.sleep(0.2)

    async def node_reported(self, status: NodeStatus, now_s: float) -> None:
        """Take note of what a node runs by. `now_s` is any monotonic clock, the same as `published` gets."""
        self._nodes[status.location] = (status.generation, now_s)
        async with self._progress:
            self._progress.notify_all()

    def _in_force(self, generation: int, now_s: float) -> bool:
        live = [generation for generation, at in self._nodes.values() if now_s - at < NODE_SILENT_S]
        return all(each >= generation for each in live)

    async def published(self, timeout_s: float) -> bool:
        """Wait until every live node runs by what the state holds now. False when that took longer than `timeout_s`."""
        version = self._state.version
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        generation: int | None = None
        async with self._progress:
            while True:
                if generation is None and self._published_version >= version:
                    generation = self.current.generation
                if generation is not None and self._in_force(generation, loop.time()):
                    return True
                left_s = deadline - loop.time()
                if left_s <= 0:
                    return False
                try:
                    # Woken by reports; looked at again by itself, because a node that fell silent sends none.
                    await asyncio.wait_for(self._progress.wait(), min(left_s, 0.5))
                except TimeoutError:
                    continue
