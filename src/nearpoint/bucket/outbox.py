"""The log of writes that are still to be copied: rows written with the write itself, removed when a destination has it.

There is one row for each write and destination, so nothing else has to be remembered: what is in the table is what is
owed. A row that was given up stays, parked with its reason, until it is retried or its rule goes. The status of a
version follows from its rows, in the transaction that changes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import apsw
import orjson

from nearpoint.bucket.schema import fetch_all, fetch_one
from nearpoint.bucket.writer import Entry, Transaction
from nearpoint.regions.rules import Change, Rule, Tags, compile_rules, destinations

Status = Literal["", "PENDING", "COMPLETED", "FAILED", "REPLICA"]
REPLICA: Status = "REPLICA"
PENDING: Status = "PENDING"
REASON_CHARS_MAX = 500


class Due(NamedTuple):
    """A row that waits to be copied. `written` in microseconds."""

    sequence: int
    key: bytes
    version: str
    operation: str
    size: int
    written: int


class Pair(NamedTuple):
    """What a bucket owes to another. Sizes in bytes; `oldest` is when the oldest of it was written, in microseconds."""

    bucket: str
    destination: str
    pending: int
    pending_bytes: int
    oldest: int | None
    failed: int


def where_to(
    db: apsw.Connection, bucket_id: int, *, key: bytes, tags: Tags, change: Change, is_replica: bool
) -> list[str]:
    """The buckets that a write goes to, by the bucket's rules."""
    row = fetch_one(db, "SELECT value FROM setting WHERE bucket = ? AND kind = 'BucketReplication'", (bucket_id,))
    if row is None:
        return []
    return destinations(_rules(row[0]), key=key.decode(), tags=tags, change=change, is_replica=is_replica)


@lru_cache(256)
def _rules(configuration: str) -> tuple[Rule, ...]:
    return compile_rules(orjson.loads(configuration))


def add(tx: Transaction, bucket: str, to: Iterable[str], entry: tuple[bytes, str, str, str, int]) -> None:
    """Log a write: its key, version, operation (put, marker or amend), entity tag and size."""
    for destination in to:
        tx.db.execute(
            "INSERT INTO outbox (bucket, destination, key, version, operation, etag, size, written) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (bucket, destination, *entry, tx.now_us),
        )
        tx.log.added.append(Entry(tx.db.last_insert_rowid(), bucket, destination, entry[0]))


def last(db: apsw.Connection) -> int:
    """The sequence of the newest row that ever was."""
    row = fetch_one(db, "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'")
    return int(row[0]) if row is not None else 0


def pairs(db: apsw.Connection) -> list[tuple[str, str]]:
    """The buckets that owe something, and to which. One step in the index for each, however many rows there are."""
    found: list[tuple[str, str]] = []
    at = ("", "")
    while True:
        row = fetch_one(
            db,
            "SELECT bucket, destination FROM outbox INDEXED BY outbox_due WHERE parked IS NULL "
            "AND (bucket, destination) > (?, ?) ORDER BY bucket, destination LIMIT 1",
            at,
        )
        if row is None:
            return found
        at = (row[0], row[1])
        found.append(at)


def due(db: apsw.Connection, bucket: str, destination: str, after: int, limit: int) -> list[Due]:
    """What waits behind the sequence `after`, in order."""
    rows = fetch_all(
        db,
        "SELECT sequence, key, version, operation, size, written FROM outbox INDEXED BY outbox_due "
        "WHERE parked IS NULL AND bucket = ? AND destination = ? AND sequence > ? ORDER BY sequence LIMIT ?",
        (bucket, destination, after, limit),
    )
    return [Due._make(row) for row in rows]


def of_pair(db: apsw.Connection, bucket: str, destination: str, limit: int) -> list[Entry]:
    """What a bucket owes to another, in order; `limit` rows when there are as many or more."""
    rows = fetch_all(
        db,
        "SELECT sequence, bucket, destination, CAST(key AS BLOB) FROM outbox INDEXED BY outbox_due "
        "WHERE parked IS NULL AND bucket = ? AND destination = ? ORDER BY sequence LIMIT ?",
        (bucket, destination, limit),
    )
    return [Entry._make(row) for row in rows]


def owes(db: apsw.Connection, bucket: str, destination: str, count: int) -> bool:
    """Whether a bucket owes another so much or more; one walk along the index, without reading the rows."""
    sql = (
        "SELECT 1 FROM outbox INDEXED BY outbox_due WHERE parked IS NULL AND bucket = ? AND destination = ? "
        "ORDER BY sequence LIMIT 1 OFFSET ?"
    )
    return fetch_one(db, sql, (bucket, destination, count - 1)) is not None


def count(db: apsw.Connection) -> list[Pair]:
    """What every bucket owes to every other. Reads the whole table: not for the event loop."""
    rows = fetch_all(
        db,
        "SELECT bucket, destination, SUM(parked IS NULL), SUM(CASE WHEN parked IS NULL THEN size ELSE 0 END), "
        "MIN(CASE WHEN parked IS NULL THEN CAST(written AS INTEGER) END), SUM(parked IS NOT NULL) "
        "FROM outbox GROUP BY bucket, destination ORDER BY bucket, destination",
    )
    return [Pair._make(row) for row in rows]


def parked(db: apsw.Connection, limit: int) -> list[dict[str, Any]]:
    """The newest of what was given up, with the reasons."""
    # As bytes: a damaged row has anything in it.
    rows = fetch_all(
        db,
        "SELECT bucket, destination, CAST(key AS BLOB), CAST(version AS BLOB), CAST(operation AS BLOB), parked "
        "FROM outbox WHERE parked IS NOT NULL ORDER BY sequence DESC LIMIT ?",
        (limit,),
    )
    names = ("bucket", "destination", "key", "version", "operation", "reason")
    return [
        dict(zip(names, (*row[:2], *(each.decode(errors="replace") for each in row[2:5]), row[5]), strict=True))
        for row in rows
    ]


def settle(tx: Transaction, done: Sequence[int], given_up: Sequence[tuple[int, str]]) -> None:
    """Strike off what was copied, and park what was given up. Rows that are gone already are no error."""
    touched: set[tuple[str, bytes, str]] = set()
    returned = "RETURNING bucket, CAST(key AS BLOB), version, destination"

    def note(sequence: int, row: tuple[Any, ...] | None) -> None:
        if row is not None:
            bucket, key, version, destination = row
            touched.add((bucket, key, version))
            tx.log.struck.append(Entry(sequence, bucket, destination, key))

    for sequence in done:
        note(sequence, fetch_one(tx.db, f"DELETE FROM outbox WHERE sequence = ? {returned}", (sequence,)))  # noqa: S608
    for sequence, reason in given_up:
        parked = (reason[:REASON_CHARS_MAX], sequence)
        note(sequence, fetch_one(tx.db, f"UPDATE outbox SET parked = ? WHERE sequence = ? {returned}", parked))  # noqa: S608
    for version in touched:
        follow(tx, version, "COMPLETED")


def retry(tx: Transaction) -> int:
    """Take up everything that was parked, as if it had been written now. How much it was."""
    columns = "bucket, destination, key, version, operation, etag, size, written"
    rows = fetch_all(tx.db, f"DELETE FROM outbox WHERE parked IS NOT NULL RETURNING {columns}")  # noqa: S608
    for row in rows:
        tx.db.execute(f"INSERT INTO outbox ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608
    tx.log.afresh = True
    for version in {(row[0], row[2], row[3]) for row in rows}:
        follow(tx, version, "COMPLETED")
    return len(rows)


def forget(tx: Transaction, bucket: str, rules: Sequence[Rule]) -> None:
    """Drop what is owed to destinations that none of the rules leads to any more.

    Versions that the rules lead elsewhere are as far as those destinations say; others have failed.
    """
    kept = {rule.destination for rule in rules}
    rows = fetch_all(
        tx.db,
        "DELETE FROM outbox WHERE bucket = ? AND destination NOT IN (SELECT value FROM json_each(?)) "
        "RETURNING CAST(key AS BLOB), version",
        (bucket, orjson.dumps(list(kept)).decode()),
    )
    tx.log.afresh = tx.log.afresh or bool(rows)
    for key, version in set(rows):
        tags = fetch_one(
            tx.db,
            "SELECT tags FROM object WHERE bucket = (SELECT id FROM bucket WHERE name = ?) AND key = ? AND version = ?",
            (bucket, key, version),
        )
        pairs = orjson.loads(tags[0]) if tags is not None and tags[0] is not None else []
        found = [(name, value) for name, value in pairs]
        elsewhere = destinations(rules, key=key.decode(errors="replace"), tags=found, change="put", is_replica=False)
        follow(tx, (bucket, key, version), "COMPLETED" if elsewhere else "FAILED")


def forget_version(tx: Transaction, bucket: str, key: bytes, version: str) -> None:
    """Drop what is owed of a version that is removed for good."""
    rows = fetch_all(
        tx.db,
        "DELETE FROM outbox WHERE bucket = ? AND key = ? AND version = ? RETURNING sequence, destination",
        (bucket, key, version),
    )
    tx.log.struck += [Entry(sequence, bucket, destination, key) for sequence, destination in rows]


def follow(tx: Transaction, version: tuple[str, bytes, str], without_rows: Status) -> None:
    """Give a version the status that its rows say."""
    [(waiting, failed)] = fetch_all(
        tx.db,
        "SELECT COUNT(*) - COUNT(parked), COUNT(parked) FROM outbox WHERE bucket = ? AND key = ? AND version = ?",
        version,
    )
    status = "FAILED" if failed else PENDING if waiting else without_rows
    tx.db.execute(
        "UPDATE object SET replication = ? WHERE bucket = (SELECT id FROM bucket WHERE name = ?) AND key = ? "
        "AND version = ? AND replication IN ('PENDING', 'FAILED', 'COMPLETED')",
        (status, *version),
    )
