"""The state of one HTTP/2 connection: what is written, what is given back, how streams and the connection end.

Both halves build on it: `http2_intake` reads frames, `http2` answers requests.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import structlog

from nearpoint.wire import http2_frames as frames
from nearpoint.wire.exchange import RequestBodyError
from nearpoint.wire.http2_fields import Head
from nearpoint.wire.http2_flow import Sender
from nearpoint.wire.http2_frames import END_HEADERS, HEADERS, Code, ConnectionFault
from nearpoint.wire.http2_hpack import SIZE_ZERO, Decoder, encode_field
from nearpoint.wire.http2_streams import (
    CONNECTION_WINDOW_BYTES,
    STREAM_WINDOW_BYTES,
    Budget,
    FlowBody,
    State,
    Stream,
)
from nearpoint.wire.limits import LINGER_S
from nearpoint.wire.message import Peer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearpoint.wire.inbound import InboundBody
    from nearpoint.wire.server import Server

log = structlog.get_logger("nearpoint.wire")

WRITE_HIGH_BYTES = 262_144
_RESETS_REMEMBERED_MAX = 256
_CONTINUE = encode_field(b":status", b"100")
DRAIN_PING = b"draining"
_DRAIN_PING_S = 1.0

# Frames that carry no request and no data: so many at once and each second, and more when requests or DATA explain
# them (two WINDOW_UPDATE a DATA frame are usual).
_CONTROL_AT_ONCE, _CONTROL_PER_S = 2_000, 200
# Streams that end before their answer: reset by the peer (CVE-2023-44487), or by us for what the peer did
# (CVE-2025-8671), or refused.
_RESETS_AT_ONCE, _RESETS_PER_S = 1_000, 100


class Http2Core(asyncio.Protocol):
    """What reading and answering share."""

    __slots__ = (
        "_block",
        "_block_flags",
        "_block_since",
        "_block_stream",
        "_closing",
        "_continuations",
        "_control",
        "_deaf",
        "_decoder",
        "_draining_since",
        "_explained",
        "_final",
        "_flush_due",
        "_greeted",
        "_instant",
        "_last_id",
        "_leaving",
        "_list_bytes_max",
        "_lost",
        "_memo",
        "_opened",
        "_parsing",
        "_partial_since",
        "_prefix",
        "_read_paused",
        "_reset_ids",
        "_resets",
        "_rest",
        "_returned_bytes",
        "_sender",
        "_server",
        "_settled",
        "_since",
        "_streams",
        "_tasks",
        "_transport",
        "_turn_due",
        "_unsent_bytes",
        "_window",
        "_write_paused",
        "_write_since",
        "peer",
    )

    def __init__(self, server: Server) -> None:
        now = server.ticker.now
        limits = server.limits
        self._server = server
        self._instant = server.instant
        self._transport: Any = None
        self.peer = Peer("", "http")
        # input
        self._rest = b""
        self._partial_since = now
        self._greeted = False
        self._settled = False  # the peer's first SETTINGS have come
        self._parsing = False
        self._turn_due = False
        self._read_paused = False
        self._deaf = False  # input is dropped
        self._lost = False
        # header blocks
        self._decoder = Decoder()
        self._memo: dict[bytes, Head] = {}
        self._list_bytes_max = 2 * (limits.headers_bytes_max + limits.request_line_bytes_max)
        self._block: list[bytes] = []
        self._block_stream = 0  # whose block goes on in CONTINUATION
        self._block_flags = 0
        self._block_since = 0.0
        self._continuations = 0
        # streams
        self._streams: dict[int, Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_id = 0
        self._reset_ids: dict[int, None] = {}
        self._window = CONNECTION_WINDOW_BYTES
        self._returned_bytes = 0
        # output
        self._sender = Sender()
        self._prefix = SIZE_ZERO  # before the next header block
        self._flush_due = False
        self._write_paused = False
        self._write_since = 0.0
        self._unsent_bytes = 0
        # the end
        self._since = now  # the last request began, or ended
        self._opened = 0
        self._explained = 0
        self._control = Budget(_CONTROL_AT_ONCE, _CONTROL_PER_S)
        self._resets = Budget(_RESETS_AT_ONCE, _RESETS_PER_S)
        self._draining_since: float | None = None
        self._final: int | None = None  # the last stream that is answered, once the peer has been told
        self._leaving = False  # the peer opens no more streams
        self._closing = False

    # --- output

    def _flush_soon(self) -> None:
        """Write after everything else that is ready to run, together with what that brings."""
        if not self._parsing and not self._flush_due:
            self._flush_due = True
            self._server.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        sender = self._sender
        while not self._write_paused and not self._lost:
            sender.pump(WRITE_HIGH_BYTES, self._server.ticker.now)
            if sender.finished or sender.broken:
                self._settle()
            if not sender.out:
                break
            self._transport.write(sender.take())

    def _settle(self) -> None:
        broken, self._sender.broken = self._sender.broken, []
        for stream in broken:
            log.warning("response cut short", error="its file ended before its time")
            self._reset(stream.id, Code.INTERNAL_ERROR, counted=False)
        finished, self._sender.finished = self._sender.finished, []
        for stream in finished:
            if stream.state is State.OPEN:
                stream.state = State.HALF_CLOSED_LOCAL
                stream.since = self._server.ticker.now
                self._open_stream_window(stream, STREAM_WINDOW_BYTES - stream.receive_window)
            elif stream.live:
                self._close_stream(stream, State.CLOSED)

    def _pace(self) -> None:
        """Read from the socket exactly when what arrives can be taken."""
        pause = not self._deaf and (self._write_paused or self._turn_due)
        if pause != self._read_paused and not self._lost:
            self._read_paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    # --- windows that are given back to the peer

    def consumed(self, stream: Stream, size: int) -> None:
        self.dropped(size)
        if stream.state is State.OPEN or stream.state is State.HALF_CLOSED_LOCAL:
            stream.returned_bytes += size
            if stream.returned_bytes >= STREAM_WINDOW_BYTES // 2:
                self._open_stream_window(stream, stream.returned_bytes)

    def _open_stream_window(self, stream: Stream, credit: int) -> None:
        stream.returned_bytes = 0
        if credit:
            stream.receive_window += credit
            self._sender.out.append(frames.window_update(stream.id, credit))
            self._flush_soon()

    def dropped(self, size: int) -> None:
        self._returned_bytes += size
        if self._returned_bytes >= CONNECTION_WINDOW_BYTES // 2 and not self._deaf:
            self._window += self._returned_bytes
            self._sender.out.append(frames.window_update(0, self._returned_bytes))
            self._returned_bytes = 0
            self._flush_soon()

    def body_wanted(self, body: InboundBody) -> None:
        assert isinstance(body, FlowBody)
        stream = body.stream
        stream.since = self._server.ticker.now
        if stream.expects_continue:
            stream.expects_continue = False
            if not stream.received_bytes and not stream.head_sent and stream.live:
                block, self._prefix = self._prefix + _CONTINUE, b""
                self._sender.out.append(frames.frame(HEADERS, END_HEADERS, stream.id, block))
                self._flush_soon()

    def body_full(self, body: InboundBody) -> None:
        return None  # the window says so to the peer

    def body_drained(self, body: InboundBody) -> None:
        return None

    def body_closed(self, body: InboundBody) -> None:
        return None

    # --- the end of a stream, and of the connection

    def _reset(self, stream_id: int, code: Code, *, counted: bool = True) -> None:
        """End a stream from this side. Raises ConnectionFault when the peer has made that necessary too often."""
        self._sender.out.append(frames.reset(stream_id, code))
        self._reset_ids[stream_id] = None
        if len(self._reset_ids) > _RESETS_REMEMBERED_MAX:
            del self._reset_ids[next(iter(self._reset_ids))]
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._close_stream(stream, State.RESET)
        self._flush_soon()
        if counted:
            self._count_reset()

    def _count_reset(self) -> None:
        if not self._resets.spend(self._server.ticker.now):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many streams that end before their answer")

    def _close_stream(self, stream: Stream, state: State) -> None:
        self._streams.pop(stream.id, None)
        stream.state = state
        self._sender.drop(stream)
        if stream.body is not None:
            stream.body.abandon(RequestBodyError(400, "the client went away"))
        task = stream.task
        if task is not None and task is not asyncio.current_task(self._server.loop):
            task.cancel()
        stream.wake()
        self._since = self._server.ticker.now
        self._close_if_done()

    def _close_if_done(self) -> None:
        if not self._streams and (self._leaving or self._final is not None) and not self._deaf:
            if self._parsing or self._sender.out:
                self._server.loop.call_soon(self._close_if_still_done)
            else:
                self._end(Code.NO_ERROR, "")

    def _close_if_still_done(self) -> None:
        if not self._streams and not self._lost and not self._deaf:
            self._end(Code.NO_ERROR, "")

    def _end(self, code: Code, reason: str) -> None:
        """Say GOAWAY and close."""
        if self._deaf:
            return
        self._deaf = True
        self._rest = b""
        if code is not Code.NO_ERROR:
            log.info("connection ended", peer=self.peer.ip, code=code.name, reason=reason)
        for stream in list(self._streams.values()):
            self._close_stream(stream, State.RESET)
        self._sender.out.append(frames.goaway(self._last_id if self._final is None else self._final, code, reason))
        self._transport.write(self._sender.take())
        self._since = self._server.ticker.now
        self._closing = True
        self._pace()
        # What has been written must reach a peer that is still sending, so no reset where it can be helped.
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def _draw_the_line(self) -> None:
        """Whatever the peer opened before it heard of the drain has arrived: nothing after it is answered."""
        if self._final is None and not self._deaf:
            self._final = self._last_id
            self._sender.out.append(frames.goaway(self._final, Code.NO_ERROR))
            self._flush_soon()
            self._close_if_done()

    # --- the server's side

    @property
    def tasks(self) -> Sequence[asyncio.Task[None]]:
        """The handlers under way."""
        return list(self._tasks)

    def close_if_idle(self) -> None:
        """Begin to drain (RFC 9113 §6.8): announce it, wait one round trip, finish what has come."""
        if self._draining_since is None and not self._deaf:
            self._draining_since = self._server.ticker.now
            self._sender.out.append(frames.goaway(frames.STREAM_MAX, Code.NO_ERROR))
            self._sender.out.append(frames.frame(frames.PING, 0, 0, DRAIN_PING))
            self._flush_soon()

    def kill(self) -> None:
        """Close whatever is under way."""
        for task in self._tasks:
            task.cancel()
        if not self._lost:
            self._deaf = True
            self._transport.abort()

    def check(self, now: float) -> None:
        """Enforce the time-outs; called by the server's coarse clock."""
        limits = self._server.limits
        if self._lost:
            return
        if self._write_paused:
            unsent = self._transport.get_write_buffer_size()
            if unsent < self._unsent_bytes:
                self._write_since = now
            elif now - self._write_since > limits.write_timeout_s:
                self.kill()
            self._unsent_bytes = unsent
            return
        if self._closing:
            unsent = self._transport.get_write_buffer_size()
            if now - self._since > (limits.write_timeout_s if unsent else LINGER_S):
                self._transport.abort()  # what is left to be sent is not being taken
            return
        if self._draining_since is not None and now - self._draining_since > _DRAIN_PING_S:
            self._draw_the_line()
        if self._block_stream:
            if now - self._block_since > limits.header_timeout_s:
                self._end(Code.ENHANCE_YOUR_CALM, "the header block took too long")
        elif not self._settled:
            if now - self._since > limits.header_timeout_s:
                self._end(Code.PROTOCOL_ERROR, "no preface")
        elif self._rest and now - self._partial_since > self._frame_timeout_s():
            self._end(Code.ENHANCE_YOUR_CALM, "a frame took too long")
        elif not self._streams:
            if now - self._since > limits.idle_timeout_s:
                self._end(Code.NO_ERROR, "idle")
        else:
            self._check_streams(now)

    def _frame_timeout_s(self) -> float:
        limits = self._server.limits
        data = len(self._rest) > 3 and self._rest[3] == frames.DATA
        return limits.body_timeout_s if data else limits.header_timeout_s

    def _check_streams(self, now: float) -> None:
        limits = self._server.limits
        for stream in list(self._streams.values()):
            waited_s = now - stream.since
            body = stream.body
            if stream.state is State.HALF_CLOSED_LOCAL:
                if waited_s > LINGER_S:
                    self._reset(stream.id, Code.NO_ERROR, counted=False)
            elif stream.pending:
                if waited_s > limits.write_timeout_s:
                    self._reset(stream.id, Code.CANCEL, counted=False)
            elif body is not None and body.awaited and not body.ended and waited_s > limits.body_timeout_s:
                body.fail(RequestBodyError(408, "the body stopped arriving"))
