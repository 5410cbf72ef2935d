"""The tables of a store, and opening a connection to them.

An object row is one version of a key. `stamp` is its time in microseconds; with `origin`, the region where it was
written, and the entity tag it orders the versions of a key (`NEWEST`: the merge rule of all regions). `listed` marks
the current version when it is no delete marker, and the index `current` holds only those, with all that a listing
shows. `head` is the response header as it goes out. `content` names bytes: a row of `content` (small ones lie in its
`data`, others in a file of that number), or the owner of `part` rows when `part_count` is not 0. `amended` and
`amended_in` are when and where tags or locks were last changed, 0 for never.

`replication` is the version's status: empty, PENDING, COMPLETED, FAILED or REPLICA. `outbox` is the log of what is
still to be copied: a row for each write and destination, written in the write's own transaction and removed when the
destination has it; `parked` says why it was given up. `removed` remembers versions that were deleted for good, so that
no copy that is still under way brings them back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw

SCHEMA_VERSION = 2
REMOVED_KEPT_US = 30 * 86_400_000_000
SQLITE_LEAST = (3, 51, 3)  # 3.7.0 to 3.51.2 can corrupt a WAL that several connections use

_SCHEMA = """
CREATE TABLE bucket (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, created INTEGER NOT NULL,
  versioning TEXT NOT NULL DEFAULT '', replicated INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE setting (bucket INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (bucket, kind))
  WITHOUT ROWID;
CREATE TABLE object (
  id INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, key BLOB NOT NULL, stamp INTEGER NOT NULL, version TEXT NOT NULL,
  listed INTEGER NOT NULL, marker INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL, content INTEGER,
  part_count INTEGER NOT NULL, head BLOB NOT NULL, storage_class TEXT NOT NULL, checksum TEXT NOT NULL, tags TEXT,
  extras TEXT, origin TEXT NOT NULL DEFAULT '', replication TEXT NOT NULL DEFAULT '',
  amended INTEGER NOT NULL DEFAULT 0, amended_in TEXT NOT NULL DEFAULT ''
);
CREATE INDEX current ON object (bucket, key, stamp, size, etag, storage_class, checksum) WHERE listed;
CREATE TABLE content (id INTEGER PRIMARY KEY, size INTEGER NOT NULL, data BLOB);
CREATE TABLE upload (
  id INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, key BLOB NOT NULL, name TEXT NOT NULL UNIQUE, head BLOB NOT NULL,
  storage_class TEXT NOT NULL, algorithm TEXT NOT NULL, algorithm_asked INTEGER NOT NULL, kind TEXT NOT NULL, tags TEXT,
  extras TEXT, created INTEGER NOT NULL
);
CREATE INDEX upload_key ON upload (bucket, key, id DESC);
CREATE TABLE part (
  owner INTEGER NOT NULL, number INTEGER NOT NULL, content INTEGER NOT NULL, size INTEGER NOT NULL, etag TEXT NOT NULL,
  checksum TEXT NOT NULL, stamp INTEGER NOT NULL, PRIMARY KEY (owner, number)
) WITHOUT ROWID;
CREATE TABLE boot (number INTEGER NOT NULL);
INSERT INTO boot VALUES (0);
"""
_REPLICATION = """
CREATE UNIQUE INDEX history ON object (bucket, key, stamp DESC, origin DESC, etag DESC, version DESC);
CREATE TABLE outbox (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, bucket TEXT NOT NULL, destination TEXT NOT NULL, key BLOB NOT NULL,
  version TEXT NOT NULL, operation TEXT NOT NULL, etag TEXT NOT NULL, size INTEGER NOT NULL, written INTEGER NOT NULL,
  parked TEXT
);
CREATE INDEX outbox_due ON outbox (bucket, destination, sequence) WHERE parked IS NULL;
CREATE INDEX outbox_version ON outbox (bucket, key, version);
CREATE TABLE removed (
  bucket INTEGER NOT NULL, key BLOB NOT NULL, version TEXT NOT NULL, removed INTEGER NOT NULL,
  PRIMARY KEY (bucket, key, version)
) WITHOUT ROWID;
"""
# Format 1 had no origin, and a log that nothing read: what it held is for the reconciler to find.
_FROM_1 = """
ALTER TABLE object ADD COLUMN origin TEXT NOT NULL DEFAULT '';
ALTER TABLE object ADD COLUMN replication TEXT NOT NULL DEFAULT '';
ALTER TABLE object ADD COLUMN amended INTEGER NOT NULL DEFAULT 0;
ALTER TABLE object ADD COLUMN amended_in TEXT NOT NULL DEFAULT '';
DROP INDEX history;
DROP TABLE outbox;
"""
NEWEST = "stamp DESC, origin DESC, etag DESC, version DESC"  # as the index `history`, read from its start
_STEPS = {0: _SCHEMA + _REPLICATION, 1: _FROM_1 + _REPLICATION}  # what brings a file of each format to this one


class StoreUnusableError(Exception):
    """The store cannot start; the text says why in one line."""


def fetch_one(db: apsw.Connection, sql: str, bindings: tuple[Any, ...] = ()) -> tuple[Any, ...] | None:
    """The first row, or None."""
    row: tuple[Any, ...] | None = db.execute(sql, bindings).fetchone()
    return row


def fetch_all(db: apsw.Connection, sql: str, bindings: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every row."""
    rows: list[tuple[Any, ...]] = db.execute(sql, bindings).fetchall()
    return rows


def check_sqlite(version: str) -> None:
    """Raises StoreUnusableError for an SQLite library that is too old to be trusted with a WAL."""
    if tuple(int(part) for part in version.split(".")[:3]) < SQLITE_LEAST:
        raise StoreUnusableError(f"SQLite {version} can corrupt a store: 3.51.3 or newer is needed")


def open_writer(path: Path) -> apsw.Connection:
    """The one connection that writes. Creates the tables of a new store. Raises StoreUnusableError."""
    check_sqlite(apsw.sqlite_lib_version())
    db = apsw.Connection(str(path))
    _settle(db)
    for pragma in (
        "page_size = 4096",
        "journal_mode = WAL",
        "synchronous = FULL",
        "cache_size = -4096",
        "wal_autocheckpoint = 4000",
        "journal_size_limit = 33554432",
        "temp_store = MEMORY",
        "foreign_keys = OFF",
    ):
        fetch_all(db, f"PRAGMA {pragma}")
    [(have,)] = fetch_all(db, "PRAGMA user_version")
    if have in _STEPS:
        with db:
            db.execute(_STEPS[have])
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    elif have != SCHEMA_VERSION:
        raise StoreUnusableError(f"{path} has format {have}; this version reads format {SCHEMA_VERSION}")
    return db


def open_reader(path: Path) -> apsw.Connection:
    """A connection for reading."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    _settle(db)
    fetch_all(db, "PRAGMA cache_size = -8192")
    return db


def _settle(db: apsw.Connection) -> None:
    db.set_busy_timeout(5000)
    # Plans must not depend on bound values: with a partial index SQLite would compile a statement anew at every use.
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)


def forget_removed(db: apsw.Connection, now_us: int) -> None:
    """Forget the ids of versions that were removed so long ago that no copy of them can still be under way."""
    db.execute("DELETE FROM removed WHERE removed < ?", (now_us - REMOVED_KEPT_US,))


def next_boot(db: apsw.Connection) -> int:
    """The number of this start of the store, never used before."""
    with db:
        db.execute("UPDATE boot SET number = number + 1")
        [(number,)] = fetch_all(db, "SELECT number FROM boot")
    return int(number)
