"""What became of a function's turn, as a value, and the one table of why it can fail.

Lambda@Edge: a result that breaks a rule → 502; the handler failed → 500; too slow or too many at once → 503.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from nearpoint.functions.origin import Origin
from nearpoint.wire.message import Request, Response

Reason = Literal[
    "raised",
    "crashed",
    "memory",
    "import-error",
    "timeout",
    "throttled",
    "too-large",
    "malformed",
    "header-forbidden",
    "header-read-only",
    "method-changed",
    "field-read-only",
    "body-not-included",
]

STATUS: dict[Reason, int] = {
    "raised": 500,
    "crashed": 500,
    "memory": 500,
    "import-error": 500,
    "timeout": 503,
    "throttled": 503,
    "too-large": 502,
    "malformed": 502,
    "header-forbidden": 502,
    "header-read-only": 502,
    "method-changed": 502,
    "field-read-only": 502,
    "body-not-included": 502,
}


class RejectedError(Exception):
    """A result that CloudFront would refuse; `reason` is one of STATUS."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Continue:
    """Go on: with this request (to `origin`, in an origin-request), or this response in a response event.

    `changed` names what the function altered: `uri`, `querystring`, `body`, `origin`, `status`, `header:NAME`.
    """

    request: Request
    origin: Origin | None = None
    response: Response | None = None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Respond:
    """Answer with a response that the function made; nothing is asked of the origin."""

    response: Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The function failed: answer `status`. `text` says what happened, for the log and not for the viewer."""

    reason: Reason
    text: str
    status: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", STATUS[self.reason])

    @property
    def result_type(self) -> str:
        """What `X-Cache` says before ` from cloudfront`."""
        if self.status == 502:
            return "LambdaValidationError"
        return "LambdaLimitExceeded" if self.reason == "throttled" else "LambdaExecutionError"


Outcome = Continue | Respond | Failed
