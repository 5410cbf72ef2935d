"""The foreign store itself, as the gateway asks it: what it knows of a key, which versions it keeps, what may go in.

Every failure is one of two: `AwsError`, when the store says no, and wire's `UpstreamError`, when it does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote_plus, urlencode

import msgspec

from nearpoint.awsproto import AwsError, xml
from nearpoint.gateway.kept import Marks
from nearpoint.gateway.stamps import FIELD, Known, Layer, Mark, Note, bare, is_hidden, known_of, later, misplaced
from nearpoint.regions.store import Store
from nearpoint.regions.version import Stamp
from nearpoint.wire.message import Body, BodyTooLargeError, Headers, Response, read_all

ANSWER_BYTES_MAX = 8 * 1024 * 1024
ERROR_BYTES_MAX = 64 * 1024
LAYERS_MAX = 10
PUT_RIGHT_TRIES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known of a key, and the header of its object (of the 404 where there is none)."""

    known: Known
    headers: Headers


class Turns:
    """One after the other, key by key."""

    def __init__(self) -> None:
        self._locks: dict[tuple[str, str], tuple[asyncio.Lock, list[None]]] = {}

    @asynccontextmanager
    async def of(self, bucket: str, key: str) -> AsyncIterator[None]:
        """The key's turn."""
        lock, users = self._locks.setdefault((bucket, key), (asyncio.Lock(), []))
        users.append(None)
        try:
            async with lock:
                yield
        finally:
            users.pop()
            if not users:
                del self._locks[(bucket, key)]


class Origin:
    """One foreign store. `now_us` is wall time in microseconds."""

    def __init__(self, store: Store, marks: Marks, *, now_us: Callable[[], int]) -> None:
        self.store = store
        self.marks = marks
        self.region = store.region
        self.now_us = now_us
        self._turns = Turns()

    async def keep(self, bucket: str, key: str, mark: Mark) -> None:
        """Keep a mark, unless a newer one is there. Raises UnloggedError."""
        async with self._turns.of(bucket, key):
            if later(mark, await self.marks.get(bucket, key)) is not None:
                await self.marks.put(bucket, key, mark)

    async def look(self, bucket: str, key: str, query: str = "") -> Seen:
        """What is known of a key now. Raises UnloggedError when the marks cannot be read."""
        mode = Headers([("x-amz-checksum-mode", "ENABLED")])
        answer, mark = await asyncio.gather(
            self.store.send("HEAD", bucket, key, query=query, headers=mode), self.marks.get(bucket, key)
        )
        await answer.body.close()
        return Seen(known=self.known(key, answer, mark), headers=answer.headers)

    def known(self, key: str, answer: Response, mark: Mark | None) -> Known:
        """What a GET's or HEAD's answer says of a key."""
        if answer.status not in (200, 206, 404):
            raise failure(answer.status, "", "")
        found = answer.status != 404
        return known_of(
            key,
            etag=bare(answer.headers.get("etag")) if found else None,
            note=answer.headers.get(FIELD),
            modified_us=modified_us(answer.headers),
            mark=mark,
            region=self.region,
            now_us=self.now_us(),
        )

    async def has(self, bucket: str) -> bool:
        """Whether the store answers for a bucket."""
        answer = await self.store.send("HEAD", bucket)
        await answer.body.close()
        return answer.status == 200

    async def ask(
        self, method: str, bucket: str, key: str | None = None, *, query: str = "", headers: Headers | None = None,
        body: Body | bytes = b"",
    ) -> tuple[Response, bytes]:  # fmt: skip
        """An answer of 2xx, read. Raises AwsError for any other."""
        answer = await self.store.send(method, bucket, key, query=query, headers=headers, body=body)
        try:
            data = await read_all(answer.body, ANSWER_BYTES_MAX)
        except BodyTooLargeError as error:
            raise AwsError("InternalError", f"{self.region}: {error}") from None
        said = error_of(data)
        if answer.status >= 300 or said is not None:  # CompleteMultipartUpload and CopyObject fail with 200, too
            raise failure(answer.status if answer.status >= 300 else 500, *(said or ("", "")))
        return answer, data

    async def tags(self, bucket: str, key: str) -> list[tuple[str, str]]:
        """The tags of an object."""
        _, data = await self.ask("GET", bucket, key, query="tagging")
        found = xml.parse(data).child("TagSet")
        pairs = [(tag.child("Key"), tag.child("Value")) for tag in (found.children if found is not None else ())]
        return [(name.text, value.text if value is not None else "") for name, value in pairs if name is not None]

    async def part_sizes(self, bucket: str, key: str, etag: str, size: int) -> tuple[int, ...]:
        """The sizes of the parts that an object was uploaded in; empty when it was not."""
        _, dash, count = etag.partition("-")
        if not dash or not count.isdigit():
            return ()
        sizes: list[int] = []
        for number in range(1, int(count) + 1):
            answer = await self.store.send("HEAD", bucket, key, query=f"partNumber={number}")
            await answer.body.close()
            length = answer.headers.get("content-length") or ""
            if answer.status not in (200, 206) or not length.isdigit() or bare(answer.headers.get("etag")) != etag:
                raise AwsError("InvalidPart", f"{self.region} does not say how long part {number} is.")
            sizes.append(int(length))
            if number == 1 and len(sizes) < int(count) and (int(count) - 1) * sizes[0] < size <= int(count) * sizes[0]:
                # As everybody uploads: parts of one size and a rest. The entity tag is held against it in the end.
                return (*sizes * (int(count) - 1), size - sizes[0] * (int(count) - 1))
        if sum(sizes) != size:
            raise AwsError("InvalidPart", f"{self.region} says that the parts have {sum(sizes)} of {size} bytes.")
        return tuple(sizes)

    async def layers(self, bucket: str, key: str, landed: Mapping[str, Stamp]) -> list[Layer]:
        """The newest versions of a key, that on top first. `landed` are the stamps of those just made, by id."""
        query = urlencode({"versions": "", "prefix": key, "max-keys": LAYERS_MAX, "encoding-type": "url"})
        _, data = await self.ask("GET", bucket, query=query)
        mark = await self.marks.get(bucket, key)
        found: list[Layer] = []
        for item in listed(data):
            name, id, latest = item.child("Key"), item.child("VersionId"), item.child("IsLatest")
            if item.tag not in ("Version", "DeleteMarker") or name is None or id is None or name.text != key:
                continue
            if id.text in landed:
                layer = Layer(id=id.text, stamp=landed[id.text], noted=True)
            elif item.tag == "DeleteMarker":
                ours = mark is not None and mark.deleted and mark.layer == id.text
                stamp = Stamp(mark.time_us, mark.region, "") if mark is not None and ours else None
                layer = Layer(id=id.text, stamp=stamp, noted=ours)
            else:
                layer = await self._layer(bucket, key, id.text, mark)
            if latest is not None and latest.text == "true":
                found.insert(0, layer)
            else:
                found.append(layer)
        return found

    async def _layer(self, bucket: str, key: str, id: str, mark: Mark | None) -> Layer:
        answer = await self.store.send("HEAD", bucket, key, query=f"versionId={quote(id, safe='')}")
        await answer.body.close()
        note = Note.read(answer.headers.get(FIELD), key)
        known = self.known(key, answer, mark)
        # An upload is as old as its completion, which only a mark says.
        is_sure = (
            note is None or note.role != "upload" or known.stamp != Stamp(note.time_us, note.region, known.etag or "")
        )
        return Layer(id=id, stamp=known.stamp if is_sure else None, noted=note is not None)

    async def put_right(
        self,
        bucket: str,
        key: str,
        landed: MutableMapping[str, Stamp],
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Take away what was put on top of something newer, when several wrote a key at the same time.

        `before` is awaited before each change.
        """
        for _ in range(PUT_RIGHT_TRIES):
            layers = await self.layers(bucket, key, landed)
            wrong = misplaced(layers)
            mark = await self.marks.get(bucket, key) if wrong is None else None
            if wrong is None and (mark is None or not is_hidden(layers, mark)):
                return
            if before is not None:
                await before()
            if wrong is not None:
                await self.ask("DELETE", bucket, key, query=f"versionId={quote(wrong, safe='')}")
                continue
            assert mark is not None
            answer, _ = await self.ask("DELETE", bucket, key)
            layer = answer.headers.get("x-amz-version-id") or ""
            landed[layer] = Stamp(mark.time_us, mark.region, "")
            await self.keep(bucket, key, msgspec.structs.replace(mark, layer=layer))


def modified_us(headers: Headers) -> int:
    """Last-Modified in microseconds since 1970; 0 without one."""
    try:
        return int(parsedate_to_datetime(headers.get("last-modified") or "").timestamp()) * 1_000_000
    except (ValueError, TypeError):
        return 0


def listed(data: bytes) -> list[xml.Node]:
    """The elements of a listing, their keys decoded (`encoding-type=url`, where the store has heard of it).

    Raises AwsError for what is no listing.
    """
    try:
        root = xml.parse(data, bytes_max=ANSWER_BYTES_MAX)
    except xml.XmlError as error:
        raise AwsError("ServiceUnavailable", f"A listing cannot be read: {error}") from None
    if root.child("EncodingType") is not None:
        for item in root.children:
            name = item.child("Key")
            if name is not None:
                name.text = unquote_plus(name.text)
    return root.children


def error_of(data: bytes) -> tuple[str, str] | None:
    """Code and message of an S3 error document, None for anything else."""
    if b"<Error" not in data[:1000]:
        return None
    try:
        root = xml.parse(data)
    except xml.XmlError:
        return None
    if root.tag != "Error":
        return None
    code, text = root.child("Code"), root.child("Message")
    return (code.text if code is not None else "", text.text if text is not None else "")


def failure(status: int, code: str, text: str) -> AwsError:
    """A store's refusal. What passes by itself is ServiceUnavailable."""
    if status in (408, 429, 502, 503, 504):
        return AwsError("ServiceUnavailable", f"{code or status}: {text}" if text else None)
    if status >= 500:
        return AwsError(code or "InternalError", text or None, status=status)
    known = {403: "AccessDenied", 404: "NoSuchKey", 412: "PreconditionFailed"}
    return AwsError(code or known.get(status, "InvalidRequest"), text or None, status=status)


def is_passing(error: AwsError) -> bool:
    """Whether a refusal says nothing lasting of the object: the store failed (SeaweedFS does for seconds after a start,
    though it answers for the bucket), or somebody wrote the object while it was read."""
    return error.status >= 500 or error.code == "InvalidPart"
