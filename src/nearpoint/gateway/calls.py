"""One authenticated S3 call of a client to a foreign store, and what is done with calls that write.

What changes an object goes through `writes`; everything else goes on as it came. In what comes back nobody sees the
field in which the stamp stands, and how the object's copies are is said as S3 says it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, unquote

from nearpoint.awsproto import AwsError, Operation, xml
from nearpoint.awsproto.service import load_service
from nearpoint.gateway.entries import UnloggedError
from nearpoint.gateway.kept import Kept
from nearpoint.gateway.origin import Origin, error_of, failure
from nearpoint.gateway.stamps import FIELD, Note, bare
from nearpoint.gateway.writes import Writes
from nearpoint.regions.capabilities import PREFIX as SCRATCH
from nearpoint.regions.forward import forward
from nearpoint.regions.payload import Payload
from nearpoint.regions.rules import Tags
from nearpoint.wire.message import BodyTooLargeError, Headers, Request, Response, read_all

DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
DELETES_AT_ONCE = 16
KEYS_MAX = 1000  # S3 API Reference, DeleteObjects
_CONTENT = frozenset(
    {"cache-control", "content-disposition", "content-encoding", "content-language", "content-type", "expires"}
)
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A client's call. `query` is decoded; `request` carries it raw."""

    request: Request
    operation: Operation
    bucket: str | None
    key: str | None
    query: dict[str, list[str]]
    payload: Payload

    @property
    def names_version(self) -> bool:
        """Whether it is about one version."""
        return "versionId" in self.query


class Calls:
    """Answers the S3 calls of clients."""

    def __init__(self, origin: Origin, writes: Writes, kept: Kept) -> None:
        self._origin = origin
        self._writes = writes
        self._kept = kept
        self._service = load_service("s3")
        self._handlers: dict[str, Callable[[Call, str, str], Awaitable[Response]]] = {
            "PutObject": self._put,
            "CopyObject": self._copy,
            "CreateMultipartUpload": self._create,
            "CompleteMultipartUpload": self._complete,
            "DeleteObject": self._delete,
            "PutObjectTagging": self._tag,
            "DeleteObjectTagging": self._tag,
        }

    async def answer(self, call: Call) -> Response:
        """The answer. Raises AwsError, and UpstreamError when the store does not answer."""
        name, bucket, key = call.operation.name, call.bucket, call.key
        if bucket is not None and self._kept.takes_part(bucket):
            if name == "DeleteObjects":
                return await self._delete_many(call, bucket)
            handler = self._handlers.get(name)
            scratch = key is not None and key.startswith(SCRATCH)
            if handler is not None and key is not None and not call.names_version and not scratch:
                return await handler(call, bucket, key)
        response = await self._send(call)
        if key is not None and call.request.method in ("GET", "HEAD"):
            await self._dress(call, response)
        return response

    async def _send(self, call: Call, headers: Headers | None = None) -> Response:
        request = call.request
        if headers is not None:
            request = Request(request.method, request.target, headers, request.body)
        return await forward(request, call.payload, self._origin.store, bucket=call.bucket or "", key=call.key)

    async def _dress(self, call: Call, response: Response) -> None:
        """What a client sees of an object."""
        headers, bucket, key = response.headers, call.bucket or "", call.key or ""
        note = Note.read(headers.get(FIELD), key)
        if FIELD in headers:
            headers.remove(FIELD)
        if not self._kept.takes_part(bucket) or call.names_version:
            return
        try:
            if note is not None and response.status in (200, 206, 304):
                if note.role == "replica":
                    headers.set("x-amz-replication-status", "REPLICA")
                elif note.role != "quiet":
                    headers.set("x-amz-replication-status", await self._writes.standing(bucket, key) or "COMPLETED")
            elif response.status == 404 and "x-amz-delete-marker" not in headers:
                mark = await self._origin.marks.get(bucket, key)
                if mark is not None and mark.deleted:
                    headers.set("x-amz-delete-marker", "true")
        except UnloggedError:
            pass  # it cannot be said now

    def _noted(self, headers: Headers, key: str, time_us: int, role: str) -> Headers:
        note = Note(role=role, time_us=time_us, region=self._origin.region)  # type: ignore[arg-type]
        noted = headers.copy()
        noted.set(FIELD, note.pack(key))
        return noted

    def _role(self, bucket: str, key: str, tags: Tags) -> str:
        rules = self._kept.rules(bucket)
        return "logged" if any(rule.matches(key, tags) for rule in rules) else "quiet"

    async def _put(self, call: Call, bucket: str, key: str) -> Response:
        headers = call.request.headers
        tags = _tags_of(headers)
        role = self._role(bucket, key, tags)
        return await self._writes.write(
            bucket, key, "put", size=call.payload.length or 0, tags=tags,
            send=lambda time_us: self._send(call, self._noted(headers, key, time_us, role)),
        )  # fmt: skip

    async def _create(self, call: Call, bucket: str, key: str) -> Response:
        headers = call.request.headers
        role = "upload" if self._role(bucket, key, _tags_of(headers)) == "logged" else "quiet"
        return await self._send(call, self._noted(headers, key, self._origin.now_us(), role))

    async def _complete(self, call: Call, bucket: str, key: str) -> Response:
        async def send(_: int) -> Response:
            response = await self._send(call)
            if response.status != 200:
                return response
            return await _whole(response)

        return await self._writes.write(bucket, key, "put", send, completes=True)

    async def _copy(self, call: Call, bucket: str, key: str) -> Response:
        """A copy gets its own stamp, so all that it takes over of its source's metadata is said anew."""
        headers = call.request.headers.copy()
        source_bucket, source_key, version = _source(headers.get("x-amz-copy-source") or "")
        tags: Tags | None = _tags_of(headers)
        if (headers.get("x-amz-metadata-directive") or "COPY").upper() == "COPY":
            query = f"versionId={quote(version, safe='')}" if version else ""
            seen = await self._origin.store.send("HEAD", source_bucket, source_key, query=query)
            await seen.body.close()
            if seen.status != 200:
                return await self._send(call)  # the store has the words for what is wrong
            for name, _ in list(headers):
                if name.lower() in _CONTENT or name.lower().startswith("x-amz-meta-"):
                    headers.remove(name)
            for name, value in seen.headers:
                lowered = name.lower()
                if lowered in _CONTENT or (lowered.startswith("x-amz-meta-") and lowered != FIELD):
                    headers.add(name, value)
            headers.set("x-amz-metadata-directive", "REPLACE")
            if "x-amz-copy-source-if-match" not in headers:
                headers.set("x-amz-copy-source-if-match", seen.headers.get("etag") or "")
        if (headers.get("x-amz-tagging-directive") or "COPY").upper() == "COPY":
            tags = None
            if any(rule.tags for rule in self._kept.rules(bucket)):
                tags = await self._origin.tags(source_bucket, source_key)
        role = self._role(bucket, key, tags or ())

        async def send(time_us: int) -> Response:
            return await _whole(await self._send(call, self._noted(headers, key, time_us, role)))

        return await self._writes.write(bucket, key, "put", send, tags=tags)

    async def _delete(self, call: Call, bucket: str, key: str) -> Response:
        return await self._writes.write(bucket, key, "marker", lambda _: self._send(call), tags=())

    async def _tag(self, call: Call, bucket: str, key: str) -> Response:
        tags: list[tuple[str, str]] = []
        if call.operation.name == "PutObjectTagging":
            params = self._service.read_params(
                call.operation, {"Bucket": bucket, "Key": key}, call.query, call.request.headers,
                await document(call.payload),
            )  # fmt: skip
            tags = [(tag["Key"], tag["Value"]) for tag in params["Tagging"]["TagSet"]]
        return await self._writes.write(bucket, key, "amend", lambda _: self._send(call), tags=tags)

    async def _delete_many(self, call: Call, bucket: str) -> Response:
        """Key by key, each with its own entry in the log."""
        body = await document(call.payload)
        params = self._service.read_params(call.operation, {"Bucket": bucket}, call.query, call.request.headers, body)
        objects = params["Delete"]["Objects"]
        if len(objects) > KEYS_MAX:
            raise AwsError("MalformedXML")
        places = asyncio.Semaphore(DELETES_AT_ONCE)

        async def one(wanted: dict[str, str]) -> str:
            async with places:
                return await self._delete_one(bucket, wanted, call.request.headers)

        answers = await asyncio.gather(*(one(wanted) for wanted in objects))
        if params["Delete"].get("Quiet"):
            answers = [answer for answer in answers if answer.startswith("<Error>")]
        text = xml.document("DeleteResult", _NAMESPACE, "".join(answers))
        return Response(200, Headers([("Content-Type", "application/xml")]), text)

    async def _delete_one(self, bucket: str, wanted: dict[str, str], given: Headers) -> str:
        key, version = wanted["Key"], wanted.get("VersionId")
        named = xml.element("Key", key) + ("" if version is None else xml.element("VersionId", version))
        query = "" if version is None else f"versionId={quote(version, safe='')}"
        headers = Headers((name, value) for name, value in given if name.lower() == "x-amz-bypass-governance-retention")
        if wanted.get("ETag"):
            headers.set("If-Match", wanted["ETag"])

        async def send(_: int) -> Response:
            return await self._origin.store.send("DELETE", bucket, key, query=query, headers=headers)

        try:
            if version is None:
                answer = await self._writes.write(bucket, key, "marker", send, tags=())
            else:
                answer = await send(0)
            data = await read_all(answer.body, DOCUMENT_BYTES_MAX)
            if answer.status >= 300:
                raise failure(answer.status, *(error_of(data) or ("", "")))
        except AwsError as error:
            said = xml.element("Code", error.code) + xml.element("Message", error.message)
            return f"<Error>{named}{said}</Error>"
        layer = answer.headers.get("x-amz-version-id")
        if answer.headers.get("x-amz-delete-marker") == "true" and version is None:
            named += xml.element("DeleteMarker", "true")
            named += "" if layer is None else xml.element("DeleteMarkerVersionId", layer)
        return f"<Deleted>{named}</Deleted>"


async def document(payload: Payload) -> bytes:
    """A request's XML, checked; it can still be sent on. Raises AwsError."""
    await payload.keep(DOCUMENT_BYTES_MAX)
    if payload.data is None:
        raise AwsError("MissingContentLength" if payload.length is None else "MaxMessageLengthExceeded")
    return payload.data


async def _whole(response: Response) -> Response:
    """An answer whose status says 200 before its document says whether it went well, with the status it deserves."""
    try:
        data = await read_all(response.body, DOCUMENT_BYTES_MAX)
    except BodyTooLargeError as error:
        raise AwsError("InternalError", str(error)) from None
    headers = response.headers
    for name in ("content-length", "transfer-encoding"):
        headers.remove(name)
    said = error_of(data)
    if said is not None and response.status < 300:
        return Response(failure(500, *said).status, headers, data)
    if response.status == 200 and "etag" not in headers:
        try:
            etag = xml.parse(data).child("ETag")
        except xml.XmlError:
            etag = None
        if etag is not None:
            headers.set("ETag", f'"{bare(etag.text)}"')
    return Response(response.status, headers, data)


def _tags_of(headers: Headers) -> list[tuple[str, str]]:
    return parse_qsl(headers.get("x-amz-tagging") or "", keep_blank_values=True)


def _source(value: str) -> tuple[str, str, str]:
    """Bucket, key and version id of `x-amz-copy-source`. Raises AwsError."""
    path, _, version = value.partition("?versionId=")
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if not bucket or not key:
        raise AwsError("InvalidArgument", "Invalid copy source object key")
    return bucket, key, version
