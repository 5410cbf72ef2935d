"""One connection of the client: one exchange at a time, and whether the connection can be trusted afterwards.

A connection is used again only after an exchange that ended cleanly: the response is complete, the request was sent to
its end, both sides keep it alive, and not a byte more has arrived. What ends otherwise is closed. What the parser says
of a response is in `upstream_intake`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools

from nearpoint.wire import framing as wire_framing
from nearpoint.wire.inbound import InboundBody
from nearpoint.wire.limits import CHUNK_OVERHEAD_BYTES_MAX, Timeouts
from nearpoint.wire.message import Body, BytesBody, Request, Response
from nearpoint.wire.ticker import Ticker
from nearpoint.wire.upstream_error import StaleError, UpstreamError
from nearpoint.wire.upstream_intake import HEADERS_BYTES_MAX, UpstreamIntake

_READ_BYTES_MAX = 262_144
_WRITE_HIGH_BYTES = 262_144
# A response body that is full and not read for so long has been forgotten by its consumer.
_FORGOTTEN_S = 300.0

_BODILESS_LENGTH = frozenset({"POST", "PUT", "PATCH"})  # for these an empty body is declared (RFC 9110 §8.6)


_DEFAULT_TIMEOUTS = Timeouts()


def _nobody(connection: UpstreamConnection) -> None:
    """Who is told of a connection that has gone already."""


class UpstreamConnection(UpstreamIntake):
    """The protocol of one connection to an origin.

    `on_free(connection)` is called when it can be used again, `on_gone(connection)` once when it can't.
    """

    __slots__ = (
        "_busy",
        "_gone",
        "_on_free",
        "_on_gone",
        "_raw_bytes",
        "_read_paused",
        "_request_sent",
        "_sender",
        "_silent",
        "_since",
        "_ticker",
        "_timeouts",
        "_transport",
        "_unsent_bytes",
        "_waiter",
        "_write_paused",
        "_write_since",
        "_write_waiter",
        "reused",
    )

    def __init__(
        self,
        ticker: Ticker,
        on_free: Callable[[UpstreamConnection], None],
        on_gone: Callable[[UpstreamConnection], None],
    ) -> None:
        super().__init__()
        self._ticker = ticker
        self._on_free = on_free
        self._on_gone = on_gone
        self._transport: Any = None
        self.reused = False
        self._gone = False
        self._busy = False
        self._timeouts = _DEFAULT_TIMEOUTS
        self._waiter: asyncio.Future[Response] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._request_sent = False
        self._silent = True
        self._raw_bytes = 0
        self._read_paused = False
        self._write_paused = False
        self._write_since = 0.0
        self._unsent_bytes = 0
        self._write_waiter: asyncio.Future[None] | None = None
        self._since = ticker.now

    # --- an exchange

    @property
    def usable(self) -> bool:
        """An exchange can begin on it."""
        return not (self._gone or self._busy or self._transport.is_closing())

    def idle_s(self, now: float) -> float:
        """For how long it has been unused."""
        return now - self._since

    async def exchange(self, request: Request, authority: str, timeouts: Timeouts) -> Response:
        """Send a request and return its response as soon as the head is there.

        Raises UpstreamError, or what the iteration of the request's body raises, or
        `framing.MalformedHeadError` (nothing was sent, the connection stays good).
        """
        body = request.body
        length = body.length
        if length:
            framing = f"Content-Length: {length}"
        elif length is None:
            framing = "Transfer-Encoding: chunked"
        else:
            framing = "Content-Length: 0" if request.method in _BODILESS_LENGTH else ""
        try:
            head = wire_framing.request_head(
                request.method, request.target, request.headers, framing, authority=authority
            )
        except wire_framing.MalformedHeadError:
            self._on_free(self)
            raise
        loop = self._ticker.loop
        self._begin(request.method, timeouts)
        waiter: asyncio.Future[Response] = loop.create_future()
        self._waiter = waiter
        transport = self._transport
        if length == 0:
            transport.write(head)
            self._request_sent = True
        else:
            expects = (request.headers.get("expect") or "").lower() == "100-continue"
            if type(body) is BytesBody and not expects:
                transport.writelines((head, body.data))
                self._request_sent = True
            else:
                transport.write(head)
                if expects:
                    self._continue = loop.create_future()
                self._sender = loop.create_task(self._send_body(body, length))
        try:
            return await waiter
        except asyncio.CancelledError:
            if self._waiter is waiter:
                self._waiter = None
                self.abort()
            elif not waiter.cancelled() and waiter.exception() is None:
                await waiter.result().body.close()  # it came at the same moment; the connection may be another's now
            raise

    def _begin(self, method: str, timeouts: Timeouts) -> None:
        self._busy = True
        self._method = method
        self._timeouts = timeouts
        self._head = None
        self._body = None
        self._headers = []
        self._chunked = self._until_eof = self._complete = self._keep_alive = self._request_sent = False
        self._sound = self._silent = True
        self._informational = self._fed_bytes = self._raw_bytes = self._received_bytes = 0
        self._since = self._ticker.now

    async def _send_body(self, body: Body, length: int | None) -> None:
        try:
            if self._continue is not None and not await self._may_continue(self._continue):
                return
            left = length
            async for data in body:
                if not data:
                    continue
                if left is None:
                    self._transport.writelines(wire_framing.chunk(data))
                else:
                    left -= len(data)
                    if left < 0:
                        raise ValueError(f"a body longer than its length, {length}")
                    self._transport.write(data)
                    if not left:
                        self._sent()
                if self._write_paused:
                    await self._writable()
            if left:
                raise ValueError(f"a body {left} bytes short of its length, {length}")
            if left is None:
                self._transport.write(wire_framing.LAST_CHUNK)
                self._sent()
        except Exception as error:
            if not self._complete:
                self._fail(error)
        finally:
            self._sender = None
        self._settle()

    async def _may_continue(self, answer: asyncio.Future[bool]) -> bool:
        try:
            async with asyncio.timeout(self._timeouts.continue_s):
                return await answer
        except TimeoutError:
            return True

    def _sent(self) -> None:
        self._request_sent = True
        self._since = self._ticker.now

    async def _writable(self) -> None:
        self._write_waiter = asyncio.get_running_loop().create_future()
        try:
            await self._write_waiter
        finally:
            self._write_waiter = None

    def _settle(self) -> None:
        """After a complete response: free the connection, or close it."""
        if not self._complete or not self._busy or self._gone:
            return
        if self._sender is not None:
            if self._request_sent:
                return  # the sender is about to end, and comes here again
            self._sender.cancel()
        if self._keep_alive and self._sound and self._request_sent and not self._write_paused:
            self._busy = False
            self._body = None
            self.reused = True
            self._since = self._ticker.now
            self._pace(False)
            self._on_free(self)
        elif self._request_sent and not self._write_paused:
            self.close()
        else:
            self.abort()  # what is left of the request may never be taken

    def _fail(self, error: Exception) -> None:
        """End the exchange with an error, wherever its consumer stands, and the connection with it."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            if not waiter.done():
                waiter.set_exception(error)
        elif self._body is not None:
            if not isinstance(error, UpstreamError):
                failure = UpstreamError("lost", "the request's body failed")
                failure.__cause__ = error
                error = failure
            self._body.fail(error)
        self.abort()

    def close(self) -> None:
        """Let go of the connection; what has been written is still sent."""
        self._leave()
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Cut the connection at once."""
        self._leave()
        if self._transport is not None:
            self._transport.abort()

    def _leave(self) -> None:
        if not self._gone:
            self._gone = True
            self._parser = None
            if self._sender is not None:
                self._sender.cancel()
            self._on_gone(self)
            self._on_free = self._on_gone = _nobody  # those lead back here

    # --- the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)

    def data_received(self, data: bytes) -> None:
        if not self._busy or self._gone:
            self.abort()  # nobody asked
            return
        self._since = self._ticker.now
        self._silent = False
        self._fed_bytes += len(data)
        body = self._body
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                cause = error.__context__ if isinstance(error.__context__, UpstreamError) else None
                self._fail(cause or UpstreamError("protocol", f"malformed response: {error}"))
                return
            self._sound = False
        if self._head is not None:
            if self._waiter is not None:
                self._deliver(data, self._waiter)
            elif self._chunked and body is not None and not self._complete:
                self._raw_bytes += len(data)
                if self._raw_bytes > CHUNK_OVERHEAD_BYTES_MAX + 9 * self._received_bytes:
                    self._fail(UpstreamError("protocol", "too much chunk framing"))
                    return
        elif self._fed_bytes > HEADERS_BYTES_MAX + _READ_BYTES_MAX:
            self._fail(UpstreamError("protocol", "the header fields are too large"))
            return
        if self._complete:
            self._settle()

    def _deliver(self, data: bytes, waiter: asyncio.Future[Response]) -> None:
        """Hand the response to whoever awaits it; with its whole body where that has arrived already."""
        response, body = self._head, self._body
        assert response is not None
        self._waiter = None
        if body is not None:
            response.body = BytesBody(body.take_all()) if self._complete else body
        if self._method == "HEAD":
            self._sound = self._sound and data.endswith(b"\r\n\r\n")
            if self._parser is not None:
                self._parser = httptools.HttpResponseParser(self)  # the old one waits for the body of a GET
        if not waiter.done():
            waiter.set_result(response)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._busy and not self._complete:
            if self._head is not None and self._until_eof and exc is None and not self._gone:
                self._complete = True
                assert self._body is not None
                self._body.end()
            elif self._silent and self.reused and not self._gone:
                self._fail(StaleError())
            else:
                self._fail(UpstreamError("lost", f"the connection ended before the response did: {exc or 'closed'}"))
        self._leave()
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)
        self._head = self._body = self._transport = None

    def pause_writing(self) -> None:
        self._write_paused = True
        self._write_since = self._ticker.now
        self._unsent_bytes = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self._write_paused = False
        self._since = self._ticker.now
        if self._write_waiter is not None and not self._write_waiter.done():
            self._write_waiter.set_result(None)

    # --- the response body's side (`inbound.Source`)

    def body_wanted(self, body: InboundBody) -> None:
        self._since = self._ticker.now

    def body_full(self, body: InboundBody) -> None:
        if body is self._body and not self._complete:
            self._since = self._ticker.now
            self._pace(True)

    def body_drained(self, body: InboundBody) -> None:
        if body is self._body:
            self._since = self._ticker.now
            self._pace(False)

    def body_closed(self, body: InboundBody) -> None:
        if body is self._body:
            self.abort()

    def _pace(self, pause: bool) -> None:
        if pause != self._read_paused and not self._gone:
            self._read_paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # --- the client's side

    def shut(self) -> None:
        """Close it whatever is under way."""
        if self._busy and not self._complete:
            self._fail(UpstreamError("lost", "the client was closed"))
        else:
            self.close()

    def check(self, now: float) -> None:
        """Enforce the time-outs of the exchange under way; called by the client's coarse clock."""
        if not self._busy or self._gone:
            return
        if self._write_paused:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent_bytes:
                self._write_since = now
            elif now - self._write_since > self._timeouts.write_s:
                self._fail(UpstreamError("timeout", "the request is not being taken"))
            self._unsent_bytes = unsent
        elif self._waiter is not None:
            limits = self._timeouts
            patience_s = limits.read_s if limits.head_s is None else limits.head_s
            if self._request_sent and now - self._since > patience_s:
                self._fail(UpstreamError("timeout", "no response"))
        elif self._body is not None:
            waited_s = now - self._since
            if (self._body.awaited and waited_s > self._timeouts.read_s) or (
                self._body.full and waited_s > _FORGOTTEN_S
            ):
                self._fail(UpstreamError("timeout", "the response stopped arriving"))
