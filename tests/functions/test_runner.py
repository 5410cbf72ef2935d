"""A trigger from request to outcome: over a stand-in for the sandbox, and once over the real one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from nearpoint.functions.event import EventConfig
from nearpoint.functions.origin import CustomOrigin
from nearpoint.functions.outcome import Continue, Failed, Respond
from nearpoint.functions.pool import Invocation
from nearpoint.functions.runner import Runner, take_start
from nearpoint.signing import Credentials
from nearpoint.state.resources import Function
from nearpoint.wire.message import Body, BytesBody, Headers, Request, Response, StreamBody, read_all

ROLE = Credentials(access_key_id="ASIAONE", secret_key="s", session_token="t")
CONFIG = EventConfig(distribution_domain="d1.cloudfront.net", distribution_id="E1", request_id="cf-id")
ORIGIN = CustomOrigin(domain_name="example.org")


def function(**changes: Any) -> Function:
    given = {
        "name": "f",
        "account_id": "1",
        "region": "us-east-1",
        "role_arn": "r",
        "runtime": "python3.11",
        "handler": "app.handler",
        "code_sha256": "0",
        "code_size_bytes": 0,
        "last_modified": 0,
        "timeout_s": 60,
    }
    return Function(**(given | changes))


class StandIn:
    """Answers every call by `answer(event)`, and keeps what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[dict[str, Any]] = []

    async def __call__(self, function: Function, event: Any, **options: Any) -> Invocation:
        self.asked.append({"event": event["Records"][0]["cf"], **options})
        answered = self.answer(event["Records"][0]["cf"])
        return answered if isinstance(answered, Invocation) else Invocation(value=answered)


def runner(answer: Any) -> tuple[Runner, StandIn]:
    stand_in = StandIn(answer)
    return Runner(stand_in, lambda function: ROLE), stand_in


class ClosableBody(StreamBody):
    def __init__(self, chunks: list[bytes], length: int | None = None) -> None:
        self.closed = False

        async def stream() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        super().__init__(stream(), length)

    async def close(self) -> None:
        self.closed = True
        await super().close()


async def test_the_four_triggers_say_who_they_are_and_how_long_they_may_take():
    run, stand_in = runner(lambda cf: cf.get("response") or cf["request"])
    request, response = Request("GET", "/"), Response(200)
    outcomes = [
        await run.run_viewer_request(function(), CONFIG, request),
        await run.run_origin_request(function(), CONFIG, request, ORIGIN),
        await run.run_origin_response(function(), CONFIG, request, response, ORIGIN),
        await run.run_viewer_response(function(), CONFIG, request, response),
        await run.run_viewer_request(function(timeout_s=2), CONFIG, request),
    ]
    assert all(isinstance(outcome, Continue) for outcome in outcomes)
    asked = stand_in.asked
    assert [one["event"]["config"]["eventType"] for one in asked[:4]] == [
        "viewer-request",
        "origin-request",
        "origin-response",
        "viewer-response",
    ]
    assert [one["deadline_s"] for one in asked] == [5, 30, 30, 5, 2]
    assert {one["request_id"] for one in asked} == {"cf-id"}
    assert ["origin" in one["event"]["request"] for one in asked[:4]] == [False, True, True, False]
    assert asked[2]["event"]["response"]["statusDescription"] == "OK"


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("raised", 500),
        ("crashed", 500),
        ("memory", 500),
        ("import-error", 500),
        ("malformed", 502),
        ("too-large", 502),
        ("timeout", 503),
        ("throttled", 503),
    ],
)
async def test_a_call_that_failed(kind, status):
    run, _ = runner(lambda cf: Invocation(kind=kind, text="why"))
    outcome = await run.run_origin_request(function(), CONFIG, Request("GET", "/"), ORIGIN)
    assert isinstance(outcome, Failed)
    assert (outcome.status, outcome.reason, outcome.text) == (status, kind, "why")


async def test_a_result_that_breaks_a_rule():
    run, _ = runner(lambda cf: {"status": "200", "headers": {"connection": [{"value": "x"}]}})
    outcome = await run.run_viewer_request(function(), CONFIG, Request("GET", "/"))
    assert isinstance(outcome, Failed)
    assert (outcome.status, outcome.reason) == (502, "header-forbidden")
    outcome = await run.run_origin_response(function(), CONFIG, Request("GET", "/"), Response(200), ORIGIN)
    assert isinstance(outcome, Failed)


async def test_a_body_is_shown_in_part_and_sent_whole():
    chunks = [b"a" * 30_000, b"b" * 30_000, b"c" * 5]
    body = ClosableBody(list(chunks), 60_005)
    run, stand_in = runner(lambda cf: cf["request"])
    outcome = await run.run_viewer_request(function(), CONFIG, Request("POST", "/", body=body), include_body=True)
    shown = stand_in.asked[0]["event"]["request"]["body"]
    assert shown["inputTruncated"] is True
    assert len(shown["data"]) == 4 * -(-40 * 1024 // 3)
    assert isinstance(outcome, Continue)
    assert outcome.request.body.length == 60_005
    assert await read_all(outcome.request.body, 100_000) == b"".join(chunks)


async def test_a_body_that_nobody_wants_any_more_is_closed():
    for answer in ({"status": "200"}, {"uri": "/", "body": {"action": "replace", "data": "bmV3"}}):
        body = ClosableBody([b"x" * 50_000] * 30)
        run, _ = runner(lambda cf, answer=answer: answer)
        outcome = await run.run_viewer_request(function(), CONFIG, Request("POST", "/", body=body), include_body=True)
        assert body.closed
        if isinstance(outcome, Continue):
            assert await read_all(outcome.request.body, 10) == b"new"
    body = ClosableBody([b"old"])
    run, _ = runner(lambda cf: cf["response"] | {"body": "new"})
    outcome = await run.run_origin_response(function(), CONFIG, Request("GET", "/"), Response(200, None, body), ORIGIN)
    assert isinstance(outcome, Continue)
    assert body.closed


async def test_a_body_is_not_touched_unless_included():
    body = ClosableBody([b"x"])
    run, stand_in = runner(lambda cf: cf["request"])
    outcome = await run.run_viewer_request(function(), CONFIG, Request("POST", "/", body=body))
    assert "body" not in stand_in.asked[0]["event"]["request"]
    assert isinstance(outcome, Continue)
    assert outcome.request.body is body


@pytest.mark.parametrize(
    ("chunks", "shown", "truncated"),
    [
        ([], b"", False),
        ([b"abc"], b"abc", False),
        ([b"ab", b"cd"], b"abcd", False),
        ([b"ab", b"cd", b"e"], b"abcd", True),
    ],
)
async def test_the_start_of_a_body(chunks, shown, truncated):
    bodies: list[Body] = [ClosableBody(list(chunks)), BytesBody(b"".join(chunks))]
    for body in bodies:
        part, whole = await take_start(body, 4)
        assert (part.data, part.truncated) == (shown, truncated)
        assert await read_all(whole, 100) == b"".join(chunks)


async def test_a_real_function_redirects(bench):
    source = """
def handler(event, context):
    request = event["Records"][0]["cf"]["request"]
    if request["uri"] == "/old":
        return {"status": "301", "headers": {"location": [{"key": "Location", "value": "/new"}]}}
    request["headers"]["x-seen"] = [{"key": "X-Seen", "value": request["clientIp"]}]
    return request
"""
    run = Runner(bench.sandbox.invoke, lambda function: ROLE)
    real = bench.function(source)
    outcome = await run.run_viewer_request(real, CONFIG, Request("GET", "/old"))
    assert isinstance(outcome, Respond)
    assert (outcome.response.status, outcome.response.headers.get("location")) == (301, "/new")
    request = Request("GET", "/x?y", Headers([("Host", "h")]), client_ip="203.0.113.9")
    outcome = await run.run_viewer_request(real, CONFIG, request)
    assert isinstance(outcome, Continue)
    assert list(outcome.request.headers) == [("Host", "h"), ("X-Seen", "203.0.113.9")]
