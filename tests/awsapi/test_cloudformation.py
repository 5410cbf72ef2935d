"""CloudFormation as boto3 and the AWS CLI see it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from nearpoint.awsproto import AwsError
from nearpoint.stack.engine import Engine
from nearpoint.stack.services.buckets import Buckets
from nearpoint.stack.template_url import template_location

World = Any  # tests/awsapi/conftest.py
Run = Callable[..., Any]
TRUST = {
    "Statement": {
        "Effect": "Allow",
        "Principal": {"Service": ["lambda.amazonaws.com", "edgelambda.amazonaws.com"]},
        "Action": "sts:AssumeRole",
    }
}
TEMPLATE = """
AWSTemplateFormatVersion: 2010-09-09
Description: A role and a function
Parameters:
  CodeBucket: {Type: String, Description: where the code is}
  Secret: {Type: String, NoEcho: true, Default: hush}
  Size: {Type: Number, Default: 128, AllowedValues: [128, 256]}
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: TRUST
  Sign:
    Type: AWS::Lambda::Function
    Properties:
      Runtime: python3.13
      Handler: index.handler
      Role: !GetAtt Role.Arn
      MemorySize: !Ref Size
      Code: {S3Bucket: !Ref CodeBucket, S3Key: a/function.zip}
Outputs:
  Arn:
    Description: the function
    Value: !GetAtt Sign.Arn
    Export: {Name: !Sub "${AWS::StackName}-sign"}
""".replace("TRUST", json.dumps(TRUST))


@pytest.fixture
async def cloudformation(world: World, call: Run) -> AsyncIterator[Any]:
    buckets = Buckets(world.domain, world.stores)
    engine = Engine(world.domain, reader=buckets, buckets=buckets, published=world.context.published)
    world.context.parts[Engine] = engine
    s3 = world.client("s3")
    await call(s3.create_bucket, Bucket="code")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("index.py", "def handler(event, context): return event")
    await call(s3.put_object, Bucket="code", Key="a/function.zip", Body=data.getvalue())
    yield world.client("cloudformation")
    await engine.close()


def asked(**changes: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"StackName": "app", "TemplateBody": TEMPLATE, "Capabilities": ["CAPABILITY_IAM"]}
    given["Parameters"] = [{"ParameterKey": "CodeBucket", "ParameterValue": "code"}]
    return given | changes


async def wait(call: Run, client: Any, waiter: str, name: str = "app") -> None:
    await call(client.get_waiter(waiter).wait, StackName=name, WaiterConfig={"Delay": 0, "MaxAttempts": 500})


async def refused(call: Run, function: Any, **params: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        await call(function, **params)
    details = error.value.response["Error"]
    return details["Code"], details["Message"]


async def test_the_life_of_a_stack(cloudformation: Any, call: Run, world: World) -> None:
    client = cloudformation
    arn = (await call(client.create_stack, **asked(Tags=[{"Key": "team", "Value": "edge"}])))["StackId"]
    assert arn.startswith("arn:aws:cloudformation:us-east-1:123456789012:stack/app/")
    await wait(call, client, "stack_create_complete")
    for name in ("app", arn):
        (stack,) = (await call(client.describe_stacks, StackName=name))["Stacks"]
        assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert stack["Description"] == "A role and a function"
    assert {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]} == {
        "CodeBucket": "code",
        "Secret": "****",
        "Size": "128",
    }
    function_arn = "arn:aws:lambda:us-east-1:123456789012:function:app-Sign-"
    (output,) = stack["Outputs"]
    assert output["OutputValue"].startswith(function_arn)
    assert (output["ExportName"], output["Description"]) == ("app-sign", "the function")
    assert stack["Tags"] == [{"Key": "team", "Value": "edge"}]

    events = (await call(client.describe_stack_events, StackName="app"))["StackEvents"]
    assert events[0]["ResourceStatus"] == "CREATE_COMPLETE"
    assert events[0]["PhysicalResourceId"] == arn
    assert events[-1]["ResourceStatusReason"] == "User Initiated"
    assert len({event["EventId"] for event in events}) == len(events)
    made = next(event for event in events if event["LogicalResourceId"] == "Sign")
    assert json.loads(made["ResourceProperties"])["MemorySize"] == 128
    assert "ResourceProperties" not in events[0]
    resources = (await call(client.describe_stack_resources, StackName="app"))["StackResources"]
    assert {each["LogicalResourceId"]: each["ResourceStatus"] for each in resources} == {
        "Role": "CREATE_COMPLETE",
        "Sign": "CREATE_COMPLETE",
    }
    physical = resources[1]["PhysicalResourceId"]
    by_physical = await call(client.describe_stack_resources, PhysicalResourceId=physical)
    assert by_physical["StackResources"][0]["StackName"] == "app"
    detail = await call(client.describe_stack_resource, StackName="app", LogicalResourceId="Sign")
    assert detail["StackResourceDetail"]["PhysicalResourceId"] == physical
    listed = await call(client.list_stack_resources, StackName="app")
    assert [each["LogicalResourceId"] for each in listed["StackResourceSummaries"]] == ["Role", "Sign"]
    assert (await call(client.get_template, StackName="app"))["TemplateBody"] == TEMPLATE
    (export,) = (await call(client.list_exports))["Exports"]
    assert export == {"ExportingStackId": arn, "Name": "app-sign", "Value": output["OutputValue"]}
    elsewhere = world.client("cloudformation", "eu-west-1")
    assert (await call(elsewhere.describe_stacks))["Stacks"] == []
    assert (await call(elsewhere.list_exports))["Exports"] == []

    await call(client.delete_stack, StackName="app")
    await wait(call, client, "stack_delete_complete")
    assert await refused(call, client.describe_stacks, StackName="app") == (
        "ValidationError",
        "Stack with id app does not exist",
    )
    (stack,) = (await call(client.describe_stacks, StackName=arn))["Stacks"]
    assert stack["StackStatus"] == "DELETE_COMPLETE"
    assert "DeletionTime" in stack
    (summary,) = (await call(client.list_stacks, StackStatusFilter=["DELETE_COMPLETE"]))["StackSummaries"]
    assert summary["StackId"] == arn
    assert (await call(client.list_stacks, StackStatusFilter=["CREATE_COMPLETE"]))["StackSummaries"] == []
    await call(client.delete_stack, StackName="app")


async def test_an_update(cloudformation: Any, call: Run) -> None:
    client = cloudformation
    await call(client.create_stack, **asked())
    await wait(call, client, "stack_create_complete")
    kept = [{"ParameterKey": "CodeBucket", "UsePreviousValue": True}]
    update: dict[str, Any] = {"StackName": "app", "UsePreviousTemplate": True, "Capabilities": ["CAPABILITY_IAM"]}
    assert await refused(call, client.update_stack, **update, Parameters=kept) == (
        "ValidationError",
        "No updates are to be performed.",
    )
    parameters = [*kept, {"ParameterKey": "Size", "ParameterValue": "256"}]
    await call(client.update_stack, **update, Parameters=parameters)
    await wait(call, client, "stack_update_complete")
    (stack,) = (await call(client.describe_stacks, StackName="app"))["Stacks"]
    assert stack["StackStatus"] == "UPDATE_COMPLETE"
    assert "LastUpdatedTime" in stack


async def test_a_template_from_s3(cloudformation: Any, call: Run, world: World) -> None:
    await call(world.client("s3").put_object, Bucket="code", Key="t/app.yaml", Body=TEMPLATE.encode())
    given = asked(TemplateURL="https://code.s3.us-east-1.amazonaws.com/t/app.yaml")
    del given["TemplateBody"]
    await call(cloudformation.create_stack, **given)
    await wait(call, cloudformation, "stack_create_complete")
    given["TemplateURL"] = "https://s3.amazonaws.com/code/none.yaml"
    code, message = await refused(call, cloudformation.create_stack, **given)
    assert (code, message[:9]) == ("ValidationError", "S3 error:")
    await call(world.client("s3").put_object, Bucket="code", Key="t/large.yaml", Body=b"#" * 1_000_001)
    given["TemplateURL"] = "https://code.s3.amazonaws.com/t/large.yaml"
    assert await refused(call, cloudformation.create_stack, **given) == (
        "ValidationError", "Template may not exceed 1000000 bytes in size.",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://b-1.s3.amazonaws.com/k/t.yaml", ("b-1", "k/t.yaml", None)),
        ("https://b.c.s3.eu-west-1.amazonaws.com/a%20b", ("b.c", "a b", None)),
        ("https://s3.eu-west-1.amazonaws.com/bkt/k?versionId=v1", ("bkt", "k", "v1")),
        ("https://s3-eu-west-1.amazonaws.com/bkt/k", ("bkt", "k", None)),
        ("http://bkt.s3.amazonaws.com/k", None),
        ("https://example.com/k", None),
        ("https://bkt.s3.amazonaws.com.example.com/k", None),
        ("https://bkt.s3.amazonaws.com/", None),
        ("file:///etc/passwd", None),
        ("https://s3.amazonaws.com/bkt", None),
    ],
)
def test_template_urls(url: str, location: tuple[str, str, str | None] | None) -> None:
    if location is None:
        with pytest.raises(AwsError, match="TemplateURL"):
            template_location(url)
    else:
        assert template_location(url) == location


async def test_a_failure_is_told(cloudformation: Any, call: Run, world: World) -> None:
    client = cloudformation
    wrong = [{"ParameterKey": "CodeBucket", "ParameterValue": "nowhere"}]
    await call(client.create_stack, **asked(Parameters=wrong))
    with pytest.raises(WaiterError, match="ROLLBACK"):
        await wait(call, client, "stack_create_complete")
    engine = world.context.part(Engine)
    stack = await engine.settled(engine.find("us-east-1", "app").uuid)
    assert stack.status == "ROLLBACK_COMPLETE"
    events = (await call(client.describe_stack_events, StackName="app"))["StackEvents"]
    (reason,) = [
        event["ResourceStatusReason"]
        for event in events
        if event["LogicalResourceId"] == "Sign" and event["ResourceStatus"] == "CREATE_FAILED"
    ]
    assert "NoSuchBucket" in reason


@pytest.mark.parametrize(
    ("changes", "code", "text"),
    [
        ({"Capabilities": []}, "InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_IAM]"),
        ({"TemplateBody": "Resources: ["}, "ValidationError", "Template format error: YAML not well-formed. (line "),
        ({"TemplateBody": "x" * 51_201}, "ValidationError", "less than or equal to 51200"),
        ({"Parameters": []}, "ValidationError", "Parameters: [CodeBucket] must have values"),
        (
            {"Parameters": [{"ParameterKey": "X", "ParameterValue": "1"}]},
            "ValidationError",
            "Parameters: [X] do not exist in the template",
        ),
        ({"StackName": "a_b"}, "ValidationError", "stackName"),
        ({"StackPolicyBody": "{}"}, "ValidationError", "not supported"),
        ({"DisableRollback": True, "OnFailure": "DELETE"}, "ValidationError", "not both"),
        (
            {"TemplateBody": "Resources: {A: {Type: 'AWS::EC2::Instance'}}"},
            "ValidationError",
            "Template format error: Unrecognized resource types: [AWS::EC2::Instance]",
        ),
    ],
)
async def test_refusals(cloudformation: Any, call: Run, changes: dict[str, Any], code: str, text: str) -> None:
    got, message = await refused(call, cloudformation.create_stack, **asked(**changes))
    assert got == code
    assert text in message
    assert (await call(cloudformation.list_stacks))["StackSummaries"] == []


async def test_the_same_stack_twice(cloudformation: Any, call: Run) -> None:
    client = cloudformation
    first = await call(client.create_stack, **asked(ClientRequestToken="t"))
    assert (await call(client.create_stack, **asked(ClientRequestToken="t")))["StackId"] == first["StackId"]
    assert await refused(call, client.create_stack, **asked()) == (
        "AlreadyExistsException",
        "Stack [app] already exists",
    )


async def test_templates_are_judged_without_making_anything(cloudformation: Any, call: Run) -> None:
    told = await call(cloudformation.validate_template, TemplateBody=TEMPLATE)
    assert told["Capabilities"] == ["CAPABILITY_IAM"]
    assert [each["ParameterKey"] for each in told["Parameters"]] == ["CodeBucket", "Secret", "Size"]
    assert told["Parameters"][1]["NoEcho"]
    summary = await call(cloudformation.get_template_summary, TemplateBody=TEMPLATE)
    assert summary["ResourceTypes"] == ["AWS::IAM::Role", "AWS::Lambda::Function"]
    code, message = await refused(
        call, cloudformation.validate_template, TemplateBody="Resources: {A: {Type: AWS::S3::Bucket, DependsOn: B}}"
    )
    assert (code, message) == (
        "ValidationError",
        "Template format error: Unresolved resource dependencies [B] in the Resources block of the template",
    )
    circle = "Resources: {A: {Type: AWS::S3::Bucket, DependsOn: B}, B: {Type: AWS::S3::Bucket, DependsOn: A}}"
    code, message = await refused(call, cloudformation.validate_template, TemplateBody=circle)
    assert (code, message) == ("ValidationError", "Circular dependency between resources: [A, B]")


@pytest.mark.parametrize(
    ("operation", "given", "words"),
    [
        ("describe_stacks", {}, "Stack with id none does not exist"),
        ("describe_stack_resources", {}, "Stack with id none does not exist"),
        ("list_stack_resources", {}, "Stack with id none does not exist"),
        ("get_template", {}, "Stack with id none does not exist"),
        ("describe_stack_events", {}, "Stack [none] does not exist"),
        ("update_stack", {"TemplateBody": TEMPLATE}, "Stack [none] does not exist"),
        ("cancel_update_stack", {}, "Stack [none] does not exist"),
        ("continue_update_rollback", {}, "Stack [none] does not exist"),
        ("create_change_set", {"TemplateBody": TEMPLATE, "ChangeSetName": "c"}, "Stack [none] does not exist"),
        ("describe_change_set", {"ChangeSetName": "c"}, "Stack [none] does not exist"),
    ],
)
async def test_a_stack_that_is_not_there(
    cloudformation: Any, call: Run, operation: str, given: dict[str, str], words: str
) -> None:
    answer = await refused(call, getattr(cloudformation, operation), StackName="none", **given)
    assert answer == ("ValidationError", words)


async def test_many_events_come_in_pages(cloudformation: Any, call: Run) -> None:
    roles = {
        f"R{number}": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST}}
        for number in range(40)
    }
    template = json.dumps({"Resources": roles})
    await call(cloudformation.create_stack, **asked(TemplateBody=template, Parameters=[]))
    await wait(call, cloudformation, "stack_create_complete")
    pages = await call(lambda: list(cloudformation.get_paginator("describe_stack_events").paginate(StackName="app")))
    events = [event for page in pages for event in page["StackEvents"]]
    assert len(pages) > 1
    assert len({event["EventId"] for event in events}) == len(events) == 2 + 3 * 40


async def test_events_do_not_tell_what_is_not_echoed(cloudformation: Any, call: Run) -> None:
    role = {"Type": "AWS::IAM::Role", "Properties": {
        "AssumeRolePolicyDocument": TRUST, "Description": {"Fn::Sub": "it is ${Secret}"}}}  # fmt: skip
    template = json.dumps({"Parameters": {"Secret": {"Type": "String", "NoEcho": True}}, "Resources": {"Role": role}})
    given = [{"ParameterKey": "Secret", "ParameterValue": "hush"}]
    await call(cloudformation.create_stack, **asked(TemplateBody=template, Parameters=given))
    await wait(call, cloudformation, "stack_create_complete")
    events = (await call(cloudformation.describe_stack_events, StackName="app"))["StackEvents"]
    assert "hush" not in json.dumps(events, default=str)
    (properties,) = {event["ResourceProperties"] for event in events if "ResourceProperties" in event}
    assert json.loads(properties)["Description"] == "****"


@pytest.mark.skipif(not Path(sys.executable).with_name("aws").exists(), reason="the AWS CLI is not installed")
async def test_the_cli(cloudformation: Any, world: World, tmp_path: Path) -> None:
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

    async def aws(*arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(sys.executable).with_name("aws")),
            *arguments,
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        text = (await process.communicate())[0].decode()
        assert process.returncode == 0, text
        return text

    await aws(
        *("cloudformation", "create-stack", "--stack-name", "app", "--template-body", f"file://{template}"),
        *("--parameters", "ParameterKey=CodeBucket,ParameterValue=code", "--capabilities", "CAPABILITY_IAM"),
    )
    await aws("cloudformation", "wait", "stack-create-complete", "--stack-name", "app")
    query = "Stacks[0].Outputs[?OutputKey=='Arn'].OutputValue"
    arn = await aws("cloudformation", "describe-stacks", "--stack-name", "app", "--query", query, "--output", "text")
    assert arn.startswith("arn:aws:lambda:us-east-1:123456789012:function:app-Sign-")
    await aws("cloudformation", "delete-stack", "--stack-name", "app")
    await aws("cloudformation", "wait", "stack-delete-complete", "--stack-name", "app")
