"""Two buckets are compared and made equal, with nothing of the log."""

from __future__ import annotations

from typing import Any

import pytest

from nearpoint.replication import reconcile as module
from nearpoint.replication.reconcile import Report, Side, reconcile

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
async def test_what_differs_is_found_and_repaired(pair: Any, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", page)
    await fill(pair, 10)
    one, two = await sides(pair)
    found = await reconcile(one, two, repair=False)
    assert (found.missing, found.repaired, found.equal) == (10 + 2 + 10 + 2, 0, False)
    assert (await reconcile(one, two, repair=True)).repaired == found.missing
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
    assert (report.amended, report.missing, report.repaired) == (1, 1, 1)
    assert {each.what: each.outcome for each in report.shown} == {"amended": "applied", "missing": "had"}
    assert b"later" in (await us.ask("GET", "aaa", "k001", query="tagging")).body


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
    seen: list[Report] = []
    whole = await reconcile(one, two, repair=False, on_progress=seen.append)
    rest = await reconcile(one, two, repair=False, after="k020")
    assert seen[-1] is whole
    assert 0 < rest.missing < whole.missing
    assert whole.last_key.startswith("ü")
