"""`AWS::S3::MultiRegionAccessPoint`: every property is replacement-only; Ref is the name."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nearpoint.stack.intrinsics import Made
from nearpoint.stack.schema import Fields, Flag, Items, Text
from nearpoint.stack.services import access_points
from nearpoint.stack.services.access_points import BLOCK_PUBLIC_ACCESS, BucketRef
from nearpoint.stack.types.base import Immediate, Means, Naming, not_updatable
from nearpoint.state.resources import AccessPoint


def _made(point: AccessPoint) -> Made:
    created_at = datetime.fromtimestamp(point.created_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Made(ref=point.name, attributes={"Alias": point.alias, "CreatedAt": created_at})


class MultiRegionAccessPoint(Immediate):
    name = "AWS::S3::MultiRegionAccessPoint"
    properties = Fields(
        {
            "Name": Text(pattern=access_points.NAME.pattern),
            "PublicAccessBlockConfiguration": Fields({name: Flag() for name in BLOCK_PUBLIC_ACCESS}),
            "Regions": Items(
                Fields({"Bucket": Text(length_max=63), "BucketAccountId": Text(pattern="[0-9]{12}")}, ("Bucket",)),
                1,
            ),
        },
        ("Regions",),
    )
    attributes = frozenset(("Alias", "CreatedAt"))
    replacing = frozenset(properties.known)

    def physical_id(self, naming: Naming, properties: Mapping[str, Any], means: Means) -> str:
        return str(properties["Name"]) if "Name" in properties else naming.lower(50)

    def exists(self, physical_id: str, means: Means) -> Made | None:
        point = access_points.find_by_name(means.services.state, physical_id)
        return None if point is None else _made(point)

    async def create(self, physical_id: str, properties: dict[str, Any], means: Means) -> Made:
        point = await access_points.create_access_point(
            means.services,
            name=physical_id,
            buckets=[
                BucketRef(bucket=each["Bucket"], account_id=each.get("BucketAccountId"))
                for each in properties["Regions"]
            ],
            public_access_block=properties.get("PublicAccessBlockConfiguration"),
        )
        return _made(point)

    async def update(self, physical_id: str, before: dict[str, Any], properties: dict[str, Any], means: Means) -> Made:
        raise not_updatable(self.name)

    async def delete(self, physical_id: str, properties: dict[str, Any], means: Means) -> None:
        if self.exists(physical_id, means) is not None:
            await access_points.delete_access_point(means.services, physical_id)
