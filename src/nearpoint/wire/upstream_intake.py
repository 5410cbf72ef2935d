"""The reading half of a connection to an origin: what the parser says of a response, checked (RFC 9112 §6).

What becomes of the exchange is the other half's (`upstream`). Raises UpstreamError out of the parser's callbacks.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools

from nearpoint.wire.inbound import InboundBody
from nearpoint.wire.message import Headers, Response
from nearpoint.wire.upstream_error import UpstreamError

HEADERS_BYTES_MAX = 131_072
HEADER_COUNT_MAX = 500
INFORMATIONAL_MAX = 16
# What a field is to whoever reads a head. Names seen are remembered; bounded so that a peer can't grow it.
_PASS, _DROP, _CONNECTION, _LENGTH, _CODING = range(5)
_SPECIAL = {
    "connection": _CONNECTION,
    "content-length": _LENGTH,
    "keep-alive": _DROP,
    "proxy-connection": _DROP,
    "transfer-encoding": _CODING,
    "upgrade": _DROP,
}
_NAMES_MAX = 4096
_names: dict[bytes, tuple[str, int]] = {}


def _name(raw: bytes) -> tuple[str, int]:
    """The name of a field as text, and what it is."""
    name = raw.decode("latin-1")
    found = (name, _SPECIAL.get(name.lower(), _PASS))
    if len(_names) < _NAMES_MAX and len(raw) < 128:
        _names[raw] = found
    return found


class UpstreamIntake(asyncio.Protocol):
    """Reads one response after the other."""

    __slots__ = (
        "_body",
        "_chunked",
        "_complete",
        "_continue",
        "_fed_bytes",
        "_head",
        "_headers",
        "_informational",
        "_keep_alive",
        "_method",
        "_parser",
        "_received_bytes",
        "_sound",
        "_until_eof",
    )

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(self)
        self._method = "GET"
        self._continue: asyncio.Future[bool] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._head: Response | None = None
        self._body: InboundBody | None = None
        self._chunked = False
        self._until_eof = False
        self._complete = False
        self._keep_alive = False
        self._sound = True
        self._informational = 0
        self._fed_bytes = 0
        self._received_bytes = 0

    # --- what the other half does (`inbound.Source`)

    def body_wanted(self, body: InboundBody) -> None:
        raise NotImplementedError

    def body_full(self, body: InboundBody) -> None:
        raise NotImplementedError

    def body_drained(self, body: InboundBody) -> None:
        raise NotImplementedError

    def body_closed(self, body: InboundBody) -> None:
        raise NotImplementedError

    # --- the parser

    def on_message_begin(self) -> None:
        if self._complete:
            self._sound = False
            raise UpstreamError("protocol", "bytes after the response")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status: int = self._parser.get_status_code()
        headers, self._headers = self._headers, []
        self._check_size(headers)
        self._fed_bytes = 0
        if status < 200:
            self._informed(status)
            return
        if status > 599:
            raise UpstreamError("protocol", f"status {status}")
        length: int | None = None
        connection: set[bytes] = set()
        kept = []
        for raw, value in headers:
            name, kind = _names.get(raw) or _name(raw)
            if kind:  # not _PASS
                if kind == _LENGTH:
                    if length is not None:
                        raise UpstreamError("protocol", "more than one Content-Length")
                    length = int(value)
                else:
                    if kind == _CONNECTION:
                        connection |= {token.strip(b" \t").lower() for token in value.split(b",")}
                    elif kind == _CODING:
                        if self._chunked or value.strip(b" \t").lower() != b"chunked":
                            raise UpstreamError("protocol", "a transfer coding other than chunked")
                        self._chunked = True
                    continue
            kept.append((name, value.decode("latin-1").rstrip(" \t")))
        if self._chunked and length is not None:
            raise UpstreamError("protocol", "both Content-Length and Transfer-Encoding")
        # Not the parser's own opinion: to it, an answer to HEAD without Content-Length lasts until the end of stream.
        version = self._parser.get_http_version()
        self._keep_alive = version == "1.1" and b"close" not in connection
        if version == "1.0" and b"keep-alive" in connection and not self._chunked:
            self._keep_alive = True  # RFC 9112 §6.1: with a transfer coding its framing can't be relied on
        if self._continue is not None and not self._continue.done():
            self._continue.set_result(False)
        self._head = Response(status, Headers(kept))
        if self._method == "HEAD":
            self._complete = True
        elif status not in (204, 304):
            self._until_eof = length is None and not self._chunked
            self._body = InboundBody(self, length, delimited=not self._until_eof)

    def on_body(self, data: bytes) -> None:
        if self._body is None or self._complete:
            self._sound = False
            raise UpstreamError("protocol", "a body where there can be none")
        self._received_bytes += len(data)
        self._body.feed(data)

    def on_message_complete(self) -> None:
        self._headers = []  # trailer fields, or none
        if self._head is not None:
            self._complete = True
            if self._body is not None:
                self._body.end()

    def _check_size(self, headers: list[tuple[bytes, bytes]]) -> None:
        if self._fed_bytes <= HEADERS_BYTES_MAX and len(headers) <= HEADER_COUNT_MAX:
            return
        size = sum(len(name) + len(value) + 4 for name, value in headers)
        if size > HEADERS_BYTES_MAX or len(headers) > HEADER_COUNT_MAX:
            raise UpstreamError("protocol", "the header fields are too large")

    def _informed(self, status: int) -> None:
        self._informational += 1
        if not 100 <= status < 200 or status == 101 or self._informational > INFORMATIONAL_MAX:
            raise UpstreamError("protocol", f"status {status}")
        if status == 100 and self._continue is not None and not self._continue.done():
            self._continue.set_result(True)
