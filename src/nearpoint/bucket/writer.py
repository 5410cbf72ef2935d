"""The one thread that writes metadata: waiting changes share one transaction, and so one flush of the disk.

A change is a function of the transaction. It decides first (and may raise AwsError, having written nothing), then
writes. When a transaction fails, its changes are made again one by one, so that one change's fault is its own.
"""

from __future__ import annotations

import asyncio
import errno
import queue
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import apsw
import structlog

from nearpoint.awsproto.errors import AwsError
from nearpoint.bucket.disk import Disk

log = structlog.get_logger("nearpoint.bucket")

T = TypeVar("T")
_GROUP_MAX = 128


class Transaction:
    """What a change works with: the connection, the time of the change, and the files it leaves behind."""

    __slots__ = ("abandoned", "db", "now_us")

    def __init__(self, db: apsw.Connection, now_us: int) -> None:
        self.db = db
        self.now_us = now_us
        self.abandoned: list[int] = []  # content numbers whose files go once this is committed


Change = Callable[[Transaction], Any]
_Waiting = tuple[Change, "asyncio.Future[Any]", tuple[int, ...]]


class Writer:
    """Takes changes from the event loop and answers when they are on disk."""

    def __init__(
        self,
        db: apsw.Connection,
        disk: Disk,
        *,
        clock_us: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
        pool: ThreadPoolExecutor,
    ) -> None:
        self._db = db
        self._disk = disk
        self._clock_us = clock_us
        self._loop = loop
        self._pool = pool
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def submit(self, change: Callable[[Transaction], T], files: tuple[int, ...] = ()) -> asyncio.Future[T]:
        """Make a change; the future's result comes when it is on disk.

        It raises the change's AwsError, or ServiceUnavailable when the disk is full. `files` are those that the change
        gives rows to: they are the writer's from here on, and removed when the change does not come about.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put((change, future, files))
        return future

    async def close(self) -> None:
        """Make what waits, then close the connection."""
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _run(self) -> None:
        ended = False
        while not ended:
            group: list[_Waiting] = []
            item = self._queue.get()
            while True:
                if item is None:
                    ended = True
                    break
                group.append(item)
                if len(group) == _GROUP_MAX or self._queue.empty():
                    break
                item = self._queue.get()
            if group:
                self._make(group)
        self._db.close()

    def _make(self, group: list[_Waiting]) -> None:
        try:
            outcomes, abandoned = self._transact([change for change, _, _ in group])
        except Exception as error:
            if len(group) > 1:
                for item in group:
                    self._make([item])
                return
            outcomes, abandoned = [unavailable(error)], []
        for (_, _, files), outcome in zip(group, outcomes, strict=True):
            if files and isinstance(outcome, Exception):
                abandoned += files
        self._loop.call_soon_threadsafe(self._settle, [future for _, future, _ in group], outcomes, abandoned)

    def _transact(self, changes: list[Change]) -> tuple[list[Any], list[int]]:
        """Every change's result or AwsError, committed. Raises whatever else happens, rolled back."""
        db = self._db
        outcomes: list[Any] = []
        abandoned: list[int] = []
        db.execute("BEGIN IMMEDIATE")
        try:
            for change in changes:
                transaction = Transaction(db, self._clock_us())
                written = db.total_changes()
                try:
                    outcomes.append(change(transaction))
                except AwsError as error:
                    if db.total_changes() != written:
                        raise RuntimeError("a change refused after it had written") from error
                    outcomes.append(error)
                abandoned += transaction.abandoned
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return outcomes, abandoned

    def _settle(self, futures: list[asyncio.Future[Any]], outcomes: list[Any], abandoned: list[int]) -> None:
        for future, outcome in zip(futures, outcomes, strict=True):
            if future.cancelled():
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
        free = self._disk.doom(abandoned) if abandoned else None
        if free:
            self._pool.submit(self._disk.remove, free)


def unavailable(error: Exception) -> AwsError:
    """What a client is told of a failure to write: a full disk may be retried, the rest is internal."""
    full = isinstance(error, apsw.FullError) or (
        isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    )
    log.error("write failed", error=repr(error), exc_info=None if full else error)
    if full:
        return AwsError("ServiceUnavailable", "The disk of this store is full: nothing was written.")
    return AwsError("InternalError")
