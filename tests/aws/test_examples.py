"""The example templates. What CloudFormation's schemas say of them, `make check` asks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nearpoint.stack.document import read

EXAMPLES = Path(__file__).parents[2] / "examples"
TEMPLATES = sorted(EXAMPLES.glob("*/template.yaml"))
pytestmark = pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.parent.name)


def resources(path: Path, type_: str) -> dict[str, Any]:
    found = read(path.read_text()).value["Resources"]
    return {name: each for name, each in found.items() if each["Type"] == type_}


def test_no_rule_is_suppressed(path: Path) -> None:
    assert "cfn-lint" not in path.read_text()


def test_production_shaped(path: Path) -> None:
    text = path.read_text()
    (distribution,) = resources(path, "AWS::CloudFront::Distribution").values()
    behavior = distribution["Properties"]["DistributionConfig"]["DefaultCacheBehavior"]
    assert {"CachePolicyId", "ResponseHeadersPolicyId"} <= behavior.keys()
    assert not {"MinTTL", "DefaultTTL", "MaxTTL", "ForwardedValues"} & behavior.keys()
    assert distribution["Properties"]["DistributionConfig"]["Logging"]["Fn::If"][0] == "IsMonitored"
    assert resources(path, "AWS::S3::MultiRegionAccessPointPolicy")
    assert set(resources(path, "AWS::CloudWatch::Alarm")) == {"ErrorsAlarm", "ReplicationLagAlarm"}
    for name, bucket in resources(path, "AWS::S3::Bucket").items():
        assert bucket["DeletionPolicy"] == "RetainExceptOnCreate", name
        wanted = {"BucketEncryption", "PublicAccessBlockConfiguration", "VersioningConfiguration", "Tags"}
        assert wanted <= bucket["Properties"].keys(), name
    for role in resources(path, "AWS::IAM::Role").values():
        assert "ManagedPolicyArns" not in role["Properties"]
        assert "Tags" in role["Properties"]
        for policy in role["Properties"]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                assert statement["Resource"] != "*"
                assert "*" not in str(statement["Action"])
    assert "ReplicationRoleArn" in text
