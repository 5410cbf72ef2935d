"""Evaluates CloudFormation's intrinsic functions over a value ("Intrinsic function reference").

A function is an object with one key: `Ref` or `Fn::…`. Everything that a function may look at is in the `Scope`.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from nearpoint.stack.errors import TemplateError

TEXT_MAX = 1_048_576  # characters that a function may make; more is a template that attacks
SUBSTITUTION = re.compile(r"\$\{([^}]*)\}")
SUB_NAME = re.compile(r"[A-Za-z0-9_.:]+")
PSEUDO_PARAMETERS = frozenset(
    f"AWS::{name}"
    for name in ("AccountId", "NoValue", "NotificationARNs", "Partition", "Region", "StackId", "StackName", "URLSuffix")
)


class _NoValue:
    __slots__ = ()


NO_VALUE: Final = _NoValue()  # `AWS::NoValue`: the property is left out


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A resource that exists: what `Ref` gives (its physical id) and its attributes."""

    ref: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What functions look at. `parameters` hold strings, or lists of them for list types; `conditions` are decided;
    `imports` are the exports of the region by name."""

    parameters: Mapping[str, Any] = field(default_factory=dict)
    pseudo: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, bool] = field(default_factory=dict)
    mappings: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict)
    resources: Mapping[str, Made] = field(default_factory=dict)
    imports: Mapping[str, str] = field(default_factory=dict)


def function_of(value: Any) -> tuple[str, Any] | None:
    """Name and argument where the value is a function. Raises TemplateError for a function beside other keys."""
    if not isinstance(value, dict):
        return None
    names = [name for name in value if name == "Ref" or name.startswith("Fn::")]
    if not names:
        return None
    if len(value) > 1:
        raise TemplateError(f"Template format error: {names[0]} has to be the only key of its object")
    return names[0], value[names[0]]


def substitutions(text: str) -> list[str]:
    """The names inside `${…}`, without the literal `${!…}`. Raises TemplateError for one that can't be a name."""
    names = []
    for name in SUBSTITUTION.findall(text):
        if name.startswith("!"):
            continue
        if not SUB_NAME.fullmatch(name.strip()):
            raise TemplateError(
                "Template error: variable names in Fn::Sub syntax must contain only alphanumeric characters, "
                "underscores, periods, and colons"
            )
        names.append(name.strip())
    return names


def sub_arguments(argument: Any) -> tuple[str, dict[str, Any]]:
    """The text and the variables of an Fn::Sub in either form."""
    if isinstance(argument, str):
        return argument, {}
    if (
        isinstance(argument, list)
        and len(argument) == 2
        and isinstance(argument[0], str)
        and isinstance(argument[1], dict)
    ):
        return argument[0], argument[1]
    raise TemplateError(
        "Template error: One or more Fn::Sub intrinsic functions don't specify expected arguments. Specify a string as "
        "first argument, and an optional second argument to specify a mapping of values to replace in the string"
    )


def get_att_arguments(argument: Any) -> tuple[str, Any]:
    """Logical id and attribute (which may itself be a Ref) of an Fn::GetAtt."""
    if isinstance(argument, str) and "." in argument:
        logical_id, _, attribute = argument.partition(".")
        return logical_id, attribute
    if isinstance(argument, list) and len(argument) == 2 and isinstance(argument[0], str):
        return argument[0], argument[1]
    raise TemplateError(
        "Template error: every Fn::GetAtt object requires two non-empty parameters, the resource name and the resource "
        "attribute"
    )


def text_of(value: Any) -> str:
    """A scalar as CloudFormation writes it into text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def evaluate(value: Any, scope: Scope) -> Any:
    """The value with every function replaced by its result. Raises TemplateError."""
    function = function_of(value)
    if function is not None:
        name, argument = function
        if name not in FUNCTIONS:
            raise TemplateError(f"Template error: {name} is not supported")
        return FUNCTIONS[name](argument, scope)
    if isinstance(value, dict):
        table = {key: evaluate(each, scope) for key, each in value.items()}
        return {key: each for key, each in table.items() if each is not NO_VALUE}
    if isinstance(value, list):
        return [each for each in (evaluate(item, scope) for item in value) if each is not NO_VALUE]
    if isinstance(value, str) and "{{resolve:" in value:
        raise TemplateError("Template error: dynamic references ({{resolve:…}}) are not supported by Nearpoint")
    return value


def _limited(text: str) -> str:
    if len(text) > TEXT_MAX:
        raise TemplateError(f"Template error: a function makes more than {TEXT_MAX} characters")
    return text


def _text(value: Any, complaint: str) -> str:
    if isinstance(value, str | int | float):
        return text_of(value)
    raise TemplateError(complaint)


def _ref(argument: Any, scope: Scope) -> Any:
    if not isinstance(argument, str):
        raise TemplateError("Template format error: every Ref object must have a single String value.")
    if argument == "AWS::NoValue":
        return NO_VALUE
    for known in (scope.parameters, scope.pseudo):
        if argument in known:
            return known[argument]
    if argument in scope.resources:
        return scope.resources[argument].ref
    raise TemplateError(f"Template format error: Unresolved resource dependencies [{argument}] in the template")


def _get_att(argument: Any, scope: Scope) -> Any:
    logical_id, attribute = get_att_arguments(argument)
    attribute = _text(evaluate(attribute, scope), "Template error: Fn::GetAtt requires an attribute's name")
    made = scope.resources.get(logical_id)
    if made is None:
        raise TemplateError(f"Template error: instance of Fn::GetAtt references undefined resource {logical_id}")
    if attribute not in made.attributes:
        raise TemplateError(
            f"Template error: resource {logical_id} does not support attribute type {attribute} in Fn::GetAtt"
        )
    return made.attributes[attribute]


def _sub(argument: Any, scope: Scope) -> str:
    text, variables = sub_arguments(argument)
    substitutions(text)
    given = {name: evaluate(each, scope) for name, each in variables.items()}

    def one(match: re.Match[str]) -> str:
        name = match[1].strip()
        if name.startswith("!"):
            return "${" + match[1][1:] + "}"
        if name in given:
            value = given[name]
        elif "." in name:
            value = _get_att(name, scope)
        else:
            value = _ref(name, scope)
        if isinstance(value, list):
            value = ",".join(text_of(each) for each in value)
        return _text(value, f"Template error: Fn::Sub cannot put the value of {name} into text")

    return _bounded_sub(text, one)


def _bounded_sub(text: str, one: Callable[[re.Match[str]], str]) -> str:
    parts, at, size = [], 0, 0
    for match in SUBSTITUTION.finditer(text):
        part = text[at : match.start()] + one(match)
        size += len(part)
        if size > TEXT_MAX:
            raise TemplateError(f"Template error: a function makes more than {TEXT_MAX} characters")
        parts.append(part)
        at = match.end()
    parts.append(text[at:])
    return "".join(parts)


def _join(argument: Any, scope: Scope) -> str:
    complaint = (
        "Template error: every Fn::Join object requires two parameters, (1) a string delimiter and (2) a list of "
        "strings to be joined or a function that returns a list of strings (such as Fn::GetAZs) to be joined."
    )
    if not isinstance(argument, list) or len(argument) != 2 or not isinstance(argument[0], str):
        raise TemplateError(complaint)
    items = evaluate(argument[1], scope)
    if not isinstance(items, list):
        raise TemplateError(complaint)
    texts = [_text(item, complaint) for item in items]
    if sum(map(len, texts)) + len(argument[0]) * len(texts) > TEXT_MAX:
        raise TemplateError(f"Template error: a function makes more than {TEXT_MAX} characters")
    return argument[0].join(texts)


def _split(argument: Any, scope: Scope) -> list[str]:
    complaint = (
        "Template error: every Fn::Split object requires two parameters, (1) a string delimiter and (2) a string to be "
        "split or a function that returns a string to be split."
    )
    if not isinstance(argument, list) or len(argument) != 2 or not isinstance(argument[0], str) or not argument[0]:
        raise TemplateError(complaint)
    return _text(evaluate(argument[1], scope), complaint).split(argument[0])


def _select(argument: Any, scope: Scope) -> Any:
    complaint = "Template error: Fn::Select requires a list argument with two elements: an integer index and a list"
    if not isinstance(argument, list) or len(argument) != 2:
        raise TemplateError(complaint)
    index, items = evaluate(argument[0], scope), evaluate(argument[1], scope)
    if not re.fullmatch(r"-?[0-9]{1,9}", text_of(index)) or not isinstance(items, list):
        raise TemplateError(complaint)
    if not 0 <= int(index) < len(items):
        raise TemplateError(f"Template error: Fn::Select cannot select nonexistent value at index {int(index)}")
    return items[int(index)]


def map_name(argument: Any) -> str | None:
    """The mapping that a Fn::FindInMap looks in, where it says so itself."""
    return argument[0] if isinstance(argument, list) and argument and isinstance(argument[0], str) else None


def no_mapping(name: str) -> str:
    """What is wrong with a Fn::FindInMap whose mapping is not there."""
    return f"Template error: Mapping named '{name}' is not present in the 'Mappings' section of template."


def _find_in_map(argument: Any, scope: Scope) -> Any:
    if not isinstance(argument, list) or len(argument) != 3:
        raise TemplateError(
            "Template error: every Fn::FindInMap object requires three parameters, the map name, map key and the "
            "attribute for return value"
        )
    names = [text_of(evaluate(each, scope)) for each in argument]
    if names[0] not in scope.mappings:
        raise TemplateError(no_mapping(names[0]))
    found: Any = scope.mappings
    for name in names:
        if not isinstance(found, Mapping) or name not in found:
            raise TemplateError(f"Template error: Unable to get mapping for {'::'.join(names)}")
        found = found[name]
    return found


def _import_value(argument: Any, scope: Scope) -> str:
    name = _text(evaluate(argument, scope), "Template error: Fn::ImportValue requires the name of an export")
    if name not in scope.imports:
        raise TemplateError(f"No export named {name} found.")
    return scope.imports[name]


def _base64(argument: Any, scope: Scope) -> str:
    text = _text(evaluate(argument, scope), "Template error: every Fn::Base64 object must have a String-typed value.")
    return _limited(base64.b64encode(text.encode()).decode())


def _cidr(argument: Any, scope: Scope) -> list[str]:
    arguments = evaluate(argument, scope)
    if not isinstance(arguments, list) or len(arguments) not in (2, 3):
        raise TemplateError(
            "Template error: every Fn::Cidr object requires an IP block, a count and optionally the bits"
        )
    try:
        network = ipaddress.ip_network(str(arguments[0]))
        count = int(arguments[1])
        bits = int(arguments[2]) if len(arguments) == 3 else 8
        new_prefix = network.max_prefixlen - bits
        if not 1 <= count <= 256 or not network.prefixlen <= new_prefix <= network.max_prefixlen:
            raise ValueError
        if count > 2 ** (new_prefix - network.prefixlen):
            raise ValueError
    except (TypeError, ValueError):
        raise TemplateError(
            f"Template error: Fn::Cidr cannot cut {arguments[0]} into {arguments[1]} blocks as asked"
        ) from None
    size = 2**bits
    first = int(network.network_address)
    return [f"{ipaddress.ip_address(first + number * size)}/{new_prefix}" for number in range(count)]


def _get_azs(argument: Any, scope: Scope) -> list[str]:
    region = evaluate(argument, scope)
    if not isinstance(region, str):
        raise TemplateError("Template error: Fn::GetAZs requires the name of a Region")
    region = region or scope.pseudo.get("AWS::Region", "")
    return [f"{region}{letter}" for letter in "abc"]


def _if(argument: Any, scope: Scope) -> Any:
    name, yes, no = if_arguments(argument)
    if name not in scope.conditions:
        raise TemplateError(f"Template error: unresolved condition dependency {name} in Fn::If")
    return evaluate(yes if scope.conditions[name] else no, scope)


def if_arguments(argument: Any) -> tuple[str, Any, Any]:
    """Condition, value if true, value if false."""
    if not isinstance(argument, list) or len(argument) != 3 or not isinstance(argument[0], str):
        raise TemplateError("Template error: Fn::If requires a list argument with three elements")
    return argument[0], argument[1], argument[2]


def _only_in_conditions(name: str) -> Callable[[Any, Scope], Any]:
    def decide(argument: Any, scope: Scope) -> bool:
        return truth({name: argument}, scope.conditions.__getitem__, scope)

    return decide


def truth(value: Any, condition: Callable[[str], bool], scope: Scope) -> bool:
    """What a condition comes to. `condition` decides another one by name (raising KeyError where there is none)."""
    if isinstance(value, dict) and len(value) == 1:
        ((name, argument),) = value.items()
        if name == "Condition" and isinstance(argument, str):
            try:
                return condition(argument)
            except KeyError:
                raise TemplateError(
                    f"Template format error: Unresolved condition dependency {argument} in the Conditions block of the "
                    "template"
                ) from None
        if name == "Fn::Equals":
            if not isinstance(argument, list) or len(argument) != 2:
                raise TemplateError("Template error: every Fn::Equals object requires a list of 2 string parameters.")
            left, right = (evaluate(each, scope) for each in argument)
            if isinstance(left, dict | list) or isinstance(right, dict | list):
                return bool(left == right)
            return text_of(left) == text_of(right)
        if name == "Fn::Not":
            if not isinstance(argument, list) or len(argument) != 1:
                raise TemplateError("Template error: every Fn::Not object requires one boolean parameter.")
            return not truth(argument[0], condition, scope)
        if name in ("Fn::And", "Fn::Or"):
            if not isinstance(argument, list) or not 2 <= len(argument) <= 10:
                raise TemplateError(
                    f"Template error: every {name} object requires a list of at least 2 and at most 10 boolean "
                    "parameters."
                )
            decided = [truth(each, condition, scope) for each in argument]
            return all(decided) if name == "Fn::And" else any(decided)
    raise TemplateError(
        "Template format error: Conditions can only be boolean operations on parameters and other conditions"
    )


FUNCTIONS: dict[str, Callable[[Any, Scope], Any]] = {
    "Ref": _ref,
    "Fn::And": _only_in_conditions("Fn::And"),
    "Fn::Base64": _base64,
    "Fn::Cidr": _cidr,
    "Fn::Equals": _only_in_conditions("Fn::Equals"),
    "Fn::FindInMap": _find_in_map,
    "Fn::GetAZs": _get_azs,
    "Fn::GetAtt": _get_att,
    "Fn::If": _if,
    "Fn::ImportValue": _import_value,
    "Fn::Join": _join,
    "Fn::Not": _only_in_conditions("Fn::Not"),
    "Fn::Or": _only_in_conditions("Fn::Or"),
    "Fn::Select": _select,
    "Fn::Split": _split,
    "Fn::Sub": _sub,
}
