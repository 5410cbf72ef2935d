from __future__ import annotations

import pytest

from nearpoint.edge.config import ErrorResponse
from nearpoint.edge.policies import CachePolicy
from nearpoint.edge.storable import Keep, Why, decide
from nearpoint.wire.message import Headers

CLOUDFRONT = CachePolicy(default_ttl_s=100)
MIN_TTL = CachePolicy(min_ttl_s=50, default_ttl_s=100)
DISABLED = CachePolicy(default_ttl_s=0, max_ttl_s=0)
STRICT = CachePolicy(default_ttl_s=0, max_ttl_s=float("inf"), explicit_only=True)


def verdict(
    policy: CachePolicy,
    cache_control: str = "",
    status: int = 200,
    *,
    authorized: bool = False,
    errors: dict[int, ErrorResponse] | None = None,
    **headers: str,
) -> object:
    fields = [("Cache-Control", cache_control)] if cache_control else []
    fields += [(name.replace("_", "-"), value) for name, value in headers.items()]
    made = decide(
        status=status, headers=Headers(fields), policy=policy, errors=errors or {}, authorized=authorized,
        requested_at=0, received_at=0,
    )  # fmt: skip
    return made.freshness.fresh_s if isinstance(made, Keep) else made


@pytest.mark.parametrize(
    ("policy", "cache_control", "status", "expected"),
    [
        (CLOUDFRONT, "", 200, 100),
        (CLOUDFRONT, "no-store", 200, Why.NO_STORE),
        (CLOUDFRONT, "private", 200, Why.PRIVATE),
        (CLOUDFRONT, "no-cache", 200, Why.NO_CACHE),
        (CLOUDFRONT, "max-age=0", 200, Why.NO_VALIDATOR),
        (MIN_TTL, "no-store", 200, 50),
        (MIN_TTL, "private", 200, 50),
        (MIN_TTL, "no-cache", 200, 50),
        (DISABLED, "max-age=60", 200, Why.CACHING_DISABLED),
        (DISABLED, "", 404, Why.CACHING_DISABLED),
        (CLOUDFRONT, "", 404, 10),
        (CLOUDFRONT, "", 503, 10),
        (CLOUDFRONT, "max-age=60", 404, 60),
        (CLOUDFRONT, "", 403, Why.STATUS),
        (CLOUDFRONT, "max-age=7", 403, 7),
        (CLOUDFRONT, "no-store", 503, Why.NO_STORE),
        (CLOUDFRONT, "", 206, Why.PARTIAL),
        (CLOUDFRONT, "", 302, 100),
        (CLOUDFRONT, "", 307, Why.STATUS),
        (CLOUDFRONT, "", 308, Why.STATUS),
        (CLOUDFRONT, "public", 308, 100),
        (CLOUDFRONT, "max-age=9", 302, 9),
        (CLOUDFRONT, "", 418, Why.STATUS),
        (STRICT, "", 200, Why.NO_FRESHNESS),
        (STRICT, "public", 200, Why.NO_FRESHNESS),
        (STRICT, "no-cache", 200, Why.NO_CACHE),
        (STRICT, "max-age=5", 200, 5),
        (STRICT, "max-age=5", 500, 5),
        (STRICT, "", 404, Why.NO_FRESHNESS),
        (STRICT, "max-age=5, private", 200, Why.PRIVATE),
        (STRICT, "max-age=5, no-store", 200, Why.NO_STORE),
        (STRICT, "max-age=5", 206, Why.PARTIAL),
    ],
)
def test_verdicts(policy: CachePolicy, cache_control: str, status: int, expected: object) -> None:
    assert verdict(policy, cache_control, status) == expected


def test_what_can_be_revalidated_is_kept_though_it_is_never_fresh() -> None:
    assert verdict(STRICT, "max-age=0", ETag='"1"') == 0
    assert verdict(STRICT, "no-cache, max-age=60", Last_Modified="Sun, 06 Nov 1994 08:49:37 GMT") == 0


def test_credentials_and_cookies_keep_an_answer_out_of_the_cache() -> None:
    assert verdict(STRICT, "max-age=60", authorized=True) is Why.AUTHORIZATION
    assert verdict(STRICT, "public, max-age=60", authorized=True) == 60
    assert verdict(STRICT, "s-maxage=60", authorized=True) == 60
    assert verdict(STRICT, "max-age=60, must-revalidate", authorized=True) == 60
    assert verdict(STRICT, "max-age=60", Set_Cookie="a=1") is Why.SET_COOKIE
    assert verdict(STRICT, 'max-age=60, no-cache="Set-Cookie"', Set_Cookie="a=1") == 60


def test_vary_star_is_not_kept() -> None:
    assert verdict(STRICT, "max-age=60", Vary="*") is Why.VARY


def test_a_custom_error_response_says_how_long() -> None:
    custom = {403: ErrorResponse(status=403, min_ttl_s=30), 404: ErrorResponse(status=404, min_ttl_s=0)}
    assert verdict(CLOUDFRONT, status=403, errors=custom) == 30
    assert verdict(DISABLED, status=403, errors=custom) == 30
    assert verdict(CLOUDFRONT, status=404, errors=custom) is Why.NO_VALIDATOR
