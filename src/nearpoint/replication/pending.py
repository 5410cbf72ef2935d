"""Which keys have a newer version elsewhere, as far as the regions' logs say: for whoever routes reads.

The logs are heard as they are written (`bucket/feed.py`), so this is as fresh as the way from the log is long. A write
that went through here is known at once: it is noted until its log has been heard of it. Keys are kept as 64-bit hashes,
so that a long one costs no more than a short one; each log tells of a bounded number of keys, and beyond it only that
any key of a pair of buckets may be behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import orjson
import structlog

from nearpoint.regions.store import Store
from nearpoint.replication.backoff import delay_s
from nearpoint.wire.client import Timeouts, UpstreamError

log = structlog.get_logger("nearpoint.replication")

NOTES_MAX = 10_000
LINE_BYTES_MAX = 64 * 1024
# The log says every second that it is still there.
_TIMEOUTS = Timeouts(connect_s=2.0, read_s=5.0)

_Pairs = dict[tuple[int, int], dict[int, tuple[int, ...]] | None]  # None: any key may be behind


def name_of(text: str) -> int:
    """A bucket or key as a number, the same one in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


bucket_name = lru_cache(4096)(name_of)  # of buckets there are few


class Note(NamedTuple):
    """A write that a region has taken, and its log will tell of: names as `name_of` has them."""

    source: int
    destination: int
    key: int
    sequence: int


class PendingKeys:
    """What is known of the logs. `busy` is whether anything is pending: while nothing is, nobody need ask."""

    def __init__(self, regions: Iterable[str]) -> None:
        self.busy = False
        # Of each region's log, by source and destination: the sequences that are pending of a key.
        self._pairs: dict[str, _Pairs] = {region: {} for region in regions}
        self._told: dict[str, _Pairs] = dict(self._pairs)  # where what is heard goes: a log that begins again is
        self._heard = dict.fromkeys(self._pairs, 0)  # put in place of the old one when it has told everything
        self._notes: dict[str, OrderedDict[tuple[int, int, int], int]] = {
            region: OrderedDict() for region in self._pairs
        }

    @property
    def regions(self) -> Sequence[str]:
        """Whose logs they are."""
        return tuple(self._pairs)

    def newer_in(self, bucket: str, key: str, others: Iterable[tuple[str, str]]) -> list[str]:
        """Which of the other regions, each with its bucket, have (or may have) a version that `bucket` has not."""
        here, name = bucket_name(bucket), name_of(key)
        found = []
        for region, other in others:
            pairs = self._pairs.get(region)
            if pairs is None:
                continue
            source = bucket_name(other)
            keys = pairs.get((source, here), {})
            if keys is None or name in keys or (source, here, name) in self._notes[region]:
                found.append(region)
        return found

    def note(self, region: str, note: Note) -> bool:
        """Take in a write. False when the log has told of it already."""
        if region not in self._notes or note.sequence <= self._heard[region]:
            return False
        notes, where = self._notes[region], note[:3]
        notes[where] = max(note.sequence, notes.pop(where, 0))
        if len(notes) > NOTES_MAX:
            notes.popitem(last=False)
        self.busy = True
        return True

    def begin(self, region: str) -> None:
        """A log is told from its start."""
        self._told[region] = {}

    def hear(self, region: str, lines: Iterable[bytes]) -> None:
        """Events of a region's log. Raises ValueError for what is none."""
        for line in lines:
            self._hear(region, orjson.loads(line))
        self.busy = any(any(each is None or each for each in pairs.values()) for pairs in self._pairs.values()) or any(
            self._notes.values()
        )

    def _hear(self, region: str, event: object) -> None:
        pairs = self._told[region]
        match event:
            case []:
                pass
            case ["+", int(sequence), str(bucket), str(destination), str(key)]:
                keys = pairs.setdefault((bucket_name(bucket), bucket_name(destination)), {})
                if keys is not None:
                    name = name_of(key)
                    known = keys.get(name, ())
                    if sequence not in known:
                        keys[name] = (*known, sequence)
            case ["-", int(sequence), str(bucket), str(destination), str(key)]:
                keys = pairs.get((bucket_name(bucket), bucket_name(destination)))
                if keys is not None:
                    name = name_of(key)
                    left = tuple(each for each in keys.pop(name, ()) if each != sequence)
                    if left:
                        keys[name] = left
            case ["all", str(bucket), str(destination)]:
                pairs[bucket_name(bucket), bucket_name(destination)] = None
            case ["told", str(bucket), str(destination)]:
                pairs[bucket_name(bucket), bucket_name(destination)] = {}
            case ["at", int(sequence)]:
                self._pairs[region] = pairs
                self._heard[region] = sequence
                notes = self._notes[region]
                for where in [where for where, noted in notes.items() if noted <= sequence]:
                    del notes[where]
            case _:
                raise ValueError(f"no event of a log: {event!r}")


class LogListener:
    """Hears the log of one region for as long as `run` runs."""

    def __init__(self, store: Store, keys: PendingKeys, *, chance: Callable[[], float] = random.random) -> None:
        self._store = store
        self._keys = keys
        self._chance = chance

    async def run(self) -> None:
        """Hear until cancelled. While the log cannot be heard, what was pending counts as pending still."""
        failures = 0
        while True:
            try:
                await self._hear()
                failures = 0
            except (UpstreamError, ValueError) as error:
                failures += 1
                log.debug("log not heard", region=self._store.region, error=str(error))
            await asyncio.sleep(delay_s(max(1, failures), self._chance()))

    async def _hear(self) -> None:
        region = self._store.region
        response = await self._store.send("GET", "-", "pending", timeouts=_TIMEOUTS)
        try:
            if response.status != 200:
                raise ValueError(f"{region} answers {response.status}")
            self._keys.begin(region)
            rest = b""
            async for chunk in response.body:
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > LINE_BYTES_MAX:
                    raise ValueError("a line of a log is too long")
                self._keys.hear(region, lines)
        finally:
            await response.body.close()
