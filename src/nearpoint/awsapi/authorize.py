"""Asks a caller's identity policies whether it may make a call.

The account's root may do everything; a role's session what the role's policies allow (IAM User Guide, "Policy
evaluation logic").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from nearpoint.awsproto.errors import AwsError
from nearpoint.policy.document import MalformedPolicyError, Policy, parse_policy
from nearpoint.policy.evaluate import RequestContext, evaluate
from nearpoint.stack.services.roles import policy_documents
from nearpoint.state.resources import Snapshot
from nearpoint.state.sessions import ROOT_SUFFIX, Identity
from nearpoint.wire.message import Request

_UNREADABLE = parse_policy(
    {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}},
    kind="identity",
    name="unreadable policy",
)


def policies_of(identity: Identity, snapshot: Snapshot) -> list[Policy] | None:
    """The caller's identity policies; None for the account's root, which needs none.

    A stored document that is no policy denies everything; a role that is gone allows nothing.
    """
    if identity.role_arn is None:
        return None if identity.principal_arn.endswith(ROOT_SUFFIX) else []
    role = snapshot.roles.get(identity.role_arn)
    policies: list[Policy] = []
    for document in policy_documents(role) if role is not None else ():
        try:
            policies.append(parse_policy(document, kind="identity"))
        except MalformedPolicyError:
            policies.append(_UNREADABLE)
    return policies


def conditions_of(request: Request, identity: Identity, now_s: float, region: str) -> dict[str, Sequence[str]]:
    """The global condition keys of a call, in lower case (IAM User Guide, "AWS global condition context keys")."""
    at = datetime.fromtimestamp(now_s, UTC)
    account = identity.principal_arn.split(":")[4]
    found: dict[str, Sequence[str]] = {
        "aws:currenttime": [at.strftime("%Y-%m-%dT%H:%M:%SZ")],
        "aws:epochtime": [str(int(now_s))],
        "aws:principalaccount": [account],
        "aws:principalarn": [identity.role_arn or identity.principal_arn],
        "aws:principaltype": ["AssumedRole" if identity.role_arn else "Account"],
        "aws:requestedregion": [region],
        "aws:securetransport": ["true" if request.scheme == "https" else "false"],
    }
    if request.client_ip:
        found["aws:sourceip"] = [request.client_ip]
    for key, header in (("aws:useragent", "user-agent"), ("aws:referer", "referer")):
        value = request.headers.get(header)
        if value is not None:
            found[key] = [value]
    return found


def allows(policies: list[Policy] | None, action: str, resource: str, conditions: Mapping[str, Sequence[str]]) -> bool:
    """Whether the policies (of `policies_of`) allow the action on the resource."""
    if policies is None:
        return True
    return evaluate(policies, RequestContext(action=action, resource=resource, conditions=conditions)).allowed


def denied(identity: Identity, action: str, resource: str, *, protocol: str) -> AwsError:
    """The answer to a call that the caller's policies do not allow."""
    text = f"User: {identity.principal_arn} is not authorized to perform: {action}"
    if resource != "*":
        text += f" on resource: {resource}"
    text += " because no identity-based policy allows the action"
    code = "AccessDeniedException" if "json" in protocol else "AccessDenied"
    return AwsError(code, text, status=403)
