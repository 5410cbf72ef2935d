"""From a template and parameters to what can be carried out: conditions decided, order known, permissions asked."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack import parameters, plan
from nearpoint.stack.intrinsics import Scope, evaluate
from nearpoint.stack.parameters import Matcher
from nearpoint.stack.records import Stack
from nearpoint.stack.references import references
from nearpoint.stack.template import Template, check_types, decide, parse
from nearpoint.stack.types import ATTRIBUTES, TYPES


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A template ready to be carried out. `scope` has everything but resources and imports."""

    template: Template
    graph: dict[str, frozenset[str]]
    scope: Scope


def pseudo_parameters(
    *, account_id: str, region: str, stack_name: str, stack_id: str, notification_arns: Collection[str]
) -> dict[str, Any]:
    """CloudFormation User Guide, "Pseudo parameters reference"."""
    return {
        "AWS::AccountId": account_id,
        "AWS::NotificationARNs": list(notification_arns),
        "AWS::Partition": "aws",
        "AWS::Region": region,
        "AWS::StackId": stack_id,
        "AWS::StackName": stack_name,
        "AWS::URLSuffix": "amazonaws.com",
    }


def prepare(
    text: str, given: Mapping[str, str], pseudo: Mapping[str, Any], matcher: Matcher = parameters.matches
) -> Prepared:
    """Raises TemplateError for whatever is wrong with the template or the parameters."""
    template = parse(text, ATTRIBUTES)
    scope = Scope(
        parameters=parameters.resolve(template.parameters, given, matcher),
        pseudo=pseudo,
        mappings=template.mappings,
    )
    conditions = decide(template, scope)
    graph = plan.dependencies(template, conditions)
    check_types((template.resources[name] for name in graph), TYPES)
    scope = Scope(parameters=scope.parameters, pseudo=scope.pseudo, mappings=scope.mappings, conditions=conditions)
    prepared = Prepared(template=template, graph=graph, scope=scope)
    _check_maps(prepared)
    return prepared


async def prepare_stack(stack: Stack, text: str, matcher: Matcher = parameters.matches) -> Prepared:
    """`prepare` with the stack's parameters and pseudo parameters, beside the loop. Raises TemplateError."""
    pseudo = pseudo_parameters(
        account_id=stack.account_id,
        region=stack.region,
        stack_name=stack.name,
        stack_id=stack.arn,
        notification_arns=stack.notification_arns,
    )
    return await asyncio.to_thread(prepare, text, stack.parameters, pseudo, matcher)


def unchecked(pattern: str, text: str) -> bool:
    """The matcher for parameters that were checked when they were given: their patterns are not run again."""
    return True


def _live_values(prepared: Prepared) -> list[Any]:
    """What resources and outputs are made of, of those that are made."""
    outputs = prepared.template.outputs.values()
    return [
        *(prepared.template.resources[name].properties for name in prepared.graph),
        *(output.value for output in outputs if plan.is_live(output.condition, prepared.scope.conditions)),
    ]


def _check_maps(prepared: Prepared) -> None:
    """Look up now what depends on parameters alone. Raises TemplateError for what is not in its mapping."""
    known = {*prepared.template.parameters, *prepared.scope.pseudo}
    for found in references(_live_values(prepared), prepared.scope.conditions):
        if found.kind == "map":
            inside = references(found.value, prepared.scope.conditions)
            if all(each.kind == "map" or (each.kind == "ref" and each.name in known) for each in inside):
                evaluate({"Fn::FindInMap": found.value}, prepared.scope)


def imports_of(prepared: Prepared) -> list[str]:
    """The names of the exports that the stack imports, each once. Raises TemplateError."""

    def names() -> Iterator[str]:
        for reference in references(_live_values(prepared), prepared.scope.conditions):
            if reference.kind == "import":
                yield str(evaluate(reference.value, prepared.scope))

    return list(dict.fromkeys(names()))


def capabilities_needed(template: Template) -> list[str]:
    """What the caller has to acknowledge, by every resource of the template, made or not."""
    needed = {
        capability
        for resource in template.resources.values()
        if (kind := TYPES.get(resource.type)) is not None
        and (capability := kind.capability(resource.properties)) is not None
    }
    return ["CAPABILITY_NAMED_IAM"] if "CAPABILITY_NAMED_IAM" in needed else sorted(needed)


def check_capabilities(template: Template, given: Collection[str]) -> None:
    """Raises InsufficientCapabilitiesException. CAPABILITY_NAMED_IAM includes CAPABILITY_IAM."""
    acknowledged = {*given, *(("CAPABILITY_IAM",) if "CAPABILITY_NAMED_IAM" in given else ())}
    missing = [each for each in capabilities_needed(template) if each not in acknowledged]
    if missing:
        raise AwsError(
            "InsufficientCapabilitiesException", f"Requires capabilities : [{', '.join(missing)}]", status=400
        )
