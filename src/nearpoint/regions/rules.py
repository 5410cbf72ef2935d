"""Decides which buckets a write is copied to: S3's replication rules, as PutBucketReplication gives them (pure).

S3 User Guide, "Replication configuration file elements": rules with a `Filter` (schema 2) need a priority, and of
several that lead to the same bucket the highest one holds; rules with a bare `Prefix` (schema 1) always replicate
delete markers. Without a rule that matches nothing is copied.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nearpoint.awsproto.errors import AwsError

RULES_MAX = 1000  # S3 User Guide, quotas
_ID_MAX = 255
_PREFIX_BYTES_MAX = 1024
_TAGS_MAX = 10
_BUCKET_ARN = "arn:aws:s3:::"
_ROLE_ARN = re.compile(r"arn:aws[a-z-]*:iam::\d+:role/.+")
# S3 API Reference, Destination
_STORAGE_CLASSES = frozenset(
    {"STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER", "DEEP_ARCHIVE"}
    | {"OUTPOSTS", "GLACIER_IR", "SNOW", "EXPRESS_ONEZONE"}
)
_STATUS = frozenset({"Enabled", "Disabled"})
_REPLICATION_TIME_MINUTES = 15

Change = Literal["put", "marker", "amend"]
Tags = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An enabled rule. `destination` is a bucket's name; all of `tags` must be on the object."""

    id: str
    priority: int
    destination: str
    prefix: str
    tags: tuple[tuple[str, str], ...]
    delete_markers: bool
    replica_modifications: bool

    def matches(self, key: str, tags: Tags) -> bool:
        """Whether the rule is about an object of this key and these tags."""
        return key.startswith(self.prefix) and all(tag in tags for tag in self.tags)


def destinations(rules: Iterable[Rule], *, key: str, tags: Tags, change: Change, is_replica: bool) -> list[str]:
    """The buckets that a write goes to, in order of priority. `is_replica`: it is about a copy from another region.

    A copy itself is not copied again; what is amended on it is, where the rule says so (ReplicaModifications).
    """
    if is_replica and change != "amend":
        return []
    deciding: dict[str, Rule] = {}
    for rule in rules:
        before = deciding.get(rule.destination)
        if rule.matches(key, tags) and (before is None or rule.priority > before.priority):
            deciding[rule.destination] = rule
    found = sorted(deciding.values(), key=lambda rule: -rule.priority)
    return [
        rule.destination
        for rule in found
        if (change != "marker" or rule.delete_markers) and (not is_replica or rule.replica_modifications)
    ]


def compile_rules(configuration: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The enabled rules of a ReplicationConfiguration that `check` has passed."""
    return tuple(_compiled(rule, at) for at, rule in enumerate(configuration["Rules"]) if rule["Status"] == "Enabled")


def destination_buckets(configuration: Mapping[str, Any]) -> list[str]:
    """The names of all buckets that rules lead to, enabled or not, each once."""
    return list(dict.fromkeys(_bucket_of(rule) for rule in configuration["Rules"]))


def check(configuration: Mapping[str, Any], *, source: str) -> None:
    """Raises AwsError for what S3 refuses of a configuration on the bucket `source`, the buckets themselves aside."""
    rules: Sequence[Mapping[str, Any]] = configuration.get("Rules") or ()
    if not rules or not configuration.get("Role"):
        raise AwsError("MalformedXML")
    if not _ROLE_ARN.fullmatch(configuration["Role"]):
        raise AwsError("InvalidArgument", "Invalid role ARN.")
    if len(rules) > RULES_MAX:
        raise AwsError("InvalidRequest", f"The number of rules must not exceed the allowed limit of {RULES_MAX} rules")
    ids: set[str] = set()
    priorities: set[int] = set()
    schemas = {"Filter" in rule for rule in rules}
    if len(schemas) > 1:
        raise AwsError("InvalidRequest", "Rules with Filter and rules with Prefix cannot be in one configuration.")
    for rule in rules:
        id = rule.get("ID") or ""
        if len(id) > _ID_MAX:
            raise AwsError("InvalidArgument", f"ID length should not exceed allowed limit of {_ID_MAX}")
        if id and id in ids:
            raise AwsError("InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule")
        ids.add(id)
        _check_rule(rule, source)
        if "Filter" in rule:
            priority = rule["Priority"]
            if priority in priorities:
                raise AwsError("InvalidRequest", f"Priority must be unique. Found {priority} in more than one rule")
            priorities.add(priority)


def _check_rule(rule: Mapping[str, Any], source: str) -> None:
    if rule.get("Status") not in _STATUS:
        raise AwsError("MalformedXML")
    destination = rule.get("Destination", {}).get("Bucket", "")
    if not destination.startswith(_BUCKET_ARN) or len(destination) <= len(_BUCKET_ARN):
        raise AwsError("InvalidArgument", "Invalid bucket ARN.")
    if _bucket_of(rule) == source:
        raise AwsError("InvalidRequest", "Destination bucket cannot be the same as the source bucket.")
    if rule["Destination"].get("StorageClass", "STANDARD") not in _STORAGE_CLASSES:
        raise AwsError("MalformedXML")
    for part in ("DeleteMarkerReplication", "ExistingObjectReplication"):
        if part in rule and rule[part].get("Status") not in _STATUS:
            raise AwsError("MalformedXML")
    modifications = rule.get("SourceSelectionCriteria", {}).get("ReplicaModifications")
    if modifications is not None and modifications.get("Status") not in _STATUS:
        raise AwsError("MalformedXML")
    time = rule["Destination"].get("ReplicationTime")
    if time is not None:
        if time.get("Time", {}).get("Minutes") != _REPLICATION_TIME_MINUTES:
            raise AwsError("InvalidArgument", "ReplicationTime Minutes must be 15.")
        if rule["Destination"].get("Metrics", {}).get("Status") != "Enabled":
            raise AwsError("InvalidRequest", "ReplicationTime cannot be enabled without Metrics.")
    if ("Filter" in rule) == ("Prefix" in rule):
        raise AwsError("MalformedXML")
    for member in ("Priority", "DeleteMarkerReplication"):
        if (member in rule) != ("Filter" in rule):
            must = "cannot be used" if member in rule else "must be specified"
            raise AwsError(
                "InvalidRequest",
                f"{member} {must} for this version of Cross Region Replication configuration schema. "
                "Please refer to S3 Developer Guide for more information.",
            )
    if "Filter" not in rule:
        return
    if not 0 <= rule["Priority"] < 2**31:
        raise AwsError("InvalidArgument", "Priority must be a positive integer.")
    prefix, tags = _filter(rule)
    if len(prefix.encode()) > _PREFIX_BYTES_MAX:
        raise AwsError("InvalidRequest", "The maximum size of a prefix is 1024.")
    if len(tags) > _TAGS_MAX or len({key for key, _ in tags}) != len(tags) or any(not key for key, _ in tags):
        raise AwsError("InvalidTag", "The tags of a filter must have different, non-empty keys.")
    if tags and rule["DeleteMarkerReplication"]["Status"] == "Enabled":
        raise AwsError(
            "InvalidRequest",
            "Delete marker replication is not supported if any Tag filter is specified. Please refer to S3 Developer "
            "Guide for more information.",
        )


def _filter(rule: Mapping[str, Any]) -> tuple[str, tuple[tuple[str, str], ...]]:
    """Prefix and tags of a rule of schema 2. Raises MalformedXML where the filter is not one thing."""
    given: Mapping[str, Any] = rule["Filter"] or {}
    if len(given) > 1:
        raise AwsError("MalformedXML")
    both: Mapping[str, Any] = given.get("And", {})
    tags = [given["Tag"]] if "Tag" in given else both.get("Tags", [])
    if "And" in given and len(tags) + ("Prefix" in both) < 2:
        raise AwsError("MalformedXML")
    prefix = given.get("Prefix") or both.get("Prefix") or ""
    return prefix, tuple((tag.get("Key", ""), tag.get("Value", "")) for tag in tags)


def _bucket_of(rule: Mapping[str, Any]) -> str:
    return str(rule["Destination"]["Bucket"]).removeprefix(_BUCKET_ARN)


def _compiled(rule: Mapping[str, Any], at: int) -> Rule:
    filtered = "Filter" in rule
    prefix, tags = _filter(rule) if filtered else (rule.get("Prefix") or "", ())
    modifications = rule.get("SourceSelectionCriteria", {}).get("ReplicaModifications", {})
    return Rule(
        id=rule.get("ID") or f"rule-{at + 1}",
        priority=rule["Priority"] if filtered else 0,
        destination=_bucket_of(rule),
        prefix=prefix,
        tags=tags,
        delete_markers=not filtered or rule["DeleteMarkerReplication"]["Status"] == "Enabled",
        replica_modifications=modifications.get("Status") == "Enabled",
    )
