"""Which of a viewer's fields go to the origin."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.edge.headers import USER_AGENT, OriginFields, kept_headers
from nearpoint.edge.policies import ALL, CachePolicy, Forwarding, Selection, some
from nearpoint.wire.message import Headers

POLICIES = OriginFields(CachePolicy(gzip=True), Forwarding())
LEGACY = OriginFields(CachePolicy(), Forwarding(legacy_headers=True))
ALL_VIEWER = OriginFields(CachePolicy(), Forwarding(headers=ALL, cookies=ALL, queries=ALL, viewer_host=True))
STANDALONE = OriginFields(
    CachePolicy(queries=ALL, explicit_only=True), Forwarding(headers=ALL, cookies=ALL, queries=ALL, standalone=True)
)


def sent(
    fields: OriginFields, viewer: list[tuple[str, str]], method: str = "GET", **more: Any
) -> list[tuple[str, str]]:
    """What the origin gets, without the fields that every request has."""
    storing = more.pop("storing", True)
    made = fields.of(
        Headers(viewer),
        method=method,
        origin_host="origin.example",
        client_ip="192.0.2.1",
        scheme="https",
        via="1.1 edge",
        storing=storing,
    )
    always = {
        ("Host", "origin.example"),
        ("User-Agent", USER_AGENT),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Proto", "https"),
        ("Via", "1.1 edge"),
    }
    return [field for field in made if field not in always]


@pytest.mark.parametrize(
    ("fields", "viewer", "more", "wanted"),
    [
        (POLICIES, [("Accept", "a"), ("X-Own", "b"), ("Cookie", "c=d")], {}, []),
        (POLICIES, [("Pragma", "no-cache")], {}, [("Pragma", "no-cache")]),
        (POLICIES, [("Accept-Encoding", "br, gzip")], {}, [("Accept-Encoding", "gzip")]),
        (POLICIES, [("Range", "bytes=0-1"), ("If-None-Match", '"a"')], {}, []),
        (POLICIES, [("Range", "bytes=0-1")], {"storing": False}, [("Range", "bytes=0-1")]),
        (POLICIES, [("User-Agent", "curl")], {}, []),
        (LEGACY, [("Accept", "a"), ("X-Own", "b"), ("Referer", "c")], {}, [("X-Own", "b")]),
        (LEGACY, [("Authorization", "a")], {}, []),
        (LEGACY, [("Authorization", "a")], {"method": "PUT", "storing": False}, [("Authorization", "a")]),
        (LEGACY, [("X-Own", "a"), ("Connection", "x-own")], {}, []),
        (ALL_VIEWER, [("Host", "www.example")], {}, [("Host", "www.example")]),
        (ALL_VIEWER, [("User-Agent", "curl"), ("Connection", "user-agent")], {}, []),
        (ALL_VIEWER, [("Cookie", "a=b"), ("Cookie", "c=d")], {}, [("Cookie", "a=b; c=d")]),
        (ALL_VIEWER, [("X-Amz-Cf-Id", "lie"), ("CloudFront-Viewer-Country", "lie")], {}, []),
        (ALL_VIEWER, [("X-Forwarded-For", "198.51.100.1")], {}, [("X-Forwarded-For", "198.51.100.1, 192.0.2.1")]),
        (ALL_VIEWER, [("Via", "1.1 before")], {}, [("Via", "1.1 before, 1.1 edge")]),
        (ALL_VIEWER, [("X-Forwarded-Host", "lie")], {}, []),
        (ALL_VIEWER, [("X-Forwarded-Host", "own")], {"storing": False}, [("X-Forwarded-Host", "own")]),
        (STANDALONE, [("X-Forwarded-Host", "lie")], {"storing": False}, []),
        (STANDALONE, [("Authorization", "a")], {}, [("Authorization", "a")]),
        (STANDALONE, [("User-Agent", "curl")], {}, [("User-Agent", "curl")]),
        (STANDALONE, [("Accept-Encoding", "br;q=1, gzip")], {"storing": False}, [("Accept-Encoding", "br;q=1, gzip")]),
    ],
)  # fmt: skip
def test_what_goes_to_the_origin(fields: OriginFields, viewer: Any, more: Any, wanted: Any) -> None:
    assert sent(fields, viewer, **more) == wanted
    assert sent(fields, viewer, **more) == wanted  # as remembered


names = st.sampled_from(
    ["Accept", "authorization", "AUTHORIZATION", "X-Own", "x-own", "Range", "Referer", "User-Agent", "Connection",
     "X-Forwarded-Host", "Pragma", "TE", "CloudFront-Viewer-City", "X-Amz-Cf-Id", "Cookie", "Via", "Host"]
)  # fmt: skip
selections = st.builds(
    Selection, mode=st.sampled_from(["none", "all", "some", "all-except"]), names=st.frozensets(names.map(str.lower))
)
asked = st.tuples(
    st.lists(st.tuples(names, st.sampled_from(["a", "x-own", "user-agent, referer"]))),
    st.sampled_from(["GET", "PUT"]),
    st.booleans(),
)


@given(selections, selections, st.booleans(), st.booleans(), st.lists(asked, max_size=8))
def test_what_is_remembered_of_a_name_holds_for_every_request(
    keyed: Selection, forwarded: Selection, legacy: bool, standalone: bool, requests: list[Any]
) -> None:
    policies = (
        CachePolicy(headers=keyed),
        Forwarding(headers=forwarded, legacy_headers=legacy, standalone=standalone),
    )
    remembering = OriginFields(*policies)
    for viewer, method, storing in requests:
        afresh = sent(OriginFields(*policies), viewer, method, storing=storing)
        assert sent(remembering, viewer, method, storing=storing) == afresh


def test_what_is_remembered_is_bounded() -> None:
    fields = OriginFields(CachePolicy(), Forwarding(headers=ALL))
    for number in range(3_000):
        viewer = [(f"X-{number}", "a"), ("X-" + "y" * number, "b")]
        assert sent(fields, viewer) == viewer
    assert sum(len(fates) for fates in fields._fates) <= 1_024


@pytest.mark.parametrize(
    ("origin", "keep_cookies", "kept"),
    [
        ([("ETag", '"a"'), ("Age", "3"), ("X-Cache", "lie"), ("Content-Length", "3")], True, [("ETag", '"a"')]),
        ([("Set-Cookie", "a=b")], True, [("Set-Cookie", "a=b")]),
        ([("Set-Cookie", "a=b")], False, []),
        ([("X-Own", "a"), ("Connection", "close, X-Own")], True, []),
    ],
)
def test_what_is_kept_of_an_answer(origin: Any, keep_cookies: bool, kept: Any) -> None:
    assert kept_headers(Headers(origin), keep_cookies=keep_cookies) == kept


def test_cookies_that_the_origin_gets_may_come_back() -> None:
    assert not POLICIES.passes_cookies
    assert OriginFields(CachePolicy(cookies=some(["a"])), Forwarding()).passes_cookies
