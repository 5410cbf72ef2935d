"""What the edge knows of one request while it serves it, and the answer it comes to."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from nearpoint.edge.config import Behavior, Distribution
from nearpoint.edge.entry import Variant
from nearpoint.edge.key import Key, select_query
from nearpoint.edge.signed_url import Refusal
from nearpoint.edge.storable import Why
from nearpoint.edge.vary import Variance, variant
from nearpoint.wire.message import Body, BytesBody, Headers, Request, Response

# X-Cache: the first word, before ` from cloudfront`.
HIT = "Hit"
MISS = "Miss"
REFRESH_HIT = "RefreshHit"
ERROR = "Error"
REDIRECT = "Redirect"
GENERATED = "LambdaGeneratedResponse"


class Visit(msgspec.Struct, kw_only=True, eq=False):
    """One request on its way through the phases. Filled in as they pass."""

    request: Request
    request_id: str
    distribution: Distribution
    behavior: Behavior
    path: str  # with the default root object put in
    query: str
    why_not: Why | None = None  # set: the cache takes no part
    key: Key = ()
    inner: bool = False  # for another visit: fetches an error page, or answers another location's edge
    shielding: bool = False  # this edge is the origin's shield here
    refused: Refusal | None = None  # the signature of the URL or cookies that the behavior asks for
    origin_s: float | None = None  # from asking the origin until its answer began

    @property
    def target(self) -> str:
        """Path and query as the origin's function sees them: the query of the cache policy and of the forwarding."""
        query = select_query(self.query, self.behavior.queries)
        return f"{self.path}?{query}" if query else self.path


class Trouble(msgspec.Struct, frozen=True, kw_only=True):
    """The origin or the function failed. `unreachable`: no answer came at all. `text` is for the log alone."""

    status: int
    result: str
    reason: str
    unreachable: bool
    text: str = ""


class Answer(msgspec.Struct, kw_only=True, eq=False):
    """What the viewer gets, before the edge's own fields are put in.

    `status_note` is the part of Cache-Status after the cache's name (RFC 9211). `content_length` is for an answer to
    HEAD, whose body is empty. `requested_at` and `fresh_until` are those of what the cache keeps; `trouble` is why the
    page is the edge's own.
    """

    status: int
    fields: list[tuple[str, str]]
    body: Body = msgspec.field(default_factory=BytesBody)
    result: str = MISS
    status_note: str = ""
    age_s: int | None = None
    content_length: int | None = None
    requested_at: float | None = None
    fresh_until: float | None = None
    trouble: Trouble | None = None


def with_via(fields: Iterable[tuple[str, str]], via: str) -> list[tuple[str, str]]:
    """The fields with this edge appended to Via (RFC 9110 §7.6.3)."""
    kept: list[tuple[str, str]] = []
    passed: list[str] = []
    for name, value in fields:
        if name.lower() == "via":
            passed.append(value)
        else:
            kept.append((name, value))
    return [*kept, ("Via", ", ".join([*passed, via]))]


def answer_of(response: Response, *, result: str, note: str, via: str) -> Answer:
    """An answer that the edge made itself."""
    return Answer(
        status=response.status,
        fields=with_via(response.headers, via),
        body=response.body,
        result=result,
        status_note=note,
    )


def variant_of(variance: Variance, forwarded: Headers) -> Variant:
    """The variant that a request asks for."""
    return variant(variance, forwarded) if variance else ()
