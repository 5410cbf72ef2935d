"""A template: its sections read and checked as a whole, before anything is made of it.

CloudFormation User Guide, "Template anatomy" and quotas; error texts are CloudFormation's where it has one.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nearpoint.stack import parameters
from nearpoint.stack.document import Path, line_of, read
from nearpoint.stack.errors import TemplateError
from nearpoint.stack.intrinsics import (
    FUNCTIONS,
    PSEUDO_PARAMETERS,
    Scope,
    function_of,
    map_name,
    no_mapping,
    text_of,
    truth,
)
from nearpoint.stack.parameters import Parameter
from nearpoint.stack.references import condition_references, references

VERSION = "2010-09-09"
RESOURCES_MAX, PARAMETERS_MAX, OUTPUTS_MAX, MAPPINGS_MAX = 500, 200, 200, 200
DESCRIPTION_BYTES_MAX = 1024
AWS_TYPE = re.compile(r"AWS::[A-Za-z0-9]{1,64}::[A-Za-z0-9]{1,64}\Z")
LOGICAL_ID = re.compile(r"[A-Za-z0-9]{1,255}")
MAPPING_KEY = re.compile(r"[A-Za-z0-9.-]{1,255}")
SECTIONS = frozenset(
    ("AWSTemplateFormatVersion", "Conditions", "Description", "Mappings", "Metadata", "Outputs", "Parameters",
     "Resources", "Rules", "Transform", "Hooks")
)  # fmt: skip
RESOURCE_KEYS = frozenset(
    ("Condition", "CreationPolicy", "DeletionPolicy", "DependsOn", "Metadata", "Properties", "Type", "UpdatePolicy",
     "UpdateReplacePolicy")
)  # fmt: skip
DELETION_POLICIES = ("Delete", "Retain", "RetainExceptOnCreate")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceDeclaration:
    """A member of Resources; `properties` as written, functions and all."""

    logical_id: str
    type: str
    properties: dict[str, Any]
    depends_on: tuple[str, ...]
    condition: str | None
    deletion_policy: str
    update_replace_policy: str
    line: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDeclaration:
    """A member of Outputs; value and export name as written."""

    name: str
    value: Any
    description: str | None
    condition: str | None
    export_name: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A template that is well formed: every name that it refers to is there."""

    text: str
    description: str | None
    parameters: dict[str, Parameter]
    mappings: dict[str, dict[str, dict[str, Any]]]
    conditions: dict[str, Any]
    resources: dict[str, ResourceDeclaration]
    outputs: dict[str, OutputDeclaration]
    lines: dict[Path, int]


def parse(text: str, types: Mapping[str, frozenset[str]]) -> Template:
    """Read and check a template. `types`: the resource types there are, with the attributes that GetAtt may ask for.
    Raises TemplateError."""
    document = read(text)
    raw = document.value
    if not isinstance(raw, dict):
        raise TemplateError("Template format error: unsupported structure.")
    unknown = [name for name in raw if name not in SECTIONS]
    if unknown:
        raise TemplateError(
            f"Invalid template property or properties [{', '.join(unknown)}]", line=line_of(document.lines, unknown[:1])
        )
    for section in ("Rules", "Hooks"):
        if raw.get(section):
            raise TemplateError(f"Template format error: {section} are not supported by Nearpoint")
    if raw.get("Transform"):
        names = raw["Transform"] if isinstance(raw["Transform"], list) else [raw["Transform"]]
        name = names[0] if isinstance(names[0], str) else "Fn::Transform"
        raise TemplateError(f"No transform named {name} found.")
    version = raw.get("AWSTemplateFormatVersion", VERSION)
    if version != VERSION:
        raise TemplateError(
            f"Template format error: unsupported value for AWSTemplateFormatVersion. No such version {version}."
        )
    description = raw.get("Description")
    if description is not None and not isinstance(description, str):
        raise TemplateError("Template format error: every Description must be a string")
    if description is not None and len(description.encode()) > DESCRIPTION_BYTES_MAX:
        raise TemplateError(f"Template format error: 'Description' length is greater than {DESCRIPTION_BYTES_MAX}.")
    template = Template(
        text=text,
        description=description,
        parameters={
            name: parameters.declare(_named(name, "Parameter"), each)
            for name, each in _section(raw, "Parameters", PARAMETERS_MAX).items()
        },
        mappings=_mappings(_section(raw, "Mappings", MAPPINGS_MAX)),
        conditions={_named(name, "Condition"): each for name, each in _section(raw, "Conditions", 500).items()},
        resources={
            name: _resource(name, each, types, document.lines)
            for name, each in _section(raw, "Resources", RESOURCES_MAX).items()
        },
        outputs={name: _output(name, each) for name, each in _section(raw, "Outputs", OUTPUTS_MAX).items()},
        lines=document.lines,
    )
    if not template.resources:
        raise TemplateError("Template format error: At least one Resources member must be defined.")
    _check_types(template, types)
    _check_references(template, types)
    return template


def _section(raw: dict[str, Any], name: str, count_max: int) -> dict[str, Any]:
    section = raw.get(name)
    if section is None:
        if name in raw and name != "Resources":
            raise TemplateError(f"Template format error: [/{name}] 'null' values are not allowed in templates")
        return {}
    if not isinstance(section, dict):
        raise TemplateError(f"Template format error: {name} must be an object.")
    if len(section) > count_max:
        raise TemplateError(
            f"Template format error: Number of {name.lower()}, {len(section)}, "
            f"is greater than maximum allowed, {count_max}"
        )
    return section


def _named(name: str, kind: str) -> str:
    if not LOGICAL_ID.fullmatch(name):
        raise TemplateError(f"Template format error: {kind} name {name[:260]} is non alphanumeric.")
    return name


def _mappings(section: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    for name, table in section.items():
        _named(name, "Mapping")
        if not isinstance(table, dict):
            raise TemplateError("Template format error: Every Mappings member must be a map.")
        for key, row in table.items():
            if not isinstance(row, dict) or not MAPPING_KEY.fullmatch(key):
                raise TemplateError(
                    f"Template format error: Every Mappings attribute must be a map with an alphanumeric "
                    f"name, which {name}::{key} is not."
                )
            for last, value in row.items():
                plain = isinstance(value, str | int | float) or (
                    isinstance(value, list) and all(isinstance(each, str | int | float) for each in value)
                )
                if not plain or not MAPPING_KEY.fullmatch(last):
                    raise TemplateError("Template format error: Every Mappings attribute must be a String or a List.")
                row[last] = [text_of(each) for each in value] if isinstance(value, list) else text_of(value)
    return section


def _resource(name: str, raw: Any, types: Mapping[str, frozenset[str]], lines: dict[Path, int]) -> ResourceDeclaration:
    line = line_of(lines, ("Resources", name))
    if not LOGICAL_ID.fullmatch(name):
        raise TemplateError(f"Template format error: Resource name {name[:260]} is non alphanumeric.", line=line)
    if not isinstance(raw, dict):
        raise TemplateError("Template format error: Any Resources member must be an object.", line=line)
    unknown = [key for key in raw if key not in RESOURCE_KEYS]
    if unknown:
        raise TemplateError(
            f"Invalid template resource property '{unknown[0]}'", line=line_of(lines, ("Resources", name, unknown[0]))
        )
    for key in ("CreationPolicy", "UpdatePolicy"):
        if raw.get(key):
            raise TemplateError(
                f"Template format error: {key} of resource {name} is not supported by Nearpoint", line=line
            )
    kind = raw.get("Type")
    if not isinstance(kind, str) or not kind:
        raise TemplateError(
            f"Template format error: [/Resources/{name}] Every Resources object must contain a Type member.", line=line
        )
    properties = raw.get("Properties", {})
    if properties is None:
        raise TemplateError(
            f"Template format error: [/Resources/{name}/Properties] 'null' values are not allowed in templates",
            line=line,
        )
    if not isinstance(properties, dict):
        raise TemplateError(f"Template format error: Resources member {name} Properties must be an object.", line=line)
    depends_on = raw.get("DependsOn", [])
    if isinstance(depends_on, str):
        depends_on = [depends_on]
    if not isinstance(depends_on, list) or not all(isinstance(each, str) for each in depends_on):
        raise TemplateError("Template format error: DependsOn must be a string or list of strings.", line=line)
    condition = raw.get("Condition")
    if condition is not None and not isinstance(condition, str):
        raise TemplateError("Template format error: Every Condition member must be a string.", line=line)
    policies = []
    for key in ("DeletionPolicy", "UpdateReplacePolicy"):
        policy = raw.get(key, "Delete")
        if policy == "Snapshot" and kind in types:
            raise TemplateError(
                f"Template error: resource type {kind} does not support deletion policy Snapshot", line=line
            )
        if policy not in DELETION_POLICIES or (key == "UpdateReplacePolicy" and policy == "RetainExceptOnCreate"):
            raise TemplateError(f"Template format error: Unrecognized {key} {policy} for resource {name}", line=line)
        policies.append(policy)
    return ResourceDeclaration(
        logical_id=name,
        type=kind,
        properties=properties,
        depends_on=tuple(dict.fromkeys(depends_on)),
        condition=condition,
        deletion_policy=policies[0],
        update_replace_policy=policies[1],
        line=line,
    )


def _output(name: str, raw: Any) -> OutputDeclaration:
    _named(name, "Output")
    if not isinstance(raw, dict):
        raise TemplateError("Template format error: Any Outputs member must be an object.")
    for key in raw:
        if key not in ("Condition", "Description", "Export", "Value"):
            raise TemplateError(f"Invalid template output property '{key}'")
    if raw.get("Value") is None:
        raise TemplateError(
            f"Template format error: [/Outputs/{name}] Every Outputs member must contain a Value object"
        )
    export = raw.get("Export")
    if export is not None and (not isinstance(export, dict) or set(export) != {"Name"}):
        raise TemplateError("Template format error: Export must contain a Name and nothing else.")
    condition, description = raw.get("Condition"), raw.get("Description")
    if not isinstance(condition, str | None) or not isinstance(description, str | None):
        raise TemplateError("Template format error: Every Condition and Description of an output must be a string.")
    return OutputDeclaration(
        name=name,
        value=raw["Value"],
        description=description,
        condition=condition,
        export_name=None if export is None else export["Name"],
    )


def check_types(resources: Iterable[ResourceDeclaration], types: Container[str]) -> None:
    """Raises TemplateError where one of them is of no type there is."""
    unknown = [each for each in resources if each.type not in types]
    if unknown:
        names = sorted({each.type for each in unknown})
        raise TemplateError(
            f"Template format error: Unrecognized resource types: [{', '.join(names)}]", line=unknown[0].line
        )


def _check_types(template: Template, types: Mapping[str, frozenset[str]]) -> None:
    # What a condition may leave out may be of a type that only AWS has; `prepare` looks again once that is decided.
    always = [each for each in template.resources.values() if each.condition is None or not AWS_TYPE.match(each.type)]
    check_types(always, types)


def _check_functions(value: Any) -> None:
    function = function_of(value)
    if function is not None:
        name, argument = function
        if name not in FUNCTIONS:
            raise TemplateError(f"Template error: {name} is not supported by Nearpoint")
        _check_functions(argument)
    elif isinstance(value, dict):
        for each in value.values():
            _check_functions(each)
    elif isinstance(value, list):
        for each in value:
            _check_functions(each)


def _unresolved(names: list[str], block: str, line: int | None) -> TemplateError:
    return TemplateError(
        f"Template format error: Unresolved resource dependencies [{', '.join(dict.fromkeys(names))}] in the {block} "
        "block of the template",
        line=line,
    )


def _check_references(template: Template, types: Mapping[str, frozenset[str]]) -> None:
    for name, condition in template.conditions.items():
        _check_functions(condition)
        strangers = [
            each.name
            for each in references(condition)
            if each.kind == "att"
            or (each.kind == "ref" and each.name not in template.parameters and each.name not in PSEUDO_PARAMETERS)
        ]
        if strangers:
            raise TemplateError(
                f"Template format error: Unresolved dependencies [{', '.join(strangers)}]. Cannot reference resources "
                "in the Conditions block of the template",
                line=line_of(template.lines, ("Conditions", name)),
            )
        for other in condition_references(condition):
            _check_condition(template, other, "Conditions")
    for resource in template.resources.values():
        _check_block(template, types, resource.properties, "Resources", resource.line)
        strangers = [name for name in resource.depends_on if name not in template.resources]
        if strangers:
            raise _unresolved(strangers, "Resources", resource.line)
        _check_condition(template, resource.condition, "Resources")
    for output in template.outputs.values():
        line = line_of(template.lines, ("Outputs", output.name))
        _check_block(template, types, [output.value, output.export_name], "Outputs", line)
        _check_condition(template, output.condition, "Outputs")
        attached = [
            each.name
            for each in references(output.export_name)
            if each.kind == "att" or (each.kind == "ref" and each.name in template.resources)
        ]
        if attached:
            raise TemplateError(
                "Template format error: Output " + output.name + " is malformed. The Name field of every Export member "
                "must be specified and consist only of alphanumeric characters, colons, or hyphens.",
                line=line,
            )


def _check_condition(template: Template, name: str | None, block: str) -> None:
    if name is not None and name not in template.conditions:
        raise TemplateError(
            f"Template format error: Unresolved condition dependency {name} in the {block} block of the template"
        )


def _check_block(
    template: Template, types: Mapping[str, frozenset[str]], value: Any, block: str, line: int | None
) -> None:
    _check_functions(value)
    strangers: list[str] = []
    for each in references(value):
        if each.kind == "ref":
            if not (
                each.name in template.resources or each.name in template.parameters or each.name in PSEUDO_PARAMETERS
            ):
                strangers.append(each.name)
        elif each.kind == "att":
            resource = template.resources.get(each.name)
            if resource is None:
                raise TemplateError(
                    f"Template error: instance of Fn::GetAtt references undefined resource {each.name}", line=line
                )
            attributes = types.get(resource.type)
            if attributes is not None and each.attribute is not None and each.attribute not in attributes:
                raise TemplateError(
                    f"Template error: resource {each.name} does not support attribute type {each.attribute} in "
                    "Fn::GetAtt",
                    line=line,
                )
        elif each.kind == "condition":
            _check_condition(template, each.name, block)
        elif each.kind == "map" and (name := map_name(each.value)) is not None and name not in template.mappings:
            raise TemplateError(no_mapping(name), line=line)
    if strangers:
        raise _unresolved(strangers, block, line)


def decide(template: Template, scope: Scope) -> dict[str, bool]:
    """The template's conditions, decided in this scope. Raises TemplateError, for circular ones too."""
    decided: dict[str, bool] = {}
    underway: list[str] = []

    def one(name: str) -> bool:
        if name not in decided:
            if name in underway:
                raise TemplateError(f"Template error: Found circular condition dependency: {', '.join(underway)}")
            underway.append(name)
            decided[name] = truth(template.conditions[name], one, scope)
            underway.pop()
        return decided[name]

    return {name: one(name) for name in template.conditions}
