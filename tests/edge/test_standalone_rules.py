"""RFC 9111 as the stand-alone edge keeps it: conversations over real sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nearpoint.wire.message import Headers, Response, StreamBody


async def test_what_is_fresh_is_served_from_memory(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"one", Cache_Control="max-age=60", X_Nearpoint_Region="eu-west-1")
    await stage.open()
    first = await stage.get("/a")
    stage.clock.now += 10
    ordinary, hot = await stage.get("/a"), await stage.get("/a")
    assert (first.cache, ordinary.cache, hot.cache) == ("Miss", "Hit", "Hit")
    assert (first["age"], ordinary["age"], hot["age"]) == (None, "10", "10")
    assert ordinary.body == hot.body == b"one"
    assert stage.edge.hot_hits == 1
    assert len(stage.seen) == 1
    assert len({first["x-amz-cf-id"], ordinary["x-amz-cf-id"], hot["x-amz-cf-id"]}) == 3
    assert dict(ordinary.headers).keys() == dict(hot.headers).keys()
    assert hot["x-nearpoint-region"] == "eu-west-1"
    assert hot["x-amz-cf-pop"] == "TST50-P1"
    assert "ttl=50" in hot.note


async def test_age_moves_and_the_end_of_freshness_is_seen(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"one", Cache_Control="max-age=60", ETag='"1"')
    await stage.open()
    for _ in range(3):
        await stage.get("/a")
    stage.clock.now += 59.5
    assert (await stage.get("/a"))["age"] == "59"
    stage.clock.now += 1
    assert (await stage.get("/a")).cache == "Miss"
    assert len(stage.seen) == 2


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "no-freshness"),
        ({"Cache_Control": "no-store"}, "no-store"),
        ({"Cache_Control": "private, max-age=60"}, "private"),
        ({"Cache_Control": "no-cache"}, "no-cache"),
        ({"Cache_Control": "max-age=60", "Vary": "*"}, "vary"),
        ({"Cache_Control": "max-age=60", "Set_Cookie": "a=1"}, "set-cookie"),
        ({"Cache_Control": "max-age=0"}, "no-validator"),
        ({"Expires": "0"}, "no-validator"),
    ],
)
async def test_what_is_not_kept_says_why(stage: Any, answer: Any, headers: dict[str, str], reason: str) -> None:
    stage.answer = lambda request: answer(b"x", **headers)
    await stage.open()
    replies = [await stage.get("/a") for _ in range(3)]
    assert [reply.cache for reply in replies] == ["Miss"] * 3
    assert all(f"detail={reason}" in reply.note for reply in replies)
    assert len(stage.seen) == 3


async def test_an_answer_that_becomes_cacheable_is_kept_again(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x")
    await stage.open()
    await stage.get("/a")
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=60")
    replies = [(await stage.get("/a")).cache for _ in range(3)]
    assert replies == ["Miss", "Miss", "Hit"]


async def test_the_query_string_is_in_the_key(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(request.target.encode(), Cache_Control="max-age=60")
    await stage.open()
    for _ in range(3):
        assert (await stage.get("/a?x=1")).body == b"/a?x=1"
        assert (await stage.get("/a?x=2")).body == b"/a?x=2"
        assert (await stage.get("/a")).body == b"/a"
    assert len(stage.seen) == 3


async def test_vary_tells_variants_apart(stage: Any, answer: Any) -> None:
    def vary(request: Any) -> Response:
        language = (request.headers.get("accept-language") or "none").encode()
        return answer(language, Cache_Control="max-age=60", Vary="Accept-Language, Accept-Encoding")

    stage.answer = vary
    await stage.open()
    for _ in range(4):
        assert (await stage.get("/a", accept_language="de")).body == b"de"
        assert (await stage.get("/a", accept_language="fr")).body == b"fr"
        assert (await stage.get("/a")).body == b"none"
        assert (await stage.get("/a", accept_encoding="gzip", accept_language="fr")).body == b"fr"
    assert len(stage.seen) == 4
    assert stage.edge.hot_hits == 8


async def test_a_stale_answer_is_revalidated(stage: Any, answer: Any) -> None:
    def revalidate(request: Any) -> Response:
        if request.headers.get("if-none-match") == '"1"':
            return answer(b"", status=304, ETag='"1"', Cache_Control="max-age=60", X_New="yes")
        return answer(b"one", ETag='"1"', Cache_Control="max-age=60", X_Old="yes", Content_Type="text/plain")

    stage.answer = revalidate
    await stage.open()
    await stage.get("/a")
    stage.clock.now += 61
    refreshed = await stage.get("/a")
    assert (refreshed.status, refreshed.cache, refreshed.body) == (200, "RefreshHit", b"one")
    assert (refreshed["x-new"], refreshed["x-old"], refreshed["content-type"]) == ("yes", "yes", "text/plain")
    assert (await stage.get("/a")).cache == "Hit"
    assert len(stage.seen) == 2


async def test_zero_freshness_with_a_validator_asks_every_time(stage: Any, answer: Any) -> None:
    def revalidate(request: Any) -> Response:
        fields = {"ETag": '"1"', "Cache_Control": "no-cache, max-age=60"}
        if request.headers.get("if-none-match") == '"1"':
            return answer(b"", status=304, **fields)
        return answer(b"one", **fields)

    stage.answer = revalidate
    await stage.open()
    assert [(await stage.get("/a")).cache for _ in range(3)] == ["Miss", "RefreshHit", "RefreshHit"]
    assert len(stage.seen) == 3


async def test_conditions_and_ranges_are_answered_from_the_cache(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(
        b"0123456789", Cache_Control="max-age=60", ETag='"1"', Content_Type="text/x",
        Last_Modified="Sun, 06 Nov 1994 08:49:37 GMT",
    )  # fmt: skip
    await stage.open()
    part = await stage.get("/a", range="bytes=2-4")
    assert (part.status, part.body, part["content-range"], part.cache) == (206, b"234", "bytes 2-4/10", "Miss")
    assert stage.seen[0].headers.get("range") == "bytes=0-1048575"  # the part that it is in
    assert (await stage.get("/a", range="bytes=-3")).body == b"789"
    assert (await stage.get("/a", range="bytes=8-")).body == b"89"
    outside = await stage.get("/a", range="bytes=10-")
    assert (outside.status, outside["content-range"]) == (416, "bytes */10")
    assert (await stage.get("/a", range="bytes=0-1,4-5")).status == 200
    assert (await stage.get("/a", range="bytes=0-1", if_range='"2"')).status == 200
    assert (await stage.get("/a", range="bytes=0-1", if_range='"1"')).status == 206
    for _ in range(3):
        matched = await stage.get("/a", if_none_match='"1"')
        assert (matched.status, matched.body, matched["etag"], matched["content-type"]) == (304, b"", '"1"', None)
    assert (await stage.get("/a", if_none_match='W/"1", "x"')).status == 304
    assert (await stage.get("/a", if_none_match='"2"')).status == 200
    assert (await stage.get("/a", if_modified_since="Sun, 06 Nov 1994 08:49:37 GMT")).status == 304
    assert (await stage.get("/a", if_modified_since="Sun, 06 Nov 1994 08:49:36 GMT")).status == 200
    assert (await stage.get("/a", if_match='"2"')).status == 412
    head = await stage.get("/a", method="HEAD")
    assert (head.status, head.body, head["content-length"], head.cache) == (200, b"", "10", "Hit")
    assert len(stage.seen) == 1
    assert stage.edge.hot_hits > 0


async def test_every_method_passes_with_its_body(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(request.method.encode(), Cache_Control="max-age=60")
    await stage.open()
    for method in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"):
        for _ in range(2):
            reply = await stage.get("/a", method=method, body=b"body" if method != "OPTIONS" else b"")
            assert (reply.status, reply.body, reply.cache) == (200, method.encode(), "Miss")
    assert len(stage.seen) == 12
    assert all(seen.body == b"body" for seen in stage.seen if seen.method != "OPTIONS")


async def test_a_get_with_a_body_passes_and_is_not_kept(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=60")
    await stage.open()
    for _ in range(2):
        reply = await stage.get("/a", body=b"query")
        assert "detail=request-body" in reply.note
    assert [seen.body for seen in stage.seen] == [b"query", b"query"]
    assert (await stage.get("/a")).cache == "Miss"


async def test_a_change_at_the_origin_takes_the_stored_answer_away(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=60")
    await stage.open()
    for _ in range(3):
        await stage.get("/a")
    await stage.get("/a", method="PUT", body=b"new")
    assert (await stage.get("/a")).cache == "Miss"


async def test_a_thousand_misses_are_one_request(stage: Any, answer: Any) -> None:
    gate = asyncio.Event()

    async def slow(request: Any) -> Response:
        await gate.wait()
        return answer(b"x" * 1000, Cache_Control="max-age=60")

    stage.answer = slow
    await stage.open()
    waiting = [asyncio.create_task(stage.get("/a")) for _ in range(200)]
    await stage.until(lambda: stage.seen)

    def all_wait() -> bool:
        (flight,) = stage.edge._transfer.flights.values()
        return flight._followed is not None and len(flight._followed._waiters) == 199

    await stage.until(all_wait)
    gate.set()
    replies = await asyncio.gather(*waiting)
    assert len(stage.seen) == 1
    assert {reply.body for reply in replies} == {b"x" * 1000}
    assert sorted({reply.cache for reply in replies}) == ["Hit", "Miss"]
    assert sum("collapsed" in reply.note for reply in replies) == sum(reply.cache == "Hit" for reply in replies)


async def test_followers_of_an_answer_that_is_not_kept_ask_for_themselves(stage: Any, answer: Any) -> None:
    gate = asyncio.Event()
    count = 0

    async def private(request: Any) -> Response:
        nonlocal count
        count += 1
        mine = count
        await gate.wait()
        return answer(b"%d" % mine, Cache_Control="private")

    stage.answer = private
    await stage.open()
    waiting = [asyncio.create_task(stage.get("/a")) for _ in range(10)]
    await stage.until(lambda: stage.seen)
    gate.set()
    replies = await asyncio.gather(*waiting)
    assert len({reply.body for reply in replies}) == 10


async def test_a_leader_that_leaves_is_replaced(stage: Any, answer: Any) -> None:
    gate = asyncio.Event()

    async def slow(request: Any) -> Response:
        await gate.wait()
        return answer(b"x", Cache_Control="max-age=60")

    stage.answer = slow
    await stage.open()
    _, leader = await asyncio.open_connection("127.0.0.1", stage.edge_port)
    leader.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
    await stage.until(lambda: stage.seen)
    follower = asyncio.create_task(stage.get("/a"))
    await asyncio.sleep(0.05)
    leader.close()
    await stage.until(lambda: len(stage.seen) == 2)
    gate.set()
    assert (await follower).body == b"x"


async def chunks(data: bytes, size: int, fail: bool = False) -> Any:
    for at in range(0, len(data), size):
        yield data[at : at + size]
        await asyncio.sleep(0)
    if fail:
        raise RuntimeError("cut short")


async def test_a_large_object_streams_to_all_and_is_kept(stage: Any) -> None:
    data = bytes(range(256)) * 4096
    stage.answer = lambda request: Response(
        200, Headers([("Cache-Control", "max-age=60")]), StreamBody(chunks(data, 65_536), len(data))
    )
    await stage.open()
    replies = await asyncio.gather(*(stage.get("/a") for _ in range(5)), stage.get("/a", range="bytes=1000-1999"))
    assert all(reply.body == data for reply in replies[:5])
    assert (replies[5].status, replies[5].body) == (206, data[1000:2000])
    assert (await stage.get("/a")).cache == "Hit"
    assert (await stage.get("/a")).body == data
    assert len(stage.seen) == 1


async def test_what_exceeds_the_object_limit_passes_uncached(stage: Any) -> None:
    data = b"x" * 300_000
    stage.answer = lambda request: Response(
        200, Headers([("Cache-Control", "max-age=60")]), StreamBody(chunks(data, 65_536), len(data))
    )
    await stage.open(object_bytes_max=200_000)
    for _ in range(3):
        reply = await stage.get("/a")
        assert reply.body == data
        assert "detail=too-large" in reply.note
    part = await stage.get("/a", range="bytes=1-2")
    assert stage.seen[-1].headers.get("range") == "bytes=1-2"
    assert part.status == 200  # this origin ignores ranges


async def test_a_body_that_breaks_off_is_never_kept(stage: Any) -> None:
    data = b"x" * 200_000
    stage.answer = lambda request: Response(
        200, Headers([("Cache-Control", "max-age=60")]), StreamBody(chunks(data[:100_000], 10_000, True), len(data))
    )
    await stage.open()
    for _ in range(2):
        with pytest.raises(Exception, match=r"ended|lost|cut|closed"):
            await stage.get("/a")
    assert stage.edge.cache.used_bytes == 0
    stage.answer = lambda request: Response(
        200, Headers([("Cache-Control", "max-age=60")]), StreamBody(chunks(b"y" * 100, 10, True), 200)
    )
    assert (await stage.get("/b")).status == 502
    assert stage.edge.cache.used_bytes == 0


async def test_stale_if_error(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=10, stale-if-error=100")
    await stage.open()
    await stage.get("/a")
    stage.answer = lambda request: answer(b"broken", status=500)
    stage.clock.now += 20
    stale = await stage.get("/a")
    assert (stale.status, stale.body, stale["age"]) == (200, b"x", "20")
    assert "detail=stale-if-error" in stale.note
    await stage.get("/a")
    assert len(stage.seen) == 2  # the origin is left alone for a moment
    stage.clock.now += 200
    assert (await stage.get("/a")).status == 500


async def test_without_leave_an_error_is_passed_on(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=10")
    await stage.open()
    await stage.get("/a")
    stage.clock.now += 20
    stage.answer = lambda request: answer(b"broken", status=500)
    assert (await stage.get("/a")).status == 500


async def test_an_origin_that_is_gone(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=10")
    await stage.open()
    await stage.get("/kept")
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=10, must-revalidate")
    await stage.get("/strict")
    await stage.servers[0].drain(0)
    stage.clock.now += 20
    assert (await stage.get("/kept")).body == b"x"
    strict, unknown = await stage.get("/strict"), await stage.get("/unknown")
    assert (strict.status, unknown.status) == (502, 502)
    assert unknown["x-amz-cf-id"].encode() in unknown.body
    assert "detail=origin-connect" in unknown.note


async def test_stale_while_revalidate_never_waits(stage: Any, answer: Any) -> None:
    gate = asyncio.Event()
    gate.set()
    count = 0

    async def counted(request: Any) -> Response:
        nonlocal count
        count += 1
        mine = count
        await gate.wait()
        return answer(b"%d" % mine, Cache_Control="max-age=10, stale-while-revalidate=100")

    stage.answer = counted
    await stage.open()
    await stage.get("/a")
    gate.clear()
    stage.clock.now += 20
    replies = [await stage.get("/a") for _ in range(3)]
    assert {reply.body for reply in replies} == {b"1"}
    gate.set()

    async def renewed() -> bool:
        return bool((await stage.get("/a")).body == b"2")

    await stage.until(renewed)
    assert count == 2


async def test_a_slow_origin_costs_a_short_wait_only(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=10, stale-if-error=1000")
    await stage.open(stale_wait_s=0.05)
    await stage.get("/a")
    stage.clock.now += 20
    gate = asyncio.Event()

    async def stuck(request: Any) -> Response:
        await gate.wait()
        return answer(b"new", Cache_Control="max-age=10")

    stage.answer = stuck
    stale = await stage.get("/a")
    assert (stale.body, "detail=origin-slow" in stale.note) == (b"x", True)
    gate.set()

    async def renewed() -> bool:
        return bool((await stage.get("/a")).body == b"new")

    await stage.until(renewed)


async def test_what_the_origin_sees(stage: Any) -> None:
    await stage.open()
    await stage.raw(
        b"GET /a?b=%20c HTTP/1.1\r\nHost: somebody.example\r\nX-Forwarded-Host: evil\r\nX-Amz-Cf-Id: fake\r\n"
        b"Connection: x-private, close\r\nX-Private: 1\r\nUser-Agent: tool/1\r\nX-Forwarded-For: 1.2.3.4\r\n"
        b"TE: trailers\r\nAccept-Encoding: gzip, deflate, br\r\n\r\n"
    )
    seen = stage.seen[0]
    assert seen.target == "/a?b=%20c"
    assert seen.headers.get("host") == f"127.0.0.1:{stage.origin_port}"
    assert seen.headers.get("user-agent") == "tool/1"
    assert seen.headers.get("x-forwarded-for") == "1.2.3.4, 127.0.0.1"
    assert seen.headers.get("x-forwarded-proto") == "http"
    assert seen.headers.get("accept-encoding") == "br,gzip"
    assert len(seen.headers.get("x-amz-cf-id")) == 56
    assert "cloudfront.net (CloudFront)" in seen.headers.get("via")
    assert not {"x-forwarded-host", "x-private", "te"} & {name.lower() for name, _ in seen.headers}


async def test_authorization_is_not_shared(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(request.headers.get("authorization").encode(), Cache_Control="max-age=60")
    await stage.open()
    for who in ("alice", "bob", "alice"):
        reply = await stage.get("/a", authorization=who)
        assert reply.body == who.encode()
    assert len(stage.seen) == 3


async def test_eviction_keeps_within_the_bytes(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x" * 10_000, Cache_Control="max-age=60")
    await stage.open(cache_bytes_max=100_000)
    for number in range(40):
        await stage.get(f"/{number}")
        await stage.get(f"/{number}")
    assert stage.edge.cache.used_bytes <= 100_000
    assert stage.edge.cache.evictions > 20
    assert (await stage.get("/0")).body == b"x" * 10_000


async def test_head_never_puts_an_empty_body_in_a_stored_answers_place(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(
        b"" if request.method == "HEAD" else b"whole", Cache_Control="max-age=10, stale-while-revalidate=10",
        Content_Length="5",
    )  # fmt: skip
    await stage.open()
    assert (await stage.get("/a", method="HEAD")).cache == "Miss"
    assert (await stage.get("/a")).body == b"whole"
    for moved in (15, 15, 200):
        stage.clock.now += moved
        head = await stage.get("/a", method="HEAD")
        assert (head.status, head["content-length"], head.body) == (200, "5", b"")
        await asyncio.sleep(0.05)
        assert (await stage.get("/a")).body == b"whole"
    assert [seen.method for seen in stage.seen] == ["HEAD", "GET", "GET", "GET", "GET"]


async def test_a_range_of_what_is_not_kept(stage: Any) -> None:
    data = bytes(range(250)) * 4
    stage.answer = lambda request: Response(
        200, Headers([("Cache-Control", "no-store")]), StreamBody(chunks(data, 64), len(data))
    )
    await stage.open()
    part = await stage.get("/a", range="bytes=100-299")
    assert (part.status, part.body, part["content-range"]) == (206, data[100:300], "bytes 100-299/1000")
    assert (await stage.get("/b", range="bytes=-1")).body == data[-1:]
    assert (await stage.get("/c", range="bytes=0-")).body == data
