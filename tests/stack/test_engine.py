from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.records import Stack
from nearpoint.stack.requests import StackRequest
from nearpoint.stack.services.context import Context
from nearpoint.state.resources import AccessPoint, Bucket, Distribution, Function, Role

World = Any  # tests/stack/conftest.py
MakeRole = Callable[..., dict[str, Any]]
EXAMPLE = Path(__file__).parents[2] / "examples" / "active-active" / "template.yaml"
IAM = ("CAPABILITY_IAM",)
TRUST = {"Statement": {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}}


async def test_the_application_comes_and_goes(world: World, application: dict[str, Any]) -> None:
    stack = await world.create(application)
    assert stack.status == "CREATE_COMPLETE"
    (distribution,) = world.context.state.list(Distribution)
    (point,) = world.context.state.list(AccessPoint)
    (role,) = world.context.state.list(Role)
    assert distribution.status == "Deployed"
    assert stack.outputs[0].value == distribution.domain
    assert distribution.config["Origins"][0]["DomainName"] == f"{point.alias}.accesspoint.s3-global.amazonaws.com"
    assert role.name.startswith("app-SignRole-")
    assert point.name.startswith("app-point-")
    behavior = distribution.config["DefaultCacheBehavior"]
    assert behavior["LambdaFunctionAssociations"][0]["LambdaFunctionARN"].endswith(":1")

    statuses = world.statuses(stack)
    assert statuses[0] == ("app", "CREATE_IN_PROGRESS")
    assert statuses[-1] == ("app", "CREATE_COMPLETE")
    done = [name for name, status in statuses if status == "CREATE_COMPLETE"]
    assert done.index("SignRole") < done.index("Sign") < done.index("SignVersion") < done.index("Edge")
    assert done.index("Point") < done.index("Edge")
    assert ("Sign", "CREATE_IN_PROGRESS", "Resource creation Initiated") in world.events(stack)

    stack = await world.delete(stack)
    assert stack.status == "DELETE_COMPLETE"
    assert world.left() == []
    gone = [name for name, status in world.statuses(stack) if status == "DELETE_COMPLETE"]
    assert gone.index("Edge") < gone.index("SignVersion") < gone.index("Sign") < gone.index("SignRole")
    assert list(world.context.packages_dir.iterdir()) == []
    assert world.engine.ledger.find("us-east-1", "app") is None
    assert world.engine.ledger.find("us-east-1", stack.arn) == stack


@pytest.mark.skipif(not EXAMPLE.exists(), reason="the example is not there")
async def test_the_example(world: World) -> None:
    parameters = {"CodeBucket": "code", "FirstBucket": "data-us", "SecondBucket": "data-eu"}
    stack = await world.create(EXAMPLE.read_text(), parameters=parameters)
    assert stack.status == "CREATE_COMPLETE", world.events(stack)
    outputs = {output.key: output.value for output in stack.outputs}
    (distribution,) = world.context.state.list(Distribution)
    assert outputs["Url"] == f"https://{distribution.domain}"
    assert (await world.delete(stack)).status == "DELETE_COMPLETE"
    assert world.left() == []


async def test_a_failing_resource_is_rolled_back(world: World, application: dict[str, Any]) -> None:
    template = copy.deepcopy(application)
    template["Resources"]["Sign"]["Properties"]["Code"]["S3Key"] = "nothing.zip"
    stack = await world.create(template)
    assert stack.status == "ROLLBACK_COMPLETE"
    assert world.left() == []
    reason = world.reason(stack, "Sign", "CREATE_FAILED")
    assert 'Resource handler returned message: "Error occurred while GetObject. S3 Error Code: NoSuchKey.' in reason
    assert "HandlerErrorCode: InvalidRequest)" in reason
    assert world.reason(stack, "app", "ROLLBACK_IN_PROGRESS") == (
        "The following resource(s) failed to create: [Sign]. Rollback requested by user."
    )
    assert ("SignRole", "DELETE_COMPLETE") in world.statuses(stack)
    assert ("Edge", "CREATE_IN_PROGRESS") not in world.statuses(stack)
    with pytest.raises(AwsError, match="AlreadyExistsException"):
        await world.create(application)
    await world.delete(stack)
    assert (await world.create(application)).status == "CREATE_COMPLETE"


async def test_what_is_under_way_is_cancelled(world: World, application: dict[str, Any], role: MakeRole) -> None:
    world.nodes.clear()  # the distribution waits for them
    template = copy.deepcopy(application)
    del template["Resources"]["Edge"]["Properties"]["DistributionConfig"]["DefaultCacheBehavior"][
        "LambdaFunctionAssociations"
    ]
    template["Resources"]["Sign"]["DependsOn"] = "Late"
    template["Resources"]["Late"] = role()
    template["Resources"]["Sign"]["Properties"]["Surprise"] = 1
    stack = await world.create(template)
    assert stack.status == "ROLLBACK_COMPLETE"
    assert world.reason(stack, "Edge", "CREATE_FAILED") == "Resource creation cancelled"
    assert world.reason(stack, "Sign", "CREATE_FAILED") == "Encountered unsupported property Surprise"
    assert "[Edge, Sign]" in world.reason(stack, "app", "ROLLBACK_IN_PROGRESS")
    assert world.left() == []


async def test_do_nothing_leaves_what_was_made(world: World, application: dict[str, Any]) -> None:
    template = copy.deepcopy(application)
    template["Resources"]["Sign"]["Properties"]["Runtime"] = "cobol"
    stack = await world.create(template, on_failure="DO_NOTHING")
    assert stack.status == "CREATE_FAILED"
    assert stack.status_reason == "The following resource(s) failed to create: [Sign]."
    assert len(world.context.state.list(Role)) == 1
    assert (await world.delete(stack)).status == "DELETE_COMPLETE"
    assert world.left() == []


async def test_delete_on_failure(world: World, application: dict[str, Any]) -> None:
    template = copy.deepcopy(application)
    template["Resources"]["Sign"]["Properties"]["Runtime"] = "cobol"
    stack = await world.create(template, on_failure="DELETE")
    assert stack.status == "DELETE_COMPLETE"
    assert world.left() == []


@pytest.mark.parametrize(
    ("resource", "text"),
    [
        ({"Type": "AWS::IAM::Role", "Properties": {}}, "Property AssumeRolePolicyDocument cannot be empty."),
        (
            {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST, "MaxSessionDuration": "x"}},
            "Value of property MaxSessionDuration must be of type Integer",
        ),
        (
            {
                "Type": "AWS::IAM::Role",
                "Properties": {"AssumeRolePolicyDocument": TRUST, "ManagedPolicyArns": ["arn:aws:iam::aws:policy/No"]},
            },
            "Policy arn:aws:iam::aws:policy/No does not exist or is not attachable. "
            "(Service: IAM, Error Code: NoSuchEntity, Status Code: 404",
        ),
        (
            {"Type": "AWS::S3::MultiRegionAccessPoint", "Properties": {"Regions": [{"Bucket": "nowhere"}]}},
            "HandlerErrorCode: NotFound",
        ),
        (
            {"Type": "AWS::S3::Bucket", "Properties": {"LoggingConfiguration": {"LogFilePrefix": "x"}}},
            "Property LoggingConfiguration is not supported by Nearpoint yet",
        ),
        (
            {
                "Type": "AWS::CloudFront::Distribution",
                "Properties": {"DistributionConfig": {"Enabled": True, "Origins": []}},
            },
            "HandlerErrorCode: InvalidRequest",
        ),
        (
            {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": "nothing"}},
            "Function not found",
        ),
        (
            {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": {"Fn::Select": [5, ["a"]]}}},
            "Template error: Fn::Select cannot select nonexistent value at index 5",
        ),
    ],
)
async def test_reasons(world: World, resource: dict[str, Any], text: str) -> None:
    stack = await world.create({"Resources": {"Thing": resource}})
    assert stack.status == "ROLLBACK_COMPLETE"
    assert text in world.reason(stack, "Thing", "CREATE_FAILED")


async def test_what_was_there_before_survives_a_rollback(world: World, context: Context, role: MakeRole) -> None:
    await world.create({"Resources": {"One": role()}}, name="owner")
    (mine,) = context.state.list(Role)
    template = {"Resources": {"Two": role()}}
    template["Resources"]["Two"]["Properties"]["RoleName"] = mine.name
    stack = await world.create(template, capabilities=("CAPABILITY_NAMED_IAM",))
    assert stack.status == "ROLLBACK_COMPLETE"
    assert "HandlerErrorCode: AlreadyExists" in world.reason(stack, "Two", "CREATE_FAILED")
    assert context.state.list(Role) == [mine]


async def test_capabilities(world: World, role: MakeRole) -> None:
    with pytest.raises(AwsError) as refused:
        await world.create({"Resources": {"R": role()}}, capabilities=())
    assert refused.value.code == "InsufficientCapabilitiesException"
    assert refused.value.message == "Requires capabilities : [CAPABILITY_IAM]"
    named = {"Resources": {"R": role()}}
    named["Resources"]["R"]["Properties"]["RoleName"] = "mine"
    with pytest.raises(AwsError, match="CAPABILITY_NAMED_IAM"):
        await world.create(named)
    assert (await world.create(named, capabilities=("CAPABILITY_NAMED_IAM",))).status == "CREATE_COMPLETE"


async def test_names_are_unique_in_a_region_and_the_token_makes_it_the_same_call(world: World, role: MakeRole) -> None:
    template = {"Resources": {"R": role()}}
    first = await world.create(template, client_request_token="t1")
    again = await world.create(template, client_request_token="t1")
    assert again.uuid == first.uuid
    with pytest.raises(AwsError) as refused:
        await world.create(template, client_request_token="t2")
    assert refused.value.message == "Stack [app] already exists"
    elsewhere = await world.create(template, region="eu-west-1")
    assert elsewhere.uuid != first.uuid
    for name in ("1app", "a_b", "", "x" * 129):
        with pytest.raises(AwsError, match="stackName"):
            await world.create(template, name=name)


async def test_deletion_policies(world: World, context: Context, role: MakeRole) -> None:
    template = {"Resources": {name: role() for name in ("Keep", "KeepUnlessNew", "Drop")}}
    template["Resources"]["Keep"]["DeletionPolicy"] = "Retain"
    template["Resources"]["KeepUnlessNew"]["DeletionPolicy"] = "RetainExceptOnCreate"
    stack = await world.delete(await world.create(template))
    assert stack.status == "DELETE_COMPLETE"
    assert {role.name.split("-")[1] for role in context.state.list(Role)} == {"Keep", "KeepUnlessNew"}
    assert ("Keep", "DELETE_SKIPPED") in world.statuses(stack)

    template["Resources"]["Bad"] = {"Type": "AWS::IAM::Role", "DependsOn": ["Keep", "KeepUnlessNew", "Drop"]}
    stack = await world.create(template, name="other")
    assert stack.status == "ROLLBACK_COMPLETE"
    names = [role.name for role in context.state.list(Role) if role.name.startswith("other")]
    assert [name.split("-")[1] for name in names] == ["Keep"]


async def test_a_full_bucket_stops_the_deletion_until_it_is_retained(world: World, role: MakeRole) -> None:
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "full-bucket"}}
    user = role()
    user["DependsOn"] = "Store"
    stack = await world.create({"Resources": {"Store": bucket, "User": user}})
    world.buckets.full.add("full-bucket")
    stack = await world.delete(stack)
    assert stack.status == "DELETE_FAILED"
    assert stack.status_reason == "The following resource(s) failed to delete: [Store]."
    assert world.left() == []
    assert "BucketNotEmpty" in world.reason(stack, "Store", "DELETE_FAILED")
    with pytest.raises(AwsError, match="no resources"):
        await world.delete(stack, retain=("Nothing",))
    stack = await world.delete(stack, retain=("Store",))
    assert stack.status == "DELETE_COMPLETE"
    assert world.context.state.get(Bucket, "full-bucket") is not None
    assert world.statuses(stack)[-2:] == [("Store", "DELETE_SKIPPED"), ("app", "DELETE_COMPLETE")]


async def test_exports_and_imports(world: World, role: MakeRole) -> None:
    exporter = {
        "Resources": {"R": role()},
        "Outputs": {
            "Arn": {"Value": {"Fn::GetAtt": ["R", "Arn"]}, "Export": {"Name": {"Fn::Sub": "${AWS::StackName}-arn"}}}
        },
    }
    importer = {
        "Resources": {
            "F": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "Code": {"ZipFile": "def handler(event, context): return event"},
                    "Handler": "index.handler",
                    "Runtime": "python3.13",
                    "Role": {"Fn::ImportValue": "base-arn"},
                },
            }
        }
    }
    stack = await world.create(importer)
    assert stack.status == "ROLLBACK_COMPLETE"
    expected = "No export named base-arn found. Rollback requested by user."
    assert world.reason(stack, "app", "ROLLBACK_IN_PROGRESS") == expected
    await world.delete(stack)

    base = await world.create(exporter, name="base")
    assert world.engine.ledger.exports("us-east-1")["base-arn"][0] == base.outputs[0].value
    stack = await world.create(importer)
    assert stack.status == "CREATE_COMPLETE"
    with pytest.raises(AwsError, match="Export base-arn cannot be deleted as it is in use by app"):
        await world.delete(base)
    second = copy.deepcopy(exporter)
    second["Outputs"]["Arn"]["Export"]["Name"] = "base-arn"
    clash = await world.create(second, name="clash")
    assert clash.status == "ROLLBACK_COMPLETE"
    assert "already exported by stack base" in world.reason(clash, "clash", "ROLLBACK_IN_PROGRESS")
    await world.delete(stack)
    assert (await world.delete(base)).status == "DELETE_COMPLETE"


async def test_no_echo_is_masked(world: World, role: MakeRole) -> None:
    template = {
        "Parameters": {"Secret": {"Type": "String", "NoEcho": True}, "Plain": {"Type": "String", "Default": "x"}},
        "Resources": {"R": role()},
    }
    stack = await world.create(template, parameters={"Secret": "hush"})
    assert stack.shown_parameters == {"Secret": "****", "Plain": "x"}


async def test_deleting_while_creating(world: World, application: dict[str, Any]) -> None:
    world.nodes.clear()
    request = StackRequest(name="app", region="us-east-1", template=json.dumps(application), capabilities=IAM)
    stack = await world.engine.create(request)
    made = asyncio.Event()
    world.context.state.on_change(lambda: made.set() if world.context.state.list(Distribution) else None)
    await made.wait()
    stack = await world.delete(stack)
    assert stack.status == "DELETE_COMPLETE"
    assert world.left() == []
    assert world.reason(stack, "Edge", "CREATE_FAILED") == "Resource creation cancelled"


async def test_a_time_out_rolls_back(world: World, clock: Any, application: dict[str, Any]) -> None:
    world.nodes.clear()
    request = StackRequest(
        name="app", region="us-east-1", template=json.dumps(application), capabilities=IAM, timeout_minutes=1
    )
    # The stack was asked for 59.9 s ago when its making starts.
    put_stack = world.engine.ledger.put_stack

    async def slow(stack: Stack, **kwargs: Any) -> None:
        await put_stack(stack, **kwargs)
        clock.time_s += 59.9

    world.engine.ledger.put_stack = slow  # type: ignore[method-assign]
    created = await world.engine.create(request)
    world.engine.ledger.put_stack = put_stack  # type: ignore[method-assign]
    stack = await world.engine.settled(created.uuid)
    assert stack.status == "ROLLBACK_COMPLETE"
    assert "exceeded the specified timeout" in world.reason(stack, "app", "ROLLBACK_IN_PROGRESS")
    assert world.left() == []


async def test_termination_protection(world: World, role: MakeRole) -> None:
    stack = await world.create({"Resources": {"R": role()}}, termination_protection=True)
    with pytest.raises(AwsError, match="TerminationProtection"):
        await world.delete(stack)
    await world.engine.protect("us-east-1", "app", protection=False)
    assert (await world.delete(stack)).status == "DELETE_COMPLETE"


async def test_deleting_what_is_not_there_is_fine(world: World) -> None:
    await world.engine.delete("us-east-1", "nothing")
    with pytest.raises(AwsError, match=r"Stack \[nothing\] does not exist"):
        world.engine.find("us-east-1", "nothing")


async def test_a_kill_at_any_write_of_a_creation(kill_everywhere: Any, application: dict[str, Any]) -> None:
    async def nothing(world: World) -> None:
        return

    async def create(world: World) -> None:
        await world.create(application)

    async def check(world: World) -> None:
        stack = world.engine.ledger.find("us-east-1", "app")
        if stack is None:  # killed before the call was answered
            assert world.left() == []
            return
        assert stack.status == "CREATE_COMPLETE", [each for each in world.events(stack) if each[2]]
        made = [len(world.context.state.list(kind)) for kind in (Role, AccessPoint, Distribution, Function)]
        assert made == [1, 1, 1, 2]
        stack = await world.delete(stack)
        assert stack.status == "DELETE_COMPLETE"
        assert world.left() == []

    assert await kill_everywhere(nothing, create, check) > 30


async def test_a_kill_at_any_write_of_a_rollback(kill_everywhere: Any, application: dict[str, Any]) -> None:
    application["Resources"]["Edge"]["Properties"]["DistributionConfig"]["Origins"] = []

    async def nothing(world: World) -> None:
        return

    async def create(world: World) -> None:
        await world.create(application)

    async def check(world: World) -> None:
        stack = world.engine.ledger.find("us-east-1", "app")
        if stack is not None:
            assert stack.status == "ROLLBACK_COMPLETE"
        assert world.left() == []

    assert await kill_everywhere(nothing, create, check) > 30


async def test_a_kill_at_any_write_of_a_deletion(kill_everywhere: Any, application: dict[str, Any]) -> None:
    async def create(world: World) -> None:
        await world.create(application)

    async def delete(world: World) -> None:
        await world.delete(world.engine.find("us-east-1", "app"))

    async def check(world: World) -> None:
        stack = world.engine.ledger.find("us-east-1", "app")
        if stack is None:
            assert world.left() == []
        else:  # killed before the call was answered
            assert stack.status == "CREATE_COMPLETE"
            assert len(world.left()) == 5

    assert await kill_everywhere(create, delete, check) > 15
