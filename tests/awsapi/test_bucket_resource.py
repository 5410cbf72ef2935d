"""`AWS::S3::Bucket` with its configuration: made, changed in place and taken away again, on real (embedded) stores."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError

from nearpoint.stack.engine import Engine
from nearpoint.stack.schema import PropertyError
from nearpoint.stack.services.buckets import Buckets
from nearpoint.stack.types.bucket import Bucket as BucketType
from nearpoint.stack.types.bucket_settings import changes, settings_of
from nearpoint.state.resources import Bucket

ALL = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
CONFIGURED = {
    "BucketName": "data",
    "AccessControl": "Private",
    "VersioningConfiguration": {"Status": "Enabled"},
    "PublicAccessBlockConfiguration": {"BlockPublicAcls": "true", "BlockPublicPolicy": False},
    "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]},
    "BucketEncryption": {
        "ServerSideEncryptionConfiguration": [
            {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}, "BucketKeyEnabled": True}
        ]
    },
    "LifecycleConfiguration": {
        "Rules": [
            {
                "Id": "old",
                "Status": "Enabled",
                "Prefix": "logs/",
                "TagFilters": [{"Key": "a", "Value": "b"}],
                "ExpirationInDays": 30,
                "NoncurrentVersionExpirationInDays": 7,
                "Transitions": [{"StorageClass": "GLACIER", "TransitionInDays": "10"}],
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3},
            },
            {"Status": "Disabled", "ExpirationDate": "2030-01-01T00:00:00Z"},
        ]
    },
    "CorsConfiguration": {"CorsRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "MaxAge": 5}]},
    "Tags": [{"Key": "team", "Value": "edge"}],
}


@pytest.fixture
async def cloudformation(world: Any) -> AsyncIterator[Any]:
    buckets = Buckets(world.domain, world.stores)
    engine = Engine(world.domain, reader=buckets, buckets=buckets, published=world.context.published)
    world.context.parts[Engine] = engine
    yield world.client("cloudformation")
    await engine.close()


def template(**properties: Any) -> str:
    outputs = {
        name: {"Value": {"Fn::GetAtt": ["Data", name]}}
        for name in ("Arn", "DomainName", "DualStackDomainName", "RegionalDomainName")
    }
    resources = {"Data": {"Type": "AWS::S3::Bucket", "Properties": properties}}
    return json.dumps({"Resources": resources, "Outputs": outputs})


async def settled(call: Any, client: Any, waiter: str) -> dict[str, Any]:
    await call(client.get_waiter(waiter).wait, StackName="app", WaiterConfig={"Delay": 0, "MaxAttempts": 500})
    found: dict[str, Any] = (await call(client.describe_stacks, StackName="app"))["Stacks"][0]
    return found


async def test_configuration_comes_changes_and_goes(cloudformation: Any, world: Any, call: Any) -> None:
    s3 = world.client("s3")
    await call(cloudformation.create_stack, StackName="app", TemplateBody=template(**CONFIGURED))
    stack = await settled(call, cloudformation, "stack_create_complete")
    assert {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]} == {
        "Arn": "arn:aws:s3:::data",
        "DomainName": "data.s3.amazonaws.com",
        "DualStackDomainName": "data.s3.dualstack.us-east-1.amazonaws.com",
        "RegionalDomainName": "data.s3.us-east-1.amazonaws.com",
    }

    async def got(operation: str) -> Any:
        answer = await call(getattr(s3, operation), Bucket="data")
        return {name: value for name, value in answer.items() if name != "ResponseMetadata"}

    assert await got("get_bucket_versioning") == {"Status": "Enabled"}
    blocked = (await got("get_public_access_block"))["PublicAccessBlockConfiguration"]
    assert blocked == dict.fromkeys(ALL, False) | {"BlockPublicAcls": True}
    assert world.state.get(Bucket, "data").public_access_block == blocked  # nodes go by this
    ownership = (await got("get_bucket_ownership_controls"))["OwnershipControls"]
    assert ownership == {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
    encryption = (await got("get_bucket_encryption"))["ServerSideEncryptionConfiguration"]["Rules"]
    assert encryption[0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms"}
    first, second = (await got("get_bucket_lifecycle_configuration"))["Rules"]
    assert (first["Expiration"], first["Filter"]["And"]["Prefix"]) == ({"Days": 30}, "logs/")
    assert first["Transitions"] == [{"Days": 10, "StorageClass": "GLACIER"}]
    assert first["NoncurrentVersionExpiration"] == {"NoncurrentDays": 7}
    assert (second["Status"], second["Expiration"]["Date"].year) == ("Disabled", 2030)
    assert (await got("get_bucket_cors"))["CORSRules"][0]["MaxAgeSeconds"] == 5
    assert (await got("get_bucket_tagging"))["TagSet"] == [{"Key": "team", "Value": "edge"}]

    await call(s3.put_object, Bucket="data", Key="k", Body=b"kept")
    changed = {**CONFIGURED, "Tags": [{"Key": "team", "Value": "core"}]}
    for name in ("LifecycleConfiguration", "PublicAccessBlockConfiguration", "VersioningConfiguration"):
        del changed[name]
    await call(cloudformation.update_stack, StackName="app", TemplateBody=template(**changed))
    await settled(call, cloudformation, "stack_update_complete")
    assert (await call(s3.get_object, Bucket="data", Key="k"))["Body"] == b"kept"  # it is the same bucket
    assert await got("get_bucket_versioning") == {"Status": "Suspended"}
    assert (await got("get_bucket_tagging"))["TagSet"][0]["Value"] == "core"
    assert (await got("get_public_access_block"))["PublicAccessBlockConfiguration"] == dict.fromkeys(ALL, True)
    assert world.state.get(Bucket, "data").public_access_block == dict.fromkeys(ALL, True)
    with pytest.raises(ClientError) as error:
        await got("get_bucket_lifecycle_configuration")
    assert error.value.response["Error"]["Code"] == "NoSuchLifecycleConfiguration"

    bare = template(BucketName="data")
    await call(cloudformation.update_stack, StackName="app", TemplateBody=bare)
    await settled(call, cloudformation, "stack_update_complete")
    ownership = (await got("get_bucket_ownership_controls"))["OwnershipControls"]
    assert ownership == {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    (rule,) = (await got("get_bucket_encryption"))["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    for operation, code in (
        ("get_bucket_cors", "NoSuchCORSConfiguration"),
        ("get_bucket_tagging", "NoSuchTagSet"),
    ):
        with pytest.raises(ClientError) as error:
            await got(operation)
        assert error.value.response["Error"]["Code"] == code


async def test_a_new_bucket_is_closed_to_the_public(world: Any, call: Any) -> None:
    s3 = world.client("s3")
    await call(s3.create_bucket, Bucket="fresh")
    blocked = await call(s3.get_public_access_block, Bucket="fresh")
    assert blocked["PublicAccessBlockConfiguration"] == dict.fromkeys(ALL, True)
    assert world.state.get(Bucket, "fresh").public_access_block == dict.fromkeys(ALL, True)
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::fresh/*"}
    with pytest.raises(ClientError) as error:
        await call(s3.put_bucket_policy, Bucket="fresh", Policy=json.dumps({"Statement": [allow]}))
    assert error.value.response["Error"]["Code"] == "AccessDenied"
    with pytest.raises(ClientError) as error:
        await call(s3.put_object, Bucket="fresh", Key="k", Body=b"", ACL="public-read")
    assert error.value.response["Error"]["Code"] == "AccessControlListNotSupported"


async def test_a_bucket_is_made_as_it_is_asked_for(world: Any, call: Any) -> None:
    s3 = world.client("s3")
    await call(s3.create_bucket, Bucket="held", ObjectLockEnabledForBucket=True, ObjectOwnership="ObjectWriter")
    await call(s3.put_object, Bucket="held", Key="k", Body=b"", ACL="bucket-owner-read")
    await call(s3.put_object_legal_hold, Bucket="held", Key="k", LegalHold={"Status": "ON"})
    with pytest.raises(ClientError) as error:
        await call(s3.create_bucket, Bucket="open", ObjectOwnership="ObjectWriter", ACL="public-read")
    assert error.value.response["Error"]["Code"] == "InvalidBucketAclWithBlockPublicAccessError"


async def test_a_public_policy_needs_a_bucket_that_is_opened_for_it(cloudformation: Any, call: Any) -> None:
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": {"Fn::Sub": "${Data.Arn}/*"}}
    policy = {"Bucket": {"Ref": "Data"}, "PolicyDocument": {"Version": "2012-10-17", "Statement": [allow]}}

    def with_policy(**properties: Any) -> str:
        made = json.loads(template(**properties))
        made["Resources"]["Policy"] = {"Type": "AWS::S3::BucketPolicy", "Properties": policy}
        return json.dumps(made)

    await call(cloudformation.create_stack, StackName="app", TemplateBody=with_policy(), OnFailure="DELETE")
    with pytest.raises(WaiterError):
        await settled(call, cloudformation, "stack_create_complete")
    opened = with_policy(PublicAccessBlockConfiguration={"BlockPublicAcls": True})
    await call(cloudformation.create_stack, StackName="app", TemplateBody=opened)
    await settled(call, cloudformation, "stack_create_complete")


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ({"VersioningConfiguration": {"Status": "On"}}, "must be one of Enabled, Suspended"),
        ({"VersioningConfiguration": {}}, "Property Status cannot be empty"),
        ({"LifecycleConfiguration": {"Rules": [{"Status": "Enabled", "ExpirationDate": "soon"}]}}, "ISO 8601"),
        ({"LifecycleConfiguration": {"Rules": [{"Status": "Enabled", "Odd": 1}]}}, "unsupported property Odd"),
        ({"AccessControl": "PublicRead"}, "must be one of Private"),
        ({"ObjectLockEnabled": True}, "is not supported by Nearpoint yet"),
        ({"OwnershipControls": {"Rules": [{"ObjectOwnership": "Mine"}]}}, "must be one of"),
    ],
)
def test_properties_of_another_shape_are_refused(properties: dict[str, Any], said: str) -> None:
    with pytest.raises(PropertyError, match=said):
        BucketType.properties.check(properties, "")


def test_only_what_differs_is_put() -> None:
    before = BucketType.properties.check(CONFIGURED, "")
    assert changes(before, before) == {}
    assert list(settings_of(before)) == [
        "Versioning", "OwnershipControls", "PublicAccessBlock", "Encryption", "Lifecycle", "Cors", "Tagging",
    ]  # fmt: skip
    assert changes(before, {**before, "Tags": []}) == {"Tagging": None}
    assert changes({}, {"PublicAccessBlockConfiguration": {"IgnorePublicAcls": True}}) == {
        "PublicAccessBlock": dict.fromkeys(ALL, False) | {"IgnorePublicAcls": True}
    }
