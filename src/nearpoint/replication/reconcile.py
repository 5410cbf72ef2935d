"""Compares what two buckets hold and brings each what it lacks, by the merge rule: for what the log does not know of.

Both buckets' versions are read in order of their keys, a page at a time, and joined; so memory does not depend on how
many there are, and a comparison that was cut short goes on behind its last key. What is missing is piped across like
any copy: what a region removed for good it does not take back, and of what is amended the latest holds.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from nearpoint.regions.rules import Change, Rule, destinations
from nearpoint.replication.peer import Peer, Version
from nearpoint.replication.window import BATCH_BYTES_MAX, BATCH_ROWS_MAX, Row

PAGE_ROWS = 2000
SHOWN_MAX = 100


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
    outcome: str = ""  # after a repair: applied, had (it was removed there for good, or has arrived since), or why not


@dataclass(slots=True)
class Report:
    """How it went. `last_key` is the last key that was compared as a whole."""

    keys: int = 0
    versions: int = 0
    missing: int = 0
    amended: int = 0
    repaired: int = 0
    refused: int = 0
    last_key: str = ""
    shown: list[Difference] = field(default_factory=list)  # the first ones

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


async def reconcile(
    one: Side,
    two: Side,
    *,
    repair: bool,
    after: str = "",
    on_progress: Callable[[Report], None] = lambda _: None,
) -> Report:
    """Compare two buckets, both ways as far as their rules go, and repair what differs if asked to.

    Raises UnavailableError when a store cannot be reached: `on_progress` has then seen how far it came.
    """
    report = Report(last_key=after)
    waiting: dict[str, list[tuple[Difference, Row]]] = {one.bucket: [], two.bucket: []}
    sides = {one.bucket: (one, two), two.bucket: (two, one)}
    key = after
    async for key, left, right in _joined(one, two, after):
        report.keys += 1
        report.versions += len(left) + len(right)
        for source, target, here, there in ((one, two, left, right), (two, one, right, left)):
            for version, what in lacking(here, there):
                if not source.sends(version, target.bucket):
                    continue
                if what == "missing":
                    report.missing += 1
                else:
                    report.amended += 1
                found = Difference(source.bucket, target.bucket, key, version.id, what)
                if len(report.shown) < SHOWN_MAX:
                    report.shown.append(found)
                if repair:
                    row = Row(0, key, version.id, what, version.size, 0, content=what == "missing")
                    waiting[source.bucket].append((found, row))
        for bucket, batch in waiting.items():
            if len(batch) >= BATCH_ROWS_MAX or sum(row.size for _, row in batch) >= BATCH_BYTES_MAX:
                await _repair(*sides[bucket], batch, report)
                batch.clear()
        if not any(waiting.values()):
            report.last_key = key
        if report.keys % PAGE_ROWS == 0:
            on_progress(report)
    for bucket, batch in waiting.items():
        if batch:
            await _repair(*sides[bucket], batch, report)
    report.last_key = key
    on_progress(report)
    return report


async def _repair(source: Side, target: Side, batch: Sequence[tuple[Difference, Row]], report: Report) -> None:
    versions = await source.peer.fetch(source.bucket, [row for _, row in batch])
    try:
        outcomes = await target.peer.deliver(target.bucket, versions)
    finally:
        await versions.close()
    for (difference, _), outcome in zip(batch, outcomes, strict=True):
        difference.outcome = outcome["outcome"]
        if outcome["outcome"] == "refused":
            difference.outcome = str(outcome.get("reason"))
            report.refused += 1
        elif outcome["outcome"] == "applied":
            report.repaired += 1


async def _joined(one: Side, two: Side, after: str) -> AsyncIterator[tuple[str, list[Version], list[Version]]]:
    """Every key that either bucket has, with the versions in both, in the order of UTF-8."""
    left, right = _keys(one, after), _keys(two, after)
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


async def _keys(side: Side, after: str) -> AsyncIterator[tuple[str, list[Version]]]:
    more = True
    while more:
        versions, more = await side.peer.history(side.bucket, after, PAGE_ROWS)
        at = 0
        while at < len(versions):
            key = versions[at].key
            end = at
            while end < len(versions) and versions[end].key == key:
                end += 1
            yield key, versions[at:end]
            after, at = key, end
