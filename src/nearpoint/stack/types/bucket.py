"""`AWS::S3::Bucket`, by name and replication rules so far: Ref is the name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.stack.intrinsics import Made
from nearpoint.stack.schema import Fields, Text
from nearpoint.stack.types import bucket_replication
from nearpoint.stack.types.base import Immediate, Means, Naming
from nearpoint.state.resources import Bucket as BucketResource


def _made(name: str, region: str) -> Made:
    return Made(
        ref=name,
        attributes={
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{region}.amazonaws.com",
        },
    )


async def _replicate(name: str, before: Mapping[str, Any], properties: Mapping[str, Any], means: Means) -> None:
    """Put the rules, where they differ: last of all, because they ask that the bucket keeps versions."""
    configuration = bucket_replication.configuration_of(properties)
    if configuration != bucket_replication.configuration_of(before):
        await means.buckets.put_replication(name, configuration)


class Bucket(Immediate):
    name = "AWS::S3::Bucket"
    properties = Fields(
        {"BucketName": Text(length_min=3, length_max=63), "ReplicationConfiguration": bucket_replication.SCHEMA},
        (),
        (
            "AccelerateConfiguration", "AccessControl", "AnalyticsConfigurations", "BucketEncryption",
            "CorsConfiguration", "IntelligentTieringConfigurations", "InventoryConfigurations",
            "LifecycleConfiguration", "LoggingConfiguration", "MetricsConfigurations", "NotificationConfiguration",
            "ObjectLockConfiguration", "ObjectLockEnabled", "OwnershipControls", "PublicAccessBlockConfiguration",
            "Tags", "VersioningConfiguration", "WebsiteConfiguration",
        ),
    )  # fmt: skip
    attributes = frozenset(("Arn", "DomainName", "RegionalDomainName"))
    replacing = frozenset(("BucketName",))

    def physical_id(self, naming: Naming, properties: Mapping[str, Any], means: Means) -> str:
        return str(properties["BucketName"]) if "BucketName" in properties else naming.lower(63)

    def exists(self, physical_id: str, means: Means) -> Made | None:
        bucket = means.services.state.get(BucketResource, physical_id)
        return None if bucket is None else _made(bucket.name, bucket.region)

    async def create(self, physical_id: str, properties: dict[str, Any], means: Means) -> Made:
        await means.buckets.create(physical_id, means.region)
        await _replicate(physical_id, {}, properties, means)
        return _made(physical_id, means.region)

    async def update(self, physical_id: str, before: dict[str, Any], properties: dict[str, Any], means: Means) -> Made:
        await _replicate(physical_id, before, properties, means)
        return _made(physical_id, means.region)

    async def delete(self, physical_id: str, properties: dict[str, Any], means: Means) -> None:
        if self.exists(physical_id, means) is not None:
            await means.buckets.delete(physical_id, means.region)
