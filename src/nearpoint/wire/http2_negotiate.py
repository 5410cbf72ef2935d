"""Chooses the protocol of a TLS connection by what the handshake agreed on (ALPN, RFC 7301; `h2`: RFC 9113 §3.2)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from nearpoint.wire.connection import Connection
from nearpoint.wire.http2 import Http2Connection

if TYPE_CHECKING:
    from nearpoint.wire.server import Server


class Negotiated(asyncio.Protocol):
    """Stands in until the handshake is done, then hands the transport over."""

    __slots__ = ("_server",)

    def __init__(self, server: Server) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        chosen: Any = transport.get_extra_info("ssl_object")
        http2 = chosen is not None and chosen.selected_alpn_protocol() == "h2"
        protocol = Http2Connection(self._server) if http2 else Connection(self._server)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
