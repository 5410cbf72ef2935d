"""Outages, crashes, stores that lie: nothing acknowledged is lost, older never overwrites newer, and it is said."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nearpoint.bucket import mending
from nearpoint.gateway import entries
from nearpoint.gateway.stream import Stream
from nearpoint.replication import copier
from nearpoint.replication.pending import LogListener, Note, PendingKeys, name_of
from nearpoint.replication.reconcile import Side, reconcile
from nearpoint.replication.repair import Repairer
from nearpoint.state import nats
from nearpoint.wire.message import Request, Response

US, EU = "us-east-1", "eu-west-1"


async def until(condition: Any, what: str) -> None:
    for _ in range(600):
        if await condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError(what)


async def status_of(region: Any, bucket: str, key: str) -> str | None:
    answer = await region.ask("HEAD", bucket, key)
    found: str | None = answer.header("x-amz-replication-status")
    return found


async def down(request: Request) -> Response | None:
    return Response(503, body=b"<Error><Code>ServiceUnavailable</Code></Error>")


async def test_a_store_that_fails_for_a_while_is_waited_for(foreign: Any) -> None:
    """As SeaweedFS does after a start: it answers for the bucket, and 500 for its objects."""
    us, eu = foreign[US], foreign[EU]
    await eu.ask("PUT", "bbb", "there", b"1")
    failed = 0

    async def fail(request: Request) -> Response | None:
        nonlocal failed
        if "here" not in request.target or failed > 24:
            return None
        failed += 1
        return Response(500, body=b"<Error><Code>InternalError</Code></Error>")

    eu.behind.fault = fail
    await us.ask("PUT", "aaa", "here", b"2")
    foreign.copy()
    await until(lambda: _arrived(us, "aaa", "there"), "what could not be read at first does not arrive")
    await until(lambda: _arrived(eu, "bbb", "here"), "what could not be written at first does not arrive")
    assert [*(await us.peer.owed())["parked"], *(await eu.peer.owed())["parked"]] == []


async def _arrived(region: Any, bucket: str, key: str) -> bool:
    status: int = (await region.ask("HEAD", bucket, key)).status
    return status == 200


async def test_an_outage_of_the_foreign_store(foreign: Any) -> None:
    us, eu = foreign[US], foreign[EU]
    foreign.copy()
    await us.ask("PUT", "aaa", "before", b"1")
    await foreign.settled()
    eu.behind.fault = down
    for at in range(20):
        await us.ask("PUT", "aaa", f"k{at % 7}", f"{at}".encode())
    assert (await eu.ask("PUT", "bbb", "k", b"x")).status >= 500
    await until(lambda: waits(foreign), "the lane does not say what it waits for")
    assert await status_of(us, "aaa", "k1") == "PENDING"
    eu.behind.fault = None
    await foreign.settled()
    for at in range(13, 20):
        assert (await eu.ask("GET", "bbb", f"k{at % 7}")).body == f"{at}".encode()
    assert (await foreign[US].peer.owed())["parked"] == []


async def waits(regions: Any) -> bool:
    return any(lane.obstacle for copier in regions.copiers.values() for lane in copier.lanes.values())


async def test_a_gateway_that_comes_back_goes_on(foreign: Any) -> None:
    us, eu = foreign[US], foreign[EU]
    for at in range(30):
        assert (await eu.ask("PUT", "bbb", f"k{at % 9}", f"{at}".encode())).status == 200
    await eu.ask("DELETE", "bbb", "k0")
    await eu.restart()
    await until(lambda: pending(eu, 31), "what is owed was not counted")  # perhaps twice, if it was just being ended
    assert await status_of(eu, "bbb", "k1") == "PENDING"
    foreign.copy()
    await foreign.settled()
    assert (await us.ask("GET", "aaa", "k0")).status == 404
    assert (await us.ask("GET", "aaa", "k2")).body == b"29"
    assert await status_of(eu, "bbb", "k1") == "COMPLETED"
    await eu.restart()  # and the rules are still there
    await eu.ask("PUT", "bbb", "late", b"x")
    await foreign.settled()
    assert (await us.ask("GET", "aaa", "late")).status == 200


async def pending(region: Any, count: int) -> bool:
    return sum(pair["pending"] for pair in (await region.peer.owed())["pairs"]) >= count


async def test_without_its_log_nothing_is_written(foreign: Any) -> None:
    us, eu = foreign[US], foreign[EU]
    foreign.copy()
    await eu.ask("PUT", "bbb", "k", b"before")
    await foreign.settled()
    foreign.nats.kill()
    refused = await eu.ask("PUT", "bbb", "k", b"after")
    assert refused.status == 503
    assert b"The log of eu-west-1" in refused.body
    assert (await eu.ask("DELETE", "bbb", "k")).status == 503
    assert (await eu.ask("GET", "bbb", "k")).body == b"before"
    await us.ask("PUT", "aaa", "other", b"x")
    foreign.nats.start()
    await until(lambda: written(eu, "after"), "it is not written again")
    await foreign.settled()
    assert (await us.ask("GET", "aaa", "k")).body == b"after"
    assert (await eu.ask("GET", "bbb", "other")).body == b"x"


async def written(region: Any, text: str) -> bool:
    return bool((await region.ask("PUT", "bbb", "k", text.encode())).status == 200)


async def test_a_key_that_the_store_refuses_does_not_hold_up_the_others(
    foreign: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    us, eu = foreign[US], foreign[EU]
    monkeypatch.setattr(copier, "PASSING_ATTEMPTS_MAX", 7)
    foreign.copy()

    async def poison(request: Request) -> Response | None:
        if "poison" in request.target and request.method in ("PUT", "GET"):
            return Response(500, body=b"<Error><Code>InternalError</Code><Message>no such name</Message></Error>")
        return None

    await eu.ask("PUT", "bbb", "poisoned here", b"x")
    await foreign.settled()
    eu.behind.fault = poison
    await us.ask("PUT", "aaa", "poison", b"x")
    await us.ask("PUT", "aaa", "good", b"x")
    await foreign.settled()
    assert (await eu.ask("GET", "bbb", "good")).body == b"x"
    assert await status_of(us, "aaa", "poison") == "FAILED"
    [parked] = (await us.peer.owed())["parked"]
    assert "no such name" in parked["reason"]
    # And what cannot be read there does not hold up what can.
    eu.behind.fault = None
    await foreign.stop_copying()
    await eu.ask("PUT", "bbb", "poisoned here", b"y")
    await eu.ask("PUT", "bbb", "fine", b"y")
    eu.behind.fault = poison
    foreign.copy()
    await foreign.settled()
    assert (await us.ask("GET", "aaa", "fine")).body == b"y"
    assert await status_of(eu, "bbb", "poisoned here") == "FAILED"
    eu.behind.fault = None
    assert await us.peer.retry() + await eu.peer.retry() == 2
    await foreign.settled()
    assert (await eu.ask("GET", "bbb", "poison")).body == b"x"
    assert (await us.ask("GET", "aaa", "poisoned here")).body == b"y"
    assert await status_of(eu, "bbb", "poisoned here") == "COMPLETED"


async def test_a_store_that_ignores_conditions_is_found_out_and_copied_to_all_the_same(foreign: Any) -> None:
    us, eu = foreign[US], foreign[EU]

    async def lie(request: Request) -> Response | None:
        for name in ("if-match", "if-none-match"):
            if request.method in ("PUT", "DELETE", "POST"):
                request.headers.remove(name)
        return None

    eu.behind.fault = lie
    await eu.restart()
    foreign.copy()
    await us.ask("PUT", "aaa", "first", b"x")
    await foreign.settled()
    await foreign.stop_copying()
    lacks = (await eu.peer.owed())["lacks"]["bbb"]
    assert {"conditional create", "conditional replace"} <= set(lacks)
    await us.ask("PUT", "aaa", "k2", b"older")
    await asyncio.sleep(1.1)  # what is written behind our back has whole seconds
    eu.behind.fault = meanwhile_for(eu, lie, "k2")
    foreign.copy()
    await foreign.settled()
    assert (await eu.ask("GET", "bbb", "k2")).body == b"behind our back"
    assert (await eu.ask("GET", "bbb", "first")).body == b"x"


def stamp_in(request: Request) -> str | None:
    return request.headers.get("x-amz-meta-nearpoint")


def meanwhile_for(eu: Any, then: Any, key: str) -> Any:
    async def fault(request: Request) -> Response | None:
        await then(request)
        if request.method == "PUT" and request.target == f"/bbb/{key}" and stamp_in(request):
            eu.behind.fault = then
            assert (await eu.behind.ask("PUT", "bbb", key, b"behind our back")).status == 200
        return None

    return fault


async def test_an_honest_store_is_asked_on_condition(foreign: Any) -> None:
    us, eu = foreign[US], foreign[EU]
    foreign.copy()
    await us.ask("PUT", "aaa", "first", b"x")
    await foreign.settled()
    await foreign.stop_copying()
    await us.ask("PUT", "aaa", "k", b"older")
    await asyncio.sleep(1.1)

    async def honest(request: Request) -> Response | None:
        return None

    eu.behind.fault = meanwhile_for(eu, honest, "k")
    foreign.copy()
    await foreign.settled()
    assert (await eu.ask("GET", "bbb", "k")).body == b"behind our back"
    versions = (await eu.behind.ask("GET", "bbb", query="versions&prefix=k")).body
    assert versions.count(b"<Version>") == 1  # it never went in
    assert "lacks" in await eu.peer.owed()


async def test_a_store_without_versions_is_refused_where_the_user_looks(regions: Any) -> None:
    us, eu = await regions.ours(US), await regions.foreign(EU)
    await us.make("aaa")
    await eu.make("bbb", versions=False)
    refused = await eu.replicate("bbb", "aaa")
    assert refused.status == 400
    assert b"it keeps no versions" in refused.body
    assert (await us.replicate("aaa", "bbb")).status == 200  # the embedded store asks nobody; the world's front does
    regions.copy()
    await us.ask("PUT", "aaa", "k", b"x")
    await regions.settled()
    [parked] = (await us.peer.owed())["parked"]
    assert "it keeps no versions" in parked["reason"]
    body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
    assert (await eu.ask("PUT", "bbb", query="versioning", body=body)).status == 200
    await us.peer.retry()
    await regions.settled()
    assert (await eu.ask("GET", "bbb", "k")).body == b"x"


async def test_rules_are_kept_by_the_gateway(foreign: Any) -> None:
    us, eu = foreign[US], foreign[EU]
    got = await eu.ask("GET", "bbb", query="replication")
    assert b"arn:aws:s3:::aaa" in got.body
    bad = await eu.ask("PUT", "bbb", body=b"<ReplicationConfiguration/>", query="replication")
    assert bad.status == 400
    assert (await eu.replicate("bbb", "bbb")).status == 400
    await eu.ask("PUT", "bbb", "k", b"x")
    assert await status_of(eu, "bbb", "k") == "PENDING"
    assert (await eu.ask("DELETE", "bbb", query="replication")).status == 204
    assert (await eu.ask("GET", "bbb", query="replication")).status == 404
    assert await status_of(eu, "bbb", "k") == "FAILED"
    assert [pair["failed"] for pair in (await eu.peer.owed())["pairs"]] == [1]
    assert await eu.peer.retry() == 0
    assert (await eu.replicate("bbb", "aaa")).status == 200
    assert await status_of(eu, "bbb", "k") == "FAILED"
    assert await eu.peer.retry() == 1
    foreign.copy()
    await foreign.settled()
    assert (await us.ask("GET", "aaa", "k")).body == b"x"
    assert (await eu.ask("GET", "gone", query="replication")).status == 404


async def test_what_was_written_behind_our_back_is_adopted(foreign: Any) -> None:
    us, eu = foreign[US], foreign[EU]
    foreign.copy()
    await us.ask("PUT", "aaa", "both", b"x")
    await us.ask("PUT", "aaa", "gone there", b"x")
    await foreign.settled()
    await asyncio.sleep(1.1)
    await eu.behind.ask("PUT", "bbb", "only there", b"behind", x_amz_meta_colour="red", x_amz_tagging="a=1")
    await eu.behind.ask("PUT", "bbb", "both", b"newer")
    await eu.behind.ask("DELETE", "bbb", "gone there")
    sides = (
        Side(peer=us.peer, bucket="aaa", rules=(await us.peer.rules())["aaa"]),
        Side(peer=eu.peer, bucket="bbb", rules=(await eu.peer.rules())["bbb"]),
    )
    for _ in range(2):  # looking changes nothing about why
        checked = await reconcile(*sides, repair=False)
        assert (checked.keys, checked.missing) == (3, 3)
        assert {each.why for each in checked.shown} == {"it was written past Nearpoint, or before a rule led there"}
    repaired = await reconcile(*sides, repair=True)
    assert repaired.repaired == 3, repaired.shown
    here = await us.ask("GET", "aaa", "only there")
    assert (here.body, here.described["x-amz-meta-colour"]) == (b"behind", "red")
    assert (await us.ask("GET", "aaa", "both")).body == b"newer"
    assert (await us.ask("GET", "aaa", "gone there")).status == 404
    again = await reconcile(*sides, repair=True)
    assert (again.missing, again.amended) == (0, 0), again.shown


async def test_only_the_holder_of_the_key_is_answered(foreign: Any) -> None:
    eu = foreign[EU]
    request = Request("GET", "/bbb/k")
    assert (await eu._gateway.handle(request)).status == 403
    assert (await eu._gateway.handle(Request("GET", "/-/owed"))).status == 403


async def test_its_log_is_heard_as_it_grows(foreign: Any) -> None:
    us, eu = foreign[US], foreign[EU]
    await eu.ask("PUT", "bbb", "before", b"x")
    keys = PendingKeys([EU])
    hearing = asyncio.create_task(LogListener(eu.store, keys).run())

    def behind(key: str) -> Any:
        async def is_behind() -> bool:
            return keys.newer_in("aaa", key, [(EU, "bbb")]) == [EU]

        return is_behind

    try:
        await until(behind("before"), "what was pending is not told")
        put = await eu.ask("PUT", "bbb", "k", b"x")
        number, _, destinations = (put.header("x-nearpoint-logged") or "").partition(";")
        assert destinations == "aaa"
        keys.note(EU, Note(name_of("bbb"), name_of("aaa"), name_of("k"), int(number)))
        assert keys.newer_in("aaa", "k", [(EU, "bbb")]) == [EU]
        foreign.copy()
        await foreign.settled()

        async def is_calm() -> bool:
            return not keys.busy

        await until(is_calm, "what has arrived is still said to be pending")
    finally:
        hearing.cancel()
    assert (await us.ask("GET", "aaa", "k")).body == b"x"


async def test_entries_of_the_log_that_cannot_be_read_are_set_aside_told_of_and_reconciled(
    foreign: Any, tmp_path: Any
) -> None:
    us, eu = foreign[US], foreign[EU]
    for key in ("k", "l"):
        assert (await eu.ask("PUT", "bbb", key, key.encode())).status == 200
    client = await nats.connect(foreign.nats.url, name="test")
    log, begun = (Stream(client, f"nearpoint-{name}-{EU}", f"nearpoint-{name}.{EU}") for name in ("log", "intents"))
    entry, *_ = await log.page("due.*.*", 0)
    await log.delete(entry.sequence)
    await log.append(entry.subject.removeprefix(f"nearpoint-log.{EU}."), entry.data[:-9])
    await begun.append("write", b"no intent")
    await client.close()
    for _ in range(2):  # it is told of after a restart as well
        await eu.restart()
        parked = (await eu.peer.owed())["parked"]
        assert sorted((each["bucket"], each["destination"]) for each in parked) == [("?", "?"), ("bbb", "aaa")]
        assert {each["reason"] for each in parked} == {entries.DAMAGED} == {mending.DAMAGED}
    assert await status_of(eu, "bbb", "k") == "FAILED"
    foreign.copy()
    await foreign.settled()
    assert (await us.ask("HEAD", "aaa", "k")).status == 404
    assert (await us.ask("GET", "aaa", "l")).body == b"l"
    repairer = Repairer(tmp_path / "sweeps", {US: us.peer, EU: eu.peer}, look_s=0.02)
    running = asyncio.create_task(repairer.run())

    async def mended() -> bool:
        return repairer.status()["last"] is not None

    await until(mended, "what was damaged is not looked for")
    assert repairer.status()["last"]["cause"] == "an entry of a log was damaged"
    assert (await us.ask("GET", "aaa", "k")).body == b"k"
    assert (await eu.peer.owed())["parked"] == []
    assert await status_of(eu, "bbb", "k") == "COMPLETED"
    await eu.restart()
    assert (await eu.peer.owed())["parked"] == []
    running.cancel()


async def test_a_key_that_the_listing_leaves_out_is_not_called_missing(foreign: Any) -> None:
    us, eu = foreign[US], foreign[EU]
    foreign.copy()
    await us.ask("PUT", "aaa", "k", b"x")
    await foreign.settled()

    async def forgetful(request: Request) -> Response | None:
        if request.method == "GET" and "versions=" in request.target and "prefix=" not in request.target:
            return Response(200, body=b"<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>")
        return None

    eu.behind.fault = forgetful
    sides = (
        Side(peer=us.peer, bucket="aaa", rules=(await us.peer.rules())["aaa"]),
        Side(peer=eu.peer, bucket="bbb", rules=(await eu.peer.rules())["bbb"]),
    )
    report = await reconcile(*sides, repair=False)
    assert (report.keys, report.missing) == (1, 0), report.shown
