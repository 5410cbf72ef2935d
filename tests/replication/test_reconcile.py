"""Buckets are compared and made equal, with nothing of the log: two of them, and all."""

from __future__ import annotations

import gc
import os
import time
from typing import Any, cast

import pytest

from nearpoint.regions.rules import compile_rules
from nearpoint.regions.version import Stamp
from nearpoint.replication import reconcile as module
from nearpoint.replication.peer import Peer, UnavailableError, Version
from nearpoint.replication.reconcile import Report, Side, behind, lacking, reconcile
from nearpoint.replication.sweep import Memory, SweepBusyError, only_one, sweep
from nearpoint.wire.message import Request, Response
from nearpoint.world.memory import resident_bytes

US, EU = "us-east-1", "eu-west-1"


async def sides(pair: Any) -> tuple[Side, Side]:
    found = []
    for region, bucket in ((US, "aaa"), (EU, "bbb")):
        peer = pair[region].peer
        found.append(Side(peer=peer, bucket=bucket, rules=(await peer.rules())[bucket]))
    return found[0], found[1]


async def fill(pair: Any, count: int = 30) -> None:
    """Different objects in both, with versions, markers and tags, none of it copied: the logs are emptied."""
    us, eu = pair[US], pair[EU]
    for at in range(count):
        await us.ask("PUT", "aaa", f"k{at:03}", f"us {at}".encode() * at)
        await eu.ask("PUT", "bbb", f"k{at * 2:03}", f"eu {at}".encode())
        if at % 5 == 0:
            await us.ask("DELETE", "aaa", f"k{at:03}")
        if at % 7 == 0:
            await eu.ask("PUT", "bbb", f"ü{at}", b"x" * 40_000, x_amz_tagging="a=b")
    for region in (us, eu):
        await region.embedded.writer.submit(lambda tx: tx.db.execute("DELETE FROM outbox"))


@pytest.mark.parametrize("page", [3, 2000])
async def test_what_differs_is_found_and_repaired(pair: Any, page: int) -> None:
    await fill(pair, 10)
    one, two = await sides(pair)
    found = await reconcile(one, two, repair=False, page_rows=page)
    assert (found.missing, found.repaired, found.equal) == (10 + 2 + 10 + 2, 0, False)
    assert (await reconcile(one, two, repair=True, page_rows=page)).repaired == found.missing
    assert await pair[US].history("aaa") == await pair[EU].history("bbb")
    assert (await reconcile(one, two, repair=False)).equal


async def test_amendments_and_removals(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    await fill(pair, 4)
    one, two = await sides(pair)
    await reconcile(one, two, repair=True)
    tagging = b"<Tagging><TagSet><Tag><Key>a</Key><Value>later</Value></Tag></TagSet></Tagging>"
    await eu.ask("PUT", "bbb", "k001", tagging, query="tagging")
    removed = (await us.ask("HEAD", "aaa", "k002")).header("x-amz-version-id")
    await us.ask("DELETE", "aaa", "k002", query=f"versionId={removed}")
    await eu.embedded.writer.submit(lambda tx: tx.db.execute("DELETE FROM outbox"))
    report = await reconcile(one, two, repair=True)
    assert (report.amended, report.missing, report.removed, report.repaired) == (1, 0, 1, 1)
    assert {each.what: each.outcome for each in report.shown} == {"amended": "applied"}
    assert b"later" in (await us.ask("GET", "aaa", "k001", query="tagging")).body


async def test_a_delete_marker_that_was_removed_is_no_difference_and_stays_removed(pair: Any) -> None:
    us, eu = pair["us-east-1"], pair["eu-west-1"]
    pair.copy()
    await us.ask("PUT", "aaa", "k", b"content")
    marker = (await us.ask("DELETE", "aaa", "k")).header("x-amz-version-id")
    await pair.settled()
    await pair.stop_copying()
    assert (await eu.ask("GET", "bbb", "k")).status == 404
    await eu.ask("DELETE", "bbb", "k", query=f"versionId={marker}")
    for repair in (False, True, False):
        report = await reconcile(*await sides(pair), repair=repair)
        assert (report.missing, report.removed, report.repaired) == (0, 1, 0)
        assert (await eu.ask("GET", "bbb", "k")).body == b"content"
    # One that is lost, and not because somebody removed it, is missing, and a check alone does not bring it back.
    await eu.embedded.writer.submit(lambda tx: tx.db.execute("DELETE FROM removed"))
    report = await reconcile(*await sides(pair), repair=False)
    assert (report.missing, report.removed) == (1, 0)
    assert (await eu.ask("GET", "bbb", "k")).status == 200
    report = await reconcile(*await sides(pair), repair=True)
    assert (report.missing, report.repaired) == (1, 1)
    assert (await eu.ask("GET", "bbb", "k")).status == 404


async def test_what_was_removed_for_good_is_no_difference_and_is_remembered_while_it_is_offered(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    for at in range(5):
        await us.ask("PUT", "aaa", f"k{at}", b"x" * 1000)
    await pair.settled()
    await pair.stop_copying()
    removed = (await eu.ask("HEAD", "bbb", "k1")).header("x-amz-version-id")
    await eu.ask("DELETE", "bbb", "k1", query=f"versionId={removed}")
    await eu.embedded.writer.submit(lambda tx: tx.db.execute("UPDATE removed SET removed = 1"))
    # Another one is lost, and not because somebody removed it.
    await eu.embedded.writer.submit(lambda tx: tx.db.execute("DELETE FROM object WHERE key = x'6b32'"))
    for repair in (False, True, False):
        report = await reconcile(*await sides(pair), repair=repair)
        assert report.removed == 1
        assert [each.key for each in report.shown] == (["k2"] if report.missing else [])
    assert report.equal
    assert (await eu.ask("HEAD", "bbb", "k1")).status == 404
    assert (await eu.ask("GET", "bbb", "k2")).body == b"x" * 1000
    [[at_us]] = await eu.embedded.writer.submit(lambda tx: list(tx.db.execute("SELECT removed FROM removed")))
    assert at_us > 1_700_000_000_000_000


async def test_rules_bound_what_is_brought(pair: Any) -> None:
    await pair[EU].ask("DELETE", "bbb", query="replication")
    await fill(pair, 6)
    one, _ = await sides_one_way(pair)
    report = await reconcile(*await sides_one_way(pair), repair=True)
    assert {each.bucket for each in report.shown} == {one.bucket}
    assert (await pair[EU].ask("HEAD", "bbb", "k003")).status == 200
    assert (await pair[US].ask("HEAD", "aaa", "k008")).status == 404


async def sides_one_way(pair: Any) -> tuple[Side, Side]:
    rules = await pair[US].peer.rules()
    return (
        Side(peer=pair[US].peer, bucket="aaa", rules=rules["aaa"]),
        Side(peer=pair[EU].peer, bucket="bbb", rules=()),
    )


async def test_it_goes_on_where_it_was_cut_short(pair: Any) -> None:
    await fill(pair)
    one, two = await sides(pair)
    whole = await reconcile(one, two, repair=False)
    rest = await reconcile(one, two, repair=False, report=Report(last_key="k020"))
    assert 0 < rest.missing < whole.missing
    assert whole.last_key.startswith("ü")


async def test_why_something_is_missing_is_said_and_recent_writes_are_left_to_the_log(pair: Any) -> None:
    us = pair[US]
    await us.ask("DELETE", "aaa", query="replication")
    await us.ask("PUT", "aaa", "before", b"x")
    await us.replicate("aaa", "bbb")
    await us.ask("PUT", "aaa", "logged", b"x")
    begun_us = time.time_ns() // 1000
    await us.ask("PUT", "aaa", "recent", b"x")
    report = await reconcile(*await sides(pair), repair=False, until_us=begun_us)
    assert (report.missing, report.recent) == (1, 2)
    report = await reconcile(*await sides(pair), repair=False, until_us=begun_us + module.ON_ITS_WAY_US)
    assert {each.key: each.why for each in report.shown} == {
        "before": "no rule led there when it was written",
        "logged": "on its way, says its region's log",
    }
    report = await reconcile(*await sides(pair), repair=True, until_us=begun_us)
    assert (report.repaired, report.recent) == (2, 1)


async def test_what_had_arrived_is_struck_off_the_log_and_its_status_is_true(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    await us.ask("PUT", "aaa", "k", b"x")
    await us.ask("PUT", "aaa", "amended", b"x")
    report = await reconcile(*await sides(pair), repair=True)
    assert (report.repaired, report.restated) == (2, 2)
    assert await us.pending() == 0
    assert (await us.ask("HEAD", "aaa", "k")).header("x-amz-replication-status") == "COMPLETED"
    # A row that was lost, and the status it left behind.
    tagging = b"<Tagging><TagSet><Tag><Key>a</Key><Value>b</Value></Tag></TagSet></Tagging>"
    await us.ask("PUT", "aaa", "amended", tagging, query="tagging")
    await us.embedded.writer.submit(lambda tx: tx.db.execute("DELETE FROM outbox"))
    assert (await us.ask("HEAD", "aaa", "amended")).header("x-amz-replication-status") == "PENDING"
    assert (await reconcile(*await sides(pair), repair=True)).amended == 1
    assert (await us.ask("HEAD", "aaa", "amended")).header("x-amz-replication-status") == "COMPLETED"
    assert b"<Key>a</Key>" in (await eu.ask("GET", "bbb", "amended", query="tagging")).body


async def test_what_was_amended_since_is_still_owed(pair: Any) -> None:
    us = pair[US]
    await us.ask("PUT", "aaa", "k", b"x")
    before, _ = await us.peer.history("aaa", "", 10)
    await us.ask("PUT", "aaa", "k", b"<Tagging><TagSet/></Tagging>", query="tagging")
    await us.peer.arrived("aaa", "bbb", before)
    assert await us.pending() == 2


def version(id: str, time_us: int, amended_us: int = 0) -> Version:
    return Version(
        key="k", id=id, stamp=Stamp(time_us, "us", ""), amended=(amended_us, "us"), size=0, marker=False, tags=()
    )  # fmt: skip


def test_a_store_that_keeps_the_newest_version_alone_lacks_no_older_one() -> None:
    old, new, amended = version("a", 1), version("b", 2), version("b", 2, amended_us=3)
    assert behind([old, new], [new]) == []
    assert behind([new], [old]) == [(new, "missing")]
    assert behind([old], [new]) == []
    assert behind([new], []) == [(new, "missing")]
    assert behind([], [new]) == []
    assert behind([amended], [old, new]) == [(amended, "amended")]
    assert behind([new], [amended]) == []
    assert lacking([old, new], [new]) == [(old, "missing")]


# --- sweeps: all pairs, interrupted and gone on with


async def test_a_sweep_that_was_interrupted_is_gone_on_with(pair: Any, tmp_path: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("nearpoint.replication.sweep.PAGE_ROWS", 4)
    monkeypatch.setattr("nearpoint.replication.sweep.SAVE_EVERY_S", 0)
    await fill(pair, 12)
    peers = {region: pair[region].peer for region in (US, EU)}
    memory = Memory(tmp_path, repair=True)
    asked = 0

    async def fault(request: Request) -> Response | None:
        nonlocal asked
        asked += "history" in request.target
        return Response(503) if asked > 3 else None

    pair[EU].fault = fault
    with pytest.raises(UnavailableError):
        await sweep(peers, memory, repair=True, cause="test")
    kept = memory.unfinished(time.time())
    assert kept is not None
    before = kept.report_of(("aaa", "bbb"))
    assert before is not None
    assert before.last_key
    assert kept.current == ("aaa", "bbb")
    # From the file, as another process would.
    pair[EU].fault = None
    done = await sweep(peers, Memory(tmp_path, repair=True), repair=True, cause="test")
    [(_, _, report)] = done.reports
    assert done.ended_at is not None
    assert report.repaired > before.repaired
    assert report.keys == len({row[0] for row in await pair[US].history("aaa")})  # each key once
    assert await pair[US].history("aaa") == await pair[EU].history("bbb")
    # Begun anew when it is done, or when it is asked for.
    again = await sweep(peers, memory, repair=True, cause="test")
    assert again.reports[0][2].equal
    with only_one(tmp_path), only_one(tmp_path, repair=False), pytest.raises(SweepBusyError), only_one(tmp_path):
        pass


async def test_a_bucket_that_is_gone_keeps_no_other_pair_from_being_compared(regions: Any, tmp_path: Any) -> None:
    await regions.start(US, EU)
    for region, name in ((US, "aaa"), (EU, "bbb"), (EU, "ccc")):
        await regions[region].make(name)
    await regions[US].replicate("aaa", "bbb", "ccc")
    await regions[US].ask("PUT", "aaa", "k", b"x")
    assert (await regions[EU].ask("DELETE", "bbb")).status == 204
    peers = {region: regions[region].peer for region in (US, EU)}
    done = await sweep(peers, Memory(tmp_path, repair=True), repair=True, cause="test")
    assert done.left_out == [("aaa", "bbb", "The bucket bbb does not exist.")]
    assert [(one, two, report.repaired) for one, two, report in done.reports] == [("aaa", "ccc", 1)]


async def test_a_remembered_sweep_that_cannot_be_read_begins_anew(tmp_path: Any) -> None:
    memory = Memory(tmp_path, repair=True)
    assert memory.unfinished(0) is None
    (tmp_path / "reconcile.json").write_bytes(b'{"repair": tru')
    assert memory.unfinished(0) is None


class Endless:
    """A peer of so many keys, each with one version; every thousandth is missing in one of the two."""

    def __init__(self, count: int, *, lacks: bool) -> None:
        self._count = count
        self._lacks = lacks
        self.newest_only = False

    async def history(self, bucket: str, after: str, limit: int) -> tuple[list[Version], bool]:
        first = int(after or -1) + 1
        last = min(self._count, first + limit)
        found = [
            Version(
                key=f"{at:09}", id="v", stamp=Stamp(at, "us", "e"), amended=(0, ""), size=1, marker=False, tags=()
            )
            for at in range(first, last)
            if not (self._lacks and at % 1000 == 0)
        ]  # fmt: skip
        return found, last < self._count


async def test_memory_does_not_grow_with_the_keys() -> None:
    """NEARPOINT_KEYS=10000000 shows the process's own at ten million."""
    count = int(os.environ.get("NEARPOINT_KEYS", "30000"))
    rules = compile_rules(
        {"Rules": [{"Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "arn:aws:s3:::two"}}]}
    )
    one = Side(peer=cast("Peer", Endless(count, lacks=False)), bucket="one", rules=rules)
    two = Side(peer=cast("Peer", Endless(count, lacks=True)), bucket="two", rules=())
    held, resident = [], []

    async def measure(report: Report) -> None:
        if report.keys % (count // 6) < module.PAGE_ROWS:
            held.append(sum(type(each) is Version for each in gc.get_objects()))
            resident.append(resident_bytes(os.getpid()))

    started_s = time.monotonic()
    report = await reconcile(one, two, repair=False, on_progress=measure)
    print(f"{count} keys in {time.monotonic() - started_s:.0f} s; resident on the way: {resident}")
    assert (report.keys, report.missing, len(report.shown)) == (count, count // 1000, min(count // 1000, 100))
    assert max(held) <= 3 * 2 * module.PAGE_ROWS
