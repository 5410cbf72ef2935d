"""The reading half of a server's connection: bytes to requests.

`data_received` feeds the parser, which calls `on_url`, `on_header`, `on_headers_complete`, `on_body` and
`on_message_complete`; the head is checked (`guard`); what is refused takes its place in the queue like any request, so
that answers stay in order. What becomes of a request is the other half's (`connection`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools

from nearpoint.wire.exchange import KnownFields, KnownHead, RequestBodyError, ServerExchange
from nearpoint.wire.guard import FRAMING, Fault, Framing, frame_request, valid_host
from nearpoint.wire.inbound import InboundBody
from nearpoint.wire.limits import CHUNK_OVERHEAD_BYTES_MAX, DISCARD_BYTES_MAX
from nearpoint.wire.message import BodyTooLargeError

if TYPE_CHECKING:
    from nearpoint.wire.server import Server

# A read that holds many heads is fed to the parser in slices, so that the queue can fill and reading pause.
_SLICE_BYTES = 4_096
# Heads that the hook has answered, byte for byte: what they were parsed to. Shared by a server's connections.
_KNOWN_BYTES_MAX = 2_048
_KNOWN_MAX = 2_048
_HOSTS_MAX = 1_024
_good_hosts: set[bytes] = set()


class _RefusedError(Exception):
    """Stops the parser after a fault has been queued."""


class Intake(asyncio.Protocol):
    """Reads requests from one connection."""

    __slots__ = (
        "_between",
        "_deaf",
        "_fed_bytes",
        "_headers",
        "_hot",
        "_in_head",
        "_incoming",
        "_known",
        "_last",
        "_lost",
        "_out",
        "_parser",
        "_pending",
        "_pumping",
        "_queue",
        "_read_paused",
        "_server",
        "_since",
        "_target",
        "_transport",
    )

    def __init__(self, server: Server) -> None:
        self._server = server
        self._known = server.known_heads
        self._between = True  # the parser has seen the end of a message, and nothing of the next
        self._hot: tuple[bytes, bytes, list[tuple[bytes, bytes]]] | None = None  # the last one the hook answered
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._in_head = False  # a head is split over several reads
        self._fed_bytes = 0
        self._incoming: ServerExchange | None = None  # whose body is being parsed
        self._queue: deque[ServerExchange] = deque()
        self._pending = b""
        self._pumping = False
        self._out: list[bytes] = []  # prebuilt answers to what is being fed
        self._last = False  # no request after those parsed so far
        self._deaf = False  # input is dropped
        self._lost = False
        self._read_paused = False
        self._since = server.ticker.now

    # --- what the other half does

    def _crowded(self) -> bool:
        """No more requests can be taken at present."""
        raise NotImplementedError

    def _my_turn(self) -> bool:
        """A request that is complete now can be answered now."""
        raise NotImplementedError

    def _answer_at_once(
        self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], exchange: ServerExchange | None = None
    ) -> bool:
        """Answer by the hook, if there is one and it has something; `exchange` where the request is not plain."""
        raise NotImplementedError

    def _answer_again(self, known: KnownHead) -> bool:
        """Answer by the hook, if it is its turn, a head that has come before; nothing else waits to be written."""
        raise NotImplementedError

    def _enqueue(self, exchange: ServerExchange) -> None:
        """Answer in turn."""
        raise NotImplementedError

    def _advance(self) -> None:
        """Answer whose turn it is."""
        raise NotImplementedError

    def _flush(self) -> None:
        """Write the prebuilt answers."""
        raise NotImplementedError

    def _discarded(self, exchange: ServerExchange) -> None:
        """The rest of a body that nobody wanted has ended."""
        raise NotImplementedError

    def _linger(self) -> None:
        """Close; more has come than will be discarded."""
        raise NotImplementedError

    # --- the parser

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._pending:
            self._pending += data
            return
        if self._between and not self._last and len(data) <= _KNOWN_BYTES_MAX:  # to look up is to hash all of it
            known = self._known.get(data)
            if known is not None and self._answer_again(known):
                return
        if (
            len(data) > _SLICE_BYTES
            and not self._is_all_content(len(data))
            and data.count(b"\r\n\r\n") > self._server.limits.pipelined_max
        ):
            self._pending = data
            self._pump()
        else:
            self._feed(data)

    def _is_all_content(self, size: int) -> bool:
        """Whether what comes next, so much of it, belongs to a body of known length: there is no head in it."""
        incoming = self._incoming
        length = None if incoming is None or incoming.discarding or incoming.body is None else incoming.body.length
        return incoming is not None and length is not None and length - incoming.received_bytes >= size

    def _feed(self, data: bytes) -> None:
        self._fed_bytes += len(data)
        incoming = self._incoming
        fresh = self._between
        self._hot = None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # An offer to change protocols, which is not taken (RFC 9110 §7.8): the next request follows.
            rest = data[upgrade.args[0] :]
            if rest and not self._deaf:
                self._feed(rest)
                return
        except httptools.HttpParserError as error:
            self._broken(error)
        if self._out:
            self._flush()
        if self._hot is not None and fresh and self._between and len(data) <= _KNOWN_BYTES_MAX:
            self._remember(data, self._hot)
        if self._target:
            limits = self._server.limits
            if not self._in_head:
                self._in_head = True
                self._since = self._server.ticker.now
                self._fed_bytes = 0  # this read may hold other messages; the end of the head is checked exactly
            elif self._fed_bytes > limits.request_line_bytes_max + limits.headers_bytes_max:
                self._refuse(Fault(431, "the header fields are too large"))
        elif incoming is not None and incoming.chunked and incoming is self._incoming:
            incoming.raw_bytes += len(data)
            if incoming.raw_bytes > CHUNK_OVERHEAD_BYTES_MAX + 9 * incoming.received_bytes:
                self._break_body(incoming, RequestBodyError(400, "too much chunk framing"))

    def _remember(self, data: bytes, head: tuple[bytes, bytes, list[tuple[bytes, bytes]]]) -> None:
        """Whoever sends exactly these bytes between two messages asks exactly this."""
        if data.find(b"\r\n\r\n") == len(data) - 4 and data.startswith(head[0]) and data.count(b"HTTP/") == 1:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[data] = (head[0], head[1], KnownFields(head[2]))

    def _pump(self) -> None:
        """Feed what waits, slice by slice, as long as there is room for requests."""
        if not self._pumping:
            self._pumping = True
            while self._pending and not self._deaf and not self._crowded():
                data, self._pending = self._pending[:_SLICE_BYTES], self._pending[_SLICE_BYTES:]
                self._feed(data)
            self._pumping = False
        self._pace()

    def _pace(self) -> None:
        """Read from the socket exactly when what arrives can be taken."""
        body = self._incoming.body if self._incoming is not None else None
        pause = not self._deaf and (self._pending != b"" or self._crowded() or (body is not None and body.full))
        if pause != self._read_paused and not self._lost:
            self._read_paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def on_message_begin(self) -> None:
        self._between = False

    def on_url(self, part: bytes) -> None:
        self._target = self._target + part if self._target else part
        if len(self._target) > self._server.limits.request_line_bytes_max:
            self._refuse(Fault(414, "the target is too long"))
            raise _RefusedError

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._deaf:
            raise _RefusedError
        method: bytes = self._parser.get_method()
        target = self._target
        headers = self._headers
        self._target = b""
        self._headers = []
        limits = self._server.limits
        if self._in_head or self._fed_bytes > limits.headers_bytes_max or len(headers) > limits.header_count_max:
            self._check_size(headers)
        self._in_head = False
        self._fed_bytes = 0
        if self._plain(method, target, headers):
            if self._my_turn() and self._answer_at_once(method, target, headers):
                self._hot = (method, target, headers)
                return
            self._enqueue(ServerExchange(method, target, headers))
            return
        framing = frame_request(method, target, headers, self._parser.get_http_version())
        if isinstance(framing, Fault):
            self._refuse(framing)
            raise _RefusedError
        self._accept(method, framing, headers)

    def on_body(self, data: bytes) -> None:
        exchange = self._incoming
        if exchange is None or exchange.body is None:
            return
        exchange.received_bytes += len(data)
        self._since = self._server.ticker.now
        most = self._server.limits.body_bytes_max
        if exchange.discarding:
            if exchange.received_bytes > DISCARD_BYTES_MAX:
                self._linger()
        elif most is not None and exchange.received_bytes > most:
            self._break_body(exchange, BodyTooLargeError(f"more than {most} bytes"))
            raise _RefusedError
        else:
            exchange.body.feed(data)

    def on_message_complete(self) -> None:
        self._between = True
        exchange = self._incoming
        self._headers = []  # trailer fields, which nobody asked for
        if exchange is None or exchange.body is None:
            return
        self._incoming = None
        self._fed_bytes = 0
        exchange.body.end()
        if exchange.discarding:
            self._discarded(exchange)

    def _broken(self, error: Exception) -> None:
        """The parser gave up: the message is malformed, unless it was told to stop."""
        if self._incoming is not None and not self._deaf:
            self._break_body(self._incoming, RequestBodyError(400, f"malformed body: {error}"))
        elif self._last or self._deaf:
            self._deaf = True
        else:
            self._refuse(Fault(400, f"malformed request: {error}"))

    def _break_body(self, exchange: ServerExchange, error: Exception) -> None:
        self._last = self._deaf = True
        self._incoming = None
        exchange.keep_alive = False
        if exchange.body is not None:
            exchange.body.fail(error)
        if exchange.discarding:
            self._discarded(exchange)

    # --- the head

    def _check_size(self, headers: list[tuple[bytes, bytes]]) -> None:
        limits = self._server.limits
        size = sum(len(name) + len(value) + 4 for name, value in headers)
        if size > limits.headers_bytes_max or len(headers) > limits.header_count_max:
            self._refuse(Fault(431, "the header fields are too large"))
            raise _RefusedError

    def _plain(self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> bool:
        """True for the common request that needs no closer look: HTTP/1.1, one good Host, no body, kept alive."""
        host = None
        for name, value in headers:
            low = name.lower()
            if low in FRAMING:
                if low == b"host" and host is None:
                    host = value
                elif low != b"connection" or value.lower() != b"keep-alive" or self._parser.get_http_version() != "1.1":
                    return False
        if host is None or target[0] != 0x2F or b"#" in target or method == b"CONNECT":
            return False
        if host not in _good_hosts:
            if not valid_host(host):
                return False
            if len(_good_hosts) < _HOSTS_MAX and len(host) < 256:
                _good_hosts.add(host)
        return bool(self._parser.should_keep_alive())  # without a Connection field only HTTP/1.1 does

    def _accept(self, method: bytes, framing: Framing, headers: list[tuple[bytes, bytes]]) -> None:
        if framing.authority is not None:
            headers = [(b"Host", framing.authority), *(item for item in headers if item[0].lower() != b"host")]
        most = self._server.limits.body_bytes_max
        if most is not None and framing.length is not None and framing.length > most:
            self._refuse(Fault(413, f"a body of more than {most} bytes"))
            raise _RefusedError
        exchange = ServerExchange(method, framing.target, headers)
        exchange.keep_alive = framing.keep_alive
        exchange.http10 = framing.http10
        if not framing.keep_alive:
            self._last = True
        if framing.has_body:
            exchange.chunked = framing.chunked
            exchange.expects_continue = framing.expects_continue
            exchange.body = InboundBody(self, framing.length)
            self._incoming = exchange
        elif self._my_turn() and self._answer_at_once(method, framing.target, headers, exchange):
            return
        self._enqueue(exchange)

    def _refuse(self, fault: Fault) -> None:
        self._last = self._deaf = True
        self._target = b""
        exchange = ServerExchange(b"GET", b"", [])
        exchange.fault = fault
        exchange.keep_alive = False
        self._queue.append(exchange)
        self._advance()

    # --- the request body (`inbound.Source`)

    def body_full(self, body: InboundBody) -> None:
        self._pace()

    def body_drained(self, body: InboundBody) -> None:
        self._pace()

    def body_closed(self, body: InboundBody) -> None:
        return None

    def body_wanted(self, body: InboundBody) -> None:
        raise NotImplementedError
