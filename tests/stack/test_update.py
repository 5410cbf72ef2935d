from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.services.context import Context
from nearpoint.state.resources import AccessPoint, Distribution, Function, Role

World = Any  # tests/stack/conftest.py
MakeRole = Callable[..., dict[str, Any]]


async def test_nothing_to_do(world: World, application: dict[str, Any]) -> None:
    await world.create(application)
    with pytest.raises(AwsError) as refused:
        await world.update(application)
    assert (refused.value.code, refused.value.message) == ("ValidationError", "No updates are to be performed.")
    with pytest.raises(AwsError, match="does not exist"):
        await world.update(application, name="other")


async def test_a_change_in_place(world: World, application: dict[str, Any]) -> None:
    stack = await world.create(application)
    (before,) = world.context.state.list(Distribution)
    application["Resources"]["Edge"]["Properties"]["DistributionConfig"]["Comment"] = "changed"
    application["Resources"]["SignRole"]["Properties"]["Description"] = "changed"
    stack = await world.update(application)
    assert stack.status == "UPDATE_COMPLETE", world.events(stack)
    (after,) = world.context.state.list(Distribution)
    assert (after.distribution_id, after.domain) == (before.distribution_id, before.domain)
    assert after.config["Comment"] == "changed"
    assert after.status == "Deployed"
    assert world.context.state.list(Role)[0].description == "changed"
    changed = {name for name, status in world.statuses(stack) if status == "UPDATE_COMPLETE"}
    assert changed == {"app", "Edge", "SignRole"}
    assert (await world.delete(stack)).status == "DELETE_COMPLETE"
    assert world.left() == []


async def test_new_code_reaches_the_edge_by_a_new_version(
    world: World, application: dict[str, Any], zipped: Callable[[dict[str, str]], bytes]
) -> None:
    await world.create(application)
    world.objects.content["code", "second.zip"] = zipped({"index.py": "def handler(event, context): ..."})
    resources = application["Resources"]
    resources["Sign"]["Properties"]["Code"]["S3Key"] = "second.zip"
    resources["NextVersion"] = resources.pop("SignVersion")
    behavior = resources["Edge"]["Properties"]["DistributionConfig"]["DefaultCacheBehavior"]
    behavior["LambdaFunctionAssociations"][0]["LambdaFunctionARN"] = {"Ref": "NextVersion"}
    stack = await world.update(application)
    assert stack.status == "UPDATE_COMPLETE", world.events(stack)
    (distribution,) = world.context.state.list(Distribution)
    (association,) = distribution.config["DefaultCacheBehavior"]["LambdaFunctionAssociations"]
    assert association["LambdaFunctionARN"].endswith(":2")
    assert [each.version for each in world.context.state.list(Function)] == ["$LATEST", "2"]
    assert len(list(world.context.packages_dir.iterdir())) == 1
    assert world.engine.ledger.resource(stack.uuid, "SignVersion") is None


async def test_a_replacement(world: World, application: dict[str, Any]) -> None:
    await world.create(application)
    (before,) = world.context.state.list(AccessPoint)
    application["Resources"]["Point"]["Properties"]["Regions"].pop()
    stack = await world.update(application)
    assert stack.status == "UPDATE_COMPLETE", world.events(stack)
    (after,) = world.context.state.list(AccessPoint)
    assert after.alias != before.alias
    assert len(after.members) == 1
    (distribution,) = world.context.state.list(Distribution)
    assert distribution.config["Origins"][0]["DomainName"].startswith(after.alias)
    events = [(status, reason) for name, status, reason in world.events(stack) if name == "Point"]
    started = "Requested update requires the creation of a new physical resource; hence creating one."
    assert ("UPDATE_IN_PROGRESS", started) in events
    assert [status for status, _ in events][-2:] == ["DELETE_IN_PROGRESS", "DELETE_COMPLETE"]


async def test_a_replaced_resource_may_stay(world: World, application: dict[str, Any]) -> None:
    application["Resources"]["Point"]["UpdateReplacePolicy"] = "Retain"
    await world.create(application)
    application["Resources"]["Point"]["Properties"]["Regions"].pop()
    stack = await world.update(application)
    assert stack.status == "UPDATE_COMPLETE"
    assert len(world.context.state.list(AccessPoint)) == 2


async def test_a_custom_name_cannot_be_replaced(world: World, application: dict[str, Any]) -> None:
    application["Resources"]["Point"]["Properties"]["Name"] = "mine"
    await world.create(application)
    (before,) = world.context.state.list(AccessPoint)
    application["Resources"]["Point"]["Properties"]["Regions"].pop()
    stack = await world.update(application)
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    assert "custom-named resource requires replacing" in world.reason(stack, "Point", "UPDATE_FAILED")
    assert world.context.state.list(AccessPoint) == [before]


def _broken_update(application: dict[str, Any], role: MakeRole) -> dict[str, Any]:
    """In place, replaced, added, removed, and then a failure."""
    template = copy.deepcopy(application)
    resources = template["Resources"]
    resources["SignRole"]["Properties"]["Description"] = "changed"
    resources["Point"]["Properties"]["Regions"].pop()
    resources["Added"] = role()
    del resources["Extra"]
    resources["Bad"] = role(ManagedPolicyArns=["arn:aws:iam::aws:policy/No"]) | {"DependsOn": ["Edge", "Added"]}
    return template


def _look(world: World) -> tuple[Any, ...]:
    state = world.context.state
    (distribution,) = state.list(Distribution)
    (point,) = state.list(AccessPoint)
    roles = sorted((role.name, role.description) for role in state.list(Role))
    functions = sorted((function.id, function.code_sha256) for function in state.list(Function))
    return distribution.config, point, roles, functions


async def test_a_failed_update_goes_back(world: World, application: dict[str, Any], role: MakeRole) -> None:
    application["Resources"]["Extra"] = role()
    stack = await world.create(application)
    before = _look(world)
    stack = await world.update(_broken_update(application, role))
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE", world.events(stack)
    assert _look(world) == before
    assert world.reason(stack, "app", "UPDATE_ROLLBACK_IN_PROGRESS") == (
        "The following resource(s) failed to update: [Bad]."
    )
    assert set(world.engine.ledger.resources(stack.uuid)) == set(application["Resources"])
    # and from there it can be updated again, and deleted
    application["Resources"]["SignRole"]["Properties"]["Description"] = "second try"
    stack = await world.update(application)
    assert stack.status == "UPDATE_COMPLETE", world.events(stack)
    assert (await world.delete(stack)).status == "DELETE_COMPLETE"
    assert world.left() == []


async def test_parameters_keep_their_values_when_asked(world: World, role: MakeRole) -> None:
    template = {
        "Parameters": {"A": {"Type": "String"}, "B": {"Type": "String"}},
        "Resources": {"R": role(Description={"Fn::Sub": "${A} ${B}"})},
    }
    await world.create(template, parameters={"A": "1", "B": "2"})
    with pytest.raises(AwsError, match="must have values"):
        await world.update(template, parameters={"B": "3"})
    stack = await world.update(template, parameters={"B": "3"}, keep_parameters=("A",))
    assert stack.shown_parameters == {"A": "1", "B": "3"}
    assert world.context.state.list(Role)[0].description == "1 3"


async def test_an_imported_value_cannot_change(world: World, role: MakeRole) -> None:
    exporter = {"Resources": {"R": role()}, "Outputs": {"O": {"Value": "1", "Export": {"Name": "e"}}}}
    await world.create(exporter, name="base")
    await world.create({"Resources": {"R": role(Description={"Fn::ImportValue": "e"})}})
    exporter["Outputs"]["O"]["Value"] = "2"
    stack = await world.update(exporter, name="base")
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE"
    reason = world.reason(stack, "base", "UPDATE_ROLLBACK_IN_PROGRESS")
    assert reason == "Export e cannot be updated as it is in use by app."
    assert stack.outputs[0].value == "1"


async def test_types_cannot_change(world: World, role: MakeRole) -> None:
    await world.create({"Resources": {"R": role()}})
    with pytest.raises(AwsError, match="Update of resource type is not permitted"):
        await world.update({"Resources": {"R": {"Type": "AWS::S3::Bucket"}}})


async def test_a_kill_at_any_write_of_an_update(
    kill_everywhere: Any, application: dict[str, Any], role: MakeRole
) -> None:
    application["Resources"]["Extra"] = role()
    good = _broken_update(application, role)
    del good["Resources"]["Bad"]

    async def create(world: World) -> None:
        await world.create(application)

    async def update(world: World) -> None:
        await world.update(good)

    async def check(world: World) -> None:
        stack = world.engine.find("us-east-1", "app")
        if stack.status == "CREATE_COMPLETE":  # killed before the call was answered
            assert set(world.engine.ledger.resources(stack.uuid)) == set(application["Resources"])
            return
        assert stack.status == "UPDATE_COMPLETE", [each for each in world.events(stack) if each[2]]
        assert set(world.engine.ledger.resources(stack.uuid)) == set(good["Resources"])
        _, point, roles, _ = _look(world)
        assert len(point.members) == 1
        assert [name.split("-")[1] for name, _ in roles] == ["Added", "SignRole"]
        assert (await world.delete(stack)).status == "DELETE_COMPLETE"
        assert world.left() == []

    assert await kill_everywhere(create, update, check) > 30


async def test_a_kill_at_any_write_of_a_failing_update(
    kill_everywhere: Any, application: dict[str, Any], role: MakeRole, context: Context
) -> None:
    application["Resources"]["Extra"] = role()
    looks: list[Any] = []

    async def create(world: World) -> None:
        await world.create(application)
        looks.append(_look(world))

    async def update(world: World) -> None:
        await world.update(_broken_update(application, role))

    async def check(world: World) -> None:
        stack = world.engine.find("us-east-1", "app")
        assert stack.status in ("CREATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"), world.events(stack)
        assert _look(world) == looks[-1], json.dumps(world.events(stack))
        assert set(world.engine.ledger.resources(stack.uuid)) == set(application["Resources"])
        assert (await world.delete(stack)).status == "DELETE_COMPLETE"
        assert world.left() == []

    assert await kill_everywhere(create, update, check) > 40
