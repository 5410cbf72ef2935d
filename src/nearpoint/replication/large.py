"""Copies a large object in pieces over several connections at once: one alone is held back by its window and distance.

The destination is asked first whether it needs the content at all. The pieces go into a staging there; the version
follows, claims them, and is held against its entity tag and checksum as any other. Both stores are asked for what they
can: where content goes whole only, the caller sends it whole.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import secrets
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from nearpoint.replication.backoff import delay_s
from nearpoint.replication.peer import Peer, RefusedError, UnavailableError
from nearpoint.replication.window import Row
from nearpoint.wire.client import UpstreamError

LARGE_BYTES = 16 * 1024 * 1024
PIECE_BYTES = 8 * 1024 * 1024
PIECES_MAX = 16  # of one lane, under way at once
PIECES_OF_ONE_MAX = 8
OBJECTS_MAX = 3  # of which pieces are under way at once: while one is read again and flushed, others arrive
ATTEMPTS_MAX = 4  # of a piece, before the whole object waits


class Piece(NamedTuple):
    """Bytes of a part: `start` in the object, `offset` in the part, which has `size` bytes."""

    part: int
    size: int
    offset: int
    start: int
    length: int


def pieces_of(sizes: Sequence[int], piece_bytes: int = PIECE_BYTES) -> Iterator[Piece]:
    """An object with parts of these sizes, cut up: each part by itself, none of it twice."""
    start = 0
    for part, size in enumerate(sizes):
        for offset in range(0, size, piece_bytes):
            yield Piece(part, size, offset, start + offset, min(piece_bytes, size - offset))
        start += size


class LargeObjects:
    """The large objects of one lane."""

    def __init__(self, source: Peer) -> None:
        self._source = source
        self._room = asyncio.Semaphore(PIECES_MAX)
        self._turn = asyncio.Semaphore(OBJECTS_MAX)

    async def copy(self, target: Peer, bucket: str, destination: str, row: Row) -> dict[str, Any] | None:
        """What became of a version; None when it has to be sent whole. Raises UnavailableError, RefusedError."""
        bare = dataclasses.replace(row, content=False)
        try:
            sizes = await self._source.parts(bucket, row)
        except RefusedError as error:
            if error.code == "MethodNotAllowed":
                return None
            raise
        [outcome] = await self._deliver(target, bucket, destination, bare, None)
        if outcome["outcome"] != "content":
            return outcome
        name = secrets.token_hex(16)
        pieces = pieces_of(sizes)

        async def work() -> None:
            for piece in pieces:
                async with self._room:
                    await self._send(target, bucket, row, name, piece)

        try:
            async with self._turn, asyncio.TaskGroup() as group:
                for _ in range(PIECES_OF_ONE_MAX):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            first = errors.exceptions[0]
            if isinstance(first, RefusedError) and first.code == "MethodNotAllowed":
                return None
            raise first from None
        [outcome] = await self._deliver(target, bucket, destination, bare, name)
        return outcome

    async def _deliver(
        self, target: Peer, bucket: str, destination: str, row: Row, staged: str | None
    ) -> list[dict[str, Any]]:
        versions = await self._source.fetch(bucket, [row])
        try:
            outcomes = await target.deliver(destination, versions, staged)
        except UpstreamError as error:
            raise UnavailableError(str(error)) from error
        finally:
            await versions.close()
        if len(outcomes) != 1:
            raise UnavailableError(f"{target.region} answers for {len(outcomes)} versions instead of one")
        return outcomes

    async def _send(self, target: Peer, bucket: str, row: Row, name: str, piece: Piece) -> None:
        failures = 0
        while True:
            try:
                content = await self._source.content(bucket, row, piece.start, piece.length)
                try:
                    await target.stage(name, piece.part, piece.size, piece.offset, content)
                finally:
                    await content.close()
                return
            except (UnavailableError, UpstreamError) as error:
                failures += 1
                if failures == ATTEMPTS_MAX:
                    raise UnavailableError(str(error)) from error
            await asyncio.sleep(delay_s(failures, random.random()))  # noqa: S311
