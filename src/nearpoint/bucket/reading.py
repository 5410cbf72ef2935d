"""Reading objects: GetObject, HeadObject, GetObjectAttributes.

The answer's header is decided first (conditions, range or part), then the content streams from where it lies. Files
that are being read are held: a write that replaces the object meanwhile leaves them until the reader is done.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import apsw

from nearpoint.awsproto import AwsError
from nearpoint.bucket import metadata, rows
from nearpoint.bucket.calls import Call, Result, conditions_of
from nearpoint.bucket.checksums import Checksum
from nearpoint.bucket.conditions import NO_CONDITIONS, Failed, NotModified, decide_read, etag_matches, seconds_of
from nearpoint.bucket.objects import add_checksum
from nearpoint.bucket.rows import Bucket, Piece, Stored
from nearpoint.bucket.schema import fetch_all
from nearpoint.bucket.store import Store
from nearpoint.bucket.threads import ended, opened
from nearpoint.wire.dates import http_date
from nearpoint.wire.message import Headers, Response, StreamBody
from nearpoint.wire.ranges import parse_range, parse_specs, unsatisfied_range

_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """The bytes of an object that are asked for: all of it, or `offset` and `length` of a 206."""

    partial: bool
    offset: int
    length: int


class Reading:
    """The reading operations on objects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_object(self, call: Call) -> Result:
        return self._read(call, with_body=True)

    async def head_object(self, call: Call) -> Result:
        return self._read(call, with_body=False)

    def _read(self, call: Call, *, with_body: bool) -> Response:
        store = self._store
        bucket = rows.find_bucket(store.db, call.bucket)
        stored = find_object(store.db, bucket, call.key, call.version)
        headers = Headers(
            [("Last-Modified", http_date(datetime.fromtimestamp(stored.modified_s, UTC))), ("ETag", f'"{stored.etag}"')]
        )
        if bucket.versioning:
            headers.add("x-amz-version-id", stored.version)
        if stored.replication:
            headers.add("x-amz-replication-status", stored.replication)
        conditions = conditions_of(call.headers)
        if conditions != NO_CONDITIONS:
            verdict = decide_read(conditions, etag=stored.etag, modified_s=stored.modified_s)
            if isinstance(verdict, NotModified):
                return Response(304, headers)
            if isinstance(verdict, Failed):
                raise AwsError("PreconditionFailed", extra={"Condition": verdict.field})
        pieces = rows.pieces_of(store.db, stored)
        extent = self._extent(call, stored, pieces)
        headers.add("Accept-Ranges", "bytes")
        for name, value in metadata.override(metadata.unpack(stored.head), call.query):
            headers.add(name, value)
        if stored.tags is not None:
            headers.add("x-amz-tagging-count", str(len(stored.tag_list())))
        _add_extras(headers, stored)
        if "PartNumber" in call.params and stored.part_count:
            headers.add("x-amz-mp-parts-count", str(stored.part_count))
        if stored.checksum and not extent.partial and call.headers.get("x-amz-checksum-mode") == "ENABLED":
            add_checksum(headers, Checksum.unpack(stored.checksum))
        headers.add("Content-Length", str(extent.length))
        if extent.partial:
            last = extent.offset + extent.length - 1
            headers.add("Content-Range", f"bytes {extent.offset}-{last}/{stored.size}")
        status = 206 if extent.partial else 200
        if not with_body or extent.length == 0:
            return Response(status, headers)
        chosen = cut(pieces, extent.offset, extent.length)
        if len(chosen) == 1 and chosen[0][0].data is not None:
            piece, offset, length = chosen[0]
            assert piece.data is not None
            return Response(status, headers, piece.data[offset : offset + length])
        return Response(status, headers, self.stream(chosen, extent.length))

    def _extent(self, call: Call, stored: Stored, pieces: list[Piece]) -> Extent:
        size = stored.size
        field = call.headers.get("range")
        part: int | None = call.params.get("PartNumber")
        if part is not None:
            if field is not None:
                raise AwsError("InvalidRequest", "Cannot specify both Range header and partNumber query parameter")
            return _part_extent(part, stored, pieces)
        if field is not None and _range_applies(call.headers.get("if-range"), stored):
            spans = parse_range(field, size)
            if spans == []:
                raise AwsError(
                    "InvalidRange",
                    extra={"RangeRequested": field, "ActualObjectSize": str(size)},
                    headers={"Content-Range": unsatisfied_range(size)},
                )
            if spans is not None and len(parse_specs(field) or ()) == 1:
                return Extent(partial=True, offset=spans[0].first, length=spans[0].length)
        return Extent(partial=False, offset=0, length=size)

    def stream(self, chosen: list[tuple[Piece, int, int]], length: int) -> StreamBody:
        """The body of content that lies in files (or not), held until it is closed."""
        disk, pool = self._store.disk, self._store.pool
        files = [piece.number for piece, _, _ in chosen if piece.data is None]
        disk.hold(files)

        async def release() -> None:
            nonlocal files
            files, mine = [], files
            free = disk.release(mine)
            if free:
                pool.submit(disk.remove, free)

        async def chunks() -> AsyncIterator[bytes]:
            try:
                async for data in self._chunks(chosen):
                    yield data
            finally:
                await release()

        return StreamBody(chunks(), length, release)

    async def _chunks(self, chosen: list[tuple[Piece, int, int]]) -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        pool, disk = self._store.pool, self._store.disk
        for piece, start, length in chosen:
            if piece.data is not None:
                yield piece.data[start : start + length]
                continue
            fd = await opened(pool, disk.open, piece.number)
            try:
                offset, end = start, start + length
                while offset < end:
                    data = _read_cached(fd, min(_CHUNK_BYTES, end - offset), offset)
                    if not data:
                        data = await ended(
                            loop.run_in_executor(pool, os.pread, fd, min(_CHUNK_BYTES, end - offset), offset)
                        )
                    if not data:
                        raise OSError(f"content {piece.number:x} is shorter than its row says")
                    offset += len(data)
                    yield data
            finally:
                os.close(fd)

    async def get_object_attributes(self, call: Call) -> Result:
        store = self._store
        bucket = rows.find_bucket(store.db, call.bucket)
        stored = find_object(store.db, bucket, call.key, call.version)
        wanted = set(call.params["ObjectAttributes"])
        result: dict[str, Any] = {"LastModified": stored.modified_s}
        if bucket.versioning:
            result["VersionId"] = stored.version
        if "ETag" in wanted:
            result["ETag"] = stored.etag
        checksum = Checksum.unpack(stored.checksum) if stored.checksum else None
        if "Checksum" in wanted and checksum is not None:
            result["Checksum"] = {
                f"Checksum{checksum.algorithm}": checksum.value.partition("-")[0],
                "ChecksumType": checksum.kind,
            }
        if "ObjectParts" in wanted and stored.part_count:
            result["ObjectParts"] = self._parts(call, stored, checksum)
        if "StorageClass" in wanted:
            result["StorageClass"] = stored.storage_class
        if "ObjectSize" in wanted:
            result["ObjectSize"] = stored.size
        return result

    def _parts(self, call: Call, stored: Stored, checksum: Checksum | None) -> dict[str, Any]:
        parts: dict[str, Any] = {"TotalPartsCount": stored.part_count}
        if checksum is None or checksum.kind != "COMPOSITE":
            return parts
        marker = int(call.params.get("PartNumberMarker") or 0)
        limit = min(call.params.get("MaxParts", 1000), 1000)
        found = fetch_all(
            self._store.db,
            "SELECT number, size, checksum FROM part WHERE owner = ? AND number > ? ORDER BY number LIMIT ?",
            (stored.content, marker, limit + 1),
        )
        shown = found[:limit]
        return parts | {
            "PartNumberMarker": str(marker),
            "NextPartNumberMarker": str(shown[-1][0] if shown else marker),
            "MaxParts": limit,
            "IsTruncated": len(found) > limit,
            "Parts": [
                {"PartNumber": number, "Size": size, f"Checksum{checksum.algorithm}": Checksum.unpack(value).value}
                for number, size, value in shown
            ],
        }


def find_object(db: apsw.Connection, bucket: Bucket, key: bytes, version: str | None) -> Stored:
    """The version asked for. Raises NoSuchKey, NoSuchVersion, or MethodNotAllowed for a delete marker by its id."""
    if version is not None:
        stored = rows.find_version(db, bucket.id, key, version)
        if stored is None:
            raise AwsError("NoSuchVersion", extra={"Key": key.decode(), "VersionId": version})
        if stored.marker:
            raise AwsError(
                "MethodNotAllowed",
                extra={"Method": "GET", "ResourceType": "DeleteMarker"},
                headers={
                    "x-amz-delete-marker": "true",
                    "x-amz-version-id": stored.version,
                    "Allow": "DELETE",
                    "Last-Modified": http_date(datetime.fromtimestamp(stored.modified_s, UTC)),
                },
            )
        return stored
    stored = rows.find_current(db, bucket.id, key)
    if stored is None:
        raise AwsError("NoSuchKey", extra={"Key": key.decode()})
    if stored.marker:
        raise AwsError(
            "NoSuchKey",
            extra={"Key": key.decode()},
            headers={"x-amz-delete-marker": "true", "x-amz-version-id": stored.version},
        )
    return stored


def cut(pieces: list[Piece], offset: int, length: int) -> list[tuple[Piece, int, int]]:
    """The pieces that hold these bytes of the object, each with the offset and length wanted of it."""
    chosen: list[tuple[Piece, int, int]] = []
    for piece in pieces:
        if length <= 0:
            break
        if offset < piece.size:
            take = min(length, piece.size - offset)
            chosen.append((piece, offset, take))
            length -= take
            offset = 0
        else:
            offset -= piece.size
    return chosen


def _part_extent(part: int, stored: Stored, pieces: list[Piece]) -> Extent:
    count = stored.part_count or 1
    if not 1 <= part <= count:
        raise AwsError("InvalidPartNumber", extra={"PartNumberRequested": str(part), "ActualPartCount": str(count)})
    if not pieces or stored.size == 0:
        return Extent(partial=False, offset=0, length=stored.size)
    offset = sum(piece.size for piece in pieces[: part - 1])
    return Extent(partial=True, offset=offset, length=pieces[part - 1].size)


def _range_applies(if_range: str | None, stored: Stored) -> bool:
    if if_range is None:
        return True
    since = seconds_of(if_range)
    return stored.modified_s == since if since is not None else etag_matches(if_range, stored.etag)


def _add_extras(headers: Headers, stored: Stored) -> None:
    if stored.extras is None:
        return
    extra = stored.extra()
    if "legal_hold" in extra:
        headers.add("x-amz-object-lock-legal-hold", extra["legal_hold"])
    if "retention" in extra:
        headers.add("x-amz-object-lock-mode", extra["retention"]["Mode"])
        headers.add("x-amz-object-lock-retain-until-date", extra["retention"]["RetainUntilDate"])


def _read_cached(fd: int, size: int, offset: int) -> bytes:
    """What can be read without waiting for the disk; empty when nothing can."""
    buffer = bytearray(size)
    try:
        count = os.preadv(fd, [buffer], offset, os.RWF_NOWAIT)
    except OSError:  # not in memory, or a file system that cannot tell
        return b""
    del buffer[count:]
    return bytes(buffer)
