"""A service of AWS asks for objects: what the bucket's policy lets it, and nothing else."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
from botocore.exceptions import ClientError

from nearpoint.state.sessions import find_identity, mint_for_service

ACCOUNT = "123456789012"
SERVICE = "cloudfront.amazonaws.com"
DISTRIBUTION = f"arn:aws:cloudfront::{ACCOUNT}:distribution/E1"


def code(error: Any) -> tuple[str, int]:
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def keys_for(source_arn: str, expires_in_s: int = 600) -> tuple[str, str, str]:
    return mint_for_service(
        "session-secret",
        service=SERVICE,
        source_arn=source_arn,
        expires_at=int(time.time()) + expires_in_s,
        random_bytes=os.urandom(10),
    )


@pytest.fixture
async def bucket(world: Any, call: Any) -> str:
    s3 = world.client("s3", "eu-west-1")
    await call(s3.create_bucket, Bucket="data-eu", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    for key in ("site/a.txt", "private/b.txt"):
        await call(s3.put_object, Bucket="data-eu", Key=key, Body=b"content")
    return "data-eu"


async def allow(world: Any, call: Any, bucket: str, **changes: Any) -> None:
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": SERVICE},
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{bucket}/site/*",
        "Condition": {"StringEquals": {"AWS:SourceArn": DISTRIBUTION}},
    }
    document = {"Version": "2012-10-17", "Statement": [statement | changes]}
    s3 = world.client("s3", "eu-west-1")
    await call(s3.put_bucket_policy, Bucket=bucket, Policy=json.dumps(document))


async def test_the_buckets_policy_decides(world: Any, call: Any, bucket: str) -> None:
    edge = world.client("s3", "eu-west-1", keys=keys_for(DISTRIBUTION))
    with pytest.raises(ClientError) as error:
        await call(edge.get_object, Bucket=bucket, Key="site/a.txt")
    assert code(error) == ("AccessDenied", 403)
    await allow(world, call, bucket)
    assert (await call(edge.get_object, Bucket=bucket, Key="site/a.txt"))["ContentLength"] == 7
    for refused in (
        (edge.get_object, {"Key": "private/b.txt"}),
        (edge.put_object, {"Key": "site/a.txt", "Body": b"x"}),
        (edge.delete_object, {"Key": "site/a.txt"}),
        (edge.list_objects_v2, {}),
        (edge.copy_object, {"Key": "site/c.txt", "CopySource": f"{bucket}/site/a.txt"}),
        (edge.delete_objects, {"Delete": {"Objects": [{"Key": "site/a.txt"}]}}),
    ):
        with pytest.raises(ClientError) as error:
            await call(refused[0], Bucket=bucket, **refused[1])
        assert code(error) == ("AccessDenied", 403)
    other = world.client("s3", "eu-west-1", keys=keys_for(DISTRIBUTION + "X"))
    with pytest.raises(ClientError) as error:
        await call(other.get_object, Bucket=bucket, Key="site/a.txt")
    assert code(error) == ("AccessDenied", 403)
    await allow(world, call, bucket, Principal={"AWS": f"arn:aws:iam::{ACCOUNT}:root"})
    with pytest.raises(ClientError) as error:
        await call(edge.get_object, Bucket=bucket, Key="site/a.txt")
    assert code(error) == ("AccessDenied", 403)


async def test_a_service_may_nothing_else(world: Any, call: Any) -> None:
    keys = keys_for(DISTRIBUTION)
    for refused in (
        (world.client("s3", keys=keys).list_buckets, {}),
        (world.client("s3", keys=keys).create_bucket, {"Bucket": "new-bucket"}),
        (world.client("cloudfront", keys=keys).list_distributions, {}),
    ):
        with pytest.raises(ClientError) as error:
            await call(refused[0], **refused[1])
        assert code(error) == ("AccessDenied", 403)
    expired = world.client("s3", keys=keys_for(DISTRIBUTION, expires_in_s=-1))
    with pytest.raises(ClientError) as error:
        await call(expired.list_buckets)
    assert code(error)[0] == "ExpiredToken"


def test_who_a_service_session_is(world: Any) -> None:
    access_key_id, secret, token = keys_for(DISTRIBUTION)
    identity = find_identity(world.snapshot(), access_key_id, token)
    assert identity is not None
    assert (identity.service, identity.principal_arn, identity.role_arn) == (SERVICE, DISTRIBUTION, None)
    assert identity.secret_key == secret
