"""Which keys a bucket is behind on, as far as the other regions' logs say: for whoever routes reads.

An index follows the log of each region and keeps, for each bucket, the keys that are on their way to it and from which
bucket. It is bounded: of a pair that owes more than it can hold it knows only that, and every key of the bucket counts
as perhaps behind. It is as fresh as the way from the log's region is long.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping

from nearpoint.replication.backoff import delay_s
from nearpoint.replication.peer import Peer, RefusedError, UnavailableError

KEYS_MAX = 1000  # of a pair; one page of the log
LOOK_S = 0.25  # how soon an arrival is noticed: while something is pending the log is looked at so often


class PendingKeys:
    """What is on its way to which bucket. Follows the logs while `run` runs."""

    def __init__(self, peers: Mapping[str, Peer]) -> None:
        self._peers = peers
        self._pairs: dict[tuple[str, str], frozenset[str] | None] = {}  # None: more than it can hold
        self._of_region: dict[str, set[tuple[str, str]]] = {}

    def newer_in(self, bucket: str, key: str) -> list[str]:
        """The buckets that have a version of the key which is not in `bucket` yet (or may have, of long logs)."""
        found = []
        for (source, destination), keys in self._pairs.items():
            if destination == bucket and (keys is None or key in keys):
                found.append(source)
        return found

    async def run(self) -> None:
        """Follow every region's log until cancelled."""
        async with asyncio.TaskGroup() as group:
            for region, peer in self._peers.items():
                group.create_task(self._follow(region, peer))

    async def _follow(self, region: str, peer: Peer) -> None:
        seen, failures = -1, 0
        while True:
            busy = bool(self._of_region.get(region))
            try:
                seen, pairs = await peer.log(seen, LOOK_S) if busy else await peer.log(seen)
                known = {pair: await self._read(peer, *pair) for pair in pairs}
            except (UnavailableError, RefusedError):
                # What was on its way still is: it cannot have been read since.
                failures += 1
                await asyncio.sleep(delay_s(failures, random.random()))  # noqa: S311
                continue
            failures = 0
            for gone in self._of_region.get(region, set()) - known.keys():
                del self._pairs[gone]
            self._of_region[region] = set(known)
            self._pairs |= known

    async def _read(self, peer: Peer, bucket: str, destination: str) -> frozenset[str] | None:
        rows = await peer.due(bucket, destination, 0, KEYS_MAX)
        return None if len(rows) == KEYS_MAX else frozenset(row.key for row in rows)
