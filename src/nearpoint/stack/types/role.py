"""`AWS::IAM::Role`: Ref is the name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.stack.intrinsics import Made
from nearpoint.stack.schema import TAGS, Document, Fields, Items, Text, Whole, tags_of
from nearpoint.stack.services import roles
from nearpoint.stack.types.base import Immediate, Means, Naming
from nearpoint.state.resources import Role as RoleResource


def _made(role: RoleResource) -> Made:
    return Made(ref=role.name, attributes={"Arn": role.arn, "RoleId": role.role_id})


def _inline(properties: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["PolicyName"]: each["PolicyDocument"] for each in properties.get("Policies", ())}


class Role(Immediate):
    name = "AWS::IAM::Role"
    properties = Fields(
        {
            "AssumeRolePolicyDocument": Document(),
            "Description": Text(length_max=1000),
            "ManagedPolicyArns": Items(Text(length_max=2048)),
            "MaxSessionDuration": Whole(*roles.SESSION_S),
            "Path": Text(length_max=512),
            "Policies": Items(
                Fields(
                    {"PolicyName": Text(length_max=128), "PolicyDocument": Document()}, ("PolicyName", "PolicyDocument")
                )
            ),
            "RoleName": Text(length_min=1, length_max=64),
            "Tags": TAGS,
        },
        ("AssumeRolePolicyDocument",),
        ("PermissionsBoundary",),
    )
    attributes = frozenset(("Arn", "RoleId"))
    replacing = frozenset(("RoleName", "Path"))

    def capability(self, properties: Mapping[str, Any]) -> str | None:
        return "CAPABILITY_NAMED_IAM" if "RoleName" in properties else "CAPABILITY_IAM"

    def physical_id(self, naming: Naming, properties: Mapping[str, Any], means: Means) -> str:
        return str(properties["RoleName"]) if "RoleName" in properties else naming.of_length(64)

    def exists(self, physical_id: str, means: Means) -> Made | None:
        role = means.services.state.get(RoleResource, physical_id)
        return None if role is None else _made(role)

    async def create(self, physical_id: str, properties: dict[str, Any], means: Means) -> Made:
        role = await roles.create_role(
            means.services,
            name=physical_id,
            trust=properties["AssumeRolePolicyDocument"],
            path=properties.get("Path", "/"),
            inline_policies=_inline(properties),
            managed_policy_arns=properties.get("ManagedPolicyArns", ()),
            description=properties.get("Description", ""),
            max_session_duration_s=properties.get("MaxSessionDuration", roles.SESSION_S[0]),
            tags=tags_of(properties.get("Tags")),
        )
        return _made(role)

    async def update(self, physical_id: str, before: dict[str, Any], properties: dict[str, Any], means: Means) -> Made:
        role = await roles.update_role(
            means.services,
            physical_id,
            trust=properties["AssumeRolePolicyDocument"],
            inline_policies=_inline(properties),
            managed_policy_arns=properties.get("ManagedPolicyArns", ()),
            description=properties.get("Description", ""),
            max_session_duration_s=properties.get("MaxSessionDuration", roles.SESSION_S[0]),
            tags=tags_of(properties.get("Tags")),
        )
        return _made(role)

    async def delete(self, physical_id: str, properties: dict[str, Any], means: Means) -> None:
        if self.exists(physical_id, means) is not None:
            await roles.delete_role(means.services, physical_id, with_policies=True)
