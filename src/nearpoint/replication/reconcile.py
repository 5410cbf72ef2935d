"""Compares what two buckets hold and brings each what it lacks, by the merge rule: for what the log does not know of.

Both buckets' versions are read in order of their keys, a page at a time, and joined; so memory does not depend on how
many there are, and a comparison that was cut short goes on behind its last key. What is missing is piped across like
any copy: what a region removed for good it does not take back, and of what is amended the latest holds. What is written
while the comparison runs is the log's business and is only counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from nearpoint.regions.rules import Change, Rule, destinations
from nearpoint.regions.version import Stamp
from nearpoint.replication.peer import Peer, UnavailableError, Version
from nearpoint.replication.window import BATCH_BYTES_MAX, BATCH_ROWS_MAX, Row

PAGE_ROWS = 2000
SHOWN_MAX = 100
ON_ITS_WAY_US = 60_000_000
BATCHES_MAX = 4
_OWED = frozenset({"PENDING", "FAILED"})
_HAS_BEEN_THERE = frozenset({"COMPLETED", "REPLICA"})
_COUNTED = (
    "keys", "versions", "missing", "amended", "recent", "repaired", "refused", "restated", "removed", "last_key",
)  # fmt: skip
_WHY = {
    "": "no rule led there when it was written",
    "PENDING": "on its way, says its region's log",
    "FAILED": "it was given up",
    "COMPLETED": "it had arrived, and was lost there",
    "REPLICA": "it came from a third region",
}
_PAST_THE_LOG = "it was written past Nearpoint, or before a rule led there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A bucket, its store, and its rules."""

    peer: Peer
    bucket: str
    rules: Sequence[Rule]

    def sends(self, version: Version, to: str) -> bool:
        """Whether a rule leads a version to that bucket, whichever region it was written in."""
        change: Change = "marker" if version.marker else "put"
        found = destinations(self.rules, key=version.key, tags=version.tags, change=change, is_replica=False)
        return to in found


@dataclass(slots=True)
class Difference:
    """What one bucket has and another lacks."""

    bucket: str
    destination: str
    key: str
    version: str
    what: str  # missing, or amended (it is there, but what hangs on it was changed later here)
    why: str
    outcome: str = ""  # after a repair: applied, had (it was removed there for good, or has arrived since), or why not


Found = tuple[Difference, Version]


@dataclass(slots=True)
class Report:
    """How it went. `last_key` is the last key that was dealt with as a whole.

    `recent`: differences that are not looked into, of versions written since the start or just on their way.
    `restated`: versions that had arrived while their log said otherwise. `removed`: versions that somebody removed for
    good where they are missing, which is no difference.
    """

    keys: int = 0
    versions: int = 0
    missing: int = 0
    amended: int = 0
    recent: int = 0
    repaired: int = 0
    refused: int = 0
    restated: int = 0
    removed: int = 0
    last_key: str = ""
    shown: list[Difference] = field(default_factory=list)  # the first ones

    def snapshot(self) -> tuple[Any, ...]:
        """What it says now, for `restore`."""
        return (*(getattr(self, name) for name in _COUNTED), len(self.shown))

    def restore(self, then: tuple[Any, ...]) -> None:
        """Say again what it said then: what was begun since is done once more."""
        for name, value in zip(_COUNTED, then, strict=False):
            setattr(self, name, value)
        del self.shown[then[-1] :]

    @property
    def equal(self) -> bool:
        """Whether nothing differed."""
        return self.missing == self.amended == 0


def lacking(here: Sequence[Version], there: Sequence[Version]) -> list[tuple[Version, str]]:
    """The versions of one key that `there` lacks, and those that were amended later `here` (pure)."""
    known = {version.id: version for version in there}
    found: list[tuple[Version, str]] = []
    for version in here:
        other = known.get(version.id)
        if other is None or (version.id == "null" and version.stamp > other.stamp):
            found.append((version, "missing"))
        elif version.stamp == other.stamp and version.amended > other.amended:
            found.append((version, "amended"))
    return found


def behind(here: Sequence[Version], there: Sequence[Version]) -> list[tuple[Version, str]]:
    """As `lacking`, where one of the two keeps no more than the newest version: whether that one is older `there`."""
    if not here:
        return []
    newest, other = (max(each, key=_rank, default=None) for each in (here, there))
    assert newest is not None
    if other is None or newest.stamp > other.stamp:
        return [(newest, "missing")]
    return [(newest, "amended")] if newest.stamp == other.stamp and newest.amended > other.amended else []


def _rank(version: Version) -> tuple[Stamp, str]:
    return version.stamp, version.id


def doubted(here: Sequence[Version], there: Sequence[Version]) -> list[Version]:
    """The versions of one key that `there` has as they are `here`, while the log `here` says they are owed (pure)."""
    if not _owed(here):
        return []
    known = {(version.id, version.stamp, version.amended) for version in there}
    return [
        version for version in here if version.status in _OWED and (version.id, version.stamp, version.amended) in known
    ]


def _owed(versions: Sequence[Version]) -> bool:
    return any(version.status in _OWED for version in versions)


async def reconcile(
    one: Side,
    two: Side,
    *,
    repair: bool,
    report: Report | None = None,
    until_us: int | None = None,
    page_rows: int = PAGE_ROWS,
    on_progress: Callable[[Report], Awaitable[None]] | None = None,
) -> Report:
    """Compare two buckets, both ways as far as their rules go, and repair what differs if asked to.

    `report` goes on with a comparison that was cut short, behind its last key. What was written after `until_us`
    (microseconds since 1970) is left to the log. `on_progress` is awaited after each page's worth of keys.
    Raises UnavailableError when a store cannot be reached: `report` then says how far it came.
    """
    found = Report() if report is None else report
    work = _Work(one, two, found, repair=repair, until_us=until_us)
    sound = found.snapshot()
    unseen = 0
    key = found.last_key
    try:
        async for key, left, right in _joined(one, two, found.last_key, page_rows):
            found.keys += 1
            found.versions += len(left) + len(right)
            if left != right or (repair and (_owed(left) or _owed(right))):
                await work.compare(key, left, right)
            unseen += 1
            if unseen >= page_rows:
                unseen = 0
                await work.finish(key)
                sound = found.snapshot()
                if on_progress is not None:
                    await on_progress(found)
        await work.finish(key)
    except BaseException:
        await work.abandon()
        found.restore(sound)
        raise
    if on_progress is not None:
        await on_progress(found)
    return found


class _Work:
    """What was found to differ and waits to be looked into: a few batches at once, and no more."""

    def __init__(self, one: Side, two: Side, report: Report, *, repair: bool, until_us: int | None) -> None:
        self._ways = ((one, two), (two, one))
        self._report = report
        self._repair = repair
        self._until_us = until_us
        self._waiting: list[list[Found]] = [[], []]
        self._arrived: list[list[Version]] = [[], []]
        self._tasks: set[asyncio.Task[None]] = set()

    async def compare(self, key: str, left: Sequence[Version], right: Sequence[Version]) -> None:
        """Take down how the two differ about a key; look into it when there is enough of it."""
        one, two = self._ways[0]
        left, right = await _asked(one, key, left), await _asked(two, key, right)
        for way, (here, there) in enumerate(((left, right), (right, left))):
            source, target = self._ways[way]
            partly = source.peer.newest_only or target.peer.newest_only
            for version, what in behind(here, there) if partly else lacking(here, there):
                if source.sends(version, target.bucket):
                    self._note(way, key, version, what)
            if self._repair and source.rules:
                self._arrived[way] += doubted(here, there)
            batch = self._waiting[way]
            if len(batch) >= BATCH_ROWS_MAX or sum(version.size for _, version in batch) >= BATCH_BYTES_MAX:
                await self._begin(way)

    def _note(self, way: int, key: str, version: Version, what: str) -> None:
        report, (source, target) = self._report, self._ways[way]
        changed_us = max(version.stamp.time_us, version.amended[0])
        if self._until_us is not None and changed_us > self._left_to_the_log(version):
            report.recent += 1
            return
        if what == "missing":
            report.missing += 1
        else:
            report.amended += 1
        why = _WHY.get(version.status, version.status) if what == "missing" else "changed later"
        if source.peer.newest_only and what == "missing" and not version.status:
            why = _PAST_THE_LOG
        difference = Difference(source.bucket, target.bucket, key, version.id, what, why)
        if len(report.shown) < SHOWN_MAX:
            report.shown.append(difference)
        if self._repair or _perhaps_removed((difference, version)):
            self._waiting[way].append((difference, version))

    def _left_to_the_log(self, version: Version) -> int:
        """The time after which a version is not looked into. Whoever only looks gives what is on its way a minute."""
        assert self._until_us is not None
        grace_us = ON_ITS_WAY_US if version.status == "PENDING" and not self._repair else 0
        return self._until_us - grace_us

    async def finish(self, key: str) -> None:
        """Look into what is left, so that everything up to the key has been dealt with."""
        for way in (0, 1):
            await self._begin(way)
        while self._tasks:
            await self._end_one()
        for way, (source, target) in enumerate(self._ways):
            if self._arrived[way]:
                await source.peer.arrived(source.bucket, target.bucket, self._arrived[way])
                self._report.restated += len(self._arrived[way])
                self._arrived[way] = []
        self._report.last_key = key

    async def abandon(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _begin(self, way: int) -> None:
        if not self._waiting[way]:
            return
        while len(self._tasks) >= BATCHES_MAX:
            await self._end_one()
        batch, self._waiting[way] = self._waiting[way], []
        self._tasks.add(asyncio.create_task(self._settle(way, batch)))

    async def _end_one(self) -> None:
        done, self._tasks = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def _settle(self, way: int, batch: list[Found]) -> None:
        suspects = [each for each in batch if _perhaps_removed(each)]
        if suspects:
            _, target = self._ways[way]
            asked = [(version.key, version.id) for _, version in suspects]
            known = await target.peer.knows(target.bucket, asked)
            removed = {id(difference) for (difference, _), is_known in zip(suspects, known, strict=True) if is_known}
            self._were_removed([difference for difference, _ in batch if id(difference) in removed])
            batch = [each for each in batch if id(each[0]) not in removed]
        if self._repair and batch:
            await self._mend(way, batch)

    def _were_removed(self, differences: Sequence[Difference]) -> None:
        report = self._report
        report.missing -= len(differences)
        report.removed += len(differences)
        report.shown = [each for each in report.shown if not any(each is one for one in differences)]

    async def _mend(self, way: int, batch: list[Found]) -> None:
        outcomes = await self._deliver(way, batch)
        for (difference, version), outcome in zip(batch, outcomes, strict=True):
            difference.outcome = outcome["outcome"]
            if outcome["outcome"] == "refused":
                difference.outcome = str(outcome.get("reason"))
                self._report.refused += 1
                continue
            if outcome["outcome"] == "applied":
                self._report.repaired += 1
            if version.status in _OWED:
                self._arrived[way].append(version)

    async def _deliver(self, way: int, batch: list[Found]) -> list[dict[str, Any]]:
        source, target = self._ways[way]
        rows = [
            Row(0, version.key, version.id, found.what, version.size, 0, content=found.what == "missing")
            for found, version in batch
        ]
        versions = await source.peer.fetch(source.bucket, rows)
        try:
            outcomes = await target.peer.deliver(target.bucket, versions)
        finally:
            await versions.close()
        if len(outcomes) != len(batch):
            raise UnavailableError(f"{target.peer.region} answers for {len(outcomes)} of {len(batch)} versions")
        return outcomes


def _perhaps_removed(found: Found) -> bool:
    """Whether a version that is missing may have been removed there for good: it has been there, says its status.

    Whoever lacks it is asked first.
    """
    difference, version = found
    return difference.what == "missing" and version.status in _HAS_BEEN_THERE


async def _asked(side: Side, key: str, listed: Sequence[Version]) -> Sequence[Version]:
    """What a side has of a key. A store of another maker may leave keys out of its listing (SeaweedFS does)."""
    return listed if listed or not side.peer.newest_only else await side.peer.history_of(side.bucket, key)


async def _joined(
    one: Side, two: Side, after: str, page_rows: int
) -> AsyncIterator[tuple[str, list[Version], list[Version]]]:
    """Every key that either bucket has, with the versions in both, in the order of UTF-8."""
    left, right = _keys(one, after, page_rows), _keys(two, after, page_rows)
    a, b = await anext(left, None), await anext(right, None)
    while a is not None or b is not None:
        if b is None or (a is not None and a[0].encode() < b[0].encode()):
            assert a is not None
            yield a[0], a[1], []
            a = await anext(left, None)
        elif a is None or b[0].encode() < a[0].encode():
            yield b[0], [], b[1]
            b = await anext(right, None)
        else:
            yield a[0], a[1], b[1]
            a, b = await anext(left, None), await anext(right, None)


async def _keys(side: Side, after: str, page_rows: int) -> AsyncIterator[tuple[str, list[Version]]]:
    more = True
    while more:
        versions, more = await side.peer.history(side.bucket, after, page_rows)
        at = 0
        while at < len(versions):
            key = versions[at].key
            end = at
            while end < len(versions) and versions[end].key == key:
                end += 1
            yield key, versions[at:end]
            after, at = key, end
