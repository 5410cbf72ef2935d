"""One HTTP/2 connection of the server (RFC 9113): many requests at once, each answered as HTTP/1.1's are.

From top to bottom of this file:
1. `data_received` cuts the input into frames; a request whose header block is known and whose answer is prebuilt is
   answered right there, and everything that one read event brings about is written at once;
2. header blocks are put together and decoded, whatever becomes of them, and open a stream or end one;
3. a stream's request is answered by the `instant` hook, or a task runs the handler and its response is queued;
4. DATA is handed over as it is consumed, and only then may the peer send as much again;
5. the rest of the frames, and how streams and the connection end.
What costs a peer little and this end much has a budget; who exceeds it is told to calm down and leaves.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import TYPE_CHECKING, Any

import structlog

from nearpoint.wire import http2_frames as frames
from nearpoint.wire.connection import default_error
from nearpoint.wire.exchange import Peer, RequestBodyError
from nearpoint.wire.http2_fields import Head, MalformedError, check_trailers, encode_response, read_request
from nearpoint.wire.http2_flow import PENDING_HIGH_BYTES, Sender
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
from nearpoint.wire.http2_hpack import SIZE_ZERO, Decoder, encode_field
from nearpoint.wire.http2_streams import (
    CONNECTION_WINDOW_BYTES,
    STREAM_WINDOW_BYTES,
    TABLE,
    Budget,
    FlowBody,
    State,
    Stream,
    Verdict,
    reset_code,
)
from nearpoint.wire.http2_translate import translate
from nearpoint.wire.limits import LINGER_S
from nearpoint.wire.message import Body, BodyTooLargeError, BytesBody, Response

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nearpoint.wire.inbound import InboundBody
    from nearpoint.wire.server import Server

log = structlog.get_logger("nearpoint.wire")

_WRITE_HIGH_BYTES = 262_144
_TURN_FRAMES = 1_024  # taken from one read event before other connections have their turn
_WHOLE = END_HEADERS | END_STREAM  # a request in one frame, as nearly all are
_MEMO_MAX = 256
_MEMO_BLOCK_BYTES_MAX = 2_048
_RESETS_REMEMBERED_MAX = 256
_CONTINUATIONS_MAX = 128
_NO_BODY: Body = BytesBody()
_CONTINUE = encode_field(b":status", b"100")
_DRAIN_PING = b"draining"
_DRAIN_PING_S = 1.0
_PACK = frames.FRAME.pack

# Frames that carry no request and no data: so many at once and each second, and more when requests or DATA explain
# them (two WINDOW_UPDATE a DATA frame are usual).
_CONTROL_AT_ONCE, _CONTROL_PER_S, _CONTROL_EARNED = 2_000, 200, 4
# Streams that end before their answer: reset by the peer (CVE-2023-44487), or by us for what the peer did
# (CVE-2025-8671), or refused.
_RESETS_AT_ONCE, _RESETS_PER_S = 1_000, 100


class Http2Connection(asyncio.Protocol):
    """The protocol of one accepted connection that has chosen `h2`."""

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

    # --- 1. the transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        name = transport.get_extra_info("peername")
        ip = name[0] if isinstance(name, tuple) else ""
        self.peer = Peer(ip, "https" if transport.get_extra_info("sslcontext") is not None else "http")
        self._transport.set_write_buffer_limits(high=_WRITE_HIGH_BYTES)
        admitted = self._server.admit(self)
        limits = self._server.limits
        self._transport.write(
            frames.settings(
                [
                    (frames.MAX_CONCURRENT_STREAMS, limits.streams_max),
                    (frames.INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
                    (frames.MAX_HEADER_LIST_SIZE, limits.headers_bytes_max),
                    (frames.NO_RFC7540_PRIORITIES, 1),
                ]
            )
            + frames.window_update(0, CONNECTION_WINDOW_BYTES - frames.WINDOW_FIRST)
        )
        if not admitted:
            self._end(Code.ENHANCE_YOUR_CALM, "too many connections")
        elif self._server.draining:
            self.close_if_idle()

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

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._deaf = True
        self._rest = b""
        for stream in list(self._streams.values()):
            self._close_stream(stream, State.CLOSED)
        for task in self._tasks:
            task.cancel()
        self._server.forget(self)

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

    def _pace(self) -> None:
        """Read from the socket exactly when what arrives can be taken."""
        pause = not self._deaf and (self._write_paused or self._turn_due)
        if pause != self._read_paused and not self._lost:
            self._read_paused = pause
            if pause:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _parse(self) -> None:
        data = self._rest
        self._parsing = True
        try:
            taken = self._frames(data)
        except ConnectionFault as fault:
            self._parsing = False
            self._end(fault.code, fault.reason)
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
            if sender.out_bytes >= _WRITE_HIGH_BYTES:
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

    # --- 3. requests and answers

    def _open(self, stream_id: int, head: Head, *, complete: bool) -> None:
        self._last_id = stream_id
        self._opened += 1
        now = self._since = self._server.ticker.now
        if self._final is not None:
            return  # the peer has been told that this stream will not be answered
        if complete and head.fault is None:
            if head.length:
                self._reset(stream_id, Code.PROTOCOL_ERROR)
                return
            if self._instant is not None and self._answer_at_once(stream_id, head):
                return
        if self._crowded():
            self._reset(stream_id, Code.REFUSED_STREAM)
            return
        stream = self._add(stream_id, head, State.HALF_CLOSED_REMOTE if complete else State.OPEN, now)
        if head.fault is not None:
            self._write_error(stream, head.fault.status, head.fault.reason)
            return
        if not complete:
            stream.body = FlowBody(self, stream)
            stream.expects_continue = head.expects_continue
        stream.task = task = self._server.loop.create_task(self._run(stream))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _crowded(self) -> bool:
        # Tasks are counted too: one that has been cancelled is not gone before it has unwound.
        most = self._server.limits.streams_max
        return len(self._streams) >= most or len(self._tasks) >= most

    def _add(self, stream_id: int, head: Head, state: State, now: float) -> Stream:
        stream = Stream(stream_id, head, state, self._sender.initial_window, now)
        self._streams[stream_id] = stream
        return stream

    def _answer_at_once(self, stream_id: int, head: Head) -> bool:
        """Answer by the hook, if it has something."""
        assert self._instant is not None
        try:
            reply = self._instant(head.method, head.target, head.fields, self.peer)
            if reply is None:
                return False
            block, body = translate(reply)
        except Exception:
            log.error("instant hook failed", error=traceback.format_exc())
            return False
        if self._prefix:
            block, self._prefix = self._prefix + block, b""
        sender = self._sender
        out = sender.out
        size, head_size = len(body), len(block)
        if (
            head_size > FRAME_BYTES_MAX
            or size > FRAME_BYTES_MAX
            or size > sender.window
            or size > sender.initial_window
        ):
            self._queue_whole(stream_id, head, block, body)
        elif size:
            out.append(_PACK(head_size >> 8, head_size & 0xFF, HEADERS, END_HEADERS, stream_id))
            out.append(block)
            out.append(_PACK(size >> 8, size & 0xFF, frames.DATA, END_STREAM, stream_id))
            out.append(body)
            sender.window -= size
            sender.out_bytes += size
        else:
            out.append(_PACK(head_size >> 8, head_size & 0xFF, HEADERS, _WHOLE, stream_id))
            out.append(block)
            sender.out_bytes += head_size
        return True

    def _queue_whole(self, stream_id: int, head: Head, block: bytes, body: bytes) -> None:
        """An answer that does not fit into one frame, or not into the peer's windows."""
        if self._crowded():
            self._prefix = SIZE_ZERO
            self._reset(stream_id, Code.REFUSED_STREAM)
            return
        stream = self._add(stream_id, head, State.HALF_CLOSED_REMOTE, self._since)
        self._send_head(stream, block, end_stream=not body)
        if body:
            self._sender.push(stream, body)
            self._sender.end(stream)

    async def _run(self, stream: Stream) -> None:
        try:
            body: Body = stream.body if stream.body is not None else _NO_BODY
            response = await self._server.handler(stream.head.request(body, self.peer.scheme, self.peer.ip))
            await self._respond(stream, response)
        except asyncio.CancelledError:
            if stream.live:
                self._reset(stream.id, Code.INTERNAL_ERROR, counted=False)
            raise
        except Exception as error:
            self._failed(stream, error)
        finally:
            stream.task = None
            if stream.body is not None and not stream.body.ended:
                stream.body.discard()  # nobody reads it any more

    async def _respond(self, stream: Stream, response: Response) -> None:
        body = response.body
        if type(body) is BytesBody:
            if stream.live:
                self._send_whole(stream, response, body.data)
            return
        try:
            if not stream.live:
                return
            length = body.length
            block = self._encode(stream, response, length)
            bodiless = _bodiless(stream, response)
            self._send_head(stream, block, end_stream=bodiless)
            if bodiless:
                return
            left = length
            async for data in body:
                if not stream.live:
                    return
                if not data:
                    continue
                if left is not None:
                    left -= len(data)
                    if left < 0:
                        raise ValueError(f"a body longer than its length, {length}")
                self._sender.push(stream, data)
                self._flush_soon()
                if stream.pending_bytes > PENDING_HIGH_BYTES:
                    await self._writable(stream)
            if left:
                raise ValueError(f"a body {left} bytes short of its length, {length}")
            if stream.live:
                self._sender.end(stream)
                self._flush_soon()
        finally:
            await body.close()

    async def _writable(self, stream: Stream) -> None:
        stream.waiter = self._server.loop.create_future()
        try:
            await stream.waiter
        finally:
            stream.waiter = None

    def _encode(self, stream: Stream, response: Response, length: int | None) -> bytes:
        declared = "" if length is None else str(length)
        if stream.head.method == b"HEAD" or response.status == 304:
            given = response.headers.get("content-length")
            declared = given if given is not None and given.isdecimal() else declared if length else ""
        elif response.status == 204:
            declared = ""
        return encode_response(response.status, response.headers, declared, self._server.date)

    def _send_head(self, stream: Stream, block: bytes, *, end_stream: bool) -> None:
        if self._prefix:
            block, self._prefix = self._prefix + block, b""
        stream.head_sent = True
        sender = self._sender
        sender.out.append(frames.headers(stream.id, block, sender.frame_bytes_max, end_stream=end_stream))
        if end_stream:
            sender.finished.append(stream)
        self._flush_soon()

    def _send_whole(self, stream: Stream, response: Response, data: bytes) -> None:
        if _bodiless(stream, response):
            self._send_head(stream, self._encode(stream, response, len(data)), end_stream=True)
            return
        self._send_head(stream, self._encode(stream, response, len(data)), end_stream=not data)
        if data:
            self._sender.push(stream, data)
            self._sender.end(stream)

    def _failed(self, stream: Stream, error: Exception) -> None:
        """The handler, or the body of its response, raised."""
        if not stream.live:
            return
        path = stream.head.target.partition(b"?")[0].decode("latin-1")
        method = stream.head.method.decode("latin-1")
        if stream.head_sent:
            log.warning("response cut short", method=method, path=path, error=repr(error))
            self._reset(stream.id, Code.INTERNAL_ERROR, counted=False)
        elif isinstance(error, RequestBodyError):
            self._write_error(stream, error.status, error.reason)
        elif isinstance(error, BodyTooLargeError):
            self._write_error(stream, 413, "the body is too large")
        else:
            log.error("handler failed", method=method, path=path, error="".join(traceback.format_exception(error)))
            self._write_error(stream, 500, "internal error")

    def _write_error(self, stream: Stream, status: int, reason: str) -> None:
        try:
            response = self._server.error_response(status, reason)
            assert isinstance(response.body, BytesBody)
            self._send_whole(stream, response, response.body.data)
        except Exception:
            log.error("error page failed", status=status, error=traceback.format_exc())
            response = default_error(status, reason)
            assert isinstance(response.body, BytesBody)
            self._send_whole(stream, response, response.body.data)

    def _flush_soon(self) -> None:
        """Write after everything else that is ready to run, together with what that brings."""
        if not self._parsing and not self._flush_due:
            self._flush_due = True
            self._server.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        sender = self._sender
        while not self._write_paused and not self._lost:
            sender.pump(_WRITE_HIGH_BYTES, self._server.ticker.now)
            if sender.finished:
                self._settle()
            if not sender.out:
                break
            self._transport.write(sender.take())

    def _settle(self) -> None:
        finished, self._sender.finished = self._sender.finished, []
        for stream in finished:
            if stream.state is State.OPEN:
                stream.state = State.HALF_CLOSED_LOCAL
                stream.since = self._server.ticker.now
                self._open_stream_window(stream, STREAM_WINDOW_BYTES - stream.receive_window)
            elif stream.live:
                self._close_stream(stream, State.CLOSED)

    # --- 4. request bodies

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

    # --- 5. other frames

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
        elif payload == _DRAIN_PING and self._draining_since is not None:
            self._draw_the_line()

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
            self._sender.out.append(frames.frame(frames.PING, 0, 0, _DRAIN_PING))
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


def _bodiless(stream: Stream, response: Response) -> bool:
    return stream.head.method == b"HEAD" or response.status in (204, 304)
