"""Who routes reads learns which keys are on their way, and that they have arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from nearpoint.replication import pending as module
from nearpoint.replication.pending import PendingKeys

US, EU = "us-east-1", "eu-west-1"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def keys(pair: Any) -> Any:
    index = PendingKeys({name: pair[name].peer for name in (US, EU)})
    task = asyncio.create_task(index.run())
    yield index
    task.cancel()


async def test_a_key_is_behind_until_it_has_arrived(pair: Any, keys: PendingKeys) -> None:
    await pair[US].ask("PUT", "aaa", "k", b"1")
    await until(lambda: keys.newer_in("bbb", "k") == ["aaa"])
    assert keys.newer_in("bbb", "other") == keys.newer_in("aaa", "k") == []
    pair.copy()
    await until(lambda: keys.newer_in("bbb", "k") == [])


async def test_of_a_long_log_every_key_may_be_behind(
    pair: Any, keys: PendingKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEYS_MAX", 3)
    for at in range(4):
        await pair[US].ask("PUT", "aaa", f"k{at}", b"1")
    await until(lambda: keys.newer_in("bbb", "any") == ["aaa"])
    pair.copy()
    await until(lambda: keys.newer_in("bbb", "any") == [])
