"""`ReplicationConfiguration` of `AWS::S3::Bucket`: its shape, and what S3 calls the same (pure).

CloudFormation's names differ from PutBucketReplication's in three places: `Id`, and `TagFilter` and `TagFilters`
(CloudFormation User Guide, AWS::S3::Bucket ReplicationConfiguration). What is wrong about the rules S3 says itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.stack.schema import Fields, Items, Text, Whole

_STATUS = Fields({"Status": Text(values=("Disabled", "Enabled"))}, ("Status",))
_MINUTES = Fields({"Minutes": Whole()}, ("Minutes",))
_TAG = Fields({"Key": Text(), "Value": Text()}, ("Key", "Value"))
_PREFIX = Text()
_DESTINATION = Fields(
    {
        "AccessControlTranslation": Fields({"Owner": Text(values=("Destination",))}, ("Owner",)),
        "Account": Text(pattern="[0-9]{12}"),
        "Bucket": Text(),
        "EncryptionConfiguration": Fields({"ReplicaKmsKeyID": Text()}, ("ReplicaKmsKeyID",)),
        "Metrics": Fields(
            {"EventThreshold": _MINUTES, "Status": Text(values=("Disabled", "Enabled"))},
            ("Status",),
        ),
        "ReplicationTime": Fields(
            {"Status": Text(values=("Disabled", "Enabled")), "Time": _MINUTES}, ("Status", "Time")
        ),
        "StorageClass": Text(
            values=(
                "DEEP_ARCHIVE", "GLACIER", "GLACIER_IR", "INTELLIGENT_TIERING", "ONEZONE_IA", "REDUCED_REDUNDANCY",
                "STANDARD", "STANDARD_IA",
            ),
        ),
    },
    ("Bucket",),
)  # fmt: skip
_RULE = Fields(
    {
        "DeleteMarkerReplication": Fields({"Status": Text(values=("Disabled", "Enabled"))}),
        "Destination": _DESTINATION,
        "Filter": Fields(
            {
                "And": Fields({"Prefix": _PREFIX, "TagFilters": Items(_TAG)}),
                "Prefix": _PREFIX,
                "TagFilter": _TAG,
            }
        ),
        "Id": Text(),
        "Prefix": _PREFIX,
        "Priority": Whole(),
        "SourceSelectionCriteria": Fields({"ReplicaModifications": _STATUS, "SseKmsEncryptedObjects": _STATUS}),
        "Status": Text(values=("Disabled", "Enabled")),
    },
    ("Destination", "Status"),
)
SCHEMA = Fields({"Role": Text(), "Rules": Items(_RULE, 1)}, ("Role", "Rules"))


def configuration_of(properties: Mapping[str, Any]) -> dict[str, Any] | None:
    """The bucket's ReplicationConfiguration as PutBucketReplication takes it; None where the bucket has none."""
    given = properties.get("ReplicationConfiguration")
    return None if given is None else {"Role": given["Role"], "Rules": [_rule(each) for each in given["Rules"]]}


def _rule(given: Mapping[str, Any]) -> dict[str, Any]:
    rule = {name: value for name, value in given.items() if name not in ("Id", "Filter")}
    if "Id" in given:
        rule["ID"] = given["Id"]
    if "Filter" in given:
        rule["Filter"] = _filter(given["Filter"])
    return rule


def _filter(given: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in given.items() if name == "Prefix"}
    if "TagFilter" in given:
        found["Tag"] = given["TagFilter"]
    if "And" in given:
        both = given["And"]
        found["And"] = {name: value for name, value in both.items() if name == "Prefix"}
        if "TagFilters" in both:
            found["And"]["Tags"] = both["TagFilters"]
    return found
