"""Stores that lie, objects that change on their way, wrong clocks: said where one looks, and nothing is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from nearpoint.replication.peer import UnavailableError
from nearpoint.replication.reconcile import Side, reconcile
from nearpoint.replication.repair import Repairer
from nearpoint.replication.service import Service
from nearpoint.wire.message import Headers, Request, Response

US, EU = "us-east-1", "eu-west-1"


def json_of(value: Any) -> Response:
    return Response(200, Headers([("Content-Type", "application/json")]), orjson.dumps(value))


def is_delivery(request: Request) -> bool:
    return request.method == "PUT" and request.path == "/-/versions"


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_an_object_that_changes_while_it_is_copied(pair: Any) -> None:
    """Overwritten, tagged, deleted and removed for good while its content is on its way: both end up the same."""
    us, eu = pair[US], pair[EU]
    waiting = asyncio.Event()
    go_on = asyncio.Event()

    async def slow(request: Request) -> Response | None:
        if is_delivery(request):
            waiting.set()
            await go_on.wait()
        return None

    eu.fault = slow
    first = await us.ask("PUT", "aaa", "k", b"1" * 3_000_000)
    gone = await us.ask("PUT", "aaa", "gone", b"x" * 300_000)
    pair.copy()
    await waiting.wait()
    tagging = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    version = first.header("x-amz-version-id")
    assert (await us.ask("PUT", "aaa", "k", tagging, query=f"tagging&versionId={version}")).status == 200
    await us.ask("PUT", "aaa", "k", b"2" * 100_000)
    await us.ask("DELETE", "aaa", "k")
    await us.ask("PUT", "aaa", "k", b"3")
    assert (await us.ask("DELETE", "aaa", "gone", query=f"versionId={gone.header('x-amz-version-id')}")).status == 204
    go_on.set()
    await pair.settled()
    assert (await eu.ask("GET", "bbb", "k")).body == b"3"
    assert b"<Key>a</Key>" in (await eu.ask("GET", "bbb", "k", query=f"tagging&versionId={version}")).body
    of_k = [
        [each for each in await region.history(name) if each[0] == "k"] for region, name in ((us, "aaa"), (eu, "bbb"))
    ]
    assert of_k[0] == of_k[1]
    assert len(of_k[0]) == 4
    assert (await us.peer.owed())["parked"] == []


@pytest.mark.parametrize(
    "lie",
    [
        json_of([]),  # fewer outcomes than versions
        json_of([{"outcome": "applied"}] * 9),
        Response(200, Headers(), b"<html>all is well</html>"),
        Response(200, Headers([("Content-Length", "5")]), b""),
    ],
)
async def test_an_answer_that_cannot_be_is_no_answer(pair: Any, lie: Response) -> None:
    """It is asked again; what it said first is not believed."""
    us, eu = pair[US], pair[EU]
    lies = 2

    async def lying(request: Request) -> Response | None:
        nonlocal lies
        if is_delivery(request) and lies:
            lies -= 1
            return Response(lie.status, Headers(lie.headers), lie.body)
        return None

    eu.fault = lying
    await us.ask("PUT", "aaa", "k", b"x")
    pair.copy()
    await pair.settled()
    assert lies == 0
    assert (await eu.ask("GET", "bbb", "k")).body == b"x"
    assert (await us.ask("HEAD", "aaa", "k")).header("x-amz-replication-status") == "COMPLETED"


async def test_a_store_that_says_it_has_what_it_has_not_is_found_out_and_mended(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    lying = True

    async def liar(request: Request) -> Response | None:
        return json_of([{"outcome": "applied"}]) if lying and is_delivery(request) else None

    eu.fault = liar
    await us.ask("PUT", "aaa", "k", b"x")
    pair.copy()
    await pair.settled()
    await pair.stop_copying()
    assert (await eu.ask("HEAD", "bbb", "k")).status == 404
    rules = await us.peer.rules()
    one = Side(peer=us.peer, bucket="aaa", rules=rules["aaa"])
    two = Side(peer=eu.peer, bucket="bbb", rules=())
    [found] = (await reconcile(one, two, repair=False)).shown
    assert (found.key, found.what, found.why) == ("k", "missing", "it had arrived, and was lost there")
    # It goes on lying: the comparison after the repair says so again.
    assert (await reconcile(one, two, repair=True)).repaired == 1
    assert (await reconcile(one, two, repair=False)).missing == 1
    lying = False
    assert (await reconcile(one, two, repair=True)).repaired == 1
    assert (await reconcile(one, two, repair=False)).equal


async def test_a_listing_that_cannot_be_read_stops_a_comparison_without_harm(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    await us.ask("PUT", "aaa", "k", b"x")

    async def noise(request: Request) -> Response | None:
        return Response(200, Headers(), b'{"rows": [[') if "history" in request.target else None

    eu.fault = noise
    rules = await us.peer.rules()
    one = Side(peer=us.peer, bucket="aaa", rules=rules["aaa"])
    with pytest.raises(UnavailableError):
        await reconcile(one, Side(peer=eu.peer, bucket="bbb", rules=()), repair=True)
    eu.fault = None
    assert (await eu.ask("HEAD", "bbb", "k")).status == 404


async def test_a_clock_that_is_ahead_is_said(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    us = pair[US]
    monkeypatch.setattr(
        us.embedded.writer, "_clock_us", lambda before=us.embedded.writer._clock_us: before() + 45_000_000
    )
    await us.ask("PUT", "aaa", "k", b"x")
    pair.copy()
    await pair.settled()
    peers = {name: pair[name].peer for name in (US, EU)}
    service = Service(pair.copiers, peers, "token", Repairer(pair.folder / "sweeps", peers))
    found, _ = (await service.status())["pairs"]
    assert 44 < found["clock_ahead_s"] < 46


async def test_a_bucket_deleted_under_a_rule_parks_its_writes_with_the_reason(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    await us.ask("PUT", "aaa", "before", b"x")
    await pair.settled()
    version = (await eu.ask("HEAD", "bbb", "before")).header("x-amz-version-id")
    await eu.ask("DELETE", "bbb", "before", query=f"versionId={version}")
    assert (await eu.ask("DELETE", "bbb")).status == 204
    await us.ask("PUT", "aaa", "after", b"x")
    await pair.settled()
    [parked] = (await us.peer.owed())["parked"]
    assert (parked["key"], parked["reason"].partition(":")[0]) == ("after", "NoSuchBucket")
    # The source goes too, with its log: nothing is left that could hold up anything.
    for key in ("before", "after"):
        for each in (await us.ask("GET", "aaa", query="versions")).body.split(b"<VersionId>")[1:]:
            await us.ask("DELETE", "aaa", key, query=f"versionId={each.partition(b'<')[0].decode()}")
    assert (await us.ask("DELETE", "aaa")).status == 204
    assert await us.peer.owed() == {"pairs": [], "parked": []}
