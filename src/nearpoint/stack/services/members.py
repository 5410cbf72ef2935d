"""The members of an access point, edited: what AWS has not, where an access point is what it was created as.

A member enters with a dial of 0 and is removed with one: turning dials is `access_points.submit_routes`.
"""

from __future__ import annotations

import msgspec

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.services.access_points import MEMBERS_MAX, RouteUpdate, find, turned
from nearpoint.stack.services.context import Context
from nearpoint.state.resources import AccessPoint, Bucket, Member


def with_member(point: AccessPoint, bucket: Bucket) -> AccessPoint:
    """With the bucket as a member at dial 0; as it is when it is one already.

    Raises AwsError: MultiRegionAccessPointSameBucketRegion for another bucket in the same region,
    TooManyMultiRegionAccessPointregions.
    """
    there = next((member for member in point.members if member.region == bucket.region), None)
    if there is not None:
        if there.bucket == bucket.name:
            return point
        raise AwsError(
            "MultiRegionAccessPointSameBucketRegion",
            f"{point.name} has a member in {bucket.region} already: {there.bucket}",
            status=409,
        )
    if len(point.members) >= MEMBERS_MAX:
        raise AwsError(
            "TooManyMultiRegionAccessPointregions",
            f"A Multi-Region Access Point has at most {MEMBERS_MAX} Regions",
            status=400,
        )
    added = Member(bucket=bucket.name, region=bucket.region, dial_percent=0)
    return msgspec.structs.replace(point, members=(*point.members, added))


def without_member(point: AccessPoint, region: str) -> AccessPoint:
    """Without the member in that region; as it is when there is none. Raises InvalidRequest for one that is active."""
    there = next((member for member in point.members if member.region == region), None)
    if there is None:
        return point
    if there.dial_percent:
        raise AwsError("InvalidRequest", f"{region} takes {there.dial_percent} % of the traffic: drain it first")
    return msgspec.structs.replace(point, members=tuple(member for member in point.members if member is not there))


async def put_member(context: Context, name: str, bucket_name: str, dial_percent: int) -> AccessPoint:
    """Add a bucket, or turn the dial of one that is a member. Raises AwsError (`with_member`, `turned`, NoSuchBucket,
    NoSuchMultiRegionAccessPoint)."""
    async with context.lock:
        bucket = context.state.get(Bucket, bucket_name)
        if bucket is None:
            raise AwsError("NoSuchBucket", f"The specified bucket does not exist: {bucket_name}", status=404)
        before = find(context.state, name)
        point = with_member(before, bucket)
        dials = {member.region: member.dial_percent for member in point.members}
        if dials[bucket.region] != dial_percent:
            update = RouteUpdate(region=bucket.region, dial_percent=dial_percent)
            point = msgspec.structs.replace(point, members=turned(point, [update]))
        if point != before:
            await context.state.put(point)
        return point


async def remove_member(context: Context, name: str, region: str) -> AccessPoint:
    """Take a member out. Raises AwsError (`without_member`, NoSuchMultiRegionAccessPoint)."""
    async with context.lock:
        before = find(context.state, name)
        point = without_member(before, region)
        if point is not before:
            await context.state.put(point)
        return point
