"""Two regions' stores and the copiers between them: what is written in one is in the other, as it was."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import pytest

from nearpoint.wire.message import Request, Response

US, EU = "us-east-1", "eu-west-1"
PART = 5 * 1024**2


async def test_an_object_arrives_with_all_that_is_on_it(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    put = await us.ask(
        "PUT", "aaa", "a key/ü", b"content", content_type="text/plain; charset=utf-8", cache_control="max-age=5",
        content_disposition="inline", x_amz_meta_colour="red", x_amz_tagging="t=1&u=2",
        x_amz_checksum_sha256="7XACtDnprIRfIjV9giusFERzD722AW0+yUMil7nsn3M=",
        x_amz_storage_class="STANDARD_IA",
    )  # fmt: skip
    assert put.status == 200, put.body
    assert (await us.ask("HEAD", "aaa", "a key/ü")).header("x-amz-replication-status") in ("PENDING", "COMPLETED")
    await pair.settled()
    here = await us.ask("GET", "aaa", "a key/ü", x_amz_checksum_mode="ENABLED")
    there = await eu.ask("GET", "bbb", "a key/ü", x_amz_checksum_mode="ENABLED")
    assert (here.body, there.body) == (b"content", b"content")
    differing = {"x-amz-replication-status", "x-amz-request-id", "x-amz-id-2", "date"}
    shown = [{n.lower(): v for n, v in each.headers if n.lower() not in differing} for each in (here, there)]
    assert shown[0] == shown[1]
    assert here.header("x-amz-replication-status") == "COMPLETED"
    assert there.header("x-amz-replication-status") == "REPLICA"
    tags = [(await us.ask("GET", "aaa", "a key/ü", query="tagging")).body]
    tags.append((await eu.ask("GET", "bbb", "a key/ü", query="tagging")).body)
    assert tags[0] == tags[1]
    assert await us.history("aaa") == await eu.history("bbb")


async def test_a_multipart_object_keeps_its_entity_tag_and_parts(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    created = await us.ask("POST", "aaa", "big", query="uploads", x_amz_checksum_algorithm="CRC32C")
    upload = created.body.decode().split("<UploadId>")[1].split("<")[0]
    parts = []
    for number, size in ((1, PART), (2, PART + 1), (3, 100)):
        body = os.urandom(size)
        answer = await us.ask("PUT", "aaa", "big", body, query=f"partNumber={number}&uploadId={upload}")
        etag, sum32 = answer.header("etag"), answer.header("x-amz-checksum-crc32c")
        parts.append(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><ChecksumCRC32C>{sum32}</ChecksumCRC32C></Part>"
        )
    body = f"<CompleteMultipartUpload>{''.join(parts)}</CompleteMultipartUpload>".encode()
    done = await us.ask("POST", "aaa", "big", body, query=f"uploadId={upload}")
    assert done.status == 200, done.body
    await pair.settled()
    for query in ("", "partNumber=2", "partNumber=3"):
        here = await us.ask("GET", "aaa", "big", query=query, x_amz_checksum_mode="ENABLED")
        there = await eu.ask("GET", "bbb", "big", query=query, x_amz_checksum_mode="ENABLED")
        assert hashlib.sha256(here.body).digest() == hashlib.sha256(there.body).digest()
        for name in ("etag", "x-amz-checksum-crc32c", "x-amz-checksum-type", "x-amz-mp-parts-count"):
            assert here.header(name) == there.header(name)
    assert here.header(
        "etag",
    ).endswith('-3"')
    assert await us.history("aaa") == await eu.history("bbb")


async def test_deletes_and_versions_travel_and_version_deletes_do_not(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    first = (await us.ask("PUT", "aaa", "k", b"1")).header("x-amz-version-id")
    await us.ask("PUT", "aaa", "k", b"2")
    await us.ask("DELETE", "aaa", "k")
    await pair.settled()
    assert (await eu.ask("GET", "bbb", "k")).status == 404
    assert (await eu.ask("GET", "bbb", "k", query=f"versionId={first}")).body == b"1"
    assert await us.history("aaa") == await eu.history("bbb")
    # A delete of one version is this region's own affair, and its copy under way does not bring it back.
    await us.ask("DELETE", "aaa", "k", query=f"versionId={first}")
    await pair.settled()
    assert (await eu.ask("GET", "bbb", "k", query=f"versionId={first}")).body == b"1"
    versions = await eu.peer.fetch("bbb", [row_of("k", first)])
    assert await us.peer.deliver("aaa", versions) == [{"outcome": "had"}]
    assert (await us.ask("GET", "aaa", "k", query=f"versionId={first}")).status == 404


def row_of(key: str, version: str | None) -> Any:
    from nearpoint.replication.window import Row

    return Row(sequence=0, key=key, version=version or "", operation="put", size=0, written=0)


async def test_writes_in_both_regions_come_to_the_same(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    for at in range(10):
        await us.ask("PUT", "aaa", f"k{at % 3}", f"us {at}".encode())
        await eu.ask("PUT", "bbb", f"k{at % 3}", f"eu {at}".encode())
        if at % 4 == 3:
            await eu.ask("DELETE", "bbb", f"k{at % 3}")
    pair.copy()
    await pair.settled()
    assert await us.history("aaa") == await eu.history("bbb")
    for at in range(3):
        here, there = await us.ask("GET", "aaa", f"k{at}"), await eu.ask("GET", "bbb", f"k{at}")
        assert (here.status, here.body if here.status == 200 else b"") == (
            there.status, there.body if there.status == 200 else b"")  # fmt: skip
    # A write after what was read is newer, wherever it is made.
    await us.ask("PUT", "aaa", "k0", b"last")
    await pair.settled()
    assert (await eu.ask("GET", "bbb", "k0")).body == b"last"


async def test_tags_travel_both_ways(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    await us.ask("PUT", "aaa", "k", b"1")
    await pair.settled()
    tagging = "<Tagging><TagSet><Tag><Key>a</Key><Value>{}</Value></Tag></TagSet></Tagging>"
    await us.ask("PUT", "aaa", "k", tagging.format("us").encode(), query="tagging")
    await pair.settled()
    assert b"<Value>us</Value>" in (await eu.ask("GET", "bbb", "k", query="tagging")).body
    await eu.ask("PUT", "bbb", "k", tagging.format("eu").encode(), query="tagging")
    await pair.settled()
    assert b"<Value>eu</Value>" in (await us.ask("GET", "aaa", "k", query="tagging")).body
    assert await us.history("aaa") == await eu.history("bbb")


async def test_an_outage_is_waited_for_and_nothing_is_lost(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    cut = True

    async def fault(request: Request) -> Response | None:
        return Response(503) if cut else None

    eu.fault = fault
    pair.copy(US)
    for at in range(100):
        await us.ask("PUT", "aaa", f"k{at}", b"x" * at)
    async with asyncio.timeout(10):
        while not pair.copiers[US].lanes or pair.copiers[US].lanes["aaa", "bbb"].obstacle is None:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await us.pending() == 100
    assert (await us.ask("HEAD", "aaa", "k1")).header("x-amz-replication-status") == "PENDING"
    cut = False
    await pair.settled()
    assert await us.history("aaa") == await eu.history("bbb")
    assert pair.copiers[US].lanes["aaa", "bbb"].failed == 0


async def test_a_poison_key_is_parked_and_holds_up_no_other(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    await us.ask("PUT", "aaa", "poison", b"x")
    us.embedded.writer.submit(
        lambda tx: tx.db.execute("UPDATE object SET etag = 'damaged' WHERE key = x'706f69736f6e'")
    )
    for at in range(20):
        await us.ask("PUT", "aaa", f"k{at}", b"")
    pair.copy(US)
    await pair.settled()
    assert (await eu.ask("GET", "bbb", "k19")).status == 200
    owed = await us.peer.owed()
    assert [(each["key"], each["reason"][:9]) for each in owed["parked"]] == [("poison", "BadDigest")]
    assert (await us.ask("HEAD", "aaa", "poison")).header("x-amz-replication-status") == "FAILED"
    # Mended and retried, it arrives.
    etag = hashlib.md5(b"x").hexdigest()
    us.embedded.writer.submit(
        lambda tx: tx.db.execute("UPDATE object SET etag = ? WHERE key = x'706f69736f6e'", (etag,))
    )
    assert await us.peer.retry() == 1
    await pair.settled()
    assert (await eu.ask("GET", "bbb", "poison")).body == b"x"
    assert (await us.ask("HEAD", "aaa", "poison")).header("x-amz-replication-status") == "COMPLETED"


async def test_a_destination_that_is_gone_fails_its_writes_until_it_is_back(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    assert (await eu.ask("DELETE", "bbb")).status == 204
    await us.ask("PUT", "aaa", "k", b"1")
    pair.copy()
    await pair.settled()
    assert (await us.ask("HEAD", "aaa", "k")).header("x-amz-replication-status") == "FAILED"
    assert (await us.peer.owed())["parked"][0]["reason"].startswith("NoSuchBucket")
    await eu.make("bbb")
    await us.peer.retry()
    await pair.settled()
    assert (await eu.ask("GET", "bbb", "k")).body == b"1"


async def test_completed_means_every_destination(regions: Any) -> None:
    await regions.start(US, EU)
    for region, name in ((US, "aaa"), (EU, "bbb"), (EU, "ccc")):
        await regions[region].make(name)
    us, eu = regions[US], regions[EU]
    await us.replicate("aaa", "bbb", "ccc")
    assert (await eu.ask("DELETE", "ccc")).status == 204
    await us.ask("PUT", "aaa", "k", b"1")
    regions.copy()
    await regions.settled()
    assert (await us.ask("HEAD", "aaa", "k")).header("x-amz-replication-status") == "FAILED"
    assert (await eu.ask("GET", "bbb", "k")).body == b"1"


async def test_a_rule_that_goes_takes_what_was_owed_with_it(regions: Any) -> None:
    await regions.start(US, EU)
    for region, name in ((US, "aaa"), (EU, "bbb"), (EU, "ccc")):
        await regions[region].make(name)
    us = regions[US]
    await us.replicate("aaa", "bbb", "ccc")
    await us.ask("PUT", "aaa", "k", b"1")
    await us.replicate("aaa", "bbb")
    assert (await us.ask("HEAD", "aaa", "k")).header("x-amz-replication-status") == "PENDING"
    regions.copy()
    await regions.settled()
    assert (await us.ask("HEAD", "aaa", "k")).header("x-amz-replication-status") == "COMPLETED"
    # Of what had arrived where rules still lead, the status is true at once; of what no rule leads anywhere, it is not.
    await regions.stop_copying()
    await us.replicate("aaa", "bbb", "ccc")
    await us.ask("PUT", "aaa", "k2", b"1")
    [row] = await us.peer.due("aaa", "bbb", 0, 10)
    await us.peer.settle([row.sequence], [])
    await us.replicate("aaa", "bbb")
    assert (await us.ask("HEAD", "aaa", "k2")).header("x-amz-replication-status") == "COMPLETED"
    await us.ask("PUT", "aaa", "k3", b"1")
    await us.ask("DELETE", "aaa", query="replication")
    assert (await us.ask("HEAD", "aaa", "k3")).header("x-amz-replication-status") == "FAILED"


@pytest.mark.parametrize("ahead_s", [60, 3 * 86_400])
async def test_stamps_from_the_future(pair: Any, ahead_s: int) -> None:
    us, eu = pair[US], pair[EU]
    await us.ask("PUT", "aaa", "k", b"future")
    ahead = (ahead_s * 1_000_000,)
    await us.embedded.writer.submit(lambda tx: tx.db.execute("UPDATE object SET stamp = stamp + ?", ahead))
    pair.copy()
    await pair.settled()
    if ahead_s > 86_400:
        assert (await eu.ask("GET", "bbb", "k")).status == 404
        assert (await us.ask("HEAD", "aaa", "k")).header("x-amz-replication-status") == "FAILED"
        return
    assert (await eu.ask("GET", "bbb", "k")).body == b"future"
    # What is written after it is newer all the same.
    await eu.ask("PUT", "bbb", "k", b"after")
    await pair.settled()
    assert (await us.ask("GET", "aaa", "k")).body == b"after"


async def test_a_bucket_that_keeps_no_versions_takes_nothing_in(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    await eu.ask("DELETE", "bbb", query="replication")
    body = b"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>"
    await eu.ask("PUT", "bbb", query="versioning", body=body)
    await us.ask("PUT", "aaa", "k", b"1")
    pair.copy()
    await pair.settled()
    assert (await us.peer.owed())["parked"][0]["reason"].startswith("InvalidBucketState")


async def test_a_copier_that_dies_leaves_nothing_undone(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    for round in range(4):
        pair.copy()
        await asyncio.gather(*(us.ask("PUT", "aaa", f"k{at}", f"{round}".encode() * 20_000) for at in range(20)))
        await asyncio.sleep(0.01 * round)
        await pair.stop_copying()
    pair.copy()
    await pair.settled()
    assert await us.history("aaa") == await eu.history("bbb")
