"""Writing and deleting objects: PutObject, DeleteObject, DeleteObjects.

What a write decides on (conditions, versions, locks) it reads inside its transaction, so nothing comes between.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from nearpoint.awsproto import AwsError
from nearpoint.bucket import rows
from nearpoint.bucket.admission import describe
from nearpoint.bucket.calls import Call, Result, legal_key, write_conditions
from nearpoint.bucket.checksums import HEADER, Checksum
from nearpoint.bucket.conditions import NO_CONDITIONS, Conditions, Failed, decide_write
from nearpoint.bucket.intake import Received
from nearpoint.bucket.metadata import Description
from nearpoint.bucket.rows import NULL_VERSION, NewObject, Stored
from nearpoint.bucket.store import Store, now_us
from nearpoint.bucket.writer import Transaction
from nearpoint.wire.dates import parse_iso_date
from nearpoint.wire.message import Headers, Response

DELETE_MAX = 1000  # keys of one DeleteObjects
_BYPASS = "x-amz-bypass-governance-retention"
_MARKER = Description(head=b"", storage_class="STANDARD", tags=[], extras={})


@dataclass(frozen=True, slots=True, kw_only=True)
class Deletion:
    """What is to be deleted. `marker_version` names the delete marker, where one is made; `bypass` governance mode."""

    bucket: str
    key: bytes
    version: str | None
    marker_version: str
    conditions: Conditions
    bypass: bool


class Objects:
    """The writing operations on objects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def put_object(self, call: Call) -> Result:
        store = self._store
        key = call.key
        bucket_name = call.bucket
        conditions = write_conditions(call.headers)
        bucket = rows.find_bucket(store.db, bucket_name)
        description = describe(store.db, bucket, call.headers, store.owner, now_us())
        if any(name.lower().startswith("x-amz-object-lock-") for name, _ in call.headers) and not _is_summed(
            call.headers
        ):
            raise AwsError(
                "InvalidRequest",
                "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock "
                "parameters",
            )
        received = await store.intake.receive(call.request.body, call.headers, call.verified)
        version, _ = await place_received(store, bucket_name, key, received, description, conditions)
        headers = Headers([("ETag", f'"{received.etag}"'), ("x-amz-server-side-encryption", description.encryption)])
        add_checksum(headers, received.checksum)
        if version is not None:
            headers.add("x-amz-version-id", version)
        headers.add("Content-Length", "0")
        return Response(200, headers)

    async def delete_object(self, call: Call) -> Result:
        deletion = Deletion(
            bucket=call.bucket,
            key=call.key,
            version=call.version,
            marker_version=self._store.new_version(),
            conditions=write_conditions(call.headers),
            bypass=call.headers.get(_BYPASS) == "true",
        )
        deleted = await self._store.writer.submit(lambda tx: delete_version(tx, self._store, deletion))
        headers = Headers()
        if deleted.get("DeleteMarker"):
            headers.add("x-amz-delete-marker", "true")
        shown = deleted.get("DeleteMarkerVersionId") or deleted.get("VersionId")
        if shown is not None:
            headers.add("x-amz-version-id", shown)
        return Response(204, headers)

    async def delete_objects(self, call: Call) -> Result:
        store = self._store
        name = call.bucket
        asked: list[dict[str, Any]] = call.params["Delete"].get("Objects", [])
        if not asked or len(asked) > DELETE_MAX:
            raise AwsError("MalformedXML")
        if not _is_summed(call.headers):
            raise AwsError(
                "InvalidRequest", "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
            )
        rows.find_bucket(store.db, name)
        outcomes = await asyncio.gather(*(self._delete_one(call, item) for item in asked), return_exceptions=True)
        deleted: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        for item, outcome in zip(asked, outcomes, strict=True):
            if isinstance(outcome, AwsError):
                errors.append(
                    {
                        "Key": item["Key"],
                        "VersionId": item.get("VersionId"),
                        "Code": outcome.code,
                        "Message": outcome.message,
                    }
                )
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                deleted.append({"Key": item["Key"]} | outcome)
        quiet = call.params["Delete"].get("Quiet", False)
        return {"Deleted": [] if quiet else deleted, "Errors": errors}

    async def _delete_one(self, call: Call, item: dict[str, Any]) -> dict[str, Any]:
        etag = item.get("ETag")
        deletion = Deletion(
            bucket=call.bucket,
            key=legal_key(item["Key"]),
            version=item.get("VersionId"),
            marker_version=self._store.new_version(),
            conditions=NO_CONDITIONS if etag is None else Conditions(if_match=etag),
            bypass=call.headers.get(_BYPASS) == "true",
        )
        deleted = await self._store.writer.submit(lambda tx: delete_version(tx, self._store, deletion))
        return {member: value for member, value in deleted.items() if value is not None}


def _is_summed(headers: Headers) -> bool:
    """Whether a request carries a checksum of its body."""
    return any(name in headers for name in ("content-md5", "x-amz-trailer", *HEADER.values()))


def add_checksum(headers: Headers, checksum: Checksum) -> None:
    """Say a checksum in an answer."""
    headers.add(HEADER[checksum.algorithm], checksum.value)
    headers.add("x-amz-checksum-type", checksum.kind)


async def place_received(
    store: Store, bucket_name: str, key: bytes, received: Received, description: Description, conditions: Conditions
) -> tuple[str | None, int]:
    """Make a body that was received whole the key's newest version, as `place_object` does; its file goes if not."""
    new = NewObject(
        key=key,
        version=store.new_version(),
        size=received.size,
        etag=received.etag,
        content=received.content,
        part_count=0,
        description=description,
        checksum=received.checksum,
    )
    return await store.writer.submit(lambda tx: place_object(tx, store, bucket_name, new, conditions), received.files)


def place_object(
    tx: Transaction, store: Store, bucket_name: str, new: NewObject, conditions: Conditions
) -> tuple[str | None, int]:
    """Make `new` current if the conditions hold: the version id to show (None where there are no versions) and stamp.

    Raises NoSuchBucket, PreconditionFailed, NoSuchKey.
    """
    bucket = rows.find_bucket(tx.db, bucket_name)
    current = rows.find_current(tx.db, bucket.id, new.key)
    check_write(conditions, current, new.key)
    if current is not None and bucket.versioning != rows.ENABLED:
        at_stake = current if current.version == NULL_VERSION else None
        if at_stake is not None:
            check_lock(at_stake, tx.now_us, bypass=False)
    version, stamp = rows.place(tx, store.disk, bucket, current, new)
    return (version if bucket.versioning else None), stamp


def check_write(conditions: Conditions, current: Stored | None, key: bytes) -> None:
    """Raises PreconditionFailed, or NoSuchKey for If-Match where there is no object."""
    if conditions is NO_CONDITIONS:
        return
    exists = current is not None and not current.marker
    if conditions.if_match is not None and not exists:
        raise AwsError("NoSuchKey", extra={"Key": key.decode()})
    verdict = decide_write(conditions, etag=current.etag if current is not None and exists else None)
    if isinstance(verdict, Failed):
        raise AwsError("PreconditionFailed", extra={"Condition": verdict.field})


def check_lock(stored: Stored, now_us: int, *, bypass: bool) -> None:
    """Raises AccessDenied for a version under legal hold or retention."""
    extra = stored.extra()
    retention = extra.get("retention")
    locked = extra.get("legal_hold") == "ON"
    if retention is not None and not (bypass and retention["Mode"] == "GOVERNANCE"):
        until = parse_iso_date(retention["RetainUntilDate"])
        locked = locked or (until is not None and until > datetime.fromtimestamp(now_us / 1_000_000, UTC))
    if locked:
        raise AwsError("AccessDenied", "Access Denied because object protected by object lock.")


def delete_version(tx: Transaction, store: Store, deletion: Deletion) -> dict[str, Any]:
    """Delete a key, or one version for good. What was deleted, by DeleteObjects' names.

    Without a version: a bucket that keeps versions gets a delete marker, one that stopped keeping
    them a marker in place of `null`. A version that is not there is no error (S3 API Reference, DeleteObject).
    """
    bucket = rows.find_bucket(tx.db, deletion.bucket)
    key, version, conditions, bypass = deletion.key, deletion.version, deletion.conditions, deletion.bypass
    if version is not None:
        stored = rows.find_version(tx.db, bucket.id, key, version)
        if stored is None:
            return {"VersionId": version}
        check_write(conditions, stored, key)
        check_lock(stored, tx.now_us, bypass=bypass)
        rows.take_away(tx, bucket, stored)
        shown = version if bucket.versioning else None
        return {
            "VersionId": shown,
            "DeleteMarker": True if stored.marker else None,
            "DeleteMarkerVersionId": version if stored.marker else None,
        }
    current = rows.find_current(tx.db, bucket.id, key)
    check_write(conditions, current, key)
    if not bucket.versioning:
        if current is not None:
            check_lock(current, tx.now_us, bypass=bypass)
            rows.take_away(tx, bucket, current)
        return {}
    marker = NewObject(
        key=key,
        version=deletion.marker_version,
        size=0,
        etag="",
        content=None,
        part_count=0,
        description=_MARKER,
        checksum=None,
        marker=True,
    )
    placed, _ = rows.place(tx, store.disk, bucket, current, marker)
    return {"DeleteMarker": True, "DeleteMarkerVersionId": placed}
