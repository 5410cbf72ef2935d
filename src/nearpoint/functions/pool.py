"""The processes of one function: a zygote, the workers it forked, and the calls that wait for one.

A worker answers one call at a time. A call takes the worker that was used last (its memory is warm), else waits while
another is forked, else for one to get free; more waiting than allowed is throttled, as Lambda's concurrency limit does.
When the role's credentials change, a new zygote takes over, since a module may have kept the old ones at import.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from nearpoint.functions.worker import Kind, Worker
from nearpoint.functions.zygote import Spec, StartError, Zygote

# Forks under way at a time: a fork takes 1.4 ms, so by the time that these are ready a short call is over.
STARTING_MAX = 4
FORK_TIMEOUT_S = 5.0
REAP_TIMEOUT_S = 1.0


class CredentialsLike(Protocol):
    """A role's credentials; `signing.Credentials` and `state.sessions.Identity` are such."""

    @property
    def access_key_id(self) -> str: ...
    @property
    def secret_key(self) -> str: ...
    @property
    def session_token(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """`import_timeout_s` is Lambda's 10 s for the init phase; a failed import is not tried again for `failed_s`."""

    concurrency_max: int = 16
    queue_max: int = 128
    worker_idle_s: float = 120
    zygote_idle_s: float = 900
    import_timeout_s: float = 10
    failed_s: float = 3
    renew_interval_s: float = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """What became of a call: the handler's `value`, or the `kind` of failure with a `text` for the log.

    `duration_ms` is the handler's; `init_ms` that of the import, when the call had to wait for one; `peak_memory_mb` is
    the most memory that the worker had resident since it was forked.
    """

    value: Any = None
    kind: Kind | None = None
    text: str = ""
    duration_ms: float = 0.0
    init_ms: float | None = None
    peak_memory_mb: int = 0


class Pool:
    """`spec` makes what a zygote is started with, given credentials; `on_line` gets (request id, line)."""

    def __init__(
        self,
        spec: Callable[[CredentialsLike], Awaitable[Spec]],
        on_line: Callable[[str, str], None],
        limits: PoolLimits,
        credentials: CredentialsLike,
    ) -> None:
        self._spec = spec
        self._on_line = on_line
        self._limits = limits
        self._credentials = credentials
        self._loop = asyncio.get_running_loop()
        self._current: Zygote | None = None
        self._generation = 0
        self._generation_key = ""
        self._generation_since = 0.0
        self._booting: asyncio.Task[Zygote] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._zygotes: set[Zygote] = set()
        self._idle: deque[Worker] = deque()
        self._busy: set[Worker] = set()
        self._waiters: deque[asyncio.Future[Worker]] = deque()
        self._starting = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failed: StartError | None = None
        self._failed_until = 0.0
        self._used_at = self._loop.time()
        self._closed = False
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)

    @property
    def idle(self) -> bool:
        """No process is left and nobody waits for one."""
        return not (self._zygotes or self._busy or self._waiters or self._tasks)

    async def invoke(self, event: Any, request_id: str, credentials: CredentialsLike, deadline_s: float) -> Invocation:
        """Run one call. Never raises for what the function does; a cancelled call ends its worker."""
        self._credentials = credentials
        init_ms: float | None = None
        worker = self._take_idle()
        if worker is None:
            cold = self._current is None
            try:
                worker = await self._wait_for_worker(deadline_s)
            except StartError as error:
                return Invocation(kind=error.kind, text=str(error))
            if cold:
                init_ms = worker.zygote.init_ms
        self._busy.add(worker)
        started = time.perf_counter()  # the loop's own time has a resolution of 1 ms on uvloop
        try:
            reply = await worker.call(
                self._payload(worker, event, request_id, credentials, deadline_s),
                deadline_s,
                lambda line: self._on_line(request_id, line),
            )
        except BaseException:
            worker.kill()
            raise
        finally:
            self._release(worker)
        if self._generation_key != credentials.access_key_id:
            self._renew_in_time()
        return Invocation(
            value=reply.value,
            kind=reply.kind,
            text=reply.text,
            duration_ms=(time.perf_counter() - started) * 1000,
            init_ms=init_ms,
            peak_memory_mb=reply.peak_memory_mb,
        )

    def stop(self) -> None:
        """Give up an idle pool."""
        self._closed = True
        self._sweeper.cancel()

    async def close(self) -> None:
        """End every process of this function and wait until it has."""
        self.stop()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(StartError("throttled", "the sandbox is closing"))
        zygotes = list(self._zygotes)
        workers = [worker for zygote in zygotes for worker in zygote.workers.values()]
        for worker in workers:
            worker.kill()
        # The zygote reaps its workers and what they started; then it goes too.
        if workers:
            await asyncio.wait([worker.gone for worker in workers], timeout=REAP_TIMEOUT_S)
        for zygote in zygotes:
            zygote.kill()
        await asyncio.gather(*(zygote.gone for zygote in zygotes))

    # ── workers ──

    def _take_idle(self) -> Worker | None:
        while self._idle:
            worker = self._idle.pop()
            if worker.usable:
                return worker
        return None

    async def _wait_for_worker(self, deadline_s: float) -> Worker:
        if self._closed:
            raise StartError("throttled", "the sandbox is closing")
        if self._failed is not None and self._loop.time() < self._failed_until:
            raise StartError(self._failed.kind, str(self._failed))
        if len(self._waiters) >= self._limits.queue_max:
            raise StartError("throttled", f"{len(self._waiters)} calls wait already")
        waiter: asyncio.Future[Worker] = self._loop.create_future()
        self._waiters.append(waiter)
        self._grow()
        wait_s = deadline_s + (self._limits.import_timeout_s if self._current is None else 0)
        taken = False
        try:
            async with asyncio.timeout(wait_s):
                worker = await waiter
                taken = True
                return worker
        except TimeoutError:
            raise StartError("throttled", f"no worker got free within {wait_s:g} s") from None
        finally:
            with contextlib.suppress(ValueError):
                self._waiters.remove(waiter)
            if not taken and waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self._offer(waiter.result())

    def _offer(self, worker: Worker) -> None:
        """Give a free worker to whoever waits longest, or keep it."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(worker)
                return
        worker.idle_since = self._loop.time()
        self._idle.append(worker)

    def _release(self, worker: Worker) -> None:
        self._busy.discard(worker)
        self._used_at = self._loop.time()
        if worker.zygote.generation != self._generation:
            worker.stop()
        elif worker.usable:
            self._offer(worker)

    def _grow(self, gone: object = None) -> None:
        """Start as many workers as are waited for and allowed; called again whenever one is there, or has ended."""
        if self._closed:
            return
        room = self._limits.concurrency_max - self._starting - sum(len(zygote.workers) for zygote in self._zygotes)
        for _ in range(min(len(self._waiters) - self._starting, STARTING_MAX - self._starting, room)):
            self._starting += 1
            self._spawn(self._start_worker())

    async def _start_worker(self) -> None:
        try:
            worker = await self._new_worker()
        except (StartError, OSError) as failure:
            error = failure if isinstance(failure, StartError) else StartError("crashed", str(failure))
            self._failed, self._failed_until = error, self._loop.time() + self._limits.failed_s
            waiters, self._waiters = self._waiters, deque()
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_exception(StartError(error.kind, str(error)))
            return
        finally:
            self._starting -= 1
        self._failed = None
        worker.gone.add_done_callback(self._grow)
        self._offer(worker)
        self._grow()

    async def _new_worker(self) -> Worker:
        zygote = await self._zygote()
        try:
            return await self._worker_of(zygote)
        except StartError:
            if zygote.alive:
                raise
        # It ended since it was last heard of: its successor does it.
        return await self._worker_of(await self._zygote())

    async def _worker_of(self, zygote: Zygote) -> Worker:
        if zygote.threads == 1:
            worker = await zygote.fork(FORK_TIMEOUT_S)
        else:
            # The module started threads, which a fork would lose: each worker imports it for itself.
            worker = await (await self._boot() if zygote.workers else zygote).serve()
        worker.access_key_id = self._generation_key
        return worker

    def _payload(
        self, worker: Worker, event: Any, request_id: str, credentials: CredentialsLike, deadline_s: float
    ) -> bytes:
        call: dict[str, Any] = {"id": request_id, "event": event, "remaining_s": deadline_s}
        if worker.access_key_id != credentials.access_key_id:
            call["credentials"] = [credentials.access_key_id, credentials.secret_key, credentials.session_token]
            worker.access_key_id = credentials.access_key_id
        return orjson.dumps(call)

    # ── zygotes ──

    async def _zygote(self) -> Zygote:
        if self._current is not None and self._current.alive:
            return self._current
        if self._booting is None:
            self._booting = self._spawn(self._boot_current())
        return await asyncio.shield(self._booting)

    async def _boot_current(self) -> Zygote:
        try:
            credentials = self._credentials
            zygote = await self._boot(credentials)
            self._current, self._generation_key = zygote, credentials.access_key_id
            self._generation += 1
            zygote.generation = self._generation
            self._generation_since = self._loop.time()
            return zygote
        finally:
            self._booting = None

    async def _boot(self, credentials: CredentialsLike | None = None) -> Zygote:
        spec = await self._spec(credentials or self._credentials)
        zygote = Zygote(spec, lambda line: self._on_line("init", line))
        zygote.generation = self._generation
        self._zygotes.add(zygote)
        zygote.gone.add_done_callback(lambda _: self._lost(zygote))
        await zygote.ready(self._limits.import_timeout_s)
        return zygote

    def _lost(self, zygote: Zygote) -> None:
        self._zygotes.discard(zygote)
        if self._current is zygote:
            self._current = None

    def _renew_in_time(self) -> None:
        since = self._loop.time() - self._generation_since
        if self._current is not None and self._renewing is None and since >= self._limits.renew_interval_s:
            self._renewing = self._spawn(self._renew())

    async def _renew(self) -> None:
        try:
            await self._boot_current()
        except StartError as error:
            self._on_line("init", f"renewing the function's process failed, the old one goes on: {error}")
            self._generation_since = self._loop.time()
            return
        finally:
            self._renewing = None
        for worker in [worker for worker in self._idle if worker.zygote.generation != self._generation]:
            self._idle.remove(worker)
            worker.stop()
        self._retire()

    def _retire(self) -> None:
        for zygote in list(self._zygotes):
            if zygote.generation != self._generation and not zygote.workers:
                zygote.kill()

    # ── upkeep ──

    @property
    def _sweep_s(self) -> float:
        return max(min(self._limits.worker_idle_s, self._limits.zygote_idle_s) / 4, 0.05)

    def _sweep(self) -> None:
        now = self._loop.time()
        while self._idle and now - self._idle[0].idle_since > self._limits.worker_idle_s:
            self._idle.popleft().stop()
        unused = not self._busy and not self._waiters and now - self._used_at > self._limits.zygote_idle_s
        if unused and self._current is not None and not self._current.workers:
            self._current.kill()
        self._retire()
        self._sweeper = self._loop.call_later(self._sweep_s, self._sweep)

    def _spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
