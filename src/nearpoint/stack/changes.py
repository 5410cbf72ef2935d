"""What a template would change about a stack's resources, as a change set shows it. Pure.

Resources that would be made anew have a name nobody knows yet; what refers to them is evaluated with a mark in its
place, and a property that carries the mark may change ("Dynamic"). CloudFormation API Reference, `ResourceChange`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nearpoint.stack import plan
from nearpoint.stack.errors import TemplateError
from nearpoint.stack.intrinsics import NO_VALUE, Made, Scope, evaluate
from nearpoint.stack.preparation import Prepared
from nearpoint.stack.records import PropertyChange, ResourceChange, StackResource, unpack_properties
from nearpoint.stack.references import Reference, references
from nearpoint.stack.schema import PropertyError
from nearpoint.stack.template import ResourceDeclaration
from nearpoint.stack.types import TYPES

UNKNOWN = "{{changeSet:KNOWN_AFTER_APPLY}}"
GONE = ("DELETE_COMPLETE", "DELETE_SKIPPED")


def resource_changes(
    records: Mapping[str, StackResource],
    parameters_before: Mapping[str, Any],
    after: Prepared,
    imports: Mapping[str, str],
) -> tuple[ResourceChange, ...]:
    """The changes by logical id. `records` are the resources as they are, `parameters_before` the values of the
    template in force, `imports` the region's exports. Raises TemplateError."""
    live = {name: each for name, each in records.items() if each.physical_id and each.status not in GONE}
    made: dict[str, Made] = {}
    scope = Scope(
        parameters=after.scope.parameters,
        pseudo=after.scope.pseudo,
        conditions=after.scope.conditions,
        mappings=after.scope.mappings,
        resources=made,
        imports=imports,
    )
    changed_parameters = {
        name for name, value in after.scope.parameters.items() if parameters_before.get(name) != value
    }
    changes: list[ResourceChange] = []
    for layer in plan.waves(after.graph):
        for name in layer:
            declaration, record = after.template.resources[name], live.get(name)
            anew = Made(ref=UNKNOWN, attributes=dict.fromkeys(TYPES[declaration.type].attributes, UNKNOWN))
            if record is None:
                made[name] = anew
                changes.append(ResourceChange(action="Add", logical_id=name, type=declaration.type))
                continue
            change = _modification(declaration, record, scope, changed_parameters)
            kept = Made(ref=record.physical_id, attributes=record.attributes)
            made[name] = kept if change is None or change.replacement == "False" else anew
            if change is not None:
                changes.append(change)
    for name, record in live.items():
        if name not in after.graph:
            kept_on = "Retain" if record.deletion_policy.startswith("Retain") else "Delete"
            changes.append(
                ResourceChange(
                    action="Remove",
                    logical_id=name,
                    type=record.type,
                    physical_id=record.physical_id,
                    policy_action=kept_on,
                )
            )
    return tuple(sorted(changes, key=lambda each: each.logical_id))


def _modification(
    declaration: ResourceDeclaration, record: StackResource, scope: Scope, changed_parameters: set[str]
) -> ResourceChange | None:
    details = [*_property_changes(declaration, record, scope, changed_parameters)]
    if declaration.deletion_policy != record.deletion_policy:
        details.append(PropertyChange(attribute="DeletionPolicy"))
    if declaration.update_replace_policy != record.update_replace_policy:
        details.append(PropertyChange(attribute="UpdateReplacePolicy"))
    if not details:
        return None
    recreations = {detail.recreation for detail in details}
    replacement = "True" if "Always" in recreations else "Conditional" if "Conditionally" in recreations else "False"
    policy = "ReplaceAndRetain" if record.update_replace_policy.startswith("Retain") else "ReplaceAndDelete"
    return ResourceChange(
        action="Modify",
        logical_id=declaration.logical_id,
        type=declaration.type,
        physical_id=record.physical_id,
        replacement=replacement,
        policy_action=None if replacement == "False" else policy,
        details=tuple(details),
    )


def _property_changes(
    declaration: ResourceDeclaration, record: StackResource, scope: Scope, changed_parameters: set[str]
) -> Iterator[PropertyChange]:
    kind = TYPES[declaration.type]
    before = unpack_properties(record.properties_zlib)
    for name in sorted({*before, *declaration.properties}):
        written = declaration.properties.get(name)
        after = _value(kind.properties.known.get(name), written, scope) if name in declaration.properties else None
        if after == before.get(name):
            continue
        refers = list(references(written, scope.conditions))
        unknown = [each for each in refers if _is_unknown(each, scope)]
        dynamic = bool(unknown) and UNKNOWN in repr(after)
        replacing = name in kind.replacing
        causes = unknown if dynamic else [each for each in refers if each.name in changed_parameters]
        cause = causes[0] if causes else None
        yield PropertyChange(
            attribute="Tags" if name == "Tags" else "Properties",
            name=name,
            recreation="Never" if not replacing else "Conditionally" if dynamic else "Always",
            evaluation="Dynamic" if dynamic else "Static",
            source="DirectModification" if cause is None else _source(cause, changed_parameters),
            entity=None
            if cause is None
            else cause.name
            if cause.attribute is None
            else f"{cause.name}.{cause.attribute}",
        )


def _value(schema: Any, written: Any, scope: Scope) -> Any:
    """A property as it would be kept; as far as that can be told."""
    try:
        value = evaluate(written, scope)
    except TemplateError:
        if any(_is_unknown(each, scope) for each in references(written, scope.conditions)):
            return UNKNOWN  # a function that can't be carried out on the mark
        raise
    if value is NO_VALUE:
        return None
    try:
        return value if schema is None else schema.check(value, "")
    except PropertyError:
        return value  # the mark has not the form of what will stand there; or it is wrong, and making it will say so


def _is_unknown(reference: Reference, scope: Scope) -> bool:
    made = scope.resources.get(reference.name)
    return reference.kind in ("ref", "att") and made is not None and made.ref == UNKNOWN


def _source(cause: Reference, changed_parameters: set[str]) -> str:
    if cause.name in changed_parameters:
        return "ParameterReference"
    return "ResourceAttribute" if cause.kind == "att" else "ResourceReference"
