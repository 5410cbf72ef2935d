"""Hosts and scopes to services, a table."""

from __future__ import annotations

import pytest

from nearpoint.awsapi.endpoint import Endpoint, find_endpoint


@pytest.mark.parametrize(
    ("host", "service", "region", "bucket", "account"),
    [
        ("s3.amazonaws.com", "s3", "us-east-1", None, None),
        ("s3.eu-west-1.amazonaws.com", "s3", "eu-west-1", None, None),
        ("s3-eu-west-1.amazonaws.com", "s3", "eu-west-1", None, None),
        ("s3.dualstack.eu-west-1.amazonaws.com", "s3", "eu-west-1", None, None),
        ("b.s3.amazonaws.com", "s3", "us-east-1", "b", None),
        ("b.s3.eu-west-1.amazonaws.com", "s3", "eu-west-1", "b", None),
        ("my.dotted.bucket.s3.ap-southeast-2.amazonaws.com", "s3", "ap-southeast-2", "my.dotted.bucket", None),
        ("b.s3.dualstack.us-east-1.amazonaws.com", "s3", "us-east-1", "b", None),
        ("s3.s3.us-gov-west-1.amazonaws.com", "s3", "us-gov-west-1", "s3", None),
        ("s3-control.us-west-2.amazonaws.com", "s3control", "us-west-2", None, None),
        ("123456789012.s3-control.us-west-2.amazonaws.com", "s3control", "us-west-2", None, "123456789012"),
        ("123456789012.s3-control.dualstack.us-west-2.amazonaws.com", "s3control", "us-west-2", None, "123456789012"),
        ("cloudformation.eu-west-1.amazonaws.com", "cloudformation", "eu-west-1", None, None),
        ("iam.amazonaws.com", "iam", "us-east-1", None, None),
        ("cloudfront.amazonaws.com", "cloudfront", "us-east-1", None, None),
        ("sts.amazonaws.com", "sts", "us-east-1", None, None),
        ("sts.eu-west-1.amazonaws.com", "sts", "eu-west-1", None, None),
        ("lambda.us-east-1.amazonaws.com", "lambda", "us-east-1", None, None),
    ],
)
def test_a_host_names_service_region_bucket_and_account(
    host: str, service: str, region: str, bucket: str | None, account: str | None
) -> None:
    found = find_endpoint(host, "/", "anything", "mars-north-1")
    assert (found.service, found.region, found.bucket, found.account_id) == (service, region, bucket, account)
    assert found.known


@pytest.mark.parametrize(
    "host", ["ec2.eu-west-1.amazonaws.com", "a.b.c.amazonaws.com", "x.execute-api.eu-west-1.amazonaws.com"]
)
def test_services_that_are_not_known(host: str) -> None:
    assert not find_endpoint(host, "/", "s3", "us-east-1").known


def test_other_hosts_go_by_the_signature() -> None:
    assert find_endpoint("127.0.0.1", "/", "iam", "us-east-1") == Endpoint(service="iam", region="us-east-1")
    assert find_endpoint("localhost", "/b/k", "s3", "eu-west-1").service == "s3"
    assert find_endpoint("localhost", "/v20180820/mrap/instances", "s3", "us-west-2").service == "s3control"
    assert find_endpoint("localhost", "/", "dynamodb", "us-west-2").known is False
    assert find_endpoint("localhost", "/b", None, None).service == "s3"
    found = find_endpoint("123456789012.localhost", "/v20180820/mrap/instances", "s3", "us-west-2")
    assert found.account_id == "123456789012"
