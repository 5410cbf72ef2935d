"""The four triggers between the edge and the functions room: events go out, results come back."""

from __future__ import annotations

from typing import Any

import pytest

from nearpoint.edge import ports
from nearpoint.edge.config import Association
from nearpoint.functions.pool import Invocation
from nearpoint.node.functions import EdgeFunctions
from nearpoint.state.resources import Function, Snapshot
from nearpoint.wire.message import Headers, Request, Response

ARN = "arn:aws:lambda:us-east-1:123456789012:function:f:1"
FUNCTION = Function(
    name="f",
    version="1",
    account_id="123456789012",
    region="us-east-1",
    role_arn="arn:aws:iam::123456789012:role/r",
    runtime="python3.12",
    handler="index.handler",
    code_sha256="0" * 64,
    code_size_bytes=1,
    last_modified=0.0,
)
ORIGIN = ports.OriginTarget(kind="custom", scheme="https", host="origin.example", port=443)


class Sandbox:
    """Answers with what `act` makes of the event."""

    def __init__(self, act: Any) -> None:
        self.act = act
        self.events: list[Any] = []

    async def invoke(self, function: Any, event: Any, **_: Any) -> Invocation:
        self.events.append(event["Records"][0]["cf"])
        made = self.act(self.events[-1])
        return made if isinstance(made, Invocation) else Invocation(value=made)


def runner(act: Any) -> tuple[EdgeFunctions, Sandbox, list[str]]:
    snapshot = Snapshot(generation=1, account_id="123456789012", session_secret="s", functions={ARN: FUNCTION})
    sandbox, lines = Sandbox(act), []
    log: list[str] = lines
    return EdgeFunctions(lambda: snapshot, sandbox, lambda *line: log.append(line[-1])), sandbox, lines  # type: ignore[arg-type]


def call(event_type: Any, *, arn: str = ARN) -> ports.FunctionCall:
    return ports.FunctionCall(
        association=Association(event_type=event_type, function_arn=arn),
        distribution_id="E1",
        distribution_domain="d1.cloudfront.net",
        request_id="rid",
        request=Request("GET", "/a?b=c", Headers([("Host", "h")]), client_ip="192.0.2.1"),
        origin=ORIGIN if event_type.startswith("origin") else None,
    )


@pytest.mark.parametrize("event_type", ["viewer-request", "origin-request"])
async def test_a_request_goes_on_changed(event_type: str) -> None:
    functions, sandbox, _ = runner(lambda cf: {**cf["request"], "uri": "/changed"})
    outcome = await functions.run_request(call(event_type))
    assert isinstance(outcome, ports.Continue)
    assert outcome.request.target == "/changed?b=c"
    assert sandbox.events[0]["config"]["eventType"] == event_type
    assert ("origin" in sandbox.events[0]["request"]) == (event_type == "origin-request")
    assert outcome.origin == call(event_type).origin


@pytest.mark.parametrize("event_type", ["viewer-response", "origin-response"])
async def test_a_response_is_changed(event_type: str) -> None:
    def act(cf: Any) -> Any:
        cf["response"]["headers"]["x-more"] = [{"key": "X-More", "value": "1"}]
        return cf["response"]

    functions, sandbox, _ = runner(act)
    response = Response(200, Headers([("Content-Type", "text/plain")]), b"body")
    changed = await functions.run_response(call(event_type), response)
    assert isinstance(changed, Response)
    assert changed.headers.get("x-more") == "1"
    assert changed.body is response.body
    assert sandbox.events[0]["request"]["uri"] == "/a"


async def test_a_response_is_generated() -> None:
    functions, _, _ = runner(lambda cf: {"status": "302", "headers": {"location": [{"value": "/x"}]}})
    outcome = await functions.run_request(call("viewer-request"))
    assert isinstance(outcome, ports.Respond)
    assert (outcome.response.status, outcome.response.headers.get("location")) == (302, "/x")


@pytest.mark.parametrize("event_type", ["viewer-request", "origin-request", "origin-response", "viewer-response"])
@pytest.mark.parametrize(
    ("result", "status", "reason", "shown"),
    [
        (Invocation(kind="timeout", text="3 s"), 503, "timeout", "LambdaExecutionError"),
        (Invocation(kind="raised", text="oops"), 500, "raised", "LambdaExecutionError"),
        ([], 502, "malformed", "LambdaValidationError"),
    ],
)
async def test_failures_keep_their_reason(event_type: Any, result: Any, status: int, reason: str, shown: str) -> None:
    functions, _, lines = runner(lambda cf: result)
    if event_type.endswith("request"):
        outcome: Any = await functions.run_request(call(event_type))
    else:
        outcome = await functions.run_response(call(event_type), Response(200))
    assert isinstance(outcome, ports.Failed)
    assert (outcome.status, outcome.reason, outcome.result) == (status, reason, shown)
    assert reason in lines[0]


async def test_a_function_that_is_not_there() -> None:
    functions, _, _ = runner(lambda cf: None)
    outcome = await functions.run_request(call("viewer-request", arn="arn:none"))
    assert isinstance(outcome, ports.Failed)
    assert (outcome.status, outcome.reason) == (503, "missing")
