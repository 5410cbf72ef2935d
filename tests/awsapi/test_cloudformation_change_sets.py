"""Change sets as boto3 and `aws cloudformation deploy` use them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from nearpoint.stack.engine import Engine
from nearpoint.stack.services.buckets import Buckets

World = Any  # tests/awsapi/conftest.py
Run = Callable[..., Any]
TRUST = {"Statement": {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}}
TEMPLATE = """
Parameters:
  Purpose: {Type: String, Default: signs}
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: TRUST
      Description: !Ref Purpose
Outputs:
  Arn: {Value: !GetAtt Role.Arn}
""".replace("TRUST", json.dumps(TRUST))


@pytest.fixture
async def cloudformation(world: World) -> AsyncIterator[Any]:
    buckets = Buckets(world.domain, world.stores)
    engine = Engine(world.domain, reader=buckets, buckets=buckets, published=world.context.published)
    world.context.parts[Engine] = engine
    yield world.client("cloudformation")
    await engine.close()


def asked(name: str = "first", **changes: Any) -> dict[str, Any]:
    given = {"StackName": "app", "ChangeSetName": name, "TemplateBody": TEMPLATE, "Capabilities": ["CAPABILITY_IAM"]}
    return given | changes


async def test_from_review_to_update(cloudformation: Any, call: Run) -> None:
    tags = [{"Key": "team", "Value": "edge"}]
    made = await call(
        cloudformation.create_change_set, **asked(ChangeSetType="CREATE", Description="to begin", Tags=tags)
    )
    assert made["Id"].startswith("arn:aws:cloudformation:us-east-1:123456789012:changeSet/first/")
    await call(cloudformation.get_waiter("change_set_create_complete").wait, ChangeSetName="first", StackName="app")
    shown = await call(cloudformation.describe_change_set, ChangeSetName=made["Id"])
    assert (shown["Status"], shown["ExecutionStatus"], shown["Description"]) == (
        "CREATE_COMPLETE", "AVAILABLE", "to begin",
    )  # fmt: skip
    assert shown["StackId"] == made["StackId"]
    assert shown["Tags"] == tags
    assert shown["Parameters"] == [{"ParameterKey": "Purpose", "ParameterValue": "signs"}]
    (change,) = shown["Changes"]
    assert change["ResourceChange"]["Action"] == "Add"
    assert "Replacement" not in change["ResourceChange"]
    (stack,) = (await call(cloudformation.describe_stacks, StackName="app"))["Stacks"]
    assert stack["StackStatus"] == "REVIEW_IN_PROGRESS"
    given = await call(cloudformation.get_template, StackName="app", ChangeSetName="first")
    assert given["TemplateBody"] == TEMPLATE

    await call(cloudformation.execute_change_set, ChangeSetName="first", StackName="app")
    await call(cloudformation.get_waiter("stack_create_complete").wait, StackName="app", WaiterConfig={"Delay": 1})
    (stack,) = (await call(cloudformation.describe_stacks, StackName="app"))["Stacks"]
    assert stack["ChangeSetId"] == made["Id"]
    assert stack["Tags"] == tags

    await call(
        cloudformation.create_change_set,
        StackName="app", ChangeSetName="second", UsePreviousTemplate=True, Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": "Purpose", "ParameterValue": "verifies"}],
    )  # fmt: skip
    shown = await call(cloudformation.describe_change_set, ChangeSetName="second", StackName="app")
    (change,) = shown["Changes"]
    assert change["ResourceChange"]["Replacement"] == "False"
    assert change["ResourceChange"]["Details"] == [
        {
            "Target": {"Attribute": "Properties", "Name": "Description", "RequiresRecreation": "Never"},
            "Evaluation": "Static",
            "ChangeSource": "ParameterReference",
            "CausingEntity": "Purpose",
        }
    ]
    names = [
        each["ChangeSetName"] for each in (await call(cloudformation.list_change_sets, StackName="app"))["Summaries"]
    ]
    assert names == ["first", "second"]
    await call(cloudformation.delete_change_set, ChangeSetName="second", StackName="app")
    with pytest.raises(ClientError) as refused:
        await call(cloudformation.describe_change_set, ChangeSetName="second", StackName="app")
    assert refused.value.response["Error"]["Code"] == "ChangeSetNotFound"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404


async def test_a_change_set_without_changes(cloudformation: Any, call: Run) -> None:
    await call(cloudformation.create_stack, StackName="app", TemplateBody=TEMPLATE, Capabilities=["CAPABILITY_IAM"])
    await call(cloudformation.get_waiter("stack_create_complete").wait, StackName="app", WaiterConfig={"Delay": 1})
    await call(cloudformation.create_change_set, **asked())
    with pytest.raises(WaiterError):
        await call(cloudformation.get_waiter("change_set_create_complete").wait, ChangeSetName="first", StackName="app")
    shown = await call(cloudformation.describe_change_set, ChangeSetName="first", StackName="app")
    assert (shown["Status"], shown["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert shown["StatusReason"] == (
        "The submitted information didn't contain changes. Submit different information to create a change set."
    )


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"ChangeSetType": "IMPORT"}, "ValidationError", "ChangeSetType IMPORT"),
        ({"ChangeSetType": "UPDATE"}, "ValidationError", "does not exist"),
        ({"ChangeSetType": "CREATE", "TemplateBody": "{}"}, "ValidationError", "Resources"),
        ({"ChangeSetType": "CREATE", "Capabilities": []}, "InsufficientCapabilitiesException", "CAPABILITY_IAM"),
        ({"ChangeSetType": "CREATE", "ChangeSetName": "1st"}, "ValidationError", "changeSetName"),
        ({"ChangeSetType": "CREATE", "OnStackFailure": "PRAY"}, "ValidationError", "OnStackFailure"),
        ({"ChangeSetType": "CREATE", "ImportExistingResources": True}, "ValidationError", "ImportExistingResources"),
    ],
)
async def test_refused(cloudformation: Any, call: Run, changes: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(ClientError, match=words) as refused:
        await call(cloudformation.create_change_set, **asked(**changes))
    assert refused.value.response["Error"]["Code"] == code
    assert (await call(cloudformation.describe_stacks))["Stacks"] == []


@pytest.mark.skipif(not Path(sys.executable).with_name("aws").exists(), reason="the AWS CLI is not installed")
async def test_the_cli_deploys(cloudformation: Any, world: World, tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text(TEMPLATE)
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": "AKIAROOTROOTROOTROOT",
        "AWS_SECRET_ACCESS_KEY": "root-secret",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{world.port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_PAGER": "",
    }

    async def deploy(*arguments: str) -> tuple[int | None, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(sys.executable).with_name("aws")),
            "cloudformation", "deploy", "--stack-name", "app", "--template-file", str(template),
            "--capabilities", "CAPABILITY_IAM", *arguments,
            env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        text = (await process.communicate())[0].decode()
        await asyncio.sleep(1.0)  # the CLI names its change sets by the second
        return process.returncode, text

    async def done(*arguments: str) -> str:
        code, text = await deploy(*arguments)
        assert not code, text
        return text

    assert "describe-change-set" in await done("--no-execute-changeset")
    assert "Successfully created/updated stack - app" in await done()
    assert "No changes to deploy" in await done("--no-fail-on-empty-changeset")
    assert "Successfully created/updated stack - app" in await done("--parameter-overrides", "Purpose=verifies")
    role = world.state.list(type(await world.role("x")))
    assert "verifies" in {each.description for each in role}
