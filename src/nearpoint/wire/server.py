"""The server: sockets, connections, time-outs, drain.

What happens on a connection is in `connection` for HTTP/1.1 and in `http2` for HTTP/2, which a TLS listener speaks to
clients that choose it (`tls.Authority.server_context(alpn=("h2", "http/1.1"))`).
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from nearpoint.wire.connection import Connection
from nearpoint.wire.dates import http_date
from nearpoint.wire.exchange import KnownHead, RequestBodyError
from nearpoint.wire.filebody import FileBody
from nearpoint.wire.http2_negotiate import Negotiated
from nearpoint.wire.limits import Limits
from nearpoint.wire.message import Exchange, Peer, Response
from nearpoint.wire.outlet import default_error
from nearpoint.wire.ticker import Ticker

__all__ = ["Instant", "Peer", "RequestBodyError", "Server"]

_BACKLOG = 4096
_UNWIND_S = 1.0  # for cancelled handlers to let go of what they hold


class Instant(Protocol):
    """Answers requests that need no work, on the hot path: no Request object, no task.

    Called only for requests without a body, in their turn. `headers` are as received: names in any case, values
    perhaps with white space at the end. Returns the complete response (status line, header block, body; HEAD without
    body; no Connection field, which the server adds where it is due) or None to let the handler answer. The first of
    several pieces holds the whole status line; the last may lie in a file. For HTTP/2 the
    head is translated line by line; a first piece that ends within the head and comes again is translated only once.
    `headers` may be shared between requests: not to be changed. Those that come again and again are `KnownFields`.
    """

    def __call__(
        self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], peer: Peer
    ) -> bytes | Sequence[bytes | FileBody] | None: ...


class Served(Protocol):
    """What the server needs of a connection of either protocol."""

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]: ...

    def close_if_idle(self) -> None: ...

    def kill(self) -> None: ...

    def check(self, now: float) -> None: ...


class Server:
    """Serves one handler on any number of listening sockets.

    `error` makes the page for what the server itself refuses: it gets the status and a sentence, and returns a
    Response whose body is in memory. A handler that raises is answered 500; its error is logged without headers,
    query or body.
    """

    def __init__(
        self,
        handler: Exchange,
        *,
        limits: Limits | None = None,
        tls: ssl.SSLContext | None = None,
        instant: Instant | None = None,
        error: Callable[[int, str], Response] | None = None,
    ) -> None:
        self.handler = handler
        self.limits = limits if limits is not None else Limits()
        self.instant = instant
        self.draining = False
        self.known_heads: dict[bytes, KnownHead] = {}
        self.date = ""
        self.loop: asyncio.AbstractEventLoop
        self.ticker = Ticker(self.limits.tick_s, self._tick)
        self._error = error
        self._tls = tls
        self._connections: set[Served] = set()
        self._listeners: list[asyncio.Server] = []
        self._empty: asyncio.Event | None = None
        self._second = 0

    async def start(self, sock: socket.socket) -> None:
        """Serve a socket that is already listening (TCP or unix). May be called for several."""
        self.loop = asyncio.get_running_loop()
        self.ticker.start()
        self._set_date()
        if sock.family != socket.AF_UNIX:
            # Connections inherit it. asyncio sets it on none that a plain `socket.socket()` has accepted, and then a
            # second small write waits for the peer's delayed acknowledgement: 40 ms.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol = Connection if self._tls is None else Negotiated
        create = self.loop.create_unix_server if sock.family == socket.AF_UNIX else self.loop.create_server
        self._listeners.append(
            await create(
                lambda: protocol(self),
                sock=sock,
                backlog=_BACKLOG,
                ssl=self._tls,
                ssl_handshake_timeout=self.limits.header_timeout_s if self._tls is not None else None,
                # It runs from `close` on, while what was written may still be on its way: not shorter than that takes.
                ssl_shutdown_timeout=self.limits.write_timeout_s if self._tls is not None else None,
            )
        )

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting, let the requests under way finish for at most `timeout_s`, then close everything."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for connection in list(self._connections):
            connection.close_if_idle()
        self._empty = asyncio.Event()
        try:
            await self._emptied(timeout_s)
        finally:
            left = list(self._connections)
            tasks = [task for connection in left for task in connection.tasks]
            for connection in left:
                connection.kill()
            self.ticker.stop()
        if tasks:
            await asyncio.wait(tasks, timeout=_UNWIND_S)
        await self._emptied(_UNWIND_S)

    async def _emptied(self, timeout_s: float) -> None:
        assert self._empty is not None
        if self._connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await self._empty.wait()

    @property
    def connection_count(self) -> int:
        """Open connections."""
        return len(self._connections)

    def admit(self, connection: Served) -> bool:
        """Take up a new connection; False when there are too many."""
        self._connections.add(connection)
        return len(self._connections) <= self.limits.connections_max

    def forget(self, connection: Served) -> None:
        """A connection has ended."""
        self._connections.discard(connection)
        if self._empty is not None and not self._connections:
            self._empty.set()

    def error_response(self, status: int, reason: str) -> Response:
        """The page for a refusal of the server's own."""
        if self._error is not None:
            return self._error(status, reason)
        return default_error(status, reason)

    def _tick(self, now: float) -> None:
        self._set_date()
        for connection in list(self._connections):
            connection.check(now)

    def _set_date(self) -> None:
        moment = datetime.now(UTC)
        if moment.second != self._second or not self.date:
            self._second = moment.second
            self.date = http_date(moment)
