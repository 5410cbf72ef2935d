"""Content that arrives in pieces, over several connections at once, before the version that it belongs to.

A staging has a name of the sender's choosing and a file for each part of the object; pieces are written where they
belong, in any order, and again after a failure. The version that follows claims the files, which are then read once,
held against its entity tag and checksum, and flushed. What nobody claims goes after a while, and with the process.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from nearpoint.awsproto import AwsError
from nearpoint.bucket import checksums
from nearpoint.bucket.checksums import Checksum
from nearpoint.bucket.disk import Disk
from nearpoint.bucket.intake import Received
from nearpoint.bucket.threads import ended, opened
from nearpoint.bucket.writer import unavailable
from nearpoint.wire.message import Body

STAGINGS_MAX = 64
PARTS_MAX = 10_000  # S3's quota
NAME_CHARACTERS_MAX = 64
KEPT_S = 120.0
_BLOCK_BYTES = 256 * 1024
_HASHED_BYTES = 1024 * 1024
_VECTORS_MAX = 1024  # IOV_MAX on Linux


@dataclass(slots=True)
class _File:
    number: int
    size: int
    arrived: dict[int, int] = field(default_factory=dict)  # of pieces that are complete: length, by offset

    @property
    def complete(self) -> bool:
        at = 0
        while at < self.size and at in self.arrived:
            at += self.arrived[at]
        return at == self.size


@dataclass(slots=True)
class _Staging:
    used_s: float
    files: dict[int, _File] = field(default_factory=dict)
    writing: int = 0


class Stagings:
    """The stagings of one store. On its event loop."""

    def __init__(self, disk: Disk, pool: ThreadPoolExecutor) -> None:
        self._disk = disk
        self._pool = pool
        self._stagings: dict[str, _Staging] = {}

    async def take(self, name: str, part: int, size: int, offset: int, body: Body) -> None:
        """Take in a piece: what belongs at `offset` of a part of `size` bytes. Raises AwsError."""
        length = body.length
        if length is None or not (0 <= part < PARTS_MAX and offset >= 0 and length > 0 and offset + length <= size):
            raise AwsError("InvalidArgument", "This is no piece of such a part.")
        self._forget_old()
        staging = self._stagings.get(name)
        if staging is None:
            if len(self._stagings) >= STAGINGS_MAX or len(name) > NAME_CHARACTERS_MAX:
                raise AwsError("ServiceUnavailable", "Too much is being staged.")
            staging = self._stagings[name] = _Staging(self._now_s())
        staging.writing += 1
        try:
            file = staging.files.get(part)
            if file is None:
                file = staging.files[part] = _File(self._disk.number(), size)
            if file.size != size:
                raise AwsError("InvalidArgument", "A part has one size.")
            await self._write(file, offset, length, body)
        finally:
            staging.writing -= 1
            staging.used_s = self._now_s()
        file.arrived[offset] = length

    async def claim(self, name: str, sizes: Sequence[int], algorithm: str) -> list[Received]:
        """The parts, read and flushed; the files are the caller's then.

        Raises AwsError: IncompleteBody when not all of it is there.
        """
        staging = self._stagings.pop(name, None)
        files = [] if staging is None else [staging.files.get(part) for part in range(len(sizes))]
        found = [file for file in files if file is not None and file.complete]
        if staging is None or staging.writing or [file.size for file in found] != list(sizes):
            self._drop(staging)
            raise AwsError("IncompleteBody", "Not every piece of this version has arrived.")
        loop = asyncio.get_running_loop()
        try:
            return list(
                await asyncio.gather(*(loop.run_in_executor(self._pool, self._read, file, algorithm) for file in found))
            )
        except BaseException as error:
            self._drop(staging)
            if isinstance(error, OSError):
                raise unavailable(error) from error
            raise

    async def _write(self, file: _File, offset: int, length: int, body: Body) -> None:
        loop = asyncio.get_running_loop()
        try:
            fd = await opened(self._pool, self._open, file)
            try:
                end = offset + length
                block: list[bytes] = []
                waiting = 0
                async for chunk in body:
                    block.append(chunk)
                    waiting += len(chunk)
                    if offset + waiting > end:
                        raise AwsError("IncompleteBody", "A piece is longer than it said.")
                    if waiting >= _BLOCK_BYTES or offset + waiting == end:
                        await ended(loop.run_in_executor(self._pool, _write_all, fd, block, offset))
                        offset += waiting
                        block, waiting = [], 0
            finally:
                os.close(fd)
        except OSError as error:
            if isinstance(error, ConnectionError | TimeoutError):
                raise
            raise unavailable(error) from error
        if offset != end:
            raise AwsError("IncompleteBody")

    def _open(self, file: _File) -> int:
        fd = os.open(self._disk.path(file.number), os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, file.size)  # a full disk says so now, not at the last piece
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _read(self, file: _File, algorithm: str) -> Received:
        md5, checksum = hashlib.md5(usedforsecurity=False), checksums.new(algorithm)
        fd = self._disk.open(file.number)
        try:
            while data := os.read(fd, _HASHED_BYTES):
                md5.update(data)
                checksum.update(data)
            self._disk.seal(file.number, fd)
        finally:
            os.close(fd)
        found = Checksum(algorithm, "FULL_OBJECT", checksums.encode(checksum.digest()))
        return Received(size=file.size, etag=md5.hexdigest(), checksum=found, content=file.number)

    def _forget_old(self) -> None:
        now_s = self._now_s()
        for name, staging in list(self._stagings.items()):
            if not staging.writing and now_s - staging.used_s > KEPT_S:
                del self._stagings[name]
                self._drop(staging)

    def _drop(self, staging: _Staging | None) -> None:
        if staging is not None and staging.files:
            self._pool.submit(self._disk.remove, [file.number for file in staging.files.values()])

    @staticmethod
    def _now_s() -> float:
        return asyncio.get_running_loop().time()


def _write_all(fd: int, blocks: Sequence[bytes], offset: int) -> None:
    left = [memoryview(block) for block in blocks]
    while left:
        written = os.pwritev(fd, left[:_VECTORS_MAX], offset)
        offset += written
        while left and written >= len(left[0]):
            written -= len(left.pop(0))
        if written:
            left[0] = left[0][written:]
