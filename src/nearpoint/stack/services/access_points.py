"""Multi-Region Access Points: creation, deletion, policy and routes.

Rules from the S3 User Guide, "Multi-Region Access Point restrictions and limitations" and "failover controls errors".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from nearpoint.awsproto.errors import AwsError
from nearpoint.policy.document import MalformedPolicyError, parse_policy
from nearpoint.policy.public import is_public
from nearpoint.stack.services.context import Context, base32_of
from nearpoint.stack.services.policies import check_resource_policy
from nearpoint.state.resources import AccessPoint, Bucket, Member
from nearpoint.state.store import State

NAME = re.compile(r"[a-z0-9][-a-z0-9]{1,48}[a-z0-9]")
ARN = re.compile(r"arn:aws[a-z-]*:s3::[0-9]{12}:accesspoint/[a-z][a-z0-9]*[.]mrap")
ALIAS = re.compile(r"[a-z][a-z0-9]*[.]mrap")
ACCESS_POINTS_MAX = 100  # per account
MEMBERS_MAX = 17  # Regions of one access point
BLOCK_PUBLIC_ACCESS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
POLICY_BYTES_MAX = 20 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketRef:
    """A bucket as the caller names it; `account_id` is None where the caller leaves it to be the own account."""

    bucket: str
    account_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteUpdate:
    """A new dial. Bucket or region may be left out (not both): a member has one of each."""

    bucket: str | None = None
    region: str | None = None
    dial_percent: int


def alias_of(random_bytes: bytes) -> str:
    """An alias from 8 random bytes: `m` and twelve of base 32, as S3's look."""
    return f"m{base32_of(random_bytes[:8]).lower()[:12]}.mrap"


def find_by_name(state: State, name: str) -> AccessPoint | None:
    """The access point of that name, or None."""
    return next((point for point in state.list(AccessPoint) if point.name == name), None)


def find(state: State, name_alias_or_arn: str) -> AccessPoint:
    """The access point by name, alias or ARN. Raises NoSuchMultiRegionAccessPoint."""
    wanted = name_alias_or_arn
    if wanted.startswith("arn:"):
        wanted = wanted.rpartition("/")[2]
    point = state.get(AccessPoint, wanted) if wanted.endswith(".mrap") else find_by_name(state, wanted)
    if point is None or (name_alias_or_arn.startswith("arn:") and point.arn != name_alias_or_arn):
        raise AwsError(
            "NoSuchMultiRegionAccessPoint",
            f"The specified Multi-Region Access Point does not exist: {wanted}",
            status=404,
        )
    return point


def check_members(state: State, account_id: str, buckets: Sequence[BucketRef]) -> tuple[Member, ...]:
    """The members these buckets make, each dial at 100. Raises what S3 answers for a list that can't be one."""
    if not 1 <= len(buckets) <= MEMBERS_MAX:
        raise AwsError(
            "TooManyMultiRegionAccessPointregions" if buckets else "InvalidRequest",
            f"A Multi-Region Access Point has 1 to {MEMBERS_MAX} Regions, not {len(buckets)}",
            status=400,
        )
    members: dict[str, Member] = {}
    for ref in buckets:
        bucket = state.get(Bucket, ref.bucket)
        if bucket is None:
            raise AwsError("NoSuchBucket", f"The specified bucket does not exist: {ref.bucket}", status=404)
        if ref.account_id not in (None, "", account_id):
            raise AwsError("AccessDenied", f"Bucket {ref.bucket} is not in account {ref.account_id}", status=403)
        if bucket.region in members:
            raise AwsError(
                "MultiRegionAccessPointSameBucketRegion",
                f"Multi-Region Access Point buckets cannot be in the same Region: {members[bucket.region].bucket} "
                f"and {bucket.name} are both in {bucket.region}",
                status=400,
            )
        members[bucket.region] = Member(bucket=bucket.name, region=bucket.region)
    return tuple(members.values())


def check_public_access_block(given: Mapping[str, Any] | None) -> dict[str, bool]:
    """All four settings; one that is not given is on, as S3 does for access points."""
    given = given or {}
    for key in given:
        if key not in BLOCK_PUBLIC_ACCESS:
            raise AwsError("InvalidRequest", f"Unknown public access block setting: {key}", status=400)
    return {key: bool(given.get(key, True)) for key in BLOCK_PUBLIC_ACCESS}


async def create_access_point(
    context: Context,
    *,
    name: str,
    buckets: Sequence[BucketRef],
    public_access_block: Mapping[str, Any] | None = None,
) -> AccessPoint:
    """Create. Raises AwsError: InvalidMultiRegionAccessPointName, MultiRegionAccessPointAlreadyOwnedByYou,
    TooManyMultiRegionAccessPoints, or what `check_members` raises."""
    if not NAME.fullmatch(name):
        raise AwsError(
            "InvalidMultiRegionAccessPointName",
            "A Multi-Region Access Point name has 3 to 50 characters of a-z, 0-9 and hyphens, with no hyphen at "
            "either end",
            status=400,
        )
    async with context.lock:
        state = context.state
        if find_by_name(state, name) is not None:
            raise AwsError(
                "MultiRegionAccessPointAlreadyOwnedByYou",
                f"You already have a Multi-Region Access Point with the same name: {name}",
                status=409,
            )
        if len(state.list(AccessPoint)) >= ACCESS_POINTS_MAX:
            raise AwsError(
                "TooManyMultiRegionAccessPoints",
                f"An account has at most {ACCESS_POINTS_MAX} Multi-Region Access Points",
                status=400,
            )
        members = check_members(state, context.account_id, buckets)
        alias = alias_of(context.random_bytes(8))
        while state.get(AccessPoint, alias) is not None:
            alias = alias_of(context.random_bytes(8))
        point = AccessPoint(
            alias=alias,
            name=name,
            account_id=context.account_id,
            created_at=context.now(),
            members=members,
            public_access_block=check_public_access_block(public_access_block),
        )
        await state.put(point)
        return point


async def delete_access_point(context: Context, name_alias_or_arn: str) -> None:
    """Delete; its alias is never given out again. Raises NoSuchMultiRegionAccessPoint."""
    async with context.lock:
        await context.state.delete(find(context.state, name_alias_or_arn))


def is_public_policy(document: dict[str, Any]) -> bool:
    """Whether a policy is public (S3 User Guide, "The meaning of public")."""
    try:
        return is_public(parse_policy(document, kind="resource"))
    except MalformedPolicyError:
        return False


async def put_policy(context: Context, name_alias_or_arn: str, policy: str | dict[str, Any]) -> AccessPoint:
    """Set the resource policy (a document or its JSON). Raises MalformedPolicy, and AccessDenied for a public one."""
    document = check_resource_policy(policy, bytes_max=POLICY_BYTES_MAX)
    async with context.lock:
        before = find(context.state, name_alias_or_arn)
        if before.public_access_block.get("BlockPublicPolicy") and is_public_policy(document):
            raise AwsError("AccessDenied", "Public policies are blocked by the BlockPublicPolicy setting.", status=403)
        point = msgspec.structs.replace(before, policy=document)
        await context.state.put(point)
        return point


async def change_settings(context: Context, name_alias_or_arn: str, changes: Mapping[str, bool]) -> AccessPoint:
    """Change what AWS has not: `read_fallback`, `hedge_reads`, `affinity`. Raises NoSuchMultiRegionAccessPoint."""
    async with context.lock:
        before = find(context.state, name_alias_or_arn)
        point = msgspec.structs.replace(before, **changes)
        if point != before:
            await context.state.put(point)
        return point


async def remove_policy(context: Context, name_alias_or_arn: str) -> None:
    """Leave the access point without a resource policy."""
    async with context.lock:
        await context.state.put(msgspec.structs.replace(find(context.state, name_alias_or_arn), policy=None))


def turned(point: AccessPoint, updates: Sequence[RouteUpdate]) -> tuple[Member, ...]:
    """The members after these updates. Raises InvalidRequest for a dial out of range, a member that is not one, the
    same member twice, or an access point left without an active Region."""
    dials: dict[str, int] = {}
    if not updates:
        raise AwsError("InvalidRequest", "At least one route is needed", status=400)
    for update in updates:
        if isinstance(update.dial_percent, bool) or not 0 <= update.dial_percent <= 100:
            raise AwsError("InvalidRequest", "A traffic dial percentage is 0 to 100", status=400)
        found = [
            member
            for member in point.members
            if update.bucket in (None, member.bucket) and update.region in (None, member.region)
        ]
        if (update.bucket is None and update.region is None) or not found:
            raise AwsError(
                "InvalidRequest",
                f"Bucket {update.bucket or '(any)'} in Region {update.region or '(any)'} is not part of the "
                f"Multi-Region Access Point {point.name}",
                status=400,
            )
        if found[0].region in dials:
            raise AwsError("InvalidRequest", f"More than one route for Region {found[0].region}", status=400)
        dials[found[0].region] = update.dial_percent
    members = tuple(
        msgspec.structs.replace(member, dial_percent=dials.get(member.region, member.dial_percent))
        for member in point.members
    )
    if not any(member.dial_percent for member in members):
        raise AwsError("InvalidRequest", "At least one Region has to stay active", status=400)
    return members


async def submit_routes(context: Context, name_alias_or_arn: str, updates: Sequence[RouteUpdate]) -> AccessPoint:
    """Turn dials. Raises NoSuchMultiRegionAccessPoint, MethodNotAllowed (one Region only) or what `turned` raises."""
    async with context.lock:
        point = find(context.state, name_alias_or_arn)
        if len(point.members) == 1:
            raise AwsError(
                "MethodNotAllowed", "A Multi-Region Access Point with one Region has no routes to change", status=405
            )
        point = msgspec.structs.replace(point, members=turned(point, updates))
        await context.state.put(point)
        return point
