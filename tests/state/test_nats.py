"""State over a real JetStream: what was acknowledged is there after a killed server; snapshots reach who watches."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.state import nats
from nearpoint.state.resources import AccessKey, Bucket, Function, Snapshot
from nearpoint.state.store import MemoryState


def bucket(name: str) -> Bucket:
    return Bucket(name=name, region="eu-west-1", created_at=1.5)


def function(version: str) -> Function:
    return Function(
        name="sign",
        version=version,
        account_id="123456789012",
        region="us-east-1",
        role_arn="arn:aws:iam::123456789012:role/r",
        runtime="python3.13",
        handler="index.handler",
        code_sha256="0" * 64,
        code_size_bytes=1,
        last_modified=2.0,
    )


@given(st.text(min_size=1, max_size=40))
def test_any_id_becomes_a_key_and_back(id: str) -> None:
    key = nats._key("function", id)
    assert nats._unkey(key) == ("function", id)
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=.")


async def test_what_was_put_is_there_after_the_server_was_killed(nats_server: Any) -> None:
    client = await nats.connect(nats_server.url, name="writer")
    state = await nats.NatsState.open(client)
    await state.put(bucket("one"))
    await state.put(bucket("two"))
    await state.put(function("$LATEST"))
    await state.delete(bucket("two"))
    nats_server.kill()
    nats_server.start()
    other_client = await nats.connect(nats_server.url, name="reader")
    other = await nats.NatsState.open(other_client)
    assert other.list(Bucket) == [bucket("one")]
    assert other.get(Function, "sign:$LATEST") == function("$LATEST")
    assert other.get(AccessKey, "one") is None
    await client.close()
    await other_client.close()


async def test_an_open_always_loads_everything(nats_server: Any) -> None:
    client = await nats.connect(nats_server.url, name="writer")
    state = await nats.NatsState.open(client)
    for number in range(60):
        await state.put(bucket(f"b{number}"))
    for number in range(0, 60, 3):
        await state.delete(bucket(f"b{number}"))
    for _ in range(40):
        assert len((await nats.NatsState.open(client)).list(Bucket)) == 40
    await client.close()


async def test_durable_and_memory_state_answer_alike(nats_server: Any) -> None:
    client = await nats.connect(nats_server.url, name="writer")
    durable = await nats.NatsState.open(client)
    memory = MemoryState()
    for state in (durable, memory):
        calls: list[int] = []
        state.on_change(lambda state=state, calls=calls: calls.append(state.version))
        await state.put(bucket("b"))
        await state.put(bucket("a"))
        await state.delete(bucket("missing"))
        assert [each.name for each in state.list(Bucket)] == ["a", "b"]
        await state.delete(bucket("a"))
        assert state.get(Bucket, "a") is None
        assert len(calls) == 3
        assert calls == sorted(set(calls))
    await client.close()


async def test_a_watcher_gets_the_latest_snapshot_and_each_one_after(nats_server: Any) -> None:
    client = await nats.connect(nats_server.url, name="planner")
    channel = await nats.SnapshotChannel.open(client)
    assert await channel.latest() is None
    first = Snapshot(generation=1, account_id="123456789012", session_secret="s", buckets={"b": bucket("b")})
    await channel.publish(first)
    seen: asyncio.Queue[Snapshot] = asyncio.Queue()

    async def watch() -> None:
        async for snapshot in channel.watch():
            seen.put_nowait(snapshot)

    watching = asyncio.create_task(watch())
    assert await asyncio.wait_for(seen.get(), 10) == first
    await channel.publish(Snapshot(generation=2, account_id="123456789012", session_secret="s"))
    assert (await asyncio.wait_for(seen.get(), 10)).generation == 2
    nats_server.kill()
    nats_server.start()
    third = Snapshot(generation=3, account_id="123456789012", session_secret="s")
    for _ in range(100):
        try:
            await channel.publish(third)
            break
        except Exception:
            await asyncio.sleep(0.1)
    generations = []
    while 3 not in generations:
        generations.append((await asyncio.wait_for(seen.get(), 30)).generation)
    watching.cancel()
    await client.close()


async def test_a_server_that_is_not_there_is_reported() -> None:
    with pytest.raises(TimeoutError):
        await nats.connect("nats://127.0.0.1:1", name="nobody", wait_s=0.2)
