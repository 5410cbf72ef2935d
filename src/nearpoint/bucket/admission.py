"""Admits what a write says of its object by the bucket's configuration: ownership, public access, object lock."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import apsw

from nearpoint.awsproto.errors import AwsError
from nearpoint.bucket import acl, locks
from nearpoint.bucket.metadata import Description, read_description
from nearpoint.bucket.rows import ENABLED, Bucket
from nearpoint.bucket.settings import is_enforced, read_setting
from nearpoint.wire.message import Headers


def describe(db: apsw.Connection, bucket: Bucket, headers: Headers, owner: dict[str, str], now_us: int) -> Description:
    """The description of an object to be written to `bucket`, by a request's header and the bucket's configuration.

    Raises AwsError for what the header says wrongly, and for what the bucket does not let it say.
    """
    description = read_description(headers)
    extras = locks.of_headers(headers)
    now = datetime.fromtimestamp(now_us / 1_000_000, UTC)
    if extras:
        if not is_lockable(db, bucket):
            raise AwsError("InvalidRequest", "Bucket is missing ObjectLockConfiguration")
        locks.check_future(extras.get("retention"), now)
    if "retention" not in extras and bucket.versioning == ENABLED:
        configuration = read_setting(db, bucket.id, "ObjectLockConfiguration")
        retention = None if configuration is None else locks.default_retention(configuration, now)
        if retention is not None:
            extras["retention"] = retention
    if acl.is_asked(headers) and not _is_full_control(db, bucket, headers):
        grants = acl.of_headers(headers, owner)
        check_grants(db, bucket, grants)
        if grants is not None and grants != acl.private(owner):
            extras["acl"] = grants
    return replace(description, extras=extras) if extras else description


def is_lockable(db: apsw.Connection, bucket: Bucket) -> bool:
    """Whether versions of the bucket can be held and retained."""
    return read_setting(db, bucket.id, "ObjectLockConfiguration") is not None


def check_lockable(db: apsw.Connection, bucket: Bucket) -> None:
    """Raises InvalidRequest for a bucket without object lock."""
    if not is_lockable(db, bucket):
        raise AwsError("InvalidRequest", "Bucket is missing Object Lock Configuration")


def has_acls(db: apsw.Connection, bucket: Bucket) -> bool:
    """Whether access control lists are in force, which they are not in a bucket made today (S3 User Guide, "Object
    Ownership"). A bucket whose controls were deleted has them."""
    return not is_enforced(read_setting(db, bucket.id, "BucketOwnershipControls"))


def check_acls(db: apsw.Connection, bucket: Bucket) -> None:
    """Raises AccessControlListNotSupported for a bucket whose owner owns everything by its ownership controls."""
    if not has_acls(db, bucket):
        raise AwsError("AccessControlListNotSupported", "The bucket does not allow ACLs")


def check_grants(db: apsw.Connection, bucket: Bucket, grants: acl.Grants | None) -> None:
    """Raises AwsError for grants where there are none, and for public ones where Block Public Access is on."""
    check_acls(db, bucket)
    blocks: dict[str, Any] = read_setting(db, bucket.id, "PublicAccessBlock") or {}
    if grants is not None and blocks.get("BlockPublicAcls") and acl.is_public(grants):
        raise AwsError("AccessDenied")


def _is_full_control(db: apsw.Connection, bucket: Bucket, headers: Headers) -> bool:
    """The one ACL that a write may name where there are none, so that writers from elsewhere go on working."""
    asked = [name for name, _ in headers if name.lower().startswith("x-amz-grant-")]
    return headers.get("x-amz-acl") == "bucket-owner-full-control" and not asked and not has_acls(db, bucket)
