"""IAM: the roles there are (IAM API Reference). Roles are made by CloudFormation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from nearpoint.awsapi.call import Call, Handler
from nearpoint.awsapi.paging import page
from nearpoint.awsproto import AwsError
from nearpoint.stack.services import roles
from nearpoint.state.resources import Role

SERVICE = "iam"
PAGE_DEFAULT, PAGE_MAX = 100, 1000


def _document(policy: dict[str, Any]) -> str:
    """A policy document as IAM answers it: JSON, percent-encoded (RFC 3986)."""
    return quote(orjson.dumps(policy, option=orjson.OPT_INDENT_2).decode(), safe="")


def _role(role: Role, *, whole: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "Path": role.path,
        "RoleName": role.name,
        "RoleId": role.role_id,
        "Arn": role.arn,
        "CreateDate": role.created_at,
        "AssumeRolePolicyDocument": _document(role.trust),
        "Description": role.description or None,
        "MaxSessionDuration": role.max_session_duration_s,
    }
    if whole:
        shown["Tags"] = [{"Key": key, "Value": value} for key, value in role.tags.items()] or None
        shown["RoleLastUsed"] = {}
    return shown


def _page(call: Call, items: list[str]) -> tuple[list[str], dict[str, Any]]:
    count = call.params.get("MaxItems", PAGE_DEFAULT)
    if not 1 <= count <= PAGE_MAX:
        raise AwsError(
            "ValidationError",
            f"1 validation error detected: Value '{count}' at 'maxItems' failed to satisfy constraint: Member must "
            f"have value less than or equal to {PAGE_MAX}",
        )
    found, token = page(sorted(items), str, call.params.get("Marker"), count, error_code="ValidationError")
    return found, {"IsTruncated": token is not None, "Marker": token}


def _find(call: Call) -> Role:
    return roles.find(call.ctx.state, call.params["RoleName"])


async def get_role(call: Call) -> Mapping[str, Any]:
    return {"Role": _role(_find(call), whole=True)}


async def list_roles(call: Call) -> Mapping[str, Any]:
    prefix = call.params.get("PathPrefix", "/")
    by_name = {role.name: role for role in call.ctx.state.list(Role) if role.path.startswith(prefix)}
    found, rest = _page(call, list(by_name))
    return {"Roles": [_role(by_name[name], whole=False) for name in found], **rest}


async def list_role_policies(call: Call) -> Mapping[str, Any]:
    found, rest = _page(call, list(_find(call).inline_policies))
    return {"PolicyNames": found, **rest}


async def get_role_policy(call: Call) -> Mapping[str, Any]:
    role, name = _find(call), call.params["PolicyName"]
    policy = role.inline_policies.get(name)
    if policy is None:
        raise AwsError("NoSuchEntity", f"The role policy with name {name} cannot be found.", status=404)
    return {"RoleName": role.name, "PolicyName": name, "PolicyDocument": _document(policy)}


async def list_attached_role_policies(call: Call) -> Mapping[str, Any]:
    prefix = call.params.get("PathPrefix", "/")
    arns = [arn for arn in _find(call).managed_policy_arns if _path(arn).startswith(prefix)]
    found, rest = _page(call, arns)
    return {
        "AttachedPolicies": [{"PolicyName": arn.rpartition("/")[2], "PolicyArn": arn} for arn in found],
        **rest,
    }


def _path(policy_arn: str) -> str:
    """`/service-role/` of `arn:aws:iam::aws:policy/service-role/NAME`."""
    return policy_arn.partition(":policy")[2].rpartition("/")[0] + "/"


HANDLERS: dict[str, Handler] = {
    "GetRole": get_role,
    "GetRolePolicy": get_role_policy,
    "ListAttachedRolePolicies": list_attached_role_policies,
    "ListRolePolicies": list_role_policies,
    "ListRoles": list_roles,
}


def _role_arn(call: Call) -> str:
    role = call.ctx.state.get(Role, call.params["RoleName"])
    return role.arn if role is not None else f"arn:aws:iam::{call.ctx.account_id}:role/{call.params['RoleName']}"


RESOURCES = {name: _role_arn for name in HANDLERS if name != "ListRoles"}
