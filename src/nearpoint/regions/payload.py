"""The body of an authenticated request on its way to a store: checked as it passes, never completed when it is wrong.

`x-amz-content-sha256` says how the client protects the body (S3 API Reference, "Signature Calculations": a digest,
UNSIGNED-PAYLOAD, or one of the STREAMING- forms in aws-chunked framing). The store gets the same bytes under its own
signature: a digest is checked here and handed on, chunk signatures are checked here and taken off, and a trailing
checksum travels on as a trailer so that the store checks it too. The last piece is held back until everything before
it has proved right, so a store never sees a wrong body end.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable

from nearpoint.awsproto.errors import AwsError
from nearpoint.regions.integrity import Integrity
from nearpoint.regions.replay import Replay, SpoolSpace
from nearpoint.signing import (
    EMPTY_SHA256,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED_PAYLOAD,
    ChunkDecoder,
    ChunkEncoder,
    SignatureError,
    Verified,
)
from nearpoint.wire.inbound import InboundBody
from nearpoint.wire.message import Body, BytesBody, Headers, StreamBody

AWS_CHUNKED = "aws-chunked"
# S3 wants at least 8 KiB of every chunk but the last.
CHUNK_BYTES = 65_536


class PayloadSpentError(Exception):
    """The body was already read from the client and has not been kept: it cannot be sent again."""


class _Source:
    """The client's body, decoded and checked. Its last piece comes only after the whole has proved right.

    Whoever waits for a piece may be cancelled; the next one to ask gets it.
    """

    __slots__ = (
        "_body",
        "_decoder",
        "_digest",
        "_ended",
        "_held",
        "_iterator",
        "_reading",
        "_running",
        "integrity",
        "trailers",
    )

    def __init__(self, body: Body, decoder: ChunkDecoder | None, digest: str | None) -> None:
        self._body = body
        self._decoder = decoder
        self._digest = digest
        self._running = hashlib.sha256() if digest is not None else None
        self._iterator: AsyncIterator[bytes] | None = None
        self._reading: asyncio.Future[bytes | None] | None = None
        self._held = b""
        self._ended = False
        self.integrity: Integrity | None = None
        self.trailers: dict[str, str] = {}

    async def next(self) -> bytes | None:
        """The next piece, None after the last. Raises AwsError when the body is not what was signed."""
        while not self._ended:
            raw = await self._raw()
            try:
                piece = self._take(raw)
            except SignatureError as error:
                raise AwsError(error.code, error.text, extra=error.fields) from error
            if piece:
                return piece
        piece, self._held = self._held, b""
        return piece or None

    def _take(self, raw: bytes | None) -> bytes:
        """Take in what arrived (None: the end); the piece that is ready because of it."""
        decoder, running = self._decoder, self._running
        if raw is None:
            if decoder is not None:
                self.trailers = decoder.finish()
            if running is not None and self._digest is not None:
                found = running.hexdigest()
                if not hmac.compare_digest(found, self._digest):
                    raise _digest_mismatch(self._digest, found)
            if self.integrity is not None:
                self.integrity.check(self.trailers)
            self._ended = True
            return b""
        piece = raw if decoder is None else decoder.feed(raw)
        if not piece:
            return b""
        if self.integrity is not None:
            self.integrity.update(piece)
        if running is not None:
            running.update(piece)
        elif decoder is None and self.integrity is None:
            return piece
        ready, self._held = self._held, piece
        return ready

    async def _raw(self) -> bytes | None:
        if self._iterator is None:
            self._iterator = aiter(self._body)
        if isinstance(self._body, InboundBody):
            return await anext(self._iterator, None)
        if self._reading is None:  # cancelling a generator would end it, so it runs in a task of its own
            self._reading = asyncio.ensure_future(_next_of(self._iterator))
        raw = await asyncio.shield(self._reading)
        self._reading = None
        return raw

    async def close(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None
        await self._body.close()


async def _next_of(iterator: AsyncIterator[bytes]) -> bytes | None:
    return await anext(iterator, None)


class Payload:
    """A request body that can be handed to a store; see the module's text.

    `payload_hash` is what the store's signature says of the body; `headers` describe it to the store, in place of the
    client's (Content-Length follows from the body itself). `failure` is set once the client's body proved wrong.
    """

    __slots__ = (
        "_attempt",
        "_digest",
        "_has_trailers",
        "_is_framed",
        "_replay",
        "_source",
        "_turn",
        "_unframed_headers",
        "data",
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
        self._digest = digest
        self._is_framed = framed
        self._has_trailers = framed
        self._unframed_headers = unframed_headers or []
        self._replay: Replay | None = None
        self._attempt = 0
        self._turn: asyncio.Lock | None = None
        self.data: bytes | None = None
        self._source: _Source | None = None
        if type(body) is BytesBody:
            self.data = body.data
        else:
            self._source = _Source(body, decoder, digest)
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
        """True when the whole body is in memory (`data`), checked: it can be sent any number of times."""
        return self.data is not None

    @property
    def sendable(self) -> bool:
        """True when `open` can give the whole body (again)."""
        return self.kept or not self.started or (self._replay is not None and self._replay.whole)

    async def keep(self, limit_bytes: int) -> None:
        """Read the body into memory and check it, when its declared length is at most `limit_bytes`.

        A trailing checksum becomes an ordinary header. Raises AwsError when the body is not what was signed.
        """
        if self.data is not None or self.started or self.length is None or self.length > limit_bytes:
            return
        pieces = [piece async for piece in self._pieces(None)]
        self.replace(b"".join(pieces))

    def replace(self, data: bytes) -> None:
        """Let these bytes, which have been checked, be the body."""
        if self._has_trailers:
            trailers = self._source.trailers if self._source is not None else {}
            self.headers = [*self._unframed_headers, *trailers.items()]
            self._is_framed = self._has_trailers = False
        elif self.data is not None:
            self._digest = None
        self.data = data
        self.length = len(data)
        self.payload_hash = self._digest or hashlib.sha256(data).hexdigest()

    def unframe(self) -> None:
        """Send the content by itself, without the trailers: for a store that takes no such framing."""
        if self._is_framed and not self.started and self.data is None:
            self._is_framed = False
            self.headers = self._unframed_headers
            self.payload_hash = UNSIGNED_PAYLOAD

    def hold_to(self, integrity: Integrity) -> None:
        """Check the body against these checksums as well, before it has begun to be read. Raises AwsError."""
        if self._source is not None and not self.started:
            self._source.integrity = integrity
        elif self.data is not None:
            integrity.update(self.data)
            integrity.check(self._source.trailers if self._source is not None else {})

    def record(self, space: SpoolSpace) -> None:
        """Keep what is read from now on, as long as it fits, so that it can be sent again."""
        if self.data is None and not self.started and self._replay is None:
            self._replay = Replay(space)

    def forget(self) -> None:
        """Let go of what `record` has kept: the body will not be sent again."""
        if self._replay is not None:
            self._replay.close()

    def open(self, before: Callable[[], None] | None = None) -> Body:
        """The body to send to the store. Raises PayloadSpentError when it has gone (see `sendable`).

        `before` is called when the store asks for the body, before a byte is taken from the client; it may raise.
        Only one of the bodies given may be read at a time.
        """
        if self.data is not None:
            return BytesBody(self.data)
        if not self.sendable:
            raise PayloadSpentError
        if self._is_framed:
            return StreamBody(self._framed(before), None)
        return StreamBody(self._pieces(before), self.length)

    async def close(self) -> None:
        """Let go of the client's body."""
        self.forget()
        if self._source is not None:
            await self._source.close()

    async def _pieces(self, before: Callable[[], None] | None) -> AsyncIterator[bytes]:
        """The decoded body, from its beginning."""
        assert self._source is not None
        if before is not None:
            before()
        if self._turn is None:
            self._turn = asyncio.Lock()
        self._attempt += 1
        attempt, replay = self._attempt, self._replay
        again, self.started = self.started, True
        if again and replay is not None:
            async with self._turn:  # whoever was reading before has been told to stop, and may not have heard yet
                pass
            for piece in replay:
                yield piece
        while True:
            async with self._turn:
                if attempt != self._attempt:
                    raise PayloadSpentError
                try:
                    next_piece = await self._source.next()
                except AwsError as error:
                    self.failure = error
                    raise
                if next_piece is not None and replay is not None:
                    replay.add(next_piece)
            if next_piece is None:
                return
            yield next_piece

    async def _framed(self, before: Callable[[], None] | None) -> AsyncIterator[bytes]:
        """The decoded body in unsigned aws-chunked framing, the client's trailers behind it."""
        assert self._source is not None
        encoder = ChunkEncoder()
        pieces: list[bytes] = []
        size = 0
        async for piece in self._pieces(before):
            pieces.append(piece)
            size += len(piece)
            if size >= CHUNK_BYTES:
                yield encoder.feed(b"".join(pieces))
                pieces.clear()
                size = 0
        yield encoder.feed(b"".join(pieces)) + encoder.finish(self._source.trailers)


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
