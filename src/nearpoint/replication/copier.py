"""Copies what a region's log says to where it says: the log's length is watched, and each pair of buckets has a lane.

A lane reads a bounded window of what a bucket owes to another, takes batches out of it (`window`), pipes their versions
from store to store without looking at them, and has them struck off the log. It keeps nothing that would be missed: a
copier that dies leaves rows in the log, and a version that comes twice changes nothing. When a store cannot be reached
its lane waits, ever longer, and takes no row as failed; a row that a store refuses is tried again a few times and then
parked with the reason, while the others go on.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import structlog

from nearpoint.replication.backoff import delay_s
from nearpoint.replication.lag import Lags
from nearpoint.replication.large import LARGE_BYTES, LargeObjects
from nearpoint.replication.peer import Peer, RefusedError, UnavailableError
from nearpoint.replication.window import Row, Window
from nearpoint.wire.client import UpstreamError

log = structlog.get_logger("nearpoint.replication")

BATCHES_MAX = 16  # of a lane, under way at once: as many as a few hundred writes a second begin in a round trip
ATTEMPTS_MAX = 6
PASSING_ATTEMPTS_MAX = 300  # of what a store calls its own failure: two minutes and more, and other keys go on
FADE_S = 30.0
# What another try does not change; it is parked at once, until somebody retries.
_LASTING = frozenset({"NoSuchBucket", "InvalidBucketState", "AccessDenied", "InvalidAccessKeyId", "NotImplemented"})


class Ledger:
    """Strikes rows off a log, those of many batches at once, for as long as it takes."""

    def __init__(self, source: Peer) -> None:
        self._source = source
        self._done: list[int] = []
        self._parked: list[tuple[int, str]] = []
        self._next: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def settle(self, done: Sequence[int], parked: Sequence[tuple[int, str]]) -> None:
        """Returns when the log has it."""
        self._done += done
        self._parked += parked
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())
        await asyncio.shield(self._next)

    async def _run(self) -> None:
        failures = 0
        while self._next is not None:
            done, parked, told = self._done, self._parked, self._next
            self._done, self._parked, self._next = [], [], None
            while True:
                try:
                    await self._source.settle(done, parked)
                    break
                except (UnavailableError, RefusedError):
                    failures += 1
                    await asyncio.sleep(delay_s(failures, random.random()))  # noqa: S311
            failures = 0
            told.set_result(None)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Places:
    """Which region has which bucket, as its store says."""

    def __init__(self, peers: Mapping[str, Peer]) -> None:
        self._peers = peers
        self._found: dict[str, Peer] = {}

    async def find(self, bucket: str) -> Peer:
        """The store that has a bucket. Raises RefusedError when none has it, UnavailableError when that is not sure."""
        if bucket in self._found:
            return self._found[bucket]
        unsure: UnavailableError | None = None
        for peer in self._peers.values():
            try:
                if await peer.has_bucket(bucket):
                    self._found[bucket] = peer
                    return peer
            except UnavailableError as error:
                unsure = error
        if unsure is not None:
            raise unsure
        raise RefusedError("NoSuchBucket", f"The destination bucket {bucket} does not exist.")

    def forget(self, bucket: str) -> None:
        """It is not where it was."""
        self._found.pop(bucket, None)


class Lane:
    """From one bucket to another."""

    def __init__(self, source: Peer, ledger: Ledger, places: Places, bucket: str, destination: str) -> None:
        self.bucket = bucket
        self.destination = destination
        self.lags = Lags()
        self.copied = 0
        self.failed = 0
        self.obstacle: str | None = None
        self.ahead_s = 0.0  # how far the source's clock was seen ahead of this one
        self.to_region: str | None = None
        self._source = source
        self._ledger = ledger
        self._places = places
        self._window = Window()
        self._large = LargeObjects(source)
        self._woken = asyncio.Event()
        self._more = True
        self._failures = 0
        self._batches: set[asyncio.Task[None]] = set()

    def wake(self) -> None:
        """There may be something new in the log."""
        self._more = True
        self._woken.set()

    async def run(self) -> None:
        """Copy, for ever."""
        try:
            while True:
                self._woken.clear()
                if self._more and self._window.room:
                    await self._read()
                while len(self._batches) < BATCHES_MAX and self.obstacle is None:
                    batch = self._window.take(time.monotonic())
                    if not batch:
                        break
                    task = asyncio.create_task(self._copy(batch))
                    self._batches.add(task)
                    task.add_done_callback(self._ended)
                if self._more and self._window.room and self.obstacle is None:
                    continue
                await self._pause()
        finally:
            for task in self._batches:
                task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._batches.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a batch ended badly", exc_info=task.exception())
        self._woken.set()

    async def _pause(self) -> None:
        """Until something ends or is new, or something that failed may be tried again."""
        timeout: float | None = None
        if self.obstacle is not None and not self._batches:
            timeout = delay_s(self._failures, random.random())  # noqa: S311
            self._woken.clear()
            await asyncio.sleep(timeout)
            self.obstacle = None
            return
        retry_s = self._window.next_retry_s()
        if retry_s is not None:
            timeout = max(0.0, retry_s - time.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._woken.wait()

    async def _read(self) -> None:
        self._more = False
        room = min(500, self._window.room)
        try:
            rows = await self._source.due(self.bucket, self.destination, self._window.after, room)
        except (UnavailableError, RefusedError) as error:
            self._more = True
            self._hinder(str(error))
            return
        self._window.add(rows)
        self._more = self._more or len(rows) == room

    def _hinder(self, reason: str) -> None:
        self._failures += 1
        if self.obstacle is None:
            self.obstacle = reason
            level = log.warning if self._failures == 1 else log.debug
            level("waiting", bucket=self.bucket, destination=self.destination, reason=reason)

    async def _copy(self, batch: list[Row]) -> None:
        try:
            outcomes = await self._pipe(batch)
        except UnavailableError as error:
            self._hinder(str(error))
            self._window.settle(batch, batch, time.monotonic())
            return
        except RefusedError as error:
            self._places.forget(self.destination)
            outcomes = [{"outcome": "refused", "reason": str(error), "lasting": error.code in _LASTING}] * len(batch)
        else:
            self._failures = 0
        now_us = time.time_ns() // 1000
        done: list[int] = []
        parked: list[tuple[int, str]] = []
        again: list[Row] = []
        for row, outcome in zip(batch, outcomes, strict=True):
            match outcome["outcome"]:
                case "applied" | "had" | "missing":
                    done.append(row.sequence)
                    self.copied += 1
                    self.lags.add((now_us - row.written) / 1000)
                    self.ahead_s = max(self.ahead_s, (row.written - now_us) / 1e6)
                case "content":
                    row.content = True
                    again.append(row)
                case _:
                    row.attempts += 1
                    most = PASSING_ATTEMPTS_MAX if outcome.get("passing") else ATTEMPTS_MAX
                    if row.attempts >= most or outcome.get("lasting"):
                        parked.append((row.sequence, str(outcome.get("reason"))))
                        self.failed += 1
                        log.warning("parked", bucket=self.bucket, key=row.key, reason=outcome.get("reason"))
                    else:
                        again.append(row)
        wait_s = max((delay_s(row.attempts, random.random()) for row in again if row.attempts), default=0.0)  # noqa: S311
        if done or parked:
            await self._ledger.settle(done, parked)
        self._window.settle(batch, again, time.monotonic() + wait_s)

    async def _pipe(self, batch: list[Row]) -> list[dict[str, Any]]:
        """Have the destination take in what the source has; one outcome a row."""
        target = await self._places.find(self.destination)
        self.to_region = target.region
        if len(batch) == 1 and batch[0].content and batch[0].size >= LARGE_BYTES:
            outcome = await self._large.copy(target, self.bucket, self.destination, batch[0])
            if outcome is not None:
                return [outcome]
        try:
            versions = await self._source.fetch(self.bucket, batch)
        except RefusedError as error:
            if error.code == "NoSuchBucket":  # deleted, and its log with it
                return [{"outcome": "missing"}] * len(batch)
            raise
        try:
            outcomes = await target.deliver(self.destination, versions)
        except UpstreamError as error:  # the source broke off
            raise UnavailableError(str(error)) from error
        finally:
            await versions.close()
        if len(outcomes) != len(batch):
            raise UnavailableError(f"{target.region} answers for {len(outcomes)} of {len(batch)} versions")
        return outcomes


class Copier:
    """Copies what one region's log says. `peers` are all regions' stores, as they are reached from this region."""

    def __init__(self, region: str, peers: Mapping[str, Peer]) -> None:
        self.region = region
        self.obstacle: str | None = None
        self.lanes: dict[tuple[str, str], Lane] = {}
        self._source = peers[region]
        self._ledger = Ledger(self._source)
        self._places = Places(peers)
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Copy until cancelled."""
        seen, failures = -1, 0
        fading = asyncio.create_task(self._fade())
        try:
            while True:
                try:
                    last, pairs = await self._source.log(seen)
                except (UnavailableError, RefusedError) as error:
                    failures += 1
                    self.obstacle = str(error)
                    await asyncio.sleep(delay_s(failures, random.random()))  # noqa: S311
                    continue
                if self.obstacle is not None:
                    self.obstacle = None
                failures, seen = 0, last
                for pair in pairs:
                    self._lane(pair).wake()
        finally:
            for task in (fading, *self._tasks.values()):
                task.cancel()
            self._ledger.close()

    def _lane(self, pair: tuple[str, str]) -> Lane:
        lane = self.lanes.get(pair)
        if lane is None:
            lane = self.lanes[pair] = Lane(self._source, self._ledger, self._places, *pair)
            self._tasks[pair] = asyncio.create_task(lane.run())
        return lane

    async def _fade(self) -> None:
        while True:
            await asyncio.sleep(FADE_S)
            for lane in self.lanes.values():
                lane.lags.fade()
                lane.ahead_s = 0.0
