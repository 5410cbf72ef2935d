"""What `nearpoint import` finds, as values. Configurations are in CloudFormation's shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DataBucket:
    """A bucket behind the access point. `settings` are those of `bucket_settings` that differ from deploy's own;
    `replication_role_arn` is that of its rules."""

    name: str
    region: str
    settings: Mapping[str, Any]
    replication_role_arn: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginBucket:
    """A bucket in us-east-1 that an origin leads to directly, as `AWS::S3::Bucket` properties."""

    name: str
    properties: Mapping[str, Any]
    policy: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessPoint:
    """A Multi-Region Access Point; `buckets` in its own order."""

    name: str
    alias: str
    buckets: tuple[DataBucket, ...]
    policy: Mapping[str, Any] | None
    public_access_block: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A policy, access control, key or key group of one's own; `kind` is the type's last word."""

    kind: str
    id: str
    config: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role, its properties without the name."""

    arn: str
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeFunction:
    """A Lambda function at a version, its properties without code, role and name. `files` is None where its package
    could not be fetched."""

    version_arn: str
    name: str
    event: str
    role_arn: str
    properties: Mapping[str, Any]
    files: Mapping[str, bytes] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerFunction:
    """A CloudFront function."""

    arn: str
    name: str
    comment: str
    runtime: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution; `managed` are the policies of AWS it uses: id to (kind, name)."""

    id: str
    domain: str
    config: Mapping[str, Any]
    tags: Mapping[str, str]
    managed: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """All of it. `origin_buckets` by the origin's domain name; `notes` say what is not taken over, and what to do."""

    account_id: str
    distribution: Distribution
    access_point: AccessPoint
    settings: tuple[Setting, ...]
    functions: tuple[EdgeFunction, ...]
    viewer_functions: tuple[ViewerFunction, ...]
    roles: tuple[Role, ...]
    origin_buckets: Mapping[str, OriginBucket]
    notes: tuple[str, ...]
