"""Policies of buckets and access points as resources of a template."""

from __future__ import annotations

from typing import Any

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
