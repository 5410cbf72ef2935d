"""What a whole answer becomes under the request's conditions and range (RFC 9110 §13.2.2 and §14.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from nearpoint.wire.dates import parse_http_date
from nearpoint.wire.message import Headers

_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_RANGE = re.compile(r"(\d{0,18})-(\d{0,18})")


class Condition(Enum):
    """What the preconditions say of a stored or arriving 200."""

    GO_ON = 200
    NOT_MODIFIED = 304
    FAILED = 412


def _weak_equal(one: str, other: str) -> bool:
    return one.removeprefix("W/") == other.removeprefix("W/")


def check_conditions(request: Headers, answer: Headers) -> Condition:
    """Evaluate If-Match, If-Unmodified-Since, If-None-Match, If-Modified-Since, in that order, for GET and HEAD."""
    etag = answer.get("etag")
    modified = parse_http_date(answer.get("last-modified") or "")
    match = request.joined("if-match")
    if match is not None:
        listed = _ETAG.findall(match)
        strong = etag is not None and not etag.startswith("W/") and etag in listed
        if match.strip() != "*" and not strong:
            return Condition.FAILED
    else:
        since = parse_http_date(request.get("if-unmodified-since") or "")
        if since is not None and modified is not None and modified > since:
            return Condition.FAILED
    none_match = request.joined("if-none-match")
    if none_match is not None:
        if none_match.strip() == "*":
            return Condition.NOT_MODIFIED
        if etag is not None and any(_weak_equal(etag, each) for each in _ETAG.findall(none_match)):
            return Condition.NOT_MODIFIED
    else:
        since = parse_http_date(request.get("if-modified-since") or "")
        if since is not None and modified is not None and modified <= since:
            return Condition.NOT_MODIFIED
    return Condition.GO_ON


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes `first` to `last`, both included, of a body of `size` bytes."""

    first: int
    last: int
    size: int

    @property
    def length(self) -> int:
        return self.last - self.first + 1

    @property
    def content_range(self) -> str:
        """The value of Content-Range."""
        return f"bytes {self.first}-{self.last}/{self.size}"


UNSATISFIABLE = "unsatisfiable"


def choose_part(request: Headers, answer: Headers, size: int) -> Part | str | None:
    """The one part asked for, UNSATISFIABLE, or None for the whole body.

    More than one range, a malformed one or a failed If-Range gives the whole, which RFC 9110 §14.2 allows.
    """
    value = request.get("range")
    if value is None or not value.lower().startswith("bytes="):
        return None
    condition = request.get("if-range")
    if condition is not None:
        current = answer.get("last-modified") if not _ETAG.fullmatch(condition) else answer.get("etag")
        if current != condition or condition.startswith("W/"):
            return None
    found = _RANGE.fullmatch(value[6:].strip())
    if found is None:
        return None
    first, last = found[1], found[2]
    if not first and not last:
        return None
    if not first:
        wanted = min(int(last), size)
        return Part(size - wanted, size - 1, size) if wanted else UNSATISFIABLE
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        return UNSATISFIABLE
    return Part(int(first), min(int(last), size - 1) if last else size - 1, size)
