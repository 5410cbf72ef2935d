"""A region of our own and one whose store is foreign: what is written in one is in the other, as it was."""

from __future__ import annotations

import os
from typing import Any

US, EU = "us-east-1", "eu-west-1"
PART = 5 * 1024**2


async def test_an_object_arrives_with_all_that_is_on_it_both_ways(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    given = {
        "content_type": "text/plain; charset=utf-8", "cache_control": "max-age=5", "content_disposition": "inline",
        "x_amz_meta_colour": "red", "x_amz_tagging": "t=1&u=2",
    }  # fmt: skip
    for here, there, bucket, other in ((us, eu, "aaa", "bbb"), (eu, us, "bbb", "aaa")):
        key = f"a key/ü {bucket}"
        assert (await here.ask("PUT", bucket, key, b"content", **given)).status == 200
        await pair.settled()
        one, two = await here.ask("GET", bucket, key), await there.ask("GET", other, key)
        assert (one.body, two.body) == (b"content", b"content")
        assert one.described == two.described
        assert one.described["x-amz-meta-colour"] == "red"
        assert not any("nearpoint" in name for name in one.described | two.described)
        assert one.header("x-amz-replication-status") == "COMPLETED"
        assert two.header("x-amz-replication-status") == "REPLICA"
        tags = [
            (await each.ask("GET", name, key, query="tagging")).body for each, name in ((here, bucket), (there, other))
        ]
        assert b"<Key>t</Key><Value>1</Value>" in tags[0]
        assert tags[0] == tags[1]


async def test_overwrites_and_deletes(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    for at in range(6):
        await (us if at % 2 else eu).ask("PUT", "aaa" if at % 2 else "bbb", "k", f"{at}".encode())
        await pair.settled()
        assert (await us.ask("GET", "aaa", "k")).body == (await eu.ask("GET", "bbb", "k")).body == f"{at}".encode()
    assert (await eu.ask("DELETE", "bbb", "k")).status == 204
    await pair.settled()
    gone = await us.ask("GET", "aaa", "k")
    assert (gone.status, gone.header("x-amz-delete-marker")) == (404, "true")
    await us.ask("PUT", "aaa", "k", b"again")
    await pair.settled()
    assert (await eu.ask("GET", "bbb", "k")).body == b"again"
    await us.ask("DELETE", "aaa", "k")
    await pair.settled()
    assert (await eu.ask("GET", "bbb", "k")).status == 404


async def test_many_keys_are_deleted_at_once(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    for at in range(5):
        await eu.ask("PUT", "bbb", f"k{at}", b"x")
    keys = "".join(f"<Object><Key>k{at}</Key></Object>" for at in range(1, 5))
    answer = await eu.ask("POST", "bbb", body=f"<Delete>{keys}</Delete>".encode(), query="delete")
    assert answer.body.count(b"<Deleted>") == 4
    await pair.settled()
    assert [(await us.ask("HEAD", "aaa", f"k{at}")).status for at in range(5)] == [200, 404, 404, 404, 404]


async def test_uploads_in_parts_keep_their_entity_tag_both_ways(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    parts = [os.urandom(PART), os.urandom(PART), b"end"]
    for here, there, bucket, other in ((us, eu, "aaa", "bbb"), (eu, us, "bbb", "aaa")):
        key = f"big {bucket}"
        done = await here.upload(bucket, key, parts, x_amz_meta_colour="blue", content_type="image/png")
        assert done.status == 200, done.body
        await pair.settled()
        one, two = await here.ask("GET", bucket, key), await there.ask("GET", other, key)
        assert one.body == two.body == b"".join(parts)
        assert one.described == two.described
        assert one.header("etag", ).endswith('-3"')  # fmt: skip
        assert (await there.ask("HEAD", other, key, query="partNumber=3")).header("content-length") == "3"


async def test_tags_travel_both_ways(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    await eu.ask("PUT", "bbb", "k", b"x", x_amz_tagging="a=1")
    await pair.settled()
    assert (await us.tag("aaa", "k", a="2")).status == 200
    await pair.settled()
    assert b"<Value>2</Value>" in (await eu.ask("GET", "bbb", "k", query="tagging")).body
    assert (await eu.tag("bbb", "k", a="3")).status == 200
    await pair.settled()
    assert b"<Value>3</Value>" in (await us.ask("GET", "aaa", "k", query="tagging")).body
    assert (await eu.ask("DELETE", "bbb", "k", query="tagging")).status == 204
    await pair.settled()
    assert b"<Value>" not in (await us.ask("GET", "aaa", "k", query="tagging")).body


async def test_a_copy_within_the_foreign_store_gets_a_stamp_of_its_own(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    pair.copy()
    await us.ask("PUT", "aaa", "from", b"content", x_amz_meta_colour="red", content_type="text/x", x_amz_tagging="a=b")
    await eu.ask("PUT", "bbb", "to", b"before")
    await pair.settled()
    copied = await eu.ask("PUT", "bbb", "to", x_amz_copy_source="/bbb/from")
    assert copied.status == 200, copied.body
    await pair.settled()
    here, there = await eu.ask("GET", "bbb", "to"), await us.ask("GET", "aaa", "to")
    assert (here.body, there.body) == (b"content", b"content")
    assert here.described == there.described
    assert here.described["x-amz-meta-colour"] == "red"
    assert here.header("x-amz-replication-status") == "COMPLETED"
    assert b"<Value>b</Value>" in (await us.ask("GET", "aaa", "to", query="tagging")).body


async def test_only_what_the_rules_say_is_copied(pair: Any) -> None:
    us, eu = pair[US], pair[EU]
    assert (await eu.replicate("bbb", "aaa", prefix="in/")).status == 200
    pair.copy()
    await eu.ask("PUT", "bbb", "in/k", b"x")
    await eu.ask("PUT", "bbb", "out/k", b"x")
    await pair.settled()
    assert (await us.ask("HEAD", "aaa", "in/k")).status == 200
    assert (await us.ask("HEAD", "aaa", "out/k")).status == 404
    assert (await eu.ask("HEAD", "bbb", "out/k")).header("x-amz-replication-status") is None


async def test_two_foreign_stores(regions: Any) -> None:
    us, eu = await regions.foreign(US), await regions.foreign(EU)
    await us.make("aaa")
    await eu.make("bbb")
    await us.replicate("aaa", "bbb")
    await eu.replicate("bbb", "aaa")
    regions.copy()
    for at in range(8):
        await us.ask("PUT", "aaa", f"k{at % 3}", f"us {at}".encode())
        await eu.ask("PUT", "bbb", f"k{at % 3}", f"eu {at}".encode())
    await us.ask("DELETE", "aaa", "k1")
    await regions.settled()
    for at in range(3):
        here, there = await us.ask("GET", "aaa", f"k{at}"), await eu.ask("GET", "bbb", f"k{at}")
        assert (here.status, here.described) == (there.status, there.described)
        assert here.status == 404 or here.body == there.body
