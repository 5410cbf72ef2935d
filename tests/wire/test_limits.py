"""What a peer may cost: sizes, counts, time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nearpoint.wire.limits import Limits
from nearpoint.wire.message import BodyTooLargeError, Request, Response, StreamBody, read_all

GET = b"GET / HTTP/1.1\r\nHost: h\r\n"


async def ok(request: Request) -> Response:
    return Response(200, None, str(len(await read_all(request.body, 2**30))).encode())


SMALL = Limits(request_line_bytes_max=100, headers_bytes_max=500, header_count_max=10, body_bytes_max=1000)


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (200, b"GET /" + b"a" * 99 + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
        (414, b"GET /" + b"a" * 100 + b" HTTP/1.1\r\nHost: h\r\n\r\n"),
        (200, GET + b"A: b\r\n" * 9 + b"\r\n"),
        (431, GET + b"A: b\r\n" * 10 + b"\r\n"),
        (200, GET + b"A: " + b"b" * 400 + b"\r\n\r\n"),
        (431, GET + b"A: " + b"b" * 500 + b"\r\n\r\n"),
        (200, GET + b"Content-Length: 1000\r\n\r\n" + b"x" * 1000),
        (413, GET + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001),
        (413, GET + b"Content-Length: 1001\r\nExpect: 100-continue\r\n\r\n"),
        (200, GET + b"Transfer-Encoding: chunked\r\n\r\n3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n"),
        (413, GET + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n"),
        (413, GET + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n" + b"x" * 5000),
    ],
)
@pytest.mark.parametrize("piece", [None, 37])
async def test_sizes(world: Any, status: int, data: bytes, piece: int | None) -> None:
    talk = await world.dial(await world.serve(ok, limits=SMALL))
    if piece is None:
        await talk.say(data)
    else:
        for at in range(0, len(data), piece):
            await talk.say(data[at : at + piece])
            await asyncio.sleep(0)
    answer = await talk.answer()
    assert answer.status == status
    if status != 200:
        assert answer.get("connection") == "close"


async def test_an_endless_field_is_cut(world: Any) -> None:
    talk = await world.dial(await world.serve(ok))
    await talk.say(GET + b"A: ")
    with contextlib.suppress(OSError):
        for _ in range(100):
            await talk.say(b"x" * 65_536)
    assert (await talk.answer()).status == 431


async def test_an_endless_target_is_cut(world: Any) -> None:
    talk = await world.dial(await world.serve(ok))
    await talk.say(b"GET /" + b"x" * 20_000)
    assert (await talk.answer()).status == 414


async def test_a_handler_can_see_that_the_body_is_too_large(world: Any) -> None:
    async def handler(request: Request) -> Response:
        try:
            await read_all(request.body, 2**30)
        except BodyTooLargeError:
            return Response(400, None, b"EntityTooLarge")
        return Response(200)

    talk = await world.dial(await world.serve(handler, limits=SMALL))
    await talk.say(GET + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n")
    assert (await talk.answer()).body == b"EntityTooLarge"
    assert await talk.closed()


async def test_too_many_connections(world: Any) -> None:
    port = await world.serve(ok, limits=Limits(connections_max=2))
    first, second, third = [await world.dial(port) for _ in range(3)]
    assert (await third.answer()).status == 503
    assert await third.closed()
    await first.say(GET + b"\r\n")
    assert (await first.answer()).status == 200
    await second.hang_up()
    await third.hang_up()
    await asyncio.sleep(0.05)
    fourth = await world.dial(port)
    await fourth.say(GET + b"\r\n")
    assert (await fourth.answer()).status == 200


async def test_a_head_that_does_not_end(world: Any) -> None:
    talk = await world.dial(await world.serve(ok, limits=Limits(header_timeout_s=0.2)))

    async def dribble() -> None:
        with contextlib.suppress(OSError):
            await talk.say(GET)
            while True:
                await talk.say(b"A: b\r\n")
                await asyncio.sleep(0.02)

    dribbling = asyncio.create_task(dribble())
    assert (await talk.answer()).status == 408
    dribbling.cancel()


async def test_an_idle_connection(world: Any) -> None:
    talk = await world.dial(await world.serve(ok, limits=Limits(idle_timeout_s=0.2)))
    await talk.say(GET + b"\r\n")
    assert (await talk.answer()).status == 200
    assert await talk.closed()


async def test_a_connection_that_never_speaks(world: Any) -> None:
    talk = await world.dial(await world.serve(ok, limits=Limits(idle_timeout_s=0.2)))
    assert await talk.closed()


async def test_line_breaks_keep_no_connection_alive(world: Any) -> None:
    talk = await world.dial(await world.serve(ok, limits=Limits(idle_timeout_s=0.2)))

    async def dribble() -> None:
        with contextlib.suppress(OSError):
            while True:
                await talk.say(b"\r\n")
                await asyncio.sleep(0.02)

    dribbling = asyncio.create_task(dribble())
    assert await talk.closed()
    dribbling.cancel()


async def test_a_body_that_stops_arriving(world: Any) -> None:
    talk = await world.dial(await world.serve(ok, limits=Limits(body_timeout_s=0.2)))
    await talk.say(GET + b"Content-Length: 100\r\n\r\nabc")
    answer = await talk.answer()
    assert (answer.status, answer.get("connection")) == (408, "close")
    talk.writer.write_eof()
    assert await talk.closed()


async def test_a_slow_handler_is_not_the_clients_fault(world: Any) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(0.5)
        return await ok(request)

    limits = Limits(body_timeout_s=0.1, idle_timeout_s=0.1, header_timeout_s=0.1, write_timeout_s=0.1)
    talk = await world.dial(await world.serve(handler, limits=limits))
    await talk.say(GET + b"Content-Length: 3\r\n\r\nabc")
    assert (await talk.answer()).body == b"3"


async def test_an_unread_body_that_never_comes(world: Any) -> None:
    async def handler(request: Request) -> Response:
        return Response(200)

    talk = await world.dial(await world.serve(handler, limits=Limits(body_timeout_s=0.2)))
    await talk.say(GET + b"Content-Length: 100\r\n\r\nabc")
    assert (await talk.answer()).status == 200
    talk.writer.write_eof()
    assert await talk.closed()


async def test_a_reader_that_stops_reading(world: Any) -> None:
    ended = asyncio.Event()

    async def handler(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 65_536
            finally:
                ended.set()

        return Response(200, None, StreamBody(chunks()))

    port = await world.serve(handler, limits=Limits(write_timeout_s=0.2))
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(GET + b"\r\n")
    async with asyncio.timeout(5):
        await ended.wait()
    sock.close()


async def test_a_reader_that_stops_reading_the_last_response(world: Any) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, None, b"x" * 2**24)

    port = await world.serve(handler, limits=Limits(write_timeout_s=0.2))
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.sendall(GET + b"Connection: close\r\n\r\n")
    async with asyncio.timeout(5):
        while not world.servers[0].connection_count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        while world.servers[0].connection_count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    sock.close()


async def test_a_lingering_connection_ends(world: Any) -> None:
    talk = await world.dial(await world.serve(ok))
    await talk.say(b"nonsense\r\n\r\n")
    assert (await talk.answer()).status == 400
    async with asyncio.timeout(8):
        with contextlib.suppress(OSError):  # the peer never ends its side: only the server's patience does
            while True:
                await talk.say(b"x")
                await asyncio.sleep(0.05)


def test_the_clock_is_as_fine_as_the_shortest_limit() -> None:
    assert Limits().tick_s == 1
    assert Limits(idle_timeout_s=0.4).tick_s == 0.05
    assert Limits(idle_timeout_s=0.001).tick_s == 0.02
