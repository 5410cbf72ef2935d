"""What deploy reads in a template, and what it says about one that CloudFront would refuse."""

from __future__ import annotations

import contextlib
import copy
import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nearpoint.aws.application import load
from nearpoint.aws.errors import DeployError
from nearpoint.aws.regions import check_regions

Write = Callable[..., Path]
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/template.yaml")), ids=lambda path: path.parent.name)
def test_every_example_says_what_deploy_fills_in(path: Path) -> None:
    application = load(path.parent)
    assert len(application.data_buckets) == 2
    assert application.capabilities == ["CAPABILITY_IAM"]
    if application.functions:
        assert (application.functions[0].folder / "index.py").is_file()
        assert application.functions[0].event == "origin-request"


def properties(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["Resources"]["Signer"]["Properties"]
    return found


def edge(document: dict[str, Any], **properties: Any) -> None:
    document["Resources"]["Edge"] = {"Type": "AWS::CloudFront::Distribution", "Properties": properties}


def at_viewer(document: dict[str, Any], **changes: Any) -> None:
    association = {"EventType": "viewer-request", "LambdaFunctionARN": "x"}
    document["Resources"]["Edge"] = {"Type": "X", "Properties": {"LambdaFunctionAssociations": [association]}}
    properties(document).update(changes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: properties(d).update(Environment={"Variables": {"A": "b"}}), "no environment variables"),
        (lambda d: properties(d).update(Layers=["arn:x"]), "no layers"),
        (lambda d: properties(d).update(VpcConfig={"SubnetIds": ["x"]}), "no a VPC"),
        (lambda d: properties(d).update(Architectures=["arm64"]), "x86_64 only"),
        (lambda d: properties(d).update(Timeout=31), "Timeout may be 30 s"),
        (lambda d: properties(d).update(Runtime="python3.8"), r"does not run python3\.8"),
        (lambda d: properties(d).update(EphemeralStorage={"Size": 1024}), "EphemeralStorage is 512 MB"),
        (lambda d: properties(d).update(PackageType="Image"), "zip packages only"),
        (lambda d: at_viewer(d, Timeout=6), "Timeout may be 5 s"),
        (lambda d: at_viewer(d, MemorySize=256), "MemorySize may be 128 MB"),
        (lambda d: d.pop("Resources"), "has no Resources"),
        (lambda d: d["Parameters"].pop("CodeKey"), "names CodeKey, which Parameters does not declare"),
        (lambda d: d["Metadata"]["Nearpoint"].update(Buckets=[]), r"may have BucketSettings"),
        (lambda d: d["Metadata"]["Nearpoint"]["Function"].pop("Folder"), "Function needs"),
        (lambda d: d["Metadata"]["Nearpoint"].update(BucketSettings={"First": {"Colour": 1}}), "BucketSettings has"),
        (lambda d: d["Metadata"]["Nearpoint"].update(BucketSettings={"Third": {}}), "names Third, which Parameters"),
        (lambda d: d["Metadata"]["Nearpoint"].update(OnAws={"Comment": True}), "OnAws has texts"),
        (lambda d: edge(d, AcmCertificateArn="arn:aws:acm:eu-west-1:1:certificate/x"), "AcmCertificateArn is in eu-w"),
        (
            lambda d: edge(d, LambdaFunctionARN="arn:aws:lambda:eu-west-1:1:function:f:1"),
            "ARN is in eu-west-1; a stack",
        ),
        (
            lambda d: d["Resources"].update(
                B={"Type": "AWS::S3::Bucket", "Properties": {"BucketName": {"Ref": "First"}}}
            ),
            "B: deploy makes the data buckets",
        ),
        (lambda d: d["Metadata"]["Nearpoint"].update(DataBuckets="x"), "a list of parameters"),
    ],
)
def test_refused(template: Write, change: Callable[[dict[str, Any]], object], words: str) -> None:
    with pytest.raises(DeployError, match=words):
        load(template(change))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is something in a document."""
    yield path
    for key, each in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(each, (*path, key))


def test_whatever_stands_in_a_template_is_read_or_refused(template: Write) -> None:
    whole = json.loads(template(lambda d: at_viewer(d, Layers=[])).read_text())
    whole["Resources"]["Edge"]["Properties"] |= {"Bucket": {"Ref": "First"}, "AlarmActions": ["arn:a:b:c:d:e"]}
    whole["Resources"]["V"] = {"Type": "AWS::Lambda::Version", "Properties": {"FunctionName": {"Ref": "Signer"}}}
    for path in list(places(whole))[1:]:
        for odd in (None, 7, [[]], {"Ref": {}}, {"Fn::GetAtt": {"a": 1}}):
            document = copy.deepcopy(whole)
            parent = functools.reduce(lambda found, key: found[key], path[:-1], document)
            parent[path[-1]] = odd
            written = template(lambda _: None).with_name("odd.yaml")
            written.write_text(json.dumps(document))
            with contextlib.suppress(DeployError):
                load(written)


def test_values_of_parameters(template: Write) -> None:
    declared = {
        "Access": {"Type": "String", "AllowedValues": ["a", "b"], "Default": "a"},
        "Size": {"Type": "Number", "MaxValue": 9, "Default": 1},
        "Image": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "x"},
    }
    application = load(template(lambda d: d["Parameters"].update(declared)))
    given = dict.fromkeys(("CodeBucket", "CodeKey", "First", "Second"), "x")
    application.check_values(given | {"Access": "b", "Size": "9", "Image": "anything"})
    for name, value, words in (
        ("Access", "c", "'Access' must be one of AllowedValues"),
        ("Size", "x", "'Size' must be a number"),
        ("Size", "10", "must be a number not greater than 9"),
    ):
        with pytest.raises(DeployError, match=words):
            application.check_values(given | {name: value})


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="cannot be read"):
        load(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeployError, match="not UTF-8"):
        load(tmp_path / "bytes.yaml")
    (tmp_path / "broken.yaml").write_text("a: [")
    with pytest.raises(DeployError, match="YAML not well-formed"):
        load(tmp_path / "broken.yaml")


def test_regions() -> None:
    assert check_regions(("us-east-1", "eu-west-1")) == []
    assert "opt-in" in check_regions(("us-east-1", "af-south-1"))[0]
    with pytest.raises(DeployError, match="can't have a bucket in cn-north-1"):
        check_regions(("us-east-1", "cn-north-1"))
    with pytest.raises(DeployError, match="stands twice"):
        check_regions(("us-east-1", "us-east-1"))
