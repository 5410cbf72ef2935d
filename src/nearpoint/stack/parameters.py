"""Template parameters: their declarations, and the values of a stack checked against them.

CloudFormation User Guide, "Parameters"; limits from its quotas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from nearpoint.stack.errors import TemplateError
from nearpoint.stack.intrinsics import text_of

TYPES = ("String", "Number", "CommaDelimitedList", "List<Number>")
VALUE_BYTES_MAX = 4096
PATTERN_MAX = 1024
MASK = "****"
_KEYS = frozenset(
    ("AllowedPattern", "AllowedValues", "ConstraintDescription", "Default", "Description", "MaxLength", "MaxValue",
     "MinLength", "MinValue", "NoEcho", "Type")
)  # fmt: skip
Value = str | list[str]
Matcher = Callable[[str, str], bool]  # pattern, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A declared parameter; limits as declared, None where there is none."""

    name: str
    type: str
    default: str | None = None
    description: str | None = None
    allowed_values: tuple[str, ...] = ()
    allowed_pattern: str | None = None
    length_min: int | None = None
    length_max: int | None = None
    value_min: Decimal | None = None
    value_max: Decimal | None = None
    no_echo: bool = False
    constraint_description: str | None = None

    @property
    def is_list(self) -> bool:
        return self.type in ("CommaDelimitedList", "List<Number>")


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text.strip())
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _whole(name: str, declared: Mapping[str, Any], key: str) -> int | None:
    if key not in declared:
        return None
    text = text_of(declared[key])
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise TemplateError(f"Template format error: Parameter '{name}' {key} must be a number.")
    return int(text)


def _limit(name: str, declared: Mapping[str, Any], key: str) -> Decimal | None:
    if key not in declared:
        return None
    number = _number(text_of(declared[key]))
    if number is None:
        raise TemplateError(f"Template format error: Parameter '{name}' {key} must be a number.")
    return number


def declare(name: str, declared: Any) -> Parameter:
    """A declaration of the template's Parameters section. Raises TemplateError."""
    if not isinstance(declared, dict):
        raise TemplateError("Template format error: Any Parameters member must be an object.")
    unknown = sorted(set(declared) - _KEYS)
    if unknown:
        raise TemplateError(f"Invalid template parameter property '{unknown[0]}'")
    if "Type" not in declared:
        raise TemplateError(
            f"Template format error: [/Parameters/{name}] Every Parameters object must contain a Type member."
        )
    kind = declared["Type"]
    if kind not in TYPES:
        if isinstance(kind, str) and kind.startswith(("AWS::", "List<AWS::")):
            raise TemplateError(
                f"Template format error: parameter type {kind} of {name} is not supported by Nearpoint; "
                f"use one of {', '.join(TYPES)}"
            )
        raise TemplateError(f"Template format error: Unrecognized parameter type: {kind}")
    allowed = declared.get("AllowedValues", [])
    if not isinstance(allowed, list) or any(isinstance(each, dict | list) for each in allowed):
        raise TemplateError(f"Template format error: Parameter '{name}' AllowedValues must be a list of strings.")
    default = declared.get("Default")
    if isinstance(default, dict | list):
        raise TemplateError("Template format error: Every Default member must be a string.")
    pattern = declared.get("AllowedPattern")
    if pattern is not None:
        _check_pattern(name, pattern)
    no_echo = declared.get("NoEcho", False)
    if text_of(no_echo).lower() not in ("true", "false"):
        raise TemplateError(f"Template format error: Parameter '{name}' NoEcho must be true or false.")
    return Parameter(
        name=name,
        type=kind,
        default=None if default is None else text_of(default),
        description=None if declared.get("Description") is None else text_of(declared["Description"])[:4000],
        allowed_values=tuple(text_of(each) for each in allowed),
        allowed_pattern=pattern,
        length_min=_whole(name, declared, "MinLength"),
        length_max=_whole(name, declared, "MaxLength"),
        value_min=_limit(name, declared, "MinValue"),
        value_max=_limit(name, declared, "MaxValue"),
        no_echo=text_of(no_echo).lower() == "true",
        constraint_description=(
            None if declared.get("ConstraintDescription") is None else text_of(declared["ConstraintDescription"])
        ),
    )


def _check_pattern(name: str, pattern: Any) -> None:
    if not isinstance(pattern, str) or len(pattern) > PATTERN_MAX:
        raise TemplateError(
            f"Template format error: Parameter '{name}' AllowedPattern must be a short regular expression."
        )
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        raise TemplateError(
            f"Template format error: Parameter '{name}' AllowedPattern is no regular expression."
        ) from None


def matches(pattern: str, text: str) -> bool:
    """Whether the pattern matches the whole text. Takes as long as the pattern wants: `matching` bounds it."""
    return re.fullmatch(pattern, text) is not None


def _check_text(parameter: Parameter, text: str, matcher: Matcher) -> None:
    def refuse(rule: str) -> TemplateError:
        if parameter.constraint_description is not None:
            return TemplateError(
                f"Parameter {parameter.name} failed to satisfy constraint: {parameter.constraint_description}"
            )
        return TemplateError(f"Parameter '{parameter.name}' must {rule}")

    if parameter.type in ("Number", "List<Number>"):
        number = _number(text)
        if number is None:
            raise TemplateError(f"Parameter '{parameter.name}' must be a number.")
        if parameter.value_min is not None and number < parameter.value_min:
            raise refuse(f"be a number not less than {parameter.value_min}")
        if parameter.value_max is not None and number > parameter.value_max:
            raise refuse(f"be a number not greater than {parameter.value_max}")
    elif parameter.type == "String":
        if parameter.length_min is not None and len(text) < parameter.length_min:
            raise refuse(f"contain at least {parameter.length_min} characters")
        if parameter.length_max is not None and len(text) > parameter.length_max:
            raise refuse(f"contain at most {parameter.length_max} characters")
        if parameter.allowed_pattern is not None and not matcher(parameter.allowed_pattern, text):
            raise refuse(f"match pattern {parameter.allowed_pattern}")
    if parameter.allowed_values and text not in parameter.allowed_values:
        raise TemplateError(
            f"Parameter {parameter.name} failed to satisfy constraint: {parameter.constraint_description}"
            if parameter.constraint_description
            else f"Parameter '{parameter.name}' must be one of AllowedValues"
        )


def resolve(
    declared: Mapping[str, Parameter], given: Mapping[str, str], matcher: Matcher = matches
) -> dict[str, Value]:
    """The value of each parameter: what is given, else its default. Raises TemplateError."""
    strangers = [name for name in given if name not in declared]
    if strangers:
        raise TemplateError(f"Parameters: [{', '.join(strangers)}] do not exist in the template")
    missing = [name for name, each in declared.items() if name not in given and each.default is None]
    if missing:
        raise TemplateError(f"Parameters: [{', '.join(missing)}] must have values")
    values: dict[str, Value] = {}
    for name, parameter in declared.items():
        text = given.get(name, parameter.default)
        assert text is not None
        if len(text.encode()) > VALUE_BYTES_MAX:
            raise TemplateError(f"Parameter '{name}' must be at most {VALUE_BYTES_MAX} bytes long")
        if parameter.is_list:
            items = [item.strip() for item in text.split(",")] if text else []
            for item in items:
                _check_text(parameter, item, matcher)
            values[name] = items
        else:
            _check_text(parameter, text, matcher)
            values[name] = text
    return values


def shown(declared: Mapping[str, Parameter], given: Mapping[str, str]) -> dict[str, str]:
    """The values as descriptions of a stack give them: NoEcho masked."""
    return {
        name: MASK if parameter.no_echo else given.get(name, parameter.default or "")
        for name, parameter in declared.items()
    }
