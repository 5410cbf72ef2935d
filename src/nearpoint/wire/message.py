"""An HTTP message as a value: headers, body, request, response (RFC 9110).

Text of the wire is latin-1 `str` throughout, which loses no byte: what arrived is what is sent on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class Headers:
    """Header fields in order, names as they were written, looked up without regard to case.

    Every `name` argument may have any case. Values hold no surrounding white space.
    """

    __slots__ = ("_index", "_items")

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items: list[tuple[str, str]] = list(items)
        self._index: dict[str, list[str]] | None = None

    def by_name(self) -> Mapping[str, Sequence[str]]:
        """The values of every field in order, by its name in lower case; good until the fields change."""
        index = self._index
        return self._indexed() if index is None else index

    def _indexed(self) -> dict[str, list[str]]:
        index = self._index = {}
        for name, value in self._items:
            lowered = name.lower()
            if lowered in index:
                index[lowered].append(value)
            else:
                index[lowered] = [value]
        return index

    def get(self, name: str) -> str | None:
        """The first value of the field, or None."""
        index = self._index
        values = (self._indexed() if index is None else index).get(name.lower())
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        """Every value of the field, in order."""
        return list(self.by_name().get(name.lower(), ()))

    def joined(self, name: str) -> str | None:
        """The field as one comma-separated list (RFC 9110 §5.3), or None."""
        values = self.by_name().get(name.lower())
        return ", ".join(values) if values else None

    def add(self, name: str, value: str) -> None:
        """Append a field, keeping those of the same name."""
        self._items.append((name, value))
        if self._index is not None:
            self._index.setdefault(name.lower(), []).append(value)

    def set(self, name: str, value: str) -> None:
        """Make this the only field of that name, at the place of the first one if there was one."""
        lowered = name.lower()
        for at, (have, _) in enumerate(self._items):
            if have.lower() == lowered:
                rest = [item for item in self._items[at + 1 :] if item[0].lower() != lowered]
                self._items[at:] = [(name, value), *rest]
                break
        else:
            self._items.append((name, value))
        self._index = None

    def remove(self, name: str) -> None:
        """Drop every field of that name, if any."""
        lowered = name.lower()
        self._items = [item for item in self._items if item[0].lower() != lowered]
        self._index = None

    def copy(self) -> Headers:
        """An independent copy."""
        return Headers(self._items)

    def __contains__(self, name: str) -> bool:
        lowered = name.lower()
        if self._index is not None:
            return lowered in self._index
        for have, _ in self._items:  # noqa: SIM110 - a generator costs more than all the rest, for every answer
            if have.lower() == lowered:
                return True
        return False

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self._items == other._items

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __repr__(self) -> str:
        return f"Headers({self._items!r})"


class BodyTooLargeError(Exception):
    """A body is longer than its reader allows."""


class Body(Protocol):
    """A message body, read once, in order, with back-pressure: nothing is read ahead of the consumer."""

    @property
    def length(self) -> int | None:
        """Bytes to come, or None where it is not known beforehand (chunked)."""

    @property
    def delimited(self) -> bool:
        """Whether an end is a real one. False where only the connection's close says so, as it does when it breaks."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def close(self) -> None:
        """Stop reading: lets go of the connection or file behind it. May be called at any time, more than once."""


class BytesBody:
    """A body that is already in memory."""

    __slots__ = ("data",)
    delimited = True

    def __init__(self, data: bytes = b"") -> None:
        self.data = data

    @property
    def length(self) -> int:
        return len(self.data)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self.data:
            yield self.data

    async def close(self) -> None:
        return None


class StreamBody:
    """A body that comes from an async iterator of chunks, which raises when it breaks off."""

    __slots__ = ("_chunks", "_on_close", "delimited", "length")

    def __init__(
        self,
        chunks: AsyncIterator[bytes],
        length: int | None = None,
        on_close: Callable[[], Awaitable[None]] | None = None,
        *,
        delimited: bool = True,
    ) -> None:
        self._chunks = chunks
        self.delimited = delimited
        self._on_close = on_close
        self.length = length

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def close(self) -> None:
        aclose = getattr(self._chunks, "aclose", None)
        if aclose is not None:
            await aclose()
        if self._on_close is not None:
            on_close, self._on_close = self._on_close, None
            await on_close()


async def read_all(body: Body, limit_bytes: int) -> bytes:
    """The whole body as bytes. Raises BodyTooLargeError, having closed it, when it exceeds `limit_bytes`."""
    if isinstance(body, BytesBody):
        if len(body.data) > limit_bytes:
            raise BodyTooLargeError(f"{len(body.data)} bytes, {limit_bytes} allowed")
        return body.data
    parts: list[bytes] = []
    size = 0
    async for chunk in body:
        size += len(chunk)
        if size > limit_bytes:
            await body.close()
            raise BodyTooLargeError(f"more than {limit_bytes} bytes")
        parts.append(chunk)
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection: address as text (empty on a unix socket), `http` or `https`, port.

    `protocol` is `HTTP/1.1` or `HTTP/2.0`; `tls` and `cipher` are what TLS has agreed on, in OpenSSL's words, `resumed`
    whether with a session of before.
    """

    ip: str
    scheme: str
    port: int = 0
    protocol: str = "HTTP/1.1"
    tls: str = ""
    cipher: str = ""
    resumed: bool = False


class Request:
    """A request as received or to be sent.

    `target` is the origin form exactly as on the wire (`/path?query`, percent-encoding untouched); `scheme` is
    `http` or `https`; `client_ip` is the peer's address as text, empty for a request made here. `peer` is known of a
    request that a server has received, and of no copy.
    """

    __slots__ = ("body", "client_ip", "headers", "method", "peer", "scheme", "target")

    def __init__(
        self,
        method: str,
        target: str,
        headers: Headers | None = None,
        body: Body | bytes = b"",
        *,
        scheme: str = "http",
        client_ip: str = "",
        peer: Peer | None = None,
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers if headers is not None else Headers()
        self.body: Body = BytesBody(body) if isinstance(body, bytes) else body
        self.scheme = scheme
        self.client_ip = client_ip
        self.peer = peer

    @property
    def path(self) -> str:
        """The target up to the first `?`, still percent-encoded."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        """The target after the first `?`, still percent-encoded; empty when there is none."""
        return self.target.partition("?")[2]

    @property
    def host(self) -> str:
        """The Host header in lower case without its port; empty when there is none."""
        host = (self.headers.get("host") or "").lower()
        if host.startswith("["):
            return host.partition("]")[0] + "]"
        return host.partition(":")[0]

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.target}>"


class Response:
    """A response as received or to be sent. The reason phrase follows from the status.

    The server frames the body itself: `Content-Length` from `body.length`, chunked when that is None. To answer HEAD,
    give the headers a GET would have (`Content-Length` included) and an empty body.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: Headers | None = None, body: Body | bytes = b"") -> None:
        self.status = status
        self.headers = headers if headers is not None else Headers()
        self.body: Body = BytesBody(body) if isinstance(body, bytes) else body

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


# What a station looks like from outside: the server calls one, the client's `send` bound to an origin is one, and so
# any station can stand behind any other.
Exchange = Callable[[Request], Awaitable[Response]]
