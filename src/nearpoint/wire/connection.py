"""One connection of the server: requests to responses, one exchange at a time, in order.

Requests come from `intake`, answers are written by `outlet`. From top to bottom of this file:
1. a bodiless request may be answered at once by the `instant` hook;
2. otherwise a task runs the handler, and its response is written;
3. the rest of an unread body is discarded, and the next request begins, or the connection closes.
The end of the client's stream is taken as the client having gone: whatever runs for it is cancelled.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING

import structlog

from nearpoint.wire import framing as wire_framing
from nearpoint.wire.exchange import KnownHead, RequestBodyError, ServerExchange, peer_of
from nearpoint.wire.filebody import FileBody
from nearpoint.wire.filesend import PeerGoneError
from nearpoint.wire.guard import Fault
from nearpoint.wire.inbound import InboundBody
from nearpoint.wire.limits import DISCARD_BYTES_MAX, LINGER_S
from nearpoint.wire.message import BodyTooLargeError, BytesBody
from nearpoint.wire.outlet import WRITE_HIGH_BYTES, Outlet

if TYPE_CHECKING:
    from nearpoint.wire.server import Server

log = structlog.get_logger("nearpoint.wire")


class Connection(Outlet):
    """The protocol of one accepted connection."""

    __slots__ = (
        "_active",
        "_instant",
        "_lingering",
        "_task",
    )

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._instant = server.instant
        self._active: ServerExchange | None = None  # whose answer is being made
        self._task: asyncio.Task[None] | None = None
        self._lingering = False

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.peer = peer_of(transport, "HTTP/1.1")
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        if not self._server.admit(self):
            self._refuse(Fault(503, "too many connections"))

    def eof_received(self) -> bool:
        if self._task is not None:
            self._task.cancel()  # now, since the loss is told only after what is ready to run has run
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


def _with_connection(reply: bytes | Sequence[bytes | FileBody], option: bytes) -> list[bytes | FileBody]:
    """A prebuilt reply with a Connection field after its status line."""
    first, *rest = (reply,) if isinstance(reply, bytes) else reply
    assert isinstance(first, bytes)
    line, _, more = first.partition(b"\r\n")
    return [line + b"\r\nConnection: " + option + b"\r\n" + more, *rest]
