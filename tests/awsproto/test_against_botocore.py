"""Per operation: what botocore sends we read, and what we answer botocore reads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearpoint.awsproto import load_service

SERVICES = ("s3control", "cloudfront", "iam", "sts", "lambda", "cloudformation")
S3_LEFT_OUT = {
    "SelectObjectContent",  # an event stream
    "WriteGetObjectResponse",  # on a host of its own
    "ListDirectoryBuckets",  # on the host of directory buckets
    "GetBucketLifecycle",  # deprecated twins of …Configuration on the same route
    "GetBucketNotification",
    "PutBucketLifecycle",
    "PutBucketNotification",
}
TRANSPORT = ("ContentLength", "ContentType", "ContentMD5")
USED = {
    "s3control": [
        "CreateMultiRegionAccessPoint",
        "DeleteMultiRegionAccessPoint",
        "DescribeMultiRegionAccessPointOperation",
        "GetMultiRegionAccessPoint",
        "GetMultiRegionAccessPointPolicy",
        "GetMultiRegionAccessPointPolicyStatus",
        "GetMultiRegionAccessPointRoutes",
        "ListMultiRegionAccessPoints",
        "PutMultiRegionAccessPointPolicy",
        "SubmitMultiRegionAccessPointRoutes",
    ],
    "cloudfront": [
        "CreateInvalidation",
        "GetDistribution",
        "GetDistributionConfig",
        "GetInvalidation",
        "ListDistributions",
        "ListInvalidations",
    ],
    "iam": ["GetRole", "GetRolePolicy", "ListAttachedRolePolicies", "ListRolePolicies", "ListRoles"],
    "sts": ["AssumeRole", "GetCallerIdentity"],
    "lambda": ["GetFunction", "GetFunctionConfiguration", "ListFunctions", "ListVersionsByFunction"],
    "cloudformation": [
        "CreateStack",
        "DeleteStack",
        "DescribeStackEvents",
        "DescribeStackResource",
        "DescribeStackResources",
        "DescribeStacks",
        "GetTemplate",
        "ListStackResources",
        "ListStacks",
    ],
}
USED_PAIRS = [(service, operation) for service, operations in USED.items() for operation in operations]
S3_OPERATIONS = sorted(set(load_service("s3").operations) - S3_LEFT_OUT)
FEW = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


def usable(service: str, params: dict[str, Any]) -> bool:
    """Whether S3 could have such a request at all: a bucket name is one path segment, a policy is not empty."""
    return service != "s3" or (
        params.get("Policy") != "" and not any(sign in params.get("Bucket", "") for sign in "/?#")
    )


def check_request(botocore_side: Any, data: st.DataObject, service: str, name: str) -> None:
    shape = botocore_side.client_model(service).operation_model(name).input_shape
    params: dict[str, Any] = data.draw(botocore_side.structures(shape)) if shape is not None else {}
    if not usable(service, params):
        return
    method, target, headers, body = botocore_side.send(service, name, params)
    operation, found = load_service(service).parse(method, target, headers, body)
    assert operation.name == name
    if operation.streaming_input is not None:
        params.pop(operation.streaming_input, None)
    payload = operation.input.shape.payload if operation.input is not None else None
    if not found.get(payload or "") and not params.get(payload or ""):
        found.pop(payload, None)  # an empty payload and an absent one look the same
        params.pop(payload, None)
    for member in TRANSPORT:  # fields that a client sets by itself
        if member not in params:
            found.pop(member, None)
    assert found == params


def check_response(botocore_side: Any, data: st.DataObject, service: str, name: str) -> None:
    codec = load_service(service)
    shape = botocore_side.client_model(service).operation_model(name).output_shape
    result: dict[str, Any] = data.draw(botocore_side.structures(shape)) if shape is not None else {}
    response = codec.serialize(codec.operations[name], result, "REQUEST1")
    parsed = botocore_side.receive(service, name, response)
    assert parsed.pop("ResponseMetadata")["RequestId"] == "REQUEST1"
    for member, each in (shape.members if shape is not None else {}).items():
        location = each.serialization.get("location")
        if location == "statusCode":  # it is there in every answer
            result.setdefault(member, parsed.get(member))
        # botocore makes an empty map of no headers, and an empty value of no payload
        elif member not in result and (location == "headers" or shape.serialization.get("payload") == member):
            assert not parsed.pop(member, None)
    if "ContentType" not in result:
        parsed.pop("ContentType", None)
    assert parsed == result


@pytest.mark.parametrize("name", S3_OPERATIONS)
@FEW
@given(data=st.data())
def test_s3_requests(botocore_side: Any, data: st.DataObject, name: str) -> None:
    check_request(botocore_side, data, "s3", name)


@pytest.mark.parametrize("name", sorted(set(S3_OPERATIONS) - {"GetBucketLocation"}))
@FEW
@given(data=st.data())
def test_s3_responses(botocore_side: Any, data: st.DataObject, name: str) -> None:
    check_response(botocore_side, data, "s3", name)


@pytest.mark.parametrize(("service", "name"), USED_PAIRS)
@FEW
@given(data=st.data())
def test_requests_of_the_operations_we_answer(botocore_side: Any, data: st.DataObject, service: str, name: str) -> None:
    check_request(botocore_side, data, service, name)


@pytest.mark.parametrize(("service", "name"), USED_PAIRS)
@FEW
@given(data=st.data())
def test_responses_of_the_operations_we_answer(
    botocore_side: Any, data: st.DataObject, service: str, name: str
) -> None:
    check_response(botocore_side, data, service, name)


@pytest.mark.parametrize("service", SERVICES)
@MANY
@given(data=st.data())
def test_requests_of_any_operation(botocore_side: Any, data: st.DataObject, service: str) -> None:
    name = data.draw(st.sampled_from(sorted(load_service(service).operations)))
    check_request(botocore_side, data, service, name)


@pytest.mark.parametrize("service", SERVICES)
@MANY
@given(data=st.data())
def test_responses_of_any_operation(botocore_side: Any, data: st.DataObject, service: str) -> None:
    name = data.draw(st.sampled_from(sorted(load_service(service).operations)))
    if name == "InvokeWithResponseStream":
        return
    check_response(botocore_side, data, service, name)
