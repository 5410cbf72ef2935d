"""A connection without sockets: what every frame out of place brings about, any cut of the bytes, any garbage."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearpoint.wire import http2_frames as frames
from nearpoint.wire.filebody import FileBody
from nearpoint.wire.http2 import Http2Connection
from nearpoint.wire.http2_frames import Code, frame
from nearpoint.wire.http2_hpack import encode_field
from nearpoint.wire.limits import Limits
from nearpoint.wire.message import Request, Response
from nearpoint.wire.server import Peer, Server

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END, END_HEADERS, PADDED = frames.END_STREAM, frames.END_HEADERS, frames.PADDED
WHOLE = END | END_HEADERS
HELLO = frames.PREFACE + frames.settings([])


def block(path: bytes = b"/hit", *more: tuple[bytes, bytes], method: bytes = b"GET") -> bytes:
    fields = [(b":method", method), (b":scheme", b"http"), (b":authority", b"h"), (b":path", path), *more]
    return b"".join(encode_field(name, value) for name, value in fields)


def get(stream_id: int, path: bytes = b"/hit", *more: tuple[bytes, bytes], flags: int = WHOLE) -> bytes:
    return frame(HEADERS, flags, stream_id, block(path, *more))


class FakeTask:
    """A handler that never gets to run."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        coroutine.close()
        self.cancelled = 0

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.done = callback

    def cancel(self) -> None:
        self.cancelled += 1
        self.done(self)


class FakeLoop:
    def __init__(self) -> None:
        self.soon: list[Callable[[], None]] = []
        self.tasks: list[FakeTask] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> FakeTask:
        self.tasks.append(FakeTask(coroutine))
        return self.tasks[-1]

    def settle(self) -> None:
        while self.soon:
            self.soon.pop(0)()


class FakeTransport:
    def __init__(self) -> None:
        self.written = b""
        self.writes = 0
        self.closed = False
        self.reading = True

    def get_extra_info(self, name: str) -> Any:
        return ("10.0.0.1", 1) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.written += data
        self.writes += 1

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def hook(method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], peer: Peer) -> Any:
    if target == b"/hit":
        return b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhit"
    if target == b"/large":
        return (b"HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n", b"x" * 40_000)
    return None


async def handler(request: Request) -> Response:
    raise AssertionError


class Rig:
    """One connection, the frames it wrote, and what it started."""

    def __init__(self, **settings: Any) -> None:
        self.server = Server(handler, instant=hook, limits=Limits(streams_max=4, body_bytes_max=100_000, **settings))
        self.loop = FakeLoop()
        self.server.loop = self.loop  # type: ignore[assignment]
        self.transport = FakeTransport()
        self.connection = Http2Connection(self.server)
        self.connection.connection_made(self.transport)  # type: ignore[arg-type]
        self.decoder = hpack.Decoder()

    def feed(self, data: bytes) -> None:
        self.connection.data_received(data)
        self.loop.settle()

    def frames(self) -> list[tuple[int, int, int, bytes]]:
        """(type, flags, stream, payload) of everything written."""
        data, found = self.transport.written, []
        while data:
            high, low, kind, flags, stream_id = frames.FRAME.unpack_from(data)
            size = high << 8 | low
            assert len(data) >= 9 + size
            found.append((kind, flags, stream_id, data[9 : 9 + size]))
            data = data[9 + size :]
        return found

    def of(self, *kinds: int) -> list[tuple[int, int, int, bytes]]:
        return [found for found in self.frames() if found[0] in kinds]

    @property
    def goaway(self) -> Code | None:
        found = self.of(GOAWAY)
        return Code(frames.read_goaway(found[-1][3])[1]) if found else None

    @property
    def resets(self) -> list[tuple[int, Code]]:
        return [(stream_id, Code(int.from_bytes(payload, "big"))) for _, _, stream_id, payload in self.of(RST)]

    @property
    def statuses(self) -> list[tuple[int, str]]:
        fields = [(stream_id, self.decoder.decode(payload)) for _, _, stream_id, payload in self.of(HEADERS)]
        return [(stream_id, dict(each)[":status"]) for stream_id, each in fields]  # type: ignore[arg-type]


def test_the_greeting() -> None:
    rig = Rig()
    (settings_frame,) = rig.of(SETTINGS)
    sent = dict(frames.read_settings(settings_frame[3]))
    assert sent == {
        frames.MAX_CONCURRENT_STREAMS: 4,
        frames.INITIAL_WINDOW_SIZE: 262_144,
        frames.MAX_HEADER_LIST_SIZE: 65_536,
        frames.NO_RFC7540_PRIORITIES: 1,
    }
    assert rig.of(WINDOW) == [(WINDOW, 0, 0, (1_048_576 - 65_535).to_bytes(4, "big"))]
    rig.feed(HELLO)
    assert rig.of(SETTINGS)[-1] == (SETTINGS, frames.ACK, 0, b"")


def test_one_write_for_all_answers_of_a_read() -> None:
    rig = Rig()
    rig.feed(HELLO)
    writes = rig.transport.writes
    rig.feed(b"".join(get(2 * number + 1) for number in range(50)))
    assert rig.transport.writes == writes + 1
    assert rig.statuses == [(2 * number + 1, "200") for number in range(50)]
    assert [payload for *_, payload in rig.of(DATA)] == [b"hit"] * 50


POST = frame(HEADERS, END_HEADERS, 1, block(b"/up", method=b"POST"))
GET_1 = get(1)
SLOW_1 = get(1, b"/slow")


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        # the beginning
        (b"GET / HTTP/1.1\r\n", Code.PROTOCOL_ERROR),
        (frames.PREFACE[:-1] + b"x", Code.PROTOCOL_ERROR),
        (frames.PREFACE + frame(PING, 0, 0, b"12345678"), Code.PROTOCOL_ERROR),
        (frames.PREFACE + GET_1, Code.PROTOCOL_ERROR),
        (frames.PREFACE + frames.SETTINGS_ACK, Code.PROTOCOL_ERROR),
        # sizes
        (HELLO + frame(DATA, 0, 1, b"x" * 16_385), Code.FRAME_SIZE_ERROR),
        (HELLO + b"\xff\xff\xff" + b"\0" * 6, Code.FRAME_SIZE_ERROR),
        (HELLO + frame(PING, 0, 0, b"1234567"), Code.FRAME_SIZE_ERROR),
        (HELLO + frame(SETTINGS, 0, 0, b"12345"), Code.FRAME_SIZE_ERROR),
        (HELLO + frame(SETTINGS, frames.ACK, 0, b"123456"), Code.FRAME_SIZE_ERROR),
        (HELLO + frame(WINDOW, 0, 0, b"123"), Code.FRAME_SIZE_ERROR),
        (HELLO + frame(RST, 0, 1, b"123"), Code.FRAME_SIZE_ERROR),
        (HELLO + frame(PRIORITY, 0, 1, b"1234"), Code.FRAME_SIZE_ERROR),
        (HELLO + frame(GOAWAY, 0, 0, b"1234567"), Code.FRAME_SIZE_ERROR),
        # streams that they can't be on
        (HELLO + frame(HEADERS, WHOLE, 0, block()), Code.PROTOCOL_ERROR),
        (HELLO + frame(HEADERS, WHOLE, 2, block()), Code.PROTOCOL_ERROR),
        (HELLO + frame(DATA, END, 0, b""), Code.PROTOCOL_ERROR),
        (HELLO + frame(RST, 0, 0, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
        (HELLO + frame(PRIORITY, 0, 0, b"12345"), Code.PROTOCOL_ERROR),
        (HELLO + frame(PRIORITY, 0, 3, b"\0\0\0\3\0"), Code.PROTOCOL_ERROR),
        (HELLO + frame(SETTINGS, 0, 1), Code.PROTOCOL_ERROR),
        (HELLO + frame(PING, 0, 1, b"12345678"), Code.PROTOCOL_ERROR),
        (HELLO + frame(GOAWAY, 0, 1, b"12345678"), Code.PROTOCOL_ERROR),
        (HELLO + frame(PUSH, END_HEADERS, 1, b"\0\0\0\2" + block()), Code.PROTOCOL_ERROR),
        # idle, closed
        (HELLO + frame(DATA, 0, 1, b"x"), Code.PROTOCOL_ERROR),
        (HELLO + frame(RST, 0, 1, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
        (HELLO + frame(WINDOW, 0, 1, b"\0\0\0\1"), Code.PROTOCOL_ERROR),
        (HELLO + GET_1 + GET_1, Code.STREAM_CLOSED),
        (HELLO + get(3) + GET_1, Code.STREAM_CLOSED),
        # header blocks
        (HELLO + frame(CONTINUATION, END_HEADERS, 1, block()), Code.PROTOCOL_ERROR),
        (HELLO + frame(HEADERS, END, 1, b"") + frame(CONTINUATION, END_HEADERS, 3, block()), Code.PROTOCOL_ERROR),
        (HELLO + frame(HEADERS, END, 1, b"") + frame(PING, 0, 0, b"12345678"), Code.PROTOCOL_ERROR),
        (HELLO + frame(HEADERS, END, 1, b"") + get(3), Code.PROTOCOL_ERROR),
        (HELLO + frame(HEADERS, WHOLE, 1, b"\x80"), Code.COMPRESSION_ERROR),
        (HELLO + SLOW_1 + frame(HEADERS, WHOLE, 3, b"\xff"), Code.COMPRESSION_ERROR),
        (HELLO + frame(HEADERS, WHOLE | PADDED, 1, b"\x05" + b"x"), Code.PROTOCOL_ERROR),
        # settings, windows
        (HELLO + frames.settings([(frames.ENABLE_PUSH, 2)]), Code.PROTOCOL_ERROR),
        (HELLO + frames.settings([(frames.INITIAL_WINDOW_SIZE, 2**31)]), Code.FLOW_CONTROL_ERROR),
        (HELLO + frames.settings([(frames.MAX_FRAME_SIZE, 16_383)]), Code.PROTOCOL_ERROR),
        (HELLO + frame(WINDOW, 0, 0, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
        (HELLO + frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"), Code.FLOW_CONTROL_ERROR),
        (
            HELLO + SLOW_1 + frame(WINDOW, 0, 1, b"\0\0\0\1") + frames.settings([(4, 2**31 - 1)]),
            Code.FLOW_CONTROL_ERROR,
        ),
        # floods
        (HELLO + frame(PING, 0, 0, b"12345678") * 2_100, Code.ENHANCE_YOUR_CALM),
        (HELLO + frames.settings([]) * 2_100, Code.ENHANCE_YOUR_CALM),
        (HELLO + frames.SETTINGS_ACK * 2_100, Code.ENHANCE_YOUR_CALM),
        (HELLO + frame(PRIORITY, 0, 1, b"12345") * 2_100, Code.ENHANCE_YOUR_CALM),
        (HELLO + frame(0x99, 0, 1, b"12345") * 2_100, Code.ENHANCE_YOUR_CALM),
        (HELLO + frame(WINDOW, 0, 0, b"\0\0\0\1") * 2_100, Code.ENHANCE_YOUR_CALM),
        (HELLO + POST + frame(DATA, 0, 1) * 2_100, Code.ENHANCE_YOUR_CALM),
        (HELLO + POST + frame(DATA, PADDED, 1, b"\x05" + bytes(5)) * 2_100, Code.ENHANCE_YOUR_CALM),
        (HELLO + GET_1 + frame(RST, 0, 1, b"\0\0\0\x08") * 2_100, Code.ENHANCE_YOUR_CALM),
        (HELLO + frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"") * 200, Code.ENHANCE_YOUR_CALM),
        (HELLO + frame(HEADERS, 0, 1, b"") + frame(CONTINUATION, 0, 1, b"x" * 16_384) * 12, Code.ENHANCE_YOUR_CALM),
        (
            HELLO + frame(HEADERS, WHOLE, 1, b"\x40\x01a\x7f\xb0\x1e" + b"v" * 4_015 + b"\xbe" * 60),
            Code.ENHANCE_YOUR_CALM,
        ),
        (
            HELLO + b"".join(get(2 * n + 1, b"/slow") + frames.reset(2 * n + 1, Code.CANCEL) for n in range(1_100)),
            Code.ENHANCE_YOUR_CALM,
        ),
        # the reset is ours, the stream the peer's (CVE-2025-8671)
        (
            HELLO + b"".join(get(2 * n + 1, b"/slow") + frame(WINDOW, 0, 2 * n + 1, bytes(4)) for n in range(1_100)),
            Code.ENHANCE_YOUR_CALM,
        ),
        (HELLO + b"".join(get(2 * n + 1, b"/hit", (b"te", b"x")) for n in range(1_100)), Code.ENHANCE_YOUR_CALM),
        (HELLO + b"".join(get(2 * n + 1, b"/slow") for n in range(1_100)), Code.ENHANCE_YOUR_CALM),
    ],
)
def test_connection_errors(sent: bytes, code: Code) -> None:
    rig = Rig()
    rig.feed(sent)
    assert rig.goaway is code
    assert rig.transport.closed
    assert len(rig.of(GOAWAY)) == 1
    assert all(task.cancelled for task in rig.loop.tasks)
    rig.feed(GET_1)  # into the void


LENGTH = (b"content-length", b"5")
UP = frame(HEADERS, END_HEADERS, 1, block(b"/up", LENGTH, method=b"POST"))


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (get(1, b"/hit", (b"Upper", b"x")), Code.PROTOCOL_ERROR),
        (get(1, b"/hit", (b"connection", b"close")), Code.PROTOCOL_ERROR),
        (get(1, b"/hit", (b"x", b"a\r\nb: c")), Code.PROTOCOL_ERROR),
        (get(1, b"/hit", LENGTH), Code.PROTOCOL_ERROR),
        (UP + frame(DATA, END, 1, b"1234"), Code.PROTOCOL_ERROR),
        (UP + frame(DATA, 0, 1, b"123456"), Code.PROTOCOL_ERROR),
        (UP + frame(DATA, 0, 1, b"123") + frame(HEADERS, WHOLE, 1, encode_field(b"x", b"y")), Code.PROTOCOL_ERROR),
        (POST + frame(HEADERS, END_HEADERS, 1, encode_field(b"x", b"y")), Code.PROTOCOL_ERROR),
        (POST + frame(HEADERS, WHOLE, 1, encode_field(b":path", b"y")), Code.PROTOCOL_ERROR),
        (POST + frame(HEADERS, WHOLE, 1, encode_field(b"X", b"y")), Code.PROTOCOL_ERROR),
        (SLOW_1 + frame(DATA, 0, 1, b"x"), Code.STREAM_CLOSED),
        (SLOW_1 + frame(HEADERS, WHOLE, 1, encode_field(b"x", b"y")), Code.STREAM_CLOSED),
        (SLOW_1 + frame(WINDOW, 0, 1, b"\0\0\0\0"), Code.PROTOCOL_ERROR),
        (SLOW_1 + frame(WINDOW, 0, 1, b"\x7f\xff\xff\xff"), Code.FLOW_CONTROL_ERROR),
        (POST + frame(DATA, 0, 1, b"x" * 16_384) * 17, Code.FLOW_CONTROL_ERROR),
        (GET_1 + frame(DATA, 0, 1, b"x"), Code.STREAM_CLOSED),
    ],
)
def test_stream_errors(sent: bytes, code: Code) -> None:
    rig = Rig()
    rig.feed(HELLO + sent)
    assert rig.resets == [(1, code)]
    assert rig.goaway is None
    assert all(task.cancelled for task in rig.loop.tasks)
    # What was under way when the reset was sent is ignored, and the connection goes on.
    rig.feed(frame(DATA, 0, 1, b"late") + frame(WINDOW, 0, 1, b"\0\0\0\1") + frames.reset(1, Code.CANCEL))
    rig.feed(frame(HEADERS, WHOLE, 1, encode_field(b"x", b"y")) + get(3))
    assert rig.resets == [(1, code)]
    assert rig.goaway is None
    assert (3, "200") in rig.statuses


@pytest.mark.parametrize(
    "sent",
    [
        frame(PRIORITY, 0, 7, b"\0\0\0\1\0") + GET_1,
        frame(0x42, 0xFF, 0, b"unknown") + frame(0x42, 0xFF, 1, b"") + GET_1,
        frame(SETTINGS, 0, 0, b"\0\x99\0\0\0\1") + GET_1,
        frame(HEADERS, WHOLE | PADDED, 1, b"\x03" + block() + bytes(3)),
        frame(HEADERS, WHOLE | frames.HAS_PRIORITY, 1, b"\x80\0\0\0\x10" + block()),
        frame(HEADERS, END, 1, b"") + frame(CONTINUATION, 0, 1, block()) + frame(CONTINUATION, END_HEADERS, 1, b""),
        frame(HEADERS, END, 1, block()[:3]) + frame(CONTINUATION, END_HEADERS, 1, block()[3:]),
        frames.FRAME.pack(0, len(block()), HEADERS, WHOLE, 0x8000_0001) + block(),  # the reserved bit
        frame(PING, frames.ACK, 0, b"12345678") + GET_1,
        GET_1 + frame(WINDOW, 0, 1, b"\0\0\0\1") + frames.reset(1, Code.CANCEL),
    ],
)
def test_what_is_taken(sent: bytes) -> None:
    rig = Rig()
    rig.feed(HELLO + sent)
    assert rig.goaway is None
    assert rig.resets == []
    assert rig.statuses == [(1, "200")]
    assert rig.of(DATA) == [(DATA, END, 1, b"hit")]


REFUSED = frame(HEADERS, END_HEADERS, 1, block(b"/up#", method=b"POST"))


@pytest.mark.parametrize(
    "rest",
    [
        frame(DATA, END, 1, b"x"),
        frame(DATA, 0, 1, b"x") + frame(HEADERS, WHOLE, 1, encode_field(b"x", b"y")),
        frames.reset(1, Code.CANCEL),
    ],
)
def test_a_request_that_goes_on_after_its_answer(rest: bytes) -> None:
    rig = Rig()
    rig.feed(HELLO + REFUSED)
    assert rig.statuses == [(1, "400")]
    rig.feed(frames.window_update(1, 5) + rest + frame(DATA, 0, 1, b"x"))
    assert rig.resets == [(1, Code.STREAM_CLOSED)]
    assert rig.goaway is None


def test_a_request_that_goes_on_too_long_after_its_answer() -> None:
    rig = Rig()
    rig.feed(HELLO + REFUSED + frame(DATA, 0, 1, b"x"))
    rig.connection.check(rig.server.ticker.now + 1)
    assert rig.resets == []
    rig.connection.check(rig.server.ticker.now + 3)
    rig.loop.settle()
    assert rig.resets == [(1, Code.NO_ERROR)]
    rig.feed(frame(DATA, 0, 1, b"x"))
    assert rig.resets == [(1, Code.NO_ERROR)]


def test_ping() -> None:
    rig = Rig()
    rig.feed(HELLO + frame(PING, 0, 0, b"\0\1\2\3\4\5\6\7"))
    assert rig.of(PING) == [(PING, frames.ACK, 0, b"\0\1\2\3\4\5\6\7")]


def test_control_frames_that_requests_explain() -> None:
    rig = Rig()
    rig.feed(HELLO)
    for number in range(3_000):
        rig.feed(get(2 * number + 1) + frame(WINDOW, 0, 0, b"\0\0\0\3") * 2 + frame(PING, 0, 0, b"12345678"))
    assert rig.goaway is None


def test_more_streams_than_allowed() -> None:
    rig = Rig()
    rig.feed(HELLO + b"".join(get(2 * number + 1, b"/slow") for number in range(6)))
    assert rig.resets == [(9, Code.REFUSED_STREAM), (11, Code.REFUSED_STREAM)]
    assert len(rig.loop.tasks) == 4
    rig.feed(frames.reset(1, Code.CANCEL) + get(13, b"/slow"))
    assert len(rig.loop.tasks) == 5
    assert rig.loop.tasks[0].cancelled == 1


def test_a_large_prebuilt_answer_waits_for_windows() -> None:
    rig = Rig()
    rig.feed(frames.PREFACE + frames.settings([(frames.INITIAL_WINDOW_SIZE, 10_000)]) + get(1, b"/large"))
    assert [len(payload) for *_, payload in rig.of(DATA)] == [10_000]
    rig.feed(frames.window_update(1, 20_000))
    assert [len(payload) for *_, payload in rig.of(DATA)] == [10_000, 16_384, 3_616]
    rig.feed(frames.settings([(frames.INITIAL_WINDOW_SIZE, 20_000)]))
    assert sum(len(payload) for *_, payload in rig.of(DATA)) == 40_000
    assert rig.of(DATA)[-1][1] == END
    rig.feed(get(3, b"/large") + get(5, b"/large"))
    assert sum(len(payload) for *_, payload in rig.of(DATA)) == 65_535  # the connection's
    rig.feed(frames.window_update(0, 1_000))
    assert sum(len(payload) for *_, payload in rig.of(DATA)) == 66_535


def test_data_that_nobody_reads_comes_back_to_the_connection() -> None:
    rig = Rig()
    rig.feed(HELLO)
    for number in range(20):
        stream_id = 2 * number + 1
        up = frame(HEADERS, END_HEADERS, stream_id, block(b"/up", method=b"POST"))
        rig.feed(up + frame(DATA, 0, stream_id, b"x" * 16_000) * 4 + frames.reset(stream_id, Code.CANCEL))
        rig.feed(frame(DATA, 0, stream_id, b"x") if number < 0 else b"")
    given = sum(int.from_bytes(payload, "big") for _, _, stream_id, payload in rig.of(WINDOW) if stream_id == 0)
    assert given > 20 * 64_000 - 524_288
    assert rig.goaway is None


def test_reading_pauses_while_writing_is_paused() -> None:
    rig = Rig()
    rig.feed(HELLO)
    rig.connection.pause_writing()
    written = rig.transport.written
    rig.feed(GET_1)
    rig.feed(get(3))
    assert rig.transport.written == written
    rig.connection.resume_writing()
    assert rig.statuses == [(1, "200"), (3, "200")]
    assert rig.transport.reading


def test_a_long_read_is_taken_in_turns() -> None:
    rig = Rig()
    rig.feed(HELLO)
    rig.connection.data_received(b"".join(get(2 * number + 1) for number in range(3_000)))
    assert len(rig.of(HEADERS)) < 3_000
    assert not rig.transport.reading
    rig.loop.settle()
    assert len(rig.of(HEADERS)) == 3_000
    assert rig.transport.reading


def test_goaway_of_the_client() -> None:
    rig = Rig()
    rig.feed(HELLO + SLOW_1 + frames.goaway(0, Code.NO_ERROR))
    assert not rig.transport.closed
    rig.feed(frames.reset(1, Code.CANCEL))
    assert rig.transport.closed
    assert rig.goaway is Code.NO_ERROR


def test_drain() -> None:
    rig = Rig()
    rig.feed(HELLO + SLOW_1)
    rig.connection.close_if_idle()
    rig.loop.settle()
    assert frames.read_goaway(rig.of(GOAWAY)[-1][3]) == (2**31 - 1, 0)
    ((_, _, _, opaque),) = rig.of(PING)
    rig.feed(get(3))  # had been under way
    assert rig.statuses == [(3, "200")]
    rig.feed(frame(PING, frames.ACK, 0, opaque))
    assert frames.read_goaway(rig.of(GOAWAY)[-1][3]) == (3, 0)
    rig.feed(get(5) + frame(DATA, 0, 5, b""))  # too late: not answered
    assert rig.goaway is Code.NO_ERROR
    assert not rig.transport.closed
    rig.feed(frames.reset(1, Code.CANCEL))
    assert rig.transport.closed


# A script of frames, good and bad.
PIECES = st.sampled_from(
    [
        get(1),
        get(3),
        get(5),
        get(7, b"/slow"),
        get(9, b"/slow", (b"te", b"x")),
        frame(HEADERS, END_HEADERS, 11, block(b"/up", LENGTH, method=b"POST")),
        frame(DATA, 0, 11, b"123"),
        frame(DATA, END | PADDED, 11, b"\1" + b"45" + b"\0"),
        frame(HEADERS, END, 13, block()[:4]),
        frame(CONTINUATION, END_HEADERS, 13, block()[4:]),
        frame(PING, 0, 0, b"12345678"),
        frames.settings([(frames.HEADER_TABLE_SIZE, 0)]),
        frames.settings([(frames.INITIAL_WINDOW_SIZE, 1_000)]),
        frames.window_update(0, 5),
        frames.window_update(7, 5),
        frames.reset(7, Code.CANCEL),
        frame(PRIORITY, 0, 5, b"\0\0\0\1\0"),
        frame(0x77, 3, 3, b"unknown"),
        frame(HEADERS, WHOLE, 15, encode_field(b":method", b"GET") + b"\x40\x01a\x01b"),
        frame(HEADERS, WHOLE, 17, b"\xbe"),
    ]
)


@given(st.lists(PIECES, max_size=12), st.lists(st.integers(1, 40), min_size=1, max_size=10))
def test_any_cut_says_the_same(pieces: list[bytes], cuts: list[int]) -> None:
    script = HELLO + b"".join(pieces)
    whole, cut = Rig(), Rig()
    whole.feed(script)
    at = 0
    while at < len(script):
        for size in cuts:
            cut.feed(script[at : at + size])
            at += size
    assert cut.transport.written == whole.transport.written
    assert cut.transport.closed == whole.transport.closed
    assert len(cut.loop.tasks) == len(whole.loop.tasks)


ANY_FRAME = st.builds(
    frame,
    st.integers(0, 12),
    st.integers(0, 255),
    st.integers(0, 9),
    st.one_of(st.binary(max_size=40), st.just(block()), st.just(block(b"/slow", method=b"PUT")), st.just(bytes(4))),
)


@settings(max_examples=400)
@given(st.lists(st.one_of(ANY_FRAME, PIECES, st.binary(max_size=12)), max_size=20))
def test_garbage_ends_in_goaway_at_worst(pieces: list[bytes]) -> None:
    rig = Rig()
    rig.feed(HELLO)
    for piece in pieces:
        rig.feed(piece)
    rig.connection.check(rig.server.ticker.now)
    if rig.transport.closed:
        assert rig.goaway is not None
        assert rig.frames()[-1][0] == GOAWAY
    rig.connection.connection_lost(None)
    assert all(task.cancelled for task in rig.loop.tasks)


@pytest.mark.parametrize("size", [10, 16_384, 1_000_000])
def test_a_prebuilt_answer_that_lies_in_a_file(tmp_path: Path, size: int) -> None:
    data = bytes(range(250)) * (size // 250 + 1)
    (tmp_path / "body").write_bytes(data)
    with (tmp_path / "body").open("rb") as file:
        rig = Rig()
        rig.connection._instant = lambda *_: (
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size,
            FileBody(file, 5, size),
        )
        rig.feed(HELLO + frames.window_update(0, 2**30) + frames.settings([(frames.INITIAL_WINDOW_SIZE, 2**30)]))
        rig.feed(get(1))
        assert b"".join(payload for *_, payload in rig.of(DATA)) == data[5 : 5 + size]
        assert rig.of(DATA)[-1][1] == END


def test_a_file_that_is_shorter_than_it_was(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"x" * 100_000)
    with (tmp_path / "body").open("rb") as file:
        rig = Rig()
        rig.connection._instant = lambda *_: (b"HTTP/1.1 200 OK\r\n\r\n", FileBody(file, 0, 100_001))
        rig.feed(HELLO + frames.window_update(0, 2**30) + frames.settings([(frames.INITIAL_WINDOW_SIZE, 2**30)]))
        rig.feed(get(1))
        assert rig.resets == [(1, Code.INTERNAL_ERROR)]
        assert rig.goaway is None
