"""ListObjects, ListObjectsV2, ListObjectVersions and ListMultipartUploads: pages from the indexes, as XML."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import apsw

from nearpoint.awsproto import AwsError
from nearpoint.awsproto.xml import Raw, escape
from nearpoint.bucket import rows
from nearpoint.bucket.calls import Call, Result
from nearpoint.bucket.listing import Page, Position, Row, Seek, after, after_marker, read_page
from nearpoint.bucket.schema import NEWEST, fetch_one
from nearpoint.bucket.store import Store
from nearpoint.wire.dates import iso_date

PAGE_MAX = 1000

_OBJECTS = (
    "SELECT key, stamp, size, etag, storage_class, checksum FROM object INDEXED BY current "
    "WHERE listed AND bucket = ? AND key >= ? AND key < ? ORDER BY key"
)
# Where a version stands among its key's, as text that sorts as `schema.NEWEST` does: `!` is below all that names hold.
_ORDINAL = "printf('%020d!%s!%s!%s', stamp, origin, etag, version)"
_VERSIONS = (
    f"SELECT key, {_ORDINAL}, size, etag, storage_class, checksum, version, marker, stamp FROM object "  # noqa: S608
    "WHERE bucket = ? AND "
)
_BELOW_VERSION = f"stamp <= CAST(substr(?3, 1, 20) AS INTEGER) AND {_ORDINAL} < ?3"
_UPLOADS = (
    "SELECT key, -id, name, storage_class, created, algorithm, kind, algorithm_asked FROM upload WHERE bucket = ? AND "
)
_KEY_END = b"\xff"  # above every UTF-8 text
_MARK = "~"  # between an id and its ordinal in a marker, so that a page continues where its last entry was deleted


class Listings:
    """The listing operations."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def list_objects(self, call: Call) -> Result:
        bucket, query = rows.find_bucket(self._store.db, call.bucket), _Query(call)
        marker = call.params.get("Marker", "").encode()
        start = after_marker(marker, query.prefix, query.delimiter) if marker else Position(query.prefix)
        page = read_page(
            _seek_objects(self._store.db, bucket.id),
            prefix=query.prefix,
            delimiter=query.delimiter,
            start=start,
            limit=query.limit,
        )
        result = query.echo() | {
            "Name": bucket.name,
            "Marker": query.text(marker),
            "IsTruncated": page.next is not None,
            "Contents": _contents(page, query, self._owner_xml()),
            "CommonPrefixes": _common_prefixes(page, query),
        }
        if page.next is not None and query.delimiter and page.last is not None:
            result["NextMarker"] = query.text(page.last)
        return result

    async def list_objects_v2(self, call: Call) -> Result:
        bucket, query = rows.find_bucket(self._store.db, call.bucket), _Query(call)
        token = call.params.get("ContinuationToken")
        start_after = call.params.get("StartAfter", "")
        start = Position(query.prefix)
        if token is not None:
            start = _read_token(token)
        elif start_after:
            start = after_marker(start_after.encode(), query.prefix, query.delimiter)
        page = read_page(
            _seek_objects(self._store.db, bucket.id),
            prefix=query.prefix,
            delimiter=query.delimiter,
            start=start,
            limit=query.limit,
        )
        owner = self._owner_xml() if call.params.get("FetchOwner") else ""
        result = query.echo() | {
            "Name": bucket.name,
            "KeyCount": len(page.rows) + len(page.prefixes),
            "IsTruncated": page.next is not None,
            "Contents": _contents(page, query, owner),
            "CommonPrefixes": _common_prefixes(page, query),
        }
        if token is not None:
            result["ContinuationToken"] = token
        if start_after:
            result["StartAfter"] = query.text(start_after.encode())
        if page.next is not None:
            result["NextContinuationToken"] = _token(page.next)
        return result

    async def list_object_versions(self, call: Call) -> Result:
        db = self._store.db
        bucket, query = rows.find_bucket(db, call.bucket), _Query(call)
        key_marker, version_marker = call.params.get("KeyMarker", "").encode(), call.params.get("VersionIdMarker", "")
        start = Position(query.prefix)
        if version_marker and not key_marker:
            raise AwsError(
                "InvalidArgument",
                "A version-id marker cannot be specified without a key marker.",
                extra={"ArgumentName": "version-id-marker", "ArgumentValue": version_marker},
            )
        if key_marker:
            start = after_marker(key_marker, query.prefix, query.delimiter)
            ordinal = version_marker.rpartition(_MARK)[2] if _MARK in version_marker else None
            if version_marker and ordinal is None:
                found = rows.find_version(db, bucket.id, key_marker, version_marker)
                ordinal = None if found is None else "{:020d}!{}!{}!{}".format(*found.rank)
            if ordinal is not None:
                start = Position(key_marker, ordinal)
        page = read_page(
            _seek_history(db, bucket.id, _VERSIONS, _BELOW_VERSION, NEWEST),
            prefix=query.prefix,
            delimiter=query.delimiter,
            start=start,
            limit=query.limit,
        )
        result = query.echo() | {
            "Name": bucket.name,
            "KeyMarker": query.text(key_marker),
            "VersionIdMarker": version_marker,
            "IsTruncated": page.next is not None,
            "Versions": Raw(self._versions(page, query, bucket, start)),
            "CommonPrefixes": _common_prefixes(page, query),
        }
        if page.next is not None and page.last is not None:
            result["NextKeyMarker"] = query.text(page.last)
            if page.next.below is not None:
                result["NextVersionIdMarker"] = f"{page.rows[-1][6]}{_MARK}{page.next.below}"
        return result

    def _versions(self, page: Page, query: _Query, bucket: rows.Bucket, start: Position) -> str:
        parts: list[str] = []
        owner = self._owner_xml()
        newest: bytes | None = None
        for key, ordinal, size, etag, storage_class, checksum, version, marker, stamp in page.rows:
            # The first version that a page shows of a key is the current one, unless the page began within the key.
            within = start.below is not None and key == start.key
            latest = key != newest and not (within and self._has_newer(bucket.id, key, ordinal))
            newest = key
            tag = "DeleteMarker" if marker else "Version"
            parts.append(
                f"<{tag}><Key>{query.text(key, True)}</Key><VersionId>{escape(version)}</VersionId>"
                f"<IsLatest>{'true' if latest else 'false'}</IsLatest><LastModified>{_time(stamp)}</LastModified>"
            )
            if not marker:
                parts.append(
                    f"<ETag>&quot;{etag}&quot;</ETag>{_checksum_xml(checksum)}<Size>{size}</Size>"
                    f"<StorageClass>{storage_class}</StorageClass>"
                )
            parts.append(f"{owner}</{tag}>")
        return "".join(parts)

    def _has_newer(self, bucket_id: int, key: bytes, ordinal: str) -> bool:
        current = fetch_one(
            self._store.db,
            f"SELECT {_ORDINAL} FROM object WHERE bucket = ? AND key = ? ORDER BY {NEWEST} LIMIT 1",  # noqa: S608
            (bucket_id, key),
        )
        return current is not None and current[0] > ordinal

    async def list_multipart_uploads(self, call: Call) -> Result:
        db = self._store.db
        bucket, query = rows.find_bucket(db, call.bucket), _Query(call, "MaxUploads")
        key_marker, upload_marker = call.params.get("KeyMarker", "").encode(), call.params.get("UploadIdMarker", "")
        start = Position(query.prefix)
        if key_marker:
            start = after_marker(key_marker, query.prefix, query.delimiter)
            ordinal = _ordinal(upload_marker)
            if upload_marker and ordinal is None:
                found = fetch_one(db, "SELECT -id FROM upload WHERE name = ?", (upload_marker,))
                ordinal = None if found is None else found[0]
            if ordinal is not None:
                start = Position(key_marker, ordinal)
        page = read_page(
            _seek_history(db, bucket.id, _UPLOADS, "-id < ?", "id"),
            prefix=query.prefix,
            delimiter=query.delimiter,
            start=start,
            limit=query.limit,
        )
        uploads: list[dict[str, Any]] = []
        for key, _, name, storage_class, created, algorithm, kind, asked in page.rows:
            upload: dict[str, Any] = {
                "Key": query.text(key),
                "UploadId": name,
                "Initiator": self._store.owner,
                "Owner": self._store.owner,
                "StorageClass": storage_class,
                "Initiated": created / 1_000_000,
            }
            uploads.append(upload | ({"ChecksumAlgorithm": algorithm, "ChecksumType": kind} if asked else {}))
        result = query.echo("MaxUploads") | {
            "Bucket": bucket.name,
            "KeyMarker": query.text(key_marker),
            "UploadIdMarker": upload_marker,
            "IsTruncated": page.next is not None,
            "Uploads": uploads,
            "CommonPrefixes": _common_prefixes(page, query),
        }
        if page.next is not None and page.last is not None:
            result["NextKeyMarker"] = query.text(page.last)
            if page.next.below is not None:
                result["NextUploadIdMarker"] = f"{page.rows[-1][2]}{_MARK}{page.next.below}"
        return result

    def _owner_xml(self) -> str:
        return f"<Owner><ID>{self._store.owner['ID']}</ID></Owner>"


class _Query:
    """What every listing is asked: prefix, delimiter, page size, and how keys are written."""

    def __init__(self, call: Call, limit_member: str = "MaxKeys") -> None:
        self.prefix: bytes = call.params.get("Prefix", "").encode()
        self.delimiter: bytes = call.params.get("Delimiter", "").encode()
        limit: int = call.params.get(limit_member, PAGE_MAX)
        wire_name = {"MaxKeys": "max-keys", "MaxUploads": "max-uploads"}[limit_member]
        if limit < 0:
            raise AwsError(
                "InvalidArgument",
                f"Argument {wire_name} must be an integer between 0 and 2147483647",
                extra={"ArgumentName": wire_name, "ArgumentValue": str(limit)},
            )
        self.limit = min(limit, PAGE_MAX)
        encoding = call.params.get("EncodingType")
        if encoding not in (None, "url"):
            raise AwsError(
                "InvalidArgument",
                "Invalid Encoding Method specified in Request",
                extra={"ArgumentName": "encoding-type", "ArgumentValue": encoding},
            )
        self.encoding: str | None = encoding

    def text(self, key: bytes, as_xml: bool = False) -> str:
        """A key as the answer writes it."""
        if self.encoding is not None:
            return quote(key, safe="/*")
        text = key.decode("utf-8", "replace")
        return escape(text) if as_xml else text

    def echo(self, limit_member: str = "MaxKeys") -> dict[str, Any]:
        """What the answer repeats of the question."""
        result: dict[str, Any] = {"Prefix": self.text(self.prefix), limit_member: self.limit}
        if self.delimiter:
            result["Delimiter"] = self.text(self.delimiter)
        if self.encoding is not None:
            result["EncodingType"] = self.encoding
        return result


def _seek_objects(db: apsw.Connection, bucket_id: int) -> Seek:
    def seek(position: Position, end: bytes | None) -> Iterator[Row]:
        first = position.key if position.below is None else after(position.key).key
        return _rows(db, _OBJECTS, (bucket_id, first, end or _KEY_END))

    return seek


def _seek_history(db: apsw.Connection, bucket_id: int, select: str, below: str, order: str) -> Seek:
    """Rows of which one key may have several: the rest of the position's key, then the keys behind it."""

    def seek(position: Position, end: bytes | None) -> Iterator[Row]:
        first = position.key
        if position.below is not None:
            yield from _rows(db, f"{select} key = ? AND {below} ORDER BY {order}", (bucket_id, first, position.below))
            first = after(first).key
        yield from _rows(
            db, f"{select} key >= ? AND key < ? ORDER BY key, {order}", (bucket_id, first, end or _KEY_END)
        )

    return seek


def _rows(db: apsw.Connection, sql: str, bindings: tuple[Any, ...]) -> Iterator[Row]:
    cursor = db.cursor()
    try:
        yield from cursor.execute(sql, bindings)
    finally:
        cursor.close(True)


def _contents(page: Page, query: _Query, owner: str) -> Raw:
    return Raw(
        "".join(
            [
                f"<Contents><Key>{query.text(key, True)}</Key><LastModified>{_time(stamp)}</LastModified>"
                f"<ETag>&quot;{etag}&quot;</ETag>{_checksum_xml(checksum)}<Size>{size}</Size>{owner}"
                f"<StorageClass>{storage_class}</StorageClass></Contents>"
                for key, stamp, size, etag, storage_class, checksum in page.rows
            ]
        )
    )


def _common_prefixes(page: Page, query: _Query) -> Raw:
    return Raw(
        "".join(
            [
                f"<CommonPrefixes><Prefix>{query.text(prefix, True)}</Prefix></CommonPrefixes>"
                for prefix in page.prefixes
            ]
        )
    )


def _checksum_xml(packed: str) -> str:
    return _checksum_kind_xml(packed.rpartition(" ")[0]) if packed else ""


@lru_cache(16)
def _checksum_kind_xml(algorithm_and_kind: str) -> str:
    algorithm, _, kind = algorithm_and_kind.partition(" ")
    return f"<ChecksumAlgorithm>{algorithm}</ChecksumAlgorithm><ChecksumType>{kind}</ChecksumType>"


def _time(stamp_us: int) -> str:
    return _iso_second(stamp_us // 1_000_000)


@lru_cache(4096)
def _iso_second(time_s: int) -> str:
    return iso_date(datetime.fromtimestamp(time_s, UTC))


def _token(position: Position) -> str:
    key = position.key if position.below is None else after(position.key).key
    return base64.urlsafe_b64encode(b"1" + key).decode("ascii")


def _read_token(token: str) -> Position:
    try:
        octets = base64.b64decode(token, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        octets = b""
    if not octets.startswith(b"1"):
        raise AwsError(
            "InvalidArgument",
            "The continuation token provided is incorrect",
            extra={"ArgumentName": "continuation-token"},
        )
    return Position(octets[1:])


def _ordinal(marker: str) -> int | None:
    _, mark, ordinal = marker.rpartition(_MARK)
    try:
        return int(ordinal) if mark else None
    except ValueError:
        return None
