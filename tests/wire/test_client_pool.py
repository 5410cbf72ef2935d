"""Which connections are used again, how many there are, and who waits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nearpoint.wire.client import Origin, Timeouts, UpstreamError
from nearpoint.wire.message import Headers, Request, Response, read_all

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Counting:
    """An origin that counts its connections and answers every bodiless request on them."""

    def __init__(self, answer: bytes = OK, *, per_connection: int = 10**9, delay_s: float = 0) -> None:
        self.answer = answer
        self.per_connection = per_connection
        self.delay_s = delay_s
        self.connections = 0
        self.open = 0
        self.open_max = 0
        self.requests: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self.open_max = max(self.open, self.open_max)
        try:
            for _ in range(self.per_connection):
                self.requests.append((await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[0])
                await asyncio.sleep(self.delay_s)
                writer.write(self.answer)
                await writer.drain()
        finally:
            self.open -= 1


def get(method: str = "GET", body: Any = b"") -> Request:
    return Request(method, "/", Headers([("Host", "h")]), body)


async def done(response: Response) -> bytes:
    return await read_all(response.body, 2**20)


async def test_a_clean_connection_is_used_again(world: Any) -> None:
    origin = Counting()
    at = Origin(host="127.0.0.1", port=await world.upstream(origin))
    client = world.client()
    for _ in range(5):
        assert await done(await client.send(get(), at)) == b"ok"
    assert (origin.connections, len(origin.requests)) == (1, 5)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        OK + b"x",
        OK + OK,
        OK + b"HTTP/1.1 200 OK\r\n",
    ],
    ids=["close", "HTTP/1.0", "HTTP/1.0 chunked", "a stray byte", "a stray response", "a stray beginning"],
)
async def test_an_unclean_connection_is_not(world: Any, answer: bytes) -> None:
    origin = Counting(answer)
    at = Origin(host="127.0.0.1", port=await world.upstream(origin))
    client = world.client()
    for _ in range(3):
        assert await done(await client.send(get(), at)) == b"ok"
    assert origin.connections == 3


async def test_bytes_after_a_head_response_spoil_the_connection(world: Any) -> None:
    origin = Counting(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
    at = Origin(host="127.0.0.1", port=await world.upstream(origin))
    client = world.client()
    for _ in range(2):
        assert (await client.send(get("HEAD"), at)).status == 200
    assert origin.connections == 2


async def test_bytes_that_nobody_asked_for_spoil_an_idle_connection(world: Any) -> None:
    connections = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await asyncio.sleep(0.05)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nspoof")
        await reader.read()

    at = Origin(host="127.0.0.1", port=await world.upstream(play))
    client = world.client()
    assert await done(await client.send(get(), at)) == b"ok"
    await asyncio.sleep(0.1)
    assert await done(await client.send(get(), at)) == b"ok"
    assert connections == 2


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT", "OPTIONS"])
async def test_a_stale_connection_is_replaced_once(world: Any, method: str) -> None:
    connections = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 OK\r\n\r\n")
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")  # the second request finds the connection gone

    at = Origin(host="127.0.0.1", port=await world.upstream(play))
    client = world.client()
    for _ in range(3):
        assert (await client.send(get(method), at)).status == 204
    assert connections == 3


@pytest.mark.parametrize(("method", "body"), [("POST", b""), ("PUT", b"x")])
async def test_what_may_have_been_acted_on_is_not_sent_again(world: Any, method: str, body: bytes) -> None:
    origin = Counting(b"HTTP/1.1 204 OK\r\n\r\n")
    seen = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        await reader.readuntil(b"\r\n\r\n")
        writer.write(origin.answer)
        await writer.drain()
        await reader.readuntil(b"\r\n\r\n")
        seen += 1

    at = Origin(host="127.0.0.1", port=await world.upstream(play))
    client = world.client()
    await client.send(get(), at)
    with pytest.raises(UpstreamError) as caught:
        await client.send(get(method, body), at)
    assert (caught.value.reason, caught.value.retry_safe) == ("lost", False)
    assert seen == 1


async def test_a_fresh_connection_that_is_lost_is_not_tried_again(world: Any) -> None:
    connections = 0

    async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")

    at = Origin(host="127.0.0.1", port=await world.upstream(play))
    with pytest.raises(UpstreamError):
        await world.client().send(get(), at)
    assert connections == 1


async def test_a_connection_that_the_origin_has_closed_is_not_taken(world: Any) -> None:
    origin = Counting(per_connection=1)
    at = Origin(host="127.0.0.1", port=await world.upstream(origin))
    client = world.client()
    for _ in range(3):
        assert await done(await client.send(get("POST"), at)) == b"ok"
        await asyncio.sleep(0.05)
    assert origin.connections == 3


async def test_no_more_connections_than_allowed(world: Any) -> None:
    origin = Counting(delay_s=0.01)
    at = Origin(host="127.0.0.1", port=await world.upstream(origin))
    client = world.client(connections_per_origin_max=3)
    answers = await asyncio.gather(*(client.send(get(), at) for _ in range(30)))
    assert [await done(answer) for answer in answers] == [b"ok"] * 30
    assert origin.open_max == 3
    assert len(origin.requests) == 30


async def test_no_more_connections_than_allowed_when_each_serves_once(world: Any) -> None:
    origin = Counting(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", delay_s=0.01)
    at = Origin(host="127.0.0.1", port=await world.upstream(origin))
    client = world.client(connections_per_origin_max=3)
    answers = await asyncio.gather(*(client.send(get(), at) for _ in range(12)))
    assert [await done(answer) for answer in answers] == [b"ok"] * 12
    assert len(origin.requests) == 12
    assert not client._pools


async def test_waiting_for_a_connection_is_bounded_in_time(world: Any) -> None:
    origin = Counting(delay_s=5)
    at = Origin(host="127.0.0.1", port=await world.upstream(origin))
    client = world.client(connections_per_origin_max=1)
    first = asyncio.create_task(client.send(get(), at))
    await asyncio.sleep(0.05)
    with pytest.raises(UpstreamError) as caught:
        await client.send(get(), at, Timeouts(connect_s=0.1))
    assert (caught.value.reason, caught.value.retry_safe) == ("connect", True)
    first.cancel()


async def test_waiting_for_a_connection_is_bounded_in_number(world: Any) -> None:
    origin = Counting(delay_s=5)
    at = Origin(host="127.0.0.1", port=await world.upstream(origin))
    client = world.client(connections_per_origin_max=1, waiters_per_origin_max=1)
    tasks = [asyncio.create_task(client.send(get(), at)) for _ in range(2)]
    await asyncio.sleep(0.05)
    with pytest.raises(UpstreamError) as caught:
        await client.send(get(), at)
    assert caught.value.reason == "connect"
    for task in tasks:
        task.cancel()


async def test_a_cancelled_waiter_takes_nobodys_place(world: Any) -> None:
    origin = Counting(delay_s=0.05)
    at = Origin(host="127.0.0.1", port=await world.upstream(origin))
    client = world.client(connections_per_origin_max=1)
    tasks = [asyncio.create_task(client.send(get(), at)) for _ in range(6)]
    await asyncio.sleep(0.01)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(result, Response) for result in results] == [False, True] * 3
    assert await done(await client.send(get(), at)) == b"ok"
    assert client._pools[at].open_count == 1


@pytest.mark.parametrize("own", [True, False])
async def test_idle_connections_are_closed_in_time(world: Any, own: bool) -> None:
    origin = Counting()
    at = Origin(host="127.0.0.1", port=await world.upstream(origin), idle_s=0.1 if own else None)
    client = world.client(idle_s=30 if own else 0.1)
    await client.send(get(), at)
    assert origin.open == 1
    await asyncio.sleep(0.5)
    assert origin.open == 0
    assert not client._pools


async def test_closing_the_client_ends_what_is_under_way(world: Any) -> None:
    origin = Counting(delay_s=5)
    at = Origin(host="127.0.0.1", port=await world.upstream(origin))
    client = world.client(connections_per_origin_max=1)
    tasks = [asyncio.create_task(client.send(get(), at)) for _ in range(3)]
    await asyncio.sleep(0.05)
    await client.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(result, UpstreamError) for result in results)
    with pytest.raises(UpstreamError):
        await client.send(get(), at)


async def test_a_connection_freed_as_its_response_is_cancelled_serves_others(world: Any) -> None:
    """Cancelling a request whose response has just arrived must not cut the exchange that has begun on it."""
    origin = Counting()
    at = Origin(host="127.0.0.1", port=await world.upstream(origin))
    client = world.client(connections_per_origin_max=1)
    await client.send(get(), at)
    for turns in range(12):
        first = asyncio.create_task(client.send(get(), at))
        second = asyncio.create_task(client.send(get(), at))
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        assert await done(await second) == b"ok"
        await asyncio.gather(first, return_exceptions=True)
    assert client._pools[at].open_count == 1
