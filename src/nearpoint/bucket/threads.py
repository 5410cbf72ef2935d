"""Work on the store's threads, seen to its end: who is cancelled while waiting for it stays until the thread is done.

A thread cannot be stopped. If the descriptor that it is about to write to were closed meanwhile, it would write into
whatever was given that number next.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import TypeVar, TypeVarTuple

T = TypeVar("T")
Args = TypeVarTuple("Args")


async def ended(running: asyncio.Future[T]) -> T:
    """The result of what runs on a thread. Raises what it raised; CancelledError only once it has ended."""
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # seen: nobody is left to tell
        raise


async def opened(pool: Executor, opening: Callable[[*Args], int], *args: *Args) -> int:
    """A descriptor that was opened on a thread; the caller closes it. Raises OSError."""
    running = asyncio.get_running_loop().run_in_executor(pool, opening, *args)
    try:
        return await ended(running)
    except asyncio.CancelledError:
        if not running.cancelled() and running.exception() is None:
            os.close(running.result())
        raise
