"""CloudFormation's calls about whole stacks: make, change, delete, protect, describe, list (CloudFormation API
Reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.awsapi import waiting
from nearpoint.awsapi.call import Call, Handler
from nearpoint.awsapi.paging import page
from nearpoint.awsapi.stack_call import (
    PAGE,
    engine_of,
    find_stack,
    given_parameters,
    given_tags,
    given_template,
    invalid,
    refuse_unsupported,
)
from nearpoint.stack.change_sets import arn_of
from nearpoint.stack.records import Stack
from nearpoint.stack.requests import StackRequest


async def create_stack(call: Call) -> Mapping[str, Any]:
    refuse_unsupported(call)
    params = call.params
    if "DisableRollback" in params and "OnFailure" in params:
        raise invalid("You can specify either DisableRollback or OnFailure, but not both.")
    given, kept = given_parameters(call)
    if kept:
        raise invalid(f"Invalid input for parameter key {kept[0]}. Cannot use the previous value for a new stack")
    stack = await engine_of(call).create(
        StackRequest(
            name=params["StackName"],
            region=call.region,
            template=await given_template(call),
            parameters=given,
            capabilities=tuple(params.get("Capabilities", ())),
            tags=given_tags(call) or {},
            on_failure="DO_NOTHING" if params.get("DisableRollback") else params.get("OnFailure", "ROLLBACK"),
            timeout_minutes=params.get("TimeoutInMinutes"),
            notification_arns=tuple(params.get("NotificationARNs", ())),
            role_arn=params.get("RoleARN"),
            termination_protection=params.get("EnableTerminationProtection", False),
            client_request_token=params.get("ClientRequestToken"),
        )
    )
    return {"StackId": stack.arn}


async def update_stack(call: Call) -> Mapping[str, Any]:
    refuse_unsupported(call)
    params = call.params
    template = await given_template(call)
    if (template is None) != bool(params.get("UsePreviousTemplate")):
        raise invalid("Either Template URL, Template Body or UsePreviousTemplate must be specified.")
    given, kept = given_parameters(call)
    stack = await engine_of(call).update(
        StackRequest(
            name=params["StackName"],
            region=call.region,
            template=template,
            parameters=given,
            keep_parameters=kept,
            capabilities=tuple(params.get("Capabilities", ())),
            tags=given_tags(call),
            client_request_token=params.get("ClientRequestToken"),
        )
    )
    return {"StackId": stack.arn}


async def delete_stack(call: Call) -> Mapping[str, Any]:
    if call.params.get("DeletionMode", "STANDARD") != "STANDARD":
        raise invalid("DeletionMode FORCE_DELETE_STACK is not supported by Nearpoint yet")
    await engine_of(call).delete(
        call.region,
        call.params["StackName"],
        retain=tuple(call.params.get("RetainResources", ())),
        client_request_token=call.params.get("ClientRequestToken"),
    )
    return {}


async def cancel_update_stack(call: Call) -> Mapping[str, Any]:
    await engine_of(call).cancel_update(call.region, call.params["StackName"])
    return {}


async def continue_update_rollback(call: Call) -> Mapping[str, Any]:
    await engine_of(call).continue_rollback(
        call.region, call.params["StackName"], skip=tuple(call.params.get("ResourcesToSkip", ()))
    )
    return {}


async def update_termination_protection(call: Call) -> Mapping[str, Any]:
    stack = await engine_of(call).protect(
        call.region, call.params["StackName"], protection=call.params["EnableTerminationProtection"]
    )
    return {"StackId": stack.arn}


def _newest_first(stack: Stack) -> str:
    return f"{10**12 - stack.created_at:020.6f}{stack.uuid}"


def _stack(call: Call, stack: Stack) -> dict[str, Any]:
    change_set = engine_of(call).ledger.change_set(stack.change_set)
    return {
        "StackId": stack.arn,
        "ChangeSetId": None if change_set is None else arn_of(change_set, stack),
        "StackName": stack.name,
        "Description": stack.description,
        "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in stack.shown_parameters.items()]
        or None,
        "CreationTime": stack.created_at,
        "LastUpdatedTime": stack.updated_at,
        "DeletionTime": stack.deleted_at,
        "RollbackConfiguration": {},
        "StackStatus": stack.status,
        "StackStatusReason": None if stack.status_reason == "User Initiated" else stack.status_reason,
        "DisableRollback": stack.on_failure == "DO_NOTHING",
        "NotificationARNs": list(stack.notification_arns),
        "TimeoutInMinutes": stack.timeout_minutes,
        "Capabilities": list(stack.capabilities) or None,
        "Outputs": [
            {
                "OutputKey": output.key,
                "OutputValue": output.value,
                "Description": output.description,
                "ExportName": output.export_name,
            }
            for output in stack.outputs
        ]
        or None,
        "RoleARN": stack.role_arn,
        "Tags": [{"Key": key, "Value": value} for key, value in stack.tags.items()],
        "EnableTerminationProtection": stack.termination_protection,
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
    }


async def describe_stacks(call: Call) -> Mapping[str, Any]:
    if "StackName" in call.params:
        await waiting.until(call, lambda: not find_stack(call).status.endswith("_IN_PROGRESS"))
        return {"Stacks": [_stack(call, find_stack(call))]}
    live = sorted(engine_of(call).ledger.live(call.region), key=_newest_first)
    found, token = page(live, _newest_first, call.params.get("NextToken"), PAGE, error_code="ValidationError")
    return {"Stacks": [_stack(call, each) for each in found], "NextToken": token}


async def list_stacks(call: Call) -> Mapping[str, Any]:
    wanted = set(call.params.get("StackStatusFilter", ()))
    stacks = [
        each
        for each in engine_of(call).ledger.stacks()
        if each.region == call.region and (not wanted or each.status in wanted)
    ]
    stacks.sort(key=_newest_first)
    found, token = page(stacks, _newest_first, call.params.get("NextToken"), PAGE, error_code="ValidationError")
    return {
        "StackSummaries": [
            {
                "StackId": each.arn,
                "StackName": each.name,
                "TemplateDescription": each.description,
                "CreationTime": each.created_at,
                "LastUpdatedTime": each.updated_at,
                "DeletionTime": each.deleted_at,
                "StackStatus": each.status,
                "StackStatusReason": None if each.status_reason == "User Initiated" else each.status_reason,
                "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
            }
            for each in found
        ],
        "NextToken": token,
    }


HANDLERS: dict[str, Handler] = {
    "CancelUpdateStack": cancel_update_stack,
    "ContinueUpdateRollback": continue_update_rollback,
    "CreateStack": create_stack,
    "DeleteStack": delete_stack,
    "DescribeStacks": describe_stacks,
    "ListStacks": list_stacks,
    "UpdateStack": update_stack,
    "UpdateTerminationProtection": update_termination_protection,
}
