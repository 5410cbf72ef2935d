"""The control services through boto3: access points, CloudFront, Lambda, IAM, STS."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import unquote

import pytest
from botocore.exceptions import ClientError
from msgspec.structs import replace

from nearpoint.awsapi import cloudfront, s3control
from nearpoint.state.resources import AccessPoint, Distribution, Function, Invalidation

ACCOUNT = "123456789012"


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture
async def control(world: Any, call: Any) -> Any:
    await call(world.client("s3").create_bucket, Bucket="here")
    await call(
        world.client("s3", "eu-west-1").create_bucket,
        Bucket="there",
        CreateBucketConfiguration={"LocationConstraint": "eu-west-1"},
    )
    return world.client("s3control", "us-west-2")


def details(name: str = "global", *buckets: str) -> dict[str, Any]:
    return {"Name": name, "Regions": [{"Bucket": bucket} for bucket in buckets or ("here", "there")]}


async def settled(control: Any, call: Any, arn: str) -> dict[str, Any]:
    while True:
        described = await call(
            control.describe_multi_region_access_point_operation, AccountId=ACCOUNT, RequestTokenARN=arn
        )
        operation: dict[str, Any] = described["AsyncOperation"]
        if operation["RequestStatus"] in {"SUCCESS", "FAILED"}:
            return operation
        await asyncio.sleep(0.01)


async def test_an_access_point_from_creation_to_deletion(world: Any, control: Any, call: Any) -> None:
    world.published.clear()
    made = await call(control.create_multi_region_access_point, AccountId=ACCOUNT, ClientToken="one", Details=details())
    arn = made["RequestTokenARN"]
    assert arn.startswith(f"arn:aws:s3:us-west-2:{ACCOUNT}:async-request/mrap/create/")
    described = await call(control.describe_multi_region_access_point_operation, AccountId=ACCOUNT, RequestTokenARN=arn)
    assert described["AsyncOperation"]["RequestStatus"] == "IN_PROGRESS"
    found = (await call(control.get_multi_region_access_point, AccountId=ACCOUNT, Name="global"))["AccessPoint"]
    assert found["Status"] == "CREATING"
    world.published.set()
    operation = await settled(control, call, arn)
    assert operation["RequestStatus"] == "SUCCESS"
    assert operation["Operation"] == "CreateMultiRegionAccessPoint"
    assert operation["RequestParameters"]["CreateMultiRegionAccessPointRequest"]["Name"] == "global"
    regions = operation["ResponseDetails"]["MultiRegionAccessPointDetails"]["Regions"]
    assert sorted(each["Name"] for each in regions) == ["eu-west-1", "us-east-1"]
    again = await call(
        control.create_multi_region_access_point, AccountId=ACCOUNT, ClientToken="one", Details=details()
    )
    assert again["RequestTokenARN"] == arn

    found = (await call(control.get_multi_region_access_point, AccountId=ACCOUNT, Name="global"))["AccessPoint"]
    assert found["Status"] == "READY"
    assert found["Alias"].endswith(".mrap")
    assert found["PublicAccessBlock"]["BlockPublicPolicy"] is True
    listed = await call(control.list_multi_region_access_points, AccountId=ACCOUNT)
    assert [each["Name"] for each in listed["AccessPoints"]] == ["global"]

    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
                "Action": "s3:GetObject",
                "Resource": f"arn:aws:s3::{ACCOUNT}:accesspoint/{found['Alias']}/object/*",
            }
        ],
    }
    with pytest.raises(ClientError) as error:
        await call(control.get_multi_region_access_point_policy, AccountId=ACCOUNT, Name="global")
    assert code(error) == ("NoSuchMultiRegionAccessPointPolicy", 404)
    world.published.clear()
    put = await call(
        control.put_multi_region_access_point_policy,
        AccountId=ACCOUNT,
        ClientToken="two",
        Details={"Name": "global", "Policy": json.dumps(policy)},
    )
    got = await call(control.get_multi_region_access_point_policy, AccountId=ACCOUNT, Name="global")
    assert json.loads(got["Policy"]["Proposed"]["Policy"]) == policy
    assert "Established" not in got["Policy"]  # not yet at every node
    world.published.set()
    assert (await settled(control, call, put["RequestTokenARN"]))["RequestStatus"] == "SUCCESS"
    got = await call(control.get_multi_region_access_point_policy, AccountId=ACCOUNT, Name="global")
    assert json.loads(got["Policy"]["Established"]["Policy"]) == policy
    status = await call(control.get_multi_region_access_point_policy_status, AccountId=ACCOUNT, Name="global")
    assert status["Established"]["IsPublic"] is False

    gone = await call(
        control.delete_multi_region_access_point, AccountId=ACCOUNT, ClientToken="three", Details={"Name": "global"}
    )
    assert (await settled(control, call, gone["RequestTokenARN"]))["RequestStatus"] == "SUCCESS"
    with pytest.raises(ClientError) as error:
        await call(control.get_multi_region_access_point, AccountId=ACCOUNT, Name="global")
    assert code(error) == ("NoSuchMultiRegionAccessPoint", 404)


async def test_dials_are_shown_and_set_from_any_region(world: Any, control: Any, call: Any) -> None:
    await call(control.create_multi_region_access_point, AccountId=ACCOUNT, ClientToken="one", Details=details())
    mrap = world.state.list(AccessPoint)[0].arn
    everywhere = world.client("s3control", "eu-west-1")
    routes = await call(everywhere.get_multi_region_access_point_routes, AccountId=ACCOUNT, Mrap=mrap)
    assert {route["Region"]: route["TrafficDialPercentage"] for route in routes["Routes"]} == {
        "us-east-1": 100,
        "eu-west-1": 100,
    }
    off = [{"Region": "us-east-1", "TrafficDialPercentage": 0}]
    await call(everywhere.submit_multi_region_access_point_routes, AccountId=ACCOUNT, Mrap=mrap, RouteUpdates=off)
    assert {member.region: member.dial_percent for member in world.state.list(AccessPoint)[0].members} == {
        "us-east-1": 0,
        "eu-west-1": 100,
    }
    for wrong in (
        [{"Region": "eu-west-1", "TrafficDialPercentage": 0}],  # none would be left
        [{"Region": "sa-east-1", "TrafficDialPercentage": 0}],
        [{"Bucket": "here", "Region": "eu-west-1", "TrafficDialPercentage": 100}],
        [{"Region": "us-east-1", "TrafficDialPercentage": 101}],
    ):
        with pytest.raises(ClientError) as error:
            await call(
                everywhere.submit_multi_region_access_point_routes, AccountId=ACCOUNT, Mrap=mrap, RouteUpdates=wrong
            )
        assert code(error) == ("InvalidRequest", 400)
    for wrong, expected in (
        ("a random string", ("InvalidRequest", 400)),
        ("global", ("InvalidRequest", 400)),
        (mrap.replace(".mrap", "x.mrap"), ("NoSuchMultiRegionAccessPoint", 404)),
    ):
        with pytest.raises(ClientError) as error:
            await call(everywhere.get_multi_region_access_point_routes, AccountId=ACCOUNT, Mrap=wrong)
        assert code(error) == expected
    elsewhere = world.client("s3control", "sa-east-1")
    with pytest.raises(ClientError) as error:
        await call(elsewhere.get_multi_region_access_point_routes, AccountId=ACCOUNT, Mrap=mrap)
    assert code(error) == ("PermanentRedirect", 301)


async def test_pages_limits_and_single_regions(world: Any, control: Any, call: Any) -> None:
    for at in range(7):
        await call(
            control.create_multi_region_access_point,
            AccountId=ACCOUNT,
            ClientToken=f"t{at}",
            Details=details(f"point-{at}", "here"),
        )
    first = await call(control.list_multi_region_access_points, AccountId=ACCOUNT, MaxResults=4)
    rest = await call(
        control.list_multi_region_access_points, AccountId=ACCOUNT, MaxResults=4, NextToken=first["NextToken"]
    )
    names = [each["Name"] for page in (first, rest) for each in page["AccessPoints"]]
    assert (names, "NextToken" in rest) == ([f"point-{at}" for at in range(7)], False)
    mrap = world.state.list(AccessPoint)[0].arn
    update = [{"Region": "us-east-1", "TrafficDialPercentage": 100}]
    with pytest.raises(ClientError) as error:
        await call(control.submit_multi_region_access_point_routes, AccountId=ACCOUNT, Mrap=mrap, RouteUpdates=update)
    assert code(error) == ("MethodNotAllowed", 405)
    again = {"AccountId": ACCOUNT, "ClientToken": "other", "Details": details("point-0", "here")}
    with pytest.raises(ClientError) as error:
        await call(control.create_multi_region_access_point, **again)
    assert code(error) == ("MultiRegionAccessPointAlreadyOwnedByYou", 409)
    with pytest.raises(ClientError) as error:
        await call(control.create_multi_region_access_point, **{**again, "ClientToken": "t1"})
    assert code(error) == ("IdempotencyException", 400)
    for at in range(7, 100):
        point = replace(world.state.list(AccessPoint)[0], name=f"more-{at}", alias=f"m{at}x.mrap")
        await world.state.put(point)
    with pytest.raises(ClientError) as error:
        await call(
            control.create_multi_region_access_point,
            AccountId=ACCOUNT,
            ClientToken="full",
            Details=details("one-too-many"),
        )
    assert code(error) == ("TooManyMultiRegionAccessPoints", 400)
    elsewhere = world.client("s3control", "eu-west-1")
    with pytest.raises(ClientError) as error:
        await call(elsewhere.list_multi_region_access_points, AccountId=ACCOUNT)
    assert code(error) == ("PermanentRedirect", 301)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (details("-point"), ("InvalidMultiRegionAccessPointName", 400)),
        (details("po"), ("InvalidMultiRegionAccessPointName", 400)),
        (details("p" * 51), ("InvalidMultiRegionAccessPointName", 400)),
        (details("fine", *(f"bucket-{at}" for at in range(18))), ("TooManyMultiRegionAccessPointregions", 400)),
        (details("UPPER"), ("InvalidMultiRegionAccessPointName", 400)),
        (details("fine", "here", "nowhere"), ("NoSuchBucket", 404)),
        (details("fine", "here", "here2"), ("MultiRegionAccessPointSameBucketRegion", 400)),
    ],
)
async def test_access_points_that_are_refused(
    world: Any, control: Any, call: Any, asked: dict[str, Any], expected: tuple[str, int]
) -> None:
    await call(world.client("s3").create_bucket, Bucket="here2")
    with pytest.raises(ClientError) as error:
        await call(control.create_multi_region_access_point, AccountId=ACCOUNT, ClientToken="x", Details=asked)
    assert code(error) == expected
    assert world.state.list(s3control.AsyncRequest) == []


async def test_another_account_and_unknown_requests(control: Any, call: Any) -> None:
    with pytest.raises(ClientError) as error:
        await call(control.list_multi_region_access_points, AccountId="999999999999")
    assert code(error) == ("AccessDenied", 403)
    with pytest.raises(ClientError) as error:
        await call(
            control.describe_multi_region_access_point_operation,
            AccountId=ACCOUNT,
            RequestTokenARN=f"arn:aws:s3:us-west-2:{ACCOUNT}:async-request/mrap/create/nothing",
        )
    assert code(error) == ("NoSuchAsyncRequest", 404)


async def test_requests_are_taken_up_after_a_restart(world: Any, control: Any, call: Any) -> None:
    made = s3control.AsyncRequest(
        token="t1", operation="CreateMultiRegionAccessPoint", client_token="c", details=details(), created_at=1.0
    )
    bad = s3control.AsyncRequest(
        token="t2",
        operation="CreateMultiRegionAccessPoint",
        client_token="d",
        details=details("other", "no"),
        created_at=1.0,
    )
    await world.state.put(made)
    await world.state.put(bad)
    await s3control.resume(world.context)
    arn = f"arn:aws:s3:us-west-2:{ACCOUNT}:async-request/mrap/create"
    assert (await settled(control, call, f"{arn}/t1"))["RequestStatus"] == "SUCCESS"
    assert world.state.list(AccessPoint)[0].name == "global"
    failed = await settled(control, call, f"{arn}/t2")
    assert failed["RequestStatus"] == "FAILED"
    assert failed["ResponseDetails"]["ErrorDetails"]["Code"] == "NoSuchBucket"


CONFIG = {
    "Enabled": True,
    "Comment": "a <comment>",
    "DefaultRootObject": "index.html",
    "HttpVersion": "http2",
    "Origins": [
        {
            "Id": "o1",
            "DomainName": "example.com",
            "OriginCustomHeaders": [{"HeaderName": "X-A", "HeaderValue": "b"}],
            "CustomOriginConfig": {"OriginProtocolPolicy": "https-only", "OriginSSLProtocols": ["TLSv1.2"]},
        },
        {"Id": "o2", "DomainName": "b.s3.amazonaws.com", "S3OriginConfig": {}},
    ],
    "OriginGroups": {
        "Quantity": 1,
        "Items": [
            {
                "Id": "g",
                "FailoverCriteria": {"StatusCodes": {"Quantity": 1, "Items": [503]}},
                "Members": {"Quantity": 2, "Items": [{"OriginId": "o1"}, {"OriginId": "o2"}]},
            }
        ],
    },
    "DefaultCacheBehavior": {
        "TargetOriginId": "o1",
        "ViewerProtocolPolicy": "allow-all",
        "AllowedMethods": ["GET", "HEAD", "OPTIONS"],
        "ForwardedValues": {
            "QueryString": True,
            "Headers": ["Origin"],
            "Cookies": {"Forward": "whitelist", "WhitelistedNames": ["c"]},
        },
        "MinTTL": 0,
        "DefaultTTL": 0,
        "MaxTTL": 0,
        "LambdaFunctionAssociations": [
            {"EventType": "origin-request", "LambdaFunctionARN": "arn:aws:lambda:us-east-1:123456789012:function:f:1"}
        ],
    },
    "CacheBehaviors": [
        {
            "PathPattern": "/api/*",
            "TargetOriginId": "g",
            "ViewerProtocolPolicy": "https-only",
            "CachePolicyId": "658327ea-f89d-4fab-a63d-7e88639e58f6",
        }
    ],
    "CustomErrorResponses": [{"ErrorCode": 404, "ErrorCachingMinTTL": 5}],
}


@pytest.fixture
async def distribution(world: Any) -> Distribution:
    made = Distribution(
        distribution_id="E1AAAAAAAAAAAA",
        account_id=ACCOUNT,
        domain="d1aaaaaaaaaaaa.cloudfront.net",
        config=CONFIG,
        etag="EETAG",
        created_at=1_700_000_000.0,
        last_modified=1_700_000_000.5,
        status="Deployed",
    )
    await world.state.put(made)
    return made


async def test_distributions_in_the_shape_of_the_api(world: Any, call: Any, distribution: Distribution) -> None:
    client = world.client("cloudfront", "eu-west-1")
    got = await call(client.get_distribution, Id=distribution.distribution_id)
    assert got["ETag"] == "EETAG"
    found = got["Distribution"]
    assert (found["Id"], found["DomainName"], found["Status"]) == ("E1AAAAAAAAAAAA", distribution.domain, "Deployed")
    config = found["DistributionConfig"]
    assert config == (await call(client.get_distribution_config, Id=distribution.distribution_id))["DistributionConfig"]
    assert config["CallerReference"] == "E1AAAAAAAAAAAA"
    assert config["Aliases"] == {"Quantity": 0}
    origin = config["Origins"]["Items"][0]
    assert config["Origins"]["Quantity"] == 2
    assert origin["CustomHeaders"] == {"Quantity": 1, "Items": [{"HeaderName": "X-A", "HeaderValue": "b"}]}
    assert origin["CustomOriginConfig"]["OriginSslProtocols"] == {"Quantity": 1, "Items": ["TLSv1.2"]}
    assert origin["CustomOriginConfig"]["HTTPSPort"] == 443
    default = config["DefaultCacheBehavior"]
    assert default["AllowedMethods"] == {
        "Quantity": 3,
        "Items": ["GET", "HEAD", "OPTIONS"],
        "CachedMethods": {"Quantity": 2, "Items": ["HEAD", "GET"]},
    }
    assert default["ForwardedValues"]["Cookies"]["WhitelistedNames"] == {"Quantity": 1, "Items": ["c"]}
    assert default["ForwardedValues"]["Headers"] == {"Quantity": 1, "Items": ["Origin"]}
    assert default["MaxTTL"] == 0
    assert default["LambdaFunctionAssociations"]["Items"][0]["IncludeBody"] is False
    behavior = config["CacheBehaviors"]["Items"][0]
    assert "MinTTL" not in behavior
    assert behavior["CachePolicyId"].startswith("658327ea")
    assert config["OriginGroups"]["Items"][0]["FailoverCriteria"]["StatusCodes"] == {"Quantity": 1, "Items": [503]}
    assert config["CustomErrorResponses"]["Items"] == [{"ErrorCode": 404, "ErrorCachingMinTTL": 5}]
    assert config["ViewerCertificate"]["CloudFrontDefaultCertificate"] is True
    listed = (await call(client.list_distributions))["DistributionList"]
    assert listed["Quantity"] == 1
    assert listed["Items"][0]["DomainName"] == distribution.domain
    assert listed["Items"][0]["Comment"] == "a <comment>"
    # the API's own validation of what it requires, as if it were sent back
    await call(client.list_distributions, MaxItems="1")
    with pytest.raises(ClientError) as error:
        await call(client.get_distribution, Id="ENONE")
    assert code(error) == ("NoSuchDistribution", 404)


async def test_invalidations(world: Any, call: Any, distribution: Distribution) -> None:
    client = world.client("cloudfront")
    world.published.clear()

    async def invalidate(reference: str, *paths: str) -> dict[str, Any]:
        batch = {"CallerReference": reference, "Paths": {"Quantity": len(paths), "Items": list(paths)}}
        answer = await call(
            client.create_invalidation, DistributionId=distribution.distribution_id, InvalidationBatch=batch
        )
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
        assert answer["Location"].endswith(answer["Invalidation"]["Id"])
        invalidation: dict[str, Any] = answer["Invalidation"]
        return invalidation

    first = await invalidate("one", "/a", "/b/*")
    assert first["Status"] == "InProgress"
    assert first["InvalidationBatch"]["Paths"] == {"Quantity": 2, "Items": ["/a", "/b/*"]}
    assert (await invalidate("one", "/a", "/b/*"))["Id"] == first["Id"]
    with pytest.raises(ClientError) as error:
        await invalidate("one", "/other")
    assert code(error) == ("InvalidArgument", 400)
    with pytest.raises(ClientError) as error:
        await invalidate("two", "/a*b")
    assert code(error) == ("InvalidArgument", 400)
    got = await call(client.get_distribution, Id=distribution.distribution_id)
    assert got["Distribution"]["InProgressInvalidationBatches"] == 1
    world.published.set()
    waiter = client.get_waiter("invalidation_completed")
    waiter.config.delay = 0.02
    await asyncio.to_thread(waiter.wait, DistributionId=distribution.distribution_id, Id=first["Id"])
    listed = await call(client.list_invalidations, DistributionId=distribution.distribution_id)
    assert [(each["Id"], each["Status"]) for each in listed["InvalidationList"]["Items"]] == [
        (first["Id"], "Completed")
    ]
    with pytest.raises(ClientError) as error:
        await call(client.get_invalidation, DistributionId=distribution.distribution_id, Id="INONE")
    assert code(error) == ("NoSuchInvalidation", 404)


async def test_invalidations_are_completed_after_a_restart(world: Any, distribution: Distribution) -> None:
    await world.state.put(
        Invalidation(
            invalidation_id="I1",
            distribution_id=distribution.distribution_id,
            paths=("/a",),
            caller_reference="r",
            created_at=1.0,
        )
    )
    await cloudfront.resume(world.context)
    await asyncio.gather(*world.context.tasks)
    assert world.state.get(Invalidation, "I1").status == "Completed"


@pytest.fixture
async def function(world: Any) -> Function:
    role = await world.role("lambda-role")
    made = None
    for version in ("$LATEST", "1", "10", "2"):
        made = Function(
            name="edge",
            version=version,
            account_id=ACCOUNT,
            region="us-east-1",
            role_arn=role.arn,
            runtime="python3.13",
            handler="index.handler",
            code_sha256="00" * 32,
            code_size_bytes=100,
            last_modified=1_700_000_000.5,
        )
        await world.state.put(made)
    assert made is not None
    return made


async def test_functions(world: Any, call: Any, function: Function) -> None:
    client = world.client("lambda")
    got = await call(client.get_function, FunctionName="edge")
    assert got["Configuration"]["FunctionArn"] == f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:edge"
    assert got["Configuration"]["LastModified"] == "2023-11-14T22:13:20.500+0000"
    assert got["Configuration"]["State"] == "Active"
    arn = f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:edge:2"
    for params in ({"FunctionName": arn}, {"FunctionName": "edge", "Qualifier": "2"}, {"FunctionName": "edge:2"}):
        found = await call(client.get_function_configuration, **params)
        assert (found["FunctionArn"], found["Version"]) == (arn, "2")
    assert [each["FunctionName"] for each in (await call(client.list_functions))["Functions"]] == ["edge"]
    assert (await call(world.client("lambda", "eu-west-1").list_functions))["Functions"] == []
    paginator = client.get_paginator("list_versions_by_function")
    pages = await asyncio.to_thread(
        lambda: list(paginator.paginate(FunctionName="edge", PaginationConfig={"PageSize": 3}))
    )
    assert [[each["Version"] for each in page["Versions"]] for page in pages] == [["$LATEST", "1", "2"], ["10"]]
    for params in ({"FunctionName": "none"}, {"FunctionName": "edge", "Qualifier": "7"}):
        with pytest.raises(client.exceptions.ResourceNotFoundException) as error:
            await call(client.get_function, **params)
        assert code(error) == ("ResourceNotFoundException", 404)


async def test_roles_are_read_with_their_policies(world: Any, call: Any) -> None:
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    for name in ("a", "b", "c"):
        await world.role(name, statement)
    client = world.client("iam", "eu-west-1")
    role = (await call(client.get_role, RoleName="b"))["Role"]
    assert role["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/b"
    assert role["AssumeRolePolicyDocument"]["Statement"][0]["Action"] == "sts:AssumeRole"
    assert role["Tags"] == [{"Key": "team", "Value": "edge"}]
    assert role["CreateDate"].timestamp() == 1_700_000_000.25
    paginator = client.get_paginator("list_roles")
    pages = await asyncio.to_thread(lambda: list(paginator.paginate(PaginationConfig={"PageSize": 2})))
    assert [[each["RoleName"] for each in page["Roles"]] for page in pages] == [["a", "b"], ["c"]]
    assert (await call(client.list_role_policies, RoleName="b"))["PolicyNames"] == ["inline"]
    policy = await call(client.get_role_policy, RoleName="b", PolicyName="inline")
    assert policy["PolicyDocument"]["Statement"] == [statement]
    attached = await call(client.list_attached_role_policies, RoleName="b")
    assert attached["AttachedPolicies"] == [
        {
            "PolicyName": "AWSLambdaBasicExecutionRole",
            "PolicyArn": "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole",
        }
    ]
    for function, params in (
        (client.get_role, {"RoleName": "z"}),
        (client.get_role_policy, {"RoleName": "b", "PolicyName": "z"}),
    ):
        with pytest.raises(client.exceptions.NoSuchEntityException) as error:
            await call(function, **params)
        assert code(error) == ("NoSuchEntity", 404)
    assert unquote("%7B") == "{"


async def test_who_am_i_and_a_role_of_mine(world: Any, call: Any) -> None:
    sts = world.client("sts")
    assert (await call(sts.get_caller_identity))["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"
    role = await world.role("worker")
    assumed = await call(sts.assume_role, RoleArn=role.arn, RoleSessionName="shift", DurationSeconds=900)
    assert assumed["AssumedRoleUser"] == {
        "AssumedRoleId": "AROAWORKER:shift",
        "Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/shift",
    }
    credentials = assumed["Credentials"]
    keys = (credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
    who = await call(world.client("sts", "eu-west-1", keys=keys).get_caller_identity)
    assert (who["Arn"], who["UserId"]) == (f"arn:aws:sts::{ACCOUNT}:assumed-role/worker/shift", "AROAWORKER:shift")
    with pytest.raises(ClientError) as error:
        await call(world.client("iam", keys=keys).list_roles)
    assert code(error) == ("AccessDenied", 403)
    with pytest.raises(ClientError) as error:
        await call(world.client("lambda", keys=keys).list_functions)
    assert code(error) == ("AccessDeniedException", 403)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/absent"}, ("AccessDenied", 403)),
        ({"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/for-lambda"}, ("AccessDenied", 403)),
        ({"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/with-id"}, ("AccessDenied", 403)),
        ({"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/with-id", "ExternalId": "secret"}, None),
        ({"RoleSessionName": "a b"}, ("ValidationError", 400)),
        ({"DurationSeconds": 7200}, ("ValidationError", 400)),
        ({"Policy": "{}"}, ("NotImplemented", 501)),
    ],
)
async def test_roles_that_cannot_be_assumed(
    world: Any, call: Any, changes: dict[str, Any], expected: tuple[str, int] | None
) -> None:
    role = await world.role("worker")
    await world.role(
        "for-lambda",
        trust={"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"},
    )
    await world.role(
        "with-id",
        trust={
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": "secret"}},
        },
    )
    params = {"RoleArn": role.arn, "RoleSessionName": "s1", **changes}
    if expected is None:
        await call(world.client("sts").assume_role, **params)
        return
    with pytest.raises(ClientError) as error:
        await call(world.client("sts").assume_role, **params)
    assert code(error) == expected
