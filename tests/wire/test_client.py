"""Conversations of the client with scripted origins: what is sent, what is read, what ends how."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nearpoint.wire.client import Origin, Timeouts, UpstreamError
from nearpoint.wire.framing import MalformedHeadError
from nearpoint.wire.message import Headers, Request, Response, StreamBody, read_all

MIB = 2**20
QUICK = Timeouts(connect_s=1, read_s=0.2, write_s=0.2, continue_s=0.1)


def at(port: int) -> Origin:
    return Origin(host="127.0.0.1", port=port)


def request(method: str = "GET", target: str = "/", body: Any = b"", **fields: str) -> Request:
    return Request(method, target, Headers([("Host", "h"), *fields.items()]), body)


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def body_of(response: Response) -> bytes:
    return await read_all(response.body, 64 * MIB)


def script(*answers: bytes, seen: list[bytes] | None = None) -> Any:
    """Answers the heads that come, one after the other, then closes."""

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            head = await head_of(reader)
            if seen is not None:
                seen.append(head)
            writer.write(answer)
            await writer.drain()

    return play


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def test_get(world: Any) -> None:
    seen: list[bytes] = []
    port = await world.upstream(script(OK, seen=seen))
    response = await world.client().send(request("GET", "/a?b", Connection="x", Accept="*/*"), at(port))
    assert (response.status, await body_of(response)) == (200, b"ok")
    assert list(response.headers) == [("Content-Length", "2")]
    assert seen == [b"GET /a?b HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n"]


@pytest.mark.parametrize(
    ("method", "body", "framing"),
    [
        ("PUT", b"", b"Content-Length: 0\r\n\r\n"),
        ("POST", b"abc", b"Content-Length: 3\r\n\r\nabc"),
        ("PUT", lambda: StreamBody(chunks(b"ab", b"", b"c"), 3), b"Content-Length: 3\r\n\r\nabc"),
        ("PUT", lambda: StreamBody(chunks(b"ab", b"", b"c")), b"chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n"),
        ("PUT", lambda: StreamBody(chunks(), 0), b"Content-Length: 0\r\n\r\n"),
        ("DELETE", b"", b"Host: h\r\n\r\n"),
    ],
)
async def test_framing_of_what_is_sent(world: Any, method: str, body: Any, framing: bytes) -> None:
    got = bytearray()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not got.endswith(framing):
            got.extend(await reader.read(100))
        writer.write(OK)
        assert await reader.read() == b""

    port = await world.upstream(play)
    client = world.client()
    async with asyncio.timeout(5):
        response = await client.send(request(method, "/", body() if callable(body) else body), at(port))
    assert await body_of(response) == b"ok"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3;e\r\ndef\r\n0\r\nT: t\r\n\r\n",
            b"abcdef",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\nup to the end", b"up to the end"),
        (b"HTTP/1.0 200 OK\r\n\r\nold", b"old"),
        (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", b"x"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", b""),
        (b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", b"no"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
    ],
)
@pytest.mark.parametrize("piecewise", [False, True])
async def test_framing_of_what_is_read(world: Any, answer: bytes, body: bytes, piecewise: bool) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        for start in range(0, len(answer), 1 if piecewise else len(answer)):
            writer.write(answer[start : start + (1 if piecewise else len(answer))])
            await writer.drain()
            await asyncio.sleep(0)

    response = await world.client().send(request(), at(await world.upstream(play)))
    assert await body_of(response) == body
    assert "transfer-encoding" not in response.headers
    assert "connection" not in response.headers


async def test_head_has_no_body_whatever_it_declares(world: Any) -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    port = await world.upstream(script(answer, chunked, OK))
    client = world.client()
    response = await client.send(request("HEAD"), at(port))
    assert (response.headers.get("content-length"), await body_of(response)) == ("100", b"")
    assert await body_of(await client.send(request("HEAD"), at(port))) == b""
    assert await body_of(await client.send(request(), at(port))) == b"ok"


BROKEN = {
    "both lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, turned": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "a list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabcd",
    "another coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc",
    "another coding first": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, then another": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nabc",
    "a folded line": b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "a bare carriage return": b"HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 0\r\n\r\n",
    "NUL": b"HTTP/1.1 200 OK\r\nA: b\0c\r\nContent-Length: 0\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
    "a status below 100": b"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n",
    "a status above 599": b"HTTP/1.1 600 Odd\r\nContent-Length: 0\r\n\r\n",
    "a change of protocols": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "a change of protocols nobody asked for": b"HTTP/1.1 101 Switching\r\n\r\n",
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "a flood of informational responses": b"HTTP/1.1 102 Processing\r\n\r\n" * 100,
    "a flood of fields": b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
    "an endless field": b"HTTP/1.1 200 OK\r\nA: " + b"x" * MIB,
}


@pytest.mark.parametrize("label", BROKEN)
async def test_unsound_responses(world: Any, label: str) -> None:
    port = await world.upstream(script(BROKEN[label]))
    with pytest.raises(UpstreamError) as caught:
        await world.client().send(request(), at(port))
    assert caught.value.reason == "protocol"
    assert not caught.value.retry_safe


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", "lost"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nshort", "lost"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n", "lost"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n0\r\n", "lost"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshortX\r\n0\r\n\r\n", "protocol"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            + (b"1;" + b"e" * 8000 + b"\r\ns\r\n") * 64
            + b"0\r\n\r\n",
            "protocol",
        ),
    ],
)
async def test_a_short_body_is_never_taken_for_the_whole(world: Any, answer: bytes, reason: str) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        head, mark, body = answer.partition(b"\r\n\r\n")
        writer.write(head + mark)
        await asyncio.sleep(0.05)
        writer.write(body)
        await writer.drain()

    response = await world.client().send(request(), at(await world.upstream(play)))
    assert response.status == 200
    with pytest.raises(UpstreamError) as caught:
        await body_of(response)
    assert caught.value.reason == reason


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
async def test_no_response_at_all(world: Any, answer: bytes) -> None:
    port = await world.upstream(script(answer))
    with pytest.raises(UpstreamError) as caught:
        await world.client().send(request(), at(port))
    assert (caught.value.reason, caught.value.retry_safe) == ("lost", False)


async def test_nobody_there(world: Any, loopback_socket: Any) -> None:
    port = loopback_socket.getsockname()[1]
    loopback_socket.close()
    with pytest.raises(UpstreamError) as caught:
        await world.client().send(request("PUT", body=b"x"), at(port))
    assert (caught.value.reason, caught.value.retry_safe) == ("connect", True)


async def test_no_such_name(world: Any) -> None:
    with pytest.raises(UpstreamError) as caught:
        await world.client().send(request(), Origin(host="no-such-host.invalid", port=80))
    assert (caught.value.reason, caught.value.retry_safe) == ("connect", True)


async def test_no_response_in_time(world: Any) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    port = await world.upstream(silent)
    with pytest.raises(UpstreamError) as caught:
        await world.client().send(request(), at(port), QUICK)
    assert caught.value.reason == "timeout"


async def test_a_body_that_stops(world: Any) -> None:
    async def stops(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await reader.read()

    port = await world.upstream(stops)
    response = await world.client().send(request(), at(port), QUICK)
    with pytest.raises(UpstreamError) as caught:
        await body_of(response)
    assert caught.value.reason == "timeout"


async def test_a_slow_body_is_in_time_as_long_as_it_moves(world: Any) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        for _ in range(10):
            await asyncio.sleep(0.08)
            writer.write(b"x")

    port = await world.upstream(slow)
    response = await world.client().send(request(), at(port), QUICK)
    assert await body_of(response) == b"x" * 10


async def test_a_slow_request_body_is_not_the_origins_fault(world: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(0.6)
        yield b"b"

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        await reader.readexactly(2)
        writer.write(OK)

    port = await world.upstream(play)
    response = await world.client().send(request("PUT", body=StreamBody(body(), 2)), at(port), QUICK)
    assert await body_of(response) == b"ok"


async def test_an_origin_that_does_not_take_the_body(world: Any) -> None:
    async def full(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        await asyncio.sleep(5)

    port = await world.upstream(full)
    with pytest.raises(UpstreamError) as caught:
        await world.client().send(request("PUT", body=b"x" * (64 * MIB)), at(port), QUICK)
    assert caught.value.reason == "timeout"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_body_waits_for_continue(world: Any, stream: bool) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(3) == b"abc"
        writer.write(OK)

    body = StreamBody(chunks(b"abc"), 3) if stream else b"abc"
    response = await world.client().send(
        request("PUT", body=body, Expect="100-continue"), at(await world.upstream(play))
    )
    assert await body_of(response) == b"ok"


async def test_the_body_goes_without_continue_after_a_while(world: Any) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        assert await reader.readexactly(3) == b"abc"
        writer.write(OK)

    port = await world.upstream(play)
    response = await world.client().send(request("PUT", body=b"abc", Expect="100-continue"), at(port), QUICK)
    assert await body_of(response) == b"ok"


async def test_a_refusal_instead_of_continue(world: Any) -> None:
    rest: list[bytes] = []

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        rest.append(await reader.read())

    port = await world.upstream(play)
    client = world.client()
    response = await client.send(request("PUT", body=b"abc", Expect="100-continue"), at(port))
    assert (response.status, await body_of(response)) == (403, b"no")
    await asyncio.sleep(0.05)
    assert rest == [b""]  # the body was not sent, and so the connection was closed
    assert not client._pools


async def test_an_early_refusal_ends_the_sending(world: Any) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 1000
            await asyncio.sleep(0.001)

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        await reader.readexactly(1000)
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    client = world.client()
    port = await world.upstream(play)
    response = await client.send(request("PUT", body=StreamBody(body())), at(port))
    assert (response.status, await body_of(response)) == (413, b"no")
    await asyncio.sleep(0.05)
    stopped_at = sent
    await asyncio.sleep(0.05)
    assert sent == stopped_at
    assert not client._pools


async def test_a_response_while_the_request_is_still_being_sent(world: Any) -> None:
    more = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"one"
        await more.wait()
        yield b"two"

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n" + await reader.readexactly(3))
        writer.write(await reader.readexactly(3))
        await reader.read()

    client = world.client()
    origin = at(await world.upstream(play))
    response = await client.send(request("POST", body=StreamBody(body(), 6)), origin)
    received = aiter(response.body)
    assert await anext(received) == b"one"
    more.set()
    assert await anext(received) == b"two"
    with pytest.raises(StopAsyncIteration):
        await anext(received)
    await asyncio.sleep(0.02)
    assert len(client._pools[origin].idle) == 1


async def test_an_error_of_the_requests_body_comes_back(world: Any) -> None:
    cut: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        yield b"half"
        raise KeyError("the viewer went away")

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        cut.append(await reader.read())

    port = await world.upstream(play)
    with pytest.raises(KeyError):
        await world.client().send(request("PUT", body=StreamBody(body())), at(port))
    await asyncio.sleep(0.05)
    assert not cut or b"0\r\n\r\n" not in cut[0]


@pytest.mark.parametrize("length", [3, 5])
async def test_a_body_that_is_not_as_long_as_it_says(world: Any, length: int) -> None:
    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    port = await world.upstream(play)
    with pytest.raises(ValueError, match="length"):
        await world.client().send(request("PUT", body=StreamBody(chunks(b"ab", b"cd"), length)), at(port), QUICK)


async def test_a_request_that_can_not_be_written_costs_no_connection(world: Any) -> None:
    client = world.client()
    origin = at(await world.upstream(script(OK, OK)))
    with pytest.raises(MalformedHeadError):
        await client.send(request("GET", "/a b"), origin)
    assert await body_of(await client.send(request(), origin)) == b"ok"


async def test_cancelling_closes_the_connection(world: Any) -> None:
    closed = asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        assert await reader.read() == b""
        closed.set()

    client = world.client()
    sending = asyncio.create_task(client.send(request(), at(await world.upstream(play))))
    await asyncio.sleep(0.05)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    async with asyncio.timeout(5):
        await closed.wait()
    assert not client._pools


async def test_closing_the_response_early_closes_the_connection(world: Any) -> None:
    closed = asyncio.Event()

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\nabc")
        try:
            await reader.read()
        finally:
            closed.set()

    client = world.client()
    response = await client.send(request(), at(await world.upstream(play)))
    await response.body.close()
    assert [data async for data in response.body] == []
    async with asyncio.timeout(5):
        await closed.wait()
    assert not client._pools


async def test_a_slow_consumer_holds_the_origin(world: Any) -> None:
    sent = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await head_of(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (100 * MIB))
        for _ in range(100):
            writer.write(b"x" * MIB)
            await writer.drain()
            sent += 1

    response = await world.client().send(request(), at(await world.upstream(play)))
    received = aiter(response.body)
    size = len(await anext(received))
    await asyncio.sleep(0.3)
    assert sent < 40
    async for data in received:
        size += len(data)
    assert size == 100 * MIB


async def test_unix_sockets(world: Any, tmp_path: Path) -> None:
    path = os.fspath(tmp_path / "s")
    server = await asyncio.start_unix_server(script(OK, OK), path)
    client = world.client()
    origin = Origin(host="store", port=80, unix_path=path)
    for _ in range(2):
        assert await body_of(await client.send(request(), origin)) == b"ok"
    await client.close()
    server.close()


def test_authority() -> None:
    assert Origin(host="a", port=80).authority == "a"
    assert Origin(host="a", port=443, tls=True).authority == "a"
    assert Origin(host="a", port=443).authority == "a:443"
    assert Origin(host="127.0.0.1", port=1, server_name="b").authority == "b:1"
    assert Origin(host="::1", port=80).authority == "[::1]"
