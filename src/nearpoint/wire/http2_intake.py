"""The reading half of an HTTP/2 connection: bytes to frames, frames to requests and to parts of their bodies.

From top to bottom of this file:
1. `data_received` cuts the input into frames; a request whose header block is known opens its stream right there;
2. header blocks are put together and decoded, whatever becomes of them, and open a stream or end one;
3. DATA is handed over as it is consumed, and only then may the peer send as much again;
4. the rest of the frames.
What costs a peer little and this end much has a budget; who exceeds it is told to calm down and leaves.
"""

from __future__ import annotations

import traceback

import structlog

from nearpoint.wire import http2_frames as frames
from nearpoint.wire.http2_core import DRAIN_PING, WRITE_HIGH_BYTES, Http2Core
from nearpoint.wire.http2_fields import Head, MalformedError, check_trailers, read_request
from nearpoint.wire.http2_frames import (
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES_MAX,
    HEADER_BYTES,
    HEADERS,
    Code,
    ConnectionFault,
)
from nearpoint.wire.http2_hpack import SIZE_ZERO
from nearpoint.wire.http2_streams import TABLE, State, Stream, Verdict, reset_code
from nearpoint.wire.message import BodyTooLargeError

log = structlog.get_logger("nearpoint.wire")

_TURN_FRAMES = 1_024  # taken from one read event before other connections have their turn
_WHOLE = END_HEADERS | END_STREAM  # a request in one frame, as nearly all are
_MEMO_MAX = 256
_MEMO_BLOCK_BYTES_MAX = 2_048
_CONTINUATIONS_MAX = 128
_CONTROL_EARNED = 4  # frames that a request or a DATA frame of ours explains


class Http2Intake(Http2Core):
    """Reads frames from one connection."""

    __slots__ = ()

    # --- what the other half does

    def _open(self, stream_id: int, head: Head, *, complete: bool) -> None:
        """A request has come; `complete` when it has no body."""
        raise NotImplementedError

    # --- 1. bytes

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        if self._rest:
            self._rest += data
        else:
            self._rest = data
            self._partial_since = self._server.ticker.now
        if not (self._write_paused or self._turn_due):
            self._parse()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._write_paused = True
        self._write_since = self._server.ticker.now
        self._unsent_bytes = self._transport.get_write_buffer_size()

    def resume_writing(self) -> None:
        self._write_paused = False
        if not self._parsing:
            self._go_on()

    def _go_on(self) -> None:
        """Write what waits, and take in what waits, as far as there is room."""
        self._turn_due = False
        if self._lost:
            return
        self._flush()
        if self._rest and not self._write_paused and not self._deaf:
            self._parse()
        else:
            self._pace()

    def _parse(self) -> None:
        data = self._rest
        self._parsing = True
        try:
            taken = self._frames(data)
        except ConnectionFault as fault:
            self._parsing = False
            self._end(fault.code, fault.reason)
            return
        except Exception:
            self._parsing = False
            log.error("connection failed", error=traceback.format_exc())
            self._end(Code.INTERNAL_ERROR, "")
            return
        self._parsing = False
        if taken:
            self._rest = data[taken:]
            self._partial_since = self._server.ticker.now
        self._flush()
        self._pace()

    def _frames(self, data: bytes) -> int:
        """Take frames; returns how many bytes that were."""
        at = 0
        end = len(data)
        if not self._greeted:
            if not data.startswith(frames.PREFACE):
                if frames.PREFACE.startswith(data):
                    return 0
                raise ConnectionFault(Code.PROTOCOL_ERROR, "no preface of HTTP/2")
            self._greeted = True
            at = len(frames.PREFACE)
        unpack = frames.FRAME.unpack_from
        memo = self._memo
        sender = self._sender
        high: int
        low: int
        kind: int
        flags: int
        stream_id: int
        for _ in range(_TURN_FRAMES):
            payload_at = at + HEADER_BYTES
            if payload_at > end:
                return at
            high, low, kind, flags, stream_id = unpack(data, at)
            stop = payload_at + (high << 8 | low)
            if stop > end:
                if high << 8 | low > FRAME_BYTES_MAX:
                    raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame that is too large")
                return at
            payload = data[payload_at:stop]
            at = stop
            if kind == HEADERS and flags == _WHOLE and self._last_id < stream_id < 2**31 and not self._block_stream:
                head = memo.get(payload)
                if head is not None and stream_id & 1 and self._settled:
                    self._open(stream_id, head, complete=True)
                else:
                    self._take(kind, flags, stream_id, payload)
            else:
                self._take(kind, flags, stream_id & frames.STREAM_MAX, payload)
            if sender.out_bytes >= WRITE_HIGH_BYTES:
                self._flush()
            if self._write_paused or self._deaf:
                return at
        if not self._turn_due and at < end:
            self._turn_due = True
            self._server.loop.call_soon(self._go_on)
        return at

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if len(payload) > FRAME_BYTES_MAX:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "a frame that is too large")
        if self._block_stream and (kind != CONTINUATION or stream_id != self._block_stream):
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a header block that is broken off")
        if not self._settled and kind != frames.SETTINGS:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
        if kind == HEADERS:
            self._on_headers(flags, stream_id, payload)
        elif kind == frames.DATA:
            self._on_data(flags, stream_id, payload)
        elif kind == CONTINUATION:
            self._on_continuation(flags, payload)
        else:
            self._explain()
            if not self._control.spend(self._server.ticker.now):
                raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many frames that carry nothing")
            self._on_control(kind, flags, stream_id, payload)

    def _explain(self) -> None:
        useful = self._opened + self._sender.data_frames
        self._control.earn((useful - self._explained) * _CONTROL_EARNED)
        self._explained = useful

    # --- 2. header blocks

    def _on_headers(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id & 1:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a request on a stream that is not the client's")
        if flags & (frames.PADDED | frames.HAS_PRIORITY):
            payload = frames.content(flags, payload, stream_id)
        if flags & END_HEADERS:
            self._on_block(stream_id, payload, complete=bool(flags & END_STREAM))
            return
        self._block = [payload]
        self._block_stream = stream_id
        self._block_flags = flags
        self._block_since = self._server.ticker.now
        self._continuations = 0

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        if not self._block_stream:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        self._block.append(payload)
        self._continuations += 1
        # Looked at before the end: a block without one must not be collected (CVE-2024-27316).
        if self._continuations > _CONTINUATIONS_MAX or sum(map(len, self._block)) > self._list_bytes_max:
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "a header block without end")
        if flags & END_HEADERS:
            stream_id, block = self._block_stream, b"".join(self._block)
            self._block_stream = 0
            self._block = []
            self._on_block(stream_id, block, complete=bool(self._block_flags & END_STREAM))

    def _on_block(self, stream_id: int, block: bytes, *, complete: bool) -> None:
        decoder = self._decoder
        changes = decoder.changes
        fields = decoder.decode(block, self._list_bytes_max)
        if decoder.changes != changes:
            self._memo.clear()
        state = self._state(stream_id)
        if self._refused(TABLE[state, HEADERS], stream_id):
            return
        if state is not State.IDLE:
            self._on_trailers(self._streams[stream_id], fields, complete=complete)
            return
        try:
            head = read_request(fields, self.peer.scheme, self._server.limits)
        except MalformedError as error:
            self._last_id = stream_id
            log.info("malformed request", peer=self.peer.ip, reason=str(error))
            self._reset(stream_id, Code.PROTOCOL_ERROR)
            return
        if decoder.changes == changes and complete and len(block) <= _MEMO_BLOCK_BYTES_MAX:
            if len(self._memo) >= _MEMO_MAX:
                self._memo.clear()
            self._memo[block] = head
        self._open(stream_id, head, complete=complete)

    def _on_trailers(self, stream: Stream, fields: list[tuple[bytes, bytes]], *, complete: bool) -> None:
        try:
            if not complete:
                raise MalformedError("trailers that are not the end")
            check_trailers(fields)
            self._request_ended(stream)
        except MalformedError:
            self._reset(stream.id, Code.PROTOCOL_ERROR)

    def _state(self, stream_id: int) -> State:
        stream = self._streams.get(stream_id)
        if stream is not None:
            return stream.state
        if stream_id > self._last_id:
            return State.IDLE
        return State.RESET if stream_id in self._reset_ids else State.CLOSED

    def _refused(self, verdict: Verdict, stream_id: int) -> bool:
        """Act on a verdict; False: the frame is to be taken."""
        if verdict is Verdict.TAKE:
            return False
        if verdict is Verdict.STREAM_CLOSED:
            self._reset(stream_id, Code.STREAM_CLOSED)
        elif verdict is not Verdict.IGNORE:
            raise ConnectionFault(reset_code(verdict), f"a frame that stream {stream_id} can't have now")
        return True

    # --- 3. request bodies

    def _on_data(self, flags: int, stream_id: int, payload: bytes) -> None:
        size = len(payload)
        if not stream_id:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "DATA on stream 0")
        self._window -= size
        if self._window < 0:
            raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "more DATA than the connection's window")
        data = frames.content(flags & frames.PADDED, payload, stream_id)
        if not data and not flags & END_STREAM and not self._control.spend(self._server.ticker.now):
            raise ConnectionFault(Code.ENHANCE_YOUR_CALM, "too many empty DATA frames")
        if self._refused(TABLE[self._state(stream_id), frames.DATA], stream_id):
            self.dropped(size)
            return
        stream = self._streams[stream_id]
        stream.receive_window -= size
        if stream.receive_window < 0:
            self.dropped(size)
            self._reset(stream_id, Code.FLOW_CONTROL_ERROR)
            return
        if size > len(data):
            self.consumed(stream, size - len(data))
        stream.received_bytes += len(data)
        if stream.live:
            stream.since = self._server.ticker.now
        body = stream.body
        most = self._server.limits.body_bytes_max
        declared = stream.head.length
        if declared is not None and stream.received_bytes > declared:
            self.dropped(len(data))
            self._reset(stream_id, Code.PROTOCOL_ERROR)
            return
        if stream.state is State.HALF_CLOSED_LOCAL:
            self.consumed(stream, len(data))
        elif body is None or body.closed or body.ended:
            self.dropped(len(data))
        elif most is not None and stream.received_bytes > most:
            self.dropped(len(data))
            body.fail(BodyTooLargeError(f"more than {most} bytes"))
        elif data:
            body.feed(data)
        if flags & END_STREAM:
            try:
                self._request_ended(stream)
            except MalformedError:
                self._reset(stream_id, Code.PROTOCOL_ERROR)

    def _request_ended(self, stream: Stream) -> None:
        declared = stream.head.length
        if declared is not None and declared != stream.received_bytes:
            raise MalformedError("a body that is not as long as declared")
        if stream.state is State.HALF_CLOSED_LOCAL:
            self._close_stream(stream, State.CLOSED)
            return
        stream.state = State.HALF_CLOSED_REMOTE
        if stream.body is not None:
            stream.body.end()

    # --- 4. other frames

    def _on_control(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind == frames.WINDOW_UPDATE:
            self._on_window_update(stream_id, payload)
        elif kind == frames.RST_STREAM:
            frames.read_long(payload)
            if not stream_id:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "RST_STREAM on stream 0")
            if not self._refused(TABLE[self._state(stream_id), kind], stream_id):
                self._close_stream(self._streams[stream_id], State.CLOSED)
                self._count_reset()
        elif kind == frames.PRIORITY:
            if len(payload) != 5:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PRIORITY is five bytes")
            if not stream_id:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "PRIORITY on stream 0")
            frames.content(frames.HAS_PRIORITY, payload, stream_id)
        elif kind in (frames.SETTINGS, frames.PING, frames.GOAWAY):
            if stream_id:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "a frame of the connection on a stream")
            if kind == frames.SETTINGS:
                self._on_settings(flags, payload)
            elif kind == frames.PING:
                self._on_ping(flags, payload)
            else:
                frames.read_goaway(payload)
                self._leaving = True
                self._close_if_done()
        elif kind == frames.PUSH_PROMISE:
            raise ConnectionFault(Code.PROTOCOL_ERROR, "a client that pushes")
        # Unknown types are ignored (§4.1).

    def _on_window_update(self, stream_id: int, payload: bytes) -> None:
        credit = frames.read_long(payload)
        if not stream_id:
            if not credit:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            self._sender.open_window(None, credit)
        elif not self._refused(TABLE[self._state(stream_id), frames.WINDOW_UPDATE], stream_id):
            if not credit:
                self._reset(stream_id, Code.PROTOCOL_ERROR)
                return
            try:
                self._sender.open_window(self._streams[stream_id], credit)
            except OverflowError:
                self._reset(stream_id, Code.FLOW_CONTROL_ERROR)

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(Code.FRAME_SIZE_ERROR, "SETTINGS that acknowledge and set")
            if not self._settled:
                raise ConnectionFault(Code.PROTOCOL_ERROR, "the first frame is not SETTINGS")
            return
        self._settled = True
        for name, value in frames.read_settings(payload):
            if name == frames.INITIAL_WINDOW_SIZE:
                self._sender.set_initial_window(value, self._streams.values())
            elif name == frames.MAX_FRAME_SIZE:
                self._sender.set_frame_bytes_max(value)
            elif name == frames.HEADER_TABLE_SIZE:
                self._prefix = SIZE_ZERO
        self._sender.out.append(frames.SETTINGS_ACK)

    def _on_ping(self, flags: int, payload: bytes) -> None:
        if len(payload) != 8:
            raise ConnectionFault(Code.FRAME_SIZE_ERROR, "PING is eight bytes")
        if not flags & frames.ACK:
            self._sender.out.append(frames.frame(frames.PING, frames.ACK, 0, payload))
        elif payload == DRAIN_PING and self._draining_since is not None:
            self._draw_the_line()
