"""Deadlines: as `asyncio.timeout`, with one timer for all."""

from __future__ import annotations

import asyncio

import pytest

from nearpoint.wire.ticker import Deadlines


async def test_what_ends_in_time_is_left_alone() -> None:
    deadlines = Deadlines(0.01)
    with deadlines.within(5):
        await asyncio.sleep(0.03)
    assert not deadlines.waiting


async def test_what_does_not_is_cancelled_and_the_task_goes_on() -> None:
    deadlines = Deadlines(0.01)
    seen: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with pytest.raises(TimeoutError), deadlines.within(0.02):
        await work()
    await asyncio.sleep(0)  # a cancellation that was left over would come out here
    assert seen == ["cancelled"]
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_each_has_its_own() -> None:
    deadlines = Deadlines(0.01)

    async def wait(seconds: float) -> str:
        try:
            with deadlines.within(seconds):
                await asyncio.sleep(0.2)
        except TimeoutError:
            return "late"
        return "done"

    assert await asyncio.gather(wait(0.02), wait(5), wait(0.03)) == ["late", "done", "late"]
    assert not deadlines.waiting


async def test_a_cancellation_from_outside_stays_one() -> None:
    deadlines = Deadlines(0.01)

    async def wait() -> None:
        with deadlines.within(5):
            await asyncio.sleep(5)

    task = asyncio.create_task(wait())
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not deadlines.waiting


async def test_an_error_of_the_block_is_its_own() -> None:
    deadlines = Deadlines(0.01)
    with pytest.raises(ValueError, match="other"), deadlines.within(5):
        raise ValueError("other")
    assert not deadlines.waiting


async def test_the_inner_one_strikes_alone() -> None:
    deadlines = Deadlines(0.01)
    with deadlines.within(5):
        with pytest.raises(TimeoutError), deadlines.within(0.02):
            await asyncio.sleep(5)
        await asyncio.sleep(0.02)
    assert not deadlines.waiting
