"""Replication rules through the front: what they lead to has to be there."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError


def rules(*destinations: str) -> dict[str, Any]:
    return {
        "Role": "arn:aws:iam::123456789012:role/r",
        "Rules": [
            {
                "ID": f"to-{name}",
                "Priority": at,
                "Filter": {"Prefix": ""},
                "Status": "Enabled",
                "DeleteMarkerReplication": {"Status": "Enabled"},
                "Destination": {"Bucket": f"arn:aws:s3:::{name}"},
            }
            for at, name in enumerate(destinations)
        ],
    }


@pytest.fixture
async def put(world: Any, call: Any) -> Any:
    """Puts rules on the bucket `here`; the refusal's code and message, or None."""
    s3, there = world.client("s3"), world.client("s3", "eu-west-1")
    await call(s3.create_bucket, Bucket="here")
    await call(there.create_bucket, Bucket="there", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    await call(s3.put_bucket_versioning, Bucket="here", VersioningConfiguration={"Status": "Enabled"})

    async def put(*destinations: str) -> tuple[str, str] | None:
        try:
            await call(s3.put_bucket_replication, Bucket="here", ReplicationConfiguration=rules(*destinations))
        except ClientError as error:
            return error.response["Error"]["Code"], error.response["Error"]["Message"]
        return None

    return put


async def test_destinations_have_to_be_there_and_keep_versions(world: Any, call: Any, put: Any) -> None:
    assert await put("nowhere") == ("InvalidRequest", "Destination bucket must exist.")
    assert await put("there") == ("InvalidRequest", "Destination bucket must have versioning enabled.")
    there = world.client("s3", "eu-west-1")
    await call(there.put_bucket_versioning, Bucket="there", VersioningConfiguration={"Status": "Enabled"})
    assert await put("there", "nowhere") == ("InvalidRequest", "Destination bucket must exist.")
    assert (await put("here"))[0] == "InvalidRequest"
    assert await put("there") is None
    s3 = world.client("s3")
    found = (await call(s3.get_bucket_replication, Bucket="here"))["ReplicationConfiguration"]
    assert found == rules("there")
    await call(s3.delete_bucket_replication, Bucket="here")
    with pytest.raises(ClientError, match="ReplicationConfigurationNotFoundError"):
        await call(s3.get_bucket_replication, Bucket="here")


async def test_nobody_outside_writes_versions_of_their_own(world: Any, call: Any, put: Any) -> None:
    """What replication says between stores is under a name that no bucket can have."""
    s3 = world.client("s3")
    with pytest.raises(ClientError, match=r"NoSuchBucket|InvalidBucketName"):
        await call(s3.get_object, Bucket="---", Key="outbox")
    headers = {"x-nearpoint-stamp": "9", "x-nearpoint-region": "eu-west-1"}
    s3.meta.events.register("before-send.s3.PutObject", lambda request, **_: request.headers.update(headers))
    await call(s3.put_object, Bucket="here", Key="k", Body=b"x")
    head = await call(s3.head_object, Bucket="here", Key="k")
    assert head["LastModified"].year > 2000
