"""CloudFront's behaviour: conversations over real sockets."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from structlog.testing import capture_logs

from nearpoint.edge.invalidation import compile_invalidation
from nearpoint.edge.ports import Continue, Failed, OriginTarget, Respond
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.message import Headers, Request, Response

ZERO = {"MinTTL": 0, "DefaultTTL": 0, "MaxTTL": 0}
DOMAIN = "d111111abcdef8.cloudfront.net"
ALL_METHODS = ["GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"]


async def test_ttl_zero_asks_every_time(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x", Cache_Control="max-age=60")
    await stage.open(stage.distribution(**ZERO))
    for _ in range(3):
        reply = await stage.get("/a")
        assert (reply.cache, reply.body) == ("Miss", b"x")
        assert "detail=caching-disabled" in reply.note
    assert len(stage.seen) == 3
    missing = await stage.get("/a", range="bytes=0-1")
    assert stage.seen[-1].headers.get("range") == "bytes=0-1"
    assert missing.status == 200


async def test_default_ttl_keeps_what_says_nothing(stage: Any) -> None:
    await stage.open(stage.distribution(DefaultTTL=100))
    assert [(await stage.get("/a?ignored=1")).cache for _ in range(3)] == ["Miss", "Hit", "Hit"]
    assert (await stage.get("/a?ignored=2")).cache == "Hit"
    assert stage.seen[0].target == "/a"
    stage.clock.now += 101
    assert (await stage.get("/a")).cache == "Miss"


async def test_what_the_origin_and_the_viewer_see(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"x", Set_Cookie="a=1", Server="origin")
    config = stage.config()
    config["Origins"][0]["OriginPath"] = "/base"
    config["Origins"][0]["OriginCustomHeaders"] = [{"HeaderName": "X-Secret", "HeaderValue": "s"}]
    await stage.open(stage.distribution(config))
    reply = await stage.get("/a", user_agent="tool", accept="text/html", cookie="s=1", referer="r", x_other="o")
    seen = stage.seen[0].headers
    assert stage.seen[0].target == "/base/a"
    assert seen.get("user-agent") == "Amazon CloudFront"
    assert seen.get("x-secret") == "s"
    assert seen.get("x-amz-cf-id") == reply["x-amz-cf-id"]
    assert seen.get("x-other") == "o"
    assert not {"cookie", "accept", "referer"} & {name.lower() for name, _ in seen}
    assert reply["via"].endswith(".cloudfront.net (CloudFront)")
    assert reply["server"] == "origin"
    assert len(reply["x-amz-cf-id"]) == 56
    assert "set-cookie" not in reply.headers


async def test_default_root_object(stage: Any) -> None:
    config = stage.config()
    config["DefaultRootObject"] = "index.html"
    await stage.open(stage.distribution(config))
    for target in ("/", "/", "/?q", "/index.html", "/sub/"):
        await stage.get(target)
    assert [seen.target for seen in stage.seen] == ["/index.html", "/sub/"]


async def test_viewer_protocol_policy(stage: Any) -> None:
    await stage.open(stage.distribution(ViewerProtocolPolicy="redirect-to-https"))
    reply = await stage.get("/a?b=c")
    assert (reply.status, reply["location"]) == (301, "https://d111111abcdef8.cloudfront.net/a?b=c")
    assert (reply.cache, reply["server"]) == ("Redirect", "CloudFront")
    assert (await stage.get("/a", method="POST", body=b"x")).status == 307  # to be sent again with its body
    stage.edge.load([stage.distribution(ViewerProtocolPolicy="https-only")])
    assert (await stage.get("/a")).status == 403
    assert not stage.seen


async def test_what_is_refused(stage: Any) -> None:
    await stage.open(stage.distribution())
    refused = {
        "method": await stage.get("/a", method="POST", body=b"x"),
        "unknown method": await stage.get("/a", method="PROPFIND"),
        "body with GET": await stage.get("/a", body=b"x"),
        "host": await stage.get("/a", host="other.example"),
    }
    for name, reply in refused.items():
        assert (reply.status, reply.cache) == (403, "Error"), name
        assert reply["x-amz-cf-id"].encode() in reply.body
        assert b"403 ERROR" in reply.body
    assert (await stage.get("/" + "a" * 9000)).status == 414
    assert (await stage.get("/a", x_big="a" * 21_000)).status == 494
    announced = b"POST /a HTTP/1.1\r\nHost: %b\r\nContent-Length: 60000000000\r\n\r\n" % DOMAIN.encode()
    assert (await stage.raw(announced)).startswith(b"HTTP/1.1 413 ")
    assert not stage.seen


async def test_what_is_no_request_gets_a_page_too(stage: Any) -> None:
    edge = await stage.open(stage.distribution())
    for data, status in (
        (b"GET /a HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /a HTTP/1.1\r\nX: %b\r\n\r\n" % (b"a" * 200_000), b"431"),
    ):
        reply = await stage.raw(data)
        assert reply.startswith(b"HTTP/1.1 " + status)
        id = reply.partition(b"X-Amz-Cf-Id: ")[2].partition(b"\r\n")[0]
        assert b"Request ID: " + id in reply
        assert b"X-Cache: Error from cloudfront" in reply
    assert edge.metrics.requests(None, None, "Error").values[edge.metrics.requests(None, None, "Error").at] == 2


async def test_writes_pass_where_they_are_allowed(stage: Any) -> None:
    await stage.open(stage.distribution(AllowedMethods=ALL_METHODS))
    reply = await stage.get("/a", method="PUT", body=b"data", authorization="me", content_type="text/x")
    assert (reply.status, reply.cache) == (200, "Miss")
    seen = stage.seen[0]
    assert (seen.body, seen.headers.get("authorization"), seen.headers.get("content-type")) == (b"data", "me", "text/x")


async def test_behaviors_have_their_own_origins_and_rules(stage: Any) -> None:
    config = stage.config(**ZERO)
    config["Origins"].append(
        {**config["Origins"][0], "Id": "static", "OriginPath": "/static"},
    )
    config["CacheBehaviors"] = [
        {**config["DefaultCacheBehavior"], "PathPattern": "*.png", "TargetOriginId": "static", "DefaultTTL": 60,
         "MaxTTL": 600}
    ]  # fmt: skip
    await stage.open(stage.distribution(config))
    assert [(await stage.get("/a.png")).cache for _ in range(2)] == ["Miss", "Hit"]
    assert [(await stage.get("/a")).cache for _ in range(2)] == ["Miss", "Miss"]
    assert [seen.target for seen in stage.seen] == ["/static/a.png", "/a", "/a"]


async def test_errors_are_kept_for_ten_seconds(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(b"gone", status=404)
    await stage.open(stage.distribution())
    replies = [await stage.get("/a") for _ in range(3)]
    assert [(reply.status, reply.cache) for reply in replies] == [(404, "Error")] * 3
    assert len(stage.seen) == 1
    stage.clock.now += 11
    await stage.get("/a")
    assert len(stage.seen) == 2


async def test_a_page_of_its_own_for_errors(stage: Any, answer: Any) -> None:
    def pages(request: Request) -> Response:
        return answer(b"sorry") if request.target == "/sorry.html" else answer(b"gone", status=404)

    stage.answer = pages
    config = stage.config()
    config["CustomErrorResponses"] = [
        {"ErrorCode": 404, "ResponseCode": 200, "ResponsePagePath": "/sorry.html", "ErrorCachingMinTTL": 5}
    ]
    await stage.open(stage.distribution(config))
    for _ in range(3):
        reply = await stage.get("/a")
        assert (reply.status, reply.body, reply.cache) == (200, b"sorry", "Error")
    assert len(stage.seen) == 2
    direct = await stage.get("/sorry.html")
    assert (direct.status, direct.cache) == (200, "Hit")
    assert (await stage.get("/a", method="HEAD")).status == 200


async def test_stale_answers_hide_a_broken_origin(stage: Any, answer: Any) -> None:
    await stage.open(stage.distribution(DefaultTTL=10))
    await stage.get("/a")
    stage.answer = lambda request: answer(b"broken", status=503)
    stage.clock.now += 1000
    assert [(await stage.get("/a")).body for _ in range(3)] == [b"hello"] * 3
    assert len(stage.seen) == 2
    stage.answer = lambda request: answer(b"gone", status=404)
    stage.clock.now += 1000
    assert (await stage.get("/a")).status == 404


async def test_an_invalidation_takes_away_what_it_names(stage: Any) -> None:
    distribution = stage.distribution(DefaultTTL=1000)
    await stage.open(distribution)
    for target in ("/a", "/b/1", "/b/2"):
        for _ in range(3):
            await stage.get(target)
    stage.clock.now += 1
    made = compile_invalidation(invalidation_id="I1", at=stage.clock.now, paths=["/b/*"])
    stage.edge.load([distribution], {"E1": [made]})
    stage.clock.now += 1
    assert [(await stage.get(target)).cache for target in ("/a", "/b/1", "/b/2")] == ["Hit", "Miss", "Miss"]
    stage.edge.load([distribution], {"E1": [made]})
    assert [(await stage.get(target)).cache for target in ("/a", "/b/1", "/b/2")] == ["Hit", "Hit", "Hit"]


async def test_an_answer_on_its_way_is_invalidated_too(stage: Any, answer: Any) -> None:
    gate = asyncio.Event()

    async def slow(request: Any) -> Response:
        await gate.wait()
        return answer(b"old")

    stage.answer = slow
    distribution = stage.distribution(DefaultTTL=1000)
    await stage.open(distribution)
    first = asyncio.create_task(stage.get("/a"))
    await stage.until(lambda: stage.seen)
    stage.clock.now += 1
    made = compile_invalidation(invalidation_id="I1", at=stage.clock.now, paths=["/*"])
    stage.edge.load([distribution], {"E1": [made]})
    gate.set()
    assert (await first).body == b"old"
    assert (await stage.get("/a")).cache == "Miss"


async def test_cookies_and_headers_in_the_key(stage: Any, answer: Any) -> None:
    stage.answer = lambda request: answer(
        f"{request.headers.get('cookie')} {request.headers.get('x-lang')}".encode(), Cache_Control="max-age=60"
    )
    values = {
        "QueryString": True,
        "QueryStringCacheKeys": ["a"],
        "Cookies": {"Forward": "whitelist", "WhitelistedNames": ["s"]},
        "Headers": ["X-Lang"],
    }
    await stage.open(stage.distribution(ForwardedValues=values))
    for _ in range(3):
        assert (await stage.get("/a", cookie="s=1; t=2")).body == b"s=1 None"
        assert (await stage.get("/a", cookie="s=2; t=2", x_lang="de")).body == b"s=2 de"
        assert (await stage.get("/a?a=1&b=2", cookie="s=1")).body == b"s=1 None"
        assert (await stage.get("/a?a=1&b=3", cookie="s=1; t=9")).body == b"s=1 None"
    assert len(stage.seen) == 3
    assert stage.edge.hot_hits == 5


class Functions:
    """A scripted function runner."""

    def __init__(self, outcome: Any) -> None:
        self.outcome = outcome
        self.calls: list[Any] = []

    async def run_request(self, call: Any, /) -> Any:
        self.calls.append(call)
        return self.outcome(call)


ASSOCIATION = [{"EventType": "origin-request", "LambdaFunctionARN": "arn:f:1"}]


async def test_the_function_sees_the_request_and_changes_it(stage: Any) -> None:
    def sign(call: Any) -> Continue:
        headers = call.request.headers.copy()
        headers.set("Authorization", f"signed {call.request_id}")
        request = Request(call.request.method, "/changed?x=1", headers, call.request.body)
        return Continue(request=request, origin=call.origin)

    functions = Functions(sign)
    config = stage.config(**ZERO, LambdaFunctionAssociations=ASSOCIATION)
    config["Origins"][0]["OriginPath"] = "/base"
    await stage.open(stage.distribution(config), functions=functions)
    reply = await stage.get("/a", authorization="viewer's")
    call, seen = functions.calls[0], stage.seen[0]
    assert call.request.target == "/a"
    assert call.request.headers.get("host") == f"127.0.0.1:{stage.origin_port}"
    assert call.request.headers.get("user-agent") == "Amazon CloudFront"
    assert "authorization" not in call.request.headers
    assert "x-amz-cf-id" not in call.request.headers
    assert (call.origin.host, call.origin.port, call.distribution_id) == ("127.0.0.1", stage.origin_port, "E1")
    assert call.request_id == reply["x-amz-cf-id"] == seen.headers.get("x-amz-cf-id")
    assert seen.target == "/base/changed?x=1"
    assert seen.headers.get("authorization") == f"signed {call.request_id}"


async def test_the_function_runs_on_misses_only(stage: Any) -> None:
    functions = Functions(lambda call: Continue(request=call.request, origin=call.origin))
    await stage.open(stage.distribution(DefaultTTL=60, LambdaFunctionAssociations=ASSOCIATION), functions=functions)
    for _ in range(4):
        await stage.get("/a")
    assert len(functions.calls) == 1


async def test_the_function_answers(stage: Any, answer: Any) -> None:
    functions = Functions(lambda call: Respond(response=answer(b"made", Cache_Control="max-age=60")))
    await stage.open(stage.distribution(LambdaFunctionAssociations=ASSOCIATION), functions=functions)
    replies = [await stage.get("/a") for _ in range(3)]
    assert [reply.cache for reply in replies] == ["LambdaGeneratedResponse", "Hit", "Hit"]
    assert {reply.body for reply in replies} == {b"made"}
    assert not stage.seen


@pytest.mark.parametrize(
    ("status", "result"),
    [(500, "LambdaExecutionError"), (502, "LambdaValidationError"), (503, "LambdaLimitExceeded")],
)
async def test_the_function_fails(stage: Any, status: int, result: str) -> None:
    functions = Functions(lambda call: Failed(status=status, result=result, reason="raised", text="secret detail"))
    await stage.open(stage.distribution(LambdaFunctionAssociations=ASSOCIATION), functions=functions)
    for _ in range(2):
        reply = await stage.get("/a")
        assert (reply.status, reply.cache) == (status, result)
        assert b"secret" not in reply.body
        assert reply.note == "nearpoint; fwd=uri-miss; detail=function-raised"
    assert len(functions.calls) == 2
    assert not stage.seen


class Attempts:
    """An OriginFetch that fails as scripted, then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.targets: list[OriginTarget] = []

    async def __call__(self, target: OriginTarget, request: Request, /) -> Response:
        self.targets.append(target)
        if self.failures:
            raise self.failures.pop(0)
        return Response(200, Headers(), b"at last")


REFUSED = [UpstreamError("connect", "refused", retry_safe=True) for _ in range(3)]
LOST = [UpstreamError("lost", "reset") for _ in range(3)]
SLOW = [UpstreamError("timeout", "slow") for _ in range(3)]


@pytest.mark.parametrize(
    ("failures", "method", "status", "asked"),
    [
        (REFUSED[:2], "GET", 200, 3),
        (REFUSED, "GET", 502, 3),
        (REFUSED[:2], "POST", 200, 3),
        (LOST, "GET", 502, 1),
        (SLOW[:1], "GET", 200, 2),
        (SLOW, "GET", 504, 3),
        (SLOW, "POST", 504, 1),
    ],
)
async def test_attempts(stage: Any, failures: list[Exception], method: str, status: int, asked: int) -> None:
    fetch = Attempts(*failures)
    await stage.open(stage.distribution(AllowedMethods=ALL_METHODS), fetch=fetch)
    reply = await stage.get("/a", method=method)
    assert (reply.status, len(fetch.targets)) == (status, asked)


async def test_an_origin_that_never_answers(stage: Any) -> None:
    class Stuck:
        async def __call__(self, target: OriginTarget, request: Request, /) -> Response:
            await asyncio.sleep(3600)
            raise AssertionError

    config = stage.config()
    config["Origins"][0]["ConnectionAttempts"] = 1
    config["Origins"][0]["ConnectionTimeout"] = 1
    config["Origins"][0]["CustomOriginConfig"]["OriginReadTimeout"] = 1
    await stage.open(stage.distribution(config), fetch=Stuck())
    reply = await stage.get("/a")
    assert (reply.status, "detail=origin-timeout" in reply.note) == (504, True)


async def test_an_origin_that_no_connection_comes_to(stage: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = stage.config()
        config["Origins"][0] |= {"ConnectionAttempts": 1, "ConnectionTimeout": 1}
        config["Origins"][0]["CustomOriginConfig"] = {
            "HTTPSPort": silent.getsockname()[1],
            "OriginProtocolPolicy": "https-only",
        }
        await stage.open(stage.distribution(config))
        with capture_logs() as logs:
            reply = await stage.get("/a")
    assert (reply.status, "detail=origin-connect" in reply.note) == (504, True)
    assert logs[0]["text"] == "connecting took too long"


async def test_absolute_form_and_a_bad_target(stage: Any) -> None:
    await stage.open(stage.distribution())
    good = await stage.raw(
        b"GET http://d111111abcdef8.cloudfront.net/a?b HTTP/1.1\r\nHost: d111111abcdef8.cloudfront.net\r\n"
        b"Connection: close\r\n\r\n"
    )
    assert b"200 OK" in good
    assert stage.seen[0].target == "/a"


async def test_a_changed_distribution_takes_effect_at_once(stage: Any) -> None:
    await stage.open(stage.distribution(DefaultTTL=60))
    assert [(await stage.get("/a")).cache for _ in range(3)] == ["Miss", "Hit", "Hit"]
    stage.edge.load([stage.distribution(**ZERO)])
    assert [(await stage.get("/a")).cache for _ in range(2)] == ["Miss", "Miss"]
    stage.edge.load([])
    assert (await stage.get("/a")).status == 403
