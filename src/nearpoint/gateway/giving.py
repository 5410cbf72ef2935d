"""Versions out of a foreign store, as replication sends them (`bucket.document`), and what there is to compare.

What goes out is what the key is now: a foreign store's older versions have no stamps that others could order them by.
What was written behind Nearpoint's back is adopted when it is first looked at: from then on its stamp is kept.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import orjson

from nearpoint.awsproto import AwsError
from nearpoint.bucket.checksums import ALGORITHM_OF, Checksum
from nearpoint.bucket.document import Manifest, frame
from nearpoint.bucket.metadata import pack
from nearpoint.gateway.origin import Origin, is_passing, listed
from nearpoint.gateway.stamps import DESCRIBING, FIELD, Known, Mark, known_of, mark_of, version_of
from nearpoint.gateway.writes import Writes
from nearpoint.regions.capabilities import PREFIX as SCRATCH
from nearpoint.regions.version import Stamp, clamped_us
from nearpoint.wire.message import Headers, Response, StreamBody

AT_ONCE = 16
HISTORY_MAX = 1000
_HEAD = re.compile(DESCRIBING.pattern + r"|x-amz-website-redirect-location|x-amz-server-side-encryption")


class Giving:
    """Gives versions of one foreign store."""

    def __init__(self, origin: Origin, writes: Writes) -> None:
        self._origin = origin
        self._writes = writes

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
                yield frame(
                    Manifest(key=key, version="", problem=f"{self._origin.region}: {error}", passing=is_passing(error))
                )
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

    async def history_of(self, bucket: str, key: str) -> dict[str, Any]:
        """The newest version of one key, whether or not the store lists it."""
        row = await self._row(bucket, key, "")
        return {"rows": [] if row is None else [row], "more": False, "newest_only": True}

    async def knows(self, bucket: str, versions: Sequence[tuple[str, str]]) -> list[bool]:
        """Of versions by key and id, whether each is what its key is. What was removed is not remembered here."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(key: str, version: str) -> bool:
            async with places:
                return (await self._origin.look(bucket, key)).known.version == version

        return await asyncio.gather(*(one(key, version) for key, version in versions))

    async def _status(self, bucket: str, key: str, known: Known) -> str:
        """The region's own word on whether it has arrived elsewhere."""
        if known.role == "replica":
            return "REPLICA"
        if known.role == "quiet":
            return ""
        # Of what was written past Nearpoint it is not known that it has ever been elsewhere.
        return await self._writes.standing(bucket, key) or ("COMPLETED" if known.role is not None else "")

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


def _iso_us(text: str) -> int:
    try:
        return int(datetime.fromisoformat(text).timestamp() * 1_000_000)
    except ValueError:
        return 0
