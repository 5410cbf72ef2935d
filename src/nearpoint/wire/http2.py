"""One HTTP/2 connection of the server (RFC 9113): many requests at once, each answered as HTTP/1.1's are.

Requests come from `http2_intake`. Each is answered by the `instant` hook, at once and together with all others of the
same read event; or a task runs the handler, and its response is queued and sent within the peer's windows.
"""

from __future__ import annotations

import asyncio
import traceback

import structlog

from nearpoint.wire import http2_frames as frames
from nearpoint.wire.exchange import RequestBodyError, peer_of
from nearpoint.wire.filebody import FileBody
from nearpoint.wire.http2_core import WRITE_HIGH_BYTES
from nearpoint.wire.http2_fields import Head, encode_response
from nearpoint.wire.http2_flow import PENDING_HIGH_BYTES
from nearpoint.wire.http2_frames import END_HEADERS, END_STREAM, FRAME_BYTES_MAX, HEADERS, Code
from nearpoint.wire.http2_intake import Http2Intake
from nearpoint.wire.http2_streams import CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, FlowBody, State, Stream
from nearpoint.wire.http2_translate import translate
from nearpoint.wire.message import Body, BodyTooLargeError, BytesBody, Response
from nearpoint.wire.outlet import default_error

log = structlog.get_logger("nearpoint.wire")

_WHOLE = END_HEADERS | END_STREAM
_NO_BODY: Body = BytesBody()
_PACK = frames.FRAME.pack


class Http2Connection(Http2Intake):
    """The protocol of one accepted connection that has chosen `h2`."""

    __slots__ = ()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self.peer = peer_of(transport, "HTTP/2.0")
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
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

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = self._deaf = True
        self._rest = b""
        for stream in list(self._streams.values()):
            self._close_stream(stream, State.CLOSED)
        for task in self._tasks:
            task.cancel()
        self._server.forget(self)

    # --- requests and answers

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
            if isinstance(body, FileBody) and body.length <= FRAME_BYTES_MAX:
                body = body.whole()
        except Exception:
            log.error("instant hook failed", error=traceback.format_exc())
            return False
        if isinstance(body, FileBody):
            self._queue_whole(stream_id, head, block, body)
            return True
        sender = self._sender
        out = sender.out
        size, head_size = len(body), len(block)
        if (
            size > FRAME_BYTES_MAX
            or size > sender.window
            or size > sender.initial_window
            or head_size >= FRAME_BYTES_MAX
        ):
            self._queue_whole(stream_id, head, block, body)
            return True
        if self._prefix:
            block, self._prefix = self._prefix + block, b""
            head_size += 1
        sender.out_bytes += size + head_size
        out.append(_PACK(head_size >> 8, head_size & 0xFF, HEADERS, END_HEADERS if size else _WHOLE, stream_id))
        out.append(block)
        if size:
            out.append(_PACK(size >> 8, size & 0xFF, frames.DATA, END_STREAM, stream_id))
            out.append(body)
            sender.window -= size
        return True

    def _queue_whole(self, stream_id: int, head: Head, block: bytes, body: bytes | FileBody) -> None:
        """An answer that does not fit into one frame, or not into the peer's windows."""
        if self._crowded():
            self._reset(stream_id, Code.REFUSED_STREAM)
            return
        stream = self._add(stream_id, head, State.HALF_CLOSED_REMOTE, self._since)
        self._send_head(stream, block, end_stream=not body)
        if body:
            self._push(stream, body)
            self._sender.end(stream)

    async def _run(self, stream: Stream) -> None:
        try:
            body: Body = stream.body if stream.body is not None else _NO_BODY
            response = await self._server.handler(stream.head.request(body, self.peer))
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
                self._push(stream, data)
                if stream.pending_bytes > PENDING_HIGH_BYTES:
                    await self._writable(stream)
            if left:
                raise ValueError(f"a body {left} bytes short of its length, {length}")
            if stream.live:
                self._sender.end(stream)
                self._flush_soon()
        finally:
            await body.close()

    def _push(self, stream: Stream, data: bytes | FileBody) -> None:
        if not stream.pending:
            stream.since = self._server.ticker.now  # from now on the peer has to take it
        self._sender.push(stream, data)
        self._flush_soon()

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
            self._push(stream, data)
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


def _bodiless(stream: Stream, response: Response) -> bool:
    return stream.head.method == b"HEAD" or response.status in (204, 304)
