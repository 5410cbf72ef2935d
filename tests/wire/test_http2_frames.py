"""Frames as bytes: what is written, what is read back, what is refused; hyperframe is the oracle."""

from __future__ import annotations

from typing import Any

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from nearpoint.wire import http2_frames as frames
from nearpoint.wire.http2_frames import Code, ConnectionFault


def parsed(data: bytes) -> list[Any]:
    found: list[Any] = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        found.append(frame)
        data = data[9 + length :]
    return found


def test_what_is_written() -> None:
    (window,) = parsed(frames.window_update(5, 1000))
    assert isinstance(window, WindowUpdateFrame)
    assert (window.stream_id, window.window_increment) == (5, 1000)
    (reset,) = parsed(frames.reset(7, Code.CANCEL))
    assert isinstance(reset, RstStreamFrame)
    assert (reset.stream_id, reset.error_code) == (7, 8)
    (goaway,) = parsed(frames.goaway(9, Code.ENHANCE_YOUR_CALM, "enough"))
    assert isinstance(goaway, GoAwayFrame)
    assert (goaway.last_stream_id, goaway.error_code, goaway.additional_data) == (9, 11, b"enough")
    (settings,) = parsed(frames.settings([(frames.MAX_CONCURRENT_STREAMS, 7), (frames.NO_RFC7540_PRIORITIES, 1)]))
    assert isinstance(settings, SettingsFrame)
    assert settings.settings == {3: 7, 9: 1}
    (acknowledged,) = parsed(frames.SETTINGS_ACK)
    assert acknowledged.flags == {"ACK"}


@pytest.mark.parametrize(("size", "count"), [(0, 1), (10, 1), (11, 2), (20, 2), (21, 3), (95, 10)])
@pytest.mark.parametrize("end_stream", [True, False])
def test_a_block_in_as_many_frames_as_it_takes(size: int, count: int, end_stream: bool) -> None:
    block = bytes(range(size))
    found = parsed(frames.headers(3, block, 10, end_stream=end_stream))
    assert len(found) == count
    assert isinstance(found[0], HeadersFrame)
    assert all(isinstance(frame, ContinuationFrame) for frame in found[1:])
    assert ("END_STREAM" in found[0].flags) is end_stream
    assert [("END_HEADERS" in frame.flags) for frame in found] == [False] * (count - 1) + [True]
    assert b"".join(frame.data for frame in found) == block


P, Q = frames.PADDED, frames.HAS_PRIORITY
PRIORITY = b"\x80\0\0\1\x10"


@pytest.mark.parametrize(
    ("flags", "payload", "content"),
    [
        (0, b"abc", b"abc"),
        (0, b"", b""),
        (P, b"\0abc", b"abc"),
        (P, b"\2abc", b"a"),
        (P, b"\3abc", b""),
        (P, b"\0", b""),
        (Q, PRIORITY + b"abc", b"abc"),
        (P | Q, b"\1" + PRIORITY + b"abc", b"ab"),
        (P | Q, b"\3" + PRIORITY + b"abc", b""),
    ],
)
def test_content(flags: int, payload: bytes, content: bytes) -> None:
    assert frames.content(flags, payload, 3) == content


@pytest.mark.parametrize(
    ("flags", "payload", "code"),
    [
        (P, b"", Code.FRAME_SIZE_ERROR),
        (P, b"\4abc", Code.PROTOCOL_ERROR),
        (P, b"\1", Code.PROTOCOL_ERROR),
        (Q, b"\0\0\0\1", Code.FRAME_SIZE_ERROR),
        (P | Q, b"\0" + PRIORITY[:4], Code.FRAME_SIZE_ERROR),
        (P | Q, b"\4" + PRIORITY + b"abc", Code.PROTOCOL_ERROR),
        (Q, b"\0\0\0\3\0", Code.PROTOCOL_ERROR),
        (Q, b"\x80\0\0\3\0", Code.PROTOCOL_ERROR),
    ],
)
def test_content_refused(flags: int, payload: bytes, code: Code) -> None:
    with pytest.raises(ConnectionFault) as caught:
        frames.content(flags, payload, 3)
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\0" * 5, Code.FRAME_SIZE_ERROR),
        (b"\0\2\0\0\0\2", Code.PROTOCOL_ERROR),
        (b"\0\4\x80\0\0\0", Code.FLOW_CONTROL_ERROR),
        (b"\0\5\0\0\x3f\xff", Code.PROTOCOL_ERROR),
        (b"\0\5\1\0\0\0", Code.PROTOCOL_ERROR),
    ],
)
def test_settings_refused(payload: bytes, code: Code) -> None:
    with pytest.raises(ConnectionFault) as caught:
        frames.read_settings(payload)
    assert caught.value.code is code


def test_settings_read() -> None:
    assert frames.read_settings(b"") == []
    assert frames.read_settings(b"\0\4\x7f\xff\xff\xff\0\x99\0\0\0\1\0\5\0\xff\xff\xff") == [
        (4, 2**31 - 1),
        (0x99, 1),
        (5, 2**24 - 1),
    ]


def test_short_ones() -> None:
    for read in (frames.read_long, frames.read_goaway):
        with pytest.raises(ConnectionFault) as caught:
            read(b"abc")
        assert caught.value.code is Code.FRAME_SIZE_ERROR
    assert frames.read_long(b"\xff\xff\xff\xff") == 2**31 - 1
    assert frames.read_goaway(b"\x80\0\0\1\0\0\0\2why") == (1, 2)
