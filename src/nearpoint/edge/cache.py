"""Keeps answers in this worker's memory, within a number of bytes.

A primary key leads to one entry, or to the variants that its Vary tells apart. Invalidations are compared with an
entry when it is next looked up, not when they arrive: a million entries cost nothing at that moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from nearpoint.edge.entry import Entry, Variant
from nearpoint.edge.eviction import S3Fifo
from nearpoint.edge.invalidation import Invalidation, Invalidations
from nearpoint.edge.key import Key, key_distribution, key_path
from nearpoint.edge.tags import stored_tags
from nearpoint.edge.vary import Variance

VARIANTS_MAX = 64  # of one key; the oldest leaves


class MemoryCache:
    """The memory tier. `on_drop` is told of every entry that leaves."""

    def __init__(self, capacity_bytes: int) -> None:
        self.on_drop: Callable[[Entry], None] | None = None
        self._policy = S3Fifo(capacity_bytes)
        self._entries: dict[Key, Entry | dict[Variant, Entry]] = {}
        self._invalidations: dict[str, Invalidations] = {}
        self._tag_fields: dict[str, bytes] = {}  # by distribution: the field that names an answer's tags
        self.evictions = 0

    @property
    def used_bytes(self) -> int:
        """What the entries take, overhead included."""
        return self._policy.used_bytes

    def variance(self, key: Key) -> Variance | None:
        """The fields that tell the variants of a key apart; None when nothing is stored under it."""
        found = self._entries.get(key)
        if found is None:
            return None
        return found.variance if isinstance(found, Entry) else next(iter(found.values())).variance

    def get(self, key: Key, variant: Variant) -> Entry | None:
        """The entry, fresh or stale, unless it has been invalidated. Counts as a use."""
        found = self._entries.get(key)
        if found is None:
            return None
        entry = (found if found.variant == variant else None) if isinstance(found, Entry) else found.get(variant)
        if entry is None or self.is_invalidated(entry):
            return None
        if entry.uses < 3:
            entry.uses += 1
        return entry

    def put(self, entry: Entry) -> bool:
        """Store an entry in the place of what had its key and variant.

        False: it had been invalidated while it was on its way, or has no room.
        """
        before = self._entries.get(entry.primary)
        old: Entry | None = None
        if isinstance(before, Entry):
            if before.variant == entry.variant or before.variance != entry.variance:
                old = before
        elif before is not None:
            if next(iter(before.values())).variance != entry.variance:
                for each in list(before.values()):
                    self.drop(each)
            else:
                old = before.get(entry.variant)
                if old is None and len(before) >= VARIANTS_MAX:
                    self.drop(next(iter(before.values())))
        if old is not None:
            self.drop(old)
        if self.is_invalidated(entry):
            return False
        before = self._entries.get(entry.primary)
        if not entry.variance:
            self._entries[entry.primary] = entry
        elif isinstance(before, dict):
            before[entry.variant] = entry
        else:
            self._entries[entry.primary] = {entry.variant: entry}
        for left in self._policy.admit(entry, instead_of=old):
            self.evictions += 1
            assert isinstance(left, Entry)
            self._forget(left)
        return not entry.gone

    def drop(self, entry: Entry) -> None:
        """Take an entry out."""
        self._policy.remove(entry)
        self._forget(entry)

    def drop_key(self, key: Key) -> None:
        """Take every variant of a key out (RFC 9111 §4.4)."""
        found = self._entries.get(key)
        if isinstance(found, Entry):
            self.drop(found)
        elif found is not None:
            for entry in list(found.values()):
                self.drop(entry)

    def tags_from(self, fields: Mapping[str, str]) -> None:
        """From now on read an answer's tags from these fields, in lower case, by distribution."""
        self._tag_fields = {id: name.encode("latin-1") for id, name in fields.items()}

    def invalidate(self, distribution_id: str, invalidations: Iterable[Invalidation]) -> bool:
        """Take note of invalidations; those known by their id are skipped. True when there was a new one."""
        return self._invalidations.setdefault(distribution_id, Invalidations()).add(invalidations)

    def grow(self, entry: Entry, by_bytes: int) -> None:
        """An entry's body has become longer."""
        for left in self._policy.grow(entry, by_bytes):
            self.evictions += 1
            assert isinstance(left, Entry)
            self._forget(left)

    def is_invalidated(self, entry: Entry) -> bool:
        """Whether an entry is older than an invalidation that takes it; it is dropped then."""
        distribution = key_distribution(entry.primary)
        noted = self._invalidations.get(distribution)
        if noted is None or entry.checked == noted.count:
            return False
        field = self._tag_fields.get(distribution)
        gone = noted.takes(
            key_path(entry.primary),
            entry.requested_at,
            lambda: () if field is None else stored_tags(entry.fields, field),
        )
        if gone:
            self.drop(entry)
        else:
            entry.checked = noted.count
        return gone

    def _forget(self, entry: Entry) -> None:
        found = self._entries.get(entry.primary)
        if found is entry:
            del self._entries[entry.primary]
        elif isinstance(found, dict) and found.get(entry.variant) is entry:
            del found[entry.variant]
            if not found:
                del self._entries[entry.primary]
        if self.on_drop is not None:
            self.on_drop(entry)
