"""Log, window, merge and comparison under virtual time: any schedule of writes, removals, losses, outages, crashes,
wrong clocks, damaged log entries and regions that join ends with all regions knowing the same, and every acknowledged
write among it but what was removed for good. A seed replays its schedule; `NEARPOINT_SCHEDULES` is how many.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from nearpoint.regions.version import Stamp, next_time_us
from nearpoint.replication.merge import NEVER, Knowledge, Version, current, merge
from nearpoint.replication.peer import Version as Listed
from nearpoint.replication.reconcile import lacking
from nearpoint.replication.window import Row, Window

KEYS = "abcde"
REGIONS = ("ap", "eu", "us")
WRITING_S = 20.0
SCHEDULES = int(os.environ.get("NEARPOINT_SCHEDULES", "1200"))


@dataclass
class Region:
    """What is on a region's disk: its knowledge of each key, and its log by destination."""

    name: str
    skew_s: float
    known: dict[str, Knowledge] = field(default_factory=lambda: {key: Knowledge() for key in KEYS})
    logs: dict[str, list[Row]] = field(default_factory=dict)
    sequence: int = 0


class World:
    """Events in the order of virtual time. The network loses, delays and reorders; copiers and links fail."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.regions = {name: Region(name, self.chance.choice([0, 0, -30, 45, 3000])) for name in REGIONS}
        for region in self.regions.values():
            region.logs = {other: [] for other in REGIONS if other != region.name}
        self.acknowledged: list[tuple[str, str]] = []
        self.removed: set[tuple[str, str, str]] = set()  # region, key, version
        self.members = REGIONS if self.chance.random() < 0.7 else REGIONS[:2]  # a third one may join later
        self.windows: dict[tuple[str, str], Window] = {}
        self.epoch = dict.fromkeys(REGIONS, 0)
        self.cut: set[str] = set()
        for pair in itertools.permutations(self.members, 2):
            self.start_lane(*pair)

    def later(self, delay_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_s + delay_s, next(self._numbers), event))

    def run(self) -> None:
        for at in range(self.chance.randrange(20, 120)):
            self.later(self.chance.random() * WRITING_S, lambda at=at: self.write(at))  # type: ignore[misc]
        for _ in range(self.chance.randrange(8)):
            self.later(self.chance.random() * WRITING_S, self.crash_copier)
            self.later(self.chance.random() * WRITING_S, self.cut_region)
            self.later(self.chance.random() * WRITING_S, self.remove_version)
            self.later(self.chance.random() * WRITING_S, self.damage)
        if self.members != REGIONS:
            self.later(self.chance.random() * WRITING_S, self.join)
        while self._events:
            self.now_s, _, event = heapq.heappop(self._events)
            event()
            if self.now_s > WRITING_S * 10:
                raise AssertionError("it does not come to rest")

    # --- writers

    def write(self, number: int) -> None:
        region = self.regions[self.chance.choice(self.members)]
        key = self.chance.choice(KEYS)
        before = current(region.known[key])
        wall_us = int((self.now_s + 10_000 + region.skew_s) * 1e6)
        if before is not None and self.chance.random() < 0.2:
            amended = Stamp(next_time_us(wall_us, before.amended.time_us), region.name, "")
            version = Version(
                id=before.id, stamp=before.stamp, marker=before.marker, amended=amended, attributes=f"t{number}"
            )
            operation = "amend"
        else:
            marker = self.chance.random() < 0.25
            stamp = Stamp(
                next_time_us(wall_us, before.stamp.time_us if before else None),
                region.name,
                "" if marker else str(number),
            )
            version = Version(id=f"v{number}", stamp=stamp, marker=marker, amended=NEVER)
            operation = "put"
            self.acknowledged.append((key, version.id))
        region.known[key] = merge(region.known[key], Knowledge(versions={version.id: version}))
        found = current(region.known[key])
        assert found is not None
        assert operation == "amend" or found.id == version.id, "a write is current where it was made"
        for other, log in region.logs.items():
            if other not in self.members:
                continue
            region.sequence += 1
            log.append(Row(region.sequence, key, version.id, operation, 1, 0))

    # --- copiers: a lane polls its log, and a batch takes its time, or fails

    def start_lane(self, source: str, target: str) -> None:
        self.windows[source, target] = Window()
        epoch = self.epoch[source]

        def poll() -> None:
            if self.epoch[source] != epoch:
                return  # this copier has been killed
            window = self.windows[source, target]
            log = self.regions[source].logs[target]
            window.add([each for each in log if each.sequence > window.after][: min(7, window.room)])
            while batch := window.take(self.now_s):
                self.later(self.chance.random(), lambda batch=batch: arrive(batch))  # type: ignore[misc]
            if log or self.now_s < WRITING_S:
                self.later(0.3, poll)

        def arrive(batch: list[Row]) -> None:
            lost = self.chance.random() < 0.2 or {source, target} & self.cut
            taken = batch if not lost else batch[: self.chance.randrange(len(batch) + 1)]
            for row in taken:  # even of a copier that has been killed since: what was sent arrives
                version = self.regions[source].known[row.key].versions.get(row.version)
                if version is None:
                    continue  # removed for good since
                known = self.regions[target].known
                known[row.key] = merge(known[row.key], Knowledge(versions={version.id: version}))
            if self.epoch[source] != epoch:
                return
            window = self.windows[source, target]
            if lost:
                window.settle(batch, batch, self.now_s + self.chance.random() * 2)
                return
            done = {each.sequence for each in batch}
            log = self.regions[source].logs[target]
            log[:] = [each for each in log if each.sequence not in done]
            window.settle(batch)

        poll()

    def crash_copier(self) -> None:
        source = self.chance.choice(self.members)
        self.epoch[source] += 1
        for target in self.members:
            if target != source:
                self.start_lane(source, target)

    # --- what else happens

    def join(self) -> None:
        """The third region becomes a member: writes are owed to it from now on; a comparison brings what was before."""
        self.members = REGIONS
        for other in REGIONS[:2]:
            self.start_lane(REGIONS[2], other)
            self.start_lane(other, REGIONS[2])

    def remove_version(self) -> None:
        """Somebody removes a version for good: in one region, as on S3."""
        region = self.regions[self.chance.choice(self.members)]
        key = self.chance.choice(KEYS)
        known = region.known[key]
        if known.versions:
            id = self.chance.choice(sorted(known.versions))
            region.known[key] = merge(known, Knowledge(removed=frozenset({id})))
            self.removed.add((region.name, key, id))

    def damage(self) -> None:
        """An entry of a log cannot be read any more: it is set aside, and nobody copies it."""
        region = self.regions[self.chance.choice(self.members)]
        logs = [log for log in region.logs.values() if log]
        if logs:
            log = self.chance.choice(logs)
            log.pop(self.chance.randrange(len(log)))

    def compare(self) -> int:
        """Every two regions, version by version, each brought what it lacks; how much that was."""
        brought = 0
        for here, there in itertools.permutations(self.regions.values(), 2):
            for key in KEYS:
                for version, _ in lacking(seen(here.known[key], key), seen(there.known[key], key)):
                    before = there.known[key]
                    there.known[key] = merge(
                        before, Knowledge(versions={version.id: here.known[key].versions[version.id]})
                    )
                    brought += there.known[key] != before
        return brought

    def cut_region(self) -> None:
        name = self.chance.choice(REGIONS)
        self.cut.add(name)
        self.later(self.chance.random() * 5, lambda: self.cut.discard(name))


def seen(known: Knowledge, key: str) -> list[Listed]:
    """What a store lists of a key."""
    return [
        Listed(
            key=key, id=each.id, stamp=each.stamp, amended=(each.amended.time_us, each.amended.region), size=0,
            marker=each.marker, tags=(),
        )
        for each in known.versions.values()
    ]  # fmt: skip


def kept(region: Region, key: str, gone: frozenset[str]) -> dict[str, Version]:
    """The versions of a key, but for those that somebody removed for good."""
    return {id: version for id, version in region.known[key].versions.items() if id not in gone}


@pytest.mark.parametrize("first", range(0, SCHEDULES, 400))
def test_every_schedule_converges_and_loses_nothing(first: int) -> None:
    for seed in range(first, first + 400):
        world = World(seed)
        world.run()
        world.compare()
        assert world.compare() == 0, f"seed {seed}: a second comparison brings something"
        for key, version in world.acknowledged:
            for region in world.regions.values():
                gone = (region.name, key, version) in world.removed
                there = version in region.known[key].versions
                everywhere = {name for name, *which in world.removed if which == [key, version]}
                # A version that was removed where it was written, before it was copied, may be nowhere.
                assert there or everywhere, f"seed {seed}: {version} of {key} is lost in {region.name}"
                assert not (there and gone), f"seed {seed}: {version} of {key} came back in {region.name}"
        for one, other in itertools.combinations(world.regions.values(), 2):
            for key in KEYS:
                gone = one.known[key].removed | other.known[key].removed
                assert kept(one, key, gone) == kept(other, key, gone), f"seed {seed}: {one.name} and {other.name}"
        assert not any(log for region in world.regions.values() for log in region.logs.values()), f"seed {seed}"


def test_a_seed_replays_its_schedule() -> None:
    one, two = World(7), World(7)
    one.run()
    two.run()
    assert (one.now_s, one.acknowledged) == (two.now_s, two.acknowledged)
