"""Versions of other regions into a foreign store, as replication sends them (`bucket.document`).

What comes in takes the key's place if it is newer, on the condition that nobody has written meanwhile; where the store
knows no such condition, it is looked at afterwards and taken away again if it hides something newer.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import structlog

from nearpoint.awsproto import AwsError, xml
from nearpoint.bucket.checksums import HEADER, Checksum
from nearpoint.bucket.document import Inlet, Manifest
from nearpoint.bucket.metadata import unpack
from nearpoint.gateway.abilities import Abilities
from nearpoint.gateway.origin import Origin, Seen, failure, is_passing
from nearpoint.gateway.stamps import DESCRIBING, FIELD, Mark, Note, bare, decide, mark_of
from nearpoint.gateway.writes import Flight, Writes
from nearpoint.regions.version import Ahead, Stamp, how_far_ahead
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.message import Body, Headers, Response, StreamBody, read_all

log = structlog.get_logger("nearpoint.gateway")

SMALL_BYTES_MAX = 1024 * 1024  # what is held in memory, so that it can be sent again
AT_ONCE = 16
TRIES = 5
Outcome = dict[str, Any]


class ConflictError(Exception):
    """Somebody has written the key since it was looked at."""


class Taking:
    """Takes versions into one foreign store."""

    def __init__(self, origin: Origin, writes: Writes, abilities: Abilities) -> None:
        self._origin = origin
        self._writes = writes
        self._abilities = abilities

    async def take(self, bucket: str, inlet: Inlet) -> list[Outcome]:
        """Take in versions; what became of each, in order. Raises AwsError and UpstreamError for what concerns all.

        What has been begun is ended, though nobody wait for it any more.
        """
        obstacle = (await self._abilities.of(bucket)).obstacle
        if obstacle is not None:
            raise AwsError("InvalidBucketState", f"{self._origin.region}: {obstacle}.")
        outcomes: list[asyncio.Future[Outcome]] = []
        of_key: dict[str, asyncio.Future[Outcome]] = {}
        places = asyncio.Semaphore(AT_ONCE)
        while (manifest := await inlet.manifest()) is not None:
            content: bytes | None = None
            if manifest.content and (manifest.parts or manifest.size > SMALL_BYTES_MAX):
                await _all(outcomes)
                body = inlet.content(manifest.size)
                outcomes.append(_done(await self._outcome(bucket, manifest, body)))
                continue
            if manifest.content:
                content = await read_all(inlet.content(manifest.size), SMALL_BYTES_MAX)
            await places.acquire()
            before = of_key.get(manifest.key)
            task = asyncio.ensure_future(self._in_turn(bucket, manifest, content, before))
            task.add_done_callback(lambda ended: _let_in(places, ended))
            of_key[manifest.key] = task
            outcomes.append(task)
        return await _all(outcomes)

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
            return {"outcome": "refused", "reason": manifest.problem, "passing": manifest.passing}
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
            return {"outcome": "refused", "reason": "It is written all the time.", "passing": True}
        except AwsError as error:
            if error.code in ("ServiceUnavailable", "IncompleteBody", "NoSuchBucket"):
                raise
            if error.status >= 500 and not await self._origin.has(bucket):
                raise
            return {"outcome": "refused", "reason": f"{error.code}: {error.message}", "passing": is_passing(error)}
        finally:
            self._writes.flights.end(bucket, manifest.key)

    async def _merge(self, bucket: str, manifest: Manifest, content: bytes | StreamBody | None, flight: Flight) -> str:
        origin, key = self._origin, manifest.key
        seen = await origin.look(bucket, key)
        stamp = Stamp(manifest.time_us, manifest.origin, manifest.etag)
        decision = decide(seen.known, stamp, (manifest.amended_us, manifest.amended_in))
        if decision == "had":
            if seen.known.stamp == stamp:  # it may have been put there by somebody who was killed before looking again
                await self._writes.put_right(bucket, key, flight)
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
        fields = Headers([(name, value) for name, value in lines if DESCRIBING.fullmatch(name.lower())])
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


def _joined(parts: Sequence[str]) -> str:
    """The entity tag of an upload of these parts; empty when theirs are no digests."""
    digests = [re.search('>(?:&quot;|")?([0-9a-f]{32})(?:&quot;|")?</ETag>', part) for part in parts]
    if not all(digests):
        return ""
    joined = hashlib.md5(b"".join(bytes.fromhex(each[1]) for each in digests if each), usedforsecurity=False)
    return f"{joined.hexdigest()}-{len(parts)}"


async def _all(outcomes: Sequence[asyncio.Future[Outcome]]) -> list[Outcome]:
    """All of them, when they are there. Whoever is cancelled meanwhile cancels none."""
    if outcomes:
        await asyncio.wait(outcomes)
    return [each.result() for each in outcomes]


def _let_in(places: asyncio.Semaphore, ended: asyncio.Future[Outcome]) -> None:
    places.release()
    if not ended.cancelled():
        ended.exception()  # it has been seen, though nobody may ask for it any more


def _done(outcome: Outcome) -> asyncio.Future[Outcome]:
    found: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    found.set_result(outcome)
    return found
