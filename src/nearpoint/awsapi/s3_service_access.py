"""Lets a service of AWS ask for objects as far as the bucket's policy says so: it has no policies of its own.

S3 User Guide, "Bucket policy examples"; CloudFront Developer Guide, "Restrict access to an Amazon S3 origin".
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import orjson

from nearpoint.awsproto import AwsError
from nearpoint.policy.document import MalformedPolicyError, Policy, parse_policy
from nearpoint.policy.evaluate import RequestContext, evaluate
from nearpoint.policy.s3_actions import s3_action
from nearpoint.regions.store import Store
from nearpoint.state.sessions import Identity
from nearpoint.wire.message import Request, read_all

POLICY_BYTES_MAX = 64 * 1024
_COPIES = "x-amz-copy-source"


async def bucket_policy(store: Store, bucket: str) -> Policy | None:
    """The policy that the bucket's store keeps, or None. Raises UpstreamError."""
    response = await store.send("GET", bucket, query="policy")
    document = await read_all(response.body, POLICY_BYTES_MAX)
    if response.status != 200:
        return None
    try:
        return parse_policy(orjson.loads(document), kind="resource", name="bucket policy")
    except (MalformedPolicyError, orjson.JSONDecodeError):
        return None


def demand_of_service(
    identity: Identity,
    policy: Policy | None,
    request: Request,
    *,
    bucket: str,
    key: str | None,
    parameters: set[str],
    now_s: float,
) -> None:
    """Raises AwsError(AccessDenied) unless the policy allows what the service asks for, one object at a time."""
    action = s3_action(request.method, has_key=key is not None, parameters=parameters)
    if policy is None or action is None or identity.service is None or _COPIES in request.headers:
        raise AwsError("AccessDenied")
    conditions: dict[str, Sequence[str]] = {
        "aws:currenttime": [datetime.fromtimestamp(now_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")],
        "aws:epochtime": [str(int(now_s))],
        "aws:principalisawsservice": ["true"],
        "aws:principalservicename": [identity.service],
        "aws:securetransport": ["true"],  # the edge asks over the inside of this machine
        "aws:sourceaccount": [identity.principal_arn.split(":")[4]],
        "aws:sourcearn": [identity.principal_arn],
    }
    resource = f"arn:aws:s3:::{bucket}" if key is None else f"arn:aws:s3:::{bucket}/{key}"
    asked = RequestContext(
        action=action, resource=resource, principals=(("Service", identity.service),), conditions=conditions
    )
    if not evaluate([policy], asked).allowed:
        raise AwsError("AccessDenied")
