"""Answers in the making: an origin's fields as they are passed on, the edge's own pages, and X-Cache's first word."""

from __future__ import annotations

from datetime import UTC, datetime

from nearpoint.edge.directives import parse_cache_control
from nearpoint.edge.errors import error_page
from nearpoint.edge.headers import kept_headers
from nearpoint.edge.response_headers import (
    apply_response_headers,
    server_timing,
    wants_timing,
    with_server_timing,
)
from nearpoint.edge.visit import ERROR, GENERATED, Answer, Visit, answer_of, with_via
from nearpoint.wire.dates import http_date
from nearpoint.wire.message import Headers

Fields = list[tuple[str, str]]


def passed_fields(visit: Visit, headers: Headers, *, received_at: float, via: str) -> Fields:
    """An origin's fields as they are stored and passed on.

    Set-Cookie goes only where cookies are forwarded; what `no-cache="…"` names is not for the cache.
    """
    said = headers.by_name()
    keep_cookies = visit.behavior.origin_fields.passes_cookies
    if keep_cookies and "set-cookie" in said and visit.why_not is None:
        keep_cookies = "set-cookie" not in parse_cache_control(said.get("cache-control", ())).no_cache_fields
    fields = kept_headers(headers, keep_cookies=keep_cookies)
    if "date" not in said:
        fields.append(("Date", http_date(datetime.fromtimestamp(received_at, UTC))))
    if "via" in said:
        return with_via(fields, via)
    fields.append(("Via", via))
    return fields


def result_word(visit: Visit, status: int, result: str) -> str:
    """X-Cache's first word: CloudFront says Error for every answer that is one, from the cache or not."""
    if status >= 400 and result != GENERATED and not visit.distribution.standalone:
        return ERROR
    return result


def own_page(status: int, request_id: str, *, reason: str, via: str, detail: str = "") -> Answer:
    """A page of the edge's own. `reason` shows in Cache-Status, `detail` in the page."""
    return answer_of(error_page(status, request_id, detail), result=ERROR, note=f"fwd=bypass; detail={reason}", via=via)


def dress(visit: Visit, answer: Answer, *, pop: str, started_at: float, now: float, draw: float) -> None:
    """Put the fields of the behavior's response headers policy into an answer. `draw` is from [0, 1)."""
    policy, request = visit.behavior.response_headers, visit.request
    if policy is None:
        return
    answer.fields = apply_response_headers(
        policy,
        answer.fields,
        method=request.method,
        request=request.headers,
        date=http_date(datetime.fromtimestamp(now, UTC)),
    )
    if wants_timing(policy, request.headers, draw * 100):
        metrics = server_timing(
            result=answer.result,
            pop=pop,
            request_id=visit.request_id,
            origin_ms=None if visit.origin_s is None else round(visit.origin_s * 1000),
            edge_ms=round((now - started_at) * 1000),
        )
        answer.fields = with_server_timing(answer.fields, metrics, from_origin=visit.origin_s is not None)
