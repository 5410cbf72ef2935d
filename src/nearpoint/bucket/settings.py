"""Bucket configuration that is kept and given back: one table of what each call stores.

Some of it has effects: replication makes the bucket's writes go into the outbox, by its rules; ownership, public access
and object lock decide what a write may say (`admission`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import apsw
import orjson

from nearpoint.awsproto import AwsError
from nearpoint.bucket import outbox, rows
from nearpoint.bucket.calls import Call, Result
from nearpoint.bucket.locks import check_configuration as check_lock_configuration
from nearpoint.bucket.rows import Bucket
from nearpoint.bucket.schema import fetch_all, fetch_one
from nearpoint.bucket.store import Store
from nearpoint.bucket.writer import Transaction
from nearpoint.regions.rules import check as check_replication
from nearpoint.regions.rules import compile_rules
from nearpoint.wire.message import Response


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A kind of configuration. `payload` is the parameter of its Put; `wrapped` says that its Get answers with a member
    of that name, not with its members. Without a value: `default` if there is one, else `missing` (an error code).
    """

    payload: str
    wrapped: bool = False
    missing: str | None = None
    default: dict[str, Any] = field(default_factory=dict)
    put_status: int = 200


_ALL_BLOCKED = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
_AES256 = {"Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}]}
_ENFORCED = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}

# By the name that the operations share, e.g. PutBucketCors, GetBucketCors, DeleteBucketCors. Defaults are those of a
# bucket made today (S3 User Guide: encryption since January 2023, public access and ownership since April 2023).
SETTINGS: dict[str, Setting] = {
    "BucketAccelerateConfiguration": Setting(payload="AccelerateConfiguration"),
    "BucketCors": Setting(payload="CORSConfiguration", missing="NoSuchCORSConfiguration"),
    "BucketEncryption": Setting(payload="ServerSideEncryptionConfiguration", wrapped=True, default=_AES256),
    "BucketLifecycleConfiguration": Setting(payload="LifecycleConfiguration", missing="NoSuchLifecycleConfiguration"),
    "BucketLogging": Setting(payload="BucketLoggingStatus"),
    "BucketNotificationConfiguration": Setting(payload="NotificationConfiguration"),
    "BucketOwnershipControls": Setting(
        payload="OwnershipControls", wrapped=True, missing="OwnershipControlsNotFoundError"
    ),
    "BucketPolicy": Setting(payload="Policy", wrapped=True, missing="NoSuchBucketPolicy", put_status=204),
    "BucketReplication": Setting(
        payload="ReplicationConfiguration", wrapped=True, missing="ReplicationConfigurationNotFoundError"
    ),
    "BucketRequestPayment": Setting(payload="RequestPaymentConfiguration", default={"Payer": "BucketOwner"}),
    "BucketTagging": Setting(payload="Tagging", missing="NoSuchTagSet", put_status=204),
    "BucketWebsite": Setting(payload="WebsiteConfiguration", missing="NoSuchWebsiteConfiguration"),
    "ObjectLockConfiguration": Setting(
        payload="ObjectLockConfiguration", wrapped=True, missing="ObjectLockConfigurationNotFoundError"
    ),
    "PublicAccessBlock": Setting(
        payload="PublicAccessBlockConfiguration", wrapped=True, missing="NoSuchPublicAccessBlockConfiguration"
    ),
}
_OWNERSHIPS = ("BucketOwnerPreferred", "ObjectWriter", "BucketOwnerEnforced")
LIFECYCLE_ID_MAX = 255  # S3 API Reference, LifecycleRule
# What DeleteX is called where it isn't Delete and the name.
_DELETES = {"BucketLifecycle": "BucketLifecycleConfiguration"}
BUCKET_ACL = "BucketAcl"  # the grants of a bucket whose ACL is not the owner's alone
NEW_BUCKET = {"BucketOwnershipControls": _ENFORCED, "PublicAccessBlock": _ALL_BLOCKED}


class Settings:
    """The operations on bucket configuration."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, operation: str) -> tuple[str, str] | None:
        """Verb (Get, Put, Delete) and kind of an operation of this table, or None."""
        for verb in ("Get", "Put", "Delete"):
            if operation.startswith(verb):
                kind = operation.removeprefix(verb)
                if verb == "Delete":
                    kind = _DELETES.get(kind, kind)
                return (verb, kind) if kind in SETTINGS else None
        return None

    async def answer(self, verb: str, kind: str, call: Call) -> Result:
        """Do the operation that `find` found."""
        setting = SETTINGS[kind]
        if verb == "Get":
            return self._get(kind, setting, call)
        value = None if verb == "Delete" else call.params.get(setting.payload)
        if verb == "Put":
            if value is None:
                raise AwsError("MissingRequestBodyError")
            if kind == "BucketPolicy":
                _check_policy(value)
            if kind == "BucketReplication":
                check_replication(value, source=call.bucket)
            if kind == "BucketLifecycleConfiguration":
                _check_lifecycle(value)
            if kind == "BucketOwnershipControls":
                check_ownership(value)
            if kind == "ObjectLockConfiguration":
                check_lock_configuration(value)
        name = call.bucket

        def change(tx: Transaction) -> None:
            bucket = rows.find_bucket(tx.db, name)
            if kind == "BucketReplication":
                _set_replicated(tx, bucket, value)
            if kind == "ObjectLockConfiguration" and bucket.versioning != rows.ENABLED:
                raise AwsError(
                    "InvalidBucketState",
                    "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration",
                )
            if kind == "BucketOwnershipControls" and is_enforced(value) and read_setting(tx.db, bucket.id, BUCKET_ACL):
                raise AwsError(
                    "InvalidBucketAclWithObjectOwnership",
                    "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
                    status=400,
                )
            write_setting(tx, bucket.id, kind, value)

        await self._store.writer.submit(change)
        return Response(204 if verb == "Delete" else setting.put_status)

    def _get(self, kind: str, setting: Setting, call: Call) -> Result:
        bucket = rows.find_bucket(self._store.db, call.bucket)
        value = read_setting(self._store.db, bucket.id, kind)
        if value is None:
            if setting.missing is not None:
                raise AwsError(setting.missing, extra={"BucketName": bucket.name})
            value = setting.default
        return {setting.payload: value} if setting.wrapped else value

    async def get_bucket_policy_status(self, call: Call) -> Result:
        bucket = rows.find_bucket(self._store.db, call.bucket)
        policy = read_setting(self._store.db, bucket.id, "BucketPolicy")
        if policy is None:
            raise AwsError("NoSuchBucketPolicy", extra={"BucketName": bucket.name})
        return {"PolicyStatus": {"IsPublic": is_public(orjson.loads(policy))}}


def read_setting(db: apsw.Connection, bucket_id: int, kind: str) -> Any:
    """A configuration as it was put, or None."""
    row = fetch_one(db, "SELECT value FROM setting WHERE bucket = ? AND kind = ?", (bucket_id, kind))
    return None if row is None else orjson.loads(row[0])


def write_setting(tx: Transaction, bucket_id: int, kind: str, value: Any) -> None:
    """Keep a configuration; None removes it."""
    if value is None:
        tx.db.execute("DELETE FROM setting WHERE bucket = ? AND kind = ?", (bucket_id, kind))
    else:
        text = orjson.dumps(value, default=datetime.timestamp, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()
        tx.db.execute("INSERT OR REPLACE INTO setting (bucket, kind, value) VALUES (?, ?, ?)", (bucket_id, kind, text))


def replication_rules(db: apsw.Connection) -> dict[str, Any]:
    """The replication configuration of every bucket that has one."""
    found = fetch_all(
        db, "SELECT b.name, s.value FROM setting s JOIN bucket b ON b.id = s.bucket WHERE s.kind = 'BucketReplication'"
    )
    return {name: orjson.loads(value) for name, value in found}


def is_public(policy: dict[str, Any]) -> bool:
    """Whether a policy lets anybody in: an Allow for principal `*` that no condition narrows."""
    statements = policy.get("Statement", [])
    for statement in statements if isinstance(statements, list) else [statements]:
        principal = statement.get("Principal")
        named = principal.get("AWS") if isinstance(principal, dict) else principal
        everyone = named == "*" or (isinstance(named, list) and "*" in named)
        if statement.get("Effect") == "Allow" and everyone and not statement.get("Condition"):
            return True
    return False


def check_ownership(controls: dict[str, Any]) -> None:
    """Raises MalformedXML for controls that are not exactly one of S3's."""
    rules = controls.get("Rules", [])
    if len(rules) != 1 or rules[0].get("ObjectOwnership") not in _OWNERSHIPS:
        raise AwsError("MalformedXML")


def is_enforced(controls: dict[str, Any] | None) -> bool:
    """Whether ownership controls switch ACLs off."""
    rules = [] if controls is None else controls.get("Rules", [])
    return any(rule.get("ObjectOwnership") == "BucketOwnerEnforced" for rule in rules)


def _check_lifecycle(configuration: dict[str, Any]) -> None:
    rules = configuration.get("Rules", [])
    if not rules:
        raise AwsError("MalformedXML")
    names = [rule["ID"] for rule in rules if rule.get("ID")]
    if any(len(name) > LIFECYCLE_ID_MAX for name in names):
        raise AwsError("InvalidArgument", f"ID length should not exceed allowed limit of {LIFECYCLE_ID_MAX}")
    if len(set(names)) != len(names):
        raise AwsError("InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule")


def _check_policy(text: str) -> None:
    try:
        policy = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise AwsError("MalformedPolicy", "Policies must be valid JSON and the first byte must be '{'") from None
    if not isinstance(policy, dict) or "Statement" not in policy:
        raise AwsError("MalformedPolicy", "Missing required field Statement")
    statements = policy["Statement"] if isinstance(policy["Statement"], list) else [policy["Statement"]]
    if not all(isinstance(statement, dict) for statement in statements):
        raise AwsError("MalformedPolicy", "Invalid policy syntax.")


def _set_replicated(tx: Transaction, bucket: Bucket, configuration: dict[str, Any] | None) -> None:
    if configuration is not None and bucket.versioning != rows.ENABLED:
        raise AwsError(
            "InvalidRequest", "Versioning must be 'Enabled' on the bucket to apply a replication configuration"
        )
    rules = () if configuration is None else compile_rules(configuration)
    tx.db.execute("UPDATE bucket SET replicated = ? WHERE id = ?", (int(bool(rules)), bucket.id))
    outbox.forget(tx, bucket.name, rules)
