"""Starts the state store anew when it does not answer writes.

JetStream keeps a stream that once found the disk full in error until it is started again, with whatever was
acknowledged. So the supervisor waits for space and does that; meanwhile nodes serve by the snapshot they have.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

log = structlog.get_logger("nearpoint.supervisor")

FREE_BYTES_MIN = 4 * 1024 * 1024
CHECK_S = 0.5
REST_S = 5.0  # after a restart, before the next: what fails meanwhile may have been sent before it


class Revival:
    """`restart` ends the state store's process, which its supervisor then starts again."""

    def __init__(self, folder: Path, restart: Callable[[], Awaitable[None]], *, rest_s: float = REST_S) -> None:
        self._folder = folder
        self._restart = restart
        self._rest_s = rest_s
        self._task: asyncio.Task[None] | None = None

    def needed(self) -> None:
        """A write was not answered."""
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._revive())

    async def _revive(self) -> None:
        while shutil.disk_usage(self._folder).free < FREE_BYTES_MIN:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(CHECK_S)
        log.warning("the state store does not answer, starting it again")
        await self._restart()
        await asyncio.sleep(self._rest_s)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
