"""Percent-encoding and queries: tables from S3's rules, and laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.wire import uri


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
