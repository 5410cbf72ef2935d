"""When the state store is started again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from nearpoint.world import revival
from nearpoint.world.revival import Revival


async def test_it_is_started_again_once_for_many_complaints(tmp_path: Path) -> None:
    restarts = asyncio.Semaphore(0)

    async def restart() -> None:
        restarts.release()

    keeper = Revival(tmp_path, restart, rest_s=60)
    for _ in range(5):
        keeper.needed()
    await asyncio.wait_for(restarts.acquire(), 10)
    keeper.needed()
    await asyncio.sleep(0)
    assert restarts.locked()
    keeper.close()


async def test_it_waits_for_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [0]
    monkeypatch.setattr(revival, "CHECK_S", 0.001)
    monkeypatch.setattr(revival.shutil, "disk_usage", lambda _: type("Usage", (), {"free": free[0]}))
    restarted = asyncio.Event()

    async def restart() -> None:
        restarted.set()

    keeper = Revival(tmp_path, restart)
    keeper.needed()
    for _ in range(20):
        await asyncio.sleep(0.001)
    assert not restarted.is_set()
    free[0] = 1 << 30
    await asyncio.wait_for(restarted.wait(), 10)
    keeper.close()
