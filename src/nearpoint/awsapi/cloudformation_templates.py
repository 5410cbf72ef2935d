"""CloudFormation's calls about templates, and about the exports that tie stacks together (CloudFormation API
Reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.awsapi.call import Call, Handler
from nearpoint.awsapi.paging import page
from nearpoint.awsapi.stack_call import PAGE, engine_of, find_stack, given_template, invalid
from nearpoint.stack.change_sets import ChangeSets
from nearpoint.stack.template import Template


async def get_template(call: Call) -> Mapping[str, Any]:
    stages = ["Original", "Processed"]
    if "ChangeSetName" in call.params:
        change_set, _ = ChangeSets(engine_of(call)).find(
            call.region, call.params["ChangeSetName"], call.params.get("StackName")
        )
        return {"TemplateBody": change_set.text, "StagesAvailable": stages}
    if "StackName" not in call.params:
        raise invalid("StackName must be specified")
    stack = find_stack(call)
    text = engine_of(call).ledger.template(stack.uuid, stack.revision or stack.target or 1)
    return {"TemplateBody": text, "StagesAvailable": stages}


async def _parsed(call: Call) -> Template:
    text = await given_template(call)
    if text is None:
        if "StackName" not in call.params:
            raise invalid("Either Template URL or Template Body must be specified.")
        stack = find_stack(call)
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
    "GetTemplate": get_template,
    "GetTemplateSummary": get_template_summary,
    "ListExports": list_exports,
    "ListImports": list_imports,
    "ValidateTemplate": validate_template,
}
