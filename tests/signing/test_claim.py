"""What is remembered of claims changes none of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.signing import SignatureError, claim

NAMES = st.sampled_from(["Credential", "SignedHeaders", "Signature", "XSignature", "signature", ""])
VALUES = st.sampled_from(
    ["AKID/20261123/s3/aws4_request", "host;x-amz-date", "host;host", "30ab", "Signature=30", "", " "]
)
ALGORITHMS = st.sampled_from(["AWS4-ECDSA-P256-SHA256", "AWS4-HMAC-SHA256", "AWS", "Basic", "Signature=", ""])
PARTS = st.lists(
    st.tuples(NAMES, st.sampled_from(["=", "", "=="]), VALUES, st.sampled_from(["", " ", "  "])), max_size=5
)


def as_said(text: str) -> object:
    try:
        found = claim._read_authorization(text)
    except SignatureError as error:
        return error.code, error.text
    return found.v4a, found.credential, found.names, found.signature


def as_remembered(text: str) -> object:
    try:
        found, signature = claim._authorization(text)
    except SignatureError as error:
        return error.code, error.text
    return found.v4a, found.credential, found.names, signature


@given(ALGORITHMS, PARTS)
def test_an_authorization_field_says_the_same_remembered_or_not(
    algorithm: str, parts: list[tuple[str, str, str, str]]
) -> None:
    text = f"{algorithm} " + ",".join(f"{space}{name}{equals}{value}{space}" for name, equals, value, space in parts)
    assert as_remembered(text) == as_said(text) == as_remembered(text)


def test_a_long_field_is_not_remembered() -> None:
    before = claim._remembered_authorization.cache_info().currsize
    text = (
        f"AWS4-HMAC-SHA256 Credential={'A' * 2000}/20261123/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    )
    assert as_remembered(text) == as_said(text)
    assert claim._remembered_authorization.cache_info().currsize == before


@pytest.mark.parametrize("times", [1, 2])
def test_the_signature_is_each_requests_own(times: int) -> None:
    text = "AWS4-HMAC-SHA256 Credential=AKID/20261123/eu-west-1/s3/aws4_request, SignedHeaders=host, Signature="
    assert [claim._authorization(text + "ab" * at)[1] for at in range(1, times + 2)] == [
        "ab" * at for at in range(1, times + 2)
    ]
