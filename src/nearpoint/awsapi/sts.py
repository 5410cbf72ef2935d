"""STS: who am I, and the temporary credentials of a role (STS API Reference)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nearpoint.awsapi.authorize import conditions_of
from nearpoint.awsapi.call import Call, Handler
from nearpoint.awsproto import AwsError
from nearpoint.policy.document import MalformedPolicyError, parse_policy
from nearpoint.policy.evaluate import RequestContext, evaluate
from nearpoint.stack.services import roles
from nearpoint.state.resources import Role
from nearpoint.state.sessions import Identity, assumed_role_arn, mint

SERVICE = "sts"
SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
DURATION_S_MIN, DURATION_S_DEFAULT = 900, 3600
CHAINED_S_MAX = 3600  # a role's session that assumes another role
# What narrows or describes a session: a session token here can't carry it, and to leave it out would widen the session.
UNSUPPORTED = ("Policy", "PolicyArns", "Tags", "TransitiveTagKeys", "ProvidedContexts", "SerialNumber", "TokenCode")


def _account(arn: str) -> str:
    return arn.split(":")[4]


def _user_id(identity: Identity, role: Role | None) -> str:
    if identity.role_arn is None:
        return _account(identity.principal_arn)
    role_id = role.role_id if role is not None else "AROA"
    return f"{role_id}:{identity.principal_arn.rpartition('/')[2]}"


async def get_caller_identity(call: Call) -> Mapping[str, Any]:
    identity = call.identity
    role = None if identity.role_arn is None else call.ctx.snapshot().roles.get(identity.role_arn)
    return {
        "UserId": _user_id(identity, role),
        "Account": _account(identity.principal_arn),
        "Arn": identity.principal_arn,
    }


def _principals(identity: Identity) -> tuple[tuple[str, str], ...]:
    """The names a trust policy may know the caller by."""
    names = [identity.principal_arn, f"arn:aws:iam::{_account(identity.principal_arn)}:root"]
    if identity.role_arn is not None:
        names.append(identity.role_arn)
    return tuple(("AWS", name) for name in dict.fromkeys(names))


def trusts(role: Role, identity: Identity, conditions: Mapping[str, Sequence[str]]) -> bool:
    """Whether the role's trust policy lets the caller assume it."""
    try:
        policy = parse_policy(role.trust, kind="trust", name=role.name)
    except MalformedPolicyError:
        return False
    request = RequestContext(
        action="sts:AssumeRole", resource=role.arn, principals=_principals(identity), conditions=conditions
    )
    return evaluate([policy], request).allowed


async def assume_role(call: Call) -> Mapping[str, Any]:
    ctx, params, identity = call.ctx, call.params, call.identity
    for name in UNSUPPORTED:
        if params.get(name):
            raise AwsError("NotImplemented", f"The parameter {name} of AssumeRole is not implemented here.", status=501)
    arn, session_name = params["RoleArn"], params["RoleSessionName"]
    if not SESSION_NAME.fullmatch(session_name):
        raise AwsError(
            "ValidationError",
            f"1 validation error detected: Value '{session_name[:64]}' at 'roleSessionName' failed to satisfy "
            r"constraint: Member must satisfy regular expression pattern: [\w+=,.@-]{2,64}",
        )
    role = roles.find_by_arn(ctx.state, arn)
    conditions = conditions_of(call.request, identity, ctx.now(), call.region)
    if params.get("ExternalId"):
        conditions["sts:externalid"] = [params["ExternalId"]]
    conditions["sts:rolesessionname"] = [session_name]
    if role is None or not trusts(role, identity, conditions):
        raise AwsError(
            "AccessDenied",
            f"User: {identity.principal_arn} is not authorized to perform: sts:AssumeRole on resource: {arn}",
            status=403,
        )
    duration_s = params.get("DurationSeconds", DURATION_S_DEFAULT)
    longest_s = role.max_session_duration_s
    if identity.role_arn is not None:
        longest_s = min(longest_s, CHAINED_S_MAX)
    if not DURATION_S_MIN <= duration_s <= longest_s:
        raise AwsError(
            "ValidationError",
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
            if duration_s > longest_s
            else f"DurationSeconds is at least {DURATION_S_MIN}.",
        )
    expires_at = int(ctx.now()) + duration_s
    access_key_id, secret_key, token = mint(
        ctx.snapshot().session_secret,
        role_arn=role.arn,
        session_name=session_name,
        expires_at=expires_at,
        random_bytes=ctx.random_bytes(10),
    )
    return {
        "Credentials": {
            "AccessKeyId": access_key_id,
            "SecretAccessKey": secret_key,
            "SessionToken": token,
            "Expiration": expires_at,
        },
        "AssumedRoleUser": {
            "AssumedRoleId": f"{role.role_id}:{session_name}",
            "Arn": assumed_role_arn(role.arn, session_name),
        },
    }


HANDLERS: dict[str, Handler] = {"AssumeRole": assume_role, "GetCallerIdentity": get_caller_identity}
RESOURCES = {"AssumeRole": lambda call: str(call.params["RoleArn"])}
ALWAYS_ALLOWED = frozenset({"GetCallerIdentity"})  # even to those whom a policy denies it
