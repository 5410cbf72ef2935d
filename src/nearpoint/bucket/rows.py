"""Buckets, versions and content as rows: what finds, places and removes them, and keeps the invariants between them.

Of a key's versions the newest is current (`schema.NEWEST`: by stamp, then origin, then entity tag); exactly that one is
`listed`, unless it is a delete marker. A key has at most one version named `null`. Content belongs to one version or
part; it goes with it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import apsw
import orjson

from nearpoint.awsproto.errors import AwsError
from nearpoint.bucket import outbox
from nearpoint.bucket.checksums import Checksum
from nearpoint.bucket.disk import Disk
from nearpoint.bucket.metadata import Description, Tags
from nearpoint.bucket.schema import NEWEST, fetch_all, fetch_one
from nearpoint.bucket.writer import Transaction
from nearpoint.regions.rules import Change
from nearpoint.regions.version import Stamp, next_time_us

NULL_VERSION = "null"
ENABLED = "Enabled"
SUSPENDED = "Suspended"


class Bucket(NamedTuple):
    """A bucket's row. `versioning` is empty until it was first set; `created` in microseconds."""

    id: int
    name: str
    created: int
    versioning: str
    replicated: int


class Stored(NamedTuple):
    """A version's row: see `schema`."""

    id: int
    key: bytes
    stamp: int
    version: str
    listed: int
    marker: int
    size: int
    etag: str
    content: int | None
    part_count: int
    head: bytes
    storage_class: str
    checksum: str
    tags: str | None
    extras: str | None
    origin: str
    replication: str
    amended: int
    amended_in: str

    @property
    def modified_s(self) -> int:
        return self.stamp // 1_000_000

    @property
    def rank(self) -> tuple[int, str, str, str]:
        """What versions of a key are ordered by: `schema.NEWEST`."""
        return self.stamp, self.origin, self.etag, self.version

    def tag_list(self) -> Tags:
        return [] if self.tags is None else [(key, value) for key, value in orjson.loads(self.tags)]

    def extra(self) -> dict[str, Any]:
        return {} if self.extras is None else dict(orjson.loads(self.extras))


class Piece(NamedTuple):
    """Consecutive content of an object. `data` when it is kept with the metadata, else it is the file `number`."""

    number: int
    size: int
    data: bytes | None


class NewObject(NamedTuple):
    """A version to be placed. `content` is the bytes, a file's number, a part owner (part_count > 0), or None."""

    key: bytes
    version: str  # of its own, used where the bucket keeps versions
    size: int
    etag: str
    content: bytes | int | None
    part_count: int
    description: Description
    checksum: Checksum | None
    marker: bool = False


_COLUMNS = ", ".join(Stored._fields)
_CURRENT = f"SELECT {_COLUMNS} FROM object WHERE bucket = ? AND key = ? ORDER BY {NEWEST} LIMIT 1"  # noqa: S608
_VERSION = f"SELECT {_COLUMNS} FROM object WHERE bucket = ? AND key = ? AND version = ?"  # noqa: S608
_INSERT = (
    "INSERT INTO object (bucket, key, stamp, version, listed, marker, size, etag, content, part_count, head, "
    "storage_class, checksum, tags, extras, origin, replication, amended, amended_in) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


def find_bucket(db: apsw.Connection, name: str) -> Bucket:
    """The bucket of that name. Raises NoSuchBucket."""
    row = fetch_one(db, "SELECT id, name, created, versioning, replicated FROM bucket WHERE name = ?", (name,))
    if row is None:
        raise AwsError("NoSuchBucket", extra={"BucketName": name})
    return Bucket(*row)


def find_current(db: apsw.Connection, bucket_id: int, key: bytes) -> Stored | None:
    """The current version of a key, which may be a delete marker."""
    row = fetch_one(db, _CURRENT, (bucket_id, key))
    return None if row is None else Stored._make(row)


def find_version(db: apsw.Connection, bucket_id: int, key: bytes, version: str) -> Stored | None:
    """A version by its id."""
    row = fetch_one(db, _VERSION, (bucket_id, key, version))
    return None if row is None else Stored._make(row)


def pieces_of(db: apsw.Connection, stored: Stored) -> list[Piece]:
    """The content of a version, in order."""
    if stored.content is None:
        return []
    if stored.part_count:
        rows = db.execute(
            "SELECT c.id, c.size, c.data FROM part p JOIN content c ON c.id = p.content WHERE p.owner = ? "
            "ORDER BY p.number",
            (stored.content,),
        )
    else:
        rows = db.execute("SELECT id, size, data FROM content WHERE id = ?", (stored.content,))
    return [Piece._make(row) for row in rows.fetchall()]


def add_content(tx: Transaction, disk: Disk, content: bytes | int, size: int) -> int:
    """The number of new content: bytes to be kept with the metadata, or a file that is on disk already."""
    if isinstance(content, int):
        number, data = content, None
    else:
        number, data = disk.number(), content
    tx.db.execute("INSERT INTO content (id, size, data) VALUES (?, ?, ?)", (number, size, data))
    return number


def remove_content(tx: Transaction, number: int) -> None:
    """Remove content, and its file when the transaction is committed."""
    row = fetch_one(tx.db, "DELETE FROM content WHERE id = ? RETURNING data IS NULL", (number,))
    if row is not None and row[0]:
        tx.abandoned.append(number)


def remove_parts(tx: Transaction, owner: int) -> None:
    """Remove every part of an upload or object, with its content."""
    for (number,) in fetch_all(tx.db, "SELECT content FROM part WHERE owner = ?", (owner,)):
        remove_content(tx, number)
    tx.db.execute("DELETE FROM part WHERE owner = ?", (owner,))


def remove_row(tx: Transaction, stored: Stored) -> None:
    """Remove a version with its content."""
    if stored.content is not None:
        if stored.part_count:
            remove_parts(tx, stored.content)
        else:
            remove_content(tx, stored.content)
    tx.db.execute("DELETE FROM object WHERE id = ?", (stored.id,))


def place(tx: Transaction, disk: Disk, bucket: Bucket, current: Stored | None, new: NewObject) -> tuple[str, int]:
    """Make `new` the current version of its key; `current` is the one before it. Its version id and stamp.

    Where the bucket keeps no versions, or no longer, it takes the place of the version `null`.
    """
    version = new.version if bucket.versioning == ENABLED else NULL_VERSION
    time_us = next_time_us(tx.now_us, None if current is None else current.stamp)
    to: list[str] = []
    change: Change = "marker" if new.marker else "put"
    if bucket.replicated:
        tags = new.description.tags
        to = outbox.where_to(tx.db, bucket.id, key=new.key, tags=tags, change=change, is_replica=False)
    stamp = Stamp(time_us, tx.region, new.etag)
    insert(tx, disk, bucket, current, new._replace(version=version), stamp, outbox.PENDING if to else "")
    outbox.add(tx, bucket.name, to, (new.key, version, change, new.etag, new.size))
    return version, time_us


def insert(
    tx: Transaction,
    disk: Disk,
    bucket: Bucket,
    current: Stored | None,
    new: NewObject,
    stamp: Stamp,
    replication: outbox.Status,
    amended: tuple[int, str] = (0, ""),
) -> None:
    """Put a version where its stamp belongs among its key's; `current` is the newest there is.

    One named `null` takes the place of the one that has that name.
    """
    version = new.version
    replaced: Stored | None = None
    if version == NULL_VERSION and current is not None:
        replaced = current if current.version == version else find_version(tx.db, bucket.id, new.key, version)
        if replaced is not None:
            remove_row(tx, replaced)
            if replaced.id == current.id:
                current = find_current(tx.db, bucket.id, new.key)
    newest = current is None or (*stamp, version) > current.rank
    if newest and current is not None and current.listed:
        tx.db.execute("UPDATE object SET listed = 0 WHERE id = ?", (current.id,))
    elif not newest and current is not None and not current.marker and not current.listed:
        tx.db.execute("UPDATE object SET listed = 1 WHERE id = ?", (current.id,))  # what hid it was replaced
    content = new.content
    if content is not None and not new.part_count:
        content = add_content(tx, disk, content, new.size)
    description = new.description
    tx.db.execute(
        _INSERT,
        (
            bucket.id,
            new.key,
            stamp.time_us,
            version,
            1 if newest and not new.marker else 0,
            1 if new.marker else 0,
            new.size,
            new.etag,
            content,
            new.part_count,
            description.head,
            description.storage_class,
            new.checksum.pack() if new.checksum is not None else "",
            pack_tags(description.tags),
            pack_extras(description.extras),
            stamp.region,
            replication,
            *amended,
        ),
    )


def pack_tags(tags: Tags) -> str | None:
    """Tags as their column has them."""
    return orjson.dumps(tags).decode() if tags else None


def pack_extras(extras: dict[str, Any]) -> str | None:
    """Extras as their column has them."""
    return orjson.dumps(extras).decode() if extras else None


def amend(tx: Transaction, bucket: Bucket, stored: Stored, tags: str | None, extras: str | None) -> None:
    """Change what hangs on a version, and log it where the version itself was copied, or is a copy."""
    to: list[str] = []
    is_replica = stored.replication == outbox.REPLICA
    if bucket.replicated and stored.replication:
        pairs = [] if tags is None else [(key, value) for key, value in orjson.loads(tags)]
        to = outbox.where_to(tx.db, bucket.id, key=stored.key, tags=pairs, change="amend", is_replica=is_replica)
    tx.db.execute(
        "UPDATE object SET tags = ?, extras = ?, amended = ?, amended_in = ?, replication = ? WHERE id = ?",
        (
            tags,
            extras,
            next_time_us(tx.now_us, stored.amended),
            tx.region,
            outbox.PENDING if to and not is_replica else stored.replication,
            stored.id,
        ),
    )
    outbox.add(tx, bucket.name, to, (stored.key, stored.version, "amend", stored.etag, 0))


def take_away(tx: Transaction, bucket: Bucket, stored: Stored) -> None:
    """Remove one version for good; the one below it becomes current when this was the current one."""
    remove_row(tx, stored)
    below = find_current(tx.db, bucket.id, stored.key)
    if below is not None and not below.marker and not below.listed:
        tx.db.execute("UPDATE object SET listed = 1 WHERE id = ?", (below.id,))
    if stored.replication:
        outbox.forget_version(tx, bucket.name, stored.key, stored.version)
        tx.db.execute(
            "INSERT OR REPLACE INTO removed (bucket, key, version, removed) VALUES (?, ?, ?, ?)",
            (bucket.id, stored.key, stored.version, tx.now_us),
        )
