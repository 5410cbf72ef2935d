"""Policy documents, checked when they are stored. What they allow is the `policy` room's to say."""

from __future__ import annotations

from typing import Any

import msgspec

from nearpoint.awsproto.errors import AwsError
from nearpoint.policy.document import MalformedPolicyError, PolicyKind, parse_policy

VERSIONS = ("2012-10-17", "2008-10-17")
STATEMENT_KEYS = frozenset(
    ("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition")
)
DEPTH_MAX = 16


def _depth(value: Any, depth: int = 0) -> int:
    if depth > DEPTH_MAX:
        return depth
    if isinstance(value, dict):
        return max((_depth(each, depth + 1) for each in value.values()), default=depth)
    if isinstance(value, list):
        return max((_depth(each, depth + 1) for each in value), default=depth)
    return depth


def _document(policy: str | dict[str, Any], bytes_max: int, code: str) -> dict[str, Any]:
    try:
        if isinstance(policy, str):
            size_bytes = len(policy.encode())
            document = msgspec.json.decode(policy) if size_bytes <= bytes_max else None
        else:
            # As IAM counts: white space does not.
            size_bytes = len(msgspec.json.encode(policy))
            document = policy
    except (msgspec.MsgspecError, RecursionError, TypeError, UnicodeEncodeError):
        raise AwsError(code, "The policy is not in the valid JSON format.", status=400) from None
    if size_bytes > bytes_max:
        raise AwsError(code, f"The policy is longer than {bytes_max} bytes", status=400)
    if not isinstance(document, dict):
        raise AwsError(code, "Syntax errors in policy.", status=400)
    if _depth(document) > DEPTH_MAX:
        raise AwsError(code, "The policy is nested too deeply", status=400)
    return document


def _strings(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) and each for each in value)


def _check(document: dict[str, Any], code: str, *, principal: bool, resource: bool) -> None:
    def refuse(text: str) -> AwsError:
        return AwsError(code, text, status=400)

    for key in document:
        if key not in ("Version", "Id", "Statement"):
            raise refuse(f"Unknown field {key}")
    if document.get("Version", VERSIONS[0]) not in VERSIONS:
        raise refuse("The policy must contain a valid version string")
    statements = document.get("Statement")
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise refuse("Syntax errors in policy.")
    for statement in statements:
        if not isinstance(statement, dict):
            raise refuse("Syntax errors in policy.")
        for key in statement:
            if key not in STATEMENT_KEYS:
                raise refuse(f"Unknown field {key}")
        if statement.get("Effect") not in ("Allow", "Deny"):
            raise refuse(f"Invalid effect: {statement.get('Effect', '')}")
        if ("Action" in statement) == ("NotAction" in statement) or not _strings(
            statement.get("Action", statement.get("NotAction"))
        ):
            raise refuse("Policy statement must contain actions.")
        if principal and ("Principal" in statement) == ("NotPrincipal" in statement):
            raise refuse("Missing required field Principal")
        if not principal and ("Principal" in statement or "NotPrincipal" in statement):
            raise refuse("Policy document should not specify a principal.")
        if resource and (
            ("Resource" in statement) == ("NotResource" in statement)
            or not _strings(statement.get("Resource", statement.get("NotResource")))
        ):
            raise refuse("Policy statement must contain resources.")
        if not resource and ("Resource" in statement or "NotResource" in statement):
            raise refuse("Has prohibited field Resource")
        if not isinstance(statement.get("Condition", {}), dict):
            raise refuse("Syntax errors in policy.")


def _read(document: dict[str, Any], code: str, kind: PolicyKind) -> None:
    """Read it as it will be read when it decides: one that cannot be would deny everything."""
    try:
        parse_policy(document, kind=kind)
    except MalformedPolicyError as error:
        raise AwsError(code, str(error), status=400) from None


def check_trust_policy(policy: str | dict[str, Any], *, bytes_max: int) -> dict[str, Any]:
    """A role's trust document. Raises MalformedPolicyDocument."""
    document = _document(policy, bytes_max, "MalformedPolicyDocument")
    _check(document, "MalformedPolicyDocument", principal=True, resource=False)
    _read(document, "MalformedPolicyDocument", "trust")
    return document


def check_identity_policy(policy: str | dict[str, Any], *, bytes_max: int) -> dict[str, Any]:
    """A policy of a role or user. Raises MalformedPolicyDocument."""
    document = _document(policy, bytes_max, "MalformedPolicyDocument")
    _check(document, "MalformedPolicyDocument", principal=False, resource=True)
    _read(document, "MalformedPolicyDocument", "identity")
    return document


def check_resource_policy(policy: str | dict[str, Any], *, bytes_max: int) -> dict[str, Any]:
    """A bucket's or access point's policy. Raises MalformedPolicy."""
    document = _document(policy, bytes_max, "MalformedPolicy")
    _check(document, "MalformedPolicy", principal=True, resource=True)
    _read(document, "MalformedPolicy", "resource")
    return document


def service_principals(trust: dict[str, Any]) -> set[str]:
    """The AWS services that a trust document lets assume the role."""
    statements = trust.get("Statement", [])
    services: set[str] = set()
    for statement in [statements] if isinstance(statements, dict) else statements:
        principal = statement.get("Principal", {})
        if statement.get("Effect") == "Allow" and isinstance(principal, dict):
            named = principal.get("Service", [])
            services.update([named] if isinstance(named, str) else named)
    return services
