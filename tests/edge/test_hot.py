"""The hot path says what the ordinary path would say, or nothing."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearpoint.edge.config import standalone_distribution
from nearpoint.edge.engine import Edge
from nearpoint.edge.entry import Entry
from nearpoint.edge.ids import request_ids
from nearpoint.edge.invalidation import compile_invalidation
from nearpoint.edge.receive import receive
from nearpoint.wire.exchange import KnownFields
from nearpoint.wire.filebody import FileBody
from nearpoint.wire.message import Headers, Request, Response, read_all
from nearpoint.wire.server import Peer

PEER = Peer("127.0.0.1", "http")
NAMES = ["accept", "Accept-Encoding", "range", "If-None-Match", "cookie", "X-Lang", "x-lang", "Connection", "Host"]
VALUES = ["", "gzip", "br, gzip", "de", "fr", '"1"', "bytes=0-1", "close", "x-lang", "a=1"]
requests = st.tuples(
    st.sampled_from(["GET", "GET", "HEAD", "POST", "INVALIDATE"]),
    st.sampled_from(["/a", "/a?q=1", "/b", "/A"]),
    st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=3),
)


async def echo(target: Any, request: Request, /) -> Response:
    """An origin whose answer shows everything that it was asked for and that its Vary names."""
    varied = [request.headers.joined(name) for name in ("x-lang", "accept-encoding")]
    body = f"{request.target} {varied}".encode()
    fields = [("Cache-Control", "max-age=60"), ("Vary", "X-Lang, Accept-Encoding"), ("ETag", '"1"')]
    return Response(
        200, Headers([*fields, ("Content-Length", str(len(body)))]), b"" if request.method == "HEAD" else body
    )


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(requests, max_size=25))
def test_a_stored_answer_is_never_served_to_a_request_that_differs(asked: list[Any]) -> None:
    async def run() -> None:
        now = 1_000.0
        edge = Edge(fetch=echo, clock=lambda: now)
        edge.load((), default=standalone_distribution(host="origin", port=80, tls=False))
        instant = edge.instant("http")
        known: dict[Any, KnownFields] = {}
        for at, (method, target, headers) in enumerate(asked):
            now += 0.3
            if method == "INVALIDATE":
                gone = compile_invalidation(invalidation_id=f"I{at}", at=now, paths=[target.partition("?")[0] + "*"])
                edge.load((), {"standalone": [gone]}, default=edge._hosts.default)
                continue
            fields = [("Host", "h"), *headers]
            raw = [(name.encode(), value.encode()) for name, value in fields]
            raw = known.setdefault((method, target, tuple(raw)), KnownFields(raw))  # as the server does
            request = Request(method, target, Headers(fields), client_ip="127.0.0.1")
            hot = instant(method.encode(), target.encode(), raw, PEER)
            ordinary = await edge.handle(request)
            body = await read_all(ordinary.body, 1_000_000)
            if method == "GET" and ordinary.status == 200:
                forwarded = edge._transfer.asker.forwarded(
                    receive(request, "id", edge._hosts, now=0.0, via=""),  # type: ignore[arg-type]
                    storing=True,
                )
                varied = [forwarded.joined(name) for name in ("x-lang", "accept-encoding")]
                assert body == f"{target} {varied}".encode()
            if hot is not None:
                data = hot if isinstance(hot, bytes) else b"".join(hot)
                head, _, hot_body = data.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 %d " % ordinary.status)
                assert hot_body == body
        await edge.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"If-None-Match": '"1"'}, 304),
        ({"If-None-Match": 'W/"1"'}, 304),
        ({"If-None-Match": '"0", "1"'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"0"'}, 200),
        ({"If-None-Match": '"1"', "If-Modified-Since": "Mon, 23 Nov 2026 04:32:00 GMT"}, 304),
        ({"If-None-Match": '"0"', "If-Modified-Since": "Mon, 23 Nov 2030 04:32:00 GMT"}, 200),
    ],
)
async def test_a_condition_is_answered_at_once_as_the_ordinary_path_would(
    stage: Any, answer: Any, fields: dict[str, str], status: int
) -> None:
    stage.answer = lambda request: answer(b"a", Cache_Control="max-age=60", ETag='"1"')
    await stage.open()
    await stage.get("/a")
    ordinary = await stage.get("/a", **fields)
    assert stage.edge.hot_hits == 0
    for count in (1, 2, 3):
        hot = await stage.get("/a", **fields)
        assert stage.edge.hot_hits == count
        assert (hot.status, hot.body) == (ordinary.status, ordinary.body)
        assert hot.status == status
        changing = {"x-amz-cf-id", "age", "cache-status"}
        shown = [(name, value) for name, value in hot.headers if name.lower() not in changing]
        assert sorted(shown) == sorted(item for item in ordinary.headers if item[0].lower() not in changing)


async def test_a_date_alone_is_left_to_the_ordinary_path(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(
        b"a", Cache_Control="max-age=60", Last_Modified="Mon, 23 Nov 2026 04:32:00 GMT"
    )
    await stage.open()
    for _ in range(3):
        await stage.get("/a")
    hits = stage.edge.hot_hits
    assert (await stage.get("/a", If_Modified_Since="Mon, 23 Nov 2026 04:32:00 GMT")).status == 304
    assert stage.edge.hot_hits == hits


async def test_what_is_invalidated_is_not_served_to_who_asks_for_it_byte_for_byte_again(
    stage: Any, answer: Any
) -> None:
    bodies = iter([b"old", b"new"])
    stage.answer = lambda request: answer(next(bodies), Cache_Control="max-age=60")
    await stage.open()
    ask = b"GET /a HTTP/1.1\r\nHost: d111111abcdef8.cloudfront.net\r\n\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.edge_port)

    async def ask_again() -> bytes:
        writer.write(ask)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        return await reader.readexactly(3)

    assert [await ask_again() for _ in range(5)] == [b"old"] * 5
    assert stage.edge.hot_hits == 3
    entry = stage.edge.cache.get(next(iter(stage.edge.cache._entries)), ())
    stage.edge.tiers.drop(entry)
    assert [await ask_again() for _ in range(5)] == [b"new"] * 5
    writer.close()


def test_request_ids_are_unique_and_look_right() -> None:
    ids = request_ids(lambda size: bytes(range(size)))
    first = [next(ids) for _ in range(4_096)]
    assert len(set(first)) == 4_096
    assert all(len(each) == 56 and each.endswith(b"==") for each in first)


async def test_http2_gets_the_same_in_pieces_of_which_the_first_comes_again(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"abc", Cache_Control="max-age=60", ETag='"1"')
    await stage.open()
    for _ in range(2):
        await stage.get("/a")
    hook = stage.edge.instant("http")
    host = (b"Host", b"d111111abcdef8.cloudfront.net")
    second = Peer("127.0.0.1", "http", protocol="HTTP/2.0")
    for method, fields in ((b"GET", []), (b"HEAD", []), (b"GET", [(b"If-None-Match", b"*")])):
        one, two = (hook(method, b"/a", [host, *fields], second) for _ in range(2))
        plain = hook(method, b"/a", [host, *fields], PEER)
        assert isinstance(plain, bytes)
        assert isinstance(one, tuple)
        assert isinstance(two, tuple)
        assert one[0] is two[0]
        assert b"\r\n\r\n" not in one[0]
        names = [line.partition(b":")[0] for line in b"".join(one).split(b"\r\n")]
        assert names == [line.partition(b":")[0] for line in plain.split(b"\r\n")]
        assert b"".join(one).partition(b"\r\n\r\n")[2] == plain.partition(b"\r\n\r\n")[2]


async def test_a_large_body_goes_out_without_being_copied(stage: Any, answer: Any) -> None:
    data = bytes(range(256)) * 128  # small enough to be kept as it is
    stage.answer = lambda request: answer(data, Cache_Control="max-age=60")
    await stage.open()
    assert [(await stage.get("/a")).body == data for _ in range(4)] == [True] * 4
    assert stage.edge.hot_hits == 2
    reply = stage.edge.instant("http")(b"GET", b"/a", [(b"Host", b"d111111abcdef8.cloudfront.net")], PEER)
    assert isinstance(reply, tuple)
    assert reply[1] is stage.edge.cache.get(next(iter(stage.edge.cache._entries)), ()).body


async def test_a_body_in_a_file_is_sent_as_it_is(stage: Any, answer: Any) -> None:
    data = bytes(range(256)) * 1024
    stage.answer = lambda request: answer(data, Cache_Control="max-age=60")
    await stage.open()
    assert [(await stage.get("/a")).body == data for _ in range(4)] == [True] * 4
    assert stage.edge.hot_hits == 2
    reply = stage.edge.instant("http")(b"GET", b"/a", [(b"Host", b"d111111abcdef8.cloudfront.net")], PEER)
    assert isinstance(reply, tuple)
    assert isinstance(reply[1], FileBody)
    assert reply[1].whole() == data
    assert (await stage.get("/a", range="bytes=70000-70003")).body == data[70000:70004]


async def test_a_large_body_goes_at_the_viewers_pace(stage: Any, answer: Any) -> None:
    data = random.Random(1).randbytes(6_000_000)
    stage.answer = lambda request: answer(data, Cache_Control="max-age=60")
    await stage.open()
    assert [(await stage.get("/a")).body == data for _ in range(3)] == [True] * 3
    assert stage.edge.hot_hits == 0
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.edge_port)
    ask = b"GET /a HTTP/1.1\r\nHost: d111111abcdef8.cloudfront.net\r\n"
    writer.write(ask + b"\r\n" + ask + b"Connection: close\r\n\r\n")
    got = bytearray()
    while chunk := await reader.read(40_000):
        got += chunk
        if len(got) < 400_000:
            await asyncio.sleep(0.01)
    writer.close()
    assert got.count(b"HTTP/1.1 200 OK") == 2
    assert got.count(data) == 2


async def test_pipelined_hits_and_misses_stay_in_order(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(request.target.encode(), Cache_Control="max-age=60")
    await stage.open()
    for _ in range(3):
        await stage.get("/hot", host="h")
    lines = b"".join(
        b"GET /%b HTTP/1.1\r\nHost: h\r\n\r\n" % name for name in (b"hot", b"m1", b"hot", b"hot", b"m2", b"hot")
    )
    raw = await stage.raw(lines + b"GET /last HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    bodies = [part.partition(b"\r\n\r\n")[2] for part in raw.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [b"/hot", b"/m1", b"/hot", b"/hot", b"/m2", b"/hot", b"/last"]


async def test_what_has_left_the_cache_is_gone_without_the_collector(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(
        b"a", Cache_Control="max-age=60", Vary="X-Lang" if "v" in request.path else ""
    )
    await stage.open()
    paths = [f"/{kind}{number}" for kind in "pv" for number in range(100)]
    gc.collect()
    before = [each for each in gc.get_objects() if type(each) is Entry]  # of other tests: a failed one keeps its own
    gc.disable()
    try:
        for _ in range(2):
            for path in paths:
                for _ in range(3):
                    await stage.get(path)
            stage.edge._hot.clear()  # as a change of behaviors does
            for _ in range(10):
                stage.edge._hot.tidy()
        assert stage.edge.hot_hits == 200 * 3 - 200 * 2 + 200 * 2
        entries = _entries_but(before)
        assert len(entries) == 200
        for entry in entries:
            stage.edge.cache.drop(entry)
        del entries, entry
        stage.edge.cache._policy._small.clear()  # removed ones wait there for their turn
        stage.edge.cache._policy._main.clear()
        assert not _entries_but(before)
    finally:
        gc.enable()


def _entries_but(known: list[Entry]) -> list[Entry]:
    """Every entry that is alive, those that are known left out."""
    ids = {id(each) for each in known}
    return [each for each in gc.get_objects() if type(each) is Entry and id(each) not in ids]
