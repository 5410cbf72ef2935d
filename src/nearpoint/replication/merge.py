"""What a key is, everywhere: the merge of what regions know of it.

A region's knowledge of a key is a set of versions, each with a stamp that never changes, the amendments made to them
(tags, legal hold, retention: each with a stamp of its own), and the ids of those that were removed for good. `merge`
is union of the versions and of the removed ids, and for each version the newest amendment. What the key *is* follows
from it: the version with the greatest stamp, which is nothing when that one is a delete marker.

A region takes in a version by merging what it knows with that one version. Removed ids are never sent, as on S3, where
a delete that names a version is the region's own affair: they only keep such a version from being brought back.

Laws, tested as properties in `tests/replication/test_merge.py`; `a`, `b`, `c` are any knowledge of one key:

    merge(a, b) == merge(b, a)                            commutative: the order of arrival does not matter
    merge(a, merge(b, c)) == merge(merge(a, b), c)        associative: nor does the way that it came
    merge(a, a) == a                                      idempotent: nor does how often
    current(merge(a, b)) >= current(a)                    older never overwrites newer
    removed(a) is never in versions(merge(a, b))          what was removed for good does not come back

Stamps are a total order: time, then region, then entity tag; two versions that agree in all three (an object copied
before regions were written down) are ordered by their id. The embedded store has the same rule as the order of its
history index (`bucket/schema.py`); a test holds the two together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nearpoint.regions.version import Stamp

NEVER = Stamp(0, "", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version: its id, stamp, whether it is a delete marker, and when and where what hangs on it was last amended.

    `attributes` is what an amendment changes, opaque here; the amendment's stamp decides which one holds.
    """

    id: str
    stamp: Stamp
    marker: bool = False
    amended: Stamp = NEVER
    attributes: str = ""

    @property
    def rank(self) -> tuple[Stamp, str]:
        """What versions of a key are ordered by."""
        return self.stamp, self.id


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What a region knows of one key. No removed id is among the versions."""

    versions: Mapping[str, Version] = field(default_factory=lambda: MappingProxyType({}))
    removed: frozenset[str] = frozenset()


def newer(a: Version, b: Version) -> Version:
    """Of two states of the same version, the one that holds: the later amendment (then its attributes, to be total)."""
    return max(a, b, key=lambda version: (version.amended, version.attributes))


def merge(a: Knowledge, b: Knowledge) -> Knowledge:
    """What two regions know together."""
    removed = a.removed | b.removed
    versions: dict[str, Version] = {}
    for known in (a, b):
        for id, version in known.versions.items():
            if id not in removed:
                versions[id] = newer(versions[id], version) if id in versions else version
    return Knowledge(versions=versions, removed=removed)


def current(known: Knowledge) -> Version | None:
    """The newest version, which may be a delete marker; None where there is none."""
    return max(known.versions.values(), key=lambda version: version.rank, default=None)


def value(known: Knowledge) -> Version | None:
    """What a reader of the key gets: None where there is nothing, or a delete marker."""
    found = current(known)
    return None if found is None or found.marker else found
