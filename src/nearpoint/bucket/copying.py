"""CopyObject, and reading the source of a copy.

Whole content is shared with the source by a hard link; what has to be put together or cut is copied.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote_to_bytes

from nearpoint.awsproto import AwsError
from nearpoint.bucket import checksums, rows
from nearpoint.bucket.admission import describe
from nearpoint.bucket.calls import Call, Result, conditions_of, legal_key, write_conditions
from nearpoint.bucket.checksums import Checksum
from nearpoint.bucket.conditions import Met, decide_read
from nearpoint.bucket.disk import Disk, write_all
from nearpoint.bucket.intake import INLINE_BYTES_MAX, Received
from nearpoint.bucket.metadata import Description, kept_head, refuse_unsupported
from nearpoint.bucket.objects import place_received
from nearpoint.bucket.reading import cut, find_object
from nearpoint.bucket.rows import Piece, Stored
from nearpoint.bucket.store import Store, now_us
from nearpoint.bucket.writer import unavailable
from nearpoint.regions.copy import SOURCE_BYTES_MAX, too_large

_BLOCK_BYTES = 1024 * 1024


class Source:
    """What is copied: the version, its bucket's name, whether it shows a version id, and its content."""

    __slots__ = ("bucket_id", "pieces", "stored", "version_shown")

    def __init__(self, bucket_id: int, stored: Stored, version_shown: str | None, pieces: list[Piece]) -> None:
        self.bucket_id = bucket_id
        self.stored = stored
        self.version_shown = version_shown
        self.pieces = pieces


def parse_source(field: str) -> tuple[str, str, str | None]:
    """Bucket, key and version id of an x-amz-copy-source. Raises InvalidArgument."""
    path, _, query = field.partition("?")
    try:
        decoded = unquote_to_bytes(path.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        decoded = ""
    bucket, _, key = decoded.removeprefix("/").partition("/")
    if not bucket or not key:
        raise AwsError(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            extra={"ArgumentName": "x-amz-copy-source", "ArgumentValue": field},
        )
    version = query.removeprefix("versionId=") if query.startswith("versionId=") else None
    return bucket, key, version


def find_source(store: Store, call: Call) -> Source:
    """The source that the header names, its conditions met. Raises AwsError."""
    bucket_name, key, version = parse_source(call.headers.get("x-amz-copy-source") or "")
    bucket = rows.find_bucket(store.db, bucket_name)
    try:
        stored = find_object(store.db, bucket, legal_key(key), version)
    except AwsError as error:
        if error.code == "MethodNotAllowed":
            raise AwsError(
                "InvalidRequest",
                "The source of a copy request may not specifically refer to a delete marker by version id.",
            ) from error
        raise AwsError(error.code, error.message, extra=error.extra) from error
    conditions = conditions_of(call.headers, "x-amz-copy-source-")
    verdict = decide_read(conditions, etag=stored.etag, modified_s=stored.modified_s)
    if not isinstance(verdict, Met):
        raise AwsError("PreconditionFailed", extra={"Condition": f"x-amz-copy-source-{verdict.field}"})
    return Source(bucket.id, stored, stored.version if bucket.versioning else None, rows.pieces_of(store.db, stored))


async def copy_bytes(store: Store, pieces: list[Piece], offset: int, length: int, algorithm: str) -> Received:
    """Content of its own with these bytes, on disk (or to be kept with its metadata when it is small)."""
    if length > SOURCE_BYTES_MAX:
        raise too_large()
    chosen = cut(pieces, offset, length)
    files = [piece.number for piece, _, _ in chosen if piece.data is None]
    loop = asyncio.get_running_loop()
    store.disk.hold(files)
    try:
        return await asyncio.shield(
            loop.run_in_executor(store.pool, _copy_bytes, store.disk, chosen, length, algorithm)
        )
    except OSError as error:
        raise unavailable(error) from error
    finally:
        store.pool.submit(store.disk.remove, store.disk.release(files))


def _copy_bytes(disk: Disk, chosen: list[tuple[Piece, int, int]], length: int, algorithm: str) -> Received:
    md5 = hashlib.md5(usedforsecurity=False)
    digest = checksums.new(algorithm)
    small: list[bytes] = []
    number = disk.number() if length > INLINE_BYTES_MAX else None
    fd = disk.create(number) if number is not None else -1
    try:
        for piece, start, size in chosen:
            for block in _blocks(disk, piece, start, size):
                md5.update(block)
                digest.update(block)
                if number is None:
                    small.append(block)
                else:
                    write_all(fd, block)
        if number is not None:
            disk.seal(number, fd)
    except BaseException:
        if number is not None:
            disk.remove((number,))
        raise
    finally:
        if number is not None:
            os.close(fd)
    return Received(
        size=length,
        etag=md5.hexdigest(),
        checksum=Checksum(algorithm, "FULL_OBJECT", checksums.encode(digest.digest())),
        content=b"".join(small) if number is None else number,
    )


def _blocks(disk: Disk, piece: Piece, start: int, size: int) -> Iterator[bytes]:
    if piece.data is not None:
        yield piece.data[start : start + size]
        return
    fd = disk.open(piece.number)
    try:
        while size:
            block = os.pread(fd, min(size, _BLOCK_BYTES), start)
            if not block:
                raise OSError(f"content {piece.number:x} is shorter than its row says")
            start += len(block)
            size -= len(block)
            yield block
    finally:
        os.close(fd)


class Copying:
    """CopyObject."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def copy_object(self, call: Call) -> Result:
        store = self._store
        key, bucket_name = call.key, call.bucket
        conditions = write_conditions(call.headers)
        refuse_unsupported(call.headers)
        bucket = rows.find_bucket(store.db, bucket_name)
        source = find_source(store, call)
        stored = source.stored
        asked = describe(store.db, bucket, call.headers, store.owner, now_us())
        description = _describe(call, stored, asked)
        algorithm = call.headers.get("x-amz-checksum-algorithm")
        if algorithm is not None:
            algorithm = checksums.check_algorithm(algorithm.upper())
        replaces = call.headers.get("x-amz-metadata-directive") == "REPLACE"
        changed = replaces or description.storage_class != stored.storage_class or algorithm is not None
        redirected = "x-amz-website-redirect-location" in call.headers
        encrypted = "x-amz-server-side-encryption" in call.headers
        same = bucket.id == source.bucket_id and stored.key == key and "VersionId" not in call.params
        own = "?" not in (call.headers.get("x-amz-copy-source") or "")
        if same and own and not (changed or redirected or encrypted):
            raise AwsError(
                "InvalidRequest",
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                "object's metadata, storage class, website redirect location or encryption attributes.",
            )
        received = await self._copy_content(source, algorithm)
        version, stamp = await place_received(store, bucket_name, key, received, description, conditions)
        result = {
            "CopyObjectResult": {
                "ETag": f'"{received.etag}"',
                "LastModified": stamp // 1_000_000,
                **checksums.fields(received.checksum),
            },
            "ServerSideEncryption": description.encryption,
        }
        if version is not None:
            result["VersionId"] = version
        if source.version_shown is not None:
            result["CopySourceVersionId"] = source.version_shown
        return result

    async def _copy_content(self, source: Source, algorithm: str | None) -> Received:
        stored = source.stored
        checksum = Checksum.unpack(stored.checksum) if stored.checksum else None
        kept = checksum is not None and (algorithm is None or checksum.algorithm == algorithm)
        whole = stored.part_count == 0 and checksum is not None and kept
        if not whole or checksum is None:
            fallback = checksum.algorithm if checksum is not None else checksums.DEFAULT_ALGORITHM
            return await copy_bytes(self._store, source.pieces, 0, stored.size, algorithm or fallback)
        content: bytes | int = b""
        if source.pieces:
            piece = source.pieces[0]
            content = piece.data if piece.data is not None else await self._link(piece.number)
        return Received(size=stored.size, etag=stored.etag, checksum=checksum, content=content)

    async def _link(self, number: int) -> int:
        store = self._store
        store.disk.hold((number,))
        try:
            loop = asyncio.get_running_loop()
            return await asyncio.shield(loop.run_in_executor(store.pool, store.disk.link, number))
        except OSError as error:
            raise unavailable(error) from error
        finally:
            store.pool.submit(store.disk.remove, store.disk.release((number,)))


def _describe(call: Call, stored: Stored, asked: Description) -> Description:
    """The description of a copy: the source's, or the request's where its directives say REPLACE."""
    for field in ("x-amz-metadata-directive", "x-amz-tagging-directive"):
        if call.headers.get(field) not in (None, "COPY", "REPLACE"):
            raise AwsError(
                "InvalidArgument",
                "Unknown metadata directive." if "metadata" in field else "Unknown tagging directive.",
                extra={"ArgumentName": field, "ArgumentValue": call.headers.get(field) or ""},
            )
    head = asked.head
    if call.headers.get("x-amz-metadata-directive") != "REPLACE":
        head = kept_head(stored.head, asked.head)
    tags = asked.tags if call.headers.get("x-amz-tagging-directive") == "REPLACE" else stored.tag_list()
    return replace(asked, head=head, tags=tags)
