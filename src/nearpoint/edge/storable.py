"""Whether an answer may be kept. Every no has a named reason, which shows in Cache-Status and in the log.

RFC 9111 §3 with CloudFront's rules for errors and for no-store, no-cache and private (honoured where MinTTL is 0).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

import msgspec

from nearpoint.edge.config import ErrorResponse
from nearpoint.edge.directives import parse_cache_control
from nearpoint.edge.freshness import Freshness, Source, judge, stated_lifetime_s
from nearpoint.edge.policies import CachePolicy
from nearpoint.edge.vary import Variance, vary_names
from nearpoint.wire.message import Headers

ERRORS_ALWAYS_KEPT = frozenset({404, 414, 500, 501, 502, 503, 504})
ERRORS_KEPT_IF_TOLD = frozenset({400, 403, 405, 412, 415})
REDIRECTS_KEPT_IF_TOLD = frozenset({307, 308})  # Developer Guide, "How CloudFront processes HTTP 3xx status codes"
# Statuses that may be kept without explicit freshness (RFC 9110 §15.1), less 206: parts are kept by themselves.
HEURISTIC = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
KEPT_WHEN_TOLD = HEURISTIC | {302, 303, 307, 400, 403, 412, 415, 500, 502, 503, 504}


class Why(Enum):
    """Why an answer is not kept."""

    METHOD = "method"
    CACHING_DISABLED = "caching-disabled"
    REQUEST_BODY = "request-body"
    STATUS = "status"
    PARTIAL = "partial"
    NO_STORE = "no-store"
    NO_CACHE = "no-cache"
    PRIVATE = "private"
    AUTHORIZATION = "authorization"
    SET_COOKIE = "set-cookie"
    VARY = "vary"
    NO_FRESHNESS = "no-freshness"
    NO_VALIDATOR = "no-validator"
    TOO_LARGE = "too-large"
    BODY_LIMIT = "fill-memory"
    INCOMPLETE = "incomplete"
    INVALIDATED = "invalidated"
    DECEPTION = "deception"


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """The answer may be kept, this long, for requests of this variance."""

    freshness: Freshness
    variance: Variance


Verdict = Keep | Why


def decide(
    *,
    status: int,
    headers: Headers,
    policy: CachePolicy,
    errors: Mapping[int, ErrorResponse],
    authorized: bool,
    requested_at: float,
    received_at: float,
    shield_s: float | None = None,
    strips_cookies: bool = False,
    deceptive: bool = False,
) -> Verdict:
    """Whether the answer to a GET may be kept.

    `authorized`: the origin was sent an Authorization field that is not in the cache key (RFC 9111 §3.5).
    `shield_s`: how long the origin's shield, which has kept it, would still serve it. Two caches in a row keep an
    answer no longer than one. `strips_cookies`: Set-Cookie is not passed on, so it is in nobody's way.
    `deceptive`: it may be private under a public name (`deception`), unless the origin says how long to keep it.
    """
    custom = errors.get(status)
    if policy.disabled and custom is None:
        return Why.CACHING_DISABLED
    if status == 206:
        return Why.PARTIAL
    if status not in KEPT_WHEN_TOLD:
        return Why.STATUS
    said = headers.by_name()
    control = parse_cache_control(said.get("cache-control", ()))
    error_min_ttl_s = None
    if not policy.explicit_only and status >= 400:
        told = control.max_age_s is not None or control.s_maxage_s is not None or "expires" in said
        if custom is not None:
            error_min_ttl_s = custom.min_ttl_s
        elif status in ERRORS_ALWAYS_KEPT:
            error_min_ttl_s = ErrorResponse(status=status).min_ttl_s
        elif status in ERRORS_KEPT_IF_TOLD and told:
            error_min_ttl_s = 0.0
        elif status not in HEURISTIC:
            return Why.STATUS
    lowest_s = policy.min_ttl_s if error_min_ttl_s is None else error_min_ttl_s
    if lowest_s <= 0 or policy.explicit_only:
        if control.no_store:
            return Why.NO_STORE
        if control.private:
            return Why.PRIVATE
    elif control.no_store and error_min_ttl_s is not None and status >= 500:
        return Why.NO_STORE  # a failure that asks not to be kept is believed, so it can't stick
    if authorized and not (control.public or control.s_maxage_s is not None or control.must_revalidate):
        return Why.AUTHORIZATION
    if "set-cookie" in said and not strips_cookies and "set-cookie" not in control.no_cache_fields:
        return Why.SET_COOKIE
    variance = vary_names(said["vary"]) if "vary" in said else ()
    if variance is None:
        return Why.VARY
    freshness = judge(
        headers=headers,
        policy=policy,
        requested_at=requested_at,
        received_at=received_at,
        error_min_ttl_s=error_min_ttl_s,
    )
    if shield_s is not None:
        return Keep(freshness=msgspec.structs.replace(freshness, fresh_s=shield_s), variance=variance)
    if freshness.source is Source.NONE:
        return Why.NO_CACHE if control.no_cache else Why.NO_FRESHNESS
    if deceptive and stated_lifetime_s(control, headers, received_at)[0] is None:
        return Why.DECEPTION
    if freshness.source is Source.DEFAULT and status in REDIRECTS_KEPT_IF_TOLD and "cache-control" not in said:
        return Why.STATUS
    lasts = freshness.fresh_s > 0 or freshness.stale_while_revalidate_s > 0
    if not lasts and "etag" not in said and "last-modified" not in said:
        return Why.NO_CACHE if control.no_cache else Why.NO_VALIDATOR
    return Keep(freshness=freshness, variance=variance)
