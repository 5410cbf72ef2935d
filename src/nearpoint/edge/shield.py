"""Origin shield: what one location's edge asks another's before the origin, and how it is answered. Pure.

A miss that may be kept goes to the cache of the shield's location, which asks the origin for everybody (CloudFront
Developer Guide, "Use Amazon CloudFront Origin Shield"). What the viewer may do has been decided by the edge that it
came to; the functions of the origin's side run at the shield. The request is the viewer's own, so both edges come to
the same key; what else the shield has to know is in fields that no viewer's request keeps (`X-Edge-…`).
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from nearpoint.edge.config import Behavior, Distribution
from nearpoint.edge.headers import CONDITIONS, HOP_BY_HOP, connection_options
from nearpoint.edge.visit import ERROR, HIT, REFRESH_HIT, Answer, Trouble, Visit, with_via
from nearpoint.wire.message import Headers, Request, Response

HOST = "origin-shield.nearpoint.internal"  # whom such a request is for: no viewer's host name
TOKEN_FIELD = "X-Edge-Shield"  # noqa: S105 - its name; who may ask is for the location to say
PREFIX = "x-edge-"
FRESH_S_MIN = 1.0  # what the shield serves stale is not asked for by everybody at once
_DISTRIBUTION, _BEHAVIOR, _ID = "X-Edge-Distribution", "X-Edge-Behavior", "X-Edge-Request-Id"
_VIEWER_HOST, _SCHEME, _CLIENT = "X-Edge-Host", "X-Edge-Scheme", "X-Edge-Client-Ip"
_RESULT, _REQUESTED_AT, _FRESH_S = "X-Edge-Result", "X-Edge-Requested-At", "X-Edge-Fresh-S"
_TROUBLE, _UNREACHABLE = "X-Edge-Trouble", "X-Edge-Unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """What another edge asks: its viewer's request, of this distribution and the behavior of this pattern.

    The default behavior has none.
    """

    request: Request
    request_id: str
    distribution_id: str
    pattern: str

    def behavior_of(self, distribution: Distribution) -> Behavior | None:
        """The behavior that is asked for; None: this distribution has none of that pattern."""
        for each in distribution.behaviors:
            if self.pattern == (each.pattern.text if each.pattern is not None else ""):
                return each
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shielded:
    """What a shield has answered.

    `requested_at`: when the origin was asked, by the shield's clock; `fresh_s`: for how long the shield itself would
    serve it, None where it has not kept it.
    """

    response: Response
    result: str
    requested_at: float
    fresh_s: float | None

    @property
    def hit(self) -> bool:
        """Whether the origin was spared."""
        return self.result in (HIT, REFRESH_HIT)


def hop_request(visit: Visit, headers: Headers, *, method: str, via: str) -> Request:
    """The request to the shield. `headers` are those for the origin, of which the conditions and the range count."""
    viewer = visit.request.headers
    dropped = HOP_BY_HOP | connection_options(viewer) | CONDITIONS | {"host", "content-length"}
    kept = [(name, value) for name, value in viewer if name.lower() not in dropped and not _own(name)]
    kept += [(name, value) for name, value in headers if name.lower() in CONDITIONS]
    fields = Headers([("Host", HOST), *with_via(kept, via)])
    fields.add(_DISTRIBUTION, visit.distribution.id)
    fields.add(_BEHAVIOR, visit.behavior.pattern.text if visit.behavior.pattern is not None else "")
    fields.add(_ID, visit.request_id)
    fields.add(_VIEWER_HOST, viewer.get("host") or "")
    fields.add(_SCHEME, visit.request.scheme)
    fields.add(_CLIENT, visit.request.client_ip)
    target = f"{visit.path}?{visit.query}" if visit.query else visit.path
    return Request(method, target, fields)


def read_hop(request: Request) -> Hop | None:
    """What is asked; None where the request is none of another edge's."""
    said = request.headers
    distribution_id, behavior, request_id = said.get(_DISTRIBUTION), said.get(_BEHAVIOR), said.get(_ID)
    if distribution_id is None or behavior is None or request_id is None:
        return None
    kept = [(name, value) for name, value in said if name.lower() != "host" and not _own(name)]
    return Hop(
        request=Request(
            request.method,
            request.target,
            Headers([("Host", said.get(_VIEWER_HOST) or ""), *kept]),
            scheme="https" if said.get(_SCHEME) == "https" else "http",
            client_ip=said.get(_CLIENT) or "",
        ),
        request_id=request_id,
        distribution_id=distribution_id,
        pattern=behavior,
    )


def hop_response(answer: Answer, *, started_at: float, now: float) -> Response:
    """The shield's answer to another edge. `started_at`: when it began with the request."""
    fields = Headers(answer.fields)
    if answer.age_s is not None:
        fields.set("Age", str(answer.age_s))
    if answer.content_length is not None:
        fields.set("Content-Length", str(answer.content_length))
    fields.add(_RESULT, answer.result)
    fields.add(_REQUESTED_AT, repr(started_at if answer.requested_at is None else answer.requested_at))
    if answer.fresh_until is not None:
        fields.add(_FRESH_S, repr(max(FRESH_S_MIN, answer.fresh_until - now)))
    if answer.trouble is not None:
        fields.add(_TROUBLE, answer.trouble.reason)
        fields.add(_UNREACHABLE, str(int(answer.trouble.unreachable)))
    return Response(answer.status, fields, answer.body)


def read_answer(response: Response, now: float) -> Shielded | Trouble | None:
    """What a shield has answered; None where it is none of a shield's."""
    said = response.headers
    result, requested_at = said.get(_RESULT), _number(said.get(_REQUESTED_AT))
    if result is None or requested_at is None:
        return None
    reason = said.get(_TROUBLE)
    if reason is not None:
        return Trouble(
            status=response.status,
            result=result or ERROR,
            reason=reason,
            unreachable=said.get(_UNREACHABLE) == "1",
        )
    fields = Headers([(name, value) for name, value in said if not _own(name) and name.lower() != "cache-status"])
    return Shielded(
        response=Response(response.status, fields, response.body),
        result=result,
        requested_at=min(now, requested_at),
        fresh_s=_number(said.get(_FRESH_S)),
    )


def _own(name: str) -> bool:
    return name.lower().startswith(PREFIX)


def _number(text: str | None) -> float | None:
    with contextlib.suppress(ValueError):
        number = float(text or "")
        return number if number >= 0 else None  # no comparison holds for a NaN
    return None
