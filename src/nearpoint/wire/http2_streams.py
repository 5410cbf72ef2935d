"""The states of a stream, as seen by a server, and what a frame means in each (RFC 9113 §5.1).

A response may end before its request ("half-closed (local)"). What still comes is dropped for a while, then the client
is told to stop with RST_STREAM(NO_ERROR) (§8.1); not at once, since there are clients that then forget the response
(curl 7.88).
"Reset" is a closed stream that this end has reset so lately that frames for it may still be under way; they are
ignored.
"""

from __future__ import annotations

import asyncio
from collections import deque
from enum import Enum, auto
from typing import Protocol

from nearpoint.wire import http2_frames as frames
from nearpoint.wire.filebody import FileBody
from nearpoint.wire.http2_fields import Head
from nearpoint.wire.http2_frames import Code
from nearpoint.wire.inbound import InboundBody, Source

# What a stream may hold of a request body that its handler has not read, and all streams of a connection together.
STREAM_WINDOW_BYTES = 262_144
CONNECTION_WINDOW_BYTES = 1_048_576
_MERGED_BYTES_MAX = 4_096


class State(Enum):
    IDLE = auto()
    OPEN = auto()
    HALF_CLOSED_REMOTE = auto()  # the request is complete
    HALF_CLOSED_LOCAL = auto()  # the response is complete
    RESET = auto()
    CLOSED = auto()


class Verdict(Enum):
    TAKE = auto()
    IGNORE = auto()
    STREAM_CLOSED = auto()  # the stream is reset with STREAM_CLOSED
    CONNECTION_CLOSED = auto()  # the connection ends with STREAM_CLOSED
    CONNECTION_PROTOCOL = auto()  # the connection ends with PROTOCOL_ERROR


_TAKE, _IGNORE = Verdict.TAKE, Verdict.IGNORE

# Frame types across: DATA, HEADERS, RST_STREAM, WINDOW_UPDATE. HEADERS on a stream that is open are trailers.
_COLUMNS = (frames.DATA, frames.HEADERS, frames.RST_STREAM, frames.WINDOW_UPDATE)
_ROWS: dict[State, tuple[Verdict, Verdict, Verdict, Verdict]] = {
    State.IDLE: (Verdict.CONNECTION_PROTOCOL, _TAKE, Verdict.CONNECTION_PROTOCOL, Verdict.CONNECTION_PROTOCOL),
    State.OPEN: (_TAKE, _TAKE, _TAKE, _TAKE),
    State.HALF_CLOSED_REMOTE: (Verdict.STREAM_CLOSED, Verdict.STREAM_CLOSED, _TAKE, _TAKE),
    State.HALF_CLOSED_LOCAL: (_TAKE, _TAKE, _TAKE, _IGNORE),
    State.RESET: (_IGNORE, _IGNORE, _IGNORE, _IGNORE),
    State.CLOSED: (Verdict.STREAM_CLOSED, Verdict.CONNECTION_CLOSED, _IGNORE, _IGNORE),
}
TABLE: dict[tuple[State, int], Verdict] = {
    (state, kind): verdict
    for state, verdicts in _ROWS.items()
    for kind, verdict in zip(_COLUMNS, verdicts, strict=True)
}


class FlowBody(InboundBody):
    """A request body under flow control: the peer may send again what the consumer has taken."""

    __slots__ = ("_owner", "stream")

    def __init__(self, owner: Owner, stream: Stream) -> None:
        super().__init__(owner, stream.head.length)
        self._owner: Owner | None = owner
        self.stream = stream

    def feed(self, data: bytes) -> None:
        # Small pieces are merged: a window of one-byte frames must not become a quarter of a million objects.
        chunks = self._chunks
        if chunks and len(chunks[-1]) + len(data) <= _MERGED_BYTES_MAX:
            chunks[-1] += data
            self.buffered_bytes += len(data)
        else:
            super().feed(data)

    async def __anext__(self) -> bytes:
        data = await super().__anext__()
        if self._owner is not None:
            self._owner.consumed(self.stream, len(data))
        return data

    def discard(self) -> None:
        size = self.buffered_bytes
        super().discard()
        if self._owner is not None:
            self._owner.dropped(size)

    def abandon(self, error: Exception) -> None:
        """The stream is gone. What has arrived can still be read; where it was not all, `error` follows."""
        self.fail(error)
        if self._owner is not None:
            self._owner.dropped(self.buffered_bytes)
            self._owner = None


class Stream:
    """One request and the state of its answer. Owned by the connection; `flow.Sender` keeps the sending half."""

    __slots__ = (
        "body",
        "ending",
        "expects_continue",
        "head",
        "head_sent",
        "id",
        "pending",
        "pending_bytes",
        "queued",
        "receive_window",
        "received_bytes",
        "returned_bytes",
        "since",
        "state",
        "task",
        "waiter",
        "window",
    )

    def __init__(self, stream_id: int, head: Head, state: State, window: int, now: float) -> None:
        self.id = stream_id
        self.head = head
        self.state = state
        self.since = now
        self.task: asyncio.Task[None] | None = None
        # receiving
        self.body: FlowBody | None = None
        self.expects_continue = False
        self.received_bytes = 0
        self.receive_window = STREAM_WINDOW_BYTES
        self.returned_bytes = 0  # taken by the consumer, not yet given back to the peer
        # sending
        self.head_sent = False
        self.window = window
        self.pending: deque[bytes | memoryview | FileBody] = deque()
        self.pending_bytes = 0
        self.ending = False  # END_STREAM follows what is pending
        self.queued = False  # in the sender's line
        self.waiter: asyncio.Future[None] | None = None

    @property
    def live(self) -> bool:
        """False once the stream is closed or reset, or its response complete."""
        return self.state is State.OPEN or self.state is State.HALF_CLOSED_REMOTE

    def wake(self) -> None:
        """Let the handler go on writing."""
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Owner(Source, Protocol):
    """What a stream needs of its connection."""

    def consumed(self, stream: Stream, size: int) -> None:
        """The handler has taken bytes of the body: the peer may send as many again."""

    def dropped(self, size: int) -> None:
        """Bytes of a body will never be read: other streams may use their room."""


class Budget:
    """How much of something a peer may do: `capacity` at once and `per_s` again each second. Pure: told the time."""

    __slots__ = ("_at", "_level", "capacity", "per_s")

    def __init__(self, capacity: int, per_s: float) -> None:
        self.capacity = capacity
        self.per_s = per_s
        self._level = 0.0
        self._at = 0.0

    def spend(self, now: float) -> bool:
        """Do it once. False: too often."""
        self._level = max(0.0, self._level - (now - self._at) * self.per_s) + 1
        self._at = now
        return self._level <= self.capacity

    def earn(self, amount: float) -> None:
        """Something useful has happened that explains this many."""
        self._level = max(0.0, self._level - amount)


def reset_code(verdict: Verdict) -> Code:
    """The code that goes with a verdict against a stream or the connection."""
    return Code.PROTOCOL_ERROR if verdict is Verdict.CONNECTION_PROTOCOL else Code.STREAM_CLOSED
