"""`AWS::S3::MultiRegionAccessPointPolicy`: Ref is the access point's name, since it has one policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.stack.intrinsics import Made
from nearpoint.stack.schema import Document, Fields, Text
from nearpoint.stack.services import access_points
from nearpoint.stack.types.base import Immediate, Means, Naming


class MultiRegionAccessPointPolicy(Immediate):
    name = "AWS::S3::MultiRegionAccessPointPolicy"
    properties = Fields(
        {"MrapName": Text(pattern=access_points.NAME.pattern), "Policy": Document()}, ("MrapName", "Policy")
    )
    attributes: frozenset[str] = frozenset()
    replacing = frozenset(("MrapName",))

    def physical_id(self, naming: Naming, properties: Mapping[str, Any], means: Means) -> str:
        return str(properties["MrapName"])

    def exists(self, physical_id: str, means: Means) -> Made | None:
        point = access_points.find_by_name(means.services.state, physical_id)
        return None if point is None or point.policy is None else Made(ref=physical_id, attributes={})

    async def create(self, physical_id: str, properties: dict[str, Any], means: Means) -> Made:
        await access_points.put_policy(means.services, physical_id, properties["Policy"])
        return Made(ref=physical_id, attributes={})

    async def update(self, physical_id: str, before: dict[str, Any], properties: dict[str, Any], means: Means) -> Made:
        return await self.create(physical_id, properties, means)

    async def delete(self, physical_id: str, properties: dict[str, Any], means: Means) -> None:
        if self.exists(physical_id, means) is not None:
            await access_points.remove_policy(means.services, physical_id)
