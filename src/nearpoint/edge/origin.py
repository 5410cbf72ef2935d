"""Asks the origin: the function of the behavior, then as many attempts as the origin allows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec
import structlog

from nearpoint.edge.access_control import signed
from nearpoint.edge.bodyintime import BodyInTime
from nearpoint.edge.metrics import EdgeMetrics
from nearpoint.edge.origin_config import Origin
from nearpoint.edge.ports import Failed, OriginCredentials, OriginFetch, OriginShields, OriginTarget, Respond
from nearpoint.edge.shield import Shielded, hop_request, read_answer
from nearpoint.edge.triggers import Triggers, reason_of
from nearpoint.edge.visit import ERROR, GENERATED, Trouble, Visit
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.framing import MalformedHeadError
from nearpoint.wire.message import BytesBody, Headers, Request, Response
from nearpoint.wire.ticker import Deadlines

log = structlog.get_logger("nearpoint.edge")

SHIELD_RETRY_S = 2.0
TICK_S = 0.1  # how exact time-outs are
_TEXT_CHARACTERS_MAX = 200  # of what went wrong, for the log
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS"})


class Arrived(msgspec.Struct, frozen=True, kw_only=True):
    """A response has begun. `generated`: a function made it. `authorized`: the request had an Authorization field.

    `requested_at`, `fresh_s` and `hit` are what the origin's shield says, if it has answered.
    """

    response: Response
    generated: bool
    authorized: bool
    forwarded: Headers
    requested_at: float | None = None
    fresh_s: float | None = None
    hit: bool = False


class OriginAsker:
    """Carries requests to origins for the engine."""

    def __init__(
        self,
        *,
        fetch: OriginFetch,
        triggers: Triggers,
        metrics: EdgeMetrics,
        via: str,
        credentials: OriginCredentials | None = None,
        shields: OriginShields | None = None,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch = fetch
        self._triggers = triggers
        self._metrics = metrics
        self._timer = timer
        self._via = via
        self._credentials = credentials
        self._shields = shields
        self._shield_back_at = 0.0  # a shield that could not be asked is left alone until then
        self._clock = clock
        self._deadlines = Deadlines(TICK_S)

    def forwarded(self, visit: Visit, *, storing: bool) -> Headers:
        """The headers that the visit's request has when it goes to the origin."""
        request = visit.request
        return visit.behavior.origin_fields.of(
            request.headers,
            method=request.method,
            origin_host=visit.behavior.origin.target(request.scheme).authority,
            client_ip=request.client_ip,
            scheme=request.scheme,
            via=self._via,
            storing=storing,
        )

    def ask(
        self, visit: Visit, headers: Headers, method: str | None = None, *, storing: bool
    ) -> Awaitable[Arrived | Trouble]:
        """Run the function, then ask the origin, with another method than the viewer's if one is given.

        What may be stored comes from the origin's shield, if it has one that can be reached.

        Where the first member of an origin group fails, the second is asked, the function run again for it (Developer
        Guide, "Optimize high availability with CloudFront origin failover").
        """
        origin, failover = visit.behavior.origin, visit.behavior.failover
        shield = storing and origin.shield_region != "" and not visit.shielding
        if shield or failover is not None:
            return self._ask_in_turn(visit, headers, method, shield=shield)
        return self._ask(visit, origin, headers, method)

    async def _ask_in_turn(
        self, visit: Visit, headers: Headers, method: str | None, *, shield: bool
    ) -> Arrived | Trouble:
        """Ask the shield, if there is one, then the members of the origin group."""
        origin, failover = visit.behavior.origin, visit.behavior.failover
        if shield:
            shielded = await self._ask_shield(visit, origin, headers, method)
            if shielded is not None:
                return shielded
        first = await self._ask(visit, origin, headers, method)
        if failover is None or not _fails_over(visit, first, failover.statuses):
            return first
        if isinstance(first, Arrived):
            await first.response.body.close()
        if not visit.behavior.forward.viewer_host:
            headers = headers.copy()
            headers.set("Host", failover.origin.target(visit.request.scheme).authority)
        return await self._ask(visit, failover.origin, headers, method)

    async def _ask_shield(
        self, visit: Visit, origin: Origin, headers: Headers, method: str | None
    ) -> Arrived | Trouble | None:
        """What the shield answers; None: it is here, there is none, or it can't be reached."""
        shields, region = self._shields, origin.shield_region
        if shields is None or self._clock() < self._shield_back_at or not shields.stands_before(region):
            return None
        request = hop_request(visit, headers, method=method or visit.request.method, via=self._via)
        attempts = origin.connection_attempts * (1 if visit.behavior.failover is None else 2)
        timeout_s = attempts * (origin.connect_timeout_s + origin.read_timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                response = await shields.ask(region, request, timeout_s)
        except (UpstreamError, MalformedHeadError, TimeoutError) as error:
            answer = None
            log.warning("the origin's shield cannot be asked", region=region, error=str(error) or "time-out")
        else:
            answer = read_answer(response, self._clock())
            if not isinstance(answer, Shielded):
                await response.body.close()
        if answer is None:
            self._shield_back_at = self._clock() + SHIELD_RETRY_S
            self._metrics.origin_failed(visit.distribution, "shield")
            return None
        if isinstance(answer, Trouble):
            return answer
        return Arrived(
            response=answer.response,
            generated=answer.result == GENERATED,
            authorized=_authorized(visit, headers),
            forwarded=headers,
            requested_at=answer.requested_at,
            fresh_s=answer.fresh_s,
            hit=answer.hit,
        )

    async def _ask(self, visit: Visit, origin: Origin, headers: Headers, method: str | None) -> Arrived | Trouble:
        target = origin.target(visit.request.scheme)
        request = Request(
            method or visit.request.method,
            visit.target,
            headers,
            visit.request.body,
            scheme=target.scheme,
            client_ip=visit.request.client_ip,
        )
        functions = visit.behavior.functions
        if "origin-request" in functions:
            outcome = await self._triggers.origin_request(visit, request, target)
            if isinstance(outcome, Failed):
                return _function_trouble(outcome)
            if isinstance(outcome, Respond):
                return Arrived(response=outcome.response, generated=True, authorized=False, forwarded=headers)
            request, target = outcome.request, outcome.origin or target
        final = request.headers.copy()
        for name, value in target.custom_headers:
            final.set(name, value)
        if functions or target.custom_headers:
            final.set("X-Amz-Cf-Id", visit.request_id)
        else:
            final.add("X-Amz-Cf-Id", visit.request_id)  # a viewer's own has been dropped
        path = target.path + request.target
        control = origin.access_control
        if control is not None and self._credentials is not None and control.signs(final):
            final = signed(
                control,
                final,
                method=request.method,
                target=path,
                domain=target.host,
                credentials=self._credentials(visit.distribution.id),
                now=datetime.fromtimestamp(self._clock(), UTC),
            )
        sent = Request(
            request.method,
            path,
            final,
            request.body,
            scheme=target.scheme,
            client_ip=visit.request.client_ip,
        )
        began_at = self._timer()
        result = await self._attempts(target, sent)
        failure = result.reason if isinstance(result, Trouble) else None
        self._metrics.origin(visit.distribution, self._timer() - began_at, failure)
        if isinstance(result, Trouble):
            return result
        if "origin-response" in functions:
            changed = await self._triggers.origin_response(visit, request, target, result)
            if isinstance(changed, Failed):
                await result.body.close()
                return _function_trouble(changed)
            result = changed
        return Arrived(response=result, generated=False, authorized=_authorized(visit, headers), forwarded=headers)

    async def _attempts(self, target: OriginTarget, request: Request) -> Response | Trouble:
        """Ask until an answer begins. A failure that the origin may have acted on is not repeated."""
        attempts = target.connection_attempts
        status, reason, text = 502, "connect", ""
        while attempts > 0:
            attempts -= 1
            complete_at: float | None = None
            if target.completion_timeout_s is not None:
                complete_at = asyncio.get_running_loop().time() + target.completion_timeout_s
            try:
                with self._deadlines.within(target.connect_timeout_s + target.read_timeout_s):
                    response = await self._fetch(target, request)
                if complete_at is not None:
                    response.body = BodyInTime(response.body, complete_at)
                return response
            except UpstreamError as error:
                reason, text = error.reason, str(error)[:_TEXT_CHARACTERS_MAX]
                status = 504 if reason == "timeout" or isinstance(error.__cause__, TimeoutError) else 502
                again = error.retry_safe or (reason == "timeout" and _repeatable(request))
            except MalformedHeadError:
                return Trouble(status=502, result=ERROR, reason="request-malformed", unreachable=False)
            except TimeoutError:
                status, reason, text = 504, "timeout", "no answer in time"
                again = _repeatable(request)
            if not again:
                break
        return Trouble(status=status, result=ERROR, reason=f"origin-{reason}", unreachable=True, text=text)


def _authorized(visit: Visit, headers: Headers) -> bool:
    return "authorization" in headers and not visit.behavior.cache.headers.takes("authorization")


def _function_trouble(failure: Failed) -> Trouble:
    return Trouble(
        status=failure.status,
        result=failure.result,
        reason=reason_of(failure),
        unreachable=False,
        text=failure.text,
    )


def _fails_over(visit: Visit, first: Arrived | Trouble, statuses: frozenset[int]) -> bool:
    """Whether the second member is asked: never for a method that may change something."""
    if visit.request.method not in IDEMPOTENT or not isinstance(visit.request.body, BytesBody):
        return False
    if isinstance(first, Trouble):
        return first.unreachable
    return not first.generated and first.response.status in statuses


def _repeatable(request: Request) -> bool:
    return request.method in IDEMPOTENT and isinstance(request.body, BytesBody)
