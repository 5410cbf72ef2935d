"""Reads a policy document into statements, or refuses it (IAM User Guide, "Grammar of the IAM JSON policy")."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nearpoint.policy.conditions import Condition, parse_condition

Effect = Literal["Allow", "Deny"]
PolicyKind = Literal["identity", "resource", "trust"]

VERSIONS = ("2012-10-17", "2008-10-17")
STATEMENTS_MAX = 1_000
VALUES_MAX = 10_000
VALUE_CHARACTERS_MAX = 8_192
PRINCIPAL_KINDS = frozenset({"AWS", "Service", "Federated", "CanonicalUser"})

_STATEMENT_KEYS = frozenset(
    {
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    }
)


class MalformedPolicyError(ValueError):
    """A document that is not a policy; the text is the reason, fit for AWS's MalformedPolicy errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matcher:
    """A list of patterns, or (`negated`) everything but those."""

    patterns: tuple[str, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Principals:
    """Whom a statement is about: patterns by kind (`AWS`, `Service` …); `("AWS", "*")` is everybody."""

    names: tuple[tuple[str, str], ...]
    negated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement. `principals` is None in an identity policy, `resources` None in a trust policy.

    `variables` says that a pattern holds a policy variable (version 2008-10-17 has none).
    """

    sid: str
    effect: Effect
    principals: Principals | None
    actions: Matcher
    resources: Matcher | None
    conditions: tuple[Condition, ...] = ()
    variables: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A policy: its name for messages, and its statements in order."""

    name: str
    statements: tuple[Statement, ...]


def parse_policy(document: object, *, kind: PolicyKind, name: str = "") -> Policy:
    """The policy of a decoded JSON document. Raises MalformedPolicyError.

    An `identity` policy names no principal, a `resource` policy must, a `trust` policy names no resource.
    """
    if not isinstance(document, Mapping):
        raise MalformedPolicyError("The policy is not a JSON object")
    for key in document:
        if key not in ("Version", "Id", "Statement"):
            raise MalformedPolicyError(f"Unknown field {_shown(key)}")
    version = document.get("Version", "2008-10-17")
    if version not in VERSIONS:
        raise MalformedPolicyError("The policy must contain a valid version string")
    raw = document.get("Statement")
    if isinstance(raw, Mapping):
        raw = [raw]
    if not isinstance(raw, list) or not raw:
        raise MalformedPolicyError("Missing required field Statement")
    if len(raw) > STATEMENTS_MAX:
        raise MalformedPolicyError(f"More than {STATEMENTS_MAX} statements")
    with_variables = version == VERSIONS[0]
    statements = tuple(_statement(one, kind, with_variables) for one in raw)
    sids = [statement.sid for statement in statements if statement.sid]
    if len(sids) != len(set(sids)):
        raise MalformedPolicyError("Statement IDs (SID) in a single policy must be unique")
    return Policy(name=name, statements=statements)


def _statement(raw: object, kind: PolicyKind, with_variables: bool) -> Statement:
    if not isinstance(raw, Mapping):
        raise MalformedPolicyError("A statement is not a JSON object")
    for key in raw:
        if key not in _STATEMENT_KEYS:
            raise MalformedPolicyError(f"Unknown field {_shown(key)}")
    effect = raw.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise MalformedPolicyError("Effect must be Allow or Deny")
    sid = raw.get("Sid", "")
    if not isinstance(sid, str):
        raise MalformedPolicyError("Sid is not a string")
    actions = _matcher(raw, "Action")
    if actions is None:
        raise MalformedPolicyError("Policy statement must contain actions.")
    for action in actions.patterns:
        if action != "*" and ":" not in action:
            raise MalformedPolicyError(f"Actions/Conditions must be prefaced by a vendor, e.g., iam: {_shown(action)}")
    resources = _matcher(raw, "Resource")
    if kind == "trust" and resources is not None:
        raise MalformedPolicyError("Has prohibited field Resource")
    if kind != "trust" and resources is None:
        raise MalformedPolicyError("Policy statement must contain resources.")
    principals = _principals(raw)
    if kind == "identity" and principals is not None:
        raise MalformedPolicyError("Policy document should not specify a principal.")
    if kind != "identity" and principals is None:
        raise MalformedPolicyError("Missing required field Principal")
    conditions = _conditions(raw.get("Condition"))
    patterns = (resources.patterns if resources else ()) + tuple(
        value for condition in conditions for value in condition.values
    )
    return Statement(
        sid=sid,
        effect="Allow" if effect == "Allow" else "Deny",
        principals=principals,
        actions=actions,
        resources=resources,
        conditions=conditions,
        variables=with_variables and any("${" in pattern for pattern in patterns),
    )


def _matcher(raw: Mapping[Any, Any], name: str) -> Matcher | None:
    if name in raw and f"Not{name}" in raw:
        raise MalformedPolicyError(f"Statement has both {name} and Not{name}")
    if name in raw:
        return Matcher(patterns=_strings(raw[name], name))
    if f"Not{name}" in raw:
        return Matcher(patterns=_strings(raw[f"Not{name}"], f"Not{name}"), negated=True)
    return None


def _principals(raw: Mapping[Any, Any]) -> Principals | None:
    if "Principal" in raw and "NotPrincipal" in raw:
        raise MalformedPolicyError("Statement has both Principal and NotPrincipal")
    negated = "NotPrincipal" in raw
    value = raw.get("NotPrincipal" if negated else "Principal")
    if value is None:
        return None
    if value == "*":
        return Principals(names=(("AWS", "*"),), negated=negated)
    if not isinstance(value, Mapping) or not value:
        raise MalformedPolicyError("Invalid principal in policy")
    names: list[tuple[str, str]] = []
    for kind, of_kind in value.items():
        if kind not in PRINCIPAL_KINDS:
            raise MalformedPolicyError(f"Invalid principal in policy: {_shown(kind)}")
        names += [(kind, name) for name in _strings(of_kind, "Principal")]
    return Principals(names=tuple(names), negated=negated)


def _conditions(raw: object) -> tuple[Condition, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, Mapping):
        raise MalformedPolicyError("Condition is not a JSON object")
    conditions: list[Condition] = []
    for operator, keys in raw.items():
        if not isinstance(operator, str) or not isinstance(keys, Mapping):
            raise MalformedPolicyError("Syntax errors in policy: Condition")
        for key, values in keys.items():
            if not isinstance(key, str):
                raise MalformedPolicyError("Syntax errors in policy: Condition")
            try:
                conditions.append(parse_condition(operator, key, _strings(values, "Condition")))
            except ValueError as error:
                raise MalformedPolicyError(str(error)) from None
    return tuple(conditions)


def _strings(value: object, field: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    if not values and field != "Condition":
        raise MalformedPolicyError(f"{field} is empty")
    if len(values) > VALUES_MAX:
        raise MalformedPolicyError(f"{field} has more than {VALUES_MAX} values")
    return tuple(_string(one, field) for one in values)


def _string(value: object, field: str) -> str:
    if field == "Condition":
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return str(value)
    if not isinstance(value, str):
        raise MalformedPolicyError(f"{field} holds something that is not a string")
    if len(value) > VALUE_CHARACTERS_MAX or "\0" in value:
        raise MalformedPolicyError(f"{field} holds a value that is too long or has a NUL")
    return value


def _shown(value: object) -> str:
    return str(value)[:100]
