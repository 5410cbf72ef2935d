"""The configuration of `AWS::S3::Bucket`: its shape in a template, and what S3's API calls the same (pure).

CloudFormation User Guide, AWS::S3::Bucket; the values are kept by the bucket's store, which says itself what is wrong
with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from nearpoint.stack.schema import TAGS, Fields, Flag, Items, PropertyError, Schema, Text, Whole
from nearpoint.stack.services.bucket_settings import BLOCK_ALL, PUBLIC_ACCESS

_STORAGE = Text(length_max=64)
_DAYS = Whole(minimum=0)


class _Date:
    """An ISO 8601 date or time, as Unix seconds."""

    def check(self, value: Any, path: str) -> float:
        text = Text().check(value, path)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise PropertyError(f"{text[:80]!r} is not an ISO 8601 date", path) from None
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


_TRANSITION = Fields(
    {"StorageClass": _STORAGE, "TransitionDate": _Date(), "TransitionInDays": _DAYS}, ("StorageClass",)
)
_OLD_TRANSITION = Fields(
    {"StorageClass": _STORAGE, "TransitionInDays": _DAYS, "NewerNoncurrentVersions": Whole(1)},
    ("StorageClass", "TransitionInDays"),
)
_TAG = Fields({"Key": Text(), "Value": Text()}, ("Key", "Value"))
_RULE = Fields(
    {
        "AbortIncompleteMultipartUpload": Fields({"DaysAfterInitiation": _DAYS}, ("DaysAfterInitiation",)),
        "ExpirationDate": _Date(),
        "ExpirationInDays": _DAYS,
        "ExpiredObjectDeleteMarker": Flag(),
        "Id": Text(length_max=255),
        "NoncurrentVersionExpiration": Fields(
            {"NoncurrentDays": _DAYS, "NewerNoncurrentVersions": Whole(1)}, ("NoncurrentDays",)
        ),
        "NoncurrentVersionExpirationInDays": _DAYS,
        "NoncurrentVersionTransition": _OLD_TRANSITION,
        "NoncurrentVersionTransitions": Items(_OLD_TRANSITION),
        "ObjectSizeGreaterThan": Whole(minimum=0),
        "ObjectSizeLessThan": Whole(minimum=0),
        "Prefix": Text(length_max=1024),
        "Status": Text(values=("Disabled", "Enabled")),
        "TagFilters": Items(_TAG),
        "Transition": _TRANSITION,
        "Transitions": Items(_TRANSITION),
    },
    ("Status",),
)
_ENCRYPTION_RULE = Fields(
    {
        "BucketKeyEnabled": Flag(),
        "ServerSideEncryptionByDefault": Fields(
            {"KMSMasterKeyID": Text(), "SSEAlgorithm": Text(values=("AES256", "aws:kms", "aws:kms:dsse"))},
            ("SSEAlgorithm",),
        ),
    }
)
_CORS_RULE = Fields(
    {
        "AllowedHeaders": Items(Text()),
        "AllowedMethods": Items(Text(values=("GET", "PUT", "HEAD", "POST", "DELETE")), 1),
        "AllowedOrigins": Items(Text(), 1),
        "ExposedHeaders": Items(Text()),
        "Id": Text(length_max=255),
        "MaxAge": Whole(minimum=0),
    },
    ("AllowedMethods", "AllowedOrigins"),
)
_OWNERSHIP = Text(values=("BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"))

SCHEMAS: Mapping[str, Schema] = {
    "AccessControl": Text(values=("Private",)),  # the others go with ACLs, which new buckets do not have
    "BucketEncryption": Fields(
        {"ServerSideEncryptionConfiguration": Items(_ENCRYPTION_RULE, 1)}, ("ServerSideEncryptionConfiguration",)
    ),
    "CorsConfiguration": Fields({"CorsRules": Items(_CORS_RULE, 1, 100)}, ("CorsRules",)),
    "LifecycleConfiguration": Fields(
        {
            "Rules": Items(_RULE, 1, 1000),
            "TransitionDefaultMinimumObjectSize": Text(values=("varies_by_storage_class", "all_storage_classes_128K")),
        },
        ("Rules",),
    ),
    "OwnershipControls": Fields(
        {"Rules": Items(Fields({"ObjectOwnership": _OWNERSHIP}, ("ObjectOwnership",)), 1, 1)}, ("Rules",)
    ),
    "PublicAccessBlockConfiguration": Fields({name: Flag() for name in BLOCK_ALL}),
    "Tags": TAGS,
    "VersioningConfiguration": Fields({"Status": Text(values=("Enabled", "Suspended"))}, ("Status",)),
}


def _renamed(given: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {new: given[old] for old, new in names.items() if old in given}


def _encryption(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "Rules": [
            _renamed(
                rule,
                {
                    "ServerSideEncryptionByDefault": "ApplyServerSideEncryptionByDefault",
                    "BucketKeyEnabled": "BucketKeyEnabled",
                },
            )
            for rule in given["ServerSideEncryptionConfiguration"]
        ]
    }


def _cors(given: Mapping[str, Any]) -> dict[str, Any]:
    names = {
        "Id": "ID",
        "AllowedHeaders": "AllowedHeaders",
        "AllowedMethods": "AllowedMethods",
        "AllowedOrigins": "AllowedOrigins",
        "ExposedHeaders": "ExposeHeaders",
        "MaxAge": "MaxAgeSeconds",
    }
    return {"CORSRules": [_renamed(rule, names) for rule in given["CorsRules"]]}


def _lifecycle(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"Rules": [_lifecycle_rule(rule) for rule in given["Rules"]]}


def _lifecycle_rule(given: Mapping[str, Any]) -> dict[str, Any]:
    rule = _renamed(
        given, {"Id": "ID", "Status": "Status", "AbortIncompleteMultipartUpload": "AbortIncompleteMultipartUpload"}
    )
    rule["Filter"] = _filter(given)
    expiration = _renamed(
        given,
        {
            "ExpirationDate": "Date",
            "ExpirationInDays": "Days",
            "ExpiredObjectDeleteMarker": "ExpiredObjectDeleteMarker",
        },
    )
    if expiration:
        rule["Expiration"] = expiration
    names = {"StorageClass": "StorageClass", "TransitionDate": "Date", "TransitionInDays": "Days"}
    transitions = [*given.get("Transitions", ()), *([given["Transition"]] if "Transition" in given else ())]
    if transitions:
        rule["Transitions"] = [_renamed(each, names) for each in transitions]
    if "NoncurrentVersionExpiration" in given:
        rule["NoncurrentVersionExpiration"] = given["NoncurrentVersionExpiration"]
    elif "NoncurrentVersionExpirationInDays" in given:
        rule["NoncurrentVersionExpiration"] = {"NoncurrentDays": given["NoncurrentVersionExpirationInDays"]}
    names = {
        "StorageClass": "StorageClass",
        "TransitionInDays": "NoncurrentDays",
        "NewerNoncurrentVersions": "NewerNoncurrentVersions",
    }
    single = [given["NoncurrentVersionTransition"]] if "NoncurrentVersionTransition" in given else []
    old = [*given.get("NoncurrentVersionTransitions", ()), *single]
    if old:
        rule["NoncurrentVersionTransitions"] = [_renamed(each, names) for each in old]
    return rule


def _filter(given: Mapping[str, Any]) -> dict[str, Any]:
    """One condition stands by itself, several inside `And` (S3 API Reference, LifecycleRuleFilter)."""
    found = {name: given[name] for name in ("Prefix", "ObjectSizeGreaterThan", "ObjectSizeLessThan") if name in given}
    tags = given.get("TagFilters", [])
    if len(found) + len(tags) > 1:
        return {"And": {**found, **({"Tags": tags} if tags else {})}}
    if tags:
        return {"Tag": tags[0]}
    return found or {"Prefix": ""}


def _as_given(given: Mapping[str, Any]) -> dict[str, Any]:
    return dict(given)


# In the order they are put: what others ask for comes first.
_PARTS: tuple[tuple[str, str, Callable[[Any], dict[str, Any]]], ...] = (
    ("VersioningConfiguration", "Versioning", _as_given),
    ("OwnershipControls", "OwnershipControls", _as_given),
    (
        "PublicAccessBlockConfiguration",
        PUBLIC_ACCESS,
        lambda given: {name: bool(given.get(name, False)) for name in BLOCK_ALL},
    ),
    ("BucketEncryption", "Encryption", _encryption),
    ("LifecycleConfiguration", "Lifecycle", _lifecycle),
    ("CorsConfiguration", "Cors", _cors),
    ("Tags", "Tagging", lambda given: {"TagSet": given}),
)


def settings_of(properties: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the properties come to in S3's API, by the names of `services.bucket_settings`, in the order to put them."""
    return {kind: made(properties[name]) for name, kind, made in _PARTS if properties.get(name)}


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any] | None]:
    """What has to be put to get from one set of properties to another; None where something goes."""
    was, now = settings_of(before), settings_of(after)
    return {kind: now.get(kind) for _, kind, _ in _PARTS if was.get(kind) != now.get(kind)}
