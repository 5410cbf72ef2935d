"""Runs the function of a trigger: builds the event, calls the sandbox, applies what comes back.

The four triggers of Lambda@Edge in the order of a request: viewer-request, origin-request, origin-response,
viewer-response. When to run which is the edge's to decide.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from nearpoint.functions.event import BodyPart, EventConfig, bytes_max, request_event, response_event
from nearpoint.functions.headers import EventType
from nearpoint.functions.origin import Origin
from nearpoint.functions.outcome import Continue, Failed, Outcome, RejectedError, Respond
from nearpoint.functions.pool import CredentialsLike, Invocation
from nearpoint.functions.result import apply_request_result, apply_response_result
from nearpoint.state.resources import Function
from nearpoint.wire.framing import reason_phrase
from nearpoint.wire.message import Body, BytesBody, Request, Response, StreamBody

# "Quotas on Lambda@Edge": the longest that a function of a trigger may run.
VIEWER_SECONDS_MAX = 5
ORIGIN_SECONDS_MAX = 30


class Invoke(Protocol):
    """`Sandbox.invoke`."""

    async def __call__(
        self, function: Function, event: Any, *, request_id: str, credentials: CredentialsLike, deadline_s: float
    ) -> Invocation: ...


class Runner:
    """`credentials` gives the temporary credentials of a function's role, valid for a while yet.

    Each method answers with an Outcome and never raises for what a function does. The request's own body goes on
    as it came unless the function replaced it.
    """

    def __init__(self, invoke: Invoke, credentials: Callable[[Function], CredentialsLike]) -> None:
        self._invoke = invoke
        self._credentials = credentials

    async def run_viewer_request(
        self, function: Function, config: EventConfig, request: Request, *, include_body: bool = False
    ) -> Outcome:
        """Before the cache is asked."""
        return await self._run_request("viewer-request", function, config, request, include_body=include_body)

    async def run_origin_request(
        self, function: Function, config: EventConfig, request: Request, origin: Origin, *, include_body: bool = False
    ) -> Outcome:
        """After a miss, before the origin is asked. `request` is the one that the origin would get."""
        return await self._run_request(
            "origin-request", function, config, request, origin=origin, include_body=include_body
        )

    async def run_origin_response(
        self, function: Function, config: EventConfig, request: Request, response: Response, origin: Origin
    ) -> Outcome:
        """After the origin answered, whatever it answered, before the response is cached."""
        return await self._run_response("origin-response", function, config, request, response, origin=origin)

    async def run_viewer_response(
        self, function: Function, config: EventConfig, request: Request, response: Response
    ) -> Outcome:
        """Before the viewer gets the response, hit or miss."""
        return await self._run_response("viewer-response", function, config, request, response)

    async def _run_request(
        self,
        event_type: EventType,
        function: Function,
        config: EventConfig,
        request: Request,
        *,
        origin: Origin | None = None,
        include_body: bool,
    ) -> Outcome:
        part = None
        if include_body:
            part, request.body = await take_start(request.body, bytes_max(event_type))
        event = request_event(event_type, config, request, origin=origin, body=part)
        ran = await self._call(event_type, function, config, event)
        if isinstance(ran, Failed):
            return ran
        try:
            outcome = apply_request_result(event_type, request, ran.value, origin=origin, body_included=include_body)
        except RejectedError as error:
            return Failed(reason=error.reason, text=str(error))
        if isinstance(outcome, Respond) or outcome.request.body is not request.body:
            await request.body.close()
        return outcome

    async def _run_response(
        self,
        event_type: EventType,
        function: Function,
        config: EventConfig,
        request: Request,
        response: Response,
        *,
        origin: Origin | None = None,
    ) -> Outcome:
        event = response_event(
            event_type, config, request, response, origin=origin, status_description=reason_phrase(response.status)
        )
        ran = await self._call(event_type, function, config, event)
        if isinstance(ran, Failed):
            return ran
        try:
            outcome = apply_response_result(event_type, request, response, ran.value, origin=origin)
        except RejectedError as error:
            return Failed(reason=error.reason, text=str(error))
        assert isinstance(outcome, Continue)
        if outcome.response is not None and outcome.response.body is not response.body:
            await response.body.close()
        return outcome

    async def _call(
        self, event_type: EventType, function: Function, config: EventConfig, event: dict[str, Any]
    ) -> Invocation | Failed:
        longest_s = VIEWER_SECONDS_MAX if event_type.startswith("viewer") else ORIGIN_SECONDS_MAX
        ran = await self._invoke(
            function,
            event,
            request_id=config.request_id,
            credentials=self._credentials(function),
            deadline_s=min(function.timeout_s, longest_s),
        )
        return ran if ran.kind is None else Failed(reason=ran.kind, text=ran.text)


async def take_start(body: Body, bytes_max: int) -> tuple[BodyPart, Body]:
    """The first bytes of a body, and a body that still gives all of it, those included."""
    if isinstance(body, BytesBody):
        return BodyPart(data=body.data[:bytes_max], truncated=len(body.data) > bytes_max), body
    taken: list[bytes] = []
    size = 0
    chunks = aiter(body)
    async for chunk in chunks:
        taken.append(chunk)
        size += len(chunk)
        if size > bytes_max:
            break
    else:
        data = b"".join(taken)
        return BodyPart(data=data), BytesBody(data)

    async def again() -> AsyncIterator[bytes]:
        for chunk in taken:
            yield chunk
        async for chunk in chunks:
            yield chunk

    part = BodyPart(data=b"".join(taken)[:bytes_max], truncated=True)
    return part, StreamBody(again(), body.length, body.close)
