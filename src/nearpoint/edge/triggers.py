"""The four places where a function of the distribution's owner may step in (Lambda@Edge Developer Guide).

    viewer-request    before the cache is asked: it may answer, and what it changes is in the key
    origin-request    after a miss, before the origin is asked
    origin-response   before what the origin answered is kept
    viewer-response   before the viewer gets an answer, hit or miss; not when the status is 400 or more, when a page of
                      the distribution's own stands in, when viewer-request has answered, or when HTTPS is insisted on

A failure becomes the edge's own page; its reason shows in Cache-Status, in the log and in a metric.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from nearpoint.edge.config import EventType
from nearpoint.edge.errors import error_page
from nearpoint.edge.ports import Continue, Failed, FunctionCall, FunctionRunner, OriginTarget, Respond
from nearpoint.edge.visit import GENERATED, Answer, Visit, answer_of
from nearpoint.wire.message import Headers, Request, Response

T = TypeVar("T")
# the trigger, why it failed (None: it did not), and how long it took
FunctionRan = Callable[[EventType, str | None, float], None]

_NO_RUNNER = Failed(
    status=503, result="LambdaExecutionError", reason="no-runner", text="nothing here can run a function"
)


class Triggers:
    """Runs the functions of behaviors. `ran` is told of every run."""

    def __init__(
        self,
        functions: FunctionRunner | None,
        *,
        via: str,
        ran: FunctionRan | None = None,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._functions = functions
        self._via = via
        self._ran = ran
        self._timer = timer

    async def viewer_request(self, visit: Visit) -> Request | Answer:
        """The request as it goes on, or the answer that there is instead."""
        outcome = await self._request("viewer-request", visit, visit.request, None)
        if outcome is None:
            return visit.request
        if isinstance(outcome, Failed):
            return self.failed(visit, outcome)
        if isinstance(outcome, Respond):
            return answer_of(
                outcome.response, result=GENERATED, note="fwd=bypass; detail=viewer-request", via=self._via
            )
        return outcome.request

    async def origin_request(self, visit: Visit, request: Request, target: OriginTarget) -> Continue | Respond | Failed:
        """What becomes of a request to the origin."""
        outcome = await self._request("origin-request", visit, request, target)
        return Continue(request=request, origin=target) if outcome is None else outcome

    async def origin_response(
        self, visit: Visit, request: Request, target: OriginTarget, response: Response
    ) -> Response | Failed:
        """What becomes of an origin's answer."""
        return await self._response("origin-response", visit, request, target, response)

    async def viewer_response(self, visit: Visit, answer: Answer) -> Answer:
        """The answer as the viewer gets it: its fields may be others."""
        if "viewer-response" not in visit.behavior.functions:
            return answer
        shown = Response(answer.status, Headers(answer.fields), answer.body)
        outcome = await self._response("viewer-response", visit, visit.request, None, shown)
        if isinstance(outcome, Failed):
            await answer.body.close()
            return self.failed(visit, outcome)
        answer.fields = [(name, value) for name, value in outcome.headers if name.lower() != "content-length"]
        return answer

    def failed(self, visit: Visit, failure: Failed) -> Answer:
        """The page for a function that failed."""
        page = error_page(failure.status, visit.request_id)
        return answer_of(page, result=failure.result, note=f"fwd=bypass; detail={reason_of(failure)}", via=self._via)

    def _call(self, event: EventType, visit: Visit, request: Request, target: OriginTarget | None) -> FunctionCall:
        return FunctionCall(
            association=visit.behavior.functions[event],
            distribution_id=visit.distribution.id,
            distribution_domain=visit.distribution.domain,
            request_id=visit.request_id,
            request=request,
            origin=target,
        )

    async def _request(
        self, event: EventType, visit: Visit, request: Request, target: OriginTarget | None
    ) -> Continue | Respond | Failed | None:
        if event not in visit.behavior.functions:
            return None
        if self._functions is None:
            return self._told(event, _NO_RUNNER, 0.0)
        began_at = self._timer()
        outcome = await self._functions.run_request(self._call(event, visit, request, target))
        return self._told(event, outcome, began_at)

    async def _response(
        self, event: EventType, visit: Visit, request: Request, target: OriginTarget | None, response: Response
    ) -> Response | Failed:
        if event not in visit.behavior.functions:
            return response
        if self._functions is None:
            return self._told(event, _NO_RUNNER, 0.0)
        began_at = self._timer()
        outcome = await self._functions.run_response(self._call(event, visit, request, target), response)
        return self._told(event, outcome, began_at)

    def _told(self, event: EventType, outcome: T, began_at: float) -> T:
        if self._ran is not None:
            reason = outcome.reason if isinstance(outcome, Failed) else None
            self._ran(event, reason, self._timer() - began_at if began_at else 0.0)
        return outcome


def reason_of(failure: Failed) -> str:
    """How a function's failure is called in Cache-Status and in the log."""
    return f"function-{failure.reason}"
