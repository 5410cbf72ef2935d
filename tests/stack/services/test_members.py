"""Editing the members of an access point: what is refused, and that the rest stays."""

from __future__ import annotations

import pytest

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.services import access_points, members
from nearpoint.stack.services.access_points import BucketRef
from nearpoint.stack.services.context import Context
from nearpoint.state.resources import AccessPoint, Bucket


@pytest.fixture
async def point(context: Context, buckets: None) -> AccessPoint:
    for name, region in (("data-ap", "ap-south-1"), ("other-ap", "ap-south-1")):
        await context.state.put(Bucket(name=name, region=region, created_at=0.0))
    return await access_points.create_access_point(
        context, name="app", buckets=[BucketRef(bucket="data-us"), BucketRef(bucket="data-eu")]
    )


def dials(point: AccessPoint) -> dict[str, int]:
    return {member.bucket: member.dial_percent for member in point.members}


async def test_a_member_is_added_turned_up_and_removed(context: Context, point: AccessPoint) -> None:
    added = await members.put_member(context, point.alias, "data-ap", 0)
    assert dials(added) == {"data-us": 100, "data-eu": 100, "data-ap": 0}
    assert await members.put_member(context, "app", "data-ap", 0) == added
    turned = await members.put_member(context, "app", "data-ap", 30)
    assert dials(turned) == {"data-us": 100, "data-eu": 100, "data-ap": 30}
    with pytest.raises(AwsError, match="drain it first"):
        await members.remove_member(context, "app", "ap-south-1")
    await members.put_member(context, "app", "data-ap", 0)
    assert (await members.remove_member(context, "app", "ap-south-1")).members == point.members
    assert (await members.remove_member(context, "app", "ap-south-1")).members == point.members
    assert context.state.get(AccessPoint, point.alias) == point


async def test_what_cannot_be_is_refused(context: Context, point: AccessPoint) -> None:
    for bucket, dial, text in (
        ("nowhere", 0, "does not exist"),
        ("data-us", 101, "0 to 100"),
        ("data-ap", -1, "0 to 100"),
    ):
        with pytest.raises(AwsError, match=text):
            await members.put_member(context, "app", bucket, dial)
    with pytest.raises(AwsError, match="does not exist"):
        await members.put_member(context, "other", "data-ap", 0)
    await members.put_member(context, "app", "data-ap", 0)
    with pytest.raises(AwsError, match="has a member in ap-south-1 already"):
        await members.put_member(context, "app", "other-ap", 0)
    await members.put_member(context, "app", "data-us", 0)
    with pytest.raises(AwsError, match="stay active"):
        await members.put_member(context, "app", "data-eu", 0)
