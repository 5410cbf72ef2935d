"""CloudFormation: stacks, their resources, events, templates and exports, over the stack engine
(CloudFormation API Reference). Change sets have a module of their own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.awsapi import cloudformation_change_sets as change_sets
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
from nearpoint.stack.change_sets import ChangeSets, arn_of
from nearpoint.stack.records import Stack, StackResource
from nearpoint.stack.requests import StackRequest
from nearpoint.stack.template import Template

SERVICE = "cloudformation"


def _find(call: Call) -> Stack:
    return engine_of(call).find(call.region, call.params["StackName"])


# ---------------------------------------------------------------------- asking


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


async def update_termination_protection(call: Call) -> Mapping[str, Any]:
    stack = await engine_of(call).protect(
        call.region, call.params["StackName"], protection=call.params["EnableTerminationProtection"]
    )
    return {"StackId": stack.arn}


# ---------------------------------------------------------------------- looking


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
        return {"Stacks": [_stack(call, _find(call))]}
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


async def describe_stack_events(call: Call) -> Mapping[str, Any]:
    if "StackName" not in call.params:
        raise invalid("The name or id of a stack is needed")
    stack = _find(call)
    events = engine_of(call).ledger.events(stack.uuid)
    found, token = page(
        events,
        lambda event: f"{10**8 - event.number:09d}",
        call.params.get("NextToken"),
        PAGE,
        error_code="ValidationError",
    )
    return {
        "StackEvents": [
            {
                "StackId": stack.arn,
                "EventId": event.event_id,
                "StackName": stack.name,
                "LogicalResourceId": event.logical_id,
                "PhysicalResourceId": event.physical_id,
                "ResourceType": event.type,
                "Timestamp": event.at,
                "ResourceStatus": event.status,
                "ResourceStatusReason": event.status_reason,
                "ClientRequestToken": event.client_request_token,
            }
            for event in found
        ],
        "NextToken": token,
    }


def _resource(resource: StackResource) -> dict[str, Any]:
    return {
        "LogicalResourceId": resource.logical_id,
        "PhysicalResourceId": resource.physical_id or None,
        "ResourceType": resource.type,
        "ResourceStatus": resource.status,
        "ResourceStatusReason": resource.status_reason,
        "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
    }


def _resource_of(call: Call, stack: Stack, logical_id: str) -> StackResource:
    resource = engine_of(call).ledger.resource(stack.uuid, logical_id)
    if resource is None:
        raise invalid(f"Resource {logical_id} does not exist for stack {stack.name}")
    return resource


async def describe_stack_resources(call: Call) -> Mapping[str, Any]:
    ledger = engine_of(call).ledger
    physical_id = call.params.get("PhysicalResourceId")
    if "StackName" in call.params:
        if physical_id is not None:
            raise invalid("You can specify either StackName or PhysicalResourceId, but not both.")
        stack = _find(call)
    elif physical_id is not None:
        owners = [
            each
            for each in ledger.live(call.region)
            if any(resource.physical_id == physical_id for resource in ledger.resources(each.uuid).values())
        ]
        if not owners:
            raise invalid(f"Stack for {physical_id} does not exist")
        stack = owners[0]
    else:
        raise invalid("Either StackName or PhysicalResourceId must be specified.")
    logical_id = call.params.get("LogicalResourceId")
    found = (
        [_resource_of(call, stack, logical_id)]
        if logical_id is not None
        else sorted(ledger.resources(stack.uuid).values(), key=lambda each: each.logical_id)[:PAGE]
    )
    return {
        "StackResources": [
            {
                "StackName": stack.name,
                "StackId": stack.arn,
                "Timestamp": each.updated_at,
                **_resource(each),
            }
            for each in found
        ]
    }


async def describe_stack_resource(call: Call) -> Mapping[str, Any]:
    stack = _find(call)
    resource = _resource_of(call, stack, call.params["LogicalResourceId"])
    return {
        "StackResourceDetail": {
            "StackName": stack.name,
            "StackId": stack.arn,
            "LastUpdatedTimestamp": resource.updated_at,
            **_resource(resource),
        }
    }


async def list_stack_resources(call: Call) -> Mapping[str, Any]:
    stack = _find(call)
    resources = sorted(engine_of(call).ledger.resources(stack.uuid).values(), key=lambda each: each.logical_id)
    found, token = page(
        resources, lambda each: each.logical_id, call.params.get("NextToken"), PAGE, error_code="ValidationError"
    )
    return {
        "StackResourceSummaries": [{"LastUpdatedTimestamp": each.updated_at, **_resource(each)} for each in found],
        "NextToken": token,
    }


async def get_template(call: Call) -> Mapping[str, Any]:
    stages = ["Original", "Processed"]
    if "ChangeSetName" in call.params:
        change_set, _ = ChangeSets(engine_of(call)).find(
            call.region, call.params["ChangeSetName"], call.params.get("StackName")
        )
        return {"TemplateBody": change_set.text, "StagesAvailable": stages}
    if "StackName" not in call.params:
        raise invalid("StackName must be specified")
    stack = _find(call)
    text = engine_of(call).ledger.template(stack.uuid, stack.revision or stack.target or 1)
    return {"TemplateBody": text, "StagesAvailable": stages}


async def _parsed(call: Call) -> Template:
    text = await given_template(call)
    if text is None:
        if "StackName" not in call.params:
            raise invalid("Either Template URL or Template Body must be specified.")
        stack = _find(call)
        text = engine_of(call).ledger.template(stack.uuid, stack.revision or stack.target or 1)
    return await engine_of(call).parsed(text)


def _summary(call: Call, template: Template, *, whole: bool) -> dict[str, Any]:
    capabilities = engine_of(call).capabilities(template)
    demanding = sorted(
        {each.type for each in template.resources.values() if each.type.startswith("AWS::IAM::")}
        if capabilities
        else ()
    )
    parameters = []
    for parameter in template.parameters.values():
        shown: dict[str, Any] = {
            "ParameterKey": parameter.name,
            "DefaultValue": parameter.default,
            "NoEcho": parameter.no_echo,
            "Description": parameter.description,
        }
        if whole:
            shown["ParameterType"] = parameter.type
            shown["ParameterConstraints"] = (
                {"AllowedValues": list(parameter.allowed_values)} if parameter.allowed_values else {}
            )
        parameters.append(shown)
    return {
        "Parameters": parameters,
        "Description": template.description,
        "Capabilities": capabilities or None,
        "CapabilitiesReason": (
            f"The following resource(s) require capabilities: [{', '.join(demanding)}]" if capabilities else None
        ),
    }


async def validate_template(call: Call) -> Mapping[str, Any]:
    return _summary(call, await _parsed(call), whole=False)


async def get_template_summary(call: Call) -> Mapping[str, Any]:
    template = await _parsed(call)
    return {
        **_summary(call, template, whole=True),
        "ResourceTypes": sorted({each.type for each in template.resources.values()}),
        "Version": "2010-09-09",
    }


async def list_exports(call: Call) -> Mapping[str, Any]:
    exports = sorted(engine_of(call).ledger.exports(call.region).items())
    found, token = page(exports, lambda each: each[0], call.params.get("NextToken"), PAGE, error_code="ValidationError")
    return {
        "Exports": [{"ExportingStackId": stack.arn, "Name": name, "Value": value} for name, (value, stack) in found],
        "NextToken": token,
    }


async def list_imports(call: Call) -> Mapping[str, Any]:
    name = call.params["ExportName"]
    importers = sorted(each.name for each in engine_of(call).ledger.importers(call.region, name))
    if not importers:
        raise invalid(f"Export '{name}' is not imported by any stack.")
    found, token = page(importers, str, call.params.get("NextToken"), PAGE, error_code="ValidationError")
    return {"Imports": found, "NextToken": token}


HANDLERS: dict[str, Handler] = {
    **change_sets.HANDLERS,
    "CreateStack": create_stack,
    "DeleteStack": delete_stack,
    "DescribeStackEvents": describe_stack_events,
    "DescribeStackResource": describe_stack_resource,
    "DescribeStackResources": describe_stack_resources,
    "DescribeStacks": describe_stacks,
    "GetTemplate": get_template,
    "GetTemplateSummary": get_template_summary,
    "ListExports": list_exports,
    "ListImports": list_imports,
    "ListStackResources": list_stack_resources,
    "ListStacks": list_stacks,
    "UpdateStack": update_stack,
    "UpdateTerminationProtection": update_termination_protection,
    "ValidateTemplate": validate_template,
}


def _stack_arn(call: Call) -> str:
    # IAM, "Actions, resources, and condition keys for AWS CloudFormation": stack/NAME/ID.
    name = call.params.get("StackName")
    if not name:
        return "*"
    if name.startswith("arn:"):
        return str(name)
    stack = engine_of(call).ledger.find(call.region, name)
    if stack is not None:
        return stack.arn
    return f"arn:aws:cloudformation:{call.region}:{call.ctx.account_id}:stack/{name}/*"


RESOURCES = {
    name: _stack_arn
    for name in HANDLERS
    if name not in ("GetTemplateSummary", "ListExports", "ListImports", "ListStacks", "ValidateTemplate")
}
