"""Server and client back to back, as every station of the path is."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from nearpoint.wire.client import Origin, UpstreamError
from nearpoint.wire.message import Headers, Request, Response, StreamBody, read_all

MIB = 2**20


async def proxied(world: Any, origin_port: int) -> int:
    client = world.client()
    origin = Origin(host="127.0.0.1", port=origin_port)

    async def forward(request: Request) -> Response:
        try:
            return await client.send(request, origin)
        except UpstreamError as error:
            return Response(502, None, error.reason.encode())

    return int(await world.serve(forward))


async def digest(request: Request) -> Response:
    hashed = hashlib.sha256()
    async for data in request.body:
        hashed.update(data)
    return Response(200, None, hashed.hexdigest().encode())


async def test_everything_passes_unchanged(world: Any) -> None:
    seen: list[Request] = []

    async def origin(request: Request) -> Response:
        seen.append(request)
        await read_all(request.body, MIB)
        return Response(
            206, Headers([("ETag", '"x"'), ("X-a", "\xe9"), ("Set-Cookie", "a"), ("Set-Cookie", "b")]), b"part"
        )

    talk = await world.dial(await proxied(world, await world.serve(origin)))
    await talk.say(
        b"PUT /..//%7e%zz?a&b=&b=+ HTTP/1.1\r\nHost: Some.Host:81\r\nX-A: \xff\r\nx-a: 2\r\n"
        b"Keep-Alive: 1\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc"
    )
    answer = await talk.answer()
    assert (answer.status, answer.body) == (206, b"part")
    assert [item for item in answer.headers if item[0] != "Date"] == [
        ("ETag", '"x"'),
        ("X-a", "\xe9"),
        ("Set-Cookie", "a"),
        ("Set-Cookie", "b"),
        ("Content-Length", "4"),
    ]
    (request,) = seen
    assert (request.method, request.target) == ("PUT", "/..//%7e%zz?a&b=&b=+")
    assert list(request.headers) == [
        ("Host", "Some.Host:81"),
        ("X-A", "\xff"),
        ("x-a", "2"),
        ("Content-Length", "3"),
    ]


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_uploads(world: Any, chunked: bool) -> None:
    port = await proxied(world, await world.serve(digest))
    data = bytes(range(256)) * (4096 * 32)
    response = await world.client().send(
        Request("PUT", "/", Headers([("Host", "h")]), StreamBody(_pieces(data), None if chunked else len(data))),
        Origin(host="127.0.0.1", port=port),
    )
    assert await read_all(response.body, 100) == hashlib.sha256(data).hexdigest().encode()


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 100_000):
        yield data[start : start + 100_000]


@pytest.mark.parametrize("chunked", [False, True])
async def test_large_downloads(world: Any, chunked: bool) -> None:
    data = bytes(range(256)) * (4096 * 32)

    async def origin(request: Request) -> Response:
        return Response(200, None, StreamBody(_pieces(data), None if chunked else len(data)))

    port = await proxied(world, await world.serve(origin))
    response = await world.client().send(Request("GET", "/"), Origin(host="127.0.0.1", port=port))
    assert await read_all(response.body, len(data)) == data


@pytest.mark.parametrize(
    ("answer", "ends"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc", b"\r\n\r\nabc"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", b"\r\n\r\n3\r\nabc\r\n"),
    ],
)
async def test_a_download_that_breaks_off_breaks_off_for_the_viewer(world: Any, answer: bytes, ends: bytes) -> None:
    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await asyncio.sleep(0.05)

    port = await proxied(world, await world.upstream(origin))
    data = await world.ask(port, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert data.endswith(ends)


async def test_to_http10_a_download_that_breaks_off_ends_in_a_reset(world: Any) -> None:
    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.05)

    talk = await world.dial(await proxied(world, await world.upstream(origin)))
    await talk.say(b"GET / HTTP/1.0\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await talk.reader.read()


async def test_continue_travels_end_to_end(world: Any) -> None:
    async def origin(request: Request) -> Response:
        if request.target == "/refused":
            return Response(403)
        return Response(200, None, await read_all(request.body, 100))

    port = await proxied(world, await world.serve(origin))
    head = "PUT {} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    talk = await world.dial(port)
    await talk.say(head.format("/").encode())
    assert (await talk.answer()).status == 100
    await talk.say(b"abc")
    assert (await talk.answer()).body == b"abc"
    await talk.say(head.format("/refused").encode())
    answer = await talk.answer()
    assert (answer.status, answer.get("connection")) == (403, "close")


async def test_a_viewer_that_leaves_frees_the_origin(world: Any) -> None:
    gone = asyncio.Event()

    async def origin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            assert await reader.read() == b""
        finally:
            gone.set()

    talk = await world.dial(await proxied(world, await world.upstream(origin)))
    await talk.say(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    await asyncio.sleep(0.05)
    await talk.hang_up()
    async with asyncio.timeout(5):
        await gone.wait()


async def test_an_origin_that_refuses_an_upload_in_the_middle(world: Any) -> None:
    async def origin(request: Request) -> Response:
        async for _ in request.body:
            return Response(403, None, b"enough")
        return Response(200)

    talk = await world.dial(await proxied(world, await world.serve(origin)))
    await talk.say(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % (8 * MIB) + b"x" * 65_536)
    answer = await talk.answer()
    assert (answer.status, answer.body) == (403, b"enough")
