"""Takes in the body of a write: decoded, measured, checked against everything the client declared, and on its way to
disk, before anything of it can be seen.

Small content stays in memory and is written with its metadata, in one flush for a whole group of writes; larger content
goes to a file of its own while it arrives.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from nearpoint.awsproto.errors import AwsError
from nearpoint.bucket import checksums
from nearpoint.bucket.checksums import Checksum, Digest
from nearpoint.bucket.disk import Disk, write_all
from nearpoint.bucket.threads import ended, opened
from nearpoint.bucket.writer import unavailable
from nearpoint.signing import UNSIGNED_PAYLOAD, ChunkDecoder, IncompleteBodyError, SignatureError, Verified
from nearpoint.wire.message import Body, BytesBody, Headers, read_all

INLINE_BYTES_MAX = 16 * 1024
DOCUMENT_BYTES_MAX = 4 * 1024 * 1024
BODY_BYTES_MAX = 5 * 1024**3  # S3's quota for one PUT
_BLOCK_BYTES = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What a request says of its body. `length` in bytes, decoded."""

    length: int
    md5: bytes | None
    sha256: str | None
    algorithm: str
    value: str | None  # base64, from a header
    trailer: str | None  # the trailer field that will carry the value


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A body that holds what was declared. `content` is the bytes, or the number of the file that has them on disk."""

    size: int
    etag: str
    checksum: Checksum
    content: bytes | int

    @property
    def files(self) -> tuple[int, ...]:
        """The file that has to go when the write does not come about."""
        return (self.content,) if isinstance(self.content, int) else ()


def read_declared(headers: Headers, payload_hash: str, *, default_algorithm: str) -> Declared:
    """What the header says of the body that follows. `payload_hash` is the verified x-amz-content-sha256.

    Raises AwsError: InvalidDigest, InvalidRequest, MissingContentLength, EntityTooLarge; NotImplemented for appending,
    which only directory buckets do.
    """
    get = headers.get
    if "x-amz-write-offset-bytes" in headers:
        raise AwsError("NotImplemented", extra={"Header": "x-amz-write-offset-bytes"})
    md5 = get("content-md5")
    digest: bytes | None = None
    if md5 is not None:
        try:
            digest = base64.b64decode(md5, validate=True)
        except (binascii.Error, ValueError):
            digest = b""
        if len(digest) != 16:
            raise AwsError("InvalidDigest", "The Content-MD5 you specified is not valid.", extra={"Content-MD5": md5})
    streaming = payload_hash.startswith("STREAMING-")
    text = get("x-amz-decoded-content-length") if streaming else get("content-length")
    if text is None:
        raise AwsError("MissingContentLength")
    if not text.isascii() or not text.isdigit():
        raise AwsError("InvalidArgument", "The content length is not a number.")
    length = int(text)
    if length > BODY_BYTES_MAX:
        raise AwsError("EntityTooLarge", extra={"ProposedSize": text, "MaxSizeAllowed": str(BODY_BYTES_MAX)})
    algorithm = checksums.wanted(get) or default_algorithm
    value = checksums.declared(get)
    trailer = checksums.HEADER[algorithm] if streaming and get("x-amz-trailer") and value is None else None
    return Declared(
        length=length,
        md5=digest,
        sha256=None if streaming or payload_hash == UNSIGNED_PAYLOAD else payload_hash,
        algorithm=algorithm,
        value=value[1] if value else None,
        trailer=trailer,
    )


class Intake:
    """Receives bodies for one store."""

    def __init__(self, disk: Disk, pool: ThreadPoolExecutor) -> None:
        self._disk = disk
        self._pool = pool

    async def receive(
        self,
        body: Body,
        headers: Headers,
        verified: Verified | None,
        *,
        default_algorithm: str = checksums.DEFAULT_ALGORITHM,
    ) -> Received:
        """Read a whole body and check it. A file it made is on disk when this returns, and gone when this raises.

        `verified` is None for a body that no signature covers. Raises AwsError for one that is not what was declared
        or signed.
        """
        payload_hash = UNSIGNED_PAYLOAD if verified is None else verified.payload_hash
        declared = read_declared(headers, payload_hash, default_algorithm=default_algorithm)
        streaming = verified is not None and payload_hash.startswith("STREAMING-")
        decoder = ChunkDecoder(verified, declared.length) if verified is not None and streaming else None
        decode = decoder.feed if decoder is not None else None
        running = _Running(declared)
        try:
            if declared.length <= INLINE_BYTES_MAX:
                content: bytes | int = await self._to_memory(body, declared.length, decode, running)
                trailers = decoder.finish() if decoder is not None else {}
                checksum = running.check(trailers)
                return Received(size=running.size, etag=running.etag, checksum=checksum, content=content)
            return await self._to_file(body, decoder, decode, running)
        except SignatureError as error:
            raise AwsError(error.code, error.text, extra=error.fields) from error
        except IncompleteBodyError as error:
            raise AwsError("IncompleteBody") from error

    async def read_document(self, body: Body, headers: Headers, verified: Verified) -> bytes:
        """The checked body of a call that is not an object's content; empty where there is none."""
        if headers.get("content-length") in (None, "0") and "transfer-encoding" not in headers:
            return b""
        payload_hash = verified.payload_hash
        streaming = payload_hash.startswith("STREAMING-")
        if not streaming and "content-length" not in headers:
            data = await read_all(body, DOCUMENT_BYTES_MAX)
            headers = Headers([*headers, ("Content-Length", str(len(data)))])
            body = BytesBody(data)
        declared = read_declared(headers, payload_hash, default_algorithm=checksums.DEFAULT_ALGORITHM)
        if declared.length > DOCUMENT_BYTES_MAX:
            raise AwsError("MaxMessageLengthExceeded")
        decoder = ChunkDecoder(verified, declared.length) if streaming else None
        running = _Running(declared)
        try:
            data = await self._to_memory(body, declared.length, decoder.feed if decoder else None, running)
            running.check(decoder.finish() if decoder else {})
        except SignatureError as error:
            raise AwsError(error.code, error.text, extra=error.fields) from error
        except IncompleteBodyError as error:
            raise AwsError("IncompleteBody") from error
        return data

    async def _to_memory(
        self, body: Body, length: int, decode: Callable[[bytes], bytes] | None, running: _Running
    ) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for raw in body:
            piece = raw if decode is None else decode(raw)
            size += len(piece)
            if size > length:
                raise AwsError("IncompleteBody", "The body is longer than its declared length.")
            parts.append(piece)
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        running.update(data)
        return bytes(data)

    async def _to_file(
        self,
        body: Body,
        decoder: ChunkDecoder | None,
        decode: Callable[[bytes], bytes] | None,
        running: _Running,
    ) -> Received:
        loop = asyncio.get_running_loop()
        number = self._disk.number()
        try:
            fd = await opened(self._pool, self._disk.create, number)
        except OSError as error:
            raise unavailable(error) from error
        except asyncio.CancelledError:
            self._pool.submit(self._disk.remove, (number,))
            raise
        writing: asyncio.Future[None] | None = None
        try:
            block: list[bytes] = []
            waiting = 0
            try:
                async for raw in body:
                    piece = raw if decode is None else decode(raw)
                    block.append(piece)
                    waiting += len(piece)
                    if waiting >= _BLOCK_BYTES:
                        if writing is not None:
                            await ended(writing)
                        writing = loop.run_in_executor(self._pool, running.write, fd, b"".join(block))
                        block, waiting = [], 0
                if writing is not None:
                    await ended(writing)
                writing = loop.run_in_executor(self._pool, running.write, fd, b"".join(block))
                await ended(writing)
                trailers = decoder.finish() if decoder is not None else {}
                checksum = running.check(trailers)
                writing = loop.run_in_executor(self._pool, self._disk.seal, number, fd)
                await ended(writing)
            except OSError as error:
                if isinstance(error, ConnectionError | TimeoutError):
                    raise
                raise unavailable(error) from error
            return Received(size=running.size, etag=running.etag, checksum=checksum, content=number)
        except BaseException:
            self._pool.submit(self._disk.remove, (number,))
            raise
        finally:
            if writing is not None and not writing.done():
                with suppress(Exception):
                    await ended(writing)
            os.close(fd)


class _Running:
    """The digests of a body as it goes by."""

    __slots__ = ("_checksum", "_declared", "_md5", "_sha256", "size")

    def __init__(self, declared: Declared) -> None:
        self._declared = declared
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256() if declared.sha256 is not None else None
        self._checksum: Digest = checksums.new(declared.algorithm)
        self.size = 0

    @property
    def etag(self) -> str:
        return self._md5.hexdigest()

    def update(self, data: bytes) -> None:
        self.size += len(data)
        self._md5.update(data)
        self._checksum.update(data)
        if self._sha256 is not None:
            self._sha256.update(data)

    def write(self, fd: int, data: bytes) -> None:
        self.update(data)
        write_all(fd, data)

    def check(self, trailers: dict[str, str]) -> Checksum:
        """The body's checksum. Raises AwsError when it is not the body that was declared."""
        declared = self._declared
        if self.size != declared.length:
            raise AwsError("IncompleteBody")
        if self._sha256 is not None and declared.sha256 is not None:
            found = self._sha256.hexdigest()
            if not hmac.compare_digest(found, declared.sha256):
                raise AwsError(
                    "XAmzContentSHA256Mismatch",
                    extra={"ClientComputedContentSHA256": declared.sha256, "S3ComputedContentSHA256": found},
                )
        if declared.md5 is not None and declared.md5 != self._md5.digest():
            raise AwsError("BadDigest", "The Content-MD5 you specified did not match what we received.")
        value = checksums.encode(self._checksum.digest())
        wanted = declared.value
        if declared.trailer is not None:
            wanted = trailers.get(declared.trailer)
            if wanted is None:
                raise AwsError("MalformedTrailerError", "The request contained trailing data that was not well-formed.")
            checksums.check_value(declared.algorithm, wanted)
        if wanted is not None and wanted != value:
            raise AwsError(
                "BadDigest", f"The {declared.algorithm} you specified did not match the calculated checksum."
            )
        return Checksum(declared.algorithm, "FULL_OBJECT", value)
