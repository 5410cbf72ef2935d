"""Gives versions away whole, and takes in those of other regions: union of versions, by the merge rule.

A version that comes from elsewhere keeps its id, its stamp and everything on it, and is put where its stamp belongs, in
one transaction: older never hides newer, and coming twice changes nothing. Of what hangs on a version (tags, locks) the
latest amendment holds. A version that was removed here for good stays removed.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson
import structlog

from nearpoint.awsproto import AwsError
from nearpoint.bucket import checksums, outbox, rows
from nearpoint.bucket.checksums import Checksum
from nearpoint.bucket.document import Inlet, Manifest, frame
from nearpoint.bucket.intake import Received
from nearpoint.bucket.metadata import Description, pack, unpack
from nearpoint.bucket.reading import Reading, cut
from nearpoint.bucket.rows import NULL_VERSION, Bucket, NewObject, Stored
from nearpoint.bucket.schema import fetch_all, fetch_one
from nearpoint.bucket.staging import Stagings
from nearpoint.bucket.store import Store, now_us
from nearpoint.bucket.writer import Transaction
from nearpoint.regions.version import Ahead, Stamp, how_far_ahead
from nearpoint.wire.message import Headers, StreamBody

log = structlog.get_logger("nearpoint.bucket")

Outcome = Literal["applied", "had", "content", "missing", "refused"]
_HISTORY = (
    "SELECT key, version, stamp, origin, etag, amended, amended_in, size, marker, tags, replication "
    "FROM object WHERE bucket = ?"
)
_FIELDS = frozenset(
    {"cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A version that is asked for, with its content or without."""

    key: bytes
    version: str
    content: bool


class Replicas:
    """Versions out and in."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._reading = Reading(store)
        self.stagings = Stagings(store.disk, store.pool)

    def parts(self, bucket_name: str, key: bytes, version: str) -> list[int]:
        """The sizes of a version's parts, or its size; empty when there is no content. Raises NoSuchBucket."""
        db = self._store.db
        stored = rows.find_version(db, rows.find_bucket(db, bucket_name).id, key, version)
        return [] if stored is None else [piece.size for piece in rows.pieces_of(db, stored)]

    def content(self, bucket_name: str, key: bytes, version: str, offset: int, length: int) -> StreamBody:
        """A part of a version's content. Raises AwsError: NoSuchVersion, InvalidRange."""
        db = self._store.db
        stored = rows.find_version(db, rows.find_bucket(db, bucket_name).id, key, version)
        if stored is None:
            raise AwsError("NoSuchVersion")
        if not (offset >= 0 and length > 0 and offset + length <= stored.size):
            raise AwsError("InvalidRange")
        return self._reading.stream(cut(rows.pieces_of(db, stored), offset, length), length)

    def give(self, bucket_name: str, wanted: Sequence[Wanted]) -> StreamBody:
        """The versions, each as it is when its turn comes. Raises NoSuchBucket."""
        bucket = rows.find_bucket(self._store.db, bucket_name)
        return StreamBody(self._give(bucket, wanted))

    async def _give(self, bucket: Bucket, wanted: Sequence[Wanted]) -> AsyncIterator[bytes]:
        db = self._store.db
        waiting = bytearray()
        for each in wanted:
            stored = rows.find_version(db, bucket.id, each.key, each.version)
            if stored is None:
                waiting += frame(Manifest(key=each.key.decode(), version=each.version, missing=True))
                continue
            pieces = rows.pieces_of(db, stored)
            content = each.content and not stored.marker
            parts = tuple(piece.size for piece in pieces) if stored.part_count else ()
            waiting += frame(manifest_of(stored, parts, content=content))
            if not content:
                continue
            small = [piece.data for piece in pieces if piece.data is not None]
            if len(small) == len(pieces):
                for data in small:
                    waiting += data
            else:
                yield bytes(waiting)
                waiting.clear()
                body = self._reading.stream(cut(pieces, 0, stored.size), stored.size)
                try:
                    async for chunk in body:
                        yield chunk
                finally:
                    await body.close()
            if len(waiting) > 64 * 1024:
                yield bytes(waiting)
                waiting.clear()
        yield bytes(waiting)

    async def take(self, bucket_name: str, inlet: Inlet, staged: str | None = None) -> list[dict[str, Any]]:
        """Take in versions; what became of each, in order, when all are on disk. `staged` names the staging that has
        the content of the one version there is.

        `applied`, `had` (there is nothing new in it), `content` (it was sent without and is needed with), `missing`, or
        `refused` with its reason and whether that is `passing`. Raises AwsError for what is wrong with the bucket, the
        store or the whole request.
        """
        bucket = rows.find_bucket(self._store.db, bucket_name)
        _check_bucket(bucket)
        outcomes: list[Any] = []
        while (manifest := await inlet.manifest()) is not None:
            if manifest.missing:
                outcomes.append("missing")
            elif manifest.problem:
                outcomes.append({"outcome": "refused", "reason": manifest.problem, "passing": manifest.passing})
            else:
                outcomes.append(await self._take_one(bucket_name, manifest, inlet, staged))
        settled: list[dict[str, Any]] = []
        for outcome in outcomes:
            if isinstance(outcome, AwsError):
                settled.append({"outcome": "refused", "reason": f"{outcome.code}: {outcome.message}"})
            elif isinstance(outcome, dict):
                settled.append(outcome)
            else:
                settled.append({"outcome": outcome if isinstance(outcome, str) else await outcome})
        return settled

    async def knows(self, bucket_name: str, versions: Sequence[tuple[bytes, str]]) -> list[bool]:
        """Of versions by key and id, whether each was removed here for good, or is here. Nothing is taken in."""

        def look(tx: Transaction) -> list[bool]:
            bucket = rows.find_bucket(tx.db, bucket_name)
            return [
                rows.find_version(tx.db, bucket.id, key, version) is not None or _is_removed(tx, bucket, key, version)
                for key, version in versions
            ]

        return await self._store.writer.submit(look)

    async def _take_one(self, bucket_name: str, manifest: Manifest, inlet: Inlet, staged: str | None) -> Any:
        """A future of the outcome, or the AwsError that is this version's own. Raises what concerns all of them."""
        ahead = how_far_ahead(max(manifest.time_us, manifest.amended_us), now_us())
        if ahead is not Ahead.FINE:
            log.warning("a stamp from the future", bucket=bucket_name, region=manifest.origin, time_us=manifest.time_us)
        if ahead is Ahead.REFUSED:
            return AwsError("InvalidRequest", f"Written more than a day from now ({manifest.origin}): set that clock.")
        try:
            description = _describe(manifest)
            received: list[Received] | None = None
            if manifest.content or (staged is not None and not manifest.marker):
                received = await self._receive(manifest, inlet, staged)
        except AwsError as error:
            if error.code in ("IncompleteBody", "ServiceUnavailable", "InternalError"):
                raise
            return error
        files = tuple(file for part in received or () for file in part.files)
        store = self._store
        return store.writer.submit(lambda tx: _take_in(tx, store, bucket_name, manifest, description, received), files)

    async def _receive(self, manifest: Manifest, inlet: Inlet, staged: str | None) -> list[Received]:
        """The content, on disk, found to be what the manifest says. Raises AwsError."""
        checksum = Checksum.unpack(manifest.checksum) if manifest.checksum else None
        algorithm = checksum.algorithm if checksum is not None else checksums.DEFAULT_ALGORITHM
        sizes = manifest.parts or (manifest.size,)
        received: list[Received] = []
        try:
            if not manifest.content:
                received = await self.stagings.claim(staged or "", sizes, algorithm)
            for size in sizes if manifest.content else ():
                received.append(
                    await self._store.intake.receive(
                        inlet.content(size),
                        Headers([("Content-Length", str(size))]),
                        None,
                        default_algorithm=algorithm,
                    )
                )
            _check_content(manifest, received, checksum)
        except BaseException:
            files = [file for part in received for file in part.files]
            self._store.pool.submit(self._store.disk.remove, files)
            raise
        return received


def manifest_of(stored: Stored, parts: tuple[int, ...], *, content: bool) -> Manifest:
    """A version as it travels."""
    return Manifest(
        key=stored.key.decode(),
        version=stored.version,
        content=content,
        time_us=stored.stamp,
        origin=stored.origin,
        marker=bool(stored.marker),
        size=stored.size,
        etag=stored.etag,
        parts=parts,
        head=stored.head.decode("latin-1"),
        storage_class=stored.storage_class,
        checksum=stored.checksum,
        tags=tuple(stored.tag_list()),
        extras=stored.extra(),
        amended_us=stored.amended,
        amended_in=stored.amended_in,
    )


def _check_bucket(bucket: Bucket) -> None:
    if bucket.versioning != rows.ENABLED:
        raise AwsError("InvalidBucketState", "The destination bucket does not keep versions.")


def _describe(manifest: Manifest) -> Description:
    """Raises InvalidRequest for header fields that no write could have left."""
    lines = unpack(manifest.head.encode("latin-1", "replace"))
    for name, value in lines:
        known = name.lower() in _FIELDS or name.lower().startswith("x-amz-")
        if not known or any(ord(char) < 32 and char != "\t" for char in name + value):
            raise AwsError("InvalidRequest", "A manifest has a header field that no object has.")
    return Description(
        head=pack(lines),
        storage_class=manifest.storage_class,
        tags=list(manifest.tags),
        extras=dict(manifest.extras),
    )


def _check_content(manifest: Manifest, received: Sequence[Received], checksum: Checksum | None) -> None:
    """Raises BadDigest unless the content is what was stored at its origin."""
    if manifest.parts:
        joined = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in received), usedforsecurity=False)
        etag = f"{joined.hexdigest()}-{len(received)}"
    else:
        etag = received[0].etag
    if etag != manifest.etag:
        raise AwsError("BadDigest", f"The content's entity tag is {etag}, not {manifest.etag}.")
    if checksum is None:
        return
    if manifest.parts:
        sums = [(part.checksum.value, part.size) for part in received]
        found = checksums.join(checksum.algorithm, checksum.kind, sums)
    else:
        found = received[0].checksum
    if found.value != checksum.value:
        raise AwsError("BadDigest", f"The content's {checksum.algorithm} is {found.value}, not {checksum.value}.")


def _take_in(
    tx: Transaction,
    store: Store,
    bucket_name: str,
    manifest: Manifest,
    description: Description,
    received: Sequence[Received] | None,
) -> Outcome:
    """Merge one version into what this region knows of its key."""
    bucket = rows.find_bucket(tx.db, bucket_name)
    _check_bucket(bucket)
    key = manifest.key.encode()
    stored = rows.find_version(tx.db, bucket.id, key, manifest.version)
    stamp = Stamp(manifest.time_us, manifest.origin, manifest.etag)
    if stored is not None:
        known = Stamp(stored.stamp, stored.origin, stored.etag)
        if known == stamp or manifest.version != NULL_VERSION or known > stamp:
            _abandon(tx, received)
            return _amend(tx, stored, manifest, description) if known == stamp else "had"
    if _is_removed(tx, bucket, key, manifest.version):
        _abandon(tx, received)
        return "had"
    if received is None and not manifest.marker:
        return "content"
    content: bytes | int | None = None
    if manifest.parts:
        content = _add_parts(tx, store, received or ())
    elif received:
        content = received[0].content
    new = NewObject(
        key=key,
        version=manifest.version,
        size=manifest.size,
        etag=manifest.etag,
        content=content,
        part_count=len(manifest.parts),
        description=description,
        checksum=Checksum.unpack(manifest.checksum) if manifest.checksum else None,
        marker=manifest.marker,
    )
    current = rows.find_current(tx.db, bucket.id, key)
    amended = (manifest.amended_us, manifest.amended_in)
    rows.insert(tx, store.disk, bucket, current, new, stamp, outbox.REPLICA, amended)
    return "applied"


def _is_removed(tx: Transaction, bucket: Bucket, key: bytes, version: str) -> bool:
    """Whether it was removed for good. It is remembered for as long as somebody has it to offer."""
    gone = "UPDATE removed SET removed = ? WHERE bucket = ? AND key = ? AND version = ? RETURNING 1"
    return fetch_one(tx.db, gone, (tx.now_us, bucket.id, key, version)) is not None


def _abandon(tx: Transaction, received: Sequence[Received] | None) -> None:
    tx.abandoned += [file for part in received or () for file in part.files]


def _amend(tx: Transaction, stored: Stored, manifest: Manifest, description: Description) -> Outcome:
    amended = (manifest.amended_us, manifest.amended_in)
    if amended <= (stored.amended, stored.amended_in):
        return "had"
    tx.db.execute(
        "UPDATE object SET tags = ?, extras = ?, amended = ?, amended_in = ? WHERE id = ?",
        (rows.pack_tags(description.tags), rows.pack_extras(description.extras), *amended, stored.id),
    )
    return "applied"


def _add_parts(tx: Transaction, store: Store, received: Sequence[Received]) -> int:
    owner = store.disk.number()
    for number, part in enumerate(received, 1):
        content = rows.add_content(tx, store.disk, part.content, part.size)
        tx.db.execute(
            "INSERT INTO part (owner, number, content, size, etag, checksum, stamp) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (owner, number, content, part.size, part.etag, part.checksum.pack(), tx.now_us),
        )
    return owner


def history(store: Store, bucket_name: str, after: bytes, limit: int) -> bytes:
    """The versions behind a key, in order of the keys: what the reconciler compares, as JSON."""
    bucket = rows.find_bucket(store.db, bucket_name)
    found = fetch_all(store.db, f"{_HISTORY} AND key > ? ORDER BY key LIMIT ?", (bucket.id, after, limit + 1))
    more = len(found) > limit
    if more:  # whole keys only: the last one may go on
        last = found[-1][0]
        found = [row for row in found if row[0] != last] or fetch_all(
            store.db, f"{_HISTORY} AND key = ?", (bucket.id, last)
        )
    return orjson.dumps({"rows": [(row[0].decode(), *row[1:]) for row in found], "more": more})
