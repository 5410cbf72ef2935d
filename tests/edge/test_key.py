from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.edge.key import cache_key, encoding_class, key_path, select_cookies, select_query
from nearpoint.edge.policies import ALL, NONE, CachePolicy, Selection, some
from nearpoint.edge.vary import variant, vary_names
from nearpoint.wire.message import Headers

EXCEPT_B = Selection(mode="all-except", names=frozenset({"b"}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, 0),
        ("", 0),
        ("gzip", 1),
        ("br", 2),
        ("gzip, deflate, br", 3),
        ("GZIP;q=0.5", 1),
        ("gzip;q=0", 0),
        ("gzip;q=0.000, br;q=1", 2),
        ("*", 0),
        ("identity", 0),
        ("gzip;foo", 0),
        ("x-gzip", 1),
    ],
)
def test_accept_encoding_is_normalised(value: str | None, expected: int) -> None:
    assert encoding_class(value) == expected


@pytest.mark.parametrize(
    ("selection", "query", "expected"),
    [
        (ALL, "a=1&b=2", "a=1&b=2"),
        (NONE, "a=1&b=2", ""),
        (some(["a"]), "a=1&b=2&a=3", "a=1&a=3"),
        (some(["a"]), "a&A=1", "a"),
        (EXCEPT_B, "a=1&b=2&c", "a=1&c"),
        (some(["a"]), "", ""),
    ],
)
def test_query_parameters_are_selected(selection: Selection, query: str, expected: str) -> None:
    assert select_query(query, selection) == expected


def test_cookies_are_selected() -> None:
    headers = Headers([("Cookie", "a=1; b=2"), ("Cookie", "c=3")])
    assert select_cookies(headers, some(["a", "c"])) == "a=1; c=3"
    assert select_cookies(headers, NONE) == ""
    assert select_cookies(headers, ALL) == "a=1; b=2; c=3"


def key(policy: CachePolicy, target: str = "/a", method: str = "GET", headers: dict[str, str] | None = None) -> object:
    path, _, query = target.partition("?")
    fields = Headers((headers or {}).items())
    return cache_key(distribution_id="E1", policy=policy, method=method, path=path, query=query, headers=fields)


def test_the_default_key_is_the_path() -> None:
    plain = CachePolicy()
    assert key(plain) == key(plain, "/a?q=1", headers={"User-Agent": "x", "Cookie": "s=1", "Accept-Encoding": "br"})
    assert key(plain) == key(plain, method="HEAD")
    assert key(plain) != key(plain, method="OPTIONS")
    assert key(plain) != key(plain, "/A")


def test_a_header_that_is_absent_is_not_one_that_is_empty() -> None:
    policy = CachePolicy(headers=some(["x-a"]))
    assert key(policy) != key(policy, headers={"X-A": ""})


def test_key_path_is_what_an_invalidation_names() -> None:
    made = cache_key(
        distribution_id="E1", policy=CachePolicy(queries=some(["a"])), method="GET", path="/x", query="a=1&b=2",
        headers=Headers(),
    )  # fmt: skip
    assert key_path(made) == "/x?a=1"


text = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="?&=;,"), max_size=4)
pairs = st.lists(st.tuples(st.sampled_from(["a", "b", "c"]), text), max_size=3)
requests = st.builds(lambda path, query, cookies, headers: (path, query, cookies, headers), text, pairs, pairs, pairs)
selections = st.sampled_from([NONE, ALL, some(["a"]), some(["a", "b"]), EXCEPT_B])
policies = st.builds(CachePolicy, headers=selections, cookies=selections, queries=selections)


@given(policy=policies, one=requests, other=requests)
def test_equal_keys_mean_equal_in_all_that_the_policy_names(policy: CachePolicy, one: tuple, other: tuple) -> None:  # type: ignore[type-arg]
    def parts(request: tuple) -> tuple[object, object]:  # type: ignore[type-arg]
        path, query, cookies, headers = request
        fields = Headers(headers)
        if cookies:
            fields.add("Cookie", "; ".join(f"{name}={value}" for name, value in cookies))
        made = cache_key(
            distribution_id="E1", policy=policy, method="GET", path="/" + path,
            query="&".join(f"{name}={value}" for name, value in query), headers=fields,
        )  # fmt: skip
        names = {name.lower() for name, _ in fields if policy.headers.takes(name.lower())}  # Cookie among them
        named = (
            path,
            [item for item in query if policy.queries.takes(item[0])],
            [item for item in cookies if policy.cookies.takes(item[0])],
            {name: fields.joined(name) for name in names},
        )
        return made, named

    (one_key, one_named), (other_key, other_named) = parts(one), parts(other)
    assert (one_key == other_key) == (one_named == other_named)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ()),
        (["Accept-Encoding"], ("accept-encoding",)),
        (["Origin, accept", "ORIGIN"], ("accept", "origin")),
        (["*"], None),
        (["accept, *"], None),
        ([", ,"], ()),
        ([", ".join(f"x-{n}" for n in range(20))], None),
    ],
)
def test_vary_names(values: list[str], expected: tuple[str, ...] | None) -> None:
    assert vary_names(values) == expected


def test_a_variant_is_told_by_the_values_of_the_named_fields() -> None:
    names = ("accept", "origin")
    assert variant(names, Headers([("Accept", "a,  b"), ("X", "1")])) == ("a,b", None)
    assert variant(names, Headers([("accept", "a"), ("accept", "b")])) == ("a,b", None)
