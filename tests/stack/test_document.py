from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.stack.document import line_of, read
from nearpoint.stack.errors import TemplateError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("!Ref X", {"Ref": "X"}),
        ("!Condition X", {"Condition": "X"}),
        ("!GetAtt X.Y", {"Fn::GetAtt": ["X", "Y"]}),
        ("!GetAtt X.Y.Z", {"Fn::GetAtt": ["X", "Y.Z"]}),
        ("!GetAtt [X, Y]", {"Fn::GetAtt": ["X", "Y"]}),
        ("!Sub '${X}'", {"Fn::Sub": "${X}"}),
        ("!Sub ['${X}', {X: 1}]", {"Fn::Sub": ["${X}", {"X": 1}]}),
        ("!Join ['-', [a, !Ref B]]", {"Fn::Join": ["-", ["a", {"Ref": "B"}]]}),
        ("!Select [0, !Split [',', 'a,b']]", {"Fn::Select": [0, {"Fn::Split": [",", "a,b"]}]}),
        ("!If [C, 1, 2]", {"Fn::If": ["C", 1, 2]}),
        ("!Base64 x", {"Fn::Base64": "x"}),
        ("!Base64\n  'Fn::Sub': x", {"Fn::Base64": {"Fn::Sub": "x"}}),
        ("!FindInMap [A, B, C]", {"Fn::FindInMap": ["A", "B", "C"]}),
        ("!GetAZs ''", {"Fn::GetAZs": ""}),
        ("!ImportValue x", {"Fn::ImportValue": "x"}),
        ("!Cidr [10.0.0.0/16, 2]", {"Fn::Cidr": ["10.0.0.0/16", 2]}),
        ("2010-09-09", "2010-09-09"),
        (
            "[yes, no, true, ~, 1, 1.5, '1', 2012-10-17, .inf]",
            [True, False, True, None, 1, 1.5, "1", "2012-10-17", ".inf"],
        ),
        ("{404: a, true: b}", {"404": "a", "true": "b"}),
        ("!!str 1", "1"),
    ],
)
def test_values_are_those_of_cloudformations_yaml(text: str, value: Any) -> None:
    assert read(f"a: {text}").value == {"a": value}


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: [1", "Template format error: YAML not well-formed.", 2),
        ("a: 1\nb: - c", "Template format error: YAML not well-formed. (line 2, column 4)", 2),
        ("a: &x [1]\nb: *x", "YAML aliases are not allowed", 2),
        ("a: 1\nb: 2\na: 3", "the key a stands twice", 3),
        ("a: {b: 1, b: 2}", "the key b stands twice", 1),
        ("? [x]\n: 1", "map keys must be strings", 1),
        ("a:\n  b: !Surprise 1", "unknown tag !Surprise (line 2)", 2),
        ("a: !!binary aGk=", "unknown tag tag:yaml.org,2002:binary", 1),
        ("a: !!python/object/apply:os.system [ls]", "unknown tag", 1),
        ("a: 1\n---\nb: 2", "more than one YAML document", None),
        ("a: !!int x", "YAML not well-formed", 1),
        ("a: " + "[" * 500 + "]" * 500, "nested more than 100 levels deep", 1),
        ("a: " + "[" * 100_000, "nested more than 100 levels deep", 1),
        ("[" + "1," * 250_000 + "1]", "more than 200000 values", None),
        ("a: '" + "x" * 1_000_000 + "'", "may not exceed 1000000 bytes", None),
        ("a: \x00", "YAML not well-formed", None),
        ('{"a": 1, "a": 2}', "the key a stands twice", None),
        ('{"a": 1', "Template format error: JSON not well-formed. (line 1, column 8)", 1),
        ('{"a": NaN}', "NaN", None),
        ('{"a": ' + "[" * 5000 + "]" * 5000 + "}", "Template format error", None),
        ('{"a": ' * 150 + "1" + "}" * 150, "nested more than 100 levels deep", None),
        ('{"a": ' + "1" * 5000 + "}", "JSON not well-formed", None),
    ],
)
def test_refused(text: str, message: str, line: int | None) -> None:
    with pytest.raises(TemplateError) as refused:
        read(text)
    assert message in refused.value.message
    if line is not None:
        assert refused.value.line == line


def test_every_value_knows_its_line() -> None:
    document = read("Resources:\n  A:\n    Type: X\n    Properties:\n      - 1\n      - b: 2\n")
    assert document.lines["Resources", "A"] == 2
    assert document.lines["Resources", "A", "Properties", "1", "b"] == 6
    assert line_of(document.lines, ("Resources", "A", "Properties", "7", "x")) == 4
    assert read('{\n "a": {\n\t"b": 1}}').lines["a", "b"] == 3


_scalars = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20)
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=8), _values, max_size=5))
def test_json_and_yaml_say_the_same(value: dict[str, Any]) -> None:
    assert read(json.dumps(value)).value == value
    assert read("# a comment\n" + yaml.safe_dump(value)).value == value


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        read(text)
    except TemplateError:
        return
