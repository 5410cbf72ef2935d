"""Copies whose source is not where the request goes."""

from __future__ import annotations

from typing import Any

from nearpoint.state.resources import Bucket


async def test_a_copy_from_a_bucket_of_another_region_is_carried_across(world: Any) -> None:
    world.publish(world.access_point(), buckets=(Bucket(name="other", region="far", created_at=0.0),))
    world.stores["far"].objects["/other/a%20b"] = b"from far away"
    status, headers, body = await world.ask("PUT", "/copied", headers=[("x-amz-copy-source", "/other/a%20b")])
    assert (status, headers.get("x-nearpoint-region")) == (200, "near")
    assert b"<CopyObjectResult" in body
    assert b"<ETag>" in body
    assert world.stores["near"].objects["/near-bucket/copied"] == b"from far away"
    sent = world.stores["near"].requests[-1]
    assert sent.headers.get("x-amz-copy-source") is None
    assert sent.headers.get("x-amz-meta-Odd") == "caf\xc3\xa9"


async def test_a_copy_of_what_is_not_there_stores_nothing(world: Any) -> None:
    world.publish(world.access_point(), buckets=(Bucket(name="other", region="far", created_at=0.0),))
    status, _, body = await world.ask("PUT", "/copied", headers=[("x-amz-copy-source", "/other/missing")])
    assert (status, b"<Code>NoSuchKey</Code>" in body) == (404, True)
    assert "/near-bucket/copied" not in world.stores["near"].objects


async def test_a_source_that_is_down_is_not_held_against_the_target(world: Any) -> None:
    world.publish(world.access_point(), buckets=(Bucket(name="other", region="far", created_at=0.0),))
    await world.stores["far"].stop()
    for _ in range(4):
        status, headers, body = await world.ask("PUT", "/copied", headers=[("x-amz-copy-source", "/other/k")])
        assert (status, b"<Code>ServiceUnavailable</Code>" in body) == (503, True)
        assert headers.get("retry-after") == "1"
    assert world.node.fleet.states["near"].value == "healthy"


async def test_a_part_is_copied_from_a_range_in_another_region(world: Any) -> None:
    world.publish(world.access_point(), buckets=(Bucket(name="other", region="far", created_at=0.0),))
    world.stores["far"].objects["/other/k"] = b"0123456789"
    target = "/copied?partNumber=2&uploadId=near.u"
    source = ("x-amz-copy-source", "/other/k")
    wanted = [source, ("x-amz-copy-source-range", "bytes=2-4")]
    status, _, body = await world.ask("PUT", target, headers=wanted)
    assert (status, b"<CopyPartResult" in body, world.stores["near"].bodies[-1]) == (200, True, b"234")
    for wrong in ("bytes=2-", "bytes=8-20"):
        headers = [source, ("x-amz-copy-source-range", wrong)]
        status, _, body = await world.ask("PUT", target, headers=headers)
        assert (status, b"<Code>InvalidArgument</Code>" in body) == (400, True), wrong
