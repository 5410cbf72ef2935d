"""The functions of the four triggers, each at its place in a request's life."""

from __future__ import annotations

from typing import Any

import pytest

from nearpoint.edge.ports import Continue, Failed, Respond
from nearpoint.wire.message import Headers, Request, Response, read_all

ALL = ("viewer-request", "origin-request", "origin-response", "viewer-response")


class Functions:
    """Notes which trigger runs for which path; `on` says what one does instead of nothing."""

    def __init__(self, **on: Any) -> None:
        self.on = {name.replace("_", "-"): act for name, act in on.items()}
        self.runs: list[tuple[str, str]] = []
        self.calls: list[Any] = []

    async def run_request(self, call: Any, /) -> Any:
        return self._run(call, lambda call: Continue(request=call.request, origin=call.origin))

    async def run_response(self, call: Any, response: Response, /) -> Any:
        return self._run(call, lambda _: response, response)

    def _run(self, call: Any, otherwise: Any, *more: Any) -> Any:
        event = call.association.event_type
        self.runs.append((event, call.request.target))
        self.calls.append(call)
        return self.on.get(event, lambda call, *_: otherwise(call))(call, *more)

    @property
    def events(self) -> list[str]:
        return [event for event, _ in self.runs]


def with_functions(stage: Any, *events: str, **behavior: Any) -> Any:
    associations = [{"EventType": event, "LambdaFunctionARN": f"arn:{event}"} for event in events]
    return stage.distribution(LambdaFunctionAssociations=associations, DefaultTTL=60, **behavior)


def with_field(request: Request, name: str, value: str, target: str | None = None) -> Request:
    headers = request.headers.copy()
    headers.set(name, value)
    return Request(
        request.method,
        target or request.target,
        headers,
        request.body,
        scheme=request.scheme,
        client_ip=request.client_ip,
    )


async def test_all_four_on_a_miss_and_the_viewers_on_a_hit(stage: Any) -> None:
    functions = Functions()
    await stage.open(with_functions(stage, *ALL), functions=functions)
    replies = [await stage.get("/a") for _ in range(3)]
    assert [reply.cache for reply in replies] == ["Miss", "Hit", "Hit"]
    assert functions.events == [*ALL, "viewer-request", "viewer-response", "viewer-request", "viewer-response"]
    assert [call.origin is None for call in functions.calls[:4]] == [True, False, False, True]
    assert len({call.request_id for call in functions.calls[:4]}) == 1
    assert stage.edge.hot_hits == 0


async def test_what_viewer_request_changes_is_in_the_key_and_goes_to_the_origin(stage: Any, answer: Any) -> None:
    def by_language(call: Any) -> Continue:
        language = call.request.headers.get("accept-language")
        return Continue(request=with_field(call.request, "X-Lang", language, f"/{language}/page"), origin=None)

    functions = Functions(viewer_request=by_language)
    stage.answer = lambda request: answer(f"{request.target} {request.headers.get('x-lang')}".encode())
    values = {"QueryString": False, "Headers": ["X-Lang"]}
    await stage.open(with_functions(stage, "viewer-request", ForwardedValues=values), functions=functions)
    for language in ("de", "fr", "de", "fr"):
        reply = await stage.get("/page?x", accept_language=language)
        assert reply.body == f"/{language}/page {language}".encode()
    assert [seen.target for seen in stage.seen] == ["/de/page", "/fr/page"]


async def test_viewer_request_answers(stage: Any, answer: Any) -> None:
    functions = Functions(viewer_request=lambda call: Respond(response=answer(b"no", status=403, Location="/x")))
    config = stage.config(LambdaFunctionAssociations=[{"EventType": e, "LambdaFunctionARN": f"arn:{e}"} for e in ALL])
    config["CustomErrorResponses"] = [{"ErrorCode": 403, "ResponseCode": "200", "ResponsePagePath": "/sorry"}]
    await stage.open(stage.distribution(config), functions=functions)
    reply = await stage.get("/a")
    assert (reply.status, reply.body, reply.cache) == (403, b"no", "LambdaGeneratedResponse")
    assert functions.events == ["viewer-request"]
    assert not stage.seen


async def test_origin_response_comes_before_the_cache(stage: Any) -> None:
    def keep(call: Any, response: Response) -> Response:
        headers = response.headers.copy()
        headers.set("Cache-Control", "max-age=600")
        headers.set("X-Made", call.request.target)
        return Response(200, headers, b"instead")

    functions = Functions(origin_response=keep)
    stage.answer = lambda request: Response(503, Headers([("Cache-Control", "no-store")]), b"broken")
    await stage.open(with_functions(stage, "origin-response"), functions=functions)
    replies = [await stage.get("/a") for _ in range(4)]
    assert [(reply.status, reply.body, reply["x-made"]) for reply in replies] == [(200, b"instead", "/a")] * 4
    assert [reply.cache for reply in replies] == ["Miss", "Hit", "Hit", "Hit"]
    assert len(functions.runs) == 1
    assert stage.edge.hot_hits == 2


async def test_origin_response_is_not_asked_about_a_generated_response(stage: Any, answer: Any) -> None:
    functions = Functions(origin_request=lambda call: Respond(response=answer(b"made")))
    await stage.open(with_functions(stage, *ALL), functions=functions)
    assert (await stage.get("/a")).cache == "LambdaGeneratedResponse"
    assert functions.events == ["viewer-request", "origin-request", "viewer-response"]


async def test_viewer_response_changes_fields_of_every_answer_but_not_what_is_stored(stage: Any) -> None:
    count = iter(range(100))

    def number(call: Any, response: Response) -> Response:
        headers = response.headers.copy()
        headers.set("X-Number", str(next(count)))
        assert "x-number" not in response.headers
        return Response(response.status, headers, response.body)

    functions = Functions(viewer_response=number)
    await stage.open(with_functions(stage, "viewer-response"), functions=functions)
    replies = [await stage.get("/a") for _ in range(3)]
    assert [reply["x-number"] for reply in replies] == ["0", "1", "2"]
    assert {reply.body for reply in replies} == {b"hello"}
    head = await stage.get("/a", method="HEAD")
    assert (head["content-length"], head["x-number"]) == ("5", "3")


@pytest.mark.parametrize("status", [404, 500])
async def test_viewer_response_is_skipped_when_the_origin_says_an_error(stage: Any, answer: Any, status: int) -> None:
    functions = Functions()
    stage.answer = lambda request: answer(b"no", status=200 if request.target == "/sorry" else status)
    config = stage.config(LambdaFunctionAssociations=[{"EventType": ALL[3], "LambdaFunctionARN": "arn:f"}])
    config["CustomErrorResponses"] = [{"ErrorCode": 500, "ResponseCode": "200", "ResponsePagePath": "/sorry"}]
    await stage.open(stage.distribution(config), functions=functions)
    assert (await stage.get("/a")).status == (404 if status == 404 else 200)
    assert not functions.runs


@pytest.mark.parametrize("event", ALL)
async def test_a_failure_has_a_reason_and_is_not_kept(stage: Any, event: str) -> None:
    failure = Failed(status=503, result="LambdaExecutionError", reason="timeout", text="secret")
    functions = Functions(**{event.replace("-", "_"): lambda *_: failure})
    await stage.open(with_functions(stage, event), functions=functions)
    for _ in range(2):
        reply = await stage.get("/a")
        assert (reply.status, reply.cache) == (503, "LambdaExecutionError")
        assert reply.note.endswith("; detail=function-timeout")
        assert b"secret" not in reply.body
    assert len(functions.runs) == 2
    functions.on.clear()
    assert (await stage.get("/a")).status == 200


async def test_a_function_without_a_runner(stage: Any) -> None:
    await stage.open(with_functions(stage, "viewer-response"))
    reply = await stage.get("/a")
    assert (reply.status, reply.note) == (503, "nearpoint; fwd=bypass; detail=function-no-runner")


async def test_the_body_of_an_upload_passes_the_functions(stage: Any) -> None:
    async def body() -> Any:
        for _ in range(8):
            yield b"x" * 50_000

    class Reading(Functions):
        async def run_request(self, call: Any, /) -> Any:
            data = await read_all(call.request.body, 1_000_000)
            request = with_field(call.request, "X-Size", str(len(data)))
            request.body = Request("PUT", "/", None, data).body
            return Continue(request=request, origin=call.origin)

    from nearpoint.wire.message import StreamBody

    methods = ["GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"]
    distribution = with_functions(stage, "viewer-request", "origin-request", AllowedMethods=methods)
    await stage.open(distribution, functions=Reading())
    await stage.get("/a", method="PUT", body=StreamBody(body()))
    assert stage.seen[0].body == b"x" * 400_000
    assert stage.seen[0].headers.get("x-size") == "400000"
