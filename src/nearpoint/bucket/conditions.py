"""Decides conditional requests: reads by RFC 9110 §13.2.2, writes by S3's rules.

Precedence for reads: If-Match, else If-Unmodified-Since; then If-None-Match, else If-Modified-Since.
"""

from __future__ import annotations

from dataclasses import dataclass

from nearpoint.wire.dates import parse_http_date


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The four conditional fields of a request as they were sent; None: absent."""

    if_match: str | None = None
    if_none_match: str | None = None
    if_modified_since: str | None = None
    if_unmodified_since: str | None = None


@dataclass(frozen=True, slots=True)
class Met:
    """Go on."""


@dataclass(frozen=True, slots=True)
class NotModified:
    """Answer 304 (to a copy: 412, `field` being the condition that S3 names)."""

    field: str


@dataclass(frozen=True, slots=True)
class Failed:
    """Answer 412; `field` is the condition that S3 names in its error."""

    field: str


Verdict = Met | NotModified | Failed
MET = Met()
NO_CONDITIONS = Conditions()


def seconds_of(value: str) -> int | None:
    """Unix seconds of an HTTP date; None for what is none, which is ignored."""
    moment = parse_http_date(value)
    return None if moment is None else int(moment.timestamp())


def etag_matches(field: str, etag: str) -> bool:
    """Whether a list of entity tags, or `*`, names this one. S3 takes them with or without quotes, weak as strong."""
    for item in field.split(","):
        tag = item.strip()
        if tag == "*" or tag.removeprefix("W/").strip('"') == etag:
            return True
    return False


def decide_read(conditions: Conditions, *, etag: str, modified_s: int) -> Verdict:
    """What becomes of a conditional GET or HEAD of an object with this entity tag (no quotes) and Last-Modified."""
    if conditions.if_match is not None:
        if not etag_matches(conditions.if_match, etag):
            return Failed("If-Match")
    elif conditions.if_unmodified_since is not None:
        since = seconds_of(conditions.if_unmodified_since)
        if since is not None and modified_s > since:
            return Failed("If-Unmodified-Since")
    if conditions.if_none_match is not None:
        if etag_matches(conditions.if_none_match, etag):
            return NotModified("If-None-Match")
    elif conditions.if_modified_since is not None:
        since = seconds_of(conditions.if_modified_since)
        if since is not None and modified_s <= since:
            return NotModified("If-Modified-Since")
    return MET


def decide_write(conditions: Conditions, *, etag: str | None) -> Verdict:
    """What becomes of a conditional write where the key's current object has this entity tag; None: there is none.

    S3 knows If-None-Match with `*` only and If-Match (User Guide, "Conditional writes"). If-Match without an object is
    the caller's NoSuchKey.
    """
    if conditions.if_none_match is not None and etag is not None:
        return Failed("If-None-Match")
    if conditions.if_match is not None and (etag is None or not etag_matches(conditions.if_match, etag)):
        return Failed("If-Match")
    return MET
