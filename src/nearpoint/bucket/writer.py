"""Writes metadata: waiting changes share one transaction, and so one flush of the disk.

A change is a function of the transaction. It decides first (and may raise AwsError, having written nothing), then
writes. Changes run on the event loop, which costs no hand-over between threads; only the commit, which waits for the
disk, is another thread's, and what is handed in meanwhile forms the next transaction. When a transaction fails, its
changes are made again one by one, so that one change's fault is its own.
"""

from __future__ import annotations

import asyncio
import errno
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import apsw
import structlog

from nearpoint.awsproto.errors import AwsError
from nearpoint.bucket.disk import Disk

log = structlog.get_logger("nearpoint.bucket")

T = TypeVar("T")
_GROUP_MAX = 128


class Entry(NamedTuple):
    """A row of the log: what says that `bucket` owes a version of a key to `destination`."""

    sequence: int
    bucket: str
    destination: str
    key: bytes


@dataclass(slots=True)
class LogChange:
    """What one commit did to the log. `afresh`: more than is told in rows."""

    added: list[Entry] = field(default_factory=list)
    struck: list[Entry] = field(default_factory=list)
    afresh: bool = False


# What the changes of the task (a request) that handed them in have added to the log; None where nobody asks.
LOGGED: ContextVar[list[Entry] | None] = ContextVar("logged", default=None)


class Transaction:
    """What a change works with: the connection, the region and time of the change, and what it leaves behind."""

    __slots__ = ("abandoned", "db", "log", "now_us", "region")

    def __init__(self, db: apsw.Connection, now_us: int, region: str) -> None:
        self.db = db
        self.now_us = now_us
        self.region = region
        self.abandoned: list[int] = []  # content numbers whose files go once this is committed
        self.log = LogChange()


@dataclass(slots=True)
class _Waiting:
    change: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    files: tuple[int, ...]
    told: list[Entry] | None
    outcome: Any = None
    added: list[Entry] = field(default_factory=list)
    alone: bool = False  # it was part of a transaction that failed


class Writer:
    """Takes changes on the event loop and answers when they are on disk."""

    def __init__(
        self,
        db: apsw.Connection,
        disk: Disk,
        *,
        clock_us: Callable[[], int],
        region: str,
        on_logged: Callable[[LogChange], None],
        loop: asyncio.AbstractEventLoop,
        pool: ThreadPoolExecutor,
    ) -> None:
        """`on_logged` is called when a change of the log is on disk, before those who made it are told."""
        self._db = db
        self._region = region
        self._on_logged = on_logged
        self._disk = disk
        self._clock_us = clock_us
        self._loop = loop
        self._pool = pool
        self._waiting: deque[_Waiting] = deque()
        self._busy = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._commits: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self._thread.start()

    def submit(self, change: Callable[[Transaction], T], files: tuple[int, ...] = ()) -> asyncio.Future[T]:
        """Make a change; the future's result comes when it is on disk.

        It raises the change's AwsError, or ServiceUnavailable when the disk is full. `files` are those that the change
        gives rows to: they are the writer's from here on, and removed when the change does not come about. A change
        whose future was cancelled before it was made is not made.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(_Waiting(change, future, files, LOGGED.get()))
        if not self._busy:
            self._busy = True
            self._idle.clear()
            self._loop.call_soon(self._begin)  # requests that were read together are written together
        return future

    async def close(self) -> None:
        """Make what waits, then close the connection."""
        await self._idle.wait()
        self._commits.put(None)
        await asyncio.to_thread(self._thread.join)
        self._db.close()

    def _run(self) -> None:
        while (commit := self._commits.get()) is not None:
            commit()

    def _begin(self) -> None:
        group: list[_Waiting] = []
        unwanted: list[int] = []
        while self._waiting and len(group) < _GROUP_MAX and not (group and self._waiting[0].alone):
            item = self._waiting.popleft()
            if item.future.cancelled():
                # Nobody waits for it any more: whoever asked may have written elsewhere, and this would be newer.
                unwanted += item.files
                continue
            group.append(item)
            if item.alone:
                break
        self._remove(unwanted)
        if not group:
            self._busy = False
            self._idle.set()
            return
        abandoned: list[int] = []
        log_change = LogChange()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            for item in group:
                self._make(item, abandoned, log_change)
        except Exception as error:
            self._roll_back()
            self._failed(group, error)
        else:
            self._commits.put(lambda: self._commit(group, abandoned, log_change))

    def _make(self, item: _Waiting, abandoned: list[int], log_change: LogChange) -> None:
        db = self._db
        transaction = Transaction(db, self._clock_us(), self._region)
        written = db.total_changes()
        try:
            item.outcome = item.change(transaction)
        except AwsError as error:
            if db.total_changes() != written:
                raise RuntimeError("a change refused after it had written") from error
            item.outcome = error
            abandoned += item.files
        abandoned += transaction.abandoned
        item.added = transaction.log.added
        log_change.added += transaction.log.added
        log_change.struck += transaction.log.struck
        log_change.afresh = log_change.afresh or transaction.log.afresh

    def _commit(self, group: list[_Waiting], abandoned: list[int], log_change: LogChange) -> None:
        """On the commit thread."""
        try:
            self._db.execute("COMMIT")
        except Exception as error:
            self._roll_back()
            self._loop.call_soon_threadsafe(self._failed, group, error)
        else:
            self._loop.call_soon_threadsafe(self._settle, group, abandoned, log_change)

    def _roll_back(self) -> None:
        with suppress(apsw.Error):  # SQLite may have rolled back by itself
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _failed(self, group: list[_Waiting], error: Exception) -> None:
        if len(group) > 1:
            for item in reversed(group):
                item.alone = True
                self._waiting.appendleft(item)
            self._begin()
            return
        group[0].outcome = unavailable(error)
        self._settle(group, list(group[0].files), LogChange())

    def _settle(self, group: list[_Waiting], abandoned: list[int], log_change: LogChange) -> None:
        if log_change.added or log_change.struck or log_change.afresh:
            self._on_logged(log_change)
        for item in group:
            if item.told is not None:
                item.told += item.added
            if item.future.cancelled():
                continue
            if isinstance(item.outcome, Exception):
                item.future.set_exception(item.outcome)
            else:
                item.future.set_result(item.outcome)
        self._remove(abandoned)
        self._begin()

    def _remove(self, files: list[int]) -> None:
        """Files that no row leads to, as soon as nobody reads them."""
        free = self._disk.doom(files) if files else None
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
