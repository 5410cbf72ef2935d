"""Checksums that are held here: whatever the pieces, right ones pass and others do not."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.awsproto.errors import AwsError
from nearpoint.regions.digests import KINDS, digest
from nearpoint.regions.integrity import Integrity

NAMES = ["Content-MD5", *(f"x-amz-checksum-{kind.lower()}" for kind in KINDS)]


def _stated(name: str, data: bytes) -> str:
    if name == "Content-MD5":
        return base64.b64encode(hashlib.md5(data).digest()).decode()
    return digest(name.rpartition("-")[2].upper(), data)


@given(st.lists(st.binary(max_size=50), max_size=6), st.sampled_from(NAMES), st.booleans())
def test_a_right_one_passes_in_any_pieces(pieces: list[bytes], name: str, behind: bool) -> None:
    value = _stated(name, b"".join(pieces))
    held = Integrity([] if behind else [(name, value)], [name.lower()] if behind else [])
    assert held.matters
    for piece in pieces:
        held.update(piece)
    held.check({name.lower(): value} if behind else {})


@given(st.binary(max_size=50), st.binary(max_size=50), st.sampled_from(NAMES), st.booleans())
def test_another_bodys_does_not(data: bytes, other: bytes, name: str, behind: bool) -> None:
    value = _stated(name, other)
    held = Integrity([] if behind else [(name, value)], [name.lower()] if behind else [])
    held.update(data)
    if data != other:
        with pytest.raises(AwsError) as caught:
            held.check({name.lower(): value} if behind else {})
        assert caught.value.code == "BadDigest"


@pytest.mark.parametrize(
    "field",
    [
        ("x-amz-checksum-crc32", "AAAAAA==-3"),  # of an upload's parts
        ("x-amz-checksum-algorithm", "CRC32"),
        ("x-amz-checksum-mode", "ENABLED"),
        ("x-amz-meta-content-md5", "x"),
    ],
)
def test_what_says_nothing_of_the_bytes(field: tuple[str, str]) -> None:
    held = Integrity([field])
    held.update(b"data")
    held.check({})
