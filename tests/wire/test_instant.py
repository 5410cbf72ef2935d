"""The prebuilt answer: when it is given, when not, and that order and back-pressure hold."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from nearpoint.wire.message import Request, Response, read_all
from nearpoint.wire.server import Peer

HIT = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhit"
PARTS = (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"parts")


class Hook:
    """Answers `/hit` and `/parts`, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []
        self.headers: list[tuple[bytes, bytes]] = []
        self.peer: Peer | None = None

    def __call__(
        self, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], peer: Peer
    ) -> bytes | tuple[bytes, ...] | None:
        self.asked.append((method, target))
        self.headers, self.peer = headers, peer
        return {b"/hit": HIT, b"/parts": PARTS}.get(target)


async def miss(request: Request) -> Response:
    await read_all(request.body, 1000)
    await asyncio.sleep(0.01 if request.target == "/slow" else 0)
    return Response(200, None, b"miss " + request.target.encode())


def get(target: str, *fields: str) -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", "Host: h", *fields, "", ""]).encode()


async def test_a_hit_needs_no_handler(world: Any) -> None:
    hook = Hook()
    talk = await world.dial(await world.serve(miss, instant=hook))
    await talk.say(get("/hit", "X-Name: v"))
    assert (await talk.answer()).body == b"hit"
    assert hook.asked == [(b"GET", b"/hit")]
    assert hook.headers == [(b"Host", b"h"), (b"X-Name", b"v")]
    assert hook.peer is not None
    assert (hook.peer.ip, hook.peer.scheme, hook.peer.protocol, hook.peer.tls) == ("127.0.0.1", "http", "HTTP/1.1", "")
    await talk.say(get("/other"))
    assert (await talk.answer()).body == b"miss /other"
    await talk.say(get("/parts"))
    assert (await talk.answer()).body == b"parts"


async def test_hits_and_misses_stay_in_order(world: Any) -> None:
    hook = Hook()
    talk = await world.dial(await world.serve(miss, instant=hook))
    targets = ["/hit", "/slow", "/hit", "/parts", "/x", "/hit"] * 20
    await talk.say(b"".join(get(target) for target in targets))
    expected = {"/hit": b"hit", "/parts": b"parts"}
    for target in targets:
        assert (await talk.answer()).body == expected.get(target, b"miss " + target.encode())
    assert len(hook.asked) == len(targets)


@pytest.mark.parametrize("fields", [("Content-Length: 2",), ("Content-Length: 2", "Expect: 100-continue")])
async def test_a_request_with_a_body_goes_the_ordinary_way(world: Any, fields: tuple[str, ...]) -> None:
    hook = Hook()
    talk = await world.dial(await world.serve(miss, instant=hook))
    await talk.say(get("/hit", *fields) + b"ab")
    assert (await talk.answer()).body == b"miss /hit"
    assert hook.asked == []


@pytest.mark.parametrize(
    "request_", [b"GET /hit HTTP/1.1\r\n\r\n", b"GET /hit HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", get("/hit#x")]
)
async def test_a_bad_request_is_refused_all_the_same(world: Any, request_: bytes) -> None:
    hook = Hook()
    data = await world.ask(await world.serve(miss, instant=hook), request_)
    assert data.startswith(b"HTTP/1.1 400 ")
    assert hook.asked == []


@pytest.mark.parametrize("target", ["/hit", "/parts"])
async def test_the_connection_field_is_added_where_it_is_due(world: Any, target: str) -> None:
    port = await world.serve(miss, instant=Hook())
    data = await world.ask(port, get(target, "Connection: close") + get("/hit"))
    assert data.startswith(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
    assert data.count(b"HTTP/1.1") == 1
    data = await world.ask(port, f"GET {target} HTTP/1.0\r\n\r\n".encode())
    assert data.startswith(b"HTTP/1.1 200 OK\r\nConnection: close\r\n")
    talk = await world.dial(port)
    await talk.say(f"GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode() * 2)
    assert [(await talk.answer()).get("connection") for _ in range(2)] == ["keep-alive", "keep-alive"]


async def test_connection_keep_alive_needs_nothing(world: Any) -> None:
    talk = await world.dial(await world.serve(miss, instant=Hook()))
    await talk.say(get("/hit", "Connection: keep-alive"))
    assert (await talk.answer()).headers == [("Content-Length", "3")]


async def test_absolute_form_reaches_the_hook_as_origin_form(world: Any) -> None:
    hook = Hook()
    talk = await world.dial(await world.serve(miss, instant=hook))
    await talk.say(b"GET http://other/hit HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await talk.answer()).body == b"hit"
    assert hook.headers == [(b"Host", b"other")]


async def test_a_hook_that_raises_leaves_the_answer_to_the_handler(world: Any) -> None:
    def broken(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], peer: Peer) -> bytes | None:
        raise KeyError(target)

    talk = await world.dial(await world.serve(miss, instant=broken))
    await talk.say(get("/hit"))
    assert (await talk.answer()).body == b"miss /hit"


async def test_a_peer_that_does_not_read_gets_no_more_hits(world: Any) -> None:
    given = 0
    size = 65_536
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size

    def hook(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], peer: Peer) -> bytes:
        nonlocal given
        given += 1
        return reply

    port = await world.serve(miss, instant=hook)
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    count = 2000
    sending = asyncio.create_task(loop.sock_sendall(sock, get("/") * count))
    await asyncio.sleep(0.3)
    assert given < 500
    received = 0
    while received < count * len(reply):
        received += len(await loop.sock_recv(sock, 2**20))
    await sending
    assert (given, received) == (count, count * len(reply))
    sock.close()


async def test_no_hits_while_draining(world: Any) -> None:
    gate = asyncio.Event()

    async def handler(request: Request) -> Response:
        await gate.wait()
        return Response(200, None, b"miss")

    talk = await world.dial(await world.serve(handler, instant=Hook()))
    await talk.say(get("/slow"))
    await asyncio.sleep(0.05)
    draining = asyncio.create_task(world.servers[0].drain(5))
    await asyncio.sleep(0.01)
    gate.set()
    answer = await talk.answer()
    assert (answer.body, answer.get("connection")) == (b"miss", "close")
    assert await talk.closed()
    await draining
