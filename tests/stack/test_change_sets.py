"""Change sets: what they show, what becomes of them, and that carrying one out is what an update is."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.change_sets import NO_CHANGES, ChangeSets, execution_status
from nearpoint.stack.changes import UNKNOWN
from nearpoint.stack.records import ChangeSet, Stack
from nearpoint.stack.requests import StackRequest
from nearpoint.state.resources import Function

World = Any  # tests/stack/conftest.py
KillEverywhere = Any


async def make(
    world: World, template: dict[str, Any], name: str = "first", kind: str = "UPDATE", **changes: Any
) -> tuple[ChangeSet, Stack]:
    given: dict[str, Any] = {"name": "app", "region": "us-east-1", "template": json.dumps(template)}
    request = StackRequest(**(given | {"capabilities": ("CAPABILITY_IAM",)} | changes))
    made: tuple[ChangeSet, Stack] = await ChangeSets(world.engine).create(request, name=name, kind=kind)
    return made


async def execute(world: World, name: str = "first", **changes: Any) -> Stack:
    stack = await ChangeSets(world.engine).execute("us-east-1", name, "app", **changes)
    settled: Stack = await world.engine.settled(stack.uuid)
    return settled


def actions(change_set: ChangeSet) -> dict[str, tuple[str, str | None]]:
    return {change.logical_id: (change.action, change.replacement) for change in change_set.changes}


async def test_a_creation(world: World, application: dict[str, Any]) -> None:
    made, stack = await make(world, application, kind="CREATE")
    assert (stack.status, made.status) == ("REVIEW_IN_PROGRESS", "CREATE_COMPLETE")
    assert actions(made) == dict.fromkeys(application["Resources"], ("Add", None))
    assert world.left() == []
    other, same = await make(world, application, "second", kind="CREATE")
    assert same.uuid == stack.uuid
    with pytest.raises(AwsError, match="already exists"):
        await make(world, application, "second", kind="CREATE")
    with pytest.raises(AwsError, match="is in REVIEW_IN_PROGRESS state and can not be updated"):
        await make(world, application, "third")

    stack = await execute(world)
    assert stack.status == "CREATE_COMPLETE", world.events(stack)
    assert stack.outputs[0].key == "Domain"
    assert [status for name, status in world.statuses(stack) if name == "app"] == [
        "REVIEW_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE",
    ]  # fmt: skip
    assert execution_status(made, stack) == "EXECUTE_COMPLETE"
    assert world.engine.ledger.change_set(other.uuid) is None
    with pytest.raises(AwsError, match="EXECUTE_COMPLETE") as refused:
        await execute(world)
    assert refused.value.code == "InvalidChangeSetStatus"
    with pytest.raises(AwsError, match="cannot be created again"):
        await make(world, application, "third", kind="CREATE")


async def test_a_stack_under_review_can_be_deleted(world: World, application: dict[str, Any]) -> None:
    await make(world, application, kind="CREATE")
    await ChangeSets(world.engine).delete("us-east-1", "first", "app")
    await ChangeSets(world.engine).delete("us-east-1", "first", "app")
    assert world.engine.find("us-east-1", "app").status == "REVIEW_IN_PROGRESS"
    _, stack = await make(world, application, kind="CREATE")
    assert (await world.delete(stack)).status == "DELETE_COMPLETE"
    assert world.context.state.list(ChangeSet) == []


async def test_nothing_to_do(world: World, application: dict[str, Any]) -> None:
    await world.create(application)
    made, stack = await make(world, application)
    assert (made.status, made.status_reason) == ("FAILED", NO_CHANGES)
    assert execution_status(made, stack) == "UNAVAILABLE"
    with pytest.raises(AwsError, match="UNAVAILABLE"):
        await execute(world)


async def test_new_code_follows_the_version_to_the_edge(
    world: World, application: dict[str, Any], zipped: Callable[[dict[str, str]], bytes]
) -> None:
    resources = application["Resources"]
    application["Parameters"] = {"Key": {"Type": "String", "Default": "function.zip"}, "Digest": {"Type": "String"}}
    resources["Sign"]["Properties"]["Code"]["S3Key"] = {"Ref": "Key"}
    resources["SignVersion"]["Properties"]["CodeSha256"] = {"Ref": "Digest"}
    first = world.objects.content["code", "function.zip"]
    second = world.objects.content["code", "second.zip"] = zipped({"index.py": "def handler(event, context): ..."})
    await world.create(application, parameters={"Digest": base64_sha256(first)})
    made, _ = await make(world, application, parameters={"Key": "second.zip", "Digest": base64_sha256(second)})
    assert actions(made) == {
        "Sign": ("Modify", "False"), "SignVersion": ("Modify", "True"), "Edge": ("Modify", "False"),
    }  # fmt: skip
    details = {change.logical_id: change.details for change in made.changes}
    (code,) = details["Sign"]
    assert (code.name, code.source, code.entity) == ("Code", "ParameterReference", "Key")
    (edge,) = details["Edge"]
    assert (edge.name, edge.evaluation, edge.source) == ("DistributionConfig", "Dynamic", "ResourceReference")
    assert (edge.entity, edge.recreation) == ("SignVersion", "Never")
    (version,) = details["SignVersion"]
    assert (version.recreation, version.evaluation) == ("Always", "Static")

    stack = await execute(world)
    assert stack.status == "UPDATE_COMPLETE", world.events(stack)
    assert [each.version for each in world.context.state.list(Function)] == ["$LATEST", "2"]
    done = {name for name, status in world.statuses(stack) if status == "UPDATE_COMPLETE"}
    assert done == {"app", *actions(made)}


def base64_sha256(data: bytes) -> str:
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


async def test_what_each_resource_goes_through(world: World, application: dict[str, Any], role: Any) -> None:
    resources = application["Resources"]
    resources["Old"] = role() | {"DeletionPolicy": "Retain"}
    resources["Named"] = role(RoleName="one")
    resources["Same"] = role()
    await world.create(application, capabilities=("CAPABILITY_NAMED_IAM",))
    del resources["Old"]
    resources["New"] = role()
    resources["Named"]["Properties"]["RoleName"] = "two"
    resources["Sign"]["Properties"]["Role"] = {"Fn::GetAtt": ["Named", "Arn"]}
    resources["SignRole"]["DeletionPolicy"] = "Retain"
    resources["SignRole"]["Properties"]["Tags"] = [{"Key": "a", "Value": "b"}]
    made, _ = await make(world, application, capabilities=("CAPABILITY_NAMED_IAM",))
    assert actions(made) == {
        "Named": ("Modify", "True"), "New": ("Add", None), "Old": ("Remove", None), "Sign": ("Modify", "False"),
        "SignRole": ("Modify", "False"),
    }  # fmt: skip
    by_name = {change.logical_id: change for change in made.changes}
    assert by_name["Old"].policy_action == "Retain"
    assert by_name["Named"].policy_action == "ReplaceAndDelete"
    assert by_name["SignRole"].scope == ["DeletionPolicy", "Tags"]
    assert by_name["Sign"].details[0].source == "ResourceAttribute"
    assert by_name["Sign"].details[0].entity == "Named.Arn"
    stack = await execute(world)
    assert stack.status == "UPDATE_COMPLETE", world.events(stack)
    again, _ = await make(world, application, "again", capabilities=("CAPABILITY_NAMED_IAM",))
    assert again.status == "FAILED"


async def test_a_replacement_that_hangs_on_a_new_name_is_conditional(world: World, role: Any) -> None:
    template = {"Resources": {"A": role(RoleName="one"), "B": role(Path={"Fn::Sub": "/${A}/"})}}
    await world.create(template, capabilities=("CAPABILITY_NAMED_IAM",))
    template["Resources"]["A"]["Properties"]["RoleName"] = "two"
    made, _ = await make(world, template, capabilities=("CAPABILITY_NAMED_IAM",))
    assert actions(made) == {"A": ("Modify", "True"), "B": ("Modify", "Conditional")}
    assert UNKNOWN not in json.dumps([change.physical_id for change in made.changes])


async def test_a_stack_that_moves_on_makes_its_change_sets_obsolete(world: World, application: dict[str, Any]) -> None:
    await world.create(application)
    application["Resources"]["SignRole"]["Properties"]["Description"] = "one"
    made, _ = await make(world, application)
    application["Resources"]["SignRole"]["Properties"]["Description"] = "two"
    stack = await world.update(application)
    assert execution_status(made, stack) == "OBSOLETE"
    with pytest.raises(AwsError, match="does not exist"):
        await execute(world)


async def test_a_change_set_whose_stack_fails(world: World, application: dict[str, Any]) -> None:
    application["Resources"]["Sign"]["Properties"]["Code"]["S3Key"] = "nowhere.zip"
    made, _ = await make(world, application, kind="CREATE")
    stack = await execute(world, keep_on_failure=True)
    assert stack.status == "CREATE_FAILED"
    assert execution_status(made, stack) == "EXECUTE_FAILED"


async def test_the_same_token_answers_with_the_same_change_set(world: World, application: dict[str, Any]) -> None:
    first, _ = await make(world, application, kind="CREATE", client_request_token="t")
    second, _ = await make(world, application, kind="CREATE", client_request_token="t")
    assert first.uuid == second.uuid


@pytest.mark.parametrize("kind", ["CREATE", "UPDATE"])
async def test_a_kill_at_any_write_of_the_execution(kill_everywhere: KillEverywhere, role: Any, kind: str) -> None:
    template = {"Resources": {"A": role()}}
    changed = {"Resources": {"A": role(Description="changed"), "B": role()}}

    async def before(world: World) -> None:
        if kind == "UPDATE":
            await world.create(template)
        await make(world, changed, kind=kind)

    async def act(world: World) -> None:
        await execute(world)

    async def check(world: World) -> None:
        stack = world.engine.find("us-east-1", "app")
        (change_set,) = world.engine.ledger.change_sets(stack.uuid)
        status = execution_status(change_set, stack)
        assert status in ("AVAILABLE", "EXECUTE_COMPLETE"), (stack.status, status)
        if status == "AVAILABLE":
            stack = await execute(world)
        assert stack.status == f"{kind}_COMPLETE", world.events(stack)

    assert await kill_everywhere(before, act, check) > 5
