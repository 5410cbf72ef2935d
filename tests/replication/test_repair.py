"""Buckets are compared without being asked to: by the clock, after an outage, and when the log was damaged."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from nearpoint.bucket import mending
from nearpoint.replication.repair import DAMAGED, Repairer
from nearpoint.replication.schedule import Absences, next_at
from nearpoint.replication.sweep import Memory
from nearpoint.wire.message import Request, Response

US, EU = "us-east-1", "eu-west-1"


def test_when_to_compare_is_jittered_and_after_outages_only_when_caught_up() -> None:
    assert next_at(100, 50, 0) == 140
    assert next_at(100, 50, 0.5) == 150
    assert next_at(100, 50, 0.999) < 160
    away = Absences(outage_s=60)
    away.seen("eu", there=False, now_s=0)
    away.seen("eu", there=True, now_s=59)
    assert away.due(60, caught_up=True) == []
    away.seen("eu", there=False, now_s=100)
    away.seen("ap", there=False, now_s=150)
    away.seen("eu", there=True, now_s=200)
    assert away.due(201, caught_up=True) == []  # ap is away yet
    away.seen("ap", there=True, now_s=300)
    assert away.due(301, caught_up=False) == []
    assert away.due(302, caught_up=True) == ["ap", "eu"]
    assert away.due(200 + 600, caught_up=False) == ["ap", "eu"]
    away.compared()
    assert away.due(1000, caught_up=True) == []


async def until(condition: Any) -> None:
    async with asyncio.timeout(15):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_region_that_returns_is_compared_by_itself(pair: Any, tmp_path: Any) -> None:
    """What was lost of its log meanwhile comes with it."""
    us, eu = pair[US], pair[EU]
    repairer = Repairer(tmp_path / "sweeps", {US: us.peer, EU: eu.peer}, outage_s=0.05, look_s=0.02)
    running = asyncio.create_task(repairer.run())

    async def away(request: Request) -> Response | None:
        return Response(503)

    await us.ask("PUT", "aaa", "k", b"x")
    await us.embedded.writer.submit(lambda tx: tx.db.execute("DELETE FROM outbox"))
    eu.fault = away
    await asyncio.sleep(0.3)
    assert repairer.status()["last"] is None
    eu.fault = None

    async def compared() -> bool:
        return repairer.status()["last"] is not None

    await until(compared)
    last = repairer.status()["last"]
    assert (last["cause"], last["repaired"]) == (f"back after an outage: {EU}", 1)
    assert (await eu.ask("HEAD", "bbb", "k")).status == 200
    # While a region is away, what is left of an earlier sweep waits for it; by the clock the others are compared.
    eu.fault = away
    await asyncio.sleep(0.1)
    kept = Memory(tmp_path / "sweeps", repair=True)
    progress = kept.load()
    assert progress is not None
    progress.ended_at = None
    kept.save(progress, time.time())
    await asyncio.sleep(0.2)
    assert kept.unfinished(time.time()) is not None
    repairer._settings.next_at = 1.0

    async def without() -> bool:
        return bool((repairer.status()["last"] or {}).get("left_out"))

    await until(without)
    assert repairer.status()["last"]["left_out"] == [
        "aaa and bbb: The bucket bbb is in none of the others: eu-west-1 cannot be reached."
    ]
    eu.fault = None
    # By the clock; nothing happens before its time.
    assert repairer.status()["every_s"] == 86_400
    with pytest.raises(ValueError, match="between 60"):
        repairer.set_every(5)
    repairer.set_every(60)
    assert 40 < repairer.status()["next_at"] - time.time() < 80
    repairer.set_every(None)
    assert Repairer(tmp_path / "sweeps", {}).status()["every_s"] is None
    running.cancel()


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE outbox SET key = x'ff00ff' WHERE sequence = 2",
        "UPDATE outbox SET size = 'x', written = 'y' WHERE sequence = 2",
        "UPDATE outbox SET operation = 'p' WHERE sequence = 2",
        "UPDATE outbox SET version = x'00' WHERE sequence = 2",
        "UPDATE outbox SET key = 'text', size = -1 WHERE sequence = 2",
    ],
)
async def test_a_damaged_entry_of_the_log_is_set_aside_reported_and_reconciled(
    pair: Any, tmp_path: Any, damage: str
) -> None:
    us, eu = pair[US], pair[EU]
    for key in ("a", "b", "c"):
        await us.ask("PUT", "aaa", key, key.encode())
    await us.embedded.writer.submit(lambda tx: tx.db.execute(damage))
    pair.copy()

    async def told() -> bool:
        return bool((await us.peer.owed())["parked"])

    await until(told)
    await pair.settled()
    [parked] = (await us.peer.owed())["parked"]
    assert parked["reason"] == DAMAGED == mending.DAMAGED
    assert [(await eu.ask("HEAD", "bbb", key)).status for key in "abc"] == [200, 404, 200]
    assert (await us.ask("HEAD", "aaa", "b")).header("x-amz-replication-status") in ("PENDING", "FAILED")
    repairer = Repairer(tmp_path / "sweeps", {US: us.peer, EU: eu.peer}, look_s=0.02)
    running = asyncio.create_task(repairer.run())

    async def mended() -> bool:
        return repairer.status()["last"] is not None

    await until(mended)
    assert (await eu.ask("GET", "bbb", "b")).body == b"b"
    assert (await us.ask("HEAD", "aaa", "b")).header("x-amz-replication-status") == "COMPLETED"
    assert repairer.status()["last"]["cause"] == "an entry of a log was damaged"
    assert (await us.peer.owed())["parked"] == []
    running.cancel()


async def test_damage_that_a_comparison_does_not_clear_is_not_compared_again_and_again(
    pair: Any, tmp_path: Any, monkeypatch: Any
) -> None:
    us, eu = pair[US], pair[EU]
    monkeypatch.setattr("nearpoint.replication.repair.DAMAGE_LOOKS", 1)
    await us.ask("PUT", "aaa", "k", b"x")
    await us.embedded.writer.submit(lambda tx: tx.db.execute("UPDATE outbox SET operation = 'p'"))
    await us.peer.due("aaa", "bbb", 0, 10)  # it is set aside when it is met
    assert (await eu.ask("DELETE", "bbb")).status == 204  # so nothing brings it over
    begun = []

    async def history(request: Request) -> Response | None:
        begun.extend(["rules"] if "/-/rules" in request.target else [])
        return None

    us.fault = history
    repairer = Repairer(tmp_path / "sweeps", {US: us.peer, EU: eu.peer}, look_s=0.02)
    running = asyncio.create_task(repairer.run())

    async def compared() -> bool:
        return repairer.status()["last"] is not None

    await until(compared)
    await asyncio.sleep(0.3)
    assert begun == ["rules"]
    assert [each["reason"] for each in (await us.peer.owed())["parked"]] == [DAMAGED]
    running.cancel()
