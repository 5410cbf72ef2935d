"""The frames of HTTP/2 as bytes (RFC 9113 §4 to §7): constants, writers, and readers that check what they read."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER_BYTES = 9
FRAME_BYTES_MAX = 16_384  # the payload of a frame that we take: SETTINGS_MAX_FRAME_SIZE stays at its first value
WINDOW_FIRST = 65_535  # every flow-control window at first (§6.9.2)
WINDOW_MAX = 2**31 - 1
STREAM_MAX = 2**31 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

ACK = END_STREAM = 0x1
END_HEADERS = 0x4
PADDED = 0x8
HAS_PRIORITY = 0x20

# The header of a frame: length in two parts, type, flags, stream. The top bit of the stream is reserved.
FRAME = Struct(">HBBBI")
_LONG = Struct(">I")
_SETTING = Struct(">HI")
_GOAWAY = Struct(">II")

HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE = (
    range(1, 7)
)
NO_RFC7540_PRIORITIES = 9  # RFC 9218 §2.1


class Code(IntEnum):
    """Why a stream or a connection ends (RFC 9113 §7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ConnectionFault(Exception):  # noqa: N818 - RFC 9113 §5.4.1 calls it a connection error, which is taken
    """The connection can't go on: the peer is told `code` and `reason` in a GOAWAY."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """One frame."""
    size = len(payload)
    return FRAME.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + payload


def settings(values: list[tuple[int, int]]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(name, value) for name, value in values))


SETTINGS_ACK = frame(SETTINGS, ACK, 0)


def window_update(stream_id: int, credit_bytes: int) -> bytes:
    """A WINDOW_UPDATE frame; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream_id, _LONG.pack(credit_bytes))


def reset(stream_id: int, code: Code) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream_id, _LONG.pack(code))


def goaway(last_stream_id: int, code: Code, reason: str = "") -> bytes:
    """A GOAWAY frame with a sentence for people."""
    return frame(GOAWAY, 0, 0, _GOAWAY.pack(last_stream_id, code) + reason.encode("ascii", "replace")[:256])


def headers(stream_id: int, block: bytes, frame_bytes_max: int, *, end_stream: bool) -> bytes:
    """A header block as HEADERS and as many CONTINUATION as it takes."""
    flags = END_STREAM if end_stream else 0
    if len(block) <= frame_bytes_max:
        return frame(HEADERS, flags | END_HEADERS, stream_id, block)
    parts = [block[at : at + frame_bytes_max] for at in range(0, len(block), frame_bytes_max)]
    first, *others, last = parts
    return b"".join(
        (
            frame(HEADERS, flags, stream_id, first),
            *(frame(CONTINUATION, 0, stream_id, part) for part in others),
            frame(CONTINUATION, END_HEADERS, stream_id, last),
        )
    )


def read_long(payload: bytes) -> int:
    """The 31 bits of a WINDOW_UPDATE, or the 32 of a RST_STREAM that matter. Raises ConnectionFault."""
    if len(payload) != 4:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame of four bytes has another length")
    value: int = _LONG.unpack(payload)[0]
    return value & WINDOW_MAX


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Names and values of a SETTINGS frame, in order; unknown ones too (§6.5.2). Raises ConnectionFault."""
    if len(payload) % 6:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS are six bytes each")
    values = list(_SETTING.iter_unpack(payload))
    for name, value in values:
        if name == ENABLE_PUSH and value > 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS_ENABLE_PUSH is 0 or 1")
        if name == INITIAL_WINDOW_SIZE and value > WINDOW_MAX:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "SETTINGS_INITIAL_WINDOW_SIZE is too large")
        if name == MAX_FRAME_SIZE and not FRAME_BYTES_MAX <= value < 2**24:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "SETTINGS_MAX_FRAME_SIZE is out of range")
    return values


def read_goaway(payload: bytes) -> tuple[int, int]:
    """The last stream and the code of a GOAWAY. Raises ConnectionFault."""
    if len(payload) < 8:
        raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a GOAWAY is at least eight bytes")
    last, code = _GOAWAY.unpack_from(payload)
    return last & STREAM_MAX, code


def content(flags: int, payload: bytes, stream_id: int) -> bytes:
    """What a DATA or HEADERS frame carries between priority and padding.

    Raises ConnectionFault: padding longer than the frame, no room for the fields, a stream that depends on itself.
    """
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "no room for the length of the padding")
        start, end = 1, end - payload[0]
    if flags & HAS_PRIORITY:
        if len(payload) < start + 5:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "no room for the priority")
        if _LONG.unpack_from(payload, start)[0] & STREAM_MAX == stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a stream that depends on itself")
        start += 5
    if end < start:
        raise ConnectionFault(Code.PROTOCOL_ERROR, "more padding than frame")
    return payload[start:end]
