"""What a whole answer becomes under the request's conditions and range (RFC 9110 §13.2.2 and §14.2)."""

from __future__ import annotations

import re
from datetime import datetime
from enum import Enum
from typing import Literal

from nearpoint.wire.dates import parse_http_date
from nearpoint.wire.message import Headers
from nearpoint.wire.ranges import Span, parse_range

_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')


class Condition(Enum):
    """What the preconditions say of a stored or arriving 200."""

    GO_ON = 200
    NOT_MODIFIED = 304
    FAILED = 412


def _weak_equal(one: str, other: str) -> bool:
    return one.removeprefix("W/") == other.removeprefix("W/")


def none_matches(listed: str, etag: str | None) -> bool:
    """Whether an If-None-Match names what there is, so that a GET is answered 304 (RFC 9110 §13.1.2)."""
    if listed.strip() == "*":
        return True
    return etag is not None and any(_weak_equal(etag, each) for each in _ETAG.findall(listed))


def _date(headers: Headers, name: str) -> datetime | None:
    text = headers.get(name)
    return parse_http_date(text) if text else None


def check_conditions(request: Headers, answer: Headers) -> Condition:
    """Evaluate If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since, in that order, for GET and HEAD."""
    etag = answer.get("etag")
    match = request.joined("if-match")
    if match is not None:
        listed = _ETAG.findall(match)
        strong = etag is not None and not etag.startswith("W/") and etag in listed
        if match.strip() != "*" and not strong:
            return Condition.FAILED
    else:
        since = _date(request, "if-unmodified-since")
        modified = _date(answer, "last-modified") if since is not None else None
        if since is not None and modified is not None and modified > since:
            return Condition.FAILED
    none_match = request.joined("if-none-match")
    if none_match is not None:
        if none_matches(none_match, etag):
            return Condition.NOT_MODIFIED
    else:
        since = _date(request, "if-modified-since")
        modified = _date(answer, "last-modified") if since is not None else None
        if since is not None and modified is not None and modified <= since:
            return Condition.NOT_MODIFIED
    return Condition.GO_ON


def choose_part(request: Headers, answer: Headers, size: int) -> Span | Literal["unsatisfiable"] | None:
    """The one part asked for, `unsatisfiable`, or None for the whole body.

    More than one range or a failed If-Range gives the whole, which RFC 9110 §14.2 allows.
    """
    spans = parse_range(request.get("range"), size)
    if spans is None or len(spans) > 1:
        return None
    condition = request.get("if-range")
    if condition is not None:
        current = answer.get("etag") if _ETAG.fullmatch(condition) else answer.get("last-modified")
        if current != condition or condition.startswith("W/"):
            return None
    return spans[0] if spans else "unsatisfiable"
