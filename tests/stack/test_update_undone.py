"""Updates that are called off, and rollbacks of updates that fail and are gone on with."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.requests import StackRequest
from nearpoint.state.resources import Distribution, Role

World = Any  # tests/stack/conftest.py
MakeRole = Callable[..., dict[str, Any]]


async def seen(world: World, stack: Any, *event: str) -> None:
    """Wait for a resource's event."""
    come = asyncio.Event()
    world.context.state.on_change(lambda: come.set() if event in world.statuses(stack) else None)
    if event not in world.statuses(stack):
        await come.wait()


async def test_an_update_that_is_called_off(world: World, application: dict[str, Any], role: MakeRole) -> None:
    stack = await world.create(application)
    before = world.context.state.list(Distribution)
    changed = copy.deepcopy(application)
    changed["Resources"]["SignRole"]["Properties"]["Description"] = "changed"
    changed["Resources"]["Edge"]["Properties"]["DistributionConfig"]["Comment"] = "changed"
    changed["Resources"]["Later"] = role() | {"DependsOn": "Edge"}
    world.nodes.clear()  # the distribution waits for them
    request = StackRequest(
        name="app", region="us-east-1", template=json.dumps(changed), capabilities=("CAPABILITY_IAM",)
    )
    await world.engine.update(request)
    await seen(world, stack, "Edge", "UPDATE_IN_PROGRESS")
    calling_off = asyncio.create_task(world.engine.cancel_update("us-east-1", "app"))
    await seen(world, stack, "app", "UPDATE_ROLLBACK_IN_PROGRESS")
    world.nodes.set()
    await calling_off
    stack = await world.engine.settled(stack.uuid)
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE", world.events(stack)
    assert world.reason(stack, "Edge", "UPDATE_FAILED") == "Resource update cancelled"
    assert world.reason(stack, "app", "UPDATE_ROLLBACK_IN_PROGRESS") == "User Initiated"
    assert ("Later", "CREATE_IN_PROGRESS") not in world.statuses(stack)
    assert [each.config for each in world.context.state.list(Distribution)] == [each.config for each in before]
    assert world.context.state.list(Role)[0].description == ""
    with pytest.raises(AwsError, match="CancelUpdateStack cannot be called from current stack status"):
        await world.engine.cancel_update("us-east-1", "app")
    assert (await world.update(changed)).status == "UPDATE_COMPLETE"


async def get_stuck(world: World, role: MakeRole) -> Any:
    """A stack whose update failed, and whose bucket can't be put back as it was as long as `world.broken`."""

    def template(status: str) -> dict[str, Any]:
        versioned = {"VersioningConfiguration": {"Status": status}}
        return {"Resources": {"Store": {"Type": "AWS::S3::Bucket", "Properties": versioned}, "R": role()}}

    await world.create(template("Enabled"))
    put = world.buckets.put_setting
    world.broken = True

    async def fails(name: str, kind: str, value: Any) -> None:
        if world.broken and value == {"Status": "Enabled"}:
            raise AwsError("AccessDenied", status=403)
        await put(name, kind, value)

    world.buckets.put_setting = fails
    changed = template("Suspended")
    changed["Resources"]["R"]["Properties"]["Description"] = "changed"
    changed["Resources"]["Bad"] = role(ManagedPolicyArns=["arn:aws:iam::aws:policy/No"]) | {"DependsOn": ["Store", "R"]}
    stack = await world.update(changed)
    assert stack.status == "UPDATE_ROLLBACK_FAILED", world.events(stack)
    assert stack.status_reason == "The following resource(s) failed to update: [Store]."
    with pytest.raises(AwsError, match="is in UPDATE_ROLLBACK_FAILED state and can not be updated"):
        await world.update(changed)
    return stack


@pytest.fixture
async def stuck(world: World, role: MakeRole) -> Any:
    """`get_stuck` in the world."""
    return await get_stuck(world, role)


async def test_a_rollback_that_fails_is_gone_on_with(world: World, stuck: Any) -> None:
    async def go_on(**options: Any) -> Any:
        await world.engine.continue_rollback("us-east-1", "app", **options)
        return await world.engine.settled(stuck.uuid)

    assert (await go_on()).status == "UPDATE_ROLLBACK_FAILED"
    assert "HandlerErrorCode: AccessDenied" in world.reason(stuck, "Store", "UPDATE_FAILED")
    world.broken = False
    stack = await go_on()
    assert stack.status == "UPDATE_ROLLBACK_COMPLETE", world.events(stack)
    assert world.buckets.settings[-1][2] == {"Status": "Enabled"}
    assert set(world.engine.ledger.resources(stack.uuid)) == {"Store", "R"}
    assert world.context.state.list(Role)[0].description == ""
    with pytest.raises(AwsError, match="UPDATE_ROLLBACK_COMPLETE state and can not continue"):
        await go_on()


async def test_what_cannot_be_put_back_is_skipped(world: World, stuck: Any) -> None:
    for name in ("R", "Nothing"):
        with pytest.raises(AwsError, match=rf"UPDATE_FAILED: \[{name}\]"):
            await world.engine.continue_rollback("us-east-1", "app", skip=("Store", name))
    await world.engine.continue_rollback("us-east-1", "app", skip=("Store",))
    stack = await world.engine.settled(stuck.uuid)
    assert (stack.status, stack.skip) == ("UPDATE_ROLLBACK_COMPLETE", ())
    assert world.buckets.settings[-1][2] == {"Status": "Suspended"}
    assert world.context.state.list(Role)[0].description == ""
    assert (await world.delete(stack)).status == "DELETE_COMPLETE"


async def test_a_kill_at_any_write_while_going_on(kill_everywhere: Any, role: MakeRole) -> None:
    async def before(world: World) -> None:
        await get_stuck(world, role)
        world.broken = False

    async def go_on(world: World) -> None:
        await world.engine.continue_rollback("us-east-1", "app")
        await world.engine.settled(world.engine.find("us-east-1", "app").uuid)

    async def check(world: World) -> None:
        stack = world.engine.find("us-east-1", "app")
        if stack.status == "UPDATE_ROLLBACK_FAILED":  # killed before the call was answered
            await go_on(world)
            stack = world.engine.find("us-east-1", "app")
        assert stack.status == "UPDATE_ROLLBACK_COMPLETE", world.events(stack)
        assert world.context.state.list(Role)[0].description == ""
        assert set(world.engine.ledger.resources(stack.uuid)) == {"Store", "R"}
        assert (await world.delete(stack)).status == "DELETE_COMPLETE"
        assert world.left() == []

    assert await kill_everywhere(before, go_on, check) > 5


async def test_a_kill_at_any_write_while_calling_off(
    kill_everywhere: Any, application: dict[str, Any], role: MakeRole
) -> None:
    changed = copy.deepcopy(application)
    changed["Resources"]["SignRole"]["Properties"]["Description"] = "changed"
    changed["Resources"]["Edge"]["Properties"]["DistributionConfig"]["Comment"] = "changed"

    async def before(world: World) -> None:
        stack = await world.create(application)
        world.nodes.clear()
        await world.engine.update(
            StackRequest(name="app", region="us-east-1", template=json.dumps(changed), capabilities=("CAPABILITY_IAM",))
        )
        await seen(world, stack, "Edge", "UPDATE_IN_PROGRESS")

    async def call_off(world: World) -> None:
        calling_off = asyncio.create_task(world.engine.cancel_update("us-east-1", "app"))
        stack = world.engine.find("us-east-1", "app")
        await seen(world, stack, "app", "UPDATE_ROLLBACK_IN_PROGRESS")
        world.nodes.set()
        await calling_off
        await world.engine.settled(stack.uuid)

    async def check(world: World) -> None:
        stack = world.engine.find("us-east-1", "app")
        # Killed before the call was answered, the update goes on; then, it is undone. Nothing is between the two.
        comment = world.context.state.list(Distribution)[0].config.get("Comment", "")
        description = world.context.state.list(Role)[0].description
        if stack.status == "UPDATE_COMPLETE":
            assert (comment, description) == ("changed", "changed")
        else:
            assert stack.status == "UPDATE_ROLLBACK_COMPLETE", world.events(stack)
            assert (comment, description) == ("", "")

    assert await kill_everywhere(before, call_off, check) > 5
