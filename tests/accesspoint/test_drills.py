"""Fault drills on a seeded schedule: whatever happens to one region, reads and small writes keep succeeding."""

from __future__ import annotations

import asyncio
import hashlib
import random
from typing import Any

import pytest

from nearpoint.wire.message import StreamBody

# The bound of the specification; an idle machine needs about half.
SLOWEST_S = 2.0
FAULTS = ("refuse", "hang", "503", "500", "far away", "break", "flap")


class Drill:
    """Breaks the near region as told, and counts what readers and writers see."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.store = world.stores["near"]
        self.slowest_s = 0.0
        self.regions: list[str] = []

    async def set(self, fault: str | None) -> None:
        if self.store.server is None and fault != "refuse":
            await self.store.resume()
        if fault == "refuse":
            if self.store.server is not None:
                await self.store.halt()
        else:
            self.store.behave = fault or "ok"

    async def ask(self, method: str, target: str, expected: bytes | None = None, **more: Any) -> None:
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        status, headers, body = await self.world.ask(method, target, **more)
        self.slowest_s = max(self.slowest_s, loop.time() - started_s)
        assert status == 200, (status, body[:300])
        assert expected is None or body == expected
        self.regions.append(headers.get("x-nearpoint-region") or "")


@pytest.fixture
async def drill(world: Any) -> Any:
    made = Drill(world)
    content = bytes(range(256)) * 400
    for name, store in world.stores.items():
        store.objects[f"/{name}-bucket/same"] = content
    world.stores["far"].lag_s = 0.03  # so that it is what it is called, however busy the machine
    probing = asyncio.create_task(world.node.run())
    yield made
    probing.cancel()
    await asyncio.wait({probing})
    await made.set(None)


@pytest.mark.parametrize("fault", FAULTS)
async def test_reads_survive_whatever_happens_to_a_region(drill: Drill, fault: str) -> None:
    content = bytes(range(256)) * 400
    lots = random.Random(fault)
    for step in range(24):
        if fault == "flap":
            await drill.set(lots.choice([None, "hang", "503", "refuse"]))
        elif step == 4:
            await drill.set(fault)
        await asyncio.gather(*(drill.ask("GET", "/same", content) for _ in range(lots.randint(1, 4))))
        await asyncio.sleep(0.05)
    assert drill.slowest_s < SLOWEST_S
    if fault not in ("flap", "break", "far away"):
        assert set(drill.regions[-6:]) == {"far"}  # ejected: later reads don't even try


@pytest.mark.parametrize("fault", ["refuse", "hang", "503"])
async def test_a_region_comes_back_by_passing_probes(drill: Drill, fault: str) -> None:
    await drill.set(fault)
    for _ in range(3):
        await drill.ask("GET", "/same")
    await drill.set(None)
    async with asyncio.timeout(15):
        while drill.regions[-1] != "near":
            await drill.ask("GET", "/same")
            await asyncio.sleep(0.1)


async def test_a_small_write_leaves_a_silent_region_within_two_seconds(drill: Drill) -> None:
    await drill.ask("GET", "/same")
    await drill.set("hang")
    await drill.ask("PUT", "/new", body=b"content")
    assert drill.regions[-1] == "far"
    assert drill.world.stores["far"].objects["/far-bucket/new"] == b"content"
    assert drill.slowest_s < SLOWEST_S


@pytest.mark.parametrize("size", [200_000, 900_000])
async def test_a_long_write_that_has_been_half_sent_is_sent_whole_elsewhere(drill: Drill, size: int) -> None:
    data = random.Random(size).randbytes(size)

    async def chunks() -> Any:
        for at in range(0, len(data), 50_000):
            yield data[at : at + 50_000]

    drill.store.behave = "swallow"
    digest = hashlib.sha256(data).hexdigest()
    await drill.ask("PUT", "/long", body=StreamBody(chunks(), len(data)), payload_hash=digest)
    assert drill.regions[-1] == "far"
    assert drill.world.stores["far"].objects["/far-bucket/long"] == data


async def test_with_every_region_gone_the_answer_comes_soon_and_says_when_to_ask_again(world: Any) -> None:
    for store in world.stores.values():
        store.behave = "hang"
    probing = asyncio.create_task(world.node.run())
    async with asyncio.timeout(10):
        while any(state.value == "healthy" for state in world.node.fleet.states.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        status, headers, body = await world.ask("GET", "/hello.txt")
    assert (status, headers.get("retry-after")) == (503, "1")
    assert b"<Code>ServiceUnavailable</Code>" in body
    probing.cancel()


@pytest.mark.parametrize(("method", "target"), [("POST", "/key?uploads"), ("PUT", "/key?uploadId=near.x&partNumber=1")])
async def test_a_write_that_can_go_nowhere_else_does_not_outwait_its_region(
    drill: Drill, method: str, target: str
) -> None:
    for store in drill.world.stores.values():
        store.behave = "hang"  # not yet found dead when the write begins
    async with asyncio.timeout(10):
        status, headers, body = await drill.world.ask(method, target)
    assert (status, headers.get("retry-after")) == (503, "1"), body
