"""Conditions of a request held against what a store says of an object, where the store itself cannot be trusted to
(RFC 9110 §13; pure)."""

from __future__ import annotations

from nearpoint.wire.dates import parse_http_date
from nearpoint.wire.message import Headers


def fails(asked: Headers, said: Headers) -> bool:
    """Whether If-Match, or else If-Unmodified-Since, does not hold (RFC 9110 §13.1.1, §13.1.4)."""
    wanted, etag = asked.get("if-match"), said.get("etag") or ""
    if wanted is not None:
        return wanted.strip() != "*" and etag not in [one.strip() for one in wanted.split(",")]
    since = parse_http_date(asked.get("if-unmodified-since") or "")
    changed = parse_http_date(said.get("last-modified") or "")
    return since is not None and changed is not None and changed > since


def is_unchanged(asked: Headers, said: Headers) -> bool:
    """Whether If-None-Match, or else If-Modified-Since, says that the client has it (RFC 9110 §13.1.2, §13.1.3)."""
    known, etag = asked.get("if-none-match"), (said.get("etag") or "").removeprefix("W/")
    if known is not None:
        return known.strip() == "*" or etag in [one.strip().removeprefix("W/") for one in known.split(",")]
    since = parse_http_date(asked.get("if-modified-since") or "")
    changed = parse_http_date(said.get("last-modified") or "")
    return since is not None and changed is not None and changed <= since
