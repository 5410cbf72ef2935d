"""Header compression (HPACK, RFC 7541): a decoder for what clients send, an encoder without state for what we send.

The decoder notices whether a block changed the dynamic table: one that did not means the same whenever the same bytes
come again before the next change, so the connection remembers its meaning. The encoder adds nothing to the dynamic
table and tells the peer so (`SIZE_ZERO`), so what it makes is the same for every connection and can be kept.
"""

from __future__ import annotations

from collections import deque
from functools import lru_cache

from hpack.exceptions import HPACKDecodingError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

from nearpoint.wire.http2_frames import Code, ConnectionFault

Field = tuple[bytes, bytes]

TABLE_BYTES_MAX = 4_096  # SETTINGS_HEADER_TABLE_SIZE stays at its first value
FIELD_OVERHEAD_BYTES = 32  # of an entry of the table, and of a field in SETTINGS_MAX_HEADER_LIST_SIZE
SIZE_ZERO = b"\x20"  # at the start of a block: the encoder's table holds nothing from here on

_STATIC: tuple[Field, ...] = tuple(HeaderTable.STATIC_TABLE)
_STATIC_COUNT = len(_STATIC)
_NAME_INDEX: dict[bytes, int] = {name: index for index, (name, _) in reversed(list(enumerate(_STATIC, 1)))}
_FIELD_INDEX: dict[Field, int] = {field: index for index, field in enumerate(_STATIC, 1) if field[1]}
_REMEMBERED_BYTES_MAX = 512


@lru_cache(4_096)
def _unhuffed_short(data: bytes) -> bytes:
    return decode_huffman(data)


def _unhuffed(data: bytes) -> bytes:
    try:
        return _unhuffed_short(data) if len(data) <= _REMEMBERED_BYTES_MAX else decode_huffman(data)
    except HPACKDecodingError as error:
        raise ConnectionFault(Code.COMPRESSION_ERROR, "malformed Huffman code") from error


def _integer(block: bytes, at: int, first: int) -> tuple[int, int]:
    """An integer whose prefix was full (§5.1), and where it ends. `first` is the value of the full prefix."""
    shift = 0
    value = first
    while True:
        byte = block[at]
        at += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 21:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "an integer that is too large")


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    first = block[at]
    size = first & 0x7F
    at += 1
    if size == 0x7F:
        size, at = _integer(block, at, 0x7F)
    end = at + size
    if end > len(block):
        raise IndexError
    data = block[at:end]
    return (_unhuffed(data) if first & 0x80 else data), end


class Decoder:
    """Reads the header blocks of one connection, each of them, in order.

    `changes` counts what happened to the dynamic table.
    """

    __slots__ = ("_bytes", "_bytes_max", "_entries", "changes")

    def __init__(self) -> None:
        self.changes = 0
        self._entries: deque[Field] = deque()  # newest first
        self._bytes = 0
        self._bytes_max = TABLE_BYTES_MAX

    def decode(self, block: bytes, list_bytes_max: int) -> list[Field]:
        """The fields of a block.

        Raises ConnectionFault: COMPRESSION_ERROR for malformed ones, ENHANCE_YOUR_CALM for a list of more than
        `list_bytes_max`, counted as §4.1 does. After either the state is lost and so is the connection.
        """
        try:
            return self._decode(block, list_bytes_max)
        except IndexError:
            raise ConnectionFault(Code.COMPRESSION_ERROR, "a truncated header block") from None

    def _decode(self, block: bytes, list_bytes_max: int) -> list[Field]:
        fields: list[Field] = []
        at, end = 0, len(block)
        room = list_bytes_max
        while at < end:
            byte = block[at]
            at += 1
            if byte & 0x80:
                index = byte & 0x7F
                if index == 0x7F:
                    index, at = _integer(block, at, 0x7F)
                field = self._entry(index)
            elif byte & 0x60 == 0x20:
                size = byte & 0x1F
                if size == 0x1F:
                    size, at = _integer(block, at, 0x1F)
                if fields or size > TABLE_BYTES_MAX:
                    raise ConnectionFault(Code.COMPRESSION_ERROR, "a table size update that is late or too large")
                self._resize(size)
                continue
            else:
                mask = 0x3F if byte & 0x40 else 0x0F
                index = byte & mask
                if index == mask:
                    index, at = _integer(block, at, mask)
                if index:
                    name = self._entry(index)[0]
                else:
                    name, at = _string(block, at)
                value, at = _string(block, at)
                field = (name, value)
                if byte & 0x40:
                    self._add(field)
            fields.append(field)
            room -= len(field[0]) + len(field[1]) + FIELD_OVERHEAD_BYTES
            if room < 0:
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "the header list is too large")
        return fields

    def _entry(self, index: int) -> Field:
        if index <= _STATIC_COUNT:
            if index:
                return _STATIC[index - 1]
        elif index - _STATIC_COUNT <= len(self._entries):
            return self._entries[index - _STATIC_COUNT - 1]
        raise ConnectionFault(Code.COMPRESSION_ERROR, "an index that is in no table")

    def _add(self, field: Field) -> None:
        self.changes += 1
        self._entries.appendleft(field)
        self._bytes += len(field[0]) + len(field[1]) + FIELD_OVERHEAD_BYTES
        self._shrink()

    def _resize(self, bytes_max: int) -> None:
        if bytes_max != self._bytes_max:
            self.changes += 1
            self._bytes_max = bytes_max
            self._shrink()

    def _shrink(self) -> None:
        while self._bytes > self._bytes_max:
            name, value = self._entries.pop()
            self._bytes -= len(name) + len(value) + FIELD_OVERHEAD_BYTES


def encode_integer(value: int, prefix: int, bits: int) -> bytes:
    """An integer in the low `bits` of a first byte whose other bits are `prefix` (§5.1)."""
    full = (1 << bits) - 1
    if value < full:
        return bytes((prefix | value,))
    value -= full
    out = bytearray((prefix | full,))
    while value >= 0x80:
        out.append(0x80 | value & 0x7F)
        value >>= 7
    out.append(value)
    return bytes(out)


_LENGTHS = [encode_integer(size, 0, 7) for size in range(1_024)]


def encode_name(name: bytes) -> bytes:
    """The start of a literal field that is not to be indexed: its value follows as `encode_value` makes it."""
    index = _NAME_INDEX.get(name)
    return encode_integer(index, 0, 4) if index else b"\0" + encode_value(name)


def encode_value(value: bytes) -> bytes:
    """A string as it is: Huffman coding in Python costs more than the bytes it saves."""
    size = len(value)
    return (_LENGTHS[size] if size < 1_024 else encode_integer(size, 0, 7)) + value


def encode_field(name: bytes, value: bytes) -> bytes:
    """A field, by its index where the static table has it whole."""
    index = _FIELD_INDEX.get((name, value))
    return encode_integer(index, 0x80, 7) if index else encode_name(name) + encode_value(value)
