"""A body on its way from the origin, read by any number of viewers while it arrives, each at its own pace.

Up to a limit everything is kept, so that anybody may still join at the beginning and the whole can be stored. Above
it (or when all fills together hold too much) the body only passes through: a window of bytes, at the slowest
reader's pace, and nobody joins any more. Whoever is PATIENCE_S behind then, while another has read all there is, is
left behind.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from nearpoint.wire.message import Body

WINDOW_BYTES = 1_048_576
PATIENCE_S = 10.0


class FillMemory:
    """What all fills of a process may hold together, in bytes."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.used_bytes = 0

    def take(self, size: int) -> bool:
        """Reserve; False when there is no room."""
        if self.used_bytes + size > self.bytes_max:
            return False
        self.used_bytes += size
        return True

    def give_back(self, size: int) -> None:
        self.used_bytes -= size


class Fill:
    """One body being filled. `run` pumps it and returns the whole, or None when it could not be kept."""

    def __init__(self, body: Body, *, limit_bytes: int, memory: FillMemory) -> None:
        self.length = body.length
        self.failed: Exception | None = None
        self.whole = True  # still kept from the first byte on
        self.crowded = False  # not kept because all fills together held too much
        self._body = body
        self._limit_bytes = limit_bytes
        self._memory = memory
        self._reserved = 0
        self._chunks: deque[bytes] = deque()
        self._times: deque[float] = deque()  # when each of them came
        self._base = 0  # the number of the first chunk that is still here
        self._size = 0
        self._window = 0
        self._done = False
        self._readers: dict[int, int] = {}  # reader → the next chunk's number
        self._next_reader = 0
        self._arrived = asyncio.Event()
        self._taken = asyncio.Event()

    async def run(self) -> bytes | None:
        """Pump until the end. Returns the whole body if it was kept and is complete; never raises for the origin."""
        try:
            async for chunk in self._body:
                self._size += len(chunk)
                self._chunks.append(chunk)
                self._times.append(asyncio.get_running_loop().time())
                self._window += len(chunk)
                if self.whole and self._size > self._limit_bytes:
                    self.whole = False
                elif self.whole and not self._memory.take(len(chunk)):
                    self.whole, self.crowded = False, True
                elif self.whole:
                    self._reserved += len(chunk)
                self._wake()
                if not self.whole:
                    self._slide()
                    while self._window > WINDOW_BYTES and self._readers:
                        await self._some_taken()
                        self._slide()
                    if not self._readers:
                        return None
            if self.length is not None and self._size != self.length:
                raise ConnectionError(f"{self._size} of {self.length} bytes came")
            self._done = True
            return b"".join(self._chunks) if self.whole else None
        except asyncio.CancelledError:
            self.failed = ConnectionError("the fill was stopped")
            raise
        except Exception as error:
            self.failed = error
            return None
        finally:
            self._memory.give_back(self._reserved)
            self._reserved = 0
            if not self._done and self.failed is None:
                self.failed = ConnectionError("nobody reads any more")
            self._wake()
            await self._body.close()

    async def _some_taken(self) -> None:
        """Wait until a reader has taken something, or has been left behind."""
        left_s = self._times[0] + PATIENCE_S - asyncio.get_running_loop().time()
        if left_s <= 0 and self._leave_behind():
            return
        self._taken.clear()
        with contextlib.suppress(TimeoutError):
            # Without a limit where all are slow: nobody is held up as long as nobody takes anything.
            await asyncio.wait_for(self._taken.wait(), left_s if left_s > 0 else None)

    def _leave_behind(self) -> bool:
        """Go on without the slowest, if another has had everything; says whether it is so."""
        slowest = min(self._readers.values())
        if max(self._readers.values()) < self._base + len(self._chunks):
            return False
        for number in [number for number, at in self._readers.items() if at == slowest]:
            del self._readers[number]
        return True

    def reader(self, first: int = 0, length: int | None = None) -> FillReader:
        """A body of its own from byte `first` on; only while `whole`."""
        number = self._next_reader
        self._next_reader += 1
        self._readers[number] = 0
        whole = self.length
        return FillReader(self, number, first, length if length is not None else (whole - first if whole else whole))

    def _wake(self) -> None:
        arrived, self._arrived = self._arrived, asyncio.Event()
        arrived.set()

    def _slide(self) -> None:
        """Let go of what every reader has had."""
        if not self._readers:
            return
        behind = min(self._readers.values())
        while self._base < behind and self._chunks:
            self._window -= len(self._chunks.popleft())
            self._times.popleft()
            self._base += 1

    async def next_chunk(self, number: int) -> bytes | None:
        """The reader's next chunk, None at the end. Raises what went wrong at the origin, or ConnectionError for one
        that has been left behind."""
        if number not in self._readers:
            raise ConnectionError("too slow for the others")
        at = self._readers[number]
        while at - self._base >= len(self._chunks):
            if self.failed is not None:
                raise self.failed
            if self._done:
                return None
            await self._arrived.wait()
        self._readers[number] = at + 1
        chunk = self._chunks[at - self._base]
        if not self.whole:
            self._taken.set()
        return chunk

    def leave(self, number: int) -> None:
        """A reader wants no more."""
        self._readers.pop(number, None)
        self._taken.set()


class FillReader:
    """One viewer's body (wire's `Body`)."""

    __slots__ = ("_fill", "_first", "_number", "length")

    delimited = True  # a fill that breaks off raises

    def __init__(self, fill: Fill, number: int, first: int, length: int | None) -> None:
        self._fill = fill
        self._number = number
        self._first = first
        self.length = length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        skip, left = self._first, self.length
        try:
            while left is None or left > 0:
                chunk = await self._fill.next_chunk(self._number)
                if chunk is None:
                    return
                if skip >= len(chunk):
                    skip -= len(chunk)
                    continue
                piece = chunk[skip:] if skip else chunk
                skip = 0
                if left is not None:
                    piece = piece[:left]
                    left -= len(piece)
                yield piece
        finally:
            self._fill.leave(self._number)

    async def close(self) -> None:
        self._fill.leave(self._number)
