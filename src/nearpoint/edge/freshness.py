"""How long an answer may be served without asking again (RFC 9111 §4.2, CloudFront's TTLs where they differ).

s-maxage, then max-age, then Expires, held between MinTTL and MaxTTL; none of them: DefaultTTL. The stand-alone edge
takes the origin's word alone and gives nothing a lifetime by itself.
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache

import msgspec

from nearpoint.edge.directives import CacheControl, parse_cache_control
from nearpoint.edge.policies import CachePolicy
from nearpoint.wire.dates import parse_http_date
from nearpoint.wire.message import Headers

DATE_CHARACTERS_MAX = 64  # more than any of the three forms has (RFC 9110 §5.6.7)


class Source(Enum):
    """Where a lifetime comes from."""

    S_MAXAGE = "s-maxage"
    MAX_AGE = "max-age"
    EXPIRES = "expires"
    DEFAULT = "default-ttl"
    ERROR = "error-ttl"
    NONE = "none"


class Freshness(msgspec.Struct, frozen=True, kw_only=True):
    """The arithmetic and its result, in seconds from the moment the answer came in.

    `fresh_s` is what is left of the lifetime; `initial_age_s` is the age the answer had on arrival.
    """

    fresh_s: float
    initial_age_s: float
    source: Source
    stale_while_revalidate_s: float
    stale_if_error_s: float  # infinite: as long as the entry is kept
    stale_when_unreachable: bool


def _unix_s(text: str) -> float | None:
    return _parsed_s(text) if len(text) <= DATE_CHARACTERS_MAX else None


@lru_cache(maxsize=256)  # what origins answer in the same second bears the same date
def _parsed_s(text: str) -> float | None:
    moment = parse_http_date(text)
    return None if moment is None else moment.timestamp()


def _date_s(headers: Headers) -> float | None:
    dates = headers.by_name().get("date")
    return None if dates is None else _unix_s(dates[0])


def initial_age_s(headers: Headers, *, requested_at: float, received_at: float, strict: bool) -> float:
    """RFC 9111 §4.2.3. Not `strict`: the origin's clock is not believed, only its Age field."""
    said = headers.by_name()
    age_s = 0.0
    if "age" in said:
        text = said["age"][0].strip()
        if text.isascii() and text.isdigit() and len(text) < 20 and int(text):
            age_s = float(min(int(text), 2**31)) + max(0.0, received_at - requested_at)
    if not strict:
        return age_s
    date = _date_s(headers)
    apparent_s = max(0.0, received_at - date) if date is not None else 0.0
    return max(age_s, apparent_s if apparent_s >= 2 else 0.0)  # Date is in whole seconds, renewed once a second


def stated_lifetime_s(control: CacheControl, headers: Headers, received_at: float) -> tuple[float | None, Source]:
    """The lifetime that the origin states (RFC 9111 §4.2.1), None when it states none."""
    if control.s_maxage_s is not None:
        return float(control.s_maxage_s), Source.S_MAXAGE
    if control.max_age_s is not None:
        return float(control.max_age_s), Source.MAX_AGE
    expires = headers.by_name().get("expires")
    if expires:
        at = _unix_s(expires[0]) if len(expires) == 1 else None
        if at is None:  # an invalid date, "0" above all, is in the past (§5.3)
            return 0.0, Source.EXPIRES
        date = _date_s(headers)
        return max(0.0, at - (received_at if date is None else date)), Source.EXPIRES
    return None, Source.NONE


def judge(
    *,
    headers: Headers,
    policy: CachePolicy,
    requested_at: float,
    received_at: float,
    error_min_ttl_s: float | None = None,
) -> Freshness:
    """The freshness of an answer.

    `error_min_ttl_s` is set for an error that CloudFront keeps: it takes MinTTL's and DefaultTTL's place.
    The result never exceeds MaxTTL, or `error_min_ttl_s` where that is more.
    """
    control = parse_cache_control(headers.by_name().get("cache-control", ()))
    strict = policy.explicit_only
    age_s = initial_age_s(headers, requested_at=requested_at, received_at=received_at, strict=strict)
    stated_s, source = stated_lifetime_s(control, headers, received_at)
    if error_min_ttl_s is not None:
        if stated_s is None:
            stated_s, source = error_min_ttl_s, Source.ERROR
        lowest_s = error_min_ttl_s
    else:
        lowest_s = policy.min_ttl_s
        if stated_s is None and not strict:
            stated_s, source = policy.default_ttl_s, Source.DEFAULT
    if control.no_cache or control.no_store or control.private:
        stated_s = 0.0  # where MinTTL keeps it all the same, it does so for no longer
    left_s = (stated_s or 0.0) - age_s
    fresh_s = max(0.0, lowest_s, min(left_s, policy.max_ttl_s))
    bound = control.must_revalidate or control.proxy_revalidate or control.no_cache
    if strict:
        # §4.2.4: stale only when told so, or when the origin can't be reached and nothing forbids it.
        if_error_s = float(control.stale_if_error_s or 0)
        when_unreachable = not bound and control.s_maxage_s is None
    else:
        if_error_s = float("inf") if control.stale_if_error_s is None else float(control.stale_if_error_s)
        when_unreachable = not bound
    return Freshness(
        fresh_s=fresh_s,
        initial_age_s=age_s,
        source=source,
        stale_while_revalidate_s=0.0 if bound else float(control.stale_while_revalidate_s or 0),
        stale_if_error_s=0.0 if bound else if_error_s,
        stale_when_unreachable=when_unreachable,
    )
