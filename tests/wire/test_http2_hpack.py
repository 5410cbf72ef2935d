"""Header compression against the hpack package."""

from __future__ import annotations

import hpack
import pytest
from hpack.exceptions import HPACKError
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.wire.http2_frames import Code, ConnectionFault
from nearpoint.wire.http2_hpack import SIZE_ZERO, Decoder, encode_field, encode_integer

MOST = 65_536
_NAMES = st.sampled_from([b":method", b":path", b"accept", b"cookie", b"x-a", b"x-b", b"etag", b""]) | st.binary(
    max_size=20
)
_VALUES = st.sampled_from([b"GET", b"/", b"", b"gzip, deflate", b"v" * 300]) | st.binary(max_size=60)
FIELDS = st.lists(st.tuples(_NAMES, _VALUES), max_size=12)
BLOCKS = st.lists(st.tuples(FIELDS, st.booleans(), st.sampled_from([None, None, 0, 100, 1000, 4096])), max_size=12)


@given(BLOCKS)
def test_reads_what_a_stateful_encoder_writes(blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]]) -> None:
    encoder, decoder = hpack.Encoder(), Decoder()
    for fields, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(fields, huffman=huffman)
        changes = decoder.changes
        assert decoder.decode(block, MOST) == fields
        if decoder.changes == changes:
            assert decoder.decode(block, MOST) == fields  # so its meaning may be remembered


@given(FIELDS)
def test_writes_what_any_decoder_reads(fields: list[tuple[bytes, bytes]]) -> None:
    oracle = hpack.Decoder()
    block = SIZE_ZERO + b"".join(encode_field(name, value) for name, value in fields)
    assert [tuple(field) for field in oracle.decode(block, raw=True)] == fields
    assert not oracle.header_table.dynamic_entries


@given(st.lists(st.binary(max_size=40) | st.binary(min_size=1, max_size=3), max_size=6))
def test_says_the_same_of_garbage_as_hpack(blocks: list[bytes]) -> None:
    oracle, decoder = hpack.Decoder(), Decoder()
    for block in blocks:
        try:
            expected = [tuple(field) for field in oracle.decode(block, raw=True)]
        except HPACKError:
            with pytest.raises(ConnectionFault):
                decoder.decode(block, MOST)
            return
        try:
            assert decoder.decode(block, MOST) == expected
        except ConnectionFault as fault:
            assert "too large" in fault.reason  # integers of more than 28 bits  # noqa: PT017
            return


@pytest.mark.parametrize(
    ("block", "code"),
    [
        (b"\x80", Code.COMPRESSION_ERROR),  # index 0
        (b"\xbe", Code.COMPRESSION_ERROR),  # the first dynamic entry, of none
        (b"\xff", Code.COMPRESSION_ERROR),  # an integer without end
        (b"\xff" + b"\xff" * 9, Code.COMPRESSION_ERROR),  # an integer without bound
        (b"\x00\x05abc", Code.COMPRESSION_ERROR),  # truncated
        (b"\x00\x01a", Code.COMPRESSION_ERROR),  # no value
        (b"\x00\x01a\x81\x00", Code.COMPRESSION_ERROR),  # padding that is not of ones
        (b"\x00\x01a\x84\xff\xff\xff\xff", Code.COMPRESSION_ERROR),  # the end of string symbol
        (b"\x82\x20", Code.COMPRESSION_ERROR),  # a size update after a field
        (b"\x3f\xe2\x1f", Code.COMPRESSION_ERROR),  # a table of 4,097
        (b"\x82" * 100, Code.ENHANCE_YOUR_CALM),  # more than 1,000 bytes of list
        (b"\x40\x01a\x7f\xaa\x03" + b"v" * 553 + b"\xbe" * 50, Code.ENHANCE_YOUR_CALM),  # a bomb
    ],
)
def test_refused(block: bytes, code: Code) -> None:
    with pytest.raises(ConnectionFault) as caught:
        Decoder().decode(block, 1_000)
    assert caught.value.code is code


def test_an_entry_larger_than_the_table_empties_it() -> None:
    decoder = Decoder()
    decoder.decode(b"\x40\x01a\x01b", MOST)
    assert decoder.decode(b"\xbe", MOST) == [(b"a", b"b")]
    large = b"v" * 5_000
    assert decoder.decode(b"\x40\x01c" + encode_integer(len(large), 0, 7) + large, MOST) == [(b"c", large)]
    with pytest.raises(ConnectionFault):
        decoder.decode(b"\xbe", MOST)
