"""Chunked bodies: any cut of the input, every mode, and everything that must not pass."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearpoint.signing import (
    STREAMING_ECDSA,
    STREAMING_ECDSA_TRAILER,
    STREAMING_HMAC,
    STREAMING_HMAC_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED_PAYLOAD,
    ChunkDecoder,
    ChunkEncoder,
    Credentials,
    IncompleteBodyError,
    Message,
    SignatureError,
    Verified,
    inspect_v4,
    inspect_v4a,
    read_claim,
    verify,
)

NOW = datetime(2026, 11, 23, 12, 30, 45, tzinfo=UTC)
WHO = Credentials("AKIDEXAMPLE", "secret")
SIGNED = [STREAMING_HMAC, STREAMING_HMAC_TRAILER, STREAMING_ECDSA, STREAMING_ECDSA_TRAILER]
MODES = [STREAMING_UNSIGNED_TRAILER, *SIGNED]
every_mode = pytest.mark.parametrize("mode", MODES)
every_signed_mode = pytest.mark.parametrize("mode", SIGNED)
TRAILERS = {"x-amz-checksum-crc32": "NSRBwg=="}


def start(mode: str) -> tuple[Verified, ChunkEncoder]:
    message = Message("PUT", "/k", "", [("Host", "b.s3.amazonaws.com")])
    inspect: Any = inspect_v4a if "ECDSA" in mode else inspect_v4
    region = {} if "ECDSA" in mode else {"region": "us-east-1"}
    made = inspect(message, WHO, now=NOW, payload_hash=mode, **region)
    signed = Message("PUT", "/k", "", [*message.headers, *made.headers])
    claim = read_claim(signed)
    assert claim is not None
    verified = verify(claim, signed, "secret", now=NOW)
    return verified, ChunkEncoder(mode, WHO, signed_at=NOW, region="us-east-1", seed=made.signature)


def encode(mode: str, pieces: Iterable[bytes], trailers: dict[str, str] | None = None) -> tuple[Verified, bytes]:
    verified, encoder = start(mode)
    if trailers is None:
        trailers = TRAILERS if mode.endswith("TRAILER") else {}
    return verified, b"".join([*map(encoder.feed, pieces), encoder.finish(trailers)])


def decode(verified: Verified | None, wire: bytes, length: int, **options: Any) -> tuple[bytes, dict[str, str]]:
    decoder = ChunkDecoder(verified, length, **options)
    content = decoder.feed(wire)
    return content, decoder.finish()


@every_mode
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_any_body_survives_any_cut(mode: str, data: st.DataObject) -> None:
    pieces = data.draw(st.lists(st.binary(max_size=40), max_size=4))
    names = st.text("abcdefghij-", min_size=1).filter(lambda name: name != "x-amz-trailer-signature")
    values = st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=10).filter(
        lambda text: text.strip(" \t\n") == text
    )
    trailers = data.draw(st.dictionaries(names, values, max_size=3)) if mode.endswith("TRAILER") else {}
    cuts = data.draw(st.lists(st.integers(0, 1500), max_size=12))
    verified, wire = encode(mode, pieces, trailers)
    content = b"".join(pieces)
    decoder = ChunkDecoder(verified, len(content), trailers)
    ends = sorted(min(cut, len(wire)) for cut in cuts)
    got = b"".join(decoder.feed(wire[begin:end]) for begin, end in zip([0, *ends], [*ends, len(wire)], strict=True))
    assert got == content
    assert decoder.finish() == trailers


@every_mode
def test_one_byte_at_a_time(mode: str) -> None:
    verified, wire = encode(mode, [b"hello", b" ", b"world"])
    decoder = ChunkDecoder(verified, 11)
    assert b"".join(decoder.feed(wire[at : at + 1]) for at in range(len(wire))) == b"hello world"
    assert decoder.finish() == (TRAILERS if mode.endswith("TRAILER") else {})


@every_mode
def test_a_cut_body_is_incomplete(mode: str) -> None:
    verified, wire = encode(mode, [b"hello"])
    for end in range(len(wire)):
        decoder = ChunkDecoder(verified, 5)
        decoder.feed(wire[:end])
        with pytest.raises(IncompleteBodyError) as caught:
            decoder.finish()
        assert caught.value.code == "IncompleteBody"


@every_mode
@pytest.mark.parametrize("length", [0, 4, 6, 1 << 40])
def test_the_declared_length_is_binding(mode: str, length: int) -> None:
    verified, wire = encode(mode, [b"hel", b"lo"])
    with pytest.raises(IncompleteBodyError):
        decode(verified, wire, length)


@every_mode
def test_nothing_may_follow(mode: str) -> None:
    verified, wire = encode(mode, [b"hello"])
    with pytest.raises(IncompleteBodyError):
        decode(verified, wire + b"x", 5)


@every_signed_mode
@given(at=st.integers(0, 1 << 20), bit=st.integers(0, 7))
@settings(deadline=None, max_examples=60)
def test_no_bit_of_a_signed_body_can_be_changed(mode: str, at: int, bit: int) -> None:
    verified, wire = encode(mode, [b"hello", b"world"])
    tampered = bytearray(wire)
    tampered[at % len(wire)] ^= 1 << bit
    try:
        content, trailers = decode(verified, bytes(tampered), 10)
    except SignatureError:
        return
    # What is not content may have two spellings (the case of a size or a name, the padding of a signature).
    assert content == b"helloworld"
    assert trailers == (TRAILERS if mode.endswith("TRAILER") else {})


@every_signed_mode
def test_chunks_cannot_be_dropped_swapped_or_repeated(mode: str) -> None:
    verified, encoder = start(mode)
    first, second = encoder.feed(b"hello"), encoder.feed(b"world")
    end = encoder.finish(TRAILERS if mode.endswith("TRAILER") else None)
    assert decode(verified, first + second + end, 10)[0] == b"helloworld"
    for wire, length in ((second + end, 5), (second + first + end, 10), (first + first + end, 10), (first + end, 5)):
        with pytest.raises(SignatureError) as caught:
            decode(verified, wire, length)
        assert caught.value.code == "SignatureDoesNotMatch"
        assert "-PAYLOAD\n" in caught.value.fields["StringToSign"]


@pytest.mark.parametrize("mode", [STREAMING_HMAC_TRAILER, STREAMING_ECDSA_TRAILER])
def test_signed_trailers_cannot_be_changed(mode: str) -> None:
    verified, wire = encode(mode, [b"hello"])
    with pytest.raises(SignatureError) as caught:
        decode(verified, wire.replace(b"NSRBwg==", b"NSRBwh=="), 5)
    assert caught.value.code == "SignatureDoesNotMatch"
    head, _, _ = wire.partition(b"x-amz-trailer-signature")
    with pytest.raises(SignatureError) as caught:
        decode(verified, head + b"\r\n", 5)
    assert caught.value.code == "MalformedTrailerError"


@pytest.mark.parametrize("mode", [STREAMING_ECDSA, STREAMING_ECDSA_TRAILER])
def test_sigv4a_chunks_have_a_fixed_length(mode: str) -> None:
    sizes = {len(start(mode)[1].feed(b"hello")) for _ in range(20)}
    assert len(sizes) == 1


@every_mode
def test_trailers_must_be_the_announced_ones(mode: str) -> None:
    verified, wire = encode(mode, [b"hello"])
    announced = list(TRAILERS) if mode.endswith("TRAILER") else []
    decode(verified, wire, 5, trailer_names=[name.upper() for name in announced])
    with pytest.raises(SignatureError) as caught:
        decode(verified, wire, 5, trailer_names=["x-amz-checksum-sha1"])
    assert caught.value.code == "MalformedTrailerError"


@pytest.mark.parametrize(
    "wire",
    [
        b"5\r\nhello\r\n0\r\nno colon\r\n\r\n",
        b"5\r\nhello\r\n0\r\n: nameless\r\n\r\n",
        b"5\r\nhello\r\n0\r\na :b\r\n\r\n",
        b"5\r\nhello\r\n0\r\na:b\r\nA:c\r\n\r\n",
        b"5\r\nhello\r\n0\r\na:b\nc:d\r\n\r\n",
        b"5\r\nhello\r\n0\r\n" + b"".join(b"a%d:b\r\n" % n for n in range(17)) + b"\r\n",
    ],
)
def test_malformed_trailers(wire: bytes) -> None:
    with pytest.raises(SignatureError) as caught:
        decode(None, wire, 5)
    assert caught.value.code == "MalformedTrailerError"


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5_0\r\nhello\r\n0\r\n\r\n",
        b"5;a=b\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"4\r\nhello\r\n0\r\n\r\n",
        b"00000000000000005\r\nhello\r\n0\r\n\r\n",
        b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"5" + b" " * 600,
        b"5\r\nhello\r\n0\r\na:" + b"b" * 600,
    ],
)
def test_broken_framing(wire: bytes) -> None:
    with pytest.raises(IncompleteBodyError):
        decode(None, wire, 5)


def test_an_anonymous_body() -> None:
    assert decode(None, b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\r\n\r\n", 5) == (b"hello", TRAILERS)


def test_a_trailer_may_end_with_a_line_feed_of_its_own() -> None:
    assert decode(None, b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NSRBwg==\n\r\n\r\n", 5) == (b"hello", TRAILERS)


def test_a_lines_length_is_bounded_while_it_arrives() -> None:
    decoder = ChunkDecoder(None, 5)
    for _ in range(32):
        assert decoder.feed(b"0" * 16) == b""
    with pytest.raises(IncompleteBodyError):
        decoder.feed(b"0")


@every_signed_mode
def test_chunks_are_signed_as_the_request_is(mode: str) -> None:
    other = STREAMING_HMAC if "ECDSA" in mode else STREAMING_ECDSA
    verified, _ = start(mode)
    crossed = Verified(
        claim=verified.claim, payload_hash=other, canonical_request="", string_to_sign="", key=verified.key
    )
    with pytest.raises(SignatureError) as caught:
        ChunkDecoder(crossed, 5)
    assert caught.value.code == "InvalidRequest"


def test_only_chunked_payloads() -> None:
    verified, _ = start(STREAMING_HMAC)
    plain = Verified(
        claim=verified.claim, payload_hash=UNSIGNED_PAYLOAD, canonical_request="", string_to_sign="", key=b""
    )
    with pytest.raises(ValueError, match="not a chunked payload"):
        ChunkDecoder(plain, 5)
    with pytest.raises(ValueError, match="can't sign"):
        ChunkEncoder(UNSIGNED_PAYLOAD, WHO, signed_at=NOW, region="r")
    with pytest.raises(ValueError, match="needs a region"):
        ChunkEncoder(STREAMING_HMAC, WHO, signed_at=NOW)
    with pytest.raises(ValueError, match="no trailers"):
        start(STREAMING_HMAC)[1].finish({"a": "b"})


def test_the_worked_example_of_the_s3_reference() -> None:
    """S3 API Reference, "Transferring payload in multiple chunks": 66,560 octets in chunks of 64 KiB."""
    credentials = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
    signed_at = datetime(2013, 5, 24, tzinfo=UTC)
    headers = {
        "Host": "s3.amazonaws.com",
        "x-amz-storage-class": "REDUCED_REDUNDANCY",
        "Content-Encoding": "aws-chunked",
        "x-amz-decoded-content-length": "66560",
        "Content-Length": "66824",
    }
    message = Message("PUT", "/examplebucket/chunkObject.txt", "", list(headers.items()))
    made = inspect_v4(message, credentials, region="us-east-1", now=signed_at, payload_hash=STREAMING_HMAC)
    assert made.signature == "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    encoder = ChunkEncoder(STREAMING_HMAC, credentials, signed_at=signed_at, region="us-east-1", seed=made.signature)
    wire = encoder.feed(b"a" * 65536) + encoder.feed(b"a" * 1024) + encoder.finish()
    assert len(wire) == 66824
    for signature in (
        b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ):
        assert b";chunk-signature=" + signature in wire
