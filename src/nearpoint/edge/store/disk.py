"""The disk tier as the edge sees it: what is kept is found at once, and written behind.

A body up to `record.INLINE_BYTES_MAX` lies in its record; a larger one in files, a part each, which are written before
the record that leads to them, verified when they are first opened, and never changed. One thread makes all changes,
many in one transaction; whoever reads sees the state before or after one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import lmdb
import structlog

from nearpoint.edge.blob import BLOB_BYTES_MIN, Blob
from nearpoint.edge.notices import Notices
from nearpoint.edge.store import lifetime
from nearpoint.edge.store.counts import Counts, number_of
from nearpoint.edge.store.index import Change, Drop, Index, Put, PutPart, Totals
from nearpoint.edge.store.record import (
    Names,
    Note,
    Part,
    PartKey,
    Record,
    RecordKey,
    checksum,
    part_key,
    part_of_key,
    record_key,
)

log = structlog.get_logger("nearpoint.edge")

CAPACITY_BYTES_MIN = 1 << 20
INLINE_BYTES_MAX = BLOB_BYTES_MIN - 1
BATCH = 128  # changes in one transaction
WAITING_MAX = 4_096  # changes that wait; what comes then is not kept
_GATHER_S = 0.002  # for more to come before a transaction
_ORPHAN_AGE_S = 60.0
NOTICE_EVERY_S = 1.0  # how often the log says that the disk is full, and what is kept gives way


class DiskStore:
    """One process's hold on the store in `folder`. Raises OSError or lmdb.Error when that can't be used.

    The folder has to be `lifetime.prepare`d. Made in the process that uses it, not before a fork.
    """

    def __init__(self, folder: Path, capacity_bytes: int) -> None:
        self.capacity_bytes = max(capacity_bytes, CAPACITY_BYTES_MIN)
        self.kept = lifetime.prepare(folder)
        self.refused = 0  # what was not kept because too much waited, or the disk is full
        self._notices = Notices(NOTICE_EVERY_S, time.monotonic)
        self._bodies = folder / lifetime.BODIES
        self._folder = folder
        self._counts = Counts(folder / lifetime.COUNTS, self.capacity_bytes)
        self._index = Index(folder / lifetime.INDEX, capacity_bytes=self.capacity_bytes, counts=self._counts)
        self._queue: queue.SimpleQueue[Change | Callable[[], None] | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._writer.start()
        self._closing = threading.Event()
        self._sweeper = threading.Thread(target=self._sweep, name="store-sweeper", daemon=True)
        self._sweeper.start()

    def close(self) -> None:
        """Write what waits, and let go."""
        self._closing.set()
        self._queue.put(None)
        self._writer.join()
        self._sweeper.join()
        self._index.close()
        self._counts.close()

    # --- reading

    def find(self, key: bytes, variant_of: Callable[[tuple[str, ...]], tuple[str | None, ...]]) -> Record | None:
        """The record of a cache key and of the variant that the function makes of the names of a Vary."""
        at = record_key(key)
        found = self._index.record(at)
        if isinstance(found, Names) and found.key == key:
            at = record_key(key, variant_of(found.variance))
            found = self._index.record(at)
        if not isinstance(found, Record) or found.key != key or found.variant != variant_of(found.variance):
            return None
        self._counts.touch(number_of(at))
        return found

    def touch(self, record: RecordKey) -> None:
        """A record has been used, elsewhere than here."""
        self._counts.touch(number_of(record))

    def open_part(self, body_id: int, number: int) -> Blob | None:
        """A part of a body, verified; takes as long as reading it does. None: it is not there, or not as it was."""
        key = part_key(body_id, number)
        part = self._index.part(key)
        if part is None:
            return None
        blob = Blob.open(self._path(key), part.size, body_id=body_id, checksum=part.checksum)
        if blob is None:
            return None
        try:
            sound = checksum(blob.read()) == part.checksum
        except OSError:
            sound = False
        if not sound:
            log.warning("a part in the store is not what was written", body=f"{body_id:016x}", part=number)
            return None
        self._counts.touch(number_of(key))
        return blob

    def has_part(self, body_id: int, number: int) -> bool:
        """Whether a part is there, as far as the index knows."""
        return self._index.part(part_key(body_id, number)) is not None

    def notes(self, after: int) -> tuple[list[Note], int]:
        """Invalidations noted since, and the number of the last one."""
        return self._index.notes(after)

    @property
    def news(self) -> int:
        """Grows with every note, whichever process writes it."""
        return self._counts.news

    @property
    def totals(self) -> Totals:
        """What the store holds."""
        return self._index.totals

    # --- writing

    def write_part(self, body_id: int, number: int, data: bytes) -> Blob | None:
        """Put a part into a file; nothing leads to it before `keep` or `keep_part`. None where the disk is full."""
        path = written = self._path(part_key(body_id, number))
        try:
            try:
                descriptor = _create(path)
            except FileExistsError:
                # Another worker brings the same part, or was killed when it did: it is replaced as a whole.
                written = path.with_name(f"{path.name}-{os.urandom(4).hex()}")
                descriptor = _create(written)
            blob = Blob(descriptor, len(data), body_id=body_id, checksum=checksum(data))
            blob.write(data)
            if written != path:
                written.replace(path)
        except OSError as error:
            self.refused += 1
            self._cannot_write(error)
            with contextlib.suppress(OSError):
                written.unlink()
            return None
        return blob

    def keep(self, record: Record, body: Blob | None = None) -> None:
        """Keep a record, with its body if that is one part that has been written."""
        parts = () if body is None else ((0, Part(size=body.size, checksum=body.checksum)),)
        if record.variance:
            names = Names(key=record.key, variance=record.variance)
            self._change(Put(key=record_key(record.key), record=names))
        self._change(Put(key=record_key(record.key, record.variant), record=record, parts=parts))

    def keep_part(self, owner: RecordKey, number: int, blob: Blob) -> None:
        """Keep a part that has been written of the body of a record that is kept."""
        part = Part(size=blob.size, checksum=blob.checksum)
        self._change(PutPart(owner=owner, body_id=blob.body_id, number=number, part=part))

    def drop(self, record: RecordKey, requested_at: float) -> None:
        """Forget a record unless it has been replaced by one that was asked for later."""
        self._change(Drop(key=record, requested_at=requested_at))

    def note(self, note: Note) -> None:
        """Keep an invalidation and tell the other processes of it."""
        self._queue.put(note)

    def flush(self) -> None:
        """Wait until what has been given so far is written."""
        done = threading.Event()
        self._queue.put(done.set)
        done.wait()

    def _change(self, change: Change) -> None:
        if self._queue.qsize() > WAITING_MAX:
            self.refused += 1
            self._unlink_parts([change])
            return
        self._queue.put(change)

    # --- the writing thread

    def _write(self) -> None:
        while True:
            item = self._queue.get()
            changes: list[Change] = []
            calls: list[Callable[[], None]] = []
            if item is not None and not callable(item) and self._queue.empty():
                time.sleep(_GATHER_S)
            while item is not None:
                if callable(item):
                    calls.append(item)
                    break
                changes.append(item)
                if len(changes) >= BATCH or self._queue.empty():
                    break
                item = self._queue.get()
            try:
                if changes:
                    self._apply(changes)
                for call in calls:
                    call()
            except Exception:
                log.exception("the store could not be written")
            if item is None:
                return

    def _apply(self, changes: list[Change]) -> None:
        try:
            self._unlink(self._index.apply(changes))
        except lmdb.MapFullError:
            # Its pages are more than was reckoned: let go of a tenth and go on without what was to be kept.
            self.refused += len(changes)
            self._give_way()
            self._unlink_parts(changes)
        except OSError as error:
            rest = [change for change in changes if isinstance(change, Drop | Note)]
            self.refused += len(changes) - len(rest)
            self._unlink_parts(changes)
            self._cannot_write(error)
            if rest:
                self._unlink(self._index.apply(rest))

    def _cannot_write(self, error: OSError) -> None:
        """The disk is full, as a rule: what is kept gives way, a tenth at a time."""
        unsaid = self._notices.due(error.errno)
        if unsaid is not None:
            log.warning("the store cannot be written to", error=str(error), others_before=unsaid)
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self._queue.put(self._give_way)

    def _give_way(self) -> None:
        """Let go of a tenth of what is kept."""
        wanted, more = self._index.totals.used_bytes * 9 // 10, True
        while more:
            orphans, more = self._index.shrink(wanted)
            self._unlink(orphans)

    def _unlink_parts(self, changes: Iterable[Change]) -> None:
        """Delete the files of what is not kept after all."""
        for change in changes:
            if isinstance(change, Put) and isinstance(change.record, Record):
                self._unlink([part_key(change.record.body_id, number) for number, _ in change.parts])
            elif isinstance(change, PutPart):
                self._unlink([part_key(change.body_id, change.number)])

    def _unlink(self, keys: list[PartKey]) -> None:
        for key in keys:
            with contextlib.suppress(OSError):
                self._path(key).unlink()

    def _path(self, key: PartKey) -> Path:
        body_id, number = part_of_key(key)
        name = f"{body_id:016x}"
        return self._bodies / name[:2] / f"{name}-{number}"

    def _sweep(self) -> None:
        """Delete files that nothing leads to: whoever was to write their record has been killed."""
        with lifetime.only_one(self._folder, "sweep") as mine:
            if not mine:
                return
            before = time.time() - _ORPHAN_AGE_S
            lifetime.sweep_trash(self._folder)
            for folder in self._bodies.iterdir():
                for path in folder.iterdir():
                    if self._closing.is_set():
                        return
                    body_id, number, *unfinished = path.name.split("-")
                    with contextlib.suppress(OSError, ValueError):
                        if path.stat().st_mtime < before and (
                            unfinished or not self.has_part(int(body_id, 16), int(number))
                        ):
                            path.unlink()


def new_body_id(random_bytes: Callable[[int], bytes] = os.urandom) -> int:
    """A number for a body that no other has; never 0."""
    return int.from_bytes(random_bytes(8), "big") | 1


def _create(path: Path) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(exist_ok=True, mode=0o700)
        return os.open(path, flags, 0o600)
