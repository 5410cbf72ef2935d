from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.stack.errors import TemplateError
from nearpoint.stack.intrinsics import Made, Scope, evaluate

SCOPE = Scope(
    parameters={"Name": "app", "Names": ["a", "b"], "Count": "3"},
    pseudo={"AWS::Region": "us-east-1", "AWS::AccountId": "123456789012", "AWS::Partition": "aws"},
    conditions={"Yes": True, "No": False},
    mappings={"M": {"us-east-1": {"Size": "1", "List": ["x", "y"]}}},
    resources={"R": Made(ref="r-1", attributes={"Arn": "arn:r", "A.B": "dotted"})},
    imports={"app-vpc": "vpc-1"},
)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("plain", "plain"),
        ({"Ref": "Name"}, "app"),
        ({"Ref": "Names"}, ["a", "b"]),
        ({"Ref": "AWS::Region"}, "us-east-1"),
        ({"Ref": "R"}, "r-1"),
        ({"Fn::GetAtt": ["R", "Arn"]}, "arn:r"),
        ({"Fn::GetAtt": "R.Arn"}, "arn:r"),
        ({"Fn::GetAtt": ["R", "A.B"]}, "dotted"),
        ({"Fn::Sub": "${Name}-${R}-${R.Arn}-${AWS::Region}"}, "app-r-1-arn:r-us-east-1"),
        ({"Fn::Sub": "${!Literal} $ {} $${Name} ${!}"}, "${Literal} $ {} $app ${}"),
        ({"Fn::Sub": "${R.A.B}"}, "dotted"),
        ({"Fn::Sub": ["${X}-${Name}", {"X": {"Ref": "Count"}}]}, "3-app"),
        ({"Fn::Sub": ["${Name}", {"Name": "own"}]}, "own"),
        ({"Fn::Sub": ["${X}", {"X": True}]}, "true"),
        ({"Fn::Sub": "${Names}"}, "a,b"),
        ({"Fn::Join": ["-", ["a", {"Ref": "Name"}, 1, True]]}, "a-app-1-true"),
        ({"Fn::Join": ["", {"Ref": "Names"}]}, "ab"),
        ({"Fn::Join": [",", []]}, ""),
        ({"Fn::Select": [1, ["a", "b"]]}, "b"),
        ({"Fn::Select": ["1", {"Ref": "Names"}]}, "b"),
        ({"Fn::Select": [0, {"Fn::Split": ["-", "x-y"]}]}, "x"),
        ({"Fn::Split": [",", "a,,b"]}, ["a", "", "b"]),
        ({"Fn::If": ["Yes", 1, {"Ref": "Nothing"}]}, 1),
        ({"Fn::If": ["No", 1, {"Ref": "Name"}]}, "app"),
        ({"a": {"Fn::If": ["No", 1, {"Ref": "AWS::NoValue"}]}, "b": 2}, {"b": 2}),
        ([{"Ref": "AWS::NoValue"}, 1], [1]),
        ({"Fn::FindInMap": ["M", {"Ref": "AWS::Region"}, "Size"]}, "1"),
        ({"Fn::FindInMap": ["M", "us-east-1", "List"]}, ["x", "y"]),
        ({"Fn::ImportValue": {"Fn::Sub": "${Name}-vpc"}}, "vpc-1"),
        ({"Fn::Base64": {"Ref": "Name"}}, "YXBw"),
        ({"Fn::Cidr": ["10.0.0.0/16", 2]}, ["10.0.0.0/24", "10.0.1.0/24"]),
        ({"Fn::Cidr": ["192.168.0.0/24", "3", "5"]}, ["192.168.0.0/27", "192.168.0.32/27", "192.168.0.64/27"]),
        ({"Fn::Cidr": ["2001:db8::/56", 1, 64]}, ["2001:db8::/64"]),
        ({"Fn::GetAZs": ""}, ["us-east-1a", "us-east-1b", "us-east-1c"]),
        ({"Fn::GetAZs": "eu-west-1"}, ["eu-west-1a", "eu-west-1b", "eu-west-1c"]),
        ({"Fn::Equals": ["a", "a"]}, True),
        (
            {"Condition": {"StringEquals": {"aws:x": {"Ref": "Name"}}}},
            {"Condition": {"StringEquals": {"aws:x": "app"}}},
        ),
    ],
)
def test_functions(value: Any, result: Any) -> None:
    assert evaluate(value, SCOPE) == result


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"Ref": "Nothing"}, "Unresolved resource dependencies [Nothing]"),
        ({"Fn::GetAtt": ["R", "Nope"]}, "resource R does not support attribute type Nope in Fn::GetAtt"),
        ({"Fn::GetAtt": ["X", "Arn"]}, "instance of Fn::GetAtt references undefined resource X"),
        ({"Fn::GetAtt": "R"}, "every Fn::GetAtt object requires two non-empty parameters"),
        ({"Fn::GetAtt": ["R", {"Ref": "Names"}]}, "requires an attribute's name"),
        ({"Fn::Sub": 1}, "One or more Fn::Sub intrinsic functions don't specify expected arguments"),
        ({"Fn::Sub": ["${X}", {"X": {"a": 1}}]}, "cannot put the value of X into text"),
        ({"Fn::Sub": "${a b}"}, "variable names in Fn::Sub syntax"),
        ({"Fn::Join": ["-", "a"]}, "every Fn::Join object requires two parameters"),
        ({"Fn::Join": ["-", [["a"]]]}, "every Fn::Join object requires two parameters"),
        ({"Fn::Join": [1, ["a"]]}, "every Fn::Join object requires two parameters"),
        ({"Fn::Split": ["", "a"]}, "every Fn::Split object requires two parameters"),
        ({"Fn::Select": [2, ["a", "b"]]}, "Fn::Select cannot select nonexistent value at index 2"),
        ({"Fn::Select": ["x", ["a"]]}, "Fn::Select requires a list argument"),
        ({"Fn::Select": [0, "a"]}, "Fn::Select requires a list argument"),
        ({"Fn::If": ["Maybe", 1, 2]}, "unresolved condition dependency Maybe"),
        ({"Fn::If": ["Yes", 1]}, "Fn::If requires a list argument with three elements"),
        ({"Fn::FindInMap": ["M", "eu", "Size"]}, "Unable to get mapping for M::eu::Size"),
        ({"Fn::FindInMap": ["M", "us-east-1", "Size", "x"]}, "Fn::FindInMap object requires three parameters"),
        ({"Fn::ImportValue": "x"}, "No export named x found."),
        ({"Fn::Cidr": ["10.0.0.0/16", 300]}, "Fn::Cidr cannot cut"),
        ({"Fn::Cidr": ["10.0.0.0/30", 2, 4]}, "Fn::Cidr cannot cut"),
        ({"Fn::Cidr": ["x", 1]}, "Fn::Cidr cannot cut"),
        ({"Fn::Cidr": ["10.0.0.0/16", [1]]}, "Fn::Cidr cannot cut"),
        ({"Fn::Base64": ["x"]}, "every Fn::Base64 object must have a String-typed value."),
        ({"Fn::Transform": {"Name": "x"}}, "Fn::Transform is not supported"),
        ({"Ref": "Name", "other": 1}, "Ref has to be the only key"),
        ("{{resolve:ssm:/x}}", "dynamic references"),
        ({"Fn::Equals": ["a"]}, "every Fn::Equals object requires a list of 2 string parameters."),
    ],
)
def test_a_mistake_is_said_in_cloudformations_words(value: Any, message: str) -> None:
    with pytest.raises(TemplateError) as refused:
        evaluate(value, SCOPE)
    assert message in refused.value.message


def test_functions_do_not_blow_up() -> None:
    scope = Scope(parameters={"P": "x" * 4096})
    for value in (
        {"Fn::Sub": "${P}" * 100_000},
        {"Fn::Join": ["", [{"Ref": "P"}] * 100_000]},
        {"Fn::Join": ["x" * 4096, ["a"] * 100_000]},
    ):
        with pytest.raises(TemplateError, match="more than 1048576 characters"):
            evaluate(value, scope)


_leaves = st.sampled_from(
    ["Name", "Names", "Nothing", "R", "R.Arn", "", "${Name}", "${x y}", "-", "Yes", "AWS::NoValue", 0, 1, True, None]
)
_functions = st.sampled_from(
    ["Ref", "Fn::GetAtt", "Fn::Sub", "Fn::Join", "Fn::Select", "Fn::Split", "Fn::If", "Fn::FindInMap", "Fn::Base64",
     "Fn::Cidr", "Fn::GetAZs", "Fn::ImportValue", "Fn::Equals", "Fn::And", "Fn::Not", "Fn::Or", "Condition"]
)  # fmt: skip


@given(
    st.recursive(
        _leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_functions, inner, min_size=1, max_size=2),
        max_leaves=15,
    )
)
def test_any_value_is_evaluated_or_refused(value: Any) -> None:
    try:
        evaluate(value, SCOPE)
    except TemplateError:
        return
