"""`x-amz-replication-status` is what is true, whenever it is asked for and whoever is killed meanwhile."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

from nearpoint.regions.store import Store
from nearpoint.wire.client import Client, Timeouts, UpstreamError

US, EU = "us-east-1", "eu-west-1"
STATUS = "x-amz-replication-status"


async def head(store: Store, bucket: str, key: str) -> tuple[int, str | None, str | None]:
    """Status code, replication status and version; a store that is being started again is waited for."""
    async with asyncio.timeout(30):
        while True:
            try:
                response = await store.send("HEAD", bucket, key, timeouts=Timeouts(connect_s=2, read_s=5))
                await response.body.close()
                if response.status < 500:
                    return response.status, response.headers.get(STATUS), response.headers.get("x-amz-version-id")
            except UpstreamError:
                pass
            await asyncio.sleep(0.05)


async def put(store: Store, bucket: str, key: str, body: bytes) -> str:
    """Write until it is acknowledged; the version."""
    async with asyncio.timeout(30):
        while True:
            try:
                response = await store.send("PUT", bucket, key, body=body, timeouts=Timeouts(connect_s=2, read_s=5))
                await response.body.close()
                if response.status == 200:
                    return response.headers.get("x-amz-version-id") or ""
            except UpstreamError:
                pass
            await asyncio.sleep(0.05)


def test_completed_means_that_it_is_there_whoever_is_killed(live: Any) -> None:
    """Copier and destination are killed -9 again and again while every status is held to its word."""
    live.make_access_point("word", {US: "word-us", EU: "word-eu"})

    async def converse() -> None:
        client = Client()
        us, eu = live.store(US, client), live.store(EU, client)
        chance = random.Random(7)
        done = asyncio.Event()
        seen: dict[str, set[str | None]] = {}

        async def hold_to_its_word(key: str, version: str) -> None:
            """PENDING, then COMPLETED and never back; once it is, the destination has that version."""
            statuses = seen.setdefault(key, set())
            async with asyncio.timeout(60):
                while True:
                    code, status, found = await head(us, "word-us", key)
                    assert (code, found) == (200, version)
                    assert status in ("PENDING", "COMPLETED")
                    assert not (status == "PENDING" and "COMPLETED" in statuses)
                    statuses.add(status)
                    if status == "COMPLETED":
                        assert await head(eu, "word-eu", key) == (200, "REPLICA", version)
                        if chance.random() < 0.5:
                            return
                    await asyncio.sleep(chance.uniform(0.0, 0.05))

        async def kill() -> None:
            while not done.is_set():
                await asyncio.sleep(chance.uniform(0.1, 0.5))
                await asyncio.to_thread(live.kill, chance.choice(("replication", f"store-{EU}", "replication")))

        killing = asyncio.create_task(kill())
        watching = []
        for number in range(80):
            body = os.urandom(chance.choice((10, 1000, 300_000)))
            version = await put(us, "word-us", f"k{number}", body)
            watching.append(asyncio.create_task(hold_to_its_word(f"k{number}", version)))
            await asyncio.sleep(0.02)
        done.set()
        await killing
        await asyncio.gather(*watching)
        assert any("PENDING" in statuses for statuses in seen.values())
        assert all("COMPLETED" in statuses for statuses in seen.values())

        live.ask("PUT", f"/faults/{EU}", {"how": "refuse"})
        version = await put(us, "word-us", "cut-off", b"x")
        for _ in range(3):
            assert await head(us, "word-us", "cut-off") == (200, "PENDING", version)
            assert (await head(eu, "word-eu", "cut-off"))[0] == 404
            await asyncio.to_thread(live.kill, "replication")
            await asyncio.sleep(0.3)
        live.ask("DELETE", f"/faults/{EU}")
        await hold_to_its_word("cut-off", version)
        await client.close()

    asyncio.run(converse())


async def test_of_several_destinations_the_last_one_decides(regions: Any) -> None:
    await regions.start(US, EU, "ap-south-1")
    await regions[US].make("aaa")
    await regions[EU].make("bbb")
    await regions["ap-south-1"].make("ccc")
    await regions[US].replicate("aaa", "bbb", "ccc")
    blocked = asyncio.Event()

    async def block(request: Any) -> None:
        if request.path == "/-/versions":
            await blocked.wait()

    regions["ap-south-1"].fault = block
    await regions[US].ask("PUT", "aaa", "k", b"1")
    assert (await regions[US].ask("HEAD", "aaa", "k")).header(STATUS) == "PENDING"
    regions.copy()
    async with asyncio.timeout(10):
        while (await regions[EU].ask("HEAD", "bbb", "k")).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert (await regions[US].ask("HEAD", "aaa", "k")).header(STATUS) == "PENDING"
    await regions.stop_copying()
    assert (await regions[US].ask("HEAD", "aaa", "k")).header(STATUS) == "PENDING"
    blocked.set()
    regions.copy()
    await regions.settled()
    assert (await regions[US].ask("HEAD", "aaa", "k")).header(STATUS) == "COMPLETED"
    for region, bucket in ((EU, "bbb"), ("ap-south-1", "ccc")):
        assert (await regions[region].ask("HEAD", bucket, "k")).header(STATUS) == "REPLICA"
