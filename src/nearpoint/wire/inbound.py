"""A body that arrives on a connection, between the parser that feeds it and the one consumer that reads it.

Nothing is read far ahead: above the high mark the source stops reading its socket, below the low mark it goes on.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

HIGH_BYTES = 262_144
LOW_BYTES = 65_536


class Source(Protocol):
    """The connection that a body arrives on."""

    def body_wanted(self, body: InboundBody) -> None:
        """The consumer waits for bytes that have not arrived."""

    def body_full(self, body: InboundBody) -> None:
        """More than the high mark is waiting: stop reading."""

    def body_drained(self, body: InboundBody) -> None:
        """Less than the low mark is waiting: go on reading."""

    def body_closed(self, body: InboundBody) -> None:
        """The consumer wants no more, and the end has not arrived."""


class InboundBody:
    """Implements `Body`. `feed`, `end` and `fail` are for the connection, the rest for the consumer.

    Iteration raises what `fail` was given, after the bytes that came before it.
    """

    __slots__ = (
        "_chunks",
        "_error",
        "_full",
        "_source",
        "_waiter",
        "buffered_bytes",
        "closed",
        "delimited",
        "ended",
        "length",
    )

    def __init__(self, source: Source, length: int | None, *, delimited: bool = True) -> None:
        self.length = length
        self.delimited = delimited
        self.buffered_bytes = 0
        self.ended = False
        self.closed = False
        self._source = source
        self._chunks: deque[bytes] = deque()
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._full = False

    @property
    def awaited(self) -> bool:
        """True while the consumer waits for bytes."""
        return self._waiter is not None

    @property
    def full(self) -> bool:
        """True from crossing the high mark until falling below the low mark."""
        return self._full

    def discard(self) -> None:
        """Drop what has arrived and whatever may still come."""
        self.closed = True
        self._full = False
        self._chunks.clear()
        self.buffered_bytes = 0
        self._wake()

    def feed(self, data: bytes) -> None:
        """Bytes arrived; dropped when the consumer has closed the body."""
        if self.closed:
            return
        self._chunks.append(data)
        self.buffered_bytes += len(data)
        if self._waiter is not None:
            self._wake()
        elif self.buffered_bytes > HIGH_BYTES and not self._full:
            self._full = True
            self._source.body_full(self)

    def end(self) -> None:
        """The last byte has arrived."""
        self.ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """The rest will not arrive; without effect after the end."""
        if not self.ended:
            self.ended = True
            self._error = error
            self._wake()

    def take_all(self) -> bytes:
        """Everything that has arrived, for a body that has ended without an error."""
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self.buffered_bytes = 0
        return data

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def __aiter__(self) -> InboundBody:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self.ended or self.closed:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                self._source.body_wanted(self)
                await self._waiter
            finally:
                self._waiter = None
        data = self._chunks.popleft()
        self.buffered_bytes -= len(data)
        if self._full and self.buffered_bytes < LOW_BYTES:
            self._full = False
            self._source.body_drained(self)
        return data

    async def close(self) -> None:
        """Drop what has arrived and whatever may still come."""
        if self.closed:
            return
        full = self._full
        self.discard()
        if not self.ended:
            self._source.body_closed(self)
        if full:
            self._source.body_drained(self)
