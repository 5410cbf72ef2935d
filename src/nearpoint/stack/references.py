"""Which resources, parameters, conditions and exports a value refers to, before anything is evaluated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nearpoint.stack.intrinsics import function_of, get_att_arguments, if_arguments, sub_arguments, substitutions


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """`kind`: `ref` (a parameter, pseudo parameter or resource), `att` (a resource's attribute), `condition`, `import`
    or `map` (of those two `value` is the argument, not yet evaluated)."""

    kind: str
    name: str
    attribute: str | None = None
    value: Any = None


def references(value: Any, conditions: Mapping[str, bool] | None = None) -> Iterator[Reference]:
    """Every reference in the value. With decided `conditions`, only those in the branches that count."""
    function = function_of(value)
    if function is None:
        if isinstance(value, dict):
            for each in value.values():
                yield from references(each, conditions)
        elif isinstance(value, list):
            for each in value:
                yield from references(each, conditions)
        return
    name, argument = function
    if name == "Ref":
        yield Reference(kind="ref", name=argument if isinstance(argument, str) else repr(argument))
    elif name == "Fn::GetAtt":
        logical_id, attribute = get_att_arguments(argument)
        yield Reference(kind="att", name=logical_id, attribute=attribute if isinstance(attribute, str) else None)
        yield from references(attribute, conditions)
    elif name == "Fn::Sub":
        text, variables = sub_arguments(argument)
        for inside in substitutions(text):
            if inside in variables:
                continue
            logical_id, dot, attribute = inside.partition(".")
            if dot:
                yield Reference(kind="att", name=logical_id, attribute=attribute)
            else:
                yield Reference(kind="ref", name=inside)
        yield from references(variables, conditions)
    elif name == "Fn::If":
        condition, yes, no = if_arguments(argument)
        yield Reference(kind="condition", name=condition)
        if conditions is None or condition not in conditions:
            yield from references([yes, no], conditions)
        else:
            yield from references(yes if conditions[condition] else no, conditions)
    else:
        if name == "Fn::FindInMap":
            yield Reference(kind="map", name="", value=argument)
        if name == "Fn::ImportValue":
            yield Reference(kind="import", name="", value=argument)
        yield from references(argument, conditions)


def condition_references(value: Any) -> Iterator[str]:
    """The names of other conditions that a condition's value refers to."""
    if isinstance(value, dict):
        for key, each in value.items():
            if key == "Condition" and isinstance(each, str):
                yield each
            else:
                yield from condition_references(each)
    elif isinstance(value, list):
        for each in value:
            yield from condition_references(each)
