"""Reads properties of CloudFormation's shape, where numbers and booleans may come as text. Errors name the property."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class ConfigError(ValueError):
    """The configuration can't be compiled. `where` is the property's path, as in `Origins[0].DomainName`."""

    def __init__(self, where: str, text: str) -> None:
        super().__init__(f"{where}: {text}" if where else text)
        self.where = where
        self.text = text


def _at(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def number_of(
    item: Mapping[str, Any], name: str, default: float | None, where: str, *, between: tuple[float, float]
) -> float:
    """A number within bounds; `default` where it is missing, an error where that is None."""
    lowest, highest = between
    value = item.get(name)
    if value is None or value == "":
        if default is None:
            raise ConfigError(_at(where, name), "is required")
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ConfigError(_at(where, name), f"{value!r} is not a number") from None
    if isinstance(value, bool) or not lowest <= number <= highest:
        raise ConfigError(_at(where, name), f"{value!r} is not between {lowest:g} and {highest:g}")
    return int(number) if number.is_integer() else number


def flag_of(item: Mapping[str, Any], name: str, default: bool, where: str) -> bool:
    """A boolean, or the words `true` and `false`."""
    value = item.get(name)
    if value is None:
        return default
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    raise ConfigError(_at(where, name), f"{value!r} is not true or false")


def text_of(item: Mapping[str, Any], name: str, default: str, where: str = "") -> str:
    """Text without line breaks; a number counts as text."""
    value = item.get(name)
    if value is None:
        return default
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        text = str(value)
        if "\r" in text or "\n" in text or "\0" in text:
            raise ConfigError(_at(where, name), "holds a line break")
        return text
    raise ConfigError(_at(where, name), "must be text")


def required_text(item: Any, name: str, where: str) -> str:
    """Text that has to be there."""
    if not isinstance(item, Mapping):
        raise ConfigError(where, "must be an object")
    text = text_of(item, name, "", where)
    if not text:
        raise ConfigError(_at(where, name), "is required")
    return text


def list_of(item: Mapping[str, Any], name: str, where: str) -> Sequence[Any]:
    """A list, empty where it is missing."""
    value = item.get(name)
    if value is None:
        return ()
    if isinstance(value, Mapping) and "Items" in value:  # the cloudfront API's shape
        value = value["Items"]
    if not isinstance(value, (list, tuple)):
        raise ConfigError(_at(where, name), "must be a list")
    return value


def texts_of(item: Mapping[str, Any], name: str, where: str) -> list[str]:
    """A list of text."""
    values = list_of(item, name, where)
    if any(not isinstance(value, (str, int)) for value in values):
        raise ConfigError(_at(where, name), "must be a list of text")
    return [str(value) for value in values]
