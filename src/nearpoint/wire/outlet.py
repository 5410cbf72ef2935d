"""The writing half of a server's connection: answers to bytes, at the client's pace.

What is prebuilt goes out as it is; a handler's answer gets its head here and is framed (RFC 9112 §6). When the client
takes no more, whoever writes waits. What to answer, and when, is the next half's (`connection`).
"""

from __future__ import annotations

import asyncio
import socket
import struct
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from nearpoint.wire import framing as wire_framing
from nearpoint.wire.exchange import ServerExchange
from nearpoint.wire.filebody import FileBody, SpanBody
from nearpoint.wire.filesend import FileSender, PeerGoneError
from nearpoint.wire.intake import Intake
from nearpoint.wire.message import BytesBody, Headers, Peer, Response

if TYPE_CHECKING:
    from nearpoint.wire.server import Server

log = structlog.get_logger("nearpoint.wire")

WRITE_HIGH_BYTES = 262_144
_FULL_BLOCK_BYTES = 16_384  # read and handed to the transport where the socket takes no more


class Outlet(Intake):
    """Writes answers to one connection."""

    __slots__ = (
        "_files",
        "_unsent_bytes",
        "_write_paused",
        "_write_since",
        "_write_waiter",
        "peer",
    )

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.peer = Peer("", "http")
        self._files: FileSender | None = None
        self._write_paused = False
        self._write_waiter: asyncio.Future[None] | None = None
        self._write_since = 0.0
        self._unsent_bytes = 0

    # --- the client's pace

    def pause_writing(self) -> None:
        self._write_paused = True
        self._write_since = self._server.ticker.now
        self._unsent_bytes = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._wake_writer()
        self._advance()

    def _wake_writer(self) -> None:
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)

    async def _writable(self) -> None:
        self._write_waiter = self._server.loop.create_future()
        try:
            await self._write_waiter
        finally:
            self._write_waiter = None

    # --- what is prebuilt

    def _flush(self) -> None:
        out = self._out
        if len(out) == 1:
            self._transport.write(out[0])
        elif out:
            self._transport.writelines(out)
        self._out = []
        self._since = self._server.ticker.now

    def _send_reply(self, reply: Sequence[bytes | FileBody]) -> None:
        """Write a prebuilt answer whose body lies in a file, after what has been prepared before it."""
        *parts, body = reply
        assert type(body) is FileBody
        self._out.extend(parts)  # type: ignore[arg-type]
        if self.peer.scheme != "http":
            self._out.append(body.whole())
            return
        head = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out = []
        self._since = self._server.ticker.now
        try:
            sent = self._sender.send(head, body)
            if sent < body.length:
                self._transport.write(body.block(sent, body.length))
        except (OSError, PeerGoneError):
            self._abort()

    @property
    def _sender(self) -> FileSender:
        if self._files is None:
            self._files = FileSender(self._transport)
        return self._files

    # --- a handler's answer

    def _head(self, exchange: ServerExchange, response: Response, length: int | None, framing: str) -> bytes:
        status = response.status
        if exchange.method == b"HEAD" or status == 304:
            declared = response.headers.get("content-length")
            if declared is None and length:
                declared = str(length)
            framing = f"Content-Length: {declared}" if declared is not None and declared.isdecimal() else ""
        elif status == 204:
            framing = ""
        body = exchange.body
        keep_alive = exchange.keep_alive and not self._server.draining
        if body is not None and not body.ended and exchange.expects_continue:
            keep_alive = False  # the body was never asked for: whether it comes can't be known
        head, exchange.keep_alive = wire_framing.response_head(
            status, response.headers, framing, keep_alive=keep_alive, http10=exchange.http10, date=self._server.date
        )
        return head

    def _write_whole(self, exchange: ServerExchange, response: Response, data: bytes) -> None:
        head = self._head(exchange, response, len(data), f"Content-Length: {len(data)}")
        exchange.head_sent = True
        if not data or exchange.method == b"HEAD" or response.status in (204, 304):
            self._transport.write(head)
        elif len(data) <= 16_384:
            self._transport.write(head + data)
        else:
            self._transport.writelines((head, data))

    async def _write_stream(self, exchange: ServerExchange, response: Response) -> None:
        body = response.body
        try:
            length = body.length
            chunked = length is None and not exchange.http10
            if length is not None:
                framing = f"Content-Length: {length}"
            elif chunked:
                framing = "Transfer-Encoding: chunked"
            else:
                framing = ""
                exchange.unframed = True
                exchange.keep_alive = False
            head = self._head(exchange, response, length, framing)
            exchange.head_sent = True
            transport = self._transport
            if exchange.method == b"HEAD" or response.status in (204, 304):
                transport.write(head)
                return
            left = length
            if left is not None and self.peer.scheme == "http" and isinstance(body, SpanBody):
                await self._write_spans(head, body, left)
                return
            transport.write(head)
            async for data in body:
                if not data:
                    continue
                if left is not None:
                    left -= len(data)
                    if left < 0:
                        raise ValueError(f"a body longer than its length, {length}")
                if chunked:
                    transport.writelines(wire_framing.chunk(data))
                else:
                    transport.write(data)
                if self._write_paused:
                    await self._writable()
            if left:
                raise ValueError(f"a body {left} bytes short of its length, {length}")
            if chunked:
                transport.write(wire_framing.LAST_CHUNK)
        finally:
            await body.close()

    async def _write_spans(self, head: bytes, body: SpanBody, left: int) -> None:
        """Write a body of `left` bytes, what lies in files without reading it."""
        transport = self._transport
        async for data in body.spans():
            size = data.length if isinstance(data, FileBody) else len(data)
            left -= size
            if left < 0:
                raise ValueError(f"a body {-left} bytes longer than its length")
            if isinstance(data, FileBody):
                await self._write_file(head, data)
            else:
                transport.writelines((head, data))
                if self._write_paused:
                    await self._writable()
            head = b""
        if left:
            raise ValueError(f"a body {left} bytes short of its length")

    async def _write_file(self, head: bytes, body: FileBody) -> None:
        transport = self._transport
        sent = 0
        while sent < body.length:
            taken = self._sender.send(head, body, sent)
            head = b""
            sent += taken
            if taken or sent == body.length:
                continue
            # The socket is full: what the transport is given now, it tells when that has gone.
            block = body.block(sent, _FULL_BLOCK_BYTES)
            sent += len(block)
            transport.set_write_buffer_limits(high=0)
            transport.write(block)
            if self._write_paused:
                await self._writable()
            transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    def _write_error(self, exchange: ServerExchange, status: int, reason: str) -> None:
        exchange.keep_alive = False
        try:
            response = self._server.error_response(status, reason)
            assert isinstance(response.body, BytesBody)
            self._write_whole(exchange, response, response.body.data)
        except Exception:
            log.error("error page failed", status=status, error=traceback.format_exc())
            response = default_error(status, reason)
            assert isinstance(response.body, BytesBody)
            self._write_whole(exchange, response, response.body.data)

    # --- breaking off

    def _cut(self, exchange: ServerExchange) -> None:
        """Close after what is written, so that the client sees a part and can't take it for the whole."""
        if exchange.unframed:
            # The end of the connection would be the end of the body: only a reset tells the difference.
            sock = self._transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._abort()
        elif not self._lost:
            self._deaf = True
            self._transport.close()

    def _abort(self) -> None:
        if not self._lost:
            self._deaf = True
            self._transport.abort()


def default_error(status: int, reason: str) -> Response:
    """The page for a refusal where the station has none of its own."""
    text = f"{status} {wire_framing.reason_phrase(status)}: {reason}\n"
    return Response(status, Headers([("Content-Type", "text/plain; charset=utf-8")]), text.encode("ascii", "replace"))
