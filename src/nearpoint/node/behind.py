"""What a process of nodes knows of keys that are on their way: the regions' logs, its own writes, and those of the
other processes of this machine (`accesspoint/newest.py` says what it is for)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import structlog

from nearpoint.node.write_notes import WriteNotes
from nearpoint.regions.store import Store
from nearpoint.replication.pending import LogListener, Note, PendingKeys, bucket_name, name_of

log = structlog.get_logger("nearpoint.node")


class KeysBehind:
    """The access points' `Behind`. One for all locations of a process."""

    def __init__(self, regions: Sequence[str], folder: Path, name: str, others: Sequence[str]) -> None:
        """`folder` is shared by the machine's processes, of which this one is `name`. Raises OSError."""
        self._keys = PendingKeys(regions)
        self._regions = {name_of(region): region for region in regions}
        self._notes = WriteNotes(folder, name, others, self._told)

    async def run(self, stores: Mapping[str, Store]) -> None:
        """Hear the logs, each by the store that is given for its region, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for region in self._keys.regions:
                group.create_task(LogListener(stores[region], self._keys).run())

    def any(self) -> bool:
        self._notes.listen()
        return self._keys.busy

    def newer_in(self, bucket: str, key: str, others: Iterable[tuple[str, str]]) -> list[str]:
        return self._keys.newer_in(bucket, key, others)

    def wrote(self, region: str, bucket: str, keys: Iterable[str], logged: str) -> None:
        sequence, _, destinations = logged.partition(";")
        if not (sequence.isascii() and sequence.isdigit()) or region not in self._keys.regions:
            log.warning("a store says what cannot be of its log", region=region)
            return
        for key in keys:
            for destination in destinations.split(","):
                note = Note(bucket_name(bucket), bucket_name(destination), name_of(key), int(sequence))
                self._keys.note(region, note)
                self._notes.tell(name_of(region), note)  # they may not have heard of it yet, even if we have

    def _told(self, region: int, note: Note) -> None:
        known = self._regions.get(region)
        if known is not None:
            self._keys.note(known, note)
