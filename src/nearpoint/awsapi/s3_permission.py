"""Asks the policies of caller and bucket about a call of S3: one question for most calls, one an object where it names
several.

Actions and resources from the Service Authorization Reference, "Actions, resources, and condition keys for Amazon S3".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from nearpoint.awsapi.authorize import conditions_of, denied
from nearpoint.awsproto import AwsError
from nearpoint.policy.document import Policy
from nearpoint.policy.evaluate import RequestContext, evaluate
from nearpoint.policy.s3_actions import s3_action
from nearpoint.policy.s3_conditions import request_conditions
from nearpoint.state.sessions import Identity
from nearpoint.wire.message import Request


class S3Permission:
    """The questions of one call. `policies` are those of `policies_of`, `policy_of` knows a bucket's."""

    def __init__(
        self,
        policies: list[Policy],
        identity: Identity,
        request: Request,
        query: dict[str, list[str]],
        *,
        now_s: float,
        region: str,
        policy_of: Callable[[str], Policy | None],
    ) -> None:
        self._policies = policies
        self._policy_of = policy_of
        account = identity.principal_arn.split(":")[4]
        names = [("AWS", identity.principal_arn), ("Account", f"arn:aws:iam::{account}:root")]
        self._principals = (*names, *([("AWS", identity.role_arn)] if identity.role_arn is not None else ()))
        self._identity = identity
        self._request = request
        self._query = query
        self._conditions: dict[str, Sequence[str]] = conditions_of(request, identity, now_s, region)
        self._now = datetime.fromtimestamp(now_s, UTC)

    def demand(self, action: str, resource: str) -> None:
        """Raises AwsError(AccessDenied) unless the policies allow it."""
        policy = self._policy_of(resource.removeprefix("arn:aws:s3:::").partition("/")[0])
        policies = self._policies if policy is None else [*self._policies, policy]
        headers = self._request.headers.by_name()
        request = RequestContext(
            action=action,
            resource=resource,
            principals=self._principals,
            conditions={**self._conditions, **request_conditions(action, headers, self._request.query, self._now)},
        )
        if not evaluate(policies, request).allowed:
            raise denied(self._identity, action, resource, protocol="rest-xml")

    def demand_call(self, operation: str, bucket: str | None, key: str | None) -> None:
        """Demand what the call itself needs: its action on the bucket or object, and reading what it copies."""
        if bucket is None:
            self.demand("s3:ListAllMyBuckets", "*")
            return
        action = s3_action(self._request.method, has_key=key is not None, parameters=set(self._query))
        self.demand(action or f"s3:{operation}", object_arn(bucket, key))
        source = self._request.headers.get("x-amz-copy-source")
        if source is not None and key is not None:
            from_bucket, from_key, version_id = copy_source(source)
            read = "s3:GetObject" if version_id is None else "s3:GetObjectVersion"
            self.demand(read, object_arn(from_bucket, from_key))

    def demand_deletes(self, bucket: str, objects: Sequence[dict[str, Any]]) -> None:
        """Demand the deletion of every object of a DeleteObjects call: all or none."""
        for each in objects:
            action = "s3:DeleteObject" if each.get("VersionId") is None else "s3:DeleteObjectVersion"
            self.demand(action, object_arn(bucket, each["Key"]))


def object_arn(bucket: str, key: str | None) -> str:
    """The ARN of a bucket, or of an object in it."""
    return f"arn:aws:s3:::{bucket}" if key is None else f"arn:aws:s3:::{bucket}/{key}"


def copy_source(value: str) -> tuple[str, str, str | None]:
    """Bucket, key and version id that `x-amz-copy-source` names. Raises AwsError; access points are not taken here."""
    text, _, version = value.partition("?versionId=")
    try:
        path = unquote_to_bytes(text.encode("latin-1")).decode("utf-8")
    except UnicodeDecodeError:
        path = ""
    bucket, _, key = path.removeprefix("/").partition("/")
    if bucket.startswith("arn:"):
        raise AwsError("NotImplemented", "Copying from an access point into a bucket is not implemented.")
    if not bucket or not key:
        raise AwsError(
            "InvalidArgument",
            "Copy Source must mention the source bucket and key: sourcebucket/sourcekey",
            extra={"ArgumentName": "x-amz-copy-source", "ArgumentValue": value[:1024]},
        )
    return bucket, key, version or None
