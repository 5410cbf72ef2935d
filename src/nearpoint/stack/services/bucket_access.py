"""Who may use a bucket: its policy and Block Public Access, checked when they are put, and copied into the state.

The store of a bucket keeps them as S3 does; the copy goes to every node with the snapshot: there they are evaluated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nearpoint.awsproto import AwsError, xml
from nearpoint.policy.document import MalformedPolicyError, Policy, parse_policy
from nearpoint.policy.public import is_public
from nearpoint.stack.services.context import Context
from nearpoint.state.resources import Bucket

POLICY_BYTES_MAX = 20 * 1024  # S3 User Guide, "Bucket policies"
SETTINGS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


_UNREADABLE = parse_policy(
    {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}},
    kind="resource",
    name="unreadable bucket policy",
)


def policy_of(bucket: Bucket) -> Policy | None:
    """The bucket's policy. One that cannot be read denies everything."""
    if bucket.policy is None:
        return None
    try:
        return parse_policy(bucket.policy, kind="resource", name="bucket policy")
    except MalformedPolicyError:
        return _UNREADABLE


def check_policy(bucket: Bucket, document: bytes) -> dict[str, Any]:
    """The policy in a PutBucketPolicy. Raises AwsError: MalformedPolicy, and AccessDenied for a public one where Block
    Public Access blocks it."""
    if len(document) > POLICY_BYTES_MAX:
        raise AwsError("MalformedPolicy", "The policy exceeds the maximum allowed document size.")
    try:
        decoded = msgspec.json.decode(document)
        policy = parse_policy(decoded, kind="resource")
    except (msgspec.MsgspecError, RecursionError):
        raise AwsError("MalformedPolicy", "Policies must be valid JSON and the first byte must be '{'") from None
    except MalformedPolicyError as error:
        raise AwsError("MalformedPolicy", str(error)) from None
    arn = f"arn:aws:s3:::{bucket.name}"
    for statement in policy.statements:
        patterns = statement.resources.patterns if statement.resources is not None else ()
        if not all(one in ("*", arn) or one.startswith((arn + "/", arn + "*")) for one in patterns):
            raise AwsError("MalformedPolicy", "Policy has invalid resource")
    if bucket.public_access_block.get("BlockPublicPolicy") and is_public(policy):
        raise AwsError("AccessDenied", "Public policies are blocked by the BlockPublicPolicy setting.")
    result: dict[str, Any] = decoded
    return result


def read_public_access_block(document: bytes) -> dict[str, bool]:
    """The settings in a PutPublicAccessBlock; one that is not named is off. Raises AwsError: MalformedXML."""
    try:
        root = xml.parse(document)
    except xml.XmlError:
        raise AwsError("MalformedXML") from None
    found: dict[str, bool] = {}
    for name in SETTINGS:
        node = root.child(name)
        text = "false" if node is None else node.text.strip().lower()
        if text not in ("true", "false"):
            raise AwsError("MalformedXML")
        found[name] = text == "true"
    return found


async def note_policy(services: Context, name: str, policy: Mapping[str, Any] | None) -> None:
    """Copy what the store has taken into the state; None when there is no policy any more."""
    async with services.bucket_lock:
        bucket = services.state.get(Bucket, name)
        if bucket is not None:
            kept = None if policy is None else dict(policy)
            await services.state.put(msgspec.structs.replace(bucket, policy=kept))


async def note_public_access_block(services: Context, name: str, settings: Mapping[str, bool]) -> None:
    """As `note_policy`, for Block Public Access; empty when it has been removed."""
    async with services.bucket_lock:
        bucket = services.state.get(Bucket, name)
        if bucket is not None:
            await services.state.put(msgspec.structs.replace(bucket, public_access_block=dict(settings)))
