"""Checksums, assembly of parts, metadata: without a store."""

from __future__ import annotations

import base64
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.awsproto import AwsError
from nearpoint.bucket import checksums, metadata
from nearpoint.bucket.assembly import AskedPart, HavePart, assemble
from nearpoint.bucket.checksums import Checksum
from nearpoint.bucket.copying import parse_source
from nearpoint.bucket.reading import cut
from nearpoint.bucket.rows import Piece
from nearpoint.wire.message import Headers

# CRC catalogue check values of "123456789" and RFC 3174 / FIPS 180-4 digests.
CHECK = {
    "CRC32": 0xCBF43926.to_bytes(4, "big"),
    "CRC32C": 0xE3069283.to_bytes(4, "big"),
    "CRC64NVME": 0xAE8B14860A799888.to_bytes(8, "big"),
}


@pytest.mark.parametrize("algorithm", CHECK)
def test_check_values(algorithm: str) -> None:
    digest = checksums.new(algorithm)
    digest.update(b"1234")
    digest.update(b"56789")
    assert digest.digest() == CHECK[algorithm]


@given(parts=st.lists(st.binary(max_size=50), min_size=1, max_size=6))
def test_full_object_checksums_join_like_the_content(parts: list[bytes]) -> None:
    for algorithm in CHECK:
        values = []
        for part in parts:
            digest = checksums.new(algorithm)
            digest.update(part)
            values.append((checksums.encode(digest.digest()), len(part)))
        whole = checksums.new(algorithm)
        whole.update(b"".join(parts))
        joined = checksums.join(algorithm, "FULL_OBJECT", values)
        assert joined == Checksum(algorithm, "FULL_OBJECT", checksums.encode(whole.digest()))
        assert Checksum.unpack(joined.pack()) == joined


def test_a_composite_checksum_is_one_of_digests() -> None:
    values = [(base64.b64encode(zlib.crc32(part).to_bytes(4, "big")).decode(), 1) for part in (b"a", b"b")]
    digests = b"".join(zlib.crc32(part).to_bytes(4, "big") for part in (b"a", b"b"))
    expected = base64.b64encode(zlib.crc32(digests).to_bytes(4, "big")).decode() + "-2"
    assert checksums.join("CRC32", "COMPOSITE", values).value == expected


@pytest.mark.parametrize(
    ("algorithm", "kind", "result"),
    [
        ("CRC32", None, "COMPOSITE"),
        ("CRC64NVME", None, "FULL_OBJECT"),
        ("CRC32C", "FULL_OBJECT", "FULL_OBJECT"),
        ("SHA256", "FULL_OBJECT", None),
        ("CRC64NVME", "COMPOSITE", None),
        ("CRC32", "OTHER", None),
    ],
)
def test_checksum_types_of_uploads(algorithm: str, kind: str | None, result: str | None) -> None:
    if result is None:
        with pytest.raises(AwsError, match="InvalidRequest"):
            checksums.upload_type(algorithm, kind)
    else:
        assert checksums.upload_type(algorithm, kind) == result


def test_two_checksums_at_once_are_refused() -> None:
    headers = Headers([("x-amz-checksum-crc32", "AAAAAA=="), ("x-amz-checksum-crc32c", "AAAAAA==")])
    with pytest.raises(AwsError, match="Multiple checksum"):
        checksums.declared(headers.get)


def test_a_checksum_that_is_announced_must_come() -> None:
    with pytest.raises(AwsError, match="no corresponding"):
        checksums.wanted(Headers([("x-amz-sdk-checksum-algorithm", "CRC32")]).get)


def _have(number: int, size: int) -> HavePart:
    return HavePart(
        number=number, size=size, etag=f"{number:032x}", checksum=Checksum("CRC32", "FULL_OBJECT", "AAAAAA==")
    )


def _asked(number: int, **sums: str) -> AskedPart:
    return AskedPart(number=number, etag=f"{number:032x}", checksums=sums)


@pytest.mark.parametrize(
    ("asked", "required", "declared", "code"),
    [
        ([], False, None, "MalformedXML"),
        ([_asked(2), _asked(1)], False, None, "InvalidPartOrder"),
        ([_asked(1), _asked(1)], False, None, "InvalidPartOrder"),
        ([_asked(4)], False, None, "InvalidPart"),
        ([_asked(3), _asked(5)], False, None, "EntityTooSmall"),
        ([_asked(1)], True, None, "InvalidRequest"),
        ([_asked(1, CRC32="BBBBBB==")], False, None, "InvalidPart"),
        ([_asked(1)], False, ("CRC32", "BBBBBB=="), "BadDigest"),
        ([_asked(1)], False, ("SHA256", "BBBBBB=="), "BadDigest"),
    ],
)
def test_what_assembly_refuses(
    asked: list[AskedPart], required: bool, declared: tuple[str, str] | None, code: str
) -> None:
    have = {1: _have(1, 5 * 1024**2), 3: _have(3, 10), 5: _have(5, 10)}
    with pytest.raises(AwsError) as caught:
        assemble(
            asked,
            have,
            algorithm="CRC32",
            kind="COMPOSITE",
            required=required,
            declared=declared,
            declared_size=None,
            upload="u",
        )
    assert caught.value.code == code


def test_user_metadata_is_kept_byte_for_byte() -> None:
    headers = Headers([("X-Amz-Meta-One", "\xe9\xff  x"), ("x-amz-meta-two", "1"), ("X-AMZ-META-TWO", "2")])
    lines = metadata.unpack(metadata.read_description(headers).head)
    assert ("x-amz-meta-one", "\xe9\xff  x") in lines
    assert ("x-amz-meta-two", "1,2") in lines


def test_the_transport_encoding_is_not_the_objects() -> None:
    def encoding(value: str) -> str | None:
        lines = metadata.unpack(metadata.read_description(Headers([("Content-Encoding", value)])).head)
        return dict(lines).get("Content-Encoding")

    assert encoding("aws-chunked") is None
    assert encoding("aws-chunked, gzip") == "gzip"
    assert encoding("gzip,aws-chunked") == "gzip"


@pytest.mark.parametrize(
    ("field", "result"),
    [
        ("/b/k", ("b", "k", None)),
        ("b/k%20%2B?versionId=v", ("b", "k +", "v")),
        ("b/a/b?c", ("b", "a/b", None)),
        ("b//k", ("b", "/k", None)),
    ],
)
def test_copy_sources(field: str, result: tuple[str, str, str | None]) -> None:
    assert parse_source(field) == result


@pytest.mark.parametrize("field", ["", "b", "b/", "/b", "b/%ff"])
def test_copy_sources_that_are_none(field: str) -> None:
    with pytest.raises(AwsError, match="InvalidArgument"):
        parse_source(field)


@given(sizes=st.lists(st.integers(0, 9), max_size=6), data=st.data())
def test_cut_gives_the_bytes_asked_for(sizes: list[int], data: st.DataObject) -> None:
    content = bytes(range(sum(sizes)))
    pieces, at = [], 0
    for number, size in enumerate(sizes):
        pieces.append(Piece(number, size, content[at : at + size]))
        at += size
    offset = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, len(content) - offset))
    found = b"".join((piece.data or b"")[start : start + take] for piece, start, take in cut(pieces, offset, length))
    assert found == content[offset : offset + length]
