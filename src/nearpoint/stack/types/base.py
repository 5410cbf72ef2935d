"""What a resource type has to offer, and what it may use."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.intrinsics import Made
from nearpoint.stack.schema import Fields
from nearpoint.stack.services.context import UPPER_AND_DIGITS, Context, text_of

PUBLISHED_TIMEOUT_S = 60.0

__all__ = ["BucketOperations", "Made", "Means", "Naming", "NotStabilizedError", "ObjectReader", "ResourceType"]


class ObjectReader(Protocol):
    """Reads objects of the world's buckets."""

    async def get(self, bucket: str, key: str, version_id: str | None, limit_bytes: int) -> bytes:
        """The object's content. Raises AwsError (NoSuchBucket, NoSuchKey, EntityTooLarge beyond the limit …)."""


class BucketOperations(Protocol):
    """Makes and removes buckets, in the registry and in the region's store."""

    async def create(self, name: str, region: str) -> bool:
        """False when it was there already. Raises AwsError (BucketAlreadyOwnedByYou, InvalidBucketName …)."""

    async def delete(self, name: str, region: str) -> None:
        """Raises AwsError (NoSuchBucket, BucketNotEmpty …)."""

    async def put_setting(self, name: str, kind: str, value: Mapping[str, Any] | None) -> None:
        """Configure; None is what a new bucket has. Raises AwsError (NoSuchBucket, MalformedXML …)."""

    async def put_policy(self, name: str, policy: Mapping[str, Any]) -> None:
        """Raises AwsError (NoSuchBucket, MalformedPolicy, AccessDenied …)."""

    async def delete_policy(self, name: str) -> None:
        """Raises AwsError (NoSuchBucket …)."""

    async def put_replication(self, name: str, configuration: Mapping[str, Any] | None) -> None:
        """None removes the rules. Raises AwsError (NoSuchBucket, InvalidRequest …)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What types work with: the services, the stack's region, and the parts of the world handed in.

    `published(timeout_s)` waits until every live node runs by what the state holds now and says whether they do.
    """

    services: Context
    region: str
    reader: ObjectReader
    buckets: BucketOperations
    published: Callable[[float], Awaitable[bool]]


class NotStabilizedError(Exception):
    """A resource was made, but the nodes did not take it up in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What names of resources are made of."""

    stack_name: str
    logical_id: str
    random_bytes: bytes  # at least 16

    def of_length(self, length_max: int) -> str:
        """`STACK-LOGICAL-RANDOM`, the first two cut short where it would be longer."""
        tail = text_of(self.random_bytes[:12], UPPER_AND_DIGITS)
        room = length_max - len(tail) - 2
        logical_id = self.logical_id[: max(room - len(self.stack_name), room // 2)]
        return f"{self.stack_name[: room - len(logical_id)]}-{logical_id}-{tail}"

    def lower(self, length_max: int) -> str:
        """The same in lower case, for names that allow nothing else."""
        return re.sub(r"[^a-z0-9-]", "", self.of_length(length_max).lower())


class ResourceType(Protocol):
    """One CloudFormation resource type.

    `attributes` are what GetAtt may ask for. `replacing` are the properties whose change needs a new resource.
    `physical_id` is decided before the resource is made and recorded, so that what a crash interrupted is found again.
    """

    name: str
    properties: Fields
    attributes: frozenset[str]
    replacing: frozenset[str]

    def capability(self, properties: Mapping[str, Any]) -> str | None:
        """The capability that the caller has to acknowledge, or None. `properties` are as written in the template."""

    def physical_id(self, naming: Naming, properties: Mapping[str, Any], means: Means) -> str: ...

    def exists(self, physical_id: str, means: Means) -> Made | None:
        """What is there under that id, or None."""

    async def create(self, physical_id: str, properties: dict[str, Any], means: Means) -> Made:
        """Raises AwsError."""

    async def settle(self, physical_id: str, means: Means) -> None:
        """Wait until it is in force. Raises NotStabilizedError. May be called more than once."""

    async def update(self, physical_id: str, before: dict[str, Any], properties: dict[str, Any], means: Means) -> Made:
        """Change in place; only properties that are not `replacing` differ. Raises AwsError."""

    async def delete(self, physical_id: str, properties: dict[str, Any], means: Means) -> None:
        """Remove; nothing happens where it is not there. Raises AwsError."""


class Immediate:
    """For types that are in force as soon as they are made, and need no acknowledgement."""

    def capability(self, properties: Mapping[str, Any]) -> str | None:
        return None

    async def settle(self, physical_id: str, means: Means) -> None:
        return None


def not_updatable(name: str) -> AwsError:
    """For types whose every property is replacement-only: the plan never asks for it."""
    return AwsError("InvalidRequest", f"{name} cannot be changed in place")
