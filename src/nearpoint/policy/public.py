"""Whether a resource policy is public (S3 User Guide, "Blocking public access", "The meaning of public").

A policy is public when a statement allows something to everybody and no condition holds it to fixed accounts,
organisations, networks, endpoints or access points.
"""

from __future__ import annotations

import ipaddress

from nearpoint.policy.conditions import Condition
from nearpoint.policy.document import Policy

_NARROWING = frozenset(
    {
        "aws:principalarn",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceip",
        "aws:sourceowner",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:userid",
        "s3:dataaccesspointaccount",
        "s3:dataaccesspointarn",
        "s3:x-amz-server-side-encryption-aws-kms-key-id",
    }
)
_OPERATORS = frozenset({"arnequals", "arnlike", "ipaddress", "stringequals", "stringlike"})
# Wider networks than these count as everybody.
_PREFIX_BITS_MIN = {4: 8, 6: 32}


def is_public(policy: Policy) -> bool:
    """Whether the policy lets in anybody at all."""
    return any(
        statement.effect == "Allow"
        and statement.principals is not None
        and (statement.principals.negated or ("AWS", "*") in statement.principals.names)
        and not any(_narrows(condition) for condition in statement.conditions)
        for statement in policy.statements
    )


def _narrows(condition: Condition) -> bool:
    key = condition.key.lower()
    if key not in _NARROWING or condition.operator not in _OPERATORS or condition.if_exists:
        return False
    return all(_is_fixed(key, value) for value in condition.values)


def _is_fixed(key: str, value: str) -> bool:
    if key == "aws:sourceip":
        try:
            network = ipaddress.ip_network(value, strict=False)
        except ValueError:
            return False
        return network.prefixlen >= _PREFIX_BITS_MIN[network.version]
    if key == "s3:dataaccesspointarn":  # any access point of one account is narrow enough
        parts = value.split(":", 5)
        return len(parts) == 6 and parts[4].isdigit()
    return not any(character in value for character in "*?$")
