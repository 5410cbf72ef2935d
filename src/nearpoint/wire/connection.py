"""One connection of the server: requests to responses, one exchange at a time, in order.

Requests come from `intake`. From top to bottom of this file:
1. a bodiless request may be answered at once by the `instant` hook;
2. otherwise a task runs the handler and writes its response, with back-pressure;
3. the rest of an unread body is discarded, and the next request begins, or the connection closes.
The end of the client's stream is taken as the client having gone: whatever runs for it is cancelled.
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
from nearpoint.wire.exchange import KnownHead, RequestBodyError, ServerExchange, peer_of
from nearpoint.wire.filebody import FileBody, SpanBody
from nearpoint.wire.filesend import FileSender, PeerGoneError
from nearpoint.wire.guard import Fault
from nearpoint.wire.inbound import InboundBody
from nearpoint.wire.intake import Intake
from nearpoint.wire.limits import DISCARD_BYTES_MAX, LINGER_S
from nearpoint.wire.message import BodyTooLargeError, BytesBody, Headers, Peer, Response

if TYPE_CHECKING:
    from nearpoint.wire.server import Server

log = structlog.get_logger("nearpoint.wire")

_WRITE_HIGH_BYTES = 262_144
_FULL_BLOCK_BYTES = 16_384  # read and handed to the transport where the socket takes no more


class Connection(Intake):
    """The protocol of one accepted connection."""

    __slots__ = (
        "_active",
        "_files",
        "_instant",
        "_lingering",
        "_task",
        "_unsent_bytes",
        "_write_paused",
        "_write_since",
        "_write_waiter",
        "peer",
    )

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._instant = server.instant
        self.peer = Peer("", "http")
        self._active: ServerExchange | None = None  # whose answer is being made
        self._task: asyncio.Task[None] | None = None
        self._lingering = False
        self._files: FileSender | None = None
        self._write_paused = False
        self._write_waiter: asyncio.Future[None] | None = None
        self._write_since = 0.0
        self._unsent_bytes = 0

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.peer = peer_of(transport, "HTTP/1.1")
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        if not self._server.admit(self):
            self._refuse(Fault(503, "too many connections"))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._deaf = True
        if self._files is not None:
            self._files.detach()
        self._parser = None
        self._queue.clear()
        self._pending = b""
        if self._incoming is not None and self._incoming.body is not None:
            self._incoming.body.fail(RequestBodyError(400, "the client went away"))
        if self._task is not None:
            self._task.cancel()
        self._wake_writer()
        self._server.forget(self)

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

    # --- 1. the prebuilt answer

    def _answer_at_once(
        self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], exchange: ServerExchange | None = None
    ) -> bool:
        """Answer by the hook, if there is one and it has something."""
        if self._instant is None or self._server.draining:
            return False
        try:
            reply = self._instant(method, target, headers, self.peer)
        except Exception:
            log.error("instant hook failed", error=traceback.format_exc())
            return False
        if reply is None:
            return False
        if exchange is not None and (exchange.http10 or not exchange.keep_alive):
            reply = _with_connection(reply, b"keep-alive" if exchange.keep_alive else b"close")
            if type(reply[-1]) is FileBody:
                self._send_reply(reply)
            else:
                self._out.extend(reply)  # type: ignore[arg-type]
            if not exchange.keep_alive:
                self._flush()
                self._deaf = True
                self._transport.close()
        elif isinstance(reply, bytes):
            self._out.append(reply)
        elif type(reply[-1]) is FileBody:
            self._send_reply(reply)
        else:
            self._out.extend(reply)  # type: ignore[arg-type]
        return True

    def _answer_again(self, known: KnownHead) -> bool:
        if self._active is not None or self._queue or self._write_paused or self._server.draining:
            return False
        method, target, fields = known
        try:
            reply = self._instant(method, target, fields, self.peer)  # type: ignore[misc]  # who knows it has answered
        except Exception:
            log.error("instant hook failed", error=traceback.format_exc())
            return False
        if isinstance(reply, bytes):
            self._transport.write(reply)
            self._since = self._server.ticker.now
            return True
        if reply is None:
            return False
        if type(reply[-1]) is FileBody:
            self._send_reply(reply)
            if self._out:
                self._flush()
        else:
            self._transport.writelines(reply)
            self._since = self._server.ticker.now
        return True

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

    def _flush(self) -> None:
        out = self._out
        if len(out) == 1:
            self._transport.write(out[0])
        elif out:
            self._transport.writelines(out)
        self._out = []
        self._since = self._server.ticker.now

    # --- 2. the handler's answer

    def _crowded(self) -> bool:
        return self._write_paused or len(self._queue) >= self._server.limits.pipelined_max

    def _my_turn(self) -> bool:
        return self._active is None and not self._queue and not self._write_paused

    def _enqueue(self, exchange: ServerExchange) -> None:
        if self._my_turn():
            self._begin(exchange)
        else:
            self._queue.append(exchange)
            if self._crowded():
                self._pace()

    def _advance(self) -> None:
        """Begin the next request whose turn it is, and take in more where there is room."""
        while self._queue and self._active is None and not self._write_paused and not self._lost:
            exchange = self._queue.popleft()
            if (
                exchange.body is None
                and exchange.fault is None
                and self._answer_at_once(exchange.method, exchange.target, exchange.headers, exchange)
            ):
                if self._out:
                    self._flush()
            else:
                self._begin(exchange)
        if self._pending or self._read_paused:
            self._pump()

    def _begin(self, exchange: ServerExchange) -> None:
        if self._out:
            self._flush()
        self._active = exchange
        if exchange.fault is not None:
            self._write_error(exchange, exchange.fault.status, exchange.fault.reason)
            self._finish(exchange)
        else:
            self._task = self._server.loop.create_task(self._run(exchange))

    async def _run(self, exchange: ServerExchange) -> None:
        try:
            response = await self._server.handler(exchange.request(self.peer))
            body = response.body
            if type(body) is BytesBody:
                self._write_whole(exchange, response, body.data)
            else:
                await self._write_stream(exchange, response)
        except asyncio.CancelledError:
            self._abort()
            raise
        except PeerGoneError:
            self._abort()
        except Exception as error:
            self._failed(exchange, error)
        self._finish(exchange)

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
            transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)

    async def _writable(self) -> None:
        self._write_waiter = self._server.loop.create_future()
        try:
            await self._write_waiter
        finally:
            self._write_waiter = None

    def _failed(self, exchange: ServerExchange, error: Exception) -> None:
        """The handler, or the body of its response, raised."""
        exchange.keep_alive = False
        path = exchange.target.partition(b"?")[0].decode("latin-1")
        method = exchange.method.decode("latin-1")
        if exchange.head_sent:
            # Nothing but a broken connection tells the client that what it has is not the whole.
            log.warning("response cut short", method=method, path=path, error=repr(error))
            self._cut(exchange)
        elif isinstance(error, RequestBodyError):
            self._write_error(exchange, error.status, error.reason)
        elif isinstance(error, BodyTooLargeError):
            self._write_error(exchange, 413, "the body is too large")
        else:
            log.error("handler failed", method=method, path=path, error="".join(traceback.format_exception(error)))
            self._write_error(exchange, 500, "internal error")

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

    # --- 3. the end of an exchange

    def _finish(self, exchange: ServerExchange) -> None:
        self._task = None
        if self._lost or self._transport.is_closing():
            self._active = None
            return
        body = exchange.body
        self._since = self._server.ticker.now
        if body is not None and not body.ended:
            exchange.discarding = True
            body.discard()
            unread = body.length - exchange.received_bytes if body.length is not None else 0
            if not exchange.keep_alive or exchange.expects_continue or unread > DISCARD_BYTES_MAX:
                self._linger()
            else:
                exchange.received_bytes = 0
                self._pace()
            return
        self._active = None
        if exchange.keep_alive:
            self._advance()
            if self._server.draining and self.idle:
                self._transport.close()
        elif self._deaf:
            self._linger()
        else:
            self._deaf = True
            self._transport.close()

    def _discarded(self, exchange: ServerExchange) -> None:
        if not self._lingering:
            self._finish(exchange)

    def _linger(self) -> None:
        """Close without a reset: what has been written must reach a peer that is still sending (RFC 9112 §9.6)."""
        if self._lingering:
            return
        self._active = None
        self._deaf = self._lingering = True
        self._since = self._server.ticker.now
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._pace()
        else:
            self._transport.close()

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

    # --- the request body's side (`inbound.Source`)

    def body_wanted(self, body: InboundBody) -> None:
        exchange = self._active
        self._since = self._server.ticker.now
        if exchange is not None and exchange.body is body and exchange.expects_continue:
            exchange.expects_continue = False
            if not exchange.received_bytes and not exchange.head_sent:
                self._transport.write(wire_framing.CONTINUE)

    # --- the server's side

    @property
    def idle(self) -> bool:
        """Between requests, with nothing of the next one seen."""
        return self._active is None and not self._queue and not self._pending and not self._in_head

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """The handler under way, if any."""
        return () if self._task is None else (self._task,)

    def close_if_idle(self) -> None:
        """Close now unless a request is under way."""
        if self.idle and not self._lingering:
            self._deaf = True
            self._since = self._server.ticker.now
            self._transport.close()

    def kill(self) -> None:
        """Close whatever is under way."""
        if self._task is not None:
            self._task.cancel()
        self._abort()

    def check(self, now: float) -> None:
        """Enforce the time-outs; called by the server's coarse clock."""
        limits = self._server.limits
        if self._write_paused:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent_bytes:
                self._write_since = now
            elif now - self._write_since > limits.write_timeout_s:
                self.kill()
            self._unsent_bytes = unsent
            return
        waited_s = now - self._since
        if self._transport.is_closing():
            # A client that does not answer TLS's goodbye must not hold up a server that ends.
            goodbye = self._server.draining and self._active is None
            if waited_s > (LINGER_S if goodbye else limits.write_timeout_s):
                self._abort()  # what is left to be sent is not being taken
            return
        exchange = self._active
        if self._lingering:
            if waited_s > LINGER_S:
                self._transport.abort()
        elif exchange is not None:
            body = exchange.body
            if body is not None and (body.awaited or exchange.discarding) and waited_s > limits.body_timeout_s:
                self._break_body(exchange, RequestBodyError(408, "the body stopped arriving"))
        elif self._in_head:
            if waited_s > limits.header_timeout_s:
                self._refuse(Fault(408, "the head took too long"))
        elif not self._queue and waited_s > limits.idle_timeout_s:
            self._deaf = True
            self._transport.close()


def default_error(status: int, reason: str) -> Response:
    """The page for a refusal where the station has none of its own."""
    text = f"{status} {wire_framing.reason_phrase(status)}: {reason}\n"
    return Response(status, Headers([("Content-Type", "text/plain; charset=utf-8")]), text.encode("ascii", "replace"))


def _with_connection(reply: bytes | Sequence[bytes | FileBody], option: bytes) -> list[bytes | FileBody]:
    """A prebuilt reply with a Connection field after its status line."""
    first, *rest = (reply,) if isinstance(reply, bytes) else reply
    assert isinstance(first, bytes)
    line, _, more = first.partition(b"\r\n")
    return [line + b"\r\nConnection: " + option + b"\r\n" + more, *rest]
