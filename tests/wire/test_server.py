"""Conversations with the server: one request after the other, bodies, order, endings."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from nearpoint.wire.limits import Limits
from nearpoint.wire.message import Headers, Request, Response, StreamBody, read_all
from nearpoint.wire.server import Server

MIB = 2**20


async def echo(request: Request) -> Response:
    body = await read_all(request.body, 64 * MIB)
    text = f"{request.method} {request.target} {request.headers.get('host')} {body.decode('latin-1')}"
    return Response(200, Headers([("Content-Type", "text/plain")]), text.encode("latin-1"))


def get(target: str = "/", *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: h", *fields, "", ""]).encode()


async def test_kept_alive_until_told(world: Any) -> None:
    talk = await world.dial(await world.serve(echo))
    for number in range(3):
        await talk.say(get(f"/{number}"))
        answer = await talk.answer()
        assert (answer.status, answer.body) == (200, f"GET /{number} h ".encode())
        assert answer.get("connection") is None
        assert answer.get("date") is not None
    await talk.say(get("/last", "Connection: close"))
    assert (await talk.answer()).get("connection") == "close"
    assert await talk.closed()


async def test_http10(world: Any) -> None:
    port = await world.serve(echo)
    data = await world.ask(port, b"GET /old HTTP/1.0\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert data.endswith(b"\r\n\r\nGET /old None ")
    talk = await world.dial(port)
    await talk.say(b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    assert (await talk.answer()).get("connection") == "keep-alive"
    await talk.say(b"GET /b HTTP/1.0\r\n\r\n")
    assert (await talk.answer()).body == b"GET /b None "
    assert await talk.closed()


async def test_http10_gets_a_stream_up_to_the_end_of_the_connection(world: Any) -> None:
    async def handler(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"one "
            yield b"two"

        return Response(200, None, StreamBody(chunks()))

    data = await world.ask(await world.serve(handler), b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    head, _, body = data.partition(b"\r\n\r\n")
    assert body == b"one two"
    assert b"chunked" not in head
    assert b"Connection: close" in head


async def test_pipelined_requests_are_answered_in_order(world: Any) -> None:
    async def handler(request: Request) -> Response:
        await asyncio.sleep(0.02 if request.target == "/0" else 0)
        return Response(200, None, request.target.encode())

    talk = await world.dial(await world.serve(handler))
    await talk.say(b"".join(get(f"/{number}") for number in range(40)))
    assert [(await talk.answer()).body for _ in range(40)] == [f"/{number}".encode() for number in range(40)]


async def test_a_flood_of_pipelined_requests_is_not_read_ahead(world: Any) -> None:
    gate = asyncio.Event()
    started = 0

    async def handler(request: Request) -> Response:
        nonlocal started
        started += 1
        await gate.wait()
        return Response(200, None, request.target.encode())

    port = await world.serve(handler, limits=Limits(pipelined_max=4))
    talk = await world.dial(port)
    flood = b"".join(get(f"/{number}") for number in range(5000))
    sending = asyncio.create_task(talk.say(flood))
    await asyncio.sleep(0.1)
    (connection,) = world.servers[0]._connections
    assert started == 1
    assert len(connection._queue) < 4 + 4096 // 27
    gate.set()
    assert [(await talk.answer()).body for _ in range(5000)] == [f"/{number}".encode() for number in range(5000)]
    await sending


async def test_a_refusal_keeps_its_place_in_the_queue(world: Any) -> None:
    talk = await world.dial(await world.serve(echo))
    await talk.say(get("/a") + get("/b") + b"GET / HTTP/1.1\r\n\r\n" + get("/never"))
    assert [(await talk.answer()).status for _ in range(3)] == [200, 200, 400]
    assert await talk.closed()


@pytest.mark.parametrize("method", ["PUT", "POST", "GET", "DELETE"])
async def test_bodies_by_length_and_in_chunks(world: Any, method: str) -> None:
    talk = await world.dial(await world.serve(echo))
    await talk.say(get("/l", "Content-Length: 5", method=method) + b"hello")
    assert (await talk.answer()).body == f"{method} /l h hello".encode()
    await talk.say(get("/c", "Transfer-Encoding: chunked", method=method) + b"5;ext=1\r\nhello\r\n")
    await talk.say(b"6\r\n world\r\n0\r\nX-Trailer: t\r\n\r\n")
    assert (await talk.answer()).body == f"{method} /c h hello world".encode()
    await talk.say(get("/next"))
    assert (await talk.answer()).body == b"GET /next h "


async def test_continue_is_sent_when_the_body_is_first_read(world: Any) -> None:
    reading = asyncio.Event()

    async def handler(request: Request) -> Response:
        await reading.wait()
        return await echo(request)

    talk = await world.dial(await world.serve(handler))
    await talk.say(get("/", "Content-Length: 2", "Expect: 100-continue", method="PUT"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await talk.reader.read(1)
    reading.set()
    assert (await talk.answer()).status == 100
    await talk.say(b"ok")
    assert (await talk.answer()).body == b"PUT / h ok"
    await talk.say(get("/again"))
    assert (await talk.answer()).status == 200


async def test_no_continue_when_the_handler_does_not_want_the_body(world: Any) -> None:
    async def handler(request: Request) -> Response:
        return Response(403)

    talk = await world.dial(await world.serve(handler))
    await talk.say(get("/", "Content-Length: 2", "Expect: 100-continue", method="PUT"))
    answer = await talk.answer()
    assert (answer.status, answer.get("connection")) == (403, "close")
    assert await talk.closed()


async def test_no_continue_when_the_body_is_there_already(world: Any) -> None:
    talk = await world.dial(await world.serve(echo))
    await talk.say(get("/", "Content-Length: 2", "Expect: 100-continue", method="PUT") + b"ok")
    assert (await talk.answer()).status == 200


async def test_a_small_unread_body_is_passed_over(world: Any) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, None, request.target.encode())

    talk = await world.dial(await world.serve(handler))
    await talk.say(get("/a", "Content-Length: 100000", method="PUT"))
    assert (await talk.answer()).body == b"/a"
    await talk.say(b"x" * 100_000 + get("/b"))
    assert (await talk.answer()).body == b"/b"


async def test_a_client_that_is_still_sending_gets_its_refusal(world: Any) -> None:
    async def handler(request: Request) -> Response:
        return Response(403, None, b"no")

    talk = await world.dial(await world.serve(handler))
    await talk.say(get("/", f"Content-Length: {50 * MIB}", method="PUT"))
    for _ in range(64):
        await talk.say(b"x" * 65_536)
    assert (await talk.answer()).body == b"no"
    talk.writer.write_eof()
    assert await talk.closed()


async def test_head_has_the_headers_of_get_and_no_body(world: Any) -> None:
    async def handler(request: Request) -> Response:
        if request.target == "/declared":
            return Response(200, Headers([("Content-Length", "123")]))
        if request.target == "/stream":
            return Response(200, None, StreamBody(_chunks(b"abc"), 3))
        return Response(200, None, b"hello")

    talk = await world.dial(await world.serve(handler))
    for target, length in (("/declared", "123"), ("/stream", "3"), ("/", "5")):
        await talk.say(get(target, method="HEAD"))
        assert (await talk.answer(to="HEAD")).get("content-length") == length
    await talk.say(get("/"))
    assert (await talk.answer()).body == b"hello"


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_a_body(world: Any, status: int) -> None:
    async def handler(request: Request) -> Response:
        if request.target == "/":
            return Response(status, Headers([("ETag", '"a"')]), b"not sent")
        return Response(200, None, b"next")

    talk = await world.dial(await world.serve(handler))
    await talk.say(get("/") + get("/next"))
    answer = await talk.answer()
    assert (answer.status, answer.get("transfer-encoding")) == (status, None)
    assert (await talk.answer()).body == b"next"


async def _chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_streams_by_length_and_in_chunks(world: Any) -> None:
    closed: list[str] = []

    async def handler(request: Request) -> Response:
        async def on_close() -> None:
            closed.append(request.target)

        length = 6 if request.target == "/length" else None
        return Response(200, None, StreamBody(_chunks(b"abc", b"", b"def"), length, on_close))

    talk = await world.dial(await world.serve(handler))
    for target in ("/length", "/chunks"):
        await talk.say(get(target))
        answer = await talk.answer()
        assert answer.body == b"abcdef"
        assert (answer.get("content-length"), answer.get("transfer-encoding")) == (
            ("6", None) if target == "/length" else (None, "chunked")
        )
    assert closed == ["/length", "/chunks"]


@pytest.mark.parametrize("length", [None, 2, 100])
async def test_a_stream_that_is_not_whole_never_looks_whole(world: Any, length: int | None) -> None:
    async def handler(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"ab"
            await asyncio.sleep(0.01)
            if length == 2:
                yield b"too much"
            elif length is None:
                raise RuntimeError("the disk is gone")

        return Response(200, None, StreamBody(chunks(), length))

    port = await world.serve(handler)
    data = await world.ask(port, get("/"))
    if length is None:
        assert not data.endswith(b"0\r\n\r\n")
    elif length == 100:
        assert len(data.partition(b"\r\n\r\n")[2]) < length
    else:
        assert b"too much" not in data


async def test_a_handler_that_raises_is_answered_500_and_the_error_stays_inside(world: Any) -> None:
    async def handler(request: Request) -> Response:
        raise RuntimeError("secret")

    data = await world.ask(await world.serve(handler), get("/?X-Amz-Signature=abc", "Authorization: secret"))
    assert data.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in data


async def test_a_log_of_a_failure_has_no_query_and_no_header(world: Any, capsys: pytest.CaptureFixture[str]) -> None:
    async def handler(request: Request) -> Response:
        raise RuntimeError("it broke")

    await world.ask(await world.serve(handler), get("/path?X-Amz-Signature=abcdef", "Authorization: hunter2"))
    logged = "".join(capsys.readouterr())
    assert "it broke" in logged
    assert "/path" in logged
    assert "abcdef" not in logged
    assert "hunter2" not in logged


async def test_a_response_that_can_not_be_written_is_a_500(world: Any) -> None:
    async def handler(request: Request) -> Response:
        return Response(200, Headers([("X", "a\r\nSet-Cookie: b")]))

    data = await world.ask(await world.serve(handler), get("/"))
    assert data.startswith(b"HTTP/1.1 500 ")
    assert b"Set-Cookie" not in data


async def test_a_station_makes_its_own_error_pages(world: Any) -> None:
    def page(status: int, reason: str) -> Response:
        return Response(status, Headers([("Content-Type", "text/html")]), b"<p>sorry</p>")

    talk = await world.dial(await world.serve(echo, error=page))
    await talk.say(b"nonsense\r\n\r\n")
    answer = await talk.answer()
    assert (answer.status, answer.body, answer.get("connection")) == (400, b"<p>sorry</p>", "close")


@pytest.mark.parametrize("broken", ["raises", "splits", "streams"])
async def test_an_error_page_that_fails_is_replaced(world: Any, broken: str) -> None:
    def page(status: int, reason: str) -> Response:
        if broken == "raises":
            raise RuntimeError
        if broken == "splits":
            return Response(status, Headers([("X", "a\r\nb: c")]))
        return Response(status, None, StreamBody(_chunks(b"x"), 1))

    talk = await world.dial(await world.serve(echo, error=page))
    await talk.say(b"nonsense\r\n\r\n")
    answer = await talk.answer()
    assert (answer.status, answer.body[:3]) == (400, b"400")


async def test_a_client_that_goes_away_cancels_its_handler(world: Any) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        began.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise
        return Response(200)

    talk = await world.dial(await world.serve(handler))
    await talk.say(get("/"))
    await began.wait()
    await talk.hang_up()
    async with asyncio.timeout(5):
        await cancelled.wait()


async def test_a_client_that_goes_away_while_sending_cancels_its_handler(world: Any) -> None:
    ended = asyncio.Event()

    async def handler(request: Request) -> Response:
        try:
            await read_all(request.body, MIB)
        finally:
            ended.set()
        raise AssertionError("half a body was taken for the whole")

    talk = await world.dial(await world.serve(handler))
    await talk.say(get("/", "Content-Length: 100", method="PUT") + b"half")
    await asyncio.sleep(0.05)
    await talk.hang_up()
    async with asyncio.timeout(5):
        await ended.wait()


async def test_a_client_that_goes_away_closes_the_response(world: Any) -> None:
    closed = asyncio.Event()

    async def handler(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 65_536

        async def on_close() -> None:
            closed.set()

        return Response(200, None, StreamBody(chunks(), None, on_close))

    talk = await world.dial(await world.serve(handler))
    await talk.say(get("/"))
    await talk.reader.read(100_000)
    await talk.hang_up()
    async with asyncio.timeout(5):
        await closed.wait()


async def test_a_slow_reader_holds_the_writer(world: Any) -> None:
    produced = 0

    async def handler(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            nonlocal produced
            for _ in range(2000):
                produced += 65_536
                yield b"x" * 65_536

        return Response(200, None, StreamBody(chunks(), 2000 * 65_536))

    port = await world.serve(handler)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, get("/"))
    await asyncio.sleep(0.3)
    held = produced
    assert held < 32 * MIB
    received = 0
    while received < 2000 * 65_536:
        received += len(await loop.sock_recv(sock, MIB))
    assert produced == 2000 * 65_536
    sock.close()


async def test_a_slow_handler_holds_the_sender(world: Any) -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        size = 0
        async for data in request.body:
            size += len(data)
        return Response(200, None, str(size).encode())

    talk = await world.dial(await world.serve(handler))
    await talk.say(get("/", f"Content-Length: {64 * MIB}", method="PUT"))
    sending = asyncio.create_task(talk.say(b"x" * (64 * MIB)))
    await asyncio.sleep(0.3)
    (connection,) = world.servers[0]._connections
    assert connection._active.body.buffered_bytes < MIB
    assert not sending.done()
    gate.set()
    assert (await talk.answer()).body == str(64 * MIB).encode()
    await sending


async def test_a_response_can_begin_before_the_request_has_ended(world: Any) -> None:
    async def handler(request: Request) -> Response:
        async def shout() -> AsyncIterator[bytes]:
            async for data in request.body:
                yield data.upper()

        return Response(200, None, StreamBody(shout()))

    talk = await world.dial(await world.serve(handler))
    await talk.say(get("/", "Transfer-Encoding: chunked", method="POST") + b"3\r\nabc\r\n")
    while b"ABC" not in await talk.line():
        pass
    await talk.say(b"3\r\ndef\r\n0\r\n\r\n")
    while b"DEF" not in await talk.line():
        pass
    await talk.say(get("/", "Content-Length: 1", "Connection: close", method="POST") + b"z")
    assert b"1\r\nZ\r\n0\r\n\r\n" in await talk.rest()


async def test_absolute_form_and_its_host(world: Any) -> None:
    talk = await world.dial(await world.serve(echo))
    await talk.say(b"GET http://other:81/x?y HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await talk.answer()).body == b"GET /x?y other:81 "


async def test_an_offered_upgrade_is_not_taken(world: Any) -> None:
    talk = await world.dial(await world.serve(echo))
    await talk.say(get("/a", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: x") + get("/b"))
    assert (await talk.answer()).body == b"GET /a h "
    assert (await talk.answer()).body == b"GET /b h "


async def test_values_and_names_arrive_as_sent(world: Any) -> None:
    seen: list[tuple[str, str]] = []

    async def handler(request: Request) -> Response:
        seen.extend(request.headers)
        return Response(200)

    await world.ask(
        await world.serve(handler), get("/%7e//../%zz?a&b=", "X-a:  \t v \xe9 w \t ", "x-A:", "Connection: close")
    )
    assert seen[1:3] == [("X-a", "v \xc3\xa9 w"), ("x-A", "")]


async def test_unix_sockets(world: Any, tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(os.fspath(tmp_path / "s"))
    sock.listen()
    seen: list[str] = []

    async def handler(request: Request) -> Response:
        seen.append(request.client_ip)
        return Response(200, None, b"by unix")

    server = Server(handler)
    world.servers.append(server)
    await server.start(sock)
    reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
    writer.write(get("/", "Connection: close"))
    assert (await reader.read()).endswith(b"by unix")
    assert seen == [""]
    writer.close()


async def test_drain_finishes_what_is_under_way_and_closes_the_rest(world: Any) -> None:
    began, gate = asyncio.Event(), asyncio.Event()

    async def handler(request: Request) -> Response:
        began.set()
        await gate.wait()
        return Response(200, None, b"done")

    port = await world.serve(handler)
    idle, busy, slow_head = [await world.dial(port) for _ in range(3)]
    await idle.say(b"")
    await busy.say(get("/"))
    await slow_head.say(b"GET / HTTP/1.1\r\nHost: h\r\n")
    await began.wait()
    draining = asyncio.create_task(world.servers[0].drain(10))
    assert await idle.closed()
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", port)
    gate.set()
    await slow_head.say(b"\r\n")
    for talk in (busy, slow_head):
        answer = await talk.answer()
        assert (answer.body, answer.get("connection")) == (b"done", "close")
        assert await talk.closed()
    await draining


async def test_drain_gives_up_in_time(world: Any) -> None:
    cancelled = asyncio.Event()

    async def handler(request: Request) -> Response:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()
        return Response(200)

    talk = await world.dial(await world.serve(handler))
    await talk.say(get("/"))
    await asyncio.sleep(0.05)
    await world.servers[0].drain(0.05)
    assert cancelled.is_set()
    assert await talk.closed()
    assert world.servers[0].connection_count == 0


async def test_the_body_of_a_finished_request_is_over(world: Any) -> None:
    kept: list[Any] = []

    async def handler(request: Request) -> Response:
        kept.append(request.body)
        return Response(200)

    talk = await world.dial(await world.serve(handler))
    await talk.say(get("/", "Content-Length: 10", method="PUT") + b"12345")
    await talk.answer()
    assert [data async for data in kept[0]] == []
    await kept[0].close()
    await kept[0].close()


def test_small_writes_do_not_wait_for_acknowledgements(loopback_socket: socket.socket) -> None:
    """On a plain asyncio loop, with a socket that names no protocol."""
    seen: list[int] = []

    class Watched(Server):
        def admit(self, connection: Any) -> bool:
            sock = connection._transport.get_extra_info("socket")
            seen.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            return super().admit(connection)

    async def converse() -> None:
        server = Watched(echo)
        await server.start(loopback_socket)
        reader, writer = await asyncio.open_connection(*loopback_socket.getsockname())
        writer.write(get())
        await reader.readline()
        writer.close()
        await server.drain(0)

    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(converse())
    assert seen == [1]
