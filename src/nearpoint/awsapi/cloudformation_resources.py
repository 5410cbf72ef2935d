"""CloudFormation's calls about what is in a stack: its resources and its events (CloudFormation API Reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from nearpoint.awsapi.call import Call, Handler
from nearpoint.awsapi.paging import page
from nearpoint.awsapi.stack_call import PAGE, engine_of, find_stack, invalid
from nearpoint.stack.parameters import MASK
from nearpoint.stack.records import Stack, StackEvent, StackResource, unpack_properties


async def describe_stack_events(call: Call) -> Mapping[str, Any]:
    if "StackName" not in call.params:
        raise invalid("The name or id of a stack is needed")
    stack = engine_of(call).find(call.region, call.params["StackName"])
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
                "ResourceProperties": _properties(stack, event),
                "ClientRequestToken": event.client_request_token,
            }
            for event in found
        ],
        "NextToken": token,
    }


def _properties(stack: Stack, event: StackEvent) -> str | None:
    """The properties that the resource had then, as JSON. What was given for parameters that are not echoed is masked;
    their defaults are not, since the template shows them to everybody."""
    properties = unpack_properties(event.properties_zlib)
    if not properties:  # not worked out yet
        return None
    secrets = {stack.parameters.get(name, "") for name, shown in stack.shown_parameters.items() if shown == MASK}
    return orjson.dumps(_masked(properties, secrets - {""})).decode()


def _masked(value: Any, secrets: set[str]) -> Any:
    if isinstance(value, dict):
        return {name: _masked(each, secrets) for name, each in value.items()}
    if isinstance(value, list):
        return [_masked(each, secrets) for each in value]
    return MASK if isinstance(value, str) and any(secret in value for secret in secrets) else value


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
        stack = find_stack(call)
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
    stack = find_stack(call)
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
    stack = find_stack(call)
    resources = sorted(engine_of(call).ledger.resources(stack.uuid).values(), key=lambda each: each.logical_id)
    found, token = page(
        resources, lambda each: each.logical_id, call.params.get("NextToken"), PAGE, error_code="ValidationError"
    )
    return {
        "StackResourceSummaries": [{"LastUpdatedTimestamp": each.updated_at, **_resource(each)} for each in found],
        "NextToken": token,
    }


HANDLERS: dict[str, Handler] = {
    "DescribeStackEvents": describe_stack_events,
    "DescribeStackResource": describe_stack_resource,
    "DescribeStackResources": describe_stack_resources,
    "ListStackResources": list_stack_resources,
}
