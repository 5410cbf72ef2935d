"""Decides whether policies allow a request (IAM User Guide, "Policy evaluation logic").

An explicit deny wins over everything; without an allow the answer is no.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from nearpoint.policy.conditions import holds
from nearpoint.policy.document import Effect, Matcher, Policy, Principals, Statement
from nearpoint.policy.patterns import arn_matches, matches, resolve

Verdict = Literal["allow", "explicit deny", "default deny"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestContext:
    """What is asked, by whom, of what.

    `principals` are the names a policy may know the caller by: (`AWS`, ARN) pairs of the session and its role,
    (`Account`, ARN of the root) of the account it belongs to, or (`Service`, name). `conditions` are the condition keys
    in lower case with their values; policy variables come from them as well.
    """

    action: str
    resource: str
    principals: tuple[tuple[str, str], ...] = ()
    conditions: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The verdict, and the statement that brought it about with the name of its policy (none for a default deny)."""

    verdict: Verdict
    policy: str = ""
    statement: Statement | None = None

    @property
    def allowed(self) -> bool:
        """True for an allow."""
        return self.verdict == "allow"


DEFAULT_DENY = Decision(verdict="default deny")


def evaluate(policies: Iterable[Policy], request: RequestContext) -> Decision:
    """The decision of all the policies together."""
    return decide(narrowed(policies, request.action, request.principals), request)


def narrowed(policies: Iterable[Policy], action: str, principals: Sequence[tuple[str, str]]) -> tuple[Policy, ...]:
    """What the policies say of this action to these principals, whatever the resource and the conditions."""
    kept = []
    for policy in policies:
        statements = tuple(one for one in policy.statements if _is_about(one, action, principals))
        if statements:
            kept.append(Policy(name=policy.name, statements=statements))
    return tuple(kept)


def decide(policies: Iterable[Policy], request: RequestContext) -> Decision:
    """The decision of policies that have been `narrowed` to the request's action and principals."""
    decision = DEFAULT_DENY
    for policy in policies:
        for statement in policy.statements:
            if statement.effect == "Allow" and decision.allowed:
                continue
            if _covers(statement, request):
                if statement.effect == "Deny":
                    return Decision(verdict="explicit deny", policy=policy.name, statement=statement)
                decision = Decision(verdict="allow", policy=policy.name, statement=statement)
    return decision


def _is_about(statement: Statement, action: str, principals: Sequence[tuple[str, str]]) -> bool:
    return _action_matches(statement.actions, action) and (
        statement.principals is None or _principal_matches(statement.principals, principals, statement.effect)
    )


def _covers(statement: Statement, request: RequestContext) -> bool:
    if statement.resources is not None and not _resource_matches(statement, statement.resources, request):
        return False
    return all(holds(one, request.conditions, variables=statement.variables) for one in statement.conditions)


def _action_matches(matcher: Matcher, action: str) -> bool:
    return any(matches(pattern, action, ignore_case=True) for pattern in matcher.patterns) != matcher.negated


def _resource_matches(statement: Statement, matcher: Matcher, request: RequestContext) -> bool:
    for pattern in matcher.patterns:
        resolved = resolve(pattern, request.conditions) if statement.variables else pattern
        if resolved is None:
            # A variable without a value names no resource; as an exception it must not widen what is left.
            if matcher.negated:
                return statement.effect == "Deny"
            continue
        if arn_matches(resolved, request.resource):
            return not matcher.negated
    return matcher.negated


def _principal_matches(principals: Principals, names: Sequence[tuple[str, str]], effect: Effect) -> bool:
    if effect == "Allow" and not principals.negated:
        # Naming an account leaves it to its own policies who of it may (IAM User Guide, "AWS account principals").
        names = [one for one in names if one[0] != "Account"]
    return any(_is_named(wanted, names) for wanted in principals.names) != principals.negated


def _is_named(wanted: tuple[str, str], names: Sequence[tuple[str, str]]) -> bool:
    kind, pattern = wanted
    if wanted == ("AWS", "*"):
        return True
    if kind == "AWS" and len(pattern) == 12 and pattern.isdigit():
        pattern = f"arn:aws:iam::{pattern}:root"
    return (kind, pattern) in names or (kind == "AWS" and ("Account", pattern) in names)
