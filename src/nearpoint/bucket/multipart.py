"""Multipart uploads: create, upload and copy parts, complete, abort, and their listings.

A part's content is stored like an object's. Completing writes nothing anew: the parts become the object's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import apsw
import orjson

from nearpoint.awsproto import AwsError
from nearpoint.bucket import checksums, rows
from nearpoint.bucket.admission import describe
from nearpoint.bucket.assembly import AskedPart, HavePart, assemble
from nearpoint.bucket.calls import Call, Result, write_conditions
from nearpoint.bucket.copying import copy_bytes, find_source
from nearpoint.bucket.intake import Received
from nearpoint.bucket.metadata import Description
from nearpoint.bucket.objects import add_checksum, check_write, place_object
from nearpoint.bucket.rows import NewObject
from nearpoint.bucket.schema import fetch_all, fetch_one
from nearpoint.bucket.store import Store, now_us
from nearpoint.bucket.writer import Transaction
from nearpoint.regions.copy import beyond_source, parse_copy_range
from nearpoint.wire.message import Headers, Response

PART_NUMBER_MAX = 10_000


class Upload(NamedTuple):
    """An upload's row. `algorithm` is what parts are summed with, `algorithm_asked` whether the client chose it."""

    id: int
    key: bytes
    name: str
    head: bytes
    storage_class: str
    algorithm: str
    algorithm_asked: int
    kind: str
    tags: str | None
    extras: str | None
    created: int


_COLUMNS = ", ".join(Upload._fields)


def find_upload(db: apsw.Connection, bucket_id: int, key: bytes, name: str) -> Upload:
    """The upload in progress. Raises NoSuchUpload."""
    row = fetch_one(
        db,
        f"SELECT {_COLUMNS} FROM upload WHERE name = ? AND bucket = ? AND key = ?",  # noqa: S608
        (name, bucket_id, key),
    )
    if row is None:
        raise AwsError("NoSuchUpload", extra={"UploadId": name})
    return Upload._make(row)


class Multipart:
    """The operations on multipart uploads."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create_multipart_upload(self, call: Call) -> Result:
        store = self._store
        key, bucket_name = call.key, call.bucket
        description = describe(store.db, rows.find_bucket(store.db, bucket_name), call.headers, store.owner, now_us())
        asked = call.headers.get("x-amz-checksum-algorithm")
        algorithm = checksums.check_algorithm((asked or checksums.DEFAULT_ALGORITHM).upper())
        kind = call.headers.get("x-amz-checksum-type")
        if kind is not None and asked is None:
            raise AwsError(
                "InvalidRequest",
                "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header.",
            )
        kind = checksums.upload_type(algorithm, kind)
        number, name = store.disk.number(), store.new_version()

        def create(tx: Transaction) -> None:
            bucket = rows.find_bucket(tx.db, bucket_name)
            tx.db.execute(
                f"INSERT INTO upload (bucket, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                (
                    bucket.id,
                    number,
                    key,
                    name,
                    description.head,
                    description.storage_class,
                    algorithm,
                    int(asked is not None),
                    kind,
                    orjson.dumps(description.tags).decode() if description.tags else None,
                    orjson.dumps(description.extras).decode() if description.extras else None,
                    tx.now_us,
                ),
            )

        await store.writer.submit(create)
        result = {
            "Bucket": bucket_name,
            "Key": call.params["Key"],
            "UploadId": name,
            "ServerSideEncryption": "AES256",
        }
        if asked is not None:
            result |= {"ChecksumAlgorithm": algorithm, "ChecksumType": kind}
        return result

    async def upload_part(self, call: Call) -> Result:
        store = self._store
        bucket = rows.find_bucket(store.db, call.bucket)
        number = _part_number(call)
        upload = find_upload(store.db, bucket.id, call.key, call.params["UploadId"])
        wanted = checksums.wanted(call.headers.get)
        if wanted is not None and wanted != upload.algorithm and upload.algorithm_asked:
            raise AwsError(
                "InvalidRequest",
                f"Checksum Type mismatch occurred, expected checksum Type: {upload.algorithm.lower()}, actual checksum "
                f"Type: {wanted.lower()}",
            )
        received = await store.intake.receive(
            call.request.body, call.headers, call.verified, default_algorithm=upload.algorithm
        )
        await self._add_part(call, number, received)
        headers = Headers([("ETag", f'"{received.etag}"'), ("x-amz-server-side-encryption", "AES256")])
        add_checksum(headers, received.checksum)
        headers.remove("x-amz-checksum-type")
        headers.add("Content-Length", "0")
        return Response(200, headers)

    async def upload_part_copy(self, call: Call) -> Result:
        store = self._store
        bucket = rows.find_bucket(store.db, call.bucket)
        number = _part_number(call)
        upload = find_upload(store.db, bucket.id, call.key, call.params["UploadId"])
        source = find_source(store, call)
        offset, length = _copy_range(call.headers.get("x-amz-copy-source-range"), source.stored.size)
        received = await copy_bytes(store, source.pieces, offset, length, upload.algorithm)
        stamp = await self._add_part(call, number, received)
        result: dict[str, Any] = {
            "CopyPartResult": {
                "ETag": f'"{received.etag}"',
                "LastModified": stamp // 1_000_000,
                f"Checksum{received.checksum.algorithm}": received.checksum.value,
            },
            "ServerSideEncryption": "AES256",
        }
        if source.version_shown is not None:
            result["CopySourceVersionId"] = source.version_shown
        return result

    async def _add_part(self, call: Call, number: int, received: Received) -> int:
        store = self._store
        bucket_name, key, name = call.bucket, call.key, call.params["UploadId"]

        def add(tx: Transaction) -> int:
            bucket = rows.find_bucket(tx.db, bucket_name)
            upload = find_upload(tx.db, bucket.id, key, name)
            before = fetch_one(tx.db, "SELECT content FROM part WHERE owner = ? AND number = ?", (upload.id, number))
            if before is not None:
                rows.remove_content(tx, before[0])
            content = rows.add_content(tx, store.disk, received.content, received.size)
            tx.db.execute(
                "INSERT OR REPLACE INTO part (owner, number, content, size, etag, checksum, stamp) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (upload.id, number, content, received.size, received.etag, received.checksum.pack(), tx.now_us),
            )
            return tx.now_us

        return await store.writer.submit(add, received.files)

    async def complete_multipart_upload(self, call: Call) -> Result:
        store = self._store
        bucket_name, key, name = call.bucket, call.key, call.params["UploadId"]
        conditions = write_conditions(call.headers)
        asked = [
            AskedPart(
                number=part.get("PartNumber", 0),
                etag=part.get("ETag", "").strip('"'),
                checksums={
                    algorithm: part[f"Checksum{algorithm}"]
                    for algorithm in checksums.HEADER
                    if f"Checksum{algorithm}" in part
                },
            )
            for part in call.params.get("MultipartUpload", {}).get("Parts", [])
        ]
        declared = checksums.declared_whole(call.headers.get)
        size_text = call.headers.get("x-amz-mp-object-size")
        version_id = store.new_version()

        def complete(tx: Transaction) -> tuple[str, checksums.Checksum | None, str | None]:
            bucket = rows.find_bucket(tx.db, bucket_name)
            upload = find_upload(tx.db, bucket.id, key, name)
            check_write(conditions, rows.find_current(tx.db, bucket.id, key), key)
            have = {
                number: HavePart(number=number, size=size, etag=etag, checksum=checksums.Checksum.unpack(checksum))
                for number, size, etag, checksum in fetch_all(
                    tx.db, "SELECT number, size, etag, checksum FROM part WHERE owner = ?", (upload.id,)
                )
            }
            whole = assemble(
                asked,
                have,
                algorithm=upload.algorithm,
                kind="COMPOSITE" if upload.kind == "COMPOSITE" else "FULL_OBJECT",
                required=bool(upload.algorithm_asked) and upload.kind == "COMPOSITE",
                declared=declared,
                declared_size=size_text,
                upload=name,
            )
            version, _ = place_object(
                tx,
                store,
                bucket_name,
                NewObject(
                    key=key,
                    version=version_id,
                    size=whole.size,
                    etag=whole.etag,
                    content=upload.id,
                    part_count=len(asked),
                    description=_described(upload),
                    checksum=whole.checksum,
                ),
                conditions,
            )
            _keep_parts(tx, upload.id, have.keys(), [part.number for part in asked])
            tx.db.execute("DELETE FROM upload WHERE id = ?", (upload.id,))
            return whole.etag, whole.checksum, version

        etag, checksum, version = await store.writer.submit(complete)
        result: dict[str, Any] = {
            "Location": f"http://{call.headers.get('host') or ''}{call.request.path}",
            "Bucket": bucket_name,
            "Key": call.params["Key"],
            "ETag": f'"{etag}"',
            "ServerSideEncryption": "AES256",
        }
        if checksum is not None:
            result |= checksums.fields(checksum)
        if version is not None:
            result["VersionId"] = version
        return result

    async def abort_multipart_upload(self, call: Call) -> Result:
        bucket_name, key, name = call.bucket, call.key, call.params["UploadId"]

        def abort(tx: Transaction) -> None:
            bucket = rows.find_bucket(tx.db, bucket_name)
            drop_upload(tx, find_upload(tx.db, bucket.id, key, name).id)

        await self._store.writer.submit(abort)
        return Response(204)

    async def list_parts(self, call: Call) -> Result:
        store = self._store
        bucket = rows.find_bucket(store.db, call.bucket)
        upload = find_upload(store.db, bucket.id, call.key, call.params["UploadId"])
        marker = int(call.params.get("PartNumberMarker") or 0)
        limit = min(call.params.get("MaxParts", 1000), 1000)
        found = fetch_all(
            store.db,
            "SELECT number, size, etag, checksum, stamp FROM part WHERE owner = ? AND number > ? "
            "ORDER BY number LIMIT ?",
            (upload.id, marker, limit + 1),
        )
        parts: list[dict[str, Any]] = []
        for number, size, etag, packed, stamp in found[:limit]:
            checksum = checksums.Checksum.unpack(packed)
            part: dict[str, Any] = {
                "PartNumber": number,
                "LastModified": stamp / 1_000_000,
                "ETag": f'"{etag}"',
                "Size": size,
            }
            if upload.algorithm_asked:
                part[f"Checksum{checksum.algorithm}"] = checksum.value
            parts.append(part)
        result: dict[str, Any] = {
            "Bucket": call.bucket,
            "Key": call.params["Key"],
            "UploadId": upload.name,
            "PartNumberMarker": marker,
            "NextPartNumberMarker": parts[-1]["PartNumber"] if parts else 0,
            "MaxParts": limit,
            "IsTruncated": len(found) > limit,
            "StorageClass": upload.storage_class,
            "Initiator": store.owner,
            "Owner": store.owner,
            "Parts": parts,
        }
        if upload.algorithm_asked:
            result |= {"ChecksumAlgorithm": upload.algorithm, "ChecksumType": upload.kind}
        return result


def drop_upload(tx: Transaction, upload_id: int) -> None:
    """Remove an upload with its parts."""
    rows.remove_parts(tx, upload_id)
    tx.db.execute("DELETE FROM upload WHERE id = ?", (upload_id,))


def _keep_parts(tx: Transaction, owner: int, have: Any, kept: list[int]) -> None:
    """Leave the kept parts only, numbered 1, 2, 3 …: part numbers of an object have no gaps."""
    for number in set(have) - set(kept):
        gone = "DELETE FROM part WHERE owner = ? AND number = ? RETURNING content"
        for (content,) in fetch_all(tx.db, gone, (owner, number)):
            rows.remove_content(tx, content)
    for at, number in enumerate(kept, 1):
        if at != number:
            tx.db.execute("UPDATE part SET number = ? WHERE owner = ? AND number = ?", (at, owner, number))


def _described(upload: Upload) -> Description:
    return Description(
        head=upload.head,
        storage_class=upload.storage_class,
        tags=[] if upload.tags is None else [(key, value) for key, value in orjson.loads(upload.tags)],
        extras={} if upload.extras is None else orjson.loads(upload.extras),
    )


def _part_number(call: Call) -> int:
    number: int = call.params["PartNumber"]
    if not 1 <= number <= PART_NUMBER_MAX:
        raise AwsError(
            "InvalidArgument",
            "Part number must be an integer between 1 and 10000, inclusive",
            extra={"ArgumentName": "partNumber", "ArgumentValue": str(number)},
        )
    return number


def _copy_range(field: str | None, size: int) -> tuple[int, int]:
    """Offset and length of x-amz-copy-source-range in a source of `size` bytes. Raises InvalidArgument."""
    if field is None:
        return 0, size
    first, last = parse_copy_range(field)
    if last >= size:
        raise beyond_source(first, last, size)
    return first, last - first + 1
