"""The body of an authenticated request on its way to a store: checked as it passes, never completed when it is wrong.

`x-amz-content-sha256` says how the client protects the body (S3 API Reference, "Signature Calculations": a digest,
UNSIGNED-PAYLOAD, or one of the STREAMING- forms in aws-chunked framing). The store gets the same bytes under its own
signature: a digest is checked here and handed on, chunk signatures are checked here and taken off, and a trailing
checksum travels on as a trailer so that the store checks it too. The last piece is held back until everything before
it has proved right, so a store never sees a wrong body end.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator, Callable

from nearpoint.awsproto.errors import AwsError
from nearpoint.signing import (
    EMPTY_SHA256,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED_PAYLOAD,
    ChunkDecoder,
    ChunkEncoder,
    SignatureError,
    Verified,
)
from nearpoint.wire.message import Body, BytesBody, Headers, StreamBody

AWS_CHUNKED = "aws-chunked"
# S3 wants at least 8 KiB of every chunk but the last.
CHUNK_BYTES = 65_536


class PayloadSpentError(Exception):
    """The body was already read from the client and has not been kept: it cannot be sent again."""


class Payload:
    """A request body that can be handed to a store; see the module's text.

    `payload_hash` is what the store's signature says of the body; `headers` describe it to the store, in place of the
    client's (Content-Length follows from the body itself). `failure` is set once the client's body proved wrong.
    """

    __slots__ = (
        "_body",
        "_decoder",
        "_digest",
        "_is_framed",
        "_trailers",
        "_unframed_headers",
        "failure",
        "headers",
        "length",
        "payload_hash",
        "started",
    )

    def __init__(
        self,
        body: Body,
        *,
        length: int | None,
        headers: list[tuple[str, str]],
        digest: str | None = None,
        decoder: ChunkDecoder | None = None,
        framed: bool = False,
        unframed_headers: list[tuple[str, str]] | None = None,
    ) -> None:
        """`length` is that of the content; `framed`: it goes to the store in aws-chunked framing with its trailers."""
        self._body = body
        self._decoder = decoder
        self._digest = digest
        self._is_framed = framed
        self._unframed_headers = unframed_headers or []
        self._trailers: dict[str, str] = {}
        self.length = length
        self.headers = headers
        self.started = False
        self.failure: AwsError | None = None
        if framed:
            self.payload_hash = STREAMING_UNSIGNED_TRAILER
        else:
            self.payload_hash = UNSIGNED_PAYLOAD if digest is None else digest

    @property
    def kept(self) -> bool:
        """True when the whole body is in memory, checked: it can be sent any number of times."""
        return isinstance(self._body, BytesBody)

    @property
    def data(self) -> bytes | None:
        """The whole body when it is `kept`."""
        return self._body.data if isinstance(self._body, BytesBody) else None

    @property
    def sendable(self) -> bool:
        """True when `open` can give the whole body (again)."""
        return self.kept or not self.started

    async def keep(self, limit_bytes: int) -> None:
        """Read the body into memory and check it, when its declared length is at most `limit_bytes`.

        A trailing checksum becomes an ordinary header. Raises AwsError when the body is not what was signed.
        """
        if self.kept or self.started or self.length is None or self.length > limit_bytes:
            return
        pieces = [piece async for piece in self._checked()]
        data = b"".join(pieces)
        if self._is_framed:
            self.headers = [*self._unframed_headers, *self._trailers.items()]
            self._is_framed = False
        self._body, self._decoder = BytesBody(data), None
        self.payload_hash = self._digest or hashlib.sha256(data).hexdigest()

    def open(self, before: Callable[[], None] | None = None) -> Body:
        """The body to send to the store. Raises PayloadSpentError when it has gone (see `sendable`).

        `before` is called when the store asks for the body, before a byte is taken from the client; it may raise.
        """
        if isinstance(self._body, BytesBody):
            return self._body
        if self.started:
            raise PayloadSpentError
        if self._is_framed:
            return StreamBody(self._framed(before), None)
        if self._decoder is None and self._digest is None:
            return StreamBody(self._plain(before), self.length)
        return StreamBody(self._checked(before), self.length)

    async def close(self) -> None:
        """Let go of the client's body."""
        await self._body.close()

    def _start(self, before: Callable[[], None] | None) -> None:
        if before is not None:
            before()
        self.started = True

    async def _plain(self, before: Callable[[], None] | None) -> AsyncIterator[bytes]:
        self._start(before)
        async for piece in self._body:
            yield piece

    async def _checked(self, before: Callable[[], None] | None = None) -> AsyncIterator[bytes]:
        """The decoded body; its last piece comes only after the whole has proved right."""
        self._start(before)
        decoder = self._decoder
        running = hashlib.sha256() if self._digest is not None else None
        held = b""
        try:
            async for raw in self._body:
                piece = raw if decoder is None else decoder.feed(raw)
                if not piece:
                    continue
                if running is not None:
                    running.update(piece)
                if held:
                    yield held
                held = piece
            if decoder is not None:
                self._trailers = decoder.finish()
        except SignatureError as error:
            raise self._fail(AwsError(error.code, error.text, extra=error.fields)) from error
        if running is not None and self._digest is not None:
            found = running.hexdigest()
            if not hmac.compare_digest(found, self._digest):
                raise self._fail(_digest_mismatch(self._digest, found))
        if held:
            yield held

    async def _framed(self, before: Callable[[], None] | None) -> AsyncIterator[bytes]:
        """The decoded body in unsigned aws-chunked framing, the client's trailers behind it."""
        encoder = ChunkEncoder()
        pieces: list[bytes] = []
        size = 0
        async for piece in self._checked(before):
            pieces.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES:
                yield encoder.feed(b"".join(pieces))
                pieces.clear()
                size = 0
        yield encoder.feed(b"".join(pieces)) + encoder.finish(self._trailers)

    def _fail(self, error: AwsError) -> AwsError:
        self.failure = error
        return error


def payload_of(body: Body, headers: Headers, verified: Verified) -> Payload:
    """The payload of a request whose signature has been verified.

    Raises AwsError for a body that is already known to be wrong or is described wrongly.
    """
    stated = verified.payload_hash
    if not stated.startswith("STREAMING-"):
        description = [("Content-Encoding", value) for value in headers.get_all("content-encoding")]
        if stated == UNSIGNED_PAYLOAD:
            return Payload(body, length=body.length, headers=description)
        if body.length == 0:
            if stated != EMPTY_SHA256:
                raise _digest_mismatch(stated, EMPTY_SHA256)
            return Payload(BytesBody(), length=0, headers=description, digest=stated)
        return Payload(_streamed(body), length=body.length, headers=description, digest=stated)
    length = _declared_length(headers)
    trailers = [name.strip().lower() for name in (headers.get("x-amz-trailer") or "").split(",") if name.strip()]
    if any(not name.startswith("x-amz-checksum-") for name in trailers):
        raise AwsError("InvalidRequest", "The value specified in the x-amz-trailer header is not supported")
    try:
        decoder = ChunkDecoder(verified, length, trailers)
    except SignatureError as error:
        raise AwsError(error.code, error.text, extra=error.fields) from None
    encodings = [part.strip() for value in headers.get_all("content-encoding") for part in value.split(",")]
    encodings = [part for part in encodings if part and part.lower() != AWS_CHUNKED]
    if not trailers:
        description = [("Content-Encoding", ",".join(encodings))] if encodings else []
        return Payload(_streamed(body), length=length, headers=description, decoder=decoder)
    description = [
        ("Content-Encoding", ",".join([AWS_CHUNKED, *encodings])),
        ("X-Amz-Trailer", ",".join(trailers)),
        ("X-Amz-Decoded-Content-Length", str(length)),
    ]
    unframed = [("Content-Encoding", ",".join(encodings))] if encodings else []
    return Payload(
        _streamed(body), length=length, headers=description, decoder=decoder, unframed_headers=unframed, framed=True
    )


def _streamed(body: Body) -> Body:
    """Bytes in memory that nobody has checked yet are read like a stream, once."""
    return StreamBody(aiter(body), body.length) if isinstance(body, BytesBody) else body


def _declared_length(headers: Headers) -> int:
    declared = headers.get("x-amz-decoded-content-length")
    if declared is None:
        raise AwsError("MissingContentLength")
    if not (declared.isascii() and declared.isdigit() and len(declared) <= 15):
        raise AwsError("InvalidArgument", "x-amz-decoded-content-length is not a length")
    return int(declared)


def _digest_mismatch(claimed: str, found: str) -> AwsError:
    return AwsError(
        "XAmzContentSHA256Mismatch",
        extra={"ClientComputedContentSHA256": claimed, "S3ComputedContentSHA256": found},
    )
