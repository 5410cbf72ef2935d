"""The way to hosts outside the local world: directly, or by the proxy that the user's own environment names.

HTTPS_PROXY and HTTP_PROXY (ALL_PROXY for either) say which proxy, NO_PROXY which hosts go past it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import urllib.parse
from dataclasses import dataclass

HEAD_BYTES_MAX = 64 * 1024
HEAD_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnProxy:
    """The user's own proxy. `authorization` is the value of Proxy-Authorization, or None."""

    host: str
    port: int
    authorization: str | None = None

    @property
    def field(self) -> str:
        """The header line to add, or nothing."""
        return "" if self.authorization is None else f"Proxy-Authorization: {self.authorization}\r\n"


def own_proxy(host: str, *, tls: bool) -> OwnProxy | None:
    """The user's own proxy for this host, or None where it is reached directly."""
    from urllib import request as environment

    proxies = environment.getproxies_environment()
    url = proxies.get("https" if tls else "http") or proxies.get("all")
    if not url or environment.proxy_bypass_environment(host, proxies):  # type: ignore[attr-defined]
        return None
    parts = urllib.parse.urlsplit(url if "//" in url else f"http://{url}")
    if parts.hostname is None:
        return None
    authorization = None
    if parts.username is not None:
        pair = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return OwnProxy(host=parts.hostname, port=parts.port or 8080, authorization=authorization)


def authority(host: str, port: int) -> str:
    """`host:port` as a request names it (RFC 3986 §3.2.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def connect(
    host: str, port: int, via: OwnProxy | None, *, tunnel: bool
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the host, or for a tunnel one through the user's own proxy. Raises OSError and its like."""
    reader, writer = await asyncio.open_connection(*((host, port) if via is None else (via.host, via.port)))
    if via is None or not tunnel:
        return reader, writer
    try:
        to = authority(host, port)
        writer.write(f"CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{via.field}\r\n".encode("latin-1"))
        status = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0]
        if status.split(b" ", 2)[1:2] != [b"200"]:
            raise ConnectionError(f"the proxy {via.host} says {status.decode('latin-1')}")
    except BaseException:
        writer.close()
        raise
    return reader, writer


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on every byte, and the end."""
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError, RuntimeError):
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()


async def copy_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Hand on the answer to a request that was forwarded alone, telling the client that no second one follows."""
    with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        while True:
            async with asyncio.timeout(HEAD_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            interim = head.split(b" ", 2)[1:2] != [b"101"] and head.split(b" ", 2)[1][:1] == b"1"
            writer.write(head if interim else closing(head))
            if not interim:
                break
    await copy(reader, writer)


def closing(head: bytes) -> bytes:
    """A response head whose connection ends with it (RFC 9112 §9.6)."""
    first, *fields = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    kept = [line for line in fields if not line.lower().startswith((b"connection:", b"keep-alive:", b"proxy-"))]
    return b"\r\n".join([first, *kept, b"Connection: close", b"", b""])
