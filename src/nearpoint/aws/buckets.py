"""Buckets that `deploy` makes: private, encrypted, versioned, and tagged, so that `delete` knows them as its own."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from nearpoint.aws.bucket_settings import (
    CORS,
    DEFAULT_ENCRYPTION,
    DEFAULT_LIFECYCLE,
    ENCRYPTION,
    LIFECYCLE,
    POLICY,
    TAGS,
    bucket_policy,
)
from nearpoint.aws.clients import HOME_REGION, Clients
from nearpoint.aws.errors import DeployError
from nearpoint.aws.explain import code_of, explained
from nearpoint.aws.regions import OPT_IN

TAG = "nearpoint:stack"
SETTINGS_TAG = "nearpoint:settings"  # a digest of what deploy has set
NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
DELETE_BATCH = 1000  # S3 API Reference, DeleteObjects

State = Literal["absent", "ours", "blank", "foreign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket that deploy makes. `holds_data`: an access point leads to it."""

    name: str
    region: str
    holds_data: bool = True


def bucket_name(stack: str, account_id: str, last: str) -> str:
    """The name for a stack's bucket, the same every time. Raises DeployError where it can't be a bucket's name."""
    name = f"{stack}-{account_id}-{last}".lower()
    if not NAME.fullmatch(name) or "--" in name:
        raise DeployError(
            f"{name!r} is no bucket name (3 to 63 lower-case letters, digits and single hyphens); take a shorter or "
            "simpler --stack, or name your own buckets with --parameter."
        )
    return name


def look(clients: Clients, bucket: Bucket, stack: str) -> State:
    """What is there under the name: nothing, ours, ours but never finished (`blank`), or somebody's with our account.

    Raises DeployError for a name that another account has, or a bucket that is in another region.
    """
    s3 = clients.client("s3", bucket.region)
    try:
        answer = s3.head_bucket(Bucket=bucket.name, ExpectedBucketOwner=clients.identity().account_id)
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status == 404:
            return "absent"
        if bucket.region in OPT_IN and status in (400, 403):
            raise DeployError(
                f"{bucket.region} does not let these credentials in. It is an opt-in Region: enable it in the "
                f"account's settings, which takes minutes. Or the bucket name {bucket.name} is taken.",
                refused=True,
            ) from None
        if status in (301, 400):
            raise DeployError(f"The bucket {bucket.name} exists in another region than {bucket.region}.") from None
        if status == 403:
            raise DeployError(
                f"The bucket name {bucket.name} is taken, or these credentials may not look at it. Take another "
                "--stack, or name your own bucket with --parameter."
            ) from None
        raise explained(error) from error
    where = answer.get("BucketRegion", bucket.region)
    if where != bucket.region:
        raise DeployError(f"The bucket {bucket.name} exists in {where}, not in {bucket.region}.")
    owner = tags_of(s3, bucket.name).get(TAG)
    if owner == stack:
        return "ours"
    if owner is None and next(_versions(s3, bucket.name), None) is None:
        return "blank"
    return "foreign"


def check_given(clients: Clients, name: str, region: str) -> None:
    """Raises DeployError unless the user's own bucket is there, in that region."""
    try:
        where = clients.client("s3", region).head_bucket(Bucket=name).get("BucketRegion", region)
    except ParamValidationError:
        raise DeployError(f"{name!r} is no bucket name.") from None
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        headers = error.response["ResponseMetadata"].get("HTTPHeaders", {})
        where = headers.get("x-amz-bucket-region", region) if status in (301, 400) else region
        if status == 404:
            raise DeployError(
                f"There is no bucket {name} in {region}; make it first, or leave its --parameter out: deploy makes one."
            ) from None
        if where == region:
            raise explained(error) from error
    except BotoCoreError as error:
        raise explained(error) from error
    if where != region:
        raise DeployError(f"The bucket {name} is in {where}, and --regions says {region} in its place.")


def ensure(
    clients: Clients,
    bucket: Bucket,
    stack: str,
    settings: Mapping[str, Any] = MappingProxyType({}),
    tags_before: Collection[str] = (),
) -> bool:
    """Make the bucket or finish making it; True when it was not there. `settings` are those of `bucket_settings`, with
    nothing left to fill in; once they are set, they are set again only when they are others. What they no longer have
    goes back to what a bucket has without them; of tags, those of `tags_before`, the keys of earlier deployments, go.
    Raises DeployError."""
    state = look(clients, bucket, stack)
    if state == "foreign":
        raise DeployError(
            f"The bucket {bucket.name} exists, holds objects and was not made by `nearpoint deploy --stack {stack}`. "
            "Name it with --parameter if it is the one to use; it is never emptied then."
        )
    s3 = clients.client("s3", bucket.region)
    try:
        if state == "absent":
            where = (
                {}
                if bucket.region == HOME_REGION
                else {"CreateBucketConfiguration": {"LocationConstraint": bucket.region}}
            )
            s3.create_bucket(Bucket=bucket.name, **where)
        has = {} if state == "absent" else tags_of(s3, bucket.name)
        calls = _calls(bucket, clients.identity().account_id, settings)
        done = settings.get(TAGS, {}) | {TAG: stack, SETTINGS_TAG: _digest(calls)}
        wanted = {key: value for key, value in has.items() if key not in tags_before} | done
        if wanted == has:
            return False  # what somebody has set since then stays as it is
        if has.get(TAG) != stack:
            _tag(s3, bucket.name, has | {TAG: stack})
        if has.get(SETTINGS_TAG) != done[SETTINGS_TAG]:
            for operation, params in calls.items():
                getattr(s3, operation)(Bucket=bucket.name, **params)
            if CORS not in settings and state != "absent":
                s3.delete_bucket_cors(Bucket=bucket.name)
        _tag(s3, bucket.name, wanted)
    except BotoCoreError as error:
        raise explained(error) from error
    except ClientError as error:
        if code_of(error) in ("BucketAlreadyExists", "OperationAborted"):
            raise DeployError(
                f"The bucket name {bucket.name} is taken by another account, or was given up a moment ago. Take "
                "another --stack, or run the same command again in a few minutes."
            ) from error
        raise explained(error) from error
    return state == "absent"


def _calls(bucket: Bucket, account_id: str, settings: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """S3's operations that set what the bucket is to be, with their parameters, in order."""
    policy = bucket_policy(bucket.name, account_id, holds_data=bucket.holds_data, more=settings.get(POLICY, []))
    block = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    ownership = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    calls: dict[str, dict[str, Any]] = {
        "put_public_access_block": {"PublicAccessBlockConfiguration": dict.fromkeys(block, True)},
        "put_bucket_ownership_controls": {"OwnershipControls": ownership},
        "put_bucket_encryption": {"ServerSideEncryptionConfiguration": settings.get(ENCRYPTION, DEFAULT_ENCRYPTION)},
        "put_bucket_versioning": {"VersioningConfiguration": {"Status": "Enabled"}},
        "put_bucket_lifecycle_configuration": {"LifecycleConfiguration": settings.get(LIFECYCLE, DEFAULT_LIFECYCLE)},
        "put_bucket_policy": {"Policy": json.dumps(policy)},
    }
    if CORS in settings:
        calls["put_bucket_cors"] = {"CORSConfiguration": settings[CORS]}
    return calls


def _digest(calls: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(calls, sort_keys=True, default=str).encode()).hexdigest()


def _tag(s3: Any, name: str, tags: Mapping[str, str]) -> None:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": listed})


def tags_of(s3: Any, name: str) -> dict[str, str]:
    """The bucket's tags. Raises DeployError."""
    try:
        return {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=name)["TagSet"]}
    except ClientError as error:
        if code_of(error) == "NoSuchTagSet":
            return {}
        raise explained(error) from error


def count(clients: Clients, bucket: Bucket, limit: int = 1000) -> int:
    """How many versions and delete markers it holds; `limit` means that many or more."""
    found = 0
    for _ in _versions(clients.client("s3", bucket.region), bucket.name):
        found += 1
        if found >= limit:
            break
    return found


def _versions(s3: Any, name: str) -> Iterator[dict[str, str]]:
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=name):
        for each in (*page.get("Versions", ()), *page.get("DeleteMarkers", ())):
            yield {"Key": each["Key"], "VersionId": each["VersionId"]}


def remove(clients: Clients, bucket: Bucket, progress: Callable[[int], None] = lambda done: None) -> None:
    """Empty the bucket, every version of it, and delete it; nothing happens where it is gone. `progress` hears how many
    objects are gone. Raises DeployError. Only for buckets that `look` calls ours."""
    s3 = clients.client("s3", bucket.region)
    try:
        for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket.name):
            for each in page.get("Uploads", ()):
                s3.abort_multipart_upload(Bucket=bucket.name, Key=each["Key"], UploadId=each["UploadId"])
        done = 0
        while batch := _batch(s3, bucket.name):
            answer = s3.delete_objects(Bucket=bucket.name, Delete={"Objects": batch, "Quiet": True})
            errors = answer.get("Errors", ())
            if errors:
                first = errors[0]
                raise DeployError(
                    f"{len(errors)} objects of {bucket.name} can't be deleted, {first.get('Key')} first: "
                    f"{first.get('Message') or first.get('Code')}."
                )
            done += len(batch)
            progress(done)
        s3.delete_bucket(Bucket=bucket.name)
    except ClientError as error:
        if code_of(error) == "NoSuchBucket":
            return
        raise explained(error) from error


def _batch(s3: Any, name: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for each in _versions(s3, name):
        found.append(each)
        if len(found) == DELETE_BATCH:
            break
    return found
