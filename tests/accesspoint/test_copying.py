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
