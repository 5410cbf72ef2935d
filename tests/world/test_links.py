"""Links over real sockets: nothing lost, nothing early, and every fault as it is named."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from nearpoint.world.links import Path, Relay


@asynccontextmanager
async def echo_behind(path: Path) -> AsyncIterator[int]:
    """A relay over `path` to a server that sends back what it gets; yields the relay's port."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    target = server.sockets[0].getsockname()
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    relay = Relay(path, lambda: target)
    await relay.start(sock)
    yield sock.getsockname()[1]
    server.close()
    for end in list(path.ends):
        end.abort()


async def exchange(port: int, data: bytes, timeout_s: float = 20) -> bytes:
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            writer.write_eof()
            return await reader.read(-1)
        finally:
            writer.close()


async def test_bytes_arrive_whole_and_not_before_their_time() -> None:
    async with echo_behind(Path(rtt_ms=60)) as port:
        started = time.monotonic()
        assert await exchange(port, b"ping") == b"ping"
        # Handshake and exchange: two round trips, less the jitter.
        assert time.monotonic() - started >= 0.06 * 2 * 0.97


async def test_a_large_stream_keeps_its_order_with_bounded_memory() -> None:
    async with echo_behind(Path(rtt_ms=1)) as port:
        data = bytes(range(256)) * 40_000
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def send() -> None:
            writer.write(data)
            await writer.drain()
            writer.write_eof()

        sending = asyncio.create_task(send())
        async with asyncio.timeout(30):
            assert await reader.read(-1) == data
        await sending
        writer.close()


@pytest.mark.parametrize("fault", ["refuse", "stop"])
async def test_a_cut_link_resets_new_and_open_connections(fault: str) -> None:
    path = Path(rtt_ms=1)
    async with echo_behind(path) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        path.set_fault(fault)
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.close()
        with pytest.raises(ConnectionError):
            await exchange(port, b"y")
        path.set_fault(None)
        assert await exchange(port, b"z") == b"z"


async def test_a_black_hole_neither_answers_nor_refuses_and_heals() -> None:
    path = Path(rtt_ms=1)
    path.set_fault("blackhole")
    async with echo_behind(path) as port:
        with pytest.raises(TimeoutError):
            await exchange(port, b"lost", timeout_s=0.3)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"lost")
        await asyncio.sleep(0.05)
        path.set_fault(None)
        # What was swallowed cannot come back, so the connection must not go on as if it had.
        with pytest.raises(ConnectionError):
            await reader.readexactly(1)
        writer.close()
        assert await exchange(port, b"found") == b"found"


async def test_errors_are_http_503s() -> None:
    path = Path(rtt_ms=1)
    path.set_fault("errors")
    async with echo_behind(path) as port:
        answer = await exchange(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert b"Content-Length: %d" % len(body) in head


async def test_slow_is_slower() -> None:
    path = Path(rtt_ms=1)
    path.set_fault("slow")
    async with echo_behind(path) as port:
        started = time.monotonic()
        assert await exchange(port, b"x") == b"x"
        assert time.monotonic() - started >= 1.9


async def test_nobody_behind_the_link_is_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        target = gone.getsockname()
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    await Relay(Path(rtt_ms=1), lambda: target).start(sock)
    with pytest.raises(ConnectionError):
        await exchange(sock.getsockname()[1], b"x")
