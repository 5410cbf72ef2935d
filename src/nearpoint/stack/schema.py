"""The shapes of resource properties: checks a value and coerces it as CloudFormation does.

CloudFormation takes `"80"` for 80, `"true"` for true and 80 for `"80"`; errors read as its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec


class PropertyError(Exception):
    """A property that is missing, unknown or of the wrong kind. `path` leads to it (`Origins.0.DomainName`)."""

    def __init__(self, text: str, path: str) -> None:
        super().__init__(text)
        self.text = text
        self.path = path


class Schema(Protocol):
    """What a value has to look like."""

    def check(self, value: Any, path: str) -> Any:
        """The value coerced, or PropertyError."""


def _last(path: str) -> str:
    names = [part for part in path.split(".") if not part.isdigit()]
    return names[-1] if names else "Properties"


def _wrong(path: str, kind: str) -> PropertyError:
    return PropertyError(f"Value of property {_last(path)} must be {kind}", path)


def _inside(path: str, name: str | int) -> str:
    return f"{path}.{name}" if path else str(name)


@dataclass(frozen=True, slots=True)
class Text:
    """A string, perhaps one of `values`, or matching `pattern` as a whole. Lengths in characters."""

    values: tuple[str, ...] = ()
    pattern: str | None = None
    length_min: int = 0
    length_max: int = 4096

    def check(self, value: Any, path: str) -> str:
        if isinstance(value, bool):
            value = "true" if value else "false"
        elif isinstance(value, int | float):
            value = repr(value)
        if not isinstance(value, str):
            raise _wrong(path, "of type String")
        if self.values and value not in self.values:
            raise PropertyError(
                f"Value of property {_last(path)} must be one of {', '.join(self.values)}; it is {value[:80]!r}", path
            )
        if not self.length_min <= len(value) <= self.length_max:
            raise PropertyError(
                f"Value of property {_last(path)} must have {self.length_min} to {self.length_max} characters", path
            )
        if self.pattern is not None and not re.fullmatch(self.pattern, value):
            raise PropertyError(
                f"Value of property {_last(path)} must match {self.pattern}; it is {value[:80]!r}", path
            )
        return value


@dataclass(frozen=True, slots=True)
class Whole:
    """An integer in `[minimum, maximum]`."""

    minimum: int = -(2**53)
    maximum: int = 2**53

    def check(self, value: Any, path: str) -> int:
        if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,20}", value.strip()):
            value = int(value)
        if isinstance(value, float) and math.isfinite(value) and value == int(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise _wrong(path, "of type Integer")
        if not self.minimum <= value <= self.maximum:
            raise PropertyError(
                f"Value of property {_last(path)} must be from {self.minimum} to {self.maximum}; it is {value}", path
            )
        return value


@dataclass(frozen=True, slots=True)
class Number:
    """A number in `[minimum, maximum]`, whole or not."""

    minimum: float
    maximum: float

    def check(self, value: Any, path: str) -> float:
        if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?", value.strip()):
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _wrong(path, "of type Number")
        if not self.minimum <= value <= self.maximum:
            raise PropertyError(
                f"Value of property {_last(path)} must be from {self.minimum:g} to {self.maximum:g}; it is {value}",
                path,
            )
        return float(value)


@dataclass(frozen=True, slots=True)
class Flag:
    """A boolean."""

    def check(self, value: Any, path: str) -> bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise _wrong(path, "of type Boolean")


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON object, or the text of one."""

    def check(self, value: Any, path: str) -> dict[str, Any]:
        if isinstance(value, str):
            try:
                value = msgspec.json.decode(value)
            except (msgspec.MsgspecError, RecursionError):
                raise _wrong(path, "an object") from None
        if not isinstance(value, dict):
            raise _wrong(path, "an object")
        return value


@dataclass(frozen=True, slots=True)
class Items:
    """A list. A single scalar is taken for a list of one where its items are scalars, as CloudFormation does."""

    of: Schema
    count_min: int = 0
    count_max: int = 10_000

    def check(self, value: Any, path: str) -> list[Any]:
        if isinstance(value, str) and isinstance(self.of, Text):
            value = [value]
        if not isinstance(value, list):
            raise _wrong(path, "of type List")
        if not self.count_min <= len(value) <= self.count_max:
            raise PropertyError(
                f"Value of property {_last(path)} must have {self.count_min} to {self.count_max} items", path
            )
        return [self.of.check(each, _inside(path, at)) for at, each in enumerate(value)]


@dataclass(frozen=True, slots=True)
class Table:
    """An object with free keys."""

    of: Schema

    def check(self, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(path, "an object")
        return {key: self.of.check(each, _inside(path, key)) for key, each in value.items()}


@dataclass(frozen=True, slots=True)
class Fields:
    """An object with these properties and no other. `refused` names properties that exist on AWS and would be ignored
    here: better an error than a promise that isn't kept; a refused property is let pass where `harmless` says so."""

    known: Mapping[str, Schema]
    required: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    harmless: Callable[[str, Any], bool] = field(
        default=lambda name, value: value in (None, "", [], {}, False, "false")
    )

    def check(self, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(path, "an object")
        checked: dict[str, Any] = {}
        for name, each in value.items():
            here = _inside(path, name)
            if name in self.refused:
                if not self.harmless(name, each):
                    raise PropertyError(f"Property {name} is not supported by Nearpoint yet", here)
            elif name not in self.known:
                raise PropertyError(f"Encountered unsupported property {name}", here)
            else:
                checked[name] = self.known[name].check(each, here)
        for name in self.required:
            if name not in checked:
                raise PropertyError(f"Property {name} cannot be empty.", _inside(path, name))
        return checked


TAGS = Items(
    Fields({"Key": Text(length_min=1, length_max=128), "Value": Text(length_max=256)}, ("Key", "Value")), 0, 50
)


def tags_of(items: list[dict[str, str]] | None) -> dict[str, str]:
    """Tags as CloudFormation lists them, as a table."""
    return {item["Key"]: item["Value"] for item in items or ()}
