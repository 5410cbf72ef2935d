"""The location proxy: where a client stands is its proxy user name, and where a name leads depends on that.

It tunnels (CONNECT, RFC 9110 §9.3.6) and forwards plain requests (absolute form, one a connection). Names of AWS end at
the local world, never outside it; every other host passes through, by way of the user's own proxy if there is one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import structlog

from nearpoint.world import outside
from nearpoint.world.links import End, Path, join

log = structlog.get_logger("nearpoint.proxy")

HEAD_BYTES_MAX = 64 * 1024
HEAD_TIMEOUT_S = 15.0
CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Local:
    """Ends at the local world: a TCP address and the way there."""

    address: tuple[str, int]
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Not ours: passes through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """No such place: the client is told which there are."""

    message: str


Destination = Local | Outside | Unknown
Resolve = Callable[[str, str, bool], Destination]
"""From the client's location (proxy user name), the host asked for (lower case) and whether it is for TLS."""


class _Head:
    """The head of a proxy request, as far as a proxy needs it."""

    def __init__(self, raw: bytes) -> None:
        lines = raw.split(b"\r\n")
        self.method, self.target, self.version = lines[0].decode("latin-1").split(" ")
        self.fields = [line for line in lines[1:] if line]

    def field(self, name: bytes) -> str | None:
        prefix = name.lower() + b":"
        for line in self.fields:
            if line[: len(prefix)].lower() == prefix:
                return line[len(prefix) :].strip().decode("latin-1")
        return None

    def user(self) -> str | None:
        """The user name of `Proxy-Authorization: Basic`, or None."""
        scheme, _, value = (self.field(b"proxy-authorization") or "").partition(" ")
        if scheme.lower() != "basic":
            return None
        try:
            return base64.b64decode(value, validate=True).decode("utf-8").partition(":")[0]
        except (binascii.Error, UnicodeDecodeError):
            return None

    def alone(self, target: str, extra: str = "") -> bytes:
        """The head to send on: no proxy fields but `extra`, and no second request on this connection."""
        hop = (b"proxy-authorization:", b"proxy-connection:", b"connection:", b"keep-alive:")
        kept = [line for line in self.fields if not line.lower().startswith(hop)]
        first = f"{self.method} {target} {self.version}".encode("latin-1")
        return b"\r\n".join([first, *kept, extra.encode("latin-1") + b"Connection: close", b"", b""])


class ProxyConnection(asyncio.Protocol):
    """Reads one request head, then hands the connection to a link or a pass-through."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(HEAD_TIMEOUT_S, self._refuse, 408, "Request Timeout", "No request came.")

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._task is not None or self._transport is None:
            return
        head, found, rest = self._received.partition(b"\r\n\r\n")
        if not found:
            if len(self._received) > HEAD_BYTES_MAX:
                self._refuse(431, "Request Header Fields Too Large", "The request head is too large.")
            return
        try:
            self._dispatch(_Head(head), rest)
        except ValueError:
            self._refuse(400, "Bad Request", "This is a proxy: it takes CONNECT or an absolute http:// address.")

    def _refuse(self, status: int, reason: str, text: str, *, extra: str = "") -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing():
            body = f"{text}\n".encode()
            head = f"HTTP/1.1 {status} {reason}\r\n{extra}Content-Type: text/plain\r\n"
            transport.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            transport.close()

    def _dispatch(self, head: _Head, rest: bytes) -> None:
        tunnel = head.method == "CONNECT"
        parts = urllib.parse.urlsplit(f"//{head.target}" if tunnel else head.target)
        host, port = (parts.hostname or "").lower().rstrip("."), parts.port
        if not host or (not tunnel and parts.scheme != "http"):
            raise ValueError(head.target)
        user = head.user()
        if user is None:
            text = "Say where you stand: the proxy's user name is a location, e.g. http://eu-west-1:x@127.0.0.1:PORT"
            challenge = 'Proxy-Authenticate: Basic realm="location"\r\n'
            self._refuse(407, "Proxy Authentication Required", text, extra=challenge)
            return
        port = port or (443 if tunnel else 80)
        match self._resolve(user, host, port == 443):
            case Unknown(message=message):
                self._refuse(404, "Not Found", message)
            case Local(address=address, path=path):
                first = rest if tunnel else head.alone(self._origin_target(parts)) + rest
                self._link(address, path, first, tunnel=tunnel)
            case Outside():
                if self._transport is not None:
                    self._transport.pause_reading()  # nothing may arrive before there is somewhere to put it
                going = self._pass_through(host, port, None if tunnel else head, rest, self._origin_target(parts))
                self._task = asyncio.get_running_loop().create_task(going)

    @staticmethod
    def _origin_target(parts: urllib.parse.SplitResult) -> str:
        return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")

    def _hand_over(self) -> asyncio.Transport | None:
        """This protocol's part is done: the transport, for the next one."""
        transport, self._transport = self._transport, None
        if self._timer is not None:
            self._timer.cancel()
        return transport

    def _link(self, address: tuple[str, int], path: Path, first: bytes, *, tunnel: bool) -> None:
        transport = self._hand_over()
        if transport is None:
            return
        near = End(path)
        transport.set_protocol(near)
        near.connection_made(transport)
        if path.fault in ("refuse", "stop"):
            near.abort()
            return
        self._task = join(near, address)
        if tunnel:
            transport.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        if first:
            near.data_received(first)

    async def _pass_through(self, host: str, port: int, head: _Head | None, rest: bytes, target: str) -> None:
        """To a host outside: a tunnel without `head`, else that request alone."""
        via = outside.own_proxy(host, tls=head is None)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                far_reader, far_writer = await outside.connect(host, port, via, tunnel=head is None)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            self._refuse(502, "Bad Gateway", f"{host}:{port} cannot be reached: {error or 'time-out'}")
            return
        transport = self._hand_over()
        if transport is None:
            far_writer.close()
            return
        near_reader = asyncio.StreamReader()
        near_protocol = asyncio.StreamReaderProtocol(near_reader)
        transport.set_protocol(near_protocol)
        near_protocol.connection_made(transport)
        near_writer = asyncio.StreamWriter(transport, near_protocol, near_reader, asyncio.get_running_loop())
        transport.resume_reading()
        if head is None:
            near_writer.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
            answer = outside.copy(far_reader, near_writer)
        else:
            far_writer.write(head.alone(target if via is None else head.target, "" if via is None else via.field))
            answer = outside.copy_answer(far_reader, near_writer)
        far_writer.write(rest)
        await asyncio.gather(outside.copy(near_reader, far_writer), answer)
        far_writer.close()
        near_writer.close()
