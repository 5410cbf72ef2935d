"""What S3 answers about a bucket as properties of `AWS::S3::Bucket`, whose words differ from the API's. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_CORS = {"ID": "Id", "ExposeHeaders": "ExposedHeaders", "MaxAgeSeconds": "MaxAge"}
_TRANSITION = {"Days": "TransitionInDays", "NoncurrentDays": "TransitionInDays", "Date": "TransitionDate"}
_EXPIRATION = {"Days": "ExpirationInDays", "ExpiredObjectDeleteMarker": "ExpiredObjectDeleteMarker"}


def properties_of(
    *,
    encryption: Mapping[str, Any] | None,
    versioning: str | None,
    public_access_block: Mapping[str, Any] | None,
    ownership: Mapping[str, Any] | None,
    lifecycle: Sequence[Mapping[str, Any]],
    cors: Sequence[Mapping[str, Any]] | None,
    tags: Mapping[str, str],
    note: Callable[[str], None],
) -> dict[str, Any]:
    """The properties; `note` hears what of it a template has no word for."""
    found: dict[str, Any] = {}
    if encryption:
        found["BucketEncryption"] = {
            "ServerSideEncryptionConfiguration": [
                {
                    "ServerSideEncryptionByDefault": dict(rule["ApplyServerSideEncryptionByDefault"]),
                    **({"BucketKeyEnabled": True} if rule.get("BucketKeyEnabled") else {}),
                }
                for rule in encryption["Rules"]
            ]
        }
    if versioning:
        found["VersioningConfiguration"] = {"Status": versioning}
    if public_access_block:
        found["PublicAccessBlockConfiguration"] = dict(public_access_block)
    if ownership:
        found["OwnershipControls"] = {"Rules": [dict(rule) for rule in ownership["Rules"]]}
    if lifecycle:
        found["LifecycleConfiguration"] = {"Rules": [_lifecycle_rule(rule, note) for rule in lifecycle]}
    if cors:
        rules = [{_CORS.get(name, name): value for name, value in rule.items()} for rule in cors]
        found["CorsConfiguration"] = {"CorsRules": rules}
    if tags:
        found["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
    return found


def _lifecycle_rule(rule: Mapping[str, Any], note: Callable[[str], None]) -> dict[str, Any]:
    made: dict[str, Any] = {"Id": rule["ID"]} if "ID" in rule else {}
    made["Status"] = rule["Status"]
    given = rule.get("Filter", {})
    given = given.get("And", given)
    if rule.get("Prefix") or given.get("Prefix"):
        made["Prefix"] = rule.get("Prefix") or given["Prefix"]
    tags = [*([given["Tag"]] if "Tag" in given else []), *given.get("Tags", ())]
    if tags:
        made["TagFilters"] = [dict(tag) for tag in tags]
    for name in ("ObjectSizeGreaterThan", "ObjectSizeLessThan"):
        if name in given:
            made[name] = given[name]
    for name, value in rule.get("Expiration", {}).items():
        if name in _EXPIRATION:
            made[_EXPIRATION[name]] = value
        elif name == "Date":
            made["ExpirationDate"] = value
    transitions = [
        {_TRANSITION.get(name, name): value for name, value in each.items()} for each in rule.get("Transitions", ())
    ]
    if transitions:
        made["Transitions"] = transitions
    older = [
        {_TRANSITION.get(name, name): value for name, value in each.items()}
        for each in rule.get("NoncurrentVersionTransitions", ())
    ]
    if older:
        made["NoncurrentVersionTransitions"] = older
    for name in ("NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"):
        if name in rule:
            made[name] = dict(rule[name])
    known = {"ID", "Status", "Filter", "Prefix", "Expiration", "Transitions", "NoncurrentVersionTransitions",
             "NoncurrentVersionExpiration", "AbortIncompleteMultipartUpload"}  # fmt: skip
    if set(rule) - known:
        note(f"lifecycle rule {rule.get('ID', '')}: {', '.join(sorted(set(rule) - known))} is not taken over")
    return made
