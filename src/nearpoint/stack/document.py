"""Reads a template's text, YAML or JSON, into plain values, and remembers the line of every key.

YAML is read event by event: short-form tags become their long form, aliases and duplicate keys are refused (as
CloudFormation does for aliases: "Template Formats"), depth and size are bounded before anything is built.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from nearpoint.stack.errors import TemplateError

TEMPLATE_BYTES_MAX = 1_000_000  # CloudFormation quotas: a template passed through S3, "1 MB"; its error says bytes
DEPTH_MAX = 100
VALUES_MAX = 200_000

Path = tuple[str, ...]
SHORT_FORMS = frozenset(
    ("And", "Base64", "Cidr", "Equals", "FindInMap", "GetAtt", "GetAZs", "If", "ImportValue", "Join", "Not", "Or",
     "Select", "Split", "Sub", "Transform")
)  # fmt: skip
_YAML = "tag:yaml.org,2002:"
_CONSTRUCTED_TAGS = frozenset(_YAML + name for name in ("bool", "float", "int", "null"))
_PLAIN_TAGS = _CONSTRUCTED_TAGS | {_YAML + name for name in ("str", "seq", "map")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The value and, for each key or item by its path, the line it stands on (from 1)."""

    value: Any
    lines: dict[Path, int]


def read(text: str) -> Document:
    """Parse. Raises TemplateError ("Template format error: …")."""
    size_bytes = len(text.encode("utf-8", "surrogatepass"))
    if size_bytes > TEMPLATE_BYTES_MAX:
        raise TemplateError(f"Template may not exceed {TEMPLATE_BYTES_MAX} bytes in size.")
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        return _YamlReader(text).read()
    value = _read_json(text)
    try:  # JSON is YAML as well, nearly always: that is where the lines come from
        lines = _YamlReader(text).read().lines
    except TemplateError:
        lines = {}
    return Document(value=value, lines=lines)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise TemplateError(f"Template format error: the key {twice} stands twice in the same object")
    return value


def _refuse_constant(name: str) -> float:
    raise TemplateError(f"Template format error: JSON not well-formed. ({name} is no JSON value)")


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            each
            for inner in level
            if isinstance(inner, dict | list)
            for each in (inner.values() if isinstance(inner, dict) else inner)
        ]
    return depth


def _read_json(text: str) -> Any:
    try:
        value = json.loads(text.lstrip("\ufeff"), object_pairs_hook=_refuse_duplicates, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise TemplateError(
            f"Template format error: JSON not well-formed. (line {error.lineno}, column {error.colno})",
            line=error.lineno,
        ) from None
    except (RecursionError, ValueError):
        raise TemplateError("Template format error: JSON not well-formed.") from None
    if _depth(value) > DEPTH_MAX + 1:
        raise TemplateError(f"Template format error: nested more than {DEPTH_MAX} levels deep")
    return value


def _get_att(value: Any) -> Any:
    # !GetAtt Logical.Attribute[.More]
    if isinstance(value, str) and "." in value:
        return value.split(".", 1)
    return value


def _long_form(tag: str, value: Any, line: int) -> Any:
    name = tag[1:]
    if tag in ("!Ref", "!Condition"):
        return {name: value}
    if name not in SHORT_FORMS:
        raise TemplateError(f"Template format error: unknown tag {tag} (line {line})", line=line)
    return {f"Fn::{name}": _get_att(value) if name == "GetAtt" else value}


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 1


class _YamlReader:
    def __init__(self, text: str) -> None:
        # libyaml where PyYAML has it: some ten times as fast, with the same events.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=loader)
        self._resolver = yaml.resolver.Resolver()
        self._constructor = yaml.constructor.SafeConstructor()
        self._lines: dict[Path, int] = {}
        self._count = 0

    def read(self) -> Document:
        try:
            value: Any = None
            documents = 0
            for event in self._events:
                if isinstance(event, yaml.DocumentStartEvent):
                    documents += 1
                    if documents > 1:
                        raise TemplateError("Template format error: more than one YAML document")
                    value = self._value(next(self._events), ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
            raise TemplateError(
                f"Template format error: YAML not well-formed.{where}", line=mark.line + 1 if mark else None
            ) from None
        except yaml.YAMLError:
            raise TemplateError("Template format error: YAML not well-formed.") from None
        return Document(value=value, lines=self._lines)

    def _value(self, event: yaml.Event, path: Path) -> Any:
        line = _line(event)
        self._lines.setdefault(path, line)
        self._count += 1
        if self._count > VALUES_MAX:
            raise TemplateError(f"Template format error: more than {VALUES_MAX} values")
        if len(path) > DEPTH_MAX:
            raise TemplateError(f"Template format error: nested more than {DEPTH_MAX} levels deep", line=line)
        if isinstance(event, yaml.AliasEvent):
            raise TemplateError(
                f"Template error: YAML aliases are not allowed in CloudFormation templates (line {line})", line=line
            )
        tag = event.tag  # type: ignore[attr-defined]  # scalars, sequences and mappings have one
        if tag is not None and not tag.startswith("!") and tag not in _PLAIN_TAGS:
            raise TemplateError(f"Template format error: unknown tag {tag[:80]} (line {line})", line=line)
        value: Any
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._sequence(path)
        else:
            value = self._mapping(path)
        if isinstance(tag, str) and tag.startswith("!") and tag != "!":
            return _long_form(tag, value, line)
        return value

    def _sequence(self, path: Path) -> list[Any]:
        items: list[Any] = []
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            items.append(self._value(event, (*path, str(len(items)))))
        return items

    def _mapping(self, path: Path) -> dict[str, Any]:
        table: dict[str, Any] = {}
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            line = _line(event)
            if not isinstance(event, yaml.ScalarEvent):
                raise TemplateError(
                    f"Template format error: [/{'/'.join(path)}] map keys must be strings (line {line})", line=line
                )
            key = event.value
            if key in table:
                raise TemplateError(
                    f"Template format error: the key {key} stands twice in the same object (line {line})", line=line
                )
            self._lines[(*path, key)] = line
            table[key] = self._value(next(self._events), (*path, key))
        return table

    def _scalar(self, event: yaml.ScalarEvent) -> Any:
        text: str = event.value
        tag = event.tag
        if tag is None or tag.startswith("!"):
            tag = self._resolver.resolve(yaml.ScalarNode, text, event.implicit)  # type: ignore[no-untyped-call]
        if tag not in _CONSTRUCTED_TAGS:  # strings; dates stay as they are written
            return text
        try:
            value = self._constructor.construct_object(yaml.ScalarNode(tag, text))
            return text if isinstance(value, float) and not math.isfinite(value) else value
        except (ValueError, OverflowError, KeyError):
            line = _line(event)
            raise TemplateError(f"Template format error: YAML not well-formed. (line {line})", line=line) from None


def line_of(lines: dict[Path, int], path: Sequence[str]) -> int | None:
    """The line of a path or of the nearest thing around it."""
    for length in range(len(path), 0, -1):
        line = lines.get(tuple(path[:length]))
        if line is not None:
            return line
    return None
