"""What the edge needs of others. `node` hands these in; the stand-alone edge brings its own."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

from nearpoint.edge.config import Association
from nearpoint.edge.origin_config import OriginTarget
from nearpoint.signing import Credentials
from nearpoint.wire.message import Request, Response

__all__ = [
    "Continue",
    "Failed",
    "FunctionCall",
    "FunctionRunner",
    "OriginCredentials",
    "OriginFetch",
    "OriginShields",
    "OriginTarget",
    "Respond",
]


class OriginFetch(Protocol):
    """Carries one request to an origin: one attempt, and the edge decides on the next.

    The request is complete: Host, target with the origin's path, custom headers. Raises wire's UpstreamError.
    """

    def __call__(self, target: OriginTarget, request: Request, /) -> Awaitable[Response]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionCall:
    """One run of a function.

    In an origin event the request's target is the viewer's, without the origin's path; its headers are those that the
    origin would get (or has got), without `X-Amz-Cf-Id` (which is `request_id`) and the origin's custom headers. In a
    viewer event it is the viewer's own, and `origin` is None. A request's body goes on: whoever runs the function puts
    back what it has read of it.
    """

    association: Association
    distribution_id: str
    distribution_domain: str
    request_id: str
    request: Request
    origin: OriginTarget | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Continue:
    """Go on with this request, to this origin in an origin event. A replaced body is the request's."""

    request: Request
    origin: OriginTarget | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Respond:
    """The function answers; the origin is not asked."""

    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The function failed: the viewer gets `status`, and `result` in X-Cache before ` from cloudfront`.

    `reason` is one word of a few, such as `timeout`; `text` says what happened, for the log and not for the viewer.
    """

    status: int
    result: str
    reason: str
    text: str


class OriginCredentials(Protocol):
    """The edge's own credentials for signing requests to S3 origins, as the service that the distribution is of."""

    def __call__(self, distribution_id: str, /) -> Credentials: ...


class OriginShields(Protocol):
    """The edges of other locations, one of which may stand between this one and an origin."""

    def stands_before(self, region: str, /) -> bool:
        """Whether there is a shield for origins in this Region, and it is not this edge itself."""

    async def ask(self, region: str, request: Request, timeout_s: float, /) -> Response:
        """Ask it. Raises wire's UpstreamError."""


class FunctionRunner(Protocol):
    """Runs Lambda@Edge functions. Never raises for what a function does."""

    async def run_request(self, call: FunctionCall, /) -> Continue | Respond | Failed:
        """Run the function of a request event."""

    async def run_response(self, call: FunctionCall, response: Response, /) -> Response | Failed:
        """Run the function of a response event; whoever runs it closes a body that it replaces."""
