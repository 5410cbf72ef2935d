"""CloudFormation's calls about change sets (CloudFormation API Reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.awsapi.call import Call, Handler
from nearpoint.awsapi.paging import page
from nearpoint.awsapi.stack_call import (
    PAGE,
    engine_of,
    given_parameters,
    given_tags,
    given_template,
    invalid,
    refuse_unsupported,
)
from nearpoint.stack.change_sets import KINDS, ChangeSets, arn_of, execution_status
from nearpoint.stack.records import ChangeSet, PropertyChange, ResourceChange, Stack
from nearpoint.stack.requests import ON_FAILURE, StackRequest

# Asked for and not carried out would be worse than refused.
NOT_SUPPORTED = ("ResourcesToImport", "ImportExistingResources", "DeploymentConfig")


def _change_sets(call: Call) -> ChangeSets:
    return ChangeSets(engine_of(call))


def _find(call: Call) -> tuple[ChangeSet, Stack]:
    return _change_sets(call).find(call.region, call.params["ChangeSetName"], call.params.get("StackName"))


async def create_change_set(call: Call) -> Mapping[str, Any]:
    refuse_unsupported(call)
    params = call.params
    for name in NOT_SUPPORTED:
        if params.get(name):
            raise invalid(f"{name} is not supported by Nearpoint yet")
    if params.get("DeploymentMode", "STANDARD") != "STANDARD":
        raise invalid(f"DeploymentMode {params['DeploymentMode']} is not supported by Nearpoint yet")
    kind, on_failure = params.get("ChangeSetType", "UPDATE"), params.get("OnStackFailure")
    if kind not in KINDS:
        raise invalid(f"ChangeSetType {kind} is not supported by Nearpoint; use one of {', '.join(KINDS)}")
    if on_failure is not None and on_failure not in ON_FAILURE:
        raise invalid(f"OnStackFailure must be one of {', '.join(ON_FAILURE)}")
    template = await given_template(call)
    previous = bool(params.get("UsePreviousTemplate"))
    if (template is None) != (previous and kind == "UPDATE"):
        raise invalid("Either Template URL, Template Body or UsePreviousTemplate must be specified.")
    given, kept = given_parameters(call)
    if kept and kind == "CREATE":
        raise invalid(f"Invalid input for parameter key {kept[0]}. Cannot use the previous value for a new stack")
    made, stack = await _change_sets(call).create(
        StackRequest(
            name=params["StackName"],
            region=call.region,
            template=template,
            parameters=given,
            keep_parameters=kept,
            capabilities=tuple(params.get("Capabilities", ())),
            tags=given_tags(call),
            notification_arns=tuple(params.get("NotificationARNs", ())),
            role_arn=params.get("RoleARN"),
            client_request_token=params.get("ClientToken"),
        ),
        name=params["ChangeSetName"],
        kind=kind,
        description=params.get("Description"),
        on_failure=on_failure,
    )
    return {"Id": arn_of(made, stack), "StackId": stack.arn}


async def execute_change_set(call: Call) -> Mapping[str, Any]:
    if call.params.get("RetainExceptOnCreate"):
        raise invalid("RetainExceptOnCreate is not supported by Nearpoint yet")
    await _change_sets(call).execute(
        call.region,
        call.params["ChangeSetName"],
        call.params.get("StackName"),
        client_request_token=call.params.get("ClientRequestToken"),
        keep_on_failure=call.params.get("DisableRollback", False),
    )
    return {}


async def delete_change_set(call: Call) -> Mapping[str, Any]:
    await _change_sets(call).delete(call.region, call.params["ChangeSetName"], call.params.get("StackName"))
    return {}


def _detail(detail: PropertyChange) -> dict[str, Any]:
    named = detail.name is not None
    return {
        "Target": {
            "Attribute": detail.attribute,
            "Name": detail.name,
            "RequiresRecreation": detail.recreation if named else None,
        },
        "Evaluation": detail.evaluation,
        "ChangeSource": detail.source,
        "CausingEntity": detail.entity,
    }


def _change(change: ResourceChange) -> dict[str, Any]:
    return {
        "Type": "Resource",
        "ResourceChange": {
            "PolicyAction": change.policy_action,
            "Action": change.action,
            "LogicalResourceId": change.logical_id,
            "PhysicalResourceId": change.physical_id,
            "ResourceType": change.type,
            "Replacement": change.replacement,
            "Scope": change.scope,
            "Details": [_detail(detail) for detail in change.details],
        },
    }


def _summary(change_set: ChangeSet, stack: Stack) -> dict[str, Any]:
    return {
        "StackId": stack.arn,
        "StackName": stack.name,
        "ChangeSetId": arn_of(change_set, stack),
        "ChangeSetName": change_set.name,
        "ExecutionStatus": execution_status(change_set, stack),
        "Status": change_set.status,
        "StatusReason": change_set.status_reason,
        "CreationTime": change_set.created_at,
        "Description": change_set.description,
        "IncludeNestedStacks": False,
        "ImportExistingResources": False,
    }


async def describe_change_set(call: Call) -> Mapping[str, Any]:
    change_set, stack = _find(call)
    found, token = page(
        change_set.changes,
        lambda change: change.logical_id,
        call.params.get("NextToken"),
        PAGE,
        error_code="ValidationError",
    )
    return {
        **_summary(change_set, stack),
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": value} for key, value in change_set.shown_parameters.items()
        ]
        or None,
        "NotificationARNs": list(change_set.notification_arns),
        "RollbackConfiguration": {},
        "Capabilities": list(change_set.capabilities) or None,
        "Tags": [{"Key": key, "Value": value} for key, value in change_set.tags.items()] or None,
        "Changes": [_change(change) for change in found],
        "OnStackFailure": change_set.on_failure,
        "NextToken": token,
    }


async def list_change_sets(call: Call) -> Mapping[str, Any]:
    engine = engine_of(call)
    stack = engine.find(call.region, call.params["StackName"])
    found, token = page(
        engine.ledger.change_sets(stack.uuid),
        lambda each: f"{each.created_at:020.6f}{each.uuid}",
        call.params.get("NextToken"),
        PAGE,
        error_code="ValidationError",
    )
    return {"Summaries": [_summary(each, stack) for each in found], "NextToken": token}


HANDLERS: dict[str, Handler] = {
    "CreateChangeSet": create_change_set,
    "DeleteChangeSet": delete_change_set,
    "DescribeChangeSet": describe_change_set,
    "ExecuteChangeSet": execute_change_set,
    "ListChangeSets": list_change_sets,
}
