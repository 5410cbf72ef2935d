from __future__ import annotations

import json
from typing import Any

import pytest

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.services import roles
from nearpoint.stack.services.context import Context

READ = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*"}]}
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"


async def test_a_new_role_has_its_policies_once(context: Context, trust: dict[str, Any]) -> None:
    role = await roles.create_role(
        context,
        name="edge",
        path="/app/",
        trust=json.dumps(trust),
        inline_policies={"read": READ},
        managed_policy_arns=[BASIC, BASIC],
    )
    assert role.arn == "arn:aws:iam::123456789012:role/app/edge"
    assert role.role_id.startswith("AROA")
    assert len(role.role_id) == 21
    assert role.managed_policy_arns == (BASIC,)
    assert roles.find_by_arn(context.state, role.arn) == role
    assert roles.find_by_arn(context.state, "arn:aws:iam::123456789012:role/edge") is None
    actions = [statement["Action"] for document in roles.policy_documents(role) for statement in document["Statement"]]
    assert "s3:GetObject" in actions
    assert ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"] in actions


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": "a b"}, "ValidationError"),
        ({"name": "a" * 65}, "ValidationError"),
        ({"name": "EDGE"}, "EntityAlreadyExists"),
        ({"path": "app"}, "ValidationError"),
        ({"max_session_duration_s": 60}, "ValidationError"),
        ({"managed_policy_arns": ["arn:aws:iam::aws:policy/Nothing"]}, "NoSuchEntity"),
        ({"trust": "{"}, "MalformedPolicyDocument"),
        ({"trust": READ}, "MalformedPolicyDocument"),
        ({"inline_policies": {"p": {"Statement": []}}}, "MalformedPolicyDocument"),
        ({"inline_policies": {"a b": READ}}, "ValidationError"),
        (
            {
                "inline_policies": {
                    name: {"Statement": {"Effect": "Allow", "Action": ["s3:x" + "y" * 6000], "Resource": "*"}}
                    for name in "ab"
                }
            },
            "LimitExceeded",
        ),
    ],
)
async def test_refusals(context: Context, trust: dict[str, Any], changes: dict[str, Any], code: str) -> None:
    await roles.create_role(context, name="edge", trust=trust)
    with pytest.raises(AwsError) as refused:
        await roles.create_role(context, **({"name": "other", "trust": trust} | changes))
    assert refused.value.code == code


async def test_a_role_with_policies_is_not_deleted_by_accident(context: Context, trust: dict[str, Any]) -> None:
    await roles.create_role(context, name="edge", trust=trust, inline_policies={"read": READ})
    with pytest.raises(AwsError, match="DeleteConflict"):
        await roles.delete_role(context, "edge")
    await roles.update_role(context, "edge", inline_policies={})
    await roles.delete_role(context, "edge")
    with pytest.raises(AwsError, match="NoSuchEntity"):
        await roles.delete_role(context, "edge")
