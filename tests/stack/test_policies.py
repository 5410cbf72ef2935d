"""Policies of buckets and access points as resources of a template."""

from __future__ import annotations

from typing import Any

import pytest

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.services.policies import check_identity_policy, check_resource_policy
from nearpoint.state.resources import AccessPoint, Bucket


def _policy(resource: Any) -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": resource},
    }


async def test_policies_come_change_and_go(world: Any) -> None:
    resources: dict[str, Any] = {
        "Data": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "data"}},
        "DataPolicy": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {"Bucket": {"Ref": "Data"}, "PolicyDocument": _policy({"Fn::Sub": "${Data.Arn}/*"})},
        },
        "Point": {
            "Type": "AWS::S3::MultiRegionAccessPoint",
            "Properties": {"Name": "point", "Regions": [{"Bucket": {"Ref": "Data"}}]},
        },
        "PointPolicy": {
            "Type": "AWS::S3::MultiRegionAccessPointPolicy",
            "Properties": {"MrapName": {"Ref": "Point"}, "Policy": _policy("*")},
        },
    }
    stack = await world.create({"Resources": resources})
    assert stack.status == "CREATE_COMPLETE", world.events(stack)
    bucket = world.context.state.get(Bucket, "data")
    assert bucket.policy == _policy("arn:aws:s3:::data/*")
    assert world.context.state.list(AccessPoint)[0].policy == _policy("*")
    assert (await world.delete(stack)).status == "DELETE_COMPLETE"
    assert world.left() == []


@pytest.mark.parametrize(
    ("condition", "why"),
    [
        ({"StringEqual": {"s3:prefix": "x"}}, "Invalid Condition type : StringEqual"),
        ({"StringEquals": {"s3:ExistingObjectTag/level": "secret"}}, "s3:ExistingObjectTag/level"),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused_when_it_is_stored(condition: Any, why: str) -> None:
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "*", "Condition": condition}
    with pytest.raises(AwsError, match=why) as caught:
        check_identity_policy({"Version": "2012-10-17", "Statement": statement}, bytes_max=4096)
    assert caught.value.code == "MalformedPolicyDocument"
    with pytest.raises(AwsError, match=why) as caught:
        check_resource_policy({"Version": "2012-10-17", "Statement": {**statement, "Principal": "*"}}, bytes_max=4096)
    assert caught.value.code == "MalformedPolicy"
