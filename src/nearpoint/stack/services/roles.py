"""IAM roles: names, trust, inline and managed policies (IAM API Reference, CreateRole; IAM quotas)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from nearpoint.awsproto.errors import AwsError
from nearpoint.policy.managed import MANAGED_POLICIES
from nearpoint.stack.services.context import Context, base32_of
from nearpoint.stack.services.policies import check_identity_policy, check_trust_policy
from nearpoint.state.resources import Role
from nearpoint.state.store import State

NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
POLICY_NAME = re.compile(r"[\w+=,.@-]{1,128}", re.ASCII)
PATH = re.compile(r"/|/[\x21-\x7e]{1,510}/")
ROLES_MAX = 1000
MANAGED_POLICIES_MAX = 20
TRUST_BYTES_MAX = 8192
INLINE_BYTES_MAX = 10240  # of all inline policies of a role together
DESCRIPTION_MAX = 1000
SESSION_S = (3600, 43200)


def _invalid(text: str) -> AwsError:
    return AwsError("ValidationError", text, status=400)


def find(state: State, name: str) -> Role:
    """The role by name, without regard to case. Raises NoSuchEntity."""
    role = _same_name(state, name)
    if role is None:
        raise AwsError("NoSuchEntity", f"The role with name {name} cannot be found.", status=404)
    return role


def _same_name(state: State, name: str) -> Role | None:
    exact = state.get(Role, name)
    if exact is not None:
        return exact
    lowered = name.lower()
    return next((role for role in state.list(Role) if role.name.lower() == lowered), None)


def find_by_arn(state: State, arn: str) -> Role | None:
    """The role of that ARN, or None."""
    role = state.get(Role, arn.rpartition("/")[2])
    return role if role is not None and role.arn == arn else None


def check_inline_policies(policies: Mapping[str, str | dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The documents by name. Raises ValidationError, MalformedPolicyDocument or LimitExceeded."""
    checked: dict[str, dict[str, Any]] = {}
    size_bytes = 0
    for name, policy in policies.items():
        if not POLICY_NAME.fullmatch(name):
            raise _invalid(f"The specified value for policyName is invalid: {name}")
        checked[name] = check_identity_policy(policy, bytes_max=INLINE_BYTES_MAX)
        size_bytes += len(msgspec.json.encode(checked[name]))
    if size_bytes > INLINE_BYTES_MAX:
        raise AwsError("LimitExceeded", f"Maximum policy size of {INLINE_BYTES_MAX} bytes exceeded", status=409)
    return checked


def check_managed_policies(arns: Sequence[str]) -> tuple[str, ...]:
    """The ARNs, each once. Raises NoSuchEntity for one that is not known, LimitExceeded for too many."""
    distinct = tuple(dict.fromkeys(arns))
    for arn in distinct:
        if arn not in MANAGED_POLICIES:
            raise AwsError("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.", status=404)
    if len(distinct) > MANAGED_POLICIES_MAX:
        raise AwsError("LimitExceeded", f"Cannot exceed quota for PoliciesPerRole: {MANAGED_POLICIES_MAX}", status=409)
    return distinct


def _check_settings(description: str, max_session_duration_s: int) -> None:
    if len(description) > DESCRIPTION_MAX:
        raise _invalid(f"The description is longer than {DESCRIPTION_MAX} characters")
    if not SESSION_S[0] <= max_session_duration_s <= SESSION_S[1]:
        raise _invalid(f"MaxSessionDuration is {SESSION_S[0]} to {SESSION_S[1]} seconds")


async def create_role(
    context: Context,
    *,
    name: str,
    trust: str | dict[str, Any],
    path: str = "/",
    inline_policies: Mapping[str, str | dict[str, Any]] | None = None,
    managed_policy_arns: Sequence[str] = (),
    description: str = "",
    max_session_duration_s: int = SESSION_S[0],
    tags: Mapping[str, str] | None = None,
) -> Role:
    """Create. Raises AwsError: ValidationError, MalformedPolicyDocument, NoSuchEntity (managed policy),
    EntityAlreadyExists, LimitExceeded."""
    if not NAME.fullmatch(name):
        raise _invalid("The specified value for roleName is invalid. It must contain only alphanumeric characters")
    if not PATH.fullmatch(path):
        raise _invalid("The specified value for path is invalid. It must begin and end with /")
    _check_settings(description, max_session_duration_s)
    trust_document = check_trust_policy(trust, bytes_max=TRUST_BYTES_MAX)
    inline = check_inline_policies(inline_policies or {})
    managed = check_managed_policies(managed_policy_arns)
    async with context.lock:
        if _same_name(context.state, name) is not None:
            raise AwsError("EntityAlreadyExists", f"Role with name {name} already exists.", status=409)
        if len(context.state.list(Role)) >= ROLES_MAX:
            raise AwsError("LimitExceeded", f"Cannot exceed quota for RolesPerAccount: {ROLES_MAX}", status=409)
        role = Role(
            name=name,
            role_id="AROA" + base32_of(context.random_bytes(11))[:17],
            arn=f"arn:aws:iam::{context.account_id}:role{path}{name}",
            path=path,
            created_at=context.now(),
            trust=trust_document,
            inline_policies=inline,
            managed_policy_arns=managed,
            description=description,
            max_session_duration_s=max_session_duration_s,
            tags=dict(tags or {}),
        )
        await context.state.put(role)
        return role


async def update_role(
    context: Context,
    name: str,
    *,
    trust: str | dict[str, Any] | None = None,
    inline_policies: Mapping[str, str | dict[str, Any]] | None = None,
    managed_policy_arns: Sequence[str] | None = None,
    description: str | None = None,
    max_session_duration_s: int | None = None,
    tags: Mapping[str, str] | None = None,
) -> Role:
    """Replace what is given, keep what is None. Raises as `create_role`, and NoSuchEntity for the role."""
    async with context.lock:
        role = find(context.state, name)
        changed = msgspec.structs.replace(
            role,
            trust=role.trust if trust is None else check_trust_policy(trust, bytes_max=TRUST_BYTES_MAX),
            inline_policies=(
                role.inline_policies if inline_policies is None else check_inline_policies(inline_policies)
            ),
            managed_policy_arns=(
                role.managed_policy_arns if managed_policy_arns is None else check_managed_policies(managed_policy_arns)
            ),
            description=role.description if description is None else description,
            max_session_duration_s=(
                role.max_session_duration_s if max_session_duration_s is None else max_session_duration_s
            ),
            tags=role.tags if tags is None else dict(tags),
        )
        _check_settings(changed.description, changed.max_session_duration_s)
        await context.state.put(changed)
        return changed


def policy_documents(role: Role) -> list[dict[str, Any]]:
    """All that the role's inline and managed policies say, for whoever evaluates them."""
    managed = [MANAGED_POLICIES[arn] for arn in role.managed_policy_arns if arn in MANAGED_POLICIES]
    return [*role.inline_policies.values(), *managed]


async def delete_role(context: Context, name: str, *, with_policies: bool = False) -> None:
    """Delete. Raises NoSuchEntity; DeleteConflict while it carries policies, unless `with_policies` (CloudFormation
    detaches them itself)."""
    async with context.lock:
        role = find(context.state, name)
        if not with_policies and (role.inline_policies or role.managed_policy_arns):
            raise AwsError(
                "DeleteConflict", "Cannot delete entity, must delete or detach its policies first.", status=409
            )
        await context.state.delete(role)
