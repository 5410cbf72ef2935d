from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.services import access_points
from nearpoint.stack.services.access_points import ALIAS, BucketRef, RouteUpdate
from nearpoint.stack.services.context import Context
from nearpoint.state.resources import AccessPoint, Bucket

pytestmark = pytest.mark.usefixtures("buckets")

BOTH = [BucketRef(bucket="data-us"), BucketRef(bucket="data-eu")]


@given(st.binary(min_size=8, max_size=8))
def test_alias_has_the_form_of_s3(random_bytes: bytes) -> None:
    alias = access_points.alias_of(random_bytes)
    assert ALIAS.fullmatch(alias)
    assert len(alias) == 18


async def test_create_and_find(context: Context) -> None:
    point = await access_points.create_access_point(context, name="app", buckets=BOTH)
    assert [(member.bucket, member.region, member.dial_percent) for member in point.members] == [
        ("data-us", "us-east-1", 100),
        ("data-eu", "eu-west-1", 100),
    ]
    assert all(point.public_access_block.values())
    assert len(point.public_access_block) == 4
    for reference in ("app", point.alias, point.arn):
        assert access_points.find(context.state, reference) == point
    with pytest.raises(AwsError) as refused:
        access_points.find(context.state, point.arn.replace("123456789012", "999999999999"))
    assert refused.value.status == 404


@pytest.mark.parametrize(
    ("name", "refs", "code"),
    [
        ("ab", BOTH, "InvalidMultiRegionAccessPointName"),
        ("-app", BOTH, "InvalidMultiRegionAccessPointName"),
        ("App", BOTH, "InvalidMultiRegionAccessPointName"),
        ("a" * 51, BOTH, "InvalidMultiRegionAccessPointName"),
        ("app", [], "InvalidRequest"),
        ("app", [BucketRef(bucket="nowhere")], "NoSuchBucket"),
        ("app", [BucketRef(bucket="data-us"), BucketRef(bucket="code")], "MultiRegionAccessPointSameBucketRegion"),
        ("app", [BucketRef(bucket="data-us", account_id="999999999999")], "AccessDenied"),
        ("app", [BucketRef(bucket="data-us")] * 18, "TooManyMultiRegionAccessPointregions"),
    ],
)
async def test_refusals(context: Context, name: str, refs: list[BucketRef], code: str) -> None:
    with pytest.raises(AwsError) as refused:
        await access_points.create_access_point(context, name=name, buckets=refs)
    assert refused.value.code == code
    assert context.state.list(AccessPoint) == []


async def test_a_name_is_given_once_even_to_two_at_a_time(context: Context) -> None:
    calls = [access_points.create_access_point(context, name="app", buckets=BOTH) for _ in range(2)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    refused = [each for each in outcomes if isinstance(each, AwsError)]
    assert [each.code for each in refused] == ["MultiRegionAccessPointAlreadyOwnedByYou"]
    assert len(context.state.list(AccessPoint)) == 1


async def test_an_account_has_at_most_a_hundred(context: Context) -> None:
    for number in range(100):
        await access_points.create_access_point(context, name=f"app-{number}", buckets=BOTH)
    with pytest.raises(AwsError, match="TooManyMultiRegionAccessPoints"):
        await access_points.create_access_point(context, name="one-more", buckets=BOTH)


async def test_delete_makes_room_for_the_name_but_not_for_the_alias(context: Context) -> None:
    first = await access_points.create_access_point(context, name="app", buckets=BOTH)
    await access_points.delete_access_point(context, "app")
    with pytest.raises(AwsError, match="NoSuchMultiRegionAccessPoint"):
        await access_points.delete_access_point(context, "app")
    second = await access_points.create_access_point(context, name="app", buckets=BOTH)
    assert second.alias != first.alias


async def test_routes_turn_dials(context: Context) -> None:
    point = await access_points.create_access_point(context, name="app", buckets=BOTH)
    turned = await access_points.submit_routes(
        context, point.arn, [RouteUpdate(bucket="data-us", region="us-east-1", dial_percent=0)]
    )
    assert [member.dial_percent for member in turned.members] == [0, 100]
    turned = await access_points.submit_routes(
        context,
        "app",
        [RouteUpdate(region="us-east-1", dial_percent=100), RouteUpdate(bucket="data-eu", dial_percent=0)],
    )
    assert [member.dial_percent for member in turned.members] == [100, 0]
    assert context.state.get(AccessPoint, point.alias) == turned


@pytest.mark.parametrize(
    "updates",
    [
        [],
        [RouteUpdate(region="us-east-1", dial_percent=101)],
        [RouteUpdate(region="us-east-1", dial_percent=-1)],
        [RouteUpdate(region="ap-southeast-2", dial_percent=0)],
        [RouteUpdate(bucket="code", dial_percent=0)],
        [RouteUpdate(bucket="data-us", region="eu-west-1", dial_percent=0)],
        [RouteUpdate(dial_percent=0)],
        [RouteUpdate(region="us-east-1", dial_percent=0), RouteUpdate(bucket="data-us", dial_percent=100)],
        [RouteUpdate(region="us-east-1", dial_percent=0), RouteUpdate(region="eu-west-1", dial_percent=0)],
    ],
)
async def test_routes_that_cannot_be(context: Context, updates: list[RouteUpdate]) -> None:
    point = await access_points.create_access_point(context, name="app", buckets=BOTH)
    with pytest.raises(AwsError) as refused:
        await access_points.submit_routes(context, "app", updates)
    assert (refused.value.code, refused.value.status) == ("InvalidRequest", 400)
    assert context.state.get(AccessPoint, point.alias) == point


async def test_one_region_has_no_routes(context: Context) -> None:
    await access_points.create_access_point(context, name="app", buckets=BOTH[:1])
    with pytest.raises(AwsError) as refused:
        await access_points.submit_routes(context, "app", [RouteUpdate(region="us-east-1", dial_percent=50)])
    assert refused.value.status == 405


async def test_a_public_policy_is_blocked_and_another_is_kept(context: Context) -> None:
    await access_points.create_access_point(context, name="app", buckets=BOTH)
    policy = '{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "*"}}'
    with pytest.raises(AwsError, match="AccessDenied"):  # public policies are blocked unless the access point says else
        await access_points.put_policy(context, "app", policy)
    policy = policy.replace('"*", "Action"', '{"AWS": "123456789012"}, "Action"')
    point = await access_points.put_policy(context, "app", policy)
    assert point.policy is not None
    assert point.policy["Statement"]["Action"] == "s3:GetObject"
    for wrong in ("{", "[]", '{"Statement": []}', '{"Statement": {"Effect": "Maybe"}}', "[" * 5000):
        with pytest.raises(AwsError, match="MalformedPolicy"):
            await access_points.put_policy(context, "app", wrong)


async def test_seventeen_regions_are_fine(context: Context) -> None:
    refs = []
    for number in range(17):
        await context.state.put(Bucket(name=f"bucket-{number}", region=f"region-{number}", created_at=0.0))
        refs.append(BucketRef(bucket=f"bucket-{number}"))
    point = await access_points.create_access_point(context, name="wide", buckets=refs)
    assert len(point.members) == 17
