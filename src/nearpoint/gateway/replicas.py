"""Versions out of a foreign store and into it, as replication sends them (`bucket.document`).

What goes out is what the key is now: a foreign store's older versions have no stamps that others could order them by.
What comes in takes the key's place if it is newer, on the condition that nobody has written meanwhile; where the store
knows no such condition, it is looked at afterwards and taken away again if it hides something newer.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

import orjson
import structlog

from nearpoint.awsproto import AwsError, xml
from nearpoint.bucket.checksums import ALGORITHM_OF, HEADER, Checksum
from nearpoint.bucket.document import Inlet, Manifest, frame
from nearpoint.bucket.metadata import pack, unpack
from nearpoint.gateway.abilities import Abilities
from nearpoint.gateway.origin import Origin, Seen, failure, listed
from nearpoint.gateway.stamps import FIELD, Known, Mark, Note, bare, decide, known_of, mark_of, version_of
from nearpoint.gateway.writes import Flight, Writes
from nearpoint.regions.capabilities import PREFIX as SCRATCH
from nearpoint.regions.version import Ahead, Stamp, clamped_us, how_far_ahead
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.message import Body, Headers, Response, StreamBody, read_all

log = structlog.get_logger("nearpoint.gateway")

SMALL_BYTES_MAX = 1024 * 1024  # what is held in memory, so that it can be sent again
AT_ONCE = 16
TRIES = 5
HISTORY_MAX = 1000
_GIVEN = re.compile(r"cache-control|content-(disposition|encoding|language|type)|expires|x-amz-meta-.+")
_HEAD = re.compile(_GIVEN.pattern + r"|x-amz-website-redirect-location|x-amz-server-side-encryption")
Outcome = dict[str, Any]


class ConflictError(Exception):
    """Somebody has written the key since it was looked at."""


class Replicas:
    """Versions of one foreign store, out and in."""

    def __init__(self, origin: Origin, writes: Writes, abilities: Abilities) -> None:
        self._origin = origin
        self._writes = writes
        self._abilities = abilities

    def give(self, bucket: str, wanted: Sequence[tuple[str, bool]]) -> StreamBody:
        """The newest versions of keys, with their content or without, each as it is when its turn comes."""
        return StreamBody(self._give(bucket, wanted))

    async def _give(self, bucket: str, wanted: Sequence[tuple[str, bool]]) -> AsyncIterator[bytes]:
        for key, with_content in wanted:
            try:
                answer, manifest = await self._read(bucket, key, with_content)
            except AwsError as error:
                if error.code == "ServiceUnavailable" or not await self._origin.has(bucket):
                    raise
                yield frame(Manifest(key=key, version="", problem=f"{self._origin.region}: {error}"))
                continue
            try:
                yield frame(manifest)
                if manifest.content:
                    async for chunk in answer.body:
                        yield chunk
            finally:
                await answer.body.close()

    async def _read(self, bucket: str, key: str, with_content: bool) -> tuple[Response, Manifest]:
        origin = self._origin
        mode = Headers([("x-amz-checksum-mode", "ENABLED")])
        method = "GET" if with_content else "HEAD"
        answer = await origin.store.send(method, bucket, key, headers=mode)
        try:
            mark = await origin.marks.get(bucket, key)
            known = origin.known(key, answer, mark)
            if known.stamp is None:
                return answer, Manifest(key=key, version="", missing=True)
            if known.adopted:  # from now on it is known by this stamp, whatever the clock says
                await origin.keep(bucket, key, mark_of(known))
            manifest = await self._manifest(bucket, key, known, answer.headers, with_content)
        except BaseException:
            await answer.body.close()
            raise
        return answer, manifest

    async def _manifest(self, bucket: str, key: str, known: Known, headers: Headers, content: bool) -> Manifest:
        stamp = known.stamp
        assert stamp is not None
        amended_us, amended_in = known.amended
        if known.etag is None:
            return Manifest(
                key=key, version=known.version, time_us=stamp.time_us, origin=stamp.region, marker=True,
                amended_us=amended_us, amended_in=amended_in,
            )  # fmt: skip
        size = int(headers.get("content-length") or 0)
        tagged = headers.get("x-amz-tagging-count") not in (None, "0")
        parts = await self._origin.part_sizes(bucket, key, known.etag, size)
        return Manifest(
            key=key,
            version=known.version,
            content=content,
            time_us=stamp.time_us,
            origin=stamp.region,
            size=size,
            etag=stamp.etag,
            parts=parts,
            head=pack(_described(headers)).decode("latin-1"),
            checksum="" if parts else _checksum(headers),
            tags=tuple(await self._origin.tags(bucket, key)) if tagged else (),
            amended_us=amended_us,
            amended_in=amended_in,
        )

    async def take(self, bucket: str, inlet: Inlet) -> list[Outcome]:
        """Take in versions; what became of each, in order. Raises AwsError and UpstreamError for what concerns all."""
        obstacle = (await self._abilities.of(bucket)).obstacle
        if obstacle is not None:
            raise AwsError("InvalidBucketState", f"{self._origin.region}: {obstacle}.")
        outcomes: list[asyncio.Future[Outcome]] = []
        of_key: dict[str, asyncio.Future[Outcome]] = {}
        places = asyncio.Semaphore(AT_ONCE)
        try:
            while (manifest := await inlet.manifest()) is not None:
                content: bytes | None = None
                if manifest.content and (manifest.parts or manifest.size > SMALL_BYTES_MAX):
                    await asyncio.gather(*outcomes)
                    body = inlet.content(manifest.size)
                    outcomes.append(_done(await self._outcome(bucket, manifest, body)))
                    continue
                if manifest.content:
                    content = await read_all(inlet.content(manifest.size), SMALL_BYTES_MAX)
                await places.acquire()
                before = of_key.get(manifest.key)
                task = asyncio.ensure_future(self._in_turn(bucket, manifest, content, before))
                task.add_done_callback(lambda _: places.release())
                of_key[manifest.key] = task
                outcomes.append(task)
            return list(await asyncio.gather(*outcomes))
        finally:
            for each in outcomes:
                each.cancel()

    async def _in_turn(
        self, bucket: str, manifest: Manifest, content: bytes | None, before: asyncio.Future[Outcome] | None
    ) -> Outcome:
        if before is not None:
            await asyncio.wait({before})
        return await self._outcome(bucket, manifest, content)

    async def _outcome(self, bucket: str, manifest: Manifest, content: bytes | StreamBody | None) -> Outcome:
        """What became of one version. Raises what concerns all: UpstreamError, UnloggedError, AwsError."""
        if manifest.missing:
            return {"outcome": "missing"}
        if manifest.problem:
            return {"outcome": "refused", "reason": manifest.problem}
        ahead = how_far_ahead(max(manifest.time_us, manifest.amended_us), self._origin.now_us())
        if ahead is not Ahead.FINE:
            log.warning("a stamp from the future", bucket=bucket, region=manifest.origin, time_us=manifest.time_us)
        if ahead is Ahead.REFUSED:
            return {"outcome": "refused", "reason": f"Written more than a day from now ({manifest.origin})."}
        flight = self._writes.flights.begin(bucket, manifest.key)
        try:
            for _ in range(TRIES):
                try:
                    done = await self._merge(bucket, manifest, content, flight)
                except ConflictError:
                    if isinstance(content, StreamBody):
                        break
                    continue
                conditional = self._abilities.now(bucket).conditional
                if done == "applied" and (flight.crowded or not conditional):
                    await self._writes.put_right(bucket, manifest.key, flight)
                return {"outcome": done}
            return {"outcome": "refused", "reason": "It is written all the time."}
        except AwsError as error:
            if error.code in ("ServiceUnavailable", "IncompleteBody", "NoSuchBucket"):
                raise
            if error.status >= 500 and not await self._origin.has(bucket):
                raise
            return {"outcome": "refused", "reason": f"{error.code}: {error.message}"}
        finally:
            self._writes.flights.end(bucket, manifest.key)

    async def _merge(self, bucket: str, manifest: Manifest, content: bytes | StreamBody | None, flight: Flight) -> str:
        origin, key = self._origin, manifest.key
        seen = await origin.look(bucket, key)
        stamp = Stamp(manifest.time_us, manifest.origin, manifest.etag)
        decision = decide(seen.known, stamp, (manifest.amended_us, manifest.amended_in))
        if decision == "had":
            return "had"
        if decision == "amend":
            await self._tag(bucket, manifest)
            amended = (manifest.amended_us, manifest.amended_in)
            await origin.keep(bucket, key, mark_of(seen.known, amended=amended))
            return "applied"
        if manifest.marker:
            flight.note(await self._delete(bucket, manifest, seen), stamp)
            return "applied"
        if content is None:
            return "content"
        if manifest.parts:
            assert isinstance(content, StreamBody)
            layer = await self._put_parts(bucket, manifest, content, seen)
        else:
            layer = await self._put(bucket, manifest, content, seen)
        flight.note(layer, stamp)
        if manifest.amended_us:
            mark = Mark(
                time_us=stamp.time_us, region=stamp.region, etag=stamp.etag, version=manifest.version,
                amended_us=manifest.amended_us, amended_in=manifest.amended_in,
            )  # fmt: skip
            await origin.keep(bucket, key, mark)
        return "applied"

    def _condition(self, bucket: str, seen: Seen) -> list[tuple[str, str]]:
        """Nobody has written since it was looked at, where the store can say so."""
        abilities = self._abilities.now(bucket)
        if seen.known.etag is None:
            return [("If-None-Match", "*")] if abilities.conditional_create else []
        return [("If-Match", f'"{seen.known.etag}"')] if abilities.conditional_replace else []

    def _described(self, bucket: str, manifest: Manifest) -> Headers:
        note = Note(
            role="replica", time_us=manifest.time_us, region=manifest.origin, etag=manifest.etag,
            version=manifest.version,
        )  # fmt: skip
        lines = unpack(manifest.head.encode("latin-1", "replace"))
        fields = Headers([(name, value) for name, value in lines if _GIVEN.fullmatch(name.lower())])
        fields.set(FIELD, note.pack(manifest.key))
        if manifest.tags and self._abilities.now(bucket).tags:
            fields.set("x-amz-tagging", urlencode(manifest.tags))
        return fields

    async def _put(self, bucket: str, manifest: Manifest, content: bytes | StreamBody, seen: Seen) -> str | None:
        fields = self._described(bucket, manifest)
        for name, value in self._condition(bucket, seen):
            fields.add(name, value)
        if re.fullmatch("[0-9a-f]{32}", manifest.etag):
            fields.set("Content-MD5", b64encode(bytes.fromhex(manifest.etag)).decode())
        if manifest.checksum and self._abilities.now(bucket).checksums:
            checksum = Checksum.unpack(manifest.checksum)
            fields.set(HEADER[checksum.algorithm], checksum.value)
        answer = await self._ask("PUT", bucket, manifest.key, "", fields, content)
        self._check(manifest, answer.headers.get("etag"))
        return answer.headers.get("x-amz-version-id")

    async def _put_parts(self, bucket: str, manifest: Manifest, content: StreamBody, seen: Seen) -> str | None:
        """Upload in the same parts, so that the entity tag stays what it is."""
        key = manifest.key
        _, made = await self._origin.ask(
            "POST", bucket, key, query="uploads", headers=self._described(bucket, manifest)
        )
        upload = xml.parse(made).child("UploadId")
        if upload is None:
            raise failure(500, "", "an upload without an id")
        where = f"uploadId={quote(upload.text, safe='')}"
        done = False
        try:
            cutter = _Cutter(content)
            parts: list[str] = []
            for number, size in enumerate(manifest.parts, 1):
                query = f"partNumber={number}&{where}"
                answer = await self._ask("PUT", bucket, key, query, Headers(), StreamBody(cutter.next(size), size))
                etag = answer.headers.get("etag") or ""
                parts.append(xml.element("PartNumber", str(number)) + xml.element("ETag", etag))
            self._check(manifest, _joined(parts))
            body = "".join(f"<Part>{part}</Part>" for part in parts)
            document = f"<CompleteMultipartUpload>{body}</CompleteMultipartUpload>".encode()
            answer = await self._ask("POST", bucket, key, where, Headers(self._condition(bucket, seen)), document)
            done = True
            return answer.headers.get("x-amz-version-id")
        finally:
            if not done:
                await asyncio.shield(self._abort(bucket, key, where))

    async def _abort(self, bucket: str, key: str, where: str) -> None:
        try:
            answer = await self._origin.store.send("DELETE", bucket, key, query=where)
            await answer.body.close()
        except UpstreamError as error:
            log.warning("an upload is left behind", bucket=bucket, key=key, error=str(error))

    async def _delete(self, bucket: str, manifest: Manifest, seen: Seen) -> str | None:
        layer: str | None = None
        if seen.known.etag is not None:
            condition = self._condition(bucket, seen) if self._abilities.now(bucket).conditional_delete else []
            answer = await self._ask("DELETE", bucket, manifest.key, "", Headers(condition), b"")
            layer = answer.headers.get("x-amz-version-id")
        mark = Mark(
            time_us=manifest.time_us, region=manifest.origin, deleted=True, version=manifest.version, layer=layer or ""
        )
        await self._origin.keep(bucket, manifest.key, mark)
        return layer

    async def _tag(self, bucket: str, manifest: Manifest) -> None:
        if not manifest.tags:
            await self._origin.ask("DELETE", bucket, manifest.key, query="tagging")
            return
        tags = "".join(
            f"<Tag>{xml.element('Key', name)}{xml.element('Value', value)}</Tag>" for name, value in manifest.tags
        )
        document = f"<Tagging><TagSet>{tags}</TagSet></Tagging>".encode()
        digest = b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()
        fields = Headers([("Content-Type", "application/xml"), ("Content-MD5", digest)])
        await self._origin.ask("PUT", bucket, manifest.key, query="tagging", headers=fields, body=document)

    async def _ask(
        self, method: str, bucket: str, key: str, query: str, headers: Headers, body: Body | bytes
    ) -> Response:
        try:
            answer, _ = await self._origin.ask(method, bucket, key, query=query, headers=headers, body=body)
        except AwsError as error:
            if error.status in (409, 412) or error.code in ("PreconditionFailed", "ConditionalRequestConflict"):
                raise ConflictError from error
            raise
        return answer

    def _check(self, manifest: Manifest, etag: str | None) -> None:
        """The store has what was sent. Its entity tag may be of its own making; then its digests have vouched."""
        found = bare(etag)
        if re.fullmatch("[0-9a-f]{32}(-[0-9]+)?", found) and found != manifest.etag:
            raise AwsError("BadDigest", f"The entity tag in {self._origin.region} is {found}, not {manifest.etag}.")

    async def history(self, bucket: str, after: str, limit: int) -> dict[str, Any]:
        """The newest version of every key behind `after`, in the order of the listing."""
        origin = self._origin
        size = max(1, min(limit, HISTORY_MAX))
        query = {"versions": "", "key-marker": after, "max-keys": size, "encoding-type": "url"}
        _, data = await origin.ask("GET", bucket, query=urlencode(query))
        items = listed(data)
        newest: dict[str, str] = {}  # of a key: its latest delete marker's time, empty for an object
        last = ""
        for item in items:
            name, latest, time = item.child("Key"), item.child("IsLatest"), item.child("LastModified")
            if item.tag not in ("Version", "DeleteMarker") or name is None:
                continue
            last = max(last, name.text, key=str.encode)
            if name.text.startswith(SCRATCH):
                continue
            if latest is not None and latest.text == "true" and name.text.encode() > after.encode():
                newest[name.text] = "" if item.tag == "Version" else (time.text if time is not None else "")
        more = any(item.tag == "IsTruncated" and item.text == "true" for item in items)
        places = asyncio.Semaphore(AT_ONCE)

        async def row(key: str, deleted: str) -> list[Any] | None:
            async with places:
                return await self._row(bucket, key, deleted)

        keys = sorted(newest, key=str.encode)
        rows = await asyncio.gather(*(row(key, newest[key]) for key in keys))
        if more and not keys and last.encode() > after.encode():
            return await self.history(bucket, last, limit)
        return {"rows": [each for each in rows if each is not None], "more": more, "newest_only": True}

    async def _status(self, bucket: str, key: str, known: Known) -> str:
        """The region's own word on whether it has arrived elsewhere."""
        if known.role == "replica":
            return "REPLICA"
        if known.role not in ("logged", "upload"):
            return ""
        return await self._writes.standing(bucket, key) or "COMPLETED"

    async def _row(self, bucket: str, key: str, deleted: str) -> list[Any] | None:
        origin = self._origin
        seen = await origin.look(bucket, key)
        known = seen.known
        if known.stamp is None and deleted:  # behind Nearpoint's back; from now on it is known
            time_us = clamped_us(_iso_us(deleted), origin.now_us())
            stamp = Stamp(time_us, origin.region, "")
            await origin.keep(
                bucket, key, Mark(time_us=time_us, region=origin.region, deleted=True, version=version_of(stamp, key))
            )
            known = known_of(
                key, etag=None, note=None, modified_us=0, region=origin.region, now_us=origin.now_us(),
                mark=await origin.marks.get(bucket, key),
            )  # fmt: skip
        if known.stamp is None:
            return None
        if known.adopted:
            await origin.keep(bucket, key, mark_of(known))
        tagged = seen.headers.get("x-amz-tagging-count") not in (None, "0")
        tags = orjson.dumps(await origin.tags(bucket, key)).decode() if tagged and known.etag is not None else ""
        size = int(seen.headers.get("content-length") or 0) if known.etag is not None else 0
        amended_us, amended_in = known.amended
        return [
            key, known.version, known.stamp.time_us, known.stamp.region, known.stamp.etag, amended_us, amended_in,
            size, int(known.etag is None), tags, await self._status(bucket, key, known),
        ]  # fmt: skip


class _Cutter:
    """Cuts a stream into pieces of given sizes."""

    def __init__(self, body: StreamBody) -> None:
        self._chunks = body.__aiter__()
        self._left = b""

    async def next(self, size: int) -> AsyncIterator[bytes]:
        """The next so many bytes. Raises AwsError when they do not come."""
        while size:
            if not self._left:
                self._left = await anext(self._chunks, b"")
                if not self._left:
                    raise AwsError("IncompleteBody")
            piece, self._left = self._left[:size], self._left[size:]
            size -= len(piece)
            yield piece


def _described(headers: Headers) -> list[tuple[str, str]]:
    return [
        (name.lower() if name.lower().startswith("x-amz-") else name, value)
        for name, value in headers
        if _HEAD.fullmatch(name.lower()) and name.lower() != FIELD
    ]


def _checksum(headers: Headers) -> str:
    """The checksum of a whole object, as the embedded store keeps it."""
    if headers.get("x-amz-checksum-type") == "COMPOSITE":
        return ""
    for name, algorithm in ALGORITHM_OF.items():
        value = headers.get(name)
        if value is not None and "-" not in value:
            return Checksum(algorithm, "FULL_OBJECT", value).pack()
    return ""


def _joined(parts: Sequence[str]) -> str:
    """The entity tag of an upload of these parts; empty when theirs are no digests."""
    digests = [re.search('>(?:&quot;|")?([0-9a-f]{32})(?:&quot;|")?</ETag>', part) for part in parts]
    if not all(digests):
        return ""
    joined = hashlib.md5(b"".join(bytes.fromhex(each[1]) for each in digests if each), usedforsecurity=False)
    return f"{joined.hexdigest()}-{len(parts)}"


def _iso_us(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1_000_000)
    except ValueError:
        return 0


def _done(outcome: Outcome) -> asyncio.Future[Outcome]:
    found: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    found.set_result(outcome)
    return found
