"""Who is cancelled stays until the thread is done, and leaves no descriptor behind."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nearpoint.bucket.threads import ended, opened


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


async def cancelled(task: asyncio.Task[int], go_on: threading.Event) -> bool:
    """Cancel a task twice while its thread works; whether it stayed until the thread was let go on."""
    for _ in range(2):
        await asyncio.sleep(0.02)
        task.cancel()
    await asyncio.sleep(0.02)
    stayed = not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    return stayed


@pytest.mark.parametrize("fails", [False, True])
async def test_the_thread_ends_before_who_waits_for_it(pool: ThreadPoolExecutor, fails: bool) -> None:
    go_on, done = threading.Event(), threading.Event()

    def work() -> int:
        go_on.wait(10)
        done.set()
        if fails:
            raise OSError
        return 1

    async def wait() -> int:
        try:
            return await ended(asyncio.get_running_loop().run_in_executor(pool, work))
        finally:
            assert done.is_set()

    assert await cancelled(asyncio.create_task(wait()), go_on)


async def test_a_result_and_an_error_arrive(pool: ThreadPoolExecutor) -> None:
    loop = asyncio.get_running_loop()
    assert await ended(loop.run_in_executor(pool, lambda: 5)) == 5
    with pytest.raises(ZeroDivisionError):
        await ended(loop.run_in_executor(pool, lambda: 1 // 0))


async def test_a_descriptor_that_nobody_waits_for_is_closed(pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    go_on = threading.Event()
    found: list[int] = []

    def open_slowly(path: Path) -> int:
        go_on.wait(10)
        found.append(os.open(path, os.O_CREAT | os.O_WRONLY))
        return found[0]

    assert await cancelled(asyncio.create_task(opened(pool, open_slowly, tmp_path / "f")), go_on)
    with pytest.raises(OSError):
        os.fstat(found[0])
