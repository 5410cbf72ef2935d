"""An open store: its folder, locked; the connections, the writer, the content files, and what was left behind swept."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import structlog

from nearpoint.bucket import schema
from nearpoint.bucket.disk import Disk
from nearpoint.bucket.feed import Feed
from nearpoint.bucket.intake import Intake
from nearpoint.bucket.writer import LogChange, Writer

log = structlog.get_logger("nearpoint.bucket")

_THREADS = 4


class Store:
    """One region's buckets on disk. Reading goes through `db`, on the event loop; writing through `writer`."""

    def __init__(self, folder: Path, region: str, *, account_id: str | None = None) -> None:
        self.region = region
        self.account_id = account_id
        self.owner = {"ID": hashlib.sha256((account_id or "nearpoint").encode()).hexdigest()}
        self._folder = folder
        self._lock = _lock(folder)
        try:
            path = self.metadata_path = folder / "metadata.db"
            writing = schema.open_writer(path)
            boot = schema.next_boot(writing)
            self.disk = Disk(folder / "content", boot)
            self.db = schema.open_reader(path)
        except BaseException:
            os.close(self._lock)
            raise
        schema.forget_removed(writing, now_us())
        self.pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="disk")
        self.intake = Intake(self.disk, self.pool)
        self.writer = Writer(
            writing,
            self.disk,
            clock_us=now_us,
            region=region,
            on_logged=self._log_changed,
            loop=asyncio.get_running_loop(),
            pool=self.pool,
        )
        self._closing = False
        self._log_waiters: set[asyncio.Future[None]] = set()
        self.feed = Feed(self.db)
        self._sweeping = asyncio.get_running_loop().run_in_executor(self.pool, self._sweep, path)

    def new_version(self) -> str:
        """A version id as S3's: 32 characters that say nothing."""
        return base64.b64encode(os.urandom(24), b"._").decode("ascii")

    async def log_grows(self, timeout_s: float) -> None:
        """Wait until something new is in the outbox, or the time is over, or the store closes."""
        if self._closing:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._log_waiters.add(waiter)
        try:
            await asyncio.wait({waiter}, timeout=timeout_s)
        finally:
            self._log_waiters.discard(waiter)

    def stop_waiting(self) -> None:
        """Let go of who waits for the log: the store is about to close."""
        self._closing = True
        self._wake()
        self.feed.close()

    def _log_changed(self, change: LogChange) -> None:
        self.feed.publish(change)
        if change.added or change.afresh:
            self._wake()

    def _wake(self) -> None:
        for waiter in self._log_waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def swept(self) -> int:
        """Wait until the orphans of earlier boots are gone: their number."""
        return await self._sweeping

    def _sweep(self, path: Path) -> int:
        db = schema.open_reader(path)
        try:
            return sweep(db, self.disk, lambda: self._closing)
        finally:
            db.close()

    async def close(self) -> None:
        """Finish what was handed in, then let go of everything."""
        self.stop_waiting()
        await self.writer.close()
        await self._sweeping
        await asyncio.to_thread(self.pool.shutdown)
        self.db.close()
        os.close(self._lock)


def now_us() -> int:
    """The clock, in microseconds since 1970."""
    return time.time_ns() // 1000


def sweep(db: apsw.Connection, disk: Disk, stop: Callable[[], bool] = lambda: False) -> int:
    """Remove the files of earlier boots that no row knows: writes that a crash cut short. How many there were."""

    def is_known(number: int) -> bool:
        return schema.fetch_one(db, "SELECT 1 FROM content WHERE id = ?", (number,)) is not None

    count = 0
    for path in disk.orphans(is_known):
        path.unlink(missing_ok=True)
        count += 1
        if stop():
            break
    if count:
        log.info("orphans removed", count=count)
    return count


def _lock(folder: Path) -> int:
    """Hold the folder for this process alone. Raises StoreUnusableError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(folder / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise schema.StoreUnusableError(f"{folder} belongs to a store that is running") from None
    return fd
