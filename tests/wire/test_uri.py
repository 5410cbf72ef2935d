"""Percent-encoding and queries: tables from S3's rules, and laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.wire import uri

TEXT = st.text(st.characters(exclude_categories=("Cs",)))


@pytest.mark.parametrize(
    ("data", "keep", "encoded"),
    [
        ("abcXYZ019-._~", "", "abcXYZ019-._~"),
        ("a b", "", "a%20b"),
        ("a/b", "", "a%2Fb"),
        ("a/b", "/", "a/b"),
        ("é", "", "%C3%A9"),
        (b"\xff\x00", "", "%FF%00"),
        ("!*'()", "", "%21%2A%27%28%29"),
        ("+%", "", "%2B%25"),
        ("", "", ""),
    ],
)
def test_encode(data: str | bytes, keep: str, encoded: str) -> None:
    assert uri.encode(data, keep=keep) == encoded


@pytest.mark.parametrize(
    ("text", "plus", "data"),
    [
        ("a%20b", False, b"a b"),
        ("a+b", False, b"a+b"),
        ("a+b", True, b"a b"),
        ("a%2Bb+c", True, b"a+b c"),
        ("%c3%A9", False, b"\xc3\xa9"),
        ("\xe9", False, b"\xe9"),
        ("%25zz", False, b"%zz"),
    ],
)
def test_decode(text: str, plus: bool, data: bytes) -> None:
    assert uri.decode(text, plus=plus) == data


@pytest.mark.parametrize("text", ["%", "%1", "%zz", "a%2", "%%41", "%-1", "%+1", "\u20ac"])
def test_malformed(text: str) -> None:
    with pytest.raises(uri.MalformedUriError):
        uri.decode(text)


def test_not_utf8() -> None:
    with pytest.raises(uri.MalformedUriError):
        uri.decode_text("%ff")


@given(st.binary())
def test_encoding_loses_nothing(data: bytes) -> None:
    for keep in ("", "/"):
        encoded = uri.encode(data, keep=keep)
        assert uri.decode(encoded) == data
        assert uri.decode(encoded, plus=True) == data


@given(st.binary())
def test_decoding_takes_either_case(data: bytes) -> None:
    assert uri.decode("".join(f"%{byte:02x}" for byte in data)) == data


@pytest.mark.parametrize("key", ["a", "../a", "a//b", "a/./b/..", "/", "a/", "%2F", "a b+c", "é?#&", ".."])
def test_keys_are_not_normalised(key: str) -> None:
    path = uri.path_of_key(key)
    assert uri.key_of_path(path) == key
    assert path.count("/") == key.count("/") + 1


@given(TEXT)
def test_any_key_has_a_path(key: str) -> None:
    assert uri.key_of_path(uri.path_of_key(key)) == key
    assert uri.path_of_key(key).isascii()


@pytest.mark.parametrize(
    ("target", "path", "query"), [("/a", "/a", None), ("/a?", "/a", ""), ("/a?b?c", "/a", "b?c"), ("/?x", "/", "x")]
)
def test_targets(target: str, path: str, query: str | None) -> None:
    assert uri.split_target(target) == (path, query)
    assert uri.join_target(path, query) == target


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        ("", []),
        ("a", [("a", None)]),
        ("a=", [("a", "")]),
        ("a=b=c", [("a", "b=c")]),
        ("b&a=1&b=2", [("b", None), ("a", "1"), ("b", "2")]),
        ("&&a&", [("a", None)]),
        ("=x", [("", "x")]),
        ("a%3D=+%2B", [("a=", " +")]),
        ("a;b=c", [("a;b", "c")]),
    ],
)
def test_queries(query: str, pairs: list[tuple[str, str | None]]) -> None:
    assert uri.parse_query(query) == pairs


def test_split_query_leaves_the_encoding() -> None:
    assert uri.split_query("a%3D=+%2B") == [("a%3D", "+%2B")]


@given(st.lists(st.tuples(TEXT.filter(bool), st.none() | TEXT)))
def test_queries_keep_order_and_what_has_no_value(pairs: list[tuple[str, str | None]]) -> None:
    assert uri.parse_query(uri.join_query(pairs)) == pairs
