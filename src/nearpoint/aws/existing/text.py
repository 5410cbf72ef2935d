"""A template as YAML that is read with pleasure: short forms of the functions, sections apart, code as blocks. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

WIDTH = 120
_APART = frozenset(("Parameters", "Resources"))  # sections whose members stand apart
_SHORT = frozenset(("Equals", "FindInMap", "GetAtt", "If", "Join", "Not", "Sub"))
_WORD = re.compile(r"[A-Za-z0-9_./-]+")
_FLOW_CHARACTERS_MAX = 80
# PyYAML quotes whatever has a tag. These need none: names, and texts that end their line without YAML's own signs.
_QUOTED = re.compile(r'(!Ref|!GetAtt) "([A-Za-z0-9:.]+)"|(!Sub) "((?:(?!: | #)[^"\\])+)"$', re.MULTILINE)


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)  # lists stand inside what has them

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _mapping(dumper: _Dumper, value: Mapping[str, Any]) -> yaml.Node:
    if len(value) == 1:
        ((name, argument),) = value.items()
        if name == "Ref":
            return dumper.represent_scalar("!Ref", argument, style='"')
        if name == "Fn::GetAtt":
            return dumper.represent_scalar("!GetAtt", ".".join(argument), style='"')
        word = name.removeprefix("Fn::")
        if name != word and word in _SHORT:
            if isinstance(argument, str):
                return dumper.represent_scalar(f"!{word}", argument, style='"')
            node = dumper.represent_sequence(f"!{word}", argument)
            node.flow_style = all(_is_short(each) for each in argument)
            return node
    return dumper.represent_mapping("tag:yaml.org,2002:map", value.items())


def _is_short(value: Any) -> bool:
    """Whether it may stand in a function's brackets: a word, a reference, or a function of such."""
    if isinstance(value, Mapping):
        return "Ref" in value or all(
            name in ("Fn::Equals", "Fn::Join") and _is_short(each) for name, each in value.items()
        )
    return all(_is_short(each) for each in value) if isinstance(value, list) else True


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else '"' if not value or value[:4].isdigit() else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _list(dumper: _Dumper, value: list[Any]) -> yaml.Node:
    node = dumper.represent_sequence("tag:yaml.org,2002:seq", value)
    texts = [str(each) for each in value]
    node.flow_style = all(map(_WORD.fullmatch, texts)) and sum(map(len, texts)) < _FLOW_CHARACTERS_MAX
    return node


_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


def _dumped(value: Any) -> str:
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=WIDTH, allow_unicode=True)
    return _QUOTED.sub(lambda found: f"{found[1] or found[3]} {found[2] or found[4]}", text)


def written(template: Mapping[str, Any]) -> str:
    """The template's text."""
    sections = []
    for name, section in template.items():
        if name not in _APART:
            sections.append(_dumped({name: section}))
            continue
        members = [_indented(_dumped({logical: each})) for logical, each in section.items()]
        sections.append(f"{name}:\n" + ("\n" if name == "Resources" else "").join(members))
    return "\n".join(sections).replace('"2010-09-09"\n\nDescription', '"2010-09-09"\nDescription', 1)


def _indented(text: str) -> str:
    return "".join(f"  {line}" if line.strip() else line for line in text.splitlines(keepends=True))
