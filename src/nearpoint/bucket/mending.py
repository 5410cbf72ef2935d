"""What a reconciler tells a store about its log: what has arrived after all, and what in it cannot be read.

A row that cannot be read is parked with that reason, so that those behind it go on, until its buckets were compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nearpoint.bucket import outbox
from nearpoint.bucket.outbox import Due
from nearpoint.bucket.schema import fetch_all, fetch_one
from nearpoint.bucket.writer import Entry, Transaction

DAMAGED = "this entry of the log is damaged"
_OPERATIONS = frozenset({"put", "marker", "amend"})
_ARRIVED = (
    "SELECT 1 FROM object WHERE bucket = (SELECT id FROM bucket WHERE name = ?) AND key = ? AND version = ? "
    "AND amended = ? AND amended_in = ?"
)


def is_readable(row: Due) -> bool:
    """Whether a row of the log is one that a write can have left. SQLite keeps what it is given, of whichever type."""
    values: tuple[Any, ...] = row
    if [type(value) for value in values] != [int, bytes, str, str, int, int]:
        return False
    try:
        row.key.decode()
    except UnicodeDecodeError:
        return False
    return row.operation in _OPERATIONS and row.size >= 0


def arrived(tx: Transaction, bucket: str, destination: str, versions: Sequence[tuple[bytes, str, int, str]]) -> None:
    """Strike off what a destination has: key, version, and when and where it had been amended when that was seen.

    What was amended since is still owed. The versions' statuses follow.
    """
    for key, version, amended, amended_in in versions:
        if fetch_one(tx.db, _ARRIVED, (bucket, key, version, amended, amended_in)) is None:
            continue
        rows = fetch_all(
            tx.db,
            "DELETE FROM outbox WHERE bucket = ? AND destination = ? AND key = ? AND version = ? RETURNING sequence",
            (bucket, destination, key, version),
        )
        tx.log.struck += [Entry(sequence, bucket, destination, key) for (sequence,) in rows]
        outbox.follow(tx, (bucket, key, version), "COMPLETED")


def set_aside(tx: Transaction, sequences: Sequence[int]) -> None:
    """Park rows that cannot be read."""
    outbox.settle(tx, (), [(sequence, DAMAGED) for sequence in sequences])


def compared(tx: Transaction, bucket: str, destination: str) -> int:
    """Both buckets have been compared and mended: rows that could not be read say nothing any more. How many."""
    rows = fetch_all(
        tx.db,
        "DELETE FROM outbox WHERE parked = ? AND bucket = ? AND destination = ? RETURNING sequence",
        (DAMAGED, bucket, destination),
    )
    return len(rows)
