from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.edge.freshness import Source, judge
from nearpoint.edge.policies import CachePolicy
from nearpoint.wire.dates import http_date
from nearpoint.wire.message import Headers

NOW = 1_800_000_000.0
STRICT = CachePolicy(default_ttl_s=0, max_ttl_s=float("inf"), explicit_only=True)


def date(offset_s: float) -> str:
    return http_date(datetime.fromtimestamp(NOW + offset_s, UTC))


def fresh_s(policy: CachePolicy, *headers: tuple[str, str], error: float | None = None) -> float:
    return judge(
        headers=Headers(headers), policy=policy, requested_at=NOW, received_at=NOW, error_min_ttl_s=error
    ).fresh_s


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([("Cache-Control", "max-age=60")], 60),
        ([("Cache-Control", "max-age=60, s-maxage=10")], 10),
        ([("Cache-Control", "max-age=60"), ("Expires", date(9))], 60),
        ([("Expires", date(90)), ("Date", date(0))], 90),
        ([("Expires", date(90)), ("Date", date(30))], 60),
        ([("Expires", "0")], 0),
        ([("Expires", date(90)), ("Expires", date(80))], 0),
        ([("Cache-Control", "max-age=60"), ("Age", "20")], 40),
        ([("Cache-Control", "max-age=60"), ("Age", "100")], 0),
        ([("Cache-Control", "max-age=60"), ("Date", date(-20))], 40),
        ([("Cache-Control", "max-age=60"), ("Date", date(500))], 60),
        ([("Cache-Control", "max-age=60, max-age=30")], 30),
        ([("Cache-Control", "max-age=x")], 0),
        ([("Cache-Control", "max-age=-1")], 0),
        ([("Cache-Control", 'max-age="60"')], 60),
        ([("Cache-Control", "max-age=99999999999999999")], 2**31),
        ([("Cache-Control", f"max-age={10**40}")], 2**31),
        ([("Cache-Control", f"max-age={60:040}")], 60),
        ([("Cache-Control", "no-cache, max-age=60")], 0),
        ([("Cache-Control", "MAX-AGE=60")], 60),
        ([("Cache-Control", 'foo="a, max-age=9", max-age=60')], 60),
        ([], 0),
    ],
)
def test_rfc_9111(headers: list[tuple[str, str]], expected: float) -> None:
    assert fresh_s(STRICT, *headers) == expected


@pytest.mark.parametrize(
    ("ttls", "cache_control", "expected"),
    [
        ((0, 100, 1000), "", 100),
        ((0, 100, 1000), "max-age=5", 5),
        ((0, 100, 1000), "max-age=5000", 1000),
        ((50, 100, 1000), "max-age=5", 50),
        ((50, 100, 1000), "no-cache", 50),
        ((50, 100, 1000), "no-store", 50),
        ((50, 100, 1000), "private, max-age=500", 50),
        ((0, 100, 1000), "no-cache", 0),
        ((50, 100, 1000), "max-age=0", 50),
        ((0, 100, 1000), "max-age=0, s-maxage=70", 70),
        ((0, 0, 0), "max-age=60", 0),
    ],
)
def test_cloudfront_holds_the_lifetime_between_its_ttls(
    ttls: tuple[float, float, float], cache_control: str, expected: float
) -> None:
    policy = CachePolicy(min_ttl_s=ttls[0], default_ttl_s=ttls[1], max_ttl_s=ttls[2])
    headers = [("Cache-Control", cache_control)] if cache_control else []
    assert fresh_s(policy, *headers) == expected


def test_the_origins_clock_is_not_believed_by_cloudfront() -> None:
    assert fresh_s(CachePolicy(), ("Cache-Control", "max-age=60"), ("Date", date(-3600))) == 60


def test_an_error_is_kept_for_its_own_time() -> None:
    assert fresh_s(CachePolicy(), error=10) == 10
    assert fresh_s(CachePolicy(), ("Cache-Control", "max-age=3"), error=10) == 10
    assert fresh_s(CachePolicy(), ("Cache-Control", "max-age=30"), error=10) == 30


@pytest.mark.parametrize(
    ("cache_control", "on_error_s", "unreachable"),
    [
        ("max-age=1", 0, True),
        ("max-age=1, stale-if-error=60", 60, True),
        ("max-age=1, must-revalidate", 0, False),
        ("max-age=1, must-revalidate, stale-if-error=60", 0, False),
        ("max-age=1, proxy-revalidate", 0, False),
        ("s-maxage=1", 0, False),
        ("s-maxage=1, stale-if-error=60", 60, False),
    ],
)
def test_when_rfc_9111_lets_a_stale_answer_be_served(cache_control: str, on_error_s: float, unreachable: bool) -> None:
    headers = Headers([("Cache-Control", cache_control)])
    freshness = judge(headers=headers, policy=STRICT, requested_at=NOW, received_at=NOW)
    assert (freshness.stale_if_error_s, freshness.stale_when_unreachable) == (on_error_s, unreachable)


def test_cloudfront_serves_stale_on_errors_without_being_asked() -> None:
    freshness = judge(headers=Headers(), policy=CachePolicy(), requested_at=NOW, received_at=NOW)
    assert freshness.stale_if_error_s == float("inf")
    assert freshness.source is Source.DEFAULT


values = st.one_of(
    st.sampled_from(["no-cache", "private", "public", "must-revalidate", "", ",", '="', "max-age"]),
    st.builds(
        "{}={}".format,
        st.sampled_from(["max-age", "s-maxage", "stale-if-error"]),
        st.one_of(st.integers(-5, 10**12), st.text(max_size=4)),
    ),
)


@given(
    directives=st.lists(values, max_size=5),
    age=st.one_of(st.none(), st.text(max_size=5), st.integers(0, 10**9).map(str)),
    expires=st.one_of(st.none(), st.text(max_size=5), st.integers(-(10**6), 10**6).map(date)),
    ttls=st.lists(st.integers(0, 10**6), min_size=3, max_size=3).map(sorted),
    error=st.one_of(st.none(), st.integers(0, 10**4)),
)
def test_freshness_never_leaves_the_clamp(
    directives: list[str], age: str | None, expires: str | None, ttls: list[int], error: int | None
) -> None:
    headers = Headers([("Cache-Control", ", ".join(directives))])
    if age is not None:
        headers.add("Age", age)
    if expires is not None:
        headers.add("Expires", expires)
    policy = CachePolicy(min_ttl_s=ttls[0], default_ttl_s=ttls[1], max_ttl_s=ttls[2])
    freshness = judge(headers=headers, policy=policy, requested_at=NOW, received_at=NOW, error_min_ttl_s=error)
    lowest = ttls[0] if error is None else error
    assert lowest <= freshness.fresh_s <= max(ttls[2], lowest)
    strict = judge(headers=headers, policy=STRICT, requested_at=NOW, received_at=NOW)
    assert strict.source is not Source.DEFAULT
    assert strict.fresh_s <= 2**31
