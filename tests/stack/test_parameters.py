from __future__ import annotations

from typing import Any

import pytest

from nearpoint.stack.errors import TemplateError
from nearpoint.stack.matching import matches_in_time
from nearpoint.stack.parameters import declare, resolve, shown


@pytest.mark.parametrize(
    ("declared", "text", "value"),
    [
        ({"Type": "String"}, "x", "x"),
        ({"Type": "String", "Default": 5}, None, "5"),
        ({"Type": "String", "Default": True}, None, "true"),
        ({"Type": "String", "Default": ""}, None, ""),
        ({"Type": "Number"}, "1.5", "1.5"),
        ({"Type": "CommaDelimitedList"}, "a, b,c", ["a", "b", "c"]),
        ({"Type": "CommaDelimitedList"}, "", []),
        ({"Type": "List<Number>"}, "1, 2", ["1", "2"]),
        ({"Type": "String", "AllowedPattern": "[a-z]+(-[a-z0-9]+)*"}, "a-b-1", "a-b-1"),
        ({"Type": "CommaDelimitedList", "AllowedValues": ["a", "b"]}, "b,a", ["b", "a"]),
    ],
)
def test_a_given_text_becomes_a_value_of_its_type(declared: dict[str, Any], text: str | None, value: Any) -> None:
    parameters = {"P": declare("P", declared)}
    assert resolve(parameters, {} if text is None else {"P": text}) == {"P": value}


@pytest.mark.parametrize(
    ("declared", "given", "message"),
    [
        ({"Type": "String"}, {}, "Parameters: [P] must have values"),
        ({"Type": "String"}, {"P": "x", "Q": "1", "R": "2"}, "Parameters: [Q, R] do not exist in the template"),
        ({"Type": "Number"}, {"P": "x"}, "Parameter 'P' must be a number."),
        ({"Type": "Number"}, {"P": "NaN"}, "Parameter 'P' must be a number."),
        ({"Type": "Number", "MinValue": 2}, {"P": "1"}, "must be a number not less than 2"),
        ({"Type": "Number", "MaxValue": "2"}, {"P": "2.5"}, "must be a number not greater than 2"),
        ({"Type": "String", "MinLength": 2}, {"P": "x"}, "must contain at least 2 characters"),
        ({"Type": "String", "MaxLength": 2}, {"P": "xyz"}, "must contain at most 2 characters"),
        ({"Type": "String", "AllowedPattern": "[a-z]"}, {"P": "ab"}, "must match pattern [a-z]"),
        (
            {"Type": "String", "AllowedPattern": "[a-z]", "ConstraintDescription": "one letter"},
            {"P": "ab"},
            "Parameter P failed to satisfy constraint: one letter",
        ),
        ({"Type": "String", "AllowedValues": ["a"]}, {"P": "b"}, "Parameter 'P' must be one of AllowedValues"),
        ({"Type": "List<Number>"}, {"P": "1,x"}, "must be a number"),
        ({"Type": "String"}, {"P": "x" * 4097}, "at most 4096 bytes"),
        ({"Type": "String", "AllowedValues": ["a"], "Default": "b"}, {}, "must be one of AllowedValues"),
    ],
)
def test_refused(declared: dict[str, Any], given: dict[str, str], message: str) -> None:
    with pytest.raises(TemplateError) as refused:
        resolve({"P": declare("P", declared)}, given)
    assert message in refused.value.message


def test_no_echo() -> None:
    parameters = {"P": declare("P", {"Type": "String", "NoEcho": "true", "Default": "secret"})}
    assert shown(parameters, {}) == {"P": "****"}


def test_a_pattern_that_never_ends_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert matches_in_time("[a-z]+", "abc")
    assert not matches_in_time("[a-z]+", "abc1")
    monkeypatch.setattr("nearpoint.stack.matching.TIMEOUT_S", 0.3)
    with pytest.raises(TemplateError, match="takes too long"):
        matches_in_time("(a+)+b", "a" * 40)
