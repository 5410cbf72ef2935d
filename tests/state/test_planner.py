"""The planner: one snapshot for changes that come together, numbers that only rise, and an honest `published`."""

from __future__ import annotations

import asyncio

from nearpoint.state.planner import NODE_SILENT_S, NodeStatus, Planner, build
from nearpoint.state.resources import AccessPoint, Bucket, Function, Member, Snapshot
from nearpoint.state.store import MemoryState


class Channel:
    def __init__(self, latest: Snapshot | None = None) -> None:
        self.published: list[Snapshot] = []
        self._latest = latest
        self.failures = 0

    async def publish(self, snapshot: Snapshot) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no server")
        self.published.append(snapshot)

    async def latest(self) -> Snapshot | None:
        return self._latest


def make(state: MemoryState, channel: Channel) -> Planner:
    return Planner(state, channel, account_id="123456789012", session_secret="s")


def bucket(name: str) -> Bucket:
    return Bucket(name=name, region="eu-west-1", created_at=0.0)


async def test_the_snapshot_holds_what_nodes_need() -> None:
    state = MemoryState()
    await state.put(bucket("b"))
    point = AccessPoint(
        alias="abc.mrap",
        name="point",
        account_id="123456789012",
        created_at=0.0,
        members=(Member(bucket="b", region="eu-west-1"),),
    )
    await state.put(point)
    for version in ("$LATEST", "1"):
        await state.put(
            Function(
                name="f", version=version, account_id="123456789012", region="us-east-1", role_arn="r",
                runtime="python3.13", handler="a.b", code_sha256="", code_size_bytes=0, last_modified=0.0,
            )
        )  # fmt: skip
    snapshot = build(state, generation=7, account_id="123456789012", session_secret="s")
    assert snapshot.generation == 7
    assert snapshot.access_points == {"abc.mrap": point}
    assert list(snapshot.functions) == ["arn:aws:lambda:us-east-1:123456789012:function:f:1"]


async def test_generations_go_on_where_the_last_planner_stopped() -> None:
    channel = Channel(Snapshot(generation=41, account_id="123456789012", session_secret="s"))
    planner = make(MemoryState(), channel)
    await planner.start()
    assert [snapshot.generation for snapshot in channel.published] == [42]


async def test_changes_together_are_one_snapshot_and_failures_are_tried_again() -> None:
    state, channel = MemoryState(), Channel()
    planner = make(state, channel)
    await planner.start()
    running = asyncio.create_task(planner.run())
    channel.failures = 1
    for name in ("a", "b", "c"):
        await state.put(bucket(name))
    assert await planner.published(10)
    assert [len(snapshot.buckets) for snapshot in channel.published] == [0, 3]
    running.cancel()


async def test_published_waits_for_live_nodes_alone() -> None:
    state, channel = MemoryState(), Channel()
    planner = make(state, channel)
    await planner.start()
    running = asyncio.create_task(planner.run())
    loop = asyncio.get_running_loop()
    await planner.node_reported(NodeStatus(location="FRA", generation=1), loop.time())
    await planner.node_reported(NodeStatus(location="GONE", generation=1), loop.time() - NODE_SILENT_S - 1)
    await state.put(bucket("a"))
    assert not await planner.published(0.1)
    await planner.node_reported(NodeStatus(location="FRA", generation=2), loop.time())
    assert await planner.published(10)
    running.cancel()
