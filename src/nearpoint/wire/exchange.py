"""What the server knows of one request while it is read and answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from nearpoint.wire.guard import Fault
from nearpoint.wire.inbound import InboundBody
from nearpoint.wire.message import Body, BytesBody, Headers, Peer, Request

_NO_BODY: Body = BytesBody()


class RequestBodyError(Exception):
    """The rest of a request body will not come: stalled (408) or broken framing (400).

    A handler may let it pass: the server then answers with `status`.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class KnownFields(list[tuple[bytes, bytes]]):
    """The fields of a head that has come before, byte for byte: always with the same method and target.

    The hook may keep in `memo` what it has made of the request.
    """

    __slots__ = ("memo",)

    def __init__(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        super().__init__(fields)
        self.memo: Any = None


KnownHead = tuple[bytes, bytes, KnownFields]  # method, target, fields


def peer_of(transport: asyncio.BaseTransport, protocol: str) -> Peer:
    """Who is at the other end of an accepted connection."""
    name = transport.get_extra_info("peername")
    ip, port = (name[0], name[1]) if isinstance(name, tuple) else ("", 0)
    secured = transport.get_extra_info("ssl_object")
    if secured is None:
        return Peer(ip, "http", port, protocol)
    cipher = (secured.cipher() or ("",))[0]
    return Peer(ip, "https", port, protocol, secured.version() or "", cipher, bool(secured.session_reused))


class ServerExchange:
    """One request and what is known of its answer."""

    __slots__ = (
        "body",
        "chunked",
        "discarding",
        "expects_continue",
        "fault",
        "head_sent",
        "headers",
        "http10",
        "keep_alive",
        "method",
        "raw_bytes",
        "received_bytes",
        "target",
        "unframed",
    )

    def __init__(self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.keep_alive = True
        self.http10 = False
        self.expects_continue = False
        self.chunked = False
        self.body: InboundBody | None = None
        self.fault: Fault | None = None
        self.head_sent = False
        self.discarding = False
        self.received_bytes = 0
        self.raw_bytes = 0
        self.unframed = False

    def request(self, peer: Peer) -> Request:
        return Request(
            self.method.decode("latin-1"),
            self.target.decode("latin-1"),
            Headers([(name.decode("latin-1"), value.decode("latin-1").rstrip(" \t")) for name, value in self.headers]),
            self.body if self.body is not None else _NO_BODY,
            scheme=peer.scheme,
            client_ip=peer.ip,
            peer=peer,
        )
