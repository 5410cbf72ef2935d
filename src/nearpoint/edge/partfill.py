"""Serves bodies that are kept in parts, and fetches the parts that are missing.

A run is one answer of the origin that is being cut into parts. Whoever needs a part that a run is about to bring reads
along; whoever needs one that is far away begins a run of his own. A run goes only a little ahead of its readers, and
ends when nobody reads, unless there is not much left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import structlog

from nearpoint.edge.blob import Blob
from nearpoint.edge.entry import Entry, Parts
from nearpoint.edge.fill import Fill, FillMemory
from nearpoint.edge.parts import PART_BYTES, part_count, part_size
from nearpoint.edge.tiers import Tiers
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.filebody import FileBody
from nearpoint.wire.message import Body, StreamBody

log = structlog.get_logger("nearpoint.edge")

AHEAD_PARTS = 4  # how far a run goes before its foremost reader
FINISHED_PARTS = 16  # a run that nobody reads goes on if no more than this is left
RUN_PARTS_MAX = 64  # asked of the origin in one request
GRACE_S = 5.0  # how long a run that has begun waits for its first reader
TRIES_MAX = 3  # for a part, by one viewer

# Asks the origin for bytes (first, last) of the very body that is kept.
AskPart = Callable[[int, int], Awaitable[Body]]


class PartError(Exception):
    """A part can't be had. `changed`: the origin has another body by now."""

    def __init__(self, reason: str, *, changed: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.changed = changed


class Run:
    """One answer of the origin on its way into parts `first` to `last`. `position` is the part that is arriving."""

    def __init__(self, entry: Entry, first: int, last: int) -> None:
        self.entry = entry
        self.position = first
        self.last = last
        self.wanted = first
        self.readers: set[object] = set()
        self.fills: dict[int, Fill] = {}  # the part that is arriving, and those before it that could not be kept
        self.failed: Exception | None = None
        self._moved = asyncio.Event()
        self._pulled = asyncio.Event()

    def brings(self, number: int) -> bool:
        """Whether waiting for this part is better than asking for it."""
        return number in self.fills or (
            self.failed is None and self.position <= number <= min(self.last, self.position + AHEAD_PARTS)
        )

    def want(self, number: int, reader: object) -> None:
        self.readers.add(reader)
        self.wanted = max(self.wanted, number)
        self._pulled.set()

    def leave(self, reader: object) -> None:
        self.readers.discard(reader)
        self._pulled.set()

    async def moved(self) -> None:
        """Wait until another part begins, or the run ends."""
        await self._moved.wait()

    def move(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def paced(self) -> bool:
        """Wait until the next part may be read. False: nobody wants it."""
        while self.position > self.wanted + AHEAD_PARTS or not self.readers:
            if not self.readers:
                return self.last - self.position < FINISHED_PARTS
            self._pulled.clear()
            await self._pulled.wait()
        return True


class PartFiller:
    """The runs of one edge."""

    def __init__(self, tiers: Tiers, spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]) -> None:
        self._tiers = tiers
        self._spawn = spawn
        self._memory = FillMemory(1 << 62)  # a part at a time for each run: bounded by their number

    def begin(self, entry: Entry, body: Body, first: int, last: int) -> Run:
        """Cut a body that has begun to arrive at part `first` into parts."""
        parts = entry.body
        assert isinstance(parts, Parts)
        run = Run(entry, first, last)
        run.want(first, run)
        asyncio.get_running_loop().call_later(GRACE_S, run.leave, run)
        parts.runs.append(run)
        self._spawn(self._pump(run, body))
        return run

    @staticmethod
    def hand_over(entry: Entry, renewed: Entry) -> None:
        """What is still arriving is the renewed entry's from now on; they have the same body."""
        parts = entry.body
        if isinstance(parts, Parts):
            for run in parts.runs:
                run.entry = renewed

    def body(self, entry: Entry, first: int, length: int, ask: AskPart) -> PartsBody:
        """Some of an entry's body, for one viewer."""
        return PartsBody(self, entry, first, length, ask)

    async def piece(self, entry: Entry, number: int, until: int, ask: AskPart, reader: PartsBody) -> Blob | Fill:
        """A part that is kept or arriving. Raises PartError."""
        parts = entry.body
        assert isinstance(parts, Parts)
        while True:
            run: Run | None = next((each for each in parts.runs if each.brings(number)), None)
            if run is not None:
                run.want(number, reader)
                fill = run.fills.get(number)
                if fill is not None:
                    return fill
                await run.moved()
                continue
            blob = await self._tiers.part(entry, number)
            if blob is not None:
                return blob
            if any(each.brings(number) for each in parts.runs):
                continue
            last = number
            while last < min(until, number + RUN_PARTS_MAX - 1) and self._is_missing(entry, last + 1):
                last += 1
            await self._ask(entry, number, last, ask, reader)

    def _is_missing(self, entry: Entry, number: int) -> bool:
        """Whether a part is neither kept nor on its way."""
        parts = entry.body
        assert isinstance(parts, Parts)
        return not self._tiers.has_part(entry, number) and not any(each.brings(number) for each in parts.runs)

    async def _ask(self, entry: Entry, first: int, last: int, ask: AskPart, reader: PartsBody) -> None:
        parts = entry.body
        assert isinstance(parts, Parts)
        run = Run(entry, first, last)
        run.want(first, reader)
        parts.runs.append(run)
        try:
            body = await ask(first * PART_BYTES, min(parts.size, (last + 1) * PART_BYTES) - 1)
        except BaseException as error:
            self._end(run, error if isinstance(error, PartError) else PartError("origin-lost"))
            raise
        self._spawn(self._pump(run, body))

    async def _pump(self, run: Run, body: Body) -> None:
        parts = run.entry.body
        assert isinstance(parts, Parts)
        chunks = _Chunks(body)
        error: Exception | None = None
        try:
            while run.position <= run.last and await run.paced():
                number, size = run.position, part_size(parts.size, run.position)
                fill = Fill(StreamBody(chunks.take(size), size), limit_bytes=size, memory=self._memory)
                run.fills[number] = fill
                run.move()
                data = await fill.run()
                if data is None:
                    raise PartError("origin-lost") from fill.failed
                blob = await asyncio.to_thread(self._tiers.put_part, run.entry, number, data)
                if blob is not None:
                    self._tiers.part_is_in(run.entry, number, blob)
                    del run.fills[number]
                elif len(run.fills) > AHEAD_PARTS:
                    del run.fills[next(iter(run.fills))]
                run.position += 1
                run.move()
            error = PartError("ended")
        except PartError as broken:
            log.warning("origin broke off", reason=broken.reason, error=repr(broken.__cause__))
            error = broken
        finally:
            self._end(run, error or PartError("stopped"))
            await body.close()

    @staticmethod
    def _end(run: Run, error: Exception) -> None:
        run.failed = error
        parts = run.entry.body
        assert isinstance(parts, Parts)
        if run in parts.runs:
            parts.runs.remove(run)
        run.move()


class _Chunks:
    """A body's bytes, taken in portions."""

    def __init__(self, body: Body) -> None:
        self._chunks = aiter(body)
        self._left = b""

    async def take(self, size: int) -> AsyncIterator[bytes]:
        while size:
            chunk = self._left
            self._left = b""
            if not chunk:
                chunk = await anext(self._chunks, b"")
                if not chunk:
                    return
            if len(chunk) > size:
                chunk, self._left = chunk[:size], chunk[size:]
            size -= len(chunk)
            yield chunk


class PartsBody:
    """Some of a body in parts (wire's `SpanBody`)."""

    delimited = True

    def __init__(self, filler: PartFiller, entry: Entry, first: int, length: int, ask: AskPart) -> None:
        self.length = length
        self._filler = filler
        self._entry = entry
        self._at = first
        self._end = first + length
        self._ask = ask
        self._next: Blob | Fill | None = None

    async def prepare(self) -> None:
        """Make sure that the first part is there or on its way. Raises PartError."""
        if self._next is None and self._at < self._end:
            self._next = await self._piece()

    async def _piece(self) -> Blob | Fill:
        last = (self._end - 1) // PART_BYTES
        return await self._filler.piece(self._entry, self._at // PART_BYTES, last, self._ask, self)

    async def spans(self) -> AsyncIterator[bytes | FileBody]:
        """The body as files where it lies in files."""
        failures = 0
        try:
            while self._at < self._end:
                piece, self._next = self._next or await self._piece(), None
                within = self._at % PART_BYTES
                length = min(PART_BYTES - within, self._end - self._at)
                if isinstance(piece, Blob):
                    self._at += length
                    yield piece.body(within, length)
                    continue
                reader = piece.reader(within, length)
                try:
                    async for chunk in reader:
                        self._at += len(chunk)
                        yield chunk
                except (OSError, UpstreamError):
                    failures += 1
                    if failures == TRIES_MAX:
                        raise
        finally:
            await self.close()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for span in self.spans():
            if isinstance(span, FileBody):
                async for block in span:
                    yield block
            else:
                yield span

    async def close(self) -> None:
        parts = self._entry.body
        assert isinstance(parts, Parts)
        for run in list(parts.runs):
            run.leave(self)


def last_part(size: int) -> int:
    """The number of a body's last part."""
    return part_count(size) - 1
