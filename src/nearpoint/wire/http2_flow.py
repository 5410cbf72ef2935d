"""Sends the data of many streams in turn, within the peer's windows (RFC 9113 §5.2, §6.9). Makes bytes; reads files.

Streams with data and window stand in a line; each sends one frame and goes to its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from nearpoint.wire import http2_frames as frames
from nearpoint.wire.filebody import BLOCK_BYTES, FileBody
from nearpoint.wire.http2_frames import Code, ConnectionFault
from nearpoint.wire.http2_streams import Stream

_PACK = frames.FRAME.pack
PENDING_LOW_BYTES = 32_768
PENDING_HIGH_BYTES = 65_536
_FRAME_BYTES_MAX = 65_536  # of what a peer allows; more makes other streams wait


class Sender:
    """`out` are frames to be written, in order; whoever writes them empties it by `take`."""

    __slots__ = (
        "_line",
        "broken",
        "data_frames",
        "finished",
        "frame_bytes_max",
        "initial_window",
        "out",
        "out_bytes",
        "window",
    )

    def __init__(self) -> None:
        self.window = frames.WINDOW_FIRST  # of the connection
        self.initial_window = frames.WINDOW_FIRST  # of a new stream
        self.frame_bytes_max = frames.FRAME_BYTES_MAX
        self.out: list[bytes | memoryview] = []
        self.out_bytes = 0  # of data; small frames are not counted
        self.data_frames = 0
        self.finished: list[Stream] = []  # END_STREAM has been made for these
        self.broken: list[Stream] = []  # whose file ended before its time
        self._line: deque[Stream] = deque()

    def take(self) -> bytes:
        """Everything made so far."""
        out = self.out
        data = bytes(out[0]) if len(out) == 1 else b"".join(out)
        out.clear()
        self.out_bytes = 0
        return data

    @property
    def blocked(self) -> bool:
        """Nothing can be sent before the peer opens a window or there is more data."""
        return not self._line or self.window <= 0

    def push(self, stream: Stream, data: bytes | FileBody) -> None:
        """Data of a stream, to be sent in its turn; not empty."""
        stream.pending.append(data)
        stream.pending_bytes += data.length if isinstance(data, FileBody) else len(data)
        self._queue(stream)

    def end(self, stream: Stream) -> None:
        """Nothing follows what has been pushed."""
        if stream.pending:
            stream.ending = True
        else:
            self.out.append(frames.frame(frames.DATA, frames.END_STREAM, stream.id))
            self.finished.append(stream)

    def drop(self, stream: Stream) -> None:
        """Send nothing more of a stream."""
        stream.pending.clear()
        stream.pending_bytes = 0

    def open_window(self, stream: Stream | None, credit: int) -> None:
        """A WINDOW_UPDATE, for the connection when `stream` is None.

        Raises ConnectionFault when it opens the connection's window too far, OverflowError for a stream's.
        """
        if stream is None:
            self.window += credit
            if self.window > frames.WINDOW_MAX:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the window of the connection is too large")
            return
        stream.window += credit
        if stream.window > frames.WINDOW_MAX:
            raise OverflowError
        self._queue(stream)

    def set_initial_window(self, size: int, streams: Iterable[Stream]) -> None:
        """The peer's SETTINGS_INITIAL_WINDOW_SIZE, which moves the window of every stream (§6.9.2)."""
        change = size - self.initial_window
        self.initial_window = size
        for stream in streams:
            stream.window += change
            if stream.window > frames.WINDOW_MAX:
                raise ConnectionFault(Code.FLOW_CONTROL_ERROR, "the window of a stream is too large")
            self._queue(stream)

    def _queue(self, stream: Stream) -> None:
        if not stream.queued and stream.pending and stream.window > 0:
            stream.queued = True
            self._line.append(stream)

    def pump(self, bytes_max: int, now: float) -> None:
        """Make frames until `out` holds `bytes_max` of data or nothing more can be sent."""
        line, out = self._line, self.out
        while line and self.window > 0 and self.out_bytes < bytes_max:
            stream = line.popleft()
            stream.queued = False
            if not stream.pending or stream.window <= 0:
                continue
            chunk = stream.pending[0]
            if isinstance(chunk, FileBody):
                try:
                    chunk = _block(stream, chunk)
                except OSError:
                    self.broken.append(stream)
                    continue
            size = min(len(chunk), self.window, stream.window, self.frame_bytes_max)
            if size == len(chunk):
                stream.pending.popleft()
            else:
                view = memoryview(chunk)
                chunk = view[:size]
                stream.pending[0] = view[size:]
            last = stream.ending and not stream.pending
            out.append(_PACK(size >> 8, size & 0xFF, frames.DATA, frames.END_STREAM if last else 0, stream.id))
            out.append(chunk)
            self.window -= size
            self.out_bytes += size
            self.data_frames += 1
            stream.window -= size
            stream.pending_bytes -= size
            stream.since = now
            if last:
                self.finished.append(stream)
            else:
                self._queue(stream)
                if stream.pending_bytes <= PENDING_LOW_BYTES:
                    stream.wake()

    def set_frame_bytes_max(self, size: int) -> None:
        """The peer's SETTINGS_MAX_FRAME_SIZE."""
        self.frame_bytes_max = min(size, _FRAME_BYTES_MAX)


def _block(stream: Stream, file: FileBody) -> bytes:
    """The next block of a file that is pending first, which takes its place before the rest."""
    data = file.block(0, BLOCK_BYTES)
    stream.pending[0] = data
    if len(data) < file.length:
        stream.pending.insert(1, FileBody(file.file, file.first + len(data), file.length - len(data)))
    return data
