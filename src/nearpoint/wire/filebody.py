"""A body that lies in an open file: the kernel carries it to a plain socket, others read it block by block."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Protocol, runtime_checkable

BLOCK_BYTES = 262_144


class OpenFile(Protocol):
    """Whoever owns the descriptor; it stays open as long as this object is there."""

    def fileno(self) -> int: ...


class FileBody:
    """`length` bytes of a file from `first` on. The file must not change; one that is shorter raises OSError."""

    __slots__ = ("file", "first", "length")

    delimited = True

    def __init__(self, file: OpenFile, first: int, length: int) -> None:
        self.file = file
        self.first = first
        self.length = length

    def block(self, at: int, size: int) -> bytes:
        """Up to `size` bytes from byte `at` of the body on; never none before the end."""
        data = os.pread(self.file.fileno(), min(size, self.length - at), self.first + at)
        if not data and at < self.length:
            raise OSError("a file ended before its time")
        return data

    def whole(self) -> bytes:
        """All of it."""
        blocks: list[bytes] = []
        at = 0
        while at < self.length:
            blocks.append(self.block(at, self.length))
            at += len(blocks[-1])
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        at = 0
        while at < self.length:
            data = self.block(at, BLOCK_BYTES)
            at += len(data)
            yield data

    async def spans(self) -> AsyncIterator[bytes | FileBody]:
        """The body as files where it lies in files (`SpanBody`)."""
        yield self

    async def close(self) -> None:
        return None


@runtime_checkable
class SpanBody(Protocol):
    """A body that can also say where its bytes lie. Read either way, but only once."""

    def spans(self) -> AsyncIterator[bytes | FileBody]: ...
