"""A link between two places: TCP that takes the time its distance takes, and fails on demand.

Bytes pass through unread; what a node measures through a link is therefore its own measurement. A link delays each
direction by half the round trip (plus jitter and what the bandwidth costs) and a new connection by one round trip, as a
handshake would.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections import deque
from collections.abc import Callable
from math import ceil
from typing import Final, cast

QUEUE_BYTES_MAX = 1024 * 1024  # in flight per direction: a window of 1 MiB
BYTES_PER_S = 125_000_000  # 1 Gbit/s
JITTER = 0.02
SLOW_EXTRA_S = 2.0
CONNECT_TIMEOUT_S = 5.0
FAULTS: Final = ("refuse", "blackhole", "slow", "errors", "stop")

_UNAVAILABLE_BODY = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>ServiceUnavailable</Code><Message>This region is failing on purpose.</Message></Error>"
)
_UNAVAILABLE = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%b" % (len(_UNAVAILABLE_BODY), _UNAVAILABLE_BODY)
)


class Path:
    """The way between two places. `fault` is one of FAULTS or None and may be changed while connections are open."""

    def __init__(self, rtt_ms: float) -> None:
        self.rtt_s = rtt_ms / 1000
        self.fault: str | None = None
        self.ends: set[End] = set()

    def delay_s(self) -> float:
        """What the next chunk takes, one way."""
        one_way_s = self.rtt_s / 2 * (1 + random.uniform(-JITTER, JITTER))  # noqa: S311 - not a secret
        return one_way_s + (SLOW_EXTRA_S / 2 if self.fault == "slow" else 0.0)

    def set_fault(self, fault: str | None) -> None:
        """Break or heal. Connections that cannot go on as they are (bytes were lost) are reset."""
        before, self.fault = self.fault, fault
        if fault in ("refuse", "stop", "errors") or before == "blackhole":
            for end in list(self.ends):
                end.abort()


class End(asyncio.Protocol):
    """One end of a connection through a link: what arrives here is delivered, later, at the other end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.other: End | None = None
        self.transport: asyncio.Transport | None = None
        self.not_before = 0.0
        self._queue: deque[tuple[float, bytes | None]] = deque()
        self._queued_bytes = 0
        self._free_at = 0.0
        self._writable = True
        self._closing = False
        self._paused = False
        self._ended = False  # the peer has sent its last byte
        self._written = False  # and so have we
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.path.ends.add(self)
        self._pump()

    def data_received(self, data: bytes) -> None:
        other = self.other
        if other is None or self.path.fault in ("blackhole", "refuse", "stop"):
            return
        if self.path.fault == "errors" and self.transport is not None:
            self.transport.write(_UNAVAILABLE)
            self.transport.close()
            return
        other.deliver(data)
        if other._queued_bytes > QUEUE_BYTES_MAX and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self._ended = True
        if self.other is not None and self.path.fault != "blackhole":
            self.other.deliver(None)
        return not self._written

    def connection_lost(self, exc: Exception | None) -> None:
        self.path.ends.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self.transport = None
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            if exc is not None:
                other.abort()
            else:
                other.finish()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._pump()

    def deliver(self, data: bytes | None) -> None:
        """Write `data` here (None: end of stream) once it has travelled."""
        now = self._loop.time()
        self._free_at = max(now, self._free_at, self.not_before) + (len(data) / BYTES_PER_S if data else 0.0)
        due = self._free_at + self.path.delay_s()
        if self._queue:
            due = max(due, self._queue[-1][0])
        self._queue.append((due, data))
        self._queued_bytes += len(data) if data else 0
        if self._timer is None:
            self._pump()

    def finish(self) -> None:
        """Close when everything under way has arrived."""
        self._closing = True
        if self._timer is None:
            self._pump()

    def abort(self) -> None:
        """Reset this connection, and with it the other."""
        transport, self.transport = self.transport, None
        if transport is not None:
            reset(transport)
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            other.abort()

    def resume(self) -> None:
        """Read on, where this end had stopped because the other could not keep up."""
        if self._paused and self.transport is not None:
            self._paused = False
            self.transport.resume_reading()

    def _pump(self) -> None:
        self._timer = None
        transport = self.transport
        if transport is None or not self._writable:
            return
        now = self._loop.time()
        while self._queue and self._writable:
            due, data = self._queue[0]
            if due > now:
                # The loop's timers count whole milliseconds: rounded up, or it would spin until the time has come.
                self._timer = self._loop.call_later(ceil((due - now) * 1000) / 1000, self._pump)
                break
            self._queue.popleft()
            if data is None:
                self._written = True
                if self._ended:
                    self._closing = True
                elif transport.can_write_eof() and not transport.is_closing():
                    transport.write_eof()
            else:
                self._queued_bytes -= len(data)
                transport.write(data)
        if self._queued_bytes < QUEUE_BYTES_MAX // 2 and self.other is not None:
            self.other.resume()
        if self._closing and not self._queue:
            transport.close()


def reset(transport: asyncio.Transport) -> None:
    """Close with RST, so that the peer sees a failure at once rather than an orderly end."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def join(near: End, target: tuple[str, int]) -> asyncio.Task[None]:
    """Connect the accepted end to `target` over its path. When nothing answers there, the near end is reset."""
    path = near.path
    loop = asyncio.get_running_loop()
    far = End(path)
    near.other, far.other = far, near
    # One round trip for the handshake, before the first byte arrives.
    far.not_before = loop.time() + path.rtt_s

    async def connect() -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_connection(lambda: far, *target)
        except (OSError, TimeoutError):
            near.abort()

    return loop.create_task(connect())


class Relay:
    """Accepts on one socket and joins each connection to the target over the path."""

    def __init__(self, path: Path, target: Callable[[], tuple[str, int]]) -> None:
        self.path = path
        self._target = target
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, sock: socket.socket) -> None:
        await asyncio.get_running_loop().create_server(self._accept, sock=sock)

    def _accept(self) -> asyncio.Protocol:
        relay = self

        class Accepted(End):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                super().connection_made(transport)
                if self.path.fault in ("refuse", "stop"):
                    self.abort()
                elif self.path.fault != "blackhole":
                    task = join(self, relay._target())
                    relay._tasks.add(task)
                    task.add_done_callback(relay._tasks.discard)

        return Accepted(self.path)
