"""The store's records in LMDB, and the order in which they leave: S3-FIFO, as in `eviction`, kept on disk.

Tables: `records` and `parts` hold what is kept; `places` says in which queue each of them stands, at which number and
with how many bytes; `small` and `main` are the queues; `notes` are invalidations; `totals` has one row. Every change is
one transaction, so whoever is killed in the middle of one has changed nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lmdb
import msgspec

from nearpoint.edge.eviction import PROMOTED_ABOVE, SMALL_SHARE
from nearpoint.edge.store.counts import Counts, number_of
from nearpoint.edge.store.record import (
    Names,
    Note,
    Part,
    PartKey,
    Record,
    RecordKey,
    part_key,
    part_of_key,
    read_note,
    read_part,
    read_record,
    seal,
)
from nearpoint.edge.store.room import Room

PAGE_BYTES = 4_096
_IN_PAGE_MAX = 1_900  # a longer value has pages of its own
_ROW_BYTES = 160  # of a record in `places` and a queue
FILE_BYTES = 600  # of a part beside its file's bytes: rows, inode, directory
STEPS_MAX = 500  # of eviction in one transaction: others wait for it
NOTES_MAX = 20_000
# What a transaction may take beyond the pages in use, values aside; most of its pages have been given back before.
AHEAD_BYTES = 4 << 20
SPARE_BYTES = 1 << 20  # on a full disk, for what makes room
_PLACE = struct.Struct(">QQ?")  # number in the queue, bytes, in main
_NUMBER = struct.Struct(">Q")
_TOTALS = struct.Struct(">8Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What the store holds and has let go."""

    next_number: int = 1
    small_bytes: int = 0
    main_bytes: int = 0
    records: int = 0
    parts: int = 0
    left_bytes: int = 0
    evictions: int = 0
    notes: int = 0

    @property
    def used_bytes(self) -> int:
        return self.small_bytes + self.main_bytes


class Put(msgspec.Struct, frozen=True, kw_only=True):
    """A record to keep, and its files."""

    key: RecordKey
    record: Record | Names
    parts: tuple[tuple[int, Part], ...] = ()


class PutPart(msgspec.Struct, frozen=True, kw_only=True):
    """Another file of a body whose record is kept already."""

    owner: RecordKey
    body_id: int
    number: int
    part: Part


class Drop(msgspec.Struct, frozen=True, kw_only=True):
    """A record to forget, unless the one that is there was asked of the origin later."""

    key: RecordKey
    requested_at: float


Change = Put | PutPart | Drop | Note


def charged_bytes(value_bytes: int) -> int:
    """About what a value takes on disk, rows of the queues included."""
    if value_bytes <= _IN_PAGE_MAX:
        return value_bytes * 3 // 2 + _ROW_BYTES  # pages of a B+ tree are two thirds full
    return -(-value_bytes // PAGE_BYTES) * PAGE_BYTES + _ROW_BYTES


def charged_file_bytes(size: int) -> int:
    """About what a file takes on disk."""
    return -(-size // PAGE_BYTES) * PAGE_BYTES + FILE_BYTES


class Index:
    """One process's view of the records. Reading may be done in any thread, changes in one."""

    def __init__(self, path: Path, *, capacity_bytes: int, counts: Counts) -> None:
        self.capacity_bytes = capacity_bytes
        self.counts = counts
        # A process that is killed loses nothing: what it wrote is in the kernel's page cache. Whether the machine
        # has been, `lifetime` knows.
        map_bytes = capacity_bytes * 2 + (256 << 20)
        self._env = lmdb.open(
            str(path),
            map_size=map_bytes,
            max_dbs=8,
            max_readers=512,
            sync=False,
            writemap=True,
            mode=0o600,
        )
        # Not closed before the environment is: that would give up LMDB's own locks of the file.
        self._locks = Room(path / "lock.mdb", (path / "lock.mdb").stat().st_size)
        self._pages = Room(path / "data.mdb", map_bytes)
        self._locks.have(1)
        self._env.reader_check()
        with self._env.begin(write=True) as txn:
            self._have_room(())
            self._records = self._env.open_db(b"records", txn=txn)
            self._parts = self._env.open_db(b"parts", txn=txn)
            self._places = self._env.open_db(b"places", txn=txn)
            self._small = self._env.open_db(b"small", txn=txn)
            self._main = self._env.open_db(b"main", txn=txn)
            self._notes = self._env.open_db(b"notes", txn=txn)
            self._state = self._env.open_db(b"totals", txn=txn)

    def close(self, *, sync: bool = False) -> None:
        if sync:
            self._env.sync(True)
        self._env.close()
        self._pages.close()
        self._locks.close()

    # --- reading

    def record(self, key: RecordKey) -> Record | Names | None:
        """What is kept under a key; None also for what is not as it was written."""
        with self._env.begin(db=self._records, buffers=True) as txn:
            sealed = txn.get(key)
            return None if sealed is None else read_record(sealed)

    def part(self, key: PartKey) -> Part | None:
        """What is known of a part's file."""
        with self._env.begin(db=self._parts, buffers=True) as txn:
            sealed = txn.get(key)
            return None if sealed is None else read_part(sealed)

    def notes(self, after: int = 0) -> tuple[list[Note], int]:
        """The notes after a number, and the last one's number."""
        found: list[Note] = []
        with self._env.begin(db=self._notes, buffers=True) as txn:
            cursor = txn.cursor()
            if cursor.set_range(_NUMBER.pack(after + 1)):
                for number, sealed in cursor:
                    after = _NUMBER.unpack(number)[0]
                    note = read_note(sealed)
                    if note is not None:
                        found.append(note)
        return found, after

    @property
    def totals(self) -> Totals:
        with self._env.begin(db=self._state) as txn:
            return self._read_totals(txn)

    def _read_totals(self, txn: Any) -> Totals:
        row = txn.get(b"totals", db=self._state)
        if row is None:
            return Totals()
        names = Totals.__slots__
        return Totals(**dict(zip(names, _TOTALS.unpack(row), strict=True)))

    # --- changing

    def apply(self, changes: Iterable[Change]) -> list[PartKey]:
        """Make changes, and room for them. Returns the files that nothing leads to any more.

        Raises lmdb.MapFullError, and OSError where the disk is full, having changed nothing.
        """
        changes = list(changes)
        with self._env.begin(write=True) as txn:
            self._have_room(changes)
            work = _Work(self, txn, self._read_totals(txn))
            for change in changes:
                match change:
                    case Put():
                        work.put(change)
                    case PutPart():
                        work.put_part(change)
                    case Drop():
                        work.drop(change)
                    case Note():
                        work.note(change)
            work.evict(self.capacity_bytes)
            work.end()
        if any(isinstance(change, Note) for change in changes):
            self.counts.tell()
        return work.orphans

    def shrink(self, capacity_bytes: int) -> tuple[list[PartKey], bool]:
        """Let go of what is more than this. Returns the files that may go, and whether there is more to do.

        Raises OSError where the disk is full.
        """
        with self._env.begin(write=True) as txn:
            self._have_room(())
            work = _Work(self, txn, self._read_totals(txn))
            work.evict(capacity_bytes)
            work.end()
            return work.orphans, work.used_bytes > capacity_bytes

    def _have_room(self, changes: Sequence[Change]) -> None:
        """Have blocks for the pages that a transaction may write; called in it. What is to be kept needs more of them,
        so that on a full disk the rest can still be done. Raises OSError."""
        used_bytes = (self._env.info()["last_pgno"] + 1) * PAGE_BYTES
        need_bytes = used_bytes + min(used_bytes, AHEAD_BYTES)
        kept = [change for change in changes if isinstance(change, Put | PutPart)]
        if kept:
            need_bytes += SPARE_BYTES + sum(_value_bytes(change) for change in kept)
        self._pages.have(need_bytes)


def _value_bytes(change: Put | PutPart) -> int:
    """More than its value takes in the tables."""
    record = change.record if isinstance(change, Put) else None
    return PAGE_BYTES + (2 * (len(record.body or b"") + len(record.fields)) if isinstance(record, Record) else 0)


class _Work:
    """One transaction."""

    def __init__(self, index: Index, txn: Any, totals: Totals) -> None:
        self.orphans: list[PartKey] = []
        self._index = index
        self._txn = txn
        self._totals = totals
        self._number = totals.next_number
        self._bytes = {False: totals.small_bytes, True: totals.main_bytes}
        self._records = totals.records
        self._parts = totals.parts
        self._left_bytes = totals.left_bytes
        self._evictions = totals.evictions
        self._notes = totals.notes

    @property
    def used_bytes(self) -> int:
        return self._bytes[False] + self._bytes[True]

    def end(self) -> None:
        totals = replace(
            self._totals,
            next_number=self._number,
            small_bytes=self._bytes[False],
            main_bytes=self._bytes[True],
            records=self._records,
            parts=self._parts,
            left_bytes=self._left_bytes,
            evictions=self._evictions,
            notes=self._notes,
        )
        row = _TOTALS.pack(*(getattr(totals, name) for name in Totals.__slots__))
        self._txn.put(b"totals", row, db=self._index._state)

    # --- what is kept

    def put(self, change: Put) -> None:
        record = change.record
        body_id = record.body_id if isinstance(record, Record) else 0
        sealed, in_main = seal(record), False
        if not self._txn.put(change.key, sealed, db=self._index._records, overwrite=False):
            if isinstance(record, Record) and self._is_newer(change.key, record.requested_at):
                kept = [part_key(body_id, number) for number, _ in change.parts]
                self.orphans += [key for key in kept if self._txn.get(key, db=self._index._parts) is None]
                return
            in_main = self._remove_record(change.key, but=body_id)
            self._txn.put(change.key, sealed, db=self._index._records)
        self._records += 1
        self._admit(change.key, charged_bytes(len(sealed)), in_main=in_main)
        for number, part in change.parts:
            self._put_part(part_key(body_id, number), part, in_main=in_main)

    def put_part(self, change: PutPart) -> None:
        key = part_key(change.body_id, change.number)
        sealed = self._txn.get(change.owner, db=self._index._records)
        owner = None if sealed is None else read_record(sealed)
        if isinstance(owner, Record) and owner.body_id == change.body_id:
            self._put_part(key, change.part, in_main=False)
        else:
            self.orphans.append(key)  # its record has gone in the meantime

    def _put_part(self, key: PartKey, part: Part, *, in_main: bool) -> None:
        if self._leave(key) is None:
            self._parts += 1
        self._txn.put(key, seal(part), db=self._index._parts)
        self._admit(key, charged_file_bytes(part.size), in_main=in_main)

    def drop(self, change: Drop) -> None:
        if not self._is_newer(change.key, change.requested_at):
            self._remove_record(change.key)

    def _is_newer(self, key: RecordKey, requested_at: float) -> bool:
        """Whether what is kept was asked of the origin after that moment."""
        sealed = self._txn.get(key, db=self._index._records)
        record = None if sealed is None else read_record(sealed)
        return isinstance(record, Record) and record.requested_at > requested_at

    def note(self, note: Note) -> None:
        self._notes += 1
        self._txn.put(_NUMBER.pack(self._notes), seal(note), db=self._index._notes)
        count = self._txn.stat(self._index._notes)["entries"]
        if count > NOTES_MAX:
            self._forget_notes(count // 2)

    def _forget_notes(self, count: int) -> None:
        """Too much is gone rather than too little: what is forgotten takes everything of its time with it."""
        floors: dict[str, float] = {}
        cursor = self._txn.cursor(db=self._index._notes)
        cursor.first()
        for _ in range(count):
            note = read_note(cursor.value())
            if note is not None:
                floors[note.distribution_id] = max(note.at, floors.get(note.distribution_id, 0.0))
            cursor.delete()
        for distribution_id, at in floors.items():
            self._notes += 1
            floor = Note(distribution_id=distribution_id, id=f"floor-{at}", at=at, exact=(), prefixes=("",))
            self._txn.put(_NUMBER.pack(self._notes), seal(floor), db=self._index._notes)

    # --- the order in which it leaves

    def _admit(self, key: bytes, size: int, *, in_main: bool) -> None:
        counts = self._index.counts
        number = number_of(key)
        if not in_main:
            within_kib = int(self._index.capacity_bytes * (1 - SMALL_SHARE)) >> 10
            in_main = counts.resurrect(number, self._left_bytes >> 10, within_kib)
            counts.set_uses(number, 0)
        self._push(key, size, in_main)

    def _push(self, key: bytes, size: int, in_main: bool) -> None:
        self._txn.put(key, _PLACE.pack(self._number, size, in_main), db=self._index._places)
        queue = self._index._main if in_main else self._index._small
        self._txn.put(_NUMBER.pack(self._number), key, db=queue, append=True)
        self._bytes[in_main] += size
        self._number += 1

    def _leave(self, key: bytes) -> bool | None:
        """Take a record or part out of its queue; says whether that was the main one, None: it was in none."""
        place = self._txn.pop(key, db=self._index._places)
        if place is None:
            return None
        number, size, in_main = _PLACE.unpack(place)
        self._txn.delete(_NUMBER.pack(number), db=self._index._main if in_main else self._index._small)
        self._bytes[in_main] -= size
        return bool(in_main)

    def _remove_record(self, key: RecordKey, *, but: int = 0) -> bool:
        """Forget a record and its parts, those of the body `but` excepted; says whether it stood in the main queue."""
        sealed = self._txn.get(key, db=self._index._records)
        if sealed is None:
            return False
        record = read_record(sealed)
        self._txn.delete(key, db=self._index._records)
        self._records -= 1
        in_main = self._leave(key)
        if isinstance(record, Record) and record.body_id and record.body_id != but:
            for part in list(self._parts_of(record.body_id)):
                self._remove_part(part)
        return bool(in_main)

    def _parts_of(self, body_id: int) -> Iterator[PartKey]:
        cursor = self._txn.cursor(db=self._index._parts)
        if cursor.set_range(part_key(body_id, 0)):
            for key in cursor.iternext(values=False):
                if part_of_key(key)[0] != body_id:
                    return
                yield bytes(key)

    def _remove_part(self, key: PartKey) -> None:
        self._txn.delete(key, db=self._index._parts)
        self._parts -= 1
        self._leave(key)
        self.orphans.append(key)

    def evict(self, capacity_bytes: int) -> None:
        """Let go until no more than this is left, or STEPS_MAX have been looked at."""
        for _ in range(STEPS_MAX):
            if self.used_bytes <= capacity_bytes or not self._evict_one(capacity_bytes):
                return

    def _evict_one(self, capacity_bytes: int) -> bool:
        from_main = not (self._bytes[False] > capacity_bytes * SMALL_SHARE or not self._bytes[True])
        cursor = self._txn.cursor(db=self._index._main if from_main else self._index._small)
        if not cursor.first():
            return False
        key = bytes(cursor.value())
        place = self._txn.get(key, db=self._index._places)
        size = _PLACE.unpack(place)[1]
        counts, number = self._index.counts, number_of(key)
        uses = counts.uses(number)
        if uses > (0 if from_main else PROMOTED_ABOVE):
            self._leave(key)
            counts.set_uses(number, uses - 1 if from_main else 0)
            self._push(key, size, True)
            return True
        if not from_main:
            counts.bury(number, self._left_bytes >> 10)
        self._left_bytes += size if not from_main else 0
        self._evictions += 1
        if len(key) == len(part_key(0, 0)):
            self._remove_part(key)
        else:
            self._remove_record(key)
        return True
