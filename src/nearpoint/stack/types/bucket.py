"""`AWS::S3::Bucket`: Ref is the name. Its configuration changes in place, and is kept by the bucket's store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.stack.intrinsics import Made
from nearpoint.stack.schema import Fields, Text
from nearpoint.stack.types import bucket_replication, bucket_settings
from nearpoint.stack.types.base import Immediate, Means, Naming
from nearpoint.state.resources import Bucket as BucketResource


def _made(name: str, region: str) -> Made:
    return Made(
        ref=name,
        attributes={
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "DualStackDomainName": f"{name}.s3.dualstack.{region}.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{region}.amazonaws.com",
        },
    )


async def _configure(name: str, before: Mapping[str, Any], properties: Mapping[str, Any], means: Means) -> None:
    """Put what differs. Replication rules ask that the bucket keeps versions: they come last, and go first."""
    rules = bucket_replication.configuration_of(properties)
    other_rules = rules != bucket_replication.configuration_of(before)
    if other_rules and rules is None:
        await means.buckets.put_replication(name, None)
    for kind, value in bucket_settings.changes(before, properties).items():
        await means.buckets.put_setting(name, kind, value)
    if other_rules and rules is not None:
        await means.buckets.put_replication(name, rules)


class Bucket(Immediate):
    name = "AWS::S3::Bucket"
    properties = Fields(
        {
            "BucketName": Text(length_min=3, length_max=63),
            "ReplicationConfiguration": bucket_replication.SCHEMA,
            **bucket_settings.SCHEMAS,
        },
        (),
        (
            "AccelerateConfiguration", "AnalyticsConfigurations", "IntelligentTieringConfigurations",
            "InventoryConfigurations", "LoggingConfiguration", "MetricsConfigurations", "NotificationConfiguration",
            "ObjectLockConfiguration", "ObjectLockEnabled", "WebsiteConfiguration",
        ),
    )  # fmt: skip
    attributes = frozenset(("Arn", "DomainName", "DualStackDomainName", "RegionalDomainName"))
    replacing = frozenset(("BucketName",))

    def physical_id(self, naming: Naming, properties: Mapping[str, Any], means: Means) -> str:
        return str(properties["BucketName"]) if "BucketName" in properties else naming.lower(63)

    def exists(self, physical_id: str, means: Means) -> Made | None:
        bucket = means.services.state.get(BucketResource, physical_id)
        return None if bucket is None else _made(bucket.name, bucket.region)

    async def create(self, physical_id: str, properties: dict[str, Any], means: Means) -> Made:
        await means.buckets.create(physical_id, means.region)
        await _configure(physical_id, {}, properties, means)
        return _made(physical_id, means.region)

    async def update(self, physical_id: str, before: dict[str, Any], properties: dict[str, Any], means: Means) -> Made:
        await _configure(physical_id, before, properties, means)
        return _made(physical_id, means.region)

    async def delete(self, physical_id: str, properties: dict[str, Any], means: Means) -> None:
        if self.exists(physical_id, means) is not None:
            await means.buckets.delete(physical_id, means.region)
