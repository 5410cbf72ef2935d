from __future__ import annotations

import json
import re
from typing import Any

import pytest

from nearpoint.stack.errors import TemplateError
from nearpoint.stack.intrinsics import Scope
from nearpoint.stack.preparation import prepare
from nearpoint.stack.template import decide, parse
from nearpoint.stack.types import ATTRIBUTES

BUCKET = {"Type": "AWS::S3::Bucket"}


def with_properties(value: Any, **sections: Any) -> dict[str, Any]:
    return {"Resources": {"A": {"Type": "AWS::S3::Bucket", "Properties": {"X": value}}, "B": BUCKET}, **sections}


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ([], "Template format error: unsupported structure."),
        ({}, "Template format error: At least one Resources member must be defined."),
        ({"Resources": {}}, "Template format error: At least one Resources member must be defined."),
        ({"Resources": {"A": BUCKET}, "Surprise": 1}, "Invalid template property or properties [Surprise]"),
        ({"AWSTemplateFormatVersion": "2011-01-01", "Resources": {"A": BUCKET}}, "No such version 2011-01-01."),
        (
            {"Transform": "AWS::Serverless-2016-10-31", "Resources": {"A": BUCKET}},
            "No transform named AWS::Serverless-2016-10-31 found.",
        ),
        ({"Resources": {"A": BUCKET}, "Rules": {"R": {}}}, "Rules are not supported by Nearpoint"),
        ({"Resources": []}, "Template format error: Resources must be an object."),
        ({"Resources": {"A": []}}, "Any Resources member must be an object."),
        ({"Resources": {"A-b": BUCKET}}, "Template format error: Resource name A-b is non alphanumeric."),
        (
            {"Resources": {"A": {"Properties": {}}}},
            "Template format error: [/Resources/A] Every Resources object must contain a Type member.",
        ),
        ({"Resources": {"A": BUCKET | {"Typ": 1}}}, "Invalid template resource property 'Typ'"),
        (
            {"Resources": {"A": {"Type": "AWS::EC2::VPC"}, "B": {"Type": "AWS::EC2::Instance"}}},
            "Template format error: Unrecognized resource types: [AWS::EC2::Instance, AWS::EC2::VPC]",
        ),
        ({"Resources": {"A": BUCKET | {"Properties": None}}}, "'null' values are not allowed in templates"),
        ({"Resources": {"A": BUCKET | {"DependsOn": {"x": 1}}}}, "DependsOn must be a string or list of strings."),
        (
            {"Resources": {"A": BUCKET | {"DependsOn": ["C", "D"]}}},
            "Template format error: Unresolved resource dependencies [C, D] in the Resources block of the template",
        ),
        (
            with_properties({"Ref": "Gone"}),
            "Template format error: Unresolved resource dependencies [Gone] in the Resources block of the template",
        ),
        (
            with_properties({"Fn::Sub": "${Gone}"}),
            "Template format error: Unresolved resource dependencies [Gone] in the Resources block of the template",
        ),
        (
            with_properties({"Fn::GetAtt": ["Gone", "Arn"]}),
            "Template error: instance of Fn::GetAtt references undefined resource Gone",
        ),
        (
            with_properties({"Fn::Sub": "${B.Nope}"}),
            "Template error: resource B does not support attribute type Nope in Fn::GetAtt",
        ),
        (
            with_properties({"Fn::If": ["C", 1, 2]}),
            "Template format error: Unresolved condition dependency C in the Resources block of the template",
        ),
        (with_properties({"Fn::ForEach": []}), "Fn::ForEach is not supported by Nearpoint"),
        (
            {"Resources": {"A": BUCKET | {"Condition": "C"}}},
            "Template format error: Unresolved condition dependency C in the Resources block of the template",
        ),
        (
            {"Resources": {"A": BUCKET | {"DeletionPolicy": "Snapshot"}}},
            "Template error: resource type AWS::S3::Bucket does not support deletion policy Snapshot",
        ),
        ({"Resources": {"A": BUCKET | {"DeletionPolicy": "Keep"}}}, "Unrecognized DeletionPolicy Keep for resource A"),
        ({"Resources": {"A": BUCKET | {"CreationPolicy": {"x": 1}}}}, "CreationPolicy of resource A is not supported"),
        (
            {"Resources": {"A": BUCKET}, "Outputs": {"O": {"Value": {"Ref": "Gone"}}}},
            "Template format error: Unresolved resource dependencies [Gone] in the Outputs block of the template",
        ),
        ({"Resources": {"A": BUCKET}, "Outputs": {"O": {}}}, "Every Outputs member must contain a Value object"),
        ({"Resources": {"A": BUCKET}, "Outputs": {"O": {"Value": 1, "X": 1}}}, "Invalid template output property 'X'"),
        (
            {"Resources": {"A": BUCKET}, "Outputs": {"O": {"Value": 1, "Export": {"Name": {"Ref": "A"}}}}},
            "The Name field of every Export member",
        ),
        (
            {"Resources": {"A": BUCKET}, "Conditions": {"C": {"Fn::Equals": [{"Ref": "A"}, 1]}}},
            "Unresolved dependencies [A]. Cannot reference resources in the Conditions block of the template",
        ),
        (
            {"Resources": {"A": BUCKET}, "Conditions": {"C": {"Condition": "D"}}},
            "Template format error: Unresolved condition dependency D in the Conditions block of the template",
        ),
        (
            with_properties({"Fn::FindInMap": ["M", "a", "b"]}),
            "Template error: Mapping named 'M' is not present in the 'Mappings' section of template.",
        ),
        ({"Resources": {"A": BUCKET}, "Mappings": {"M": {"a": "b"}}}, "Every Mappings attribute must be"),
        ({"Resources": {"A": BUCKET}, "Mappings": {"M": {"a": {"b": {}}}}}, "must be a String or a List."),
        ({"Resources": {f"A{number}": BUCKET for number in range(501)}}, "greater than maximum allowed, 500"),
        ({"Resources": {"A": BUCKET}, "Description": "x" * 1025}, "'Description' length is greater than 1024."),
        ({"Resources": {"A": BUCKET}, "Parameters": {"P": {}}}, "Every Parameters object must contain a Type member."),
        (
            {"Resources": {"A": BUCKET}, "Parameters": {"P": {"Type": "AWS::SSM::Parameter::Value<String>"}}},
            "parameter type AWS::SSM::Parameter::Value<String> of P is not supported by Nearpoint",
        ),
        ({"Resources": {"A": BUCKET}, "Parameters": {"P": {"Type": "Text"}}}, "Unrecognized parameter type: Text"),
        (
            {"Resources": {"A": BUCKET}, "Parameters": {"P": {"Type": "String", "AllowedPattern": "("}}},
            "AllowedPattern is no regular expression",
        ),
    ],
)
def test_refused(template: Any, message: str) -> None:
    with pytest.raises(TemplateError) as refused:
        parse("# yaml\n" + json.dumps(template), ATTRIBUTES)
    assert message in refused.value.message


def test_the_line_is_known() -> None:
    with pytest.raises(TemplateError) as refused:
        parse("Resources:\n  A:\n    Type: AWS::S3::Bucket\n  B:\n    Type: AWS::None\n", ATTRIBUTES)
    assert refused.value.line == 4


def test_conditions_are_decided() -> None:
    template = parse(
        """
        Parameters: {Stage: {Type: String}}
        Conditions:
          Production: !Equals [!Ref Stage, production]
          Both: !And [!Condition Production, !Not [!Condition Test]]
          Test: !Equals [!Ref Stage, test]
          Either: !Or [!Condition Production, !Condition Test]
        Resources: {A: {Type: AWS::S3::Bucket}}
        """,
        ATTRIBUTES,
    )
    for stage, expected in (("production", (1, 1, 0, 1)), ("test", (0, 0, 1, 1)), ("x", (0, 0, 0, 0))):
        decided = decide(template, Scope(parameters={"Stage": stage}))
        assert tuple(decided.values()) == tuple(map(bool, expected))


def test_conditions_in_a_circle() -> None:
    text = """
        Conditions: {A: !Not [!Condition B], B: !Not [!Condition A]}
        Resources: {A: {Type: AWS::S3::Bucket}}
    """
    with pytest.raises(TemplateError, match="circular condition dependency"):
        decide(parse(text, ATTRIBUTES), Scope())


def test_what_is_let_pass() -> None:
    template = parse(
        """
        Metadata: {anything: [1]}
        Mappings: {M: {a: {b: [1, 2], c: 3}}}
        Resources:
          A: {Type: AWS::S3::Bucket, Metadata: {x: 1}, DeletionPolicy: Retain, UpdateReplacePolicy: Retain}
        """,
        ATTRIBUTES,
    )
    assert template.mappings == {"M": {"a": {"b": ["1", "2"], "c": "3"}}}
    assert template.resources["A"].deletion_policy == "Retain"


def test_a_type_that_only_aws_has_may_stand_under_a_condition_that_leaves_it_out() -> None:
    text = json.dumps(
        {
            "Parameters": {"Alarms": {"Type": "String", "Default": "no"}},
            "Conditions": {"HasAlarms": {"Fn::Equals": [{"Ref": "Alarms"}, "yes"]}},
            "Resources": {"A": BUCKET, "B": {"Type": "AWS::CloudWatch::Alarm", "Condition": "HasAlarms"}},
        }
    )
    assert set(prepare(text, {}, {}).graph) == {"A"}
    with pytest.raises(TemplateError, match=r"Unrecognized resource types: \[AWS::CloudWatch::Alarm\]"):
        prepare(text, {"Alarms": "yes"}, {})
    with pytest.raises(TemplateError, match="Unrecognized"):
        parse(text.replace("AWS::CloudWatch::Alarm", "Custom::Thing"), {BUCKET["Type"]: frozenset()})


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (["M", "a", "b"], None),
        (["M", {"Ref": "P"}, "b"], "Template error: Unable to get mapping for M::p::b"),
        ([{"Ref": "P"}, "a", "b"], "Template error: Mapping named 'p' is not present in the 'Mappings' section"),
        (["M", "a", {"Fn::FindInMap": ["M", "a", "x"]}], "Template error: Unable to get mapping for M::a::x"),
        ({"Fn::If": ["Never", {"Fn::FindInMap": ["M", "a", "x"]}, "b"]}, None),
    ],
)
def test_a_mapping_is_looked_up_before_anything_is_made(asked: Any, complaint: str | None) -> None:
    value = asked if isinstance(asked, dict) else {"Fn::FindInMap": asked}
    template = {
        "Parameters": {"P": {"Type": "String", "Default": "p"}},
        "Mappings": {"M": {"a": {"b": "c"}}},
        "Conditions": {"Never": {"Fn::Equals": ["a", "b"]}},
        "Resources": {"A": BUCKET},
        "Outputs": {"O": {"Value": value}},
    }
    if complaint is None:
        prepare(json.dumps(template), {}, {})
    else:
        with pytest.raises(TemplateError, match=re.escape(complaint)):
            prepare(json.dumps(template), {}, {})
