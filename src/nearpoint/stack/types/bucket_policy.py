"""`AWS::S3::BucketPolicy`: Ref is the bucket's name, since a bucket has one policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.stack.intrinsics import Made
from nearpoint.stack.schema import Document, Fields, Text
from nearpoint.stack.types.base import Immediate, Means, Naming
from nearpoint.state.resources import Bucket


class BucketPolicy(Immediate):
    name = "AWS::S3::BucketPolicy"
    properties = Fields(
        {"Bucket": Text(length_min=3, length_max=63), "PolicyDocument": Document()}, ("Bucket", "PolicyDocument")
    )
    attributes: frozenset[str] = frozenset()
    replacing = frozenset(("Bucket",))

    def physical_id(self, naming: Naming, properties: Mapping[str, Any], means: Means) -> str:
        return str(properties["Bucket"])

    def exists(self, physical_id: str, means: Means) -> Made | None:
        bucket = means.services.state.get(Bucket, physical_id)
        return None if bucket is None or bucket.policy is None else Made(ref=physical_id, attributes={})

    async def create(self, physical_id: str, properties: dict[str, Any], means: Means) -> Made:
        await means.buckets.put_policy(physical_id, properties["PolicyDocument"])
        return Made(ref=physical_id, attributes={})

    async def update(self, physical_id: str, before: dict[str, Any], properties: dict[str, Any], means: Means) -> Made:
        return await self.create(physical_id, properties, means)

    async def delete(self, physical_id: str, properties: dict[str, Any], means: Means) -> None:
        if self.exists(physical_id, means) is not None:
            await means.buckets.delete_policy(physical_id)
