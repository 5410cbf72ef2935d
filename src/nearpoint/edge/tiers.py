"""The two tiers of the cache as one: this worker's memory in front of the disk that all workers share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from nearpoint.edge.blob import BLOB_BYTES_MIN, Blob
from nearpoint.edge.cache import MemoryCache
from nearpoint.edge.entry import Entry, Parts, Variant
from nearpoint.edge.eviction import USES_MAX
from nearpoint.edge.freshness import Freshness, Source
from nearpoint.edge.invalidation import IDS_MAX, Invalidation
from nearpoint.edge.key import Key, key_distribution, key_path
from nearpoint.edge.parts import PART_BYTES
from nearpoint.edge.store.disk import DiskStore, new_body_id
from nearpoint.edge.store.record import Note, Record, key_bytes, record_key
from nearpoint.edge.vary import Variance


class Tiers:
    """The cache of one edge. Without a store, memory is all there is."""

    def __init__(self, memory: MemoryCache, store: DiskStore | None) -> None:
        self.memory = memory
        self.store = store
        self._noted: dict[str, None] = {}  # the ids of invalidations that are in the store
        self._news = -1  # whatever the counter says, what is noted has to be read once
        self._last_note = 0
        self.poll()

    def find_now(self, key: Key, variant_of: Callable[[Variance], Variant]) -> Entry | None:
        """What this worker has in memory, fresh or stale."""
        variance = self.memory.variance(key)
        return None if variance is None else self.memory.get(key, variant_of(variance))

    async def find(self, key: Key, variant_of: Callable[[Variance], Variant], now: float) -> Entry | None:
        """What is cached, fresh if any of it is; a copy on disk that is newer than the one in memory wins."""
        entry = self.find_now(key, variant_of)
        if self.store is None:
            return entry
        if entry is not None and now < entry.fresh_until:
            if entry.uses < USES_MAX:
                self.used(entry)
            return entry
        record = self.store.find(key_bytes(key), variant_of)
        if record is None or (entry is not None and record.requested_at <= entry.requested_at):
            return entry
        body = await self._body_of(record)
        if body is None:
            self.store.drop(record_key(record.key, record.variant), record.requested_at)
            return entry
        restored = _restored(key, record, body)
        # Another may have come in while the body was opened.
        entry = self.find_now(key, variant_of)
        if entry is not None and entry.requested_at >= restored.requested_at:
            return entry
        return restored if self.memory.put(restored) else self.find_now(key, variant_of)

    def used(self, entry: Entry) -> None:
        """An entry in memory is asked for: its copy on disk should stay, too."""
        if self.store is not None:
            self.store.touch(store_key(entry))

    async def _body_of(self, record: Record) -> bytes | Blob | Parts | None:
        if record.body is not None:
            return Blob.held(record.body)
        if record.size > PART_BYTES:
            return Parts(record.size, record.body_id)
        assert self.store is not None
        blob = await asyncio.to_thread(self.store.open_part, record.body_id, 0)
        return blob.read() if blob is not None and Blob.too_many() else blob

    def hold(self, data: bytes) -> bytes | Blob:
        """How a body is kept from now on."""
        if len(data) < BLOB_BYTES_MIN or self.store is None or len(data) > PART_BYTES or Blob.too_many():
            return Blob.held(data)
        return self.store.write_part(new_body_id(), 0, data) or Blob.held(data)

    def parts(self, size: int) -> Parts:
        """A large body that is to come in parts."""
        return Parts(size, new_body_id() if self.store is not None else 0)

    def put(self, entry: Entry) -> bool:
        """Keep an entry. False: it had been invalidated while it was on its way, or there is no room for it."""
        kept = self.memory.put(entry)
        if self.store is None or (not kept and self.memory.is_invalidated(entry)):
            return kept
        body = entry.body
        if isinstance(body, Blob) and not body.body_id:
            data: bytes | None = body.read()
        else:
            data = body if isinstance(body, bytes) else None
        record = Record(
            key=key_bytes(entry.primary),
            variance=entry.variance,
            variant=entry.variant,
            status=entry.status,
            fields=entry.fields,
            requested_at=entry.requested_at,
            born_at=entry.born_at,
            fresh_until=entry.fresh_until,
            stale_while_until=entry.stale_while_until,
            stale_if_error_until=entry.stale_if_error_until,
            stale_when_unreachable=entry.stale_when_unreachable,
            size=len(body),
            body=data,
            body_id=0 if isinstance(body, bytes) else body.body_id,
        )
        self.store.keep(record, body if isinstance(body, Blob) and body.body_id else None)
        return True

    def put_part(self, entry: Entry, number: int, data: bytes) -> Blob | None:
        """Keep a part of an entry's body; may take as long as writing it does. None: it could not be kept."""
        parts = entry.body
        assert isinstance(parts, Parts)
        if self.store is None:
            return None if entry.gone else Blob.in_memory(data)
        return self.store.write_part(parts.body_id, number, data)

    def part_is_in(self, entry: Entry, number: int, blob: Blob) -> None:
        """A part that has been put can be found from now on."""
        parts = entry.body
        assert isinstance(parts, Parts)
        parts.blobs[number] = blob
        if self.store is None:
            self.memory.grow(entry, blob.size)
            return
        self.store.keep_part(store_key(entry), number, blob)
        parts.trim()

    async def part(self, entry: Entry, number: int) -> Blob | None:
        """A part of an entry's body, if it is kept."""
        parts = entry.body
        assert isinstance(parts, Parts)
        blob = parts.blobs.get(number)
        if blob is None and self.store is not None:
            blob = await asyncio.to_thread(self.store.open_part, parts.body_id, number)
            if blob is not None:
                parts.blobs[number] = blob
                parts.trim()
        return blob

    def has_part(self, entry: Entry, number: int) -> bool:
        """Whether a part is kept."""
        parts = entry.body
        assert isinstance(parts, Parts)
        if number in parts.blobs:
            return True
        return self.store is not None and self.store.has_part(parts.body_id, number)

    def drop(self, entry: Entry) -> None:
        """Take an entry out."""
        self.memory.drop(entry)
        if self.store is not None:
            self.store.drop(store_key(entry), entry.requested_at)

    def drop_key(self, key: Key, now: float) -> None:
        """Take every variant of a key out, in every worker (RFC 9111 §4.4)."""
        self.memory.drop_key(key)
        if self.store is not None:
            gone = Invalidation(
                id=f"unsafe-{new_body_id():016x}", at=now, exact=frozenset({key_path(key)}), prefixes=()
            )
            self.invalidate(key_distribution(key), [gone])

    def invalidate(self, distribution_id: str, invalidations: Iterable[Invalidation]) -> bool:
        """Take note of invalidations, here and for the other workers. True when there was a new one."""
        listed = list(invalidations)
        if self.store is not None:
            for each in listed:
                if each.id not in self._noted:
                    self._note(each.id)
                    self.store.note(
                        Note(
                            distribution_id=distribution_id,
                            id=each.id,
                            at=each.at,
                            exact=tuple(each.exact),
                            prefixes=each.prefixes,
                        )
                    )
        return self.memory.invalidate(distribution_id, listed)

    def _note(self, id: str) -> None:
        self._noted[id] = None
        if len(self._noted) > IDS_MAX:
            for old in list(self._noted)[: IDS_MAX // 2]:
                del self._noted[old]

    def poll(self) -> bool:
        """Take in what other workers have invalidated. True when there was something new."""
        if self.store is None or self.store.news == self._news:
            return False
        self._news = self.store.news
        notes, self._last_note = self.store.notes(self._last_note)
        news = False
        for note in notes:
            self._note(note.id)
            known = Invalidation(id=note.id, at=note.at, exact=frozenset(note.exact), prefixes=note.prefixes)
            news = self.memory.invalidate(note.distribution_id, [known]) or news
        return news


def store_key(entry: Entry) -> bytes:
    """Where an entry is kept on disk."""
    return record_key(key_bytes(entry.primary), entry.variant)


def _restored(key: Key, record: Record, body: bytes | Blob | Parts) -> Entry:
    return Entry(
        key=key,
        variance=record.variance,
        variant=record.variant,
        status=record.status,
        fields=record.fields,
        body=body,
        freshness=Freshness(
            fresh_s=record.fresh_until - record.born_at,
            initial_age_s=0.0,
            source=Source.NONE,
            stale_while_revalidate_s=record.stale_while_until - record.fresh_until,
            stale_if_error_s=record.stale_if_error_until - record.fresh_until,
            stale_when_unreachable=record.stale_when_unreachable,
        ),
        requested_at=record.requested_at,
        received_at=record.born_at,
    )
