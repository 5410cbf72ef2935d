"""What existing buckets are set to: the data buckets', as far as it differs from what deploy does by itself; and those
that origins lead to directly, as properties of a template."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from nearpoint.aws import record
from nearpoint.aws.bucket_settings import (
    CORS,
    DEFAULT_ENCRYPTION,
    DEFAULT_LIFECYCLE,
    ENCRYPTION,
    LIFECYCLE,
    POLICY,
    REPLICATION,
    TAGS,
    own_statements,
)
from nearpoint.aws.buckets import SETTINGS_TAG, TAG
from nearpoint.aws.clients import HOME_REGION, Clients
from nearpoint.aws.existing.bucket_properties import properties_of
from nearpoint.aws.existing.found import DataBucket, OriginBucket
from nearpoint.aws.explain import code_of
from nearpoint.aws.replication import rules

# Codes that say "not set"
_UNSET = frozenset(
    ("NoSuchBucketPolicy", "NoSuchCORSConfiguration", "NoSuchLifecycleConfiguration",
     "NoSuchPublicAccessBlockConfiguration", "NoSuchTagSet", "NoSuchWebsiteConfiguration",
     "ObjectLockConfigurationNotFoundError",
     "OwnershipControlsNotFoundError", "ReplicationConfigurationNotFoundError",
     "ServerSideEncryptionConfigurationNotFoundError")
)  # fmt: skip
# Operation → what of its answer means "set", and in which words it is told
_NOT_TAKEN_OVER: Mapping[str, tuple[str, str]] = {
    "get_bucket_logging": ("LoggingEnabled", "access logging"),
    "get_bucket_website": ("IndexDocument", "website hosting"),
    "get_object_lock_configuration": ("ObjectLockConfiguration", "Object Lock"),
}
_NOTIFICATIONS = (
    "TopicConfigurations",
    "QueueConfigurations",
    "LambdaFunctionConfigurations",
    "EventBridgeConfiguration",
)


class _Bucket:
    """One bucket, asked call by call; what is not set, not known here or not allowed is None, the last with a note."""

    def __init__(self, clients: Clients, name: str, region: str, notes: list[str]) -> None:
        self._s3 = clients.client("s3", region)
        self.name = name
        self._notes = notes

    def get(self, operation: str, member: str | None = None) -> Any:
        try:
            answer = getattr(self._s3, operation)(Bucket=self.name)
        except ClientError as error:
            code = code_of(error)
            if code in ("AccessDenied", "403"):
                self._notes.append(
                    f"bucket {self.name}: {error.operation_name} is not allowed, so it is not taken over"
                )
            elif code not in _UNSET and code not in ("NotImplemented", "MethodNotAllowed"):
                raise
            return None
        answer.pop("ResponseMetadata", None)
        return answer if member is None else answer.get(member)

    def tags(self) -> dict[str, str]:
        listed = self.get("get_bucket_tagging", "TagSet") or ()
        return {
            tag["Key"]: tag["Value"]
            for tag in listed
            if not tag["Key"].startswith("aws:") and tag["Key"] not in (TAG, SETTINGS_TAG)
        }

    def policy(self) -> dict[str, Any] | None:
        text = self.get("get_bucket_policy", "Policy")
        policy: dict[str, Any] | None = json.loads(text) if text else None
        return policy

    def note_the_rest(self) -> None:
        """Say what is set and has no place in what `import` writes."""
        found = [words for operation, (member, words) in _NOT_TAKEN_OVER.items() if self.get(operation, member)]
        notifications = self.get("get_bucket_notification_configuration") or {}
        if any(name in notifications for name in _NOTIFICATIONS):
            found.append("event notifications")
        if found:
            self._notes.append(f"bucket {self.name}: {', '.join(found)}: set it again on the new bucket")


def data_buckets(clients: Clients, buckets: Sequence[tuple[str, str]], notes: list[str]) -> list[DataBucket]:
    """The access point's buckets, as (name, region). Raises ClientError, DeployError."""
    account_id = clients.identity().account_id
    found = []
    for number, (name, region) in enumerate(buckets):
        bucket = _Bucket(clients, name, region, notes)
        settings: dict[str, Any] = {}
        encryption = bucket.get("get_bucket_encryption", "ServerSideEncryptionConfiguration")
        if encryption and _algorithm(encryption) != _algorithm(DEFAULT_ENCRYPTION):
            settings[ENCRYPTION] = encryption
            notes.append(f"bucket {name}: its encryption key belongs to this account and region; another needs its own")
        lifecycle = bucket.get("get_bucket_lifecycle_configuration", "Rules")
        if lifecycle and not same(lifecycle, DEFAULT_LIFECYCLE["Rules"]):
            settings[LIFECYCLE] = {"Rules": plain(lifecycle)}
        cors = bucket.get("get_bucket_cors", "CORSRules")
        if cors:
            settings[CORS] = {"CORSRules": cors}
        own = own_statements(name, account_id, holds_data=True)
        statements = [each for each in (bucket.policy() or {}).get("Statement", ()) if each not in own]
        if statements:
            settings[POLICY] = statements
        if tags := bucket.tags():
            settings[TAGS] = tags
        if bucket.get("get_bucket_versioning", "Status") != "Enabled":
            notes.append(
                f"bucket {name} keeps no versions; the one that deploy makes does, replication and undo need it"
            )
        replication = bucket.get("get_bucket_replication", "ReplicationConfiguration") or {}
        others = [
            record.DataBucket(name=other, region=there, parameter=parameter(there), made=True)
            for index, (other, there) in enumerate(buckets)
            if index != number
        ]
        if not same(replication.get("Rules", []), rules(others), ids=False):
            settings[REPLICATION] = plain(replication.get("Rules", []))
        bucket.note_the_rest()
        found.append(
            DataBucket(name=name, region=region, settings=settings, replication_role_arn=replication.get("Role"))
        )
    for arn in dict.fromkeys(each.replication_role_arn for each in found):
        if arn and not _is_role(clients, arn):
            notes.append(
                f"the buckets copy by a role that is not there, {arn}: the new ones do not copy. "
                "In the local world, `nearpoint replication enable` has them copy"
            )
            found = [_without_rules(each) if each.replication_role_arn == arn else each for each in found]
    if not any(each.replication_role_arn for each in found):
        found = [_without_rules(each) for each in found]  # nothing is replicated: deploy puts no rules without a role
    return found


def _is_role(clients: Clients, arn: str) -> bool:
    """Whether it is there: S3 keeps rules whose role was deleted, and the local world's own need none."""
    try:
        clients.client("iam").get_role(RoleName=arn.rpartition("/")[2])
    except ClientError as error:
        if code_of(error) == "NoSuchEntity":
            return False
        raise
    return True


def _without_rules(bucket: DataBucket) -> DataBucket:
    settings = {name: value for name, value in bucket.settings.items() if name != REPLICATION}
    return DataBucket(name=bucket.name, region=bucket.region, settings=settings, replication_role_arn=None)


def parameter(region: str) -> str:
    """The parameter of a region's data bucket: `EuWest1Bucket`."""
    return "".join(part.capitalize() for part in region.split("-")) + "Bucket"


def origin_bucket(clients: Clients, name: str, notes: list[str]) -> OriginBucket | None:
    """The bucket of an origin as properties; None, and a note, where the stack could not make it."""
    try:
        where = clients.client("s3").get_bucket_location(Bucket=name)["LocationConstraint"] or HOME_REGION
    except ClientError as error:
        notes.append(f"the origin bucket {name} can't be looked at ({code_of(error)}); it stays the one it is")
        return None
    if where != HOME_REGION:
        notes.append(f"the origin bucket {name} is in {where}, out of the stack's reach; it stays the one it is")
        return None
    bucket = _Bucket(clients, name, where, notes)
    bucket.note_the_rest()
    block = bucket.get("get_public_access_block", "PublicAccessBlockConfiguration")
    ownership = bucket.get("get_bucket_ownership_controls", "OwnershipControls")
    properties = properties_of(
        encryption=bucket.get("get_bucket_encryption", "ServerSideEncryptionConfiguration"),
        versioning=bucket.get("get_bucket_versioning", "Status"),
        public_access_block=block,
        ownership=ownership,
        lifecycle=plain(bucket.get("get_bucket_lifecycle_configuration", "Rules") or []),
        cors=bucket.get("get_bucket_cors", "CORSRules"),
        tags=bucket.tags(),
        note=lambda text: notes.append(f"bucket {name}: {text}"),
    )
    notes.append(f"the content of {name} is not copied: `aws s3 sync s3://{name} s3://NEW-BUCKET`")
    return OriginBucket(name=name, properties=properties, policy=bucket.policy())


def _algorithm(encryption: Mapping[str, Any]) -> Any:
    return encryption["Rules"][0].get("ApplyServerSideEncryptionByDefault")


def plain(value: Any) -> Any:
    """The value with its times as texts, as a template can hold it."""
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value.isoformat() if hasattr(value, "isoformat") else value


def same(left: Any, right: Any, *, ids: bool = True) -> bool:
    """Whether two lists of rules say the same, in any order; `ids=False`: whatever their names and ranks."""

    def bare(rule: Mapping[str, Any]) -> str:
        kept = {name: each for name, each in rule.items() if ids or name not in ("ID", "Priority")}
        return json.dumps(plain(kept), sort_keys=True)

    return sorted(map(bare, left)) == sorted(map(bare, right))
