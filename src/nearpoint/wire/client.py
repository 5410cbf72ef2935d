"""The HTTP/1.1 client: a pool of connections per origin. What happens on a connection is in `upstream`."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Any

from nearpoint.wire.limits import Timeouts
from nearpoint.wire.message import Request, Response
from nearpoint.wire.ticker import Ticker
from nearpoint.wire.upstream import UpstreamConnection
from nearpoint.wire.upstream_error import StaleError, UpstreamError

__all__ = ["Client", "Origin", "Timeouts", "UpstreamError"]

_TICK_S = 0.1
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})  # RFC 9110 §9.2.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where to connect: a host and port, or a unix socket. `server_name` is verified (and sent) instead of `host`.

    `idle_s` is how long an idle connection is kept, where that is not the client's to say.
    """

    host: str
    port: int
    tls: bool = False
    server_name: str | None = None
    unix_path: str | None = None
    idle_s: float | None = None

    @property
    def authority(self) -> str:
        """The Host field for a request that brings none."""
        host = self.server_name or self.host
        if ":" in host:
            host = f"[{host}]"
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class _Pool:
    """The connections to one origin: `open_count` of them, the idle ones with the last used at the end."""

    __slots__ = ("authority", "connections", "idle", "idle_s", "open_count", "waiters")

    def __init__(self, authority: str, idle_s: float) -> None:
        self.authority = authority
        self.idle_s = idle_s
        self.open_count = 0
        self.connections: set[UpstreamConnection] = set()
        self.idle: list[UpstreamConnection] = []
        self.waiters: deque[asyncio.Future[UpstreamConnection | None]] = deque()


class Client:
    """Sends requests to origins over kept-alive connections.

    `tls` is used for every TLS origin (the system's authorities by default). At most `connections_per_origin_max`
    connections are open to one origin and `waiters_per_origin_max` requests wait for one; an idle connection is
    closed after `idle_s` seconds.
    """

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        connections_per_origin_max: int = 256,
        waiters_per_origin_max: int = 1024,
        idle_s: float = 30,
    ) -> None:
        self._tls = tls
        self._connections_max = connections_per_origin_max
        self._waiters_max = waiters_per_origin_max
        self._idle_s = idle_s
        self._pools: dict[Origin, _Pool] = {}
        self._ticker = Ticker(_TICK_S, self._tick)
        self._closed = False

    async def send(self, request: Request, origin: Origin, timeouts: Timeouts | None = None) -> Response:
        """Send the request and return the response as soon as its head is there; both bodies stream.

        The response's body must be read to its end or closed; closing it early closes the connection. The request's
        body stays the caller's to close. Hop-by-hop fields are dropped both ways. A request without a body whose
        method is idempotent is sent once more when a kept-alive connection turns out to be gone.

        Raises UpstreamError; what the request's body raises while it is read; `framing.MalformedHeadError` for a
        request that can't be written. The iteration of the response's body raises UpstreamError when it breaks off.
        """
        limits = timeouts if timeouts is not None else _DEFAULT
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = _Pool(
                origin.authority, self._idle_s if origin.idle_s is None else origin.idle_s
            )
        connection: UpstreamConnection | None = None
        while pool.idle:
            connection = pool.idle.pop()
            if connection.usable:
                break
            connection = None
        if connection is None:
            connection = await self._acquire(pool, origin, limits)
        try:
            return await connection.exchange(request, pool.authority, limits)
        except StaleError:
            if request.method not in _IDEMPOTENT or request.body.length != 0:
                raise
        pool = self._pools.setdefault(origin, pool)
        pool.open_count += 1
        connection = await self._connect(pool, origin, limits)
        return await connection.exchange(request, pool.authority, limits)

    async def close(self) -> None:
        """Close every connection; exchanges under way end with UpstreamError."""
        self._closed = True
        for pool in list(self._pools.values()):
            for waiter in pool.waiters:
                if not waiter.done():
                    waiter.set_exception(UpstreamError("connect", "the client was closed", retry_safe=True))
            pool.waiters.clear()
            for connection in list(pool.connections):
                connection.shut()
        self._pools.clear()
        self._ticker.stop()

    # --- the pool

    async def _acquire(self, pool: _Pool, origin: Origin, timeouts: Timeouts) -> UpstreamConnection:
        """A free connection, a new one where the bound allows it, or the next one that becomes free."""
        if pool.open_count < self._connections_max:
            pool.open_count += 1
            return await self._connect(pool, origin, timeouts)
        if len(pool.waiters) >= self._waiters_max:
            raise UpstreamError("connect", "too many requests wait for a connection", retry_safe=True)
        waiter: asyncio.Future[UpstreamConnection | None] = asyncio.get_running_loop().create_future()
        pool.waiters.append(waiter)
        try:
            async with asyncio.timeout(timeouts.connect_s):
                connection = await waiter
        except BaseException as error:
            if waiter in pool.waiters:
                pool.waiters.remove(waiter)
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._return(origin, pool, waiter.result())
            if isinstance(error, TimeoutError):
                raise UpstreamError("connect", "no connection became free in time", retry_safe=True) from None
            raise
        if connection is not None and connection.usable:
            return connection
        if connection is not None:
            return await self._acquire(pool, origin, timeouts)
        return await self._connect(pool, origin, timeouts)

    async def _connect(self, pool: _Pool, origin: Origin, timeouts: Timeouts) -> UpstreamConnection:
        """A new connection, on a place in `pool.open_count` that has been taken already."""
        self._ticker.start()

        def gone(connection: UpstreamConnection) -> None:
            if connection in pool.connections:
                pool.connections.discard(connection)
                if connection in pool.idle:
                    pool.idle.remove(connection)
                self._return(origin, pool, None)

        def free(connection: UpstreamConnection) -> None:
            self._return(origin, pool, connection)

        def make() -> UpstreamConnection:
            return UpstreamConnection(self._ticker, free, gone)

        loop = asyncio.get_running_loop()
        settings: dict[str, Any] = {}
        if origin.tls:
            settings["ssl"] = self._context()
            settings["server_hostname"] = origin.server_name or origin.host
        connection: UpstreamConnection
        try:
            if self._closed:
                raise UpstreamError("connect", "the client is closed", retry_safe=True)
            async with asyncio.timeout(timeouts.connect_s):
                if origin.unix_path is not None:
                    _, connection = await loop.create_unix_connection(make, origin.unix_path, **settings)
                else:
                    _, connection = await loop.create_connection(make, origin.host, origin.port, **settings)
        except BaseException as error:
            self._return(origin, pool, None)
            if isinstance(error, TimeoutError):
                raise UpstreamError("connect", "connecting took too long", retry_safe=True) from error
            if isinstance(error, OSError | ValueError):  # ValueError: a name that can be no host's
                raise UpstreamError("connect", f"can't connect: {error}", retry_safe=True) from error
            raise
        if not connection.usable:
            connection.abort()
            self._return(origin, pool, None)
            raise UpstreamError("connect", "the connection was closed at once", retry_safe=True)
        pool.connections.add(connection)
        return connection

    def _return(self, origin: Origin, pool: _Pool, connection: UpstreamConnection | None) -> None:
        """A connection (or, as None, the place of one) is free: it goes to the next who waits."""
        while pool.waiters:
            waiter = pool.waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if connection is not None:
            pool.idle.append(connection)
            return
        pool.open_count -= 1
        if not pool.open_count and self._pools.get(origin) is pool:
            del self._pools[origin]
            if not self._pools:
                self._ticker.stop()

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls

    def _tick(self, now: float) -> None:
        for pool in list(self._pools.values()):
            while pool.idle and pool.idle[0].idle_s(now) > pool.idle_s:
                pool.idle[0].close()
            for connection in list(pool.connections):
                connection.check(now)


_DEFAULT = Timeouts()
