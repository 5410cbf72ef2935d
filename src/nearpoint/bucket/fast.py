"""Answers the common GET at once: a plain read of a small object, with nothing that has to be decided.

What is left to the ordinary way: conditions, ranges, versions, overrides, errors, anything unusual. Where both could
answer, the bytes are the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from nearpoint.awsproto import AwsError
from nearpoint.awsproto.routing import decode_text
from nearpoint.awsproto.service import host_id
from nearpoint.bucket.disk import Disk
from nearpoint.bucket.names import KEY_BYTES_MAX
from nearpoint.bucket.schema import NEWEST, fetch_one
from nearpoint.bucket.store import Store
from nearpoint.signing import Message, SignatureError, Verified
from nearpoint.wire.dates import http_date
from nearpoint.wire.server import Peer

FILE_BYTES_MAX = 64 * 1024

# Headers of a request that change nothing of the answer, beside those that are signed or describe the client.
_PLAIN_HEADERS = frozenset(
    {
        b"host",
        b"user-agent",
        b"accept",
        b"accept-encoding",
        b"accept-language",
        b"connection",
        b"authorization",
        b"x-amz-date",
        b"x-amz-content-sha256",
        b"x-amz-region-set",
        b"amz-sdk-invocation-id",
        b"amz-sdk-request",
        b"x-amz-user-agent",
        b"content-length",
    }
)
_SELECT = (
    "SELECT b.versioning, o.version, o.marker, o.size, o.etag, o.stamp, o.part_count, o.head, o.tags, o.extras, "  # noqa: S608
    "o.replication, c.id, c.data "
    "FROM bucket b JOIN object o ON o.bucket = b.id LEFT JOIN content c ON c.id = o.content "
    f"WHERE b.name = ? AND o.key = ? ORDER BY {NEWEST} LIMIT 1"
)


class FastReads:
    """The `Instant` hook of a store's server."""

    def __init__(
        self,
        store: Store,
        *,
        authenticate: Callable[[Message], Verified],
        new_request_id: Callable[[], str],
        date: Callable[[], str],
    ) -> None:
        self._store = store
        self._authenticate = authenticate
        self._new_request_id = new_request_id
        self._date = date

    def __call__(
        self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], peer: Peer
    ) -> bytes | Sequence[bytes] | None:
        if method != b"GET":
            return None
        for name, _ in headers:
            if name.lower() not in _PLAIN_HEADERS:
                return None
        path, _, query = target.decode("latin-1").partition("?")
        if query and not all(pair.startswith("X-Amz-") for pair in query.split("&")):
            return None
        bucket, _, raw_key = path[1:].partition("/")
        if not raw_key:
            return None
        text = [(name.decode("latin-1"), value.decode("latin-1").strip(" \t")) for name, value in headers]
        try:
            self._authenticate(Message("GET", path, query, text))
            key = decode_text(raw_key).encode("utf-8")
        except (AwsError, SignatureError):
            return None
        if len(key) > KEY_BYTES_MAX:
            return None
        return self._read(bucket, key)

    def _read(self, bucket: str, key: bytes) -> Sequence[bytes] | None:
        row = fetch_one(self._store.db, _SELECT, (bucket, key))
        if row is None:
            return None
        versioning, version, marker, size, etag, stamp, part_count, head, tags, extras, status, number, data = row
        if marker or part_count or tags is not None or extras is not None:
            return None
        if data is None and size:
            data = _small_file(self._store.disk, number, size)
            if data is None:
                return None
        request_id = self._new_request_id()
        modified = _last_modified(stamp // 1_000_000)
        shown = f"x-amz-version-id: {version}\r\n" if versioning else ""
        if status:
            shown += f"x-amz-replication-status: {status}\r\n"
        lead = (
            f'HTTP/1.1 200 OK\r\nLast-Modified: {modified}\r\nETag: "{etag}"\r\n{shown}Accept-Ranges: bytes\r\n'
        ).encode("latin-1")
        tail = (
            f"Content-Length: {size}\r\nx-amz-request-id: {request_id}\r\nx-amz-id-2: {host_id(request_id)}\r\n"
            f"Date: {self._date()}\r\n\r\n"
        ).encode("latin-1")
        return (lead, head, tail, data or b"")


def _small_file(disk: Disk, number: int, size: int) -> bytes | None:
    """Content that lies in the page cache; None where it would have to be waited for."""
    if size > FILE_BYTES_MAX:
        return None
    try:
        fd = disk.open(number)
    except OSError:
        return None
    try:
        buffer = bytearray(size)
        return bytes(buffer) if os.preadv(fd, [buffer], 0, os.RWF_NOWAIT) == size else None
    except OSError:
        return None
    finally:
        os.close(fd)


_dates: dict[int, str] = {}
_DATES_MAX = 4096


def _last_modified(time_s: int) -> str:
    date = _dates.get(time_s)
    if date is None:
        if len(_dates) >= _DATES_MAX:
            _dates.clear()
        date = _dates[time_s] = http_date(datetime.fromtimestamp(time_s, UTC))
    return date
