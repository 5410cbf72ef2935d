"""However the network cuts a conversation into reads, the server sees the same requests and says the same."""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nearpoint.wire.connection import Connection
from nearpoint.wire.message import BodyTooLargeError, Request, Response, read_all
from nearpoint.wire.server import Server


class Wire:
    """The transport a connection thinks it has."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = False
        self.reading = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("192.0.2.1", 1) if name == "peername" else default

    def set_write_buffer_limits(self, high: int) -> None: ...

    def write(self, data: bytes) -> None:
        self.written += data

    def writelines(self, parts: list[bytes]) -> None:
        for part in parts:
            self.written += part

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def instant(method: bytes, target: bytes, headers: Any, peer: Any) -> bytes | None:
    return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" if target == b"/hit" else None


async def converse(pieces: list[bytes]) -> tuple[list[tuple[str, ...]], bytes, bool]:
    """What the handler saw and what the server wrote for input that arrives in these pieces."""
    seen: list[tuple[str, ...]] = []

    async def handler(request: Request) -> Response:
        try:
            body = (await read_all(request.body, 10_000)).decode("latin-1")
        except BodyTooLargeError:
            body = "too large"
        seen.append((request.method, request.target, repr(request.headers), body))
        return Response(200, None, body.encode("latin-1"))

    server = Server(handler, instant=instant)
    server.loop = asyncio.get_running_loop()
    server.date = "now"
    connection = Connection(server)
    wire = Wire()
    connection.connection_made(wire)  # type: ignore[arg-type]
    for piece in pieces:
        for _ in range(200):
            if wire.reading:
                break
            await asyncio.sleep(0)
        connection.data_received(piece)
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    # What a parser says about a malformed message may depend on where the bytes were cut; that it is refused may not.
    written = re.sub(
        rb"Content-Length: \d+\r\nConnection: close\r\n\r\n.*", b"refused", bytes(wire.written), flags=re.S
    )
    return seen, written, wire.closing


REQUESTS = [
    b"GET /a?b=c HTTP/1.1\r\nHost: h\r\nX-Long: " + b"v" * 50 + b"\r\n\r\n",
    b"GET /hit HTTP/1.1\r\nHost: h\r\n\r\n",
    b"PUT /l HTTP/1.1\r\nhost: h\r\nContent-Length: 11\r\n\r\nhello\r\n\r\nwo",
    b"POST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nwiki\r\n0\r\nT: t\r\n\r\n",
    b"HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"GET http://o/x HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET /up HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
    b"PUT /e HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n",
]
ENDINGS = [
    b"",
    b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\nGET /never HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /never HTTP/1.1\r\nHost: h\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX\r\n0\r\n\r\n",
    b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    b"nonsense",
]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(REQUESTS), max_size=5).flatmap(
        lambda requests: st.sampled_from(ENDINGS).flatmap(
            lambda ending: st.tuples(
                st.just(b"".join(requests) + ending),
                st.lists(st.integers(0, sum(map(len, requests)) + len(ending)), max_size=12),
            )
        )
    )
)
async def test_any_cut_gives_the_same_conversation(case: tuple[bytes, list[int]]) -> None:
    data, cuts = case
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(edges) if start != end]
    assert await converse(pieces) == await converse([data])


async def test_byte_by_byte() -> None:
    for ending in ENDINGS:
        data = b"".join(REQUESTS) + ending
        assert await converse([data[at : at + 1] for at in range(len(data))]) == await converse([data])


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 300))
async def test_any_bytes_are_survived(data: bytes, cut: int) -> None:
    pieces = [piece for piece in (data[:cut], data[cut:]) if piece]
    seen, _, _ = await converse(pieces)
    assert all(target.startswith("/") for _, target, _, _ in seen)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(REQUESTS[:5]).flatmap(
        lambda request: st.tuples(st.just(request), st.integers(0, len(request) - 1), st.integers(0, 255))
    )
)
async def test_a_changed_byte_never_makes_two_requests_of_one(case: tuple[bytes, int, int]) -> None:
    request, at, value = case
    changed = request[:at] + bytes([value]) + request[at + 1 :]
    _, written, _ = await converse([changed])
    assert written.count(b"HTTP/1.1 200") <= 1
