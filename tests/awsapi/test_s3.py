"""S3 through boto3: names, regions, redirects, objects of both regions, permissions."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from nearpoint.state.resources import Bucket


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.fixture
async def buckets(world: Any, call: Any) -> Any:
    await call(world.client("s3").create_bucket, Bucket="here")
    await call(
        world.client("s3", "eu-west-1").create_bucket,
        Bucket="there",
        CreateBucketConfiguration={"LocationConstraint": "eu-west-1"},
    )
    return world


async def test_buckets_are_made_listed_and_removed(buckets: Any, call: Any) -> None:
    s3 = buckets.client("s3")
    listed = await call(s3.list_buckets)
    assert [(each["Name"], each["BucketRegion"]) for each in listed["Buckets"]] == [
        ("here", "us-east-1"),
        ("there", "eu-west-1"),
    ]
    assert len(listed["Owner"]["ID"]) == 64
    first = await call(s3.list_buckets, MaxBuckets=1)
    assert [each["Name"] for each in first["Buckets"]] == ["here"]
    second = await call(s3.list_buckets, MaxBuckets=1, ContinuationToken=first["ContinuationToken"])
    assert [each["Name"] for each in second["Buckets"]] == ["there"]
    assert "ContinuationToken" not in second
    narrowed = await call(s3.list_buckets, Prefix="th", BucketRegion="eu-west-1")
    assert [each["Name"] for each in narrowed["Buckets"]] == ["there"]
    assert (await call(s3.get_bucket_location, Bucket="there"))["LocationConstraint"] == "eu-west-1"
    assert (await call(s3.get_bucket_location, Bucket="here"))["LocationConstraint"] is None
    await call(s3.delete_bucket, Bucket="here")
    with pytest.raises(ClientError) as error:
        await call(s3.head_bucket, Bucket="here")
    assert code(error) == ("404", 404)
    assert buckets.state.get(Bucket, "here") is None


async def test_a_bucket_with_objects_stays(buckets: Any, call: Any) -> None:
    s3 = buckets.client("s3")
    await call(s3.put_object, Bucket="here", Key="k", Body=b"x")
    with pytest.raises(ClientError) as error:
        await call(s3.delete_bucket, Bucket="here")
    assert code(error) == ("BucketNotEmpty", 409)
    assert (await call(s3.get_object, Bucket="here", Key="k"))["Body"] == b"x"


@pytest.mark.parametrize(
    ("region", "name", "constraint", "expected"),
    [
        ("us-east-1", "Upper", None, "InvalidBucketName"),
        ("us-east-1", "a.mrap", None, "InvalidBucketName"),
        ("us-east-1", "fine", "us-east-1", "InvalidLocationConstraint"),
        ("us-east-1", "fine", "sa-east-1", "InvalidLocationConstraint"),
        ("eu-west-1", "fine", None, "IllegalLocationConstraintException"),
        ("eu-west-1", "fine", "us-west-2", "IllegalLocationConstraintException"),
        ("eu-west-1", "there", "eu-west-1", "BucketAlreadyOwnedByYou"),
        ("us-east-1", "there", None, "BucketAlreadyOwnedByYou"),
    ],
)
async def test_names_and_places_that_are_refused(
    buckets: Any, call: Any, region: str, name: str, constraint: str | None, expected: str
) -> None:
    s3 = buckets.client("s3", region, s3={"addressing_style": "path"})
    params: dict[str, Any] = {"Bucket": name}
    if constraint:
        params["CreateBucketConfiguration"] = {"LocationConstraint": constraint}
    with pytest.raises(ClientError) as error:
        await call(s3.create_bucket, **params)
    assert code(error)[0] == expected


async def test_us_east_1_takes_any_location_and_lets_the_owner_repeat(buckets: Any, call: Any) -> None:
    s3 = buckets.client("s3")
    await call(s3.create_bucket, Bucket="old", CreateBucketConfiguration={"LocationConstraint": "EU"})
    assert buckets.state.get(Bucket, "old").region == "eu-west-1"
    await call(s3.create_bucket, Bucket="here")


async def test_what_a_crash_left_behind_heals_on_the_next_try(buckets: Any, call: Any) -> None:
    s3 = buckets.client("s3", "eu-west-1")
    there = buckets.state.get(Bucket, "there")
    # killed after the store had the bucket, before the state had its name
    await buckets.state.delete(there)
    await call(s3.create_bucket, Bucket="there", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    assert buckets.state.get(Bucket, "there") is not None
    # killed after the store had deleted it
    assert (await buckets.stores["eu-west-1"].send("DELETE", "there")).status == 204
    await call(s3.delete_bucket, Bucket="there")
    assert buckets.state.get(Bucket, "there") is None


async def test_two_who_want_one_name(world: Any, call: Any) -> None:
    async def create(region: str) -> str:
        s3 = world.client("s3", region)
        params = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            await call(s3.create_bucket, Bucket="wanted", **params)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "made"

    outcomes = await asyncio.gather(create("us-east-1"), create("eu-west-1"))
    assert sorted(outcomes) == ["BucketAlreadyOwnedByYou", "made"]


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize("by_address", [True, False])
async def test_clients_of_another_region_are_led_to_the_bucket(
    buckets: Any, call: Any, style: str, by_address: bool
) -> None:
    right = buckets.client("s3", "eu-west-1")
    await call(right.put_object, Bucket="there", Key="k", Body=b"in Ireland")
    wrong = buckets.client("s3", "us-east-1", s3={"addressing_style": style}, by_address=by_address)
    found = await call(wrong.get_object, Bucket="there", Key="k")
    assert found["Body"] == b"in Ireland"
    headed = await call(buckets.client("s3", by_address=by_address).head_bucket, Bucket="there")
    assert headed["BucketRegion"] == "eu-west-1"


async def test_the_redirect_itself(buckets: Any, call: Any) -> None:
    s3 = buckets.client("s3", s3={"addressing_style": "path"})
    s3.meta.events.unregister("needs-retry.s3", unique_id="s3_redirect")
    handlers = s3.meta.events._emitter._handlers.prefix_search("needs-retry.s3")
    for handler in list(handlers):
        s3.meta.events.unregister("needs-retry.s3", handler)
    with pytest.raises(ClientError) as error:
        await call(s3.list_objects_v2, Bucket="there")
    response = error.value.response
    assert code(error) == ("PermanentRedirect", 301)
    assert response["Error"]["Endpoint"] == "there.s3.eu-west-1.amazonaws.com"
    assert response["ResponseMetadata"]["HTTPHeaders"]["x-amz-bucket-region"] == "eu-west-1"


async def test_objects_of_every_size_and_form(buckets: Any, call: Any) -> None:
    s3 = buckets.client("s3", "eu-west-1")
    large = bytes(range(256)) * 40_000  # 10 MB: multipart with small parts, streamed
    await call(s3.put_object, Bucket="there", Key="a//b/../ü", Body=b"odd", Metadata={"colour": "red"})
    headed = await call(s3.head_object, Bucket="there", Key="a//b/../ü")
    assert headed["Metadata"] == {"colour": "red"}
    config = boto3.s3.transfer.TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
    await asyncio.to_thread(s3.upload_fileobj, io.BytesIO(large), "there", "large", Config=config)
    got = await call(s3.get_object, Bucket="there", Key="large")
    assert hashlib.sha256(got["Body"]).digest() == hashlib.sha256(large).digest()
    assert (await call(s3.get_object, Bucket="there", Key="large", Range="bytes=5-9"))["Body"] == large[5:10]
    listed = await call(s3.list_objects_v2, Bucket="there")
    assert sorted(each["Key"] for each in listed["Contents"]) == ["a//b/../ü", "large"]
    await call(s3.copy_object, Bucket="there", Key="copy", CopySource={"Bucket": "there", "Key": "a//b/../ü"})
    deleted = await call(
        s3.delete_objects, Bucket="there", Delete={"Objects": [{"Key": "copy"}, {"Key": "large"}, {"Key": "none"}]}
    )
    assert len(deleted["Deleted"]) == 3


async def test_a_body_that_is_not_what_was_signed_is_not_stored(buckets: Any, call: Any) -> None:
    s3 = buckets.client("s3")

    def tamper(request: Any, **_: Any) -> None:
        request.body = b"other"

    s3.meta.events.register_first("before-send.s3.PutObject", tamper)
    with pytest.raises(ClientError) as error:
        await call(s3.put_object, Bucket="here", Key="k", Body=b"mine!", ContentMD5="")
    assert code(error)[1] == 400
    with pytest.raises(ClientError) as error:
        await call(s3.head_object, Bucket="here", Key="k")
    assert code(error) == ("404", 404)


async def test_presigned_urls(buckets: Any, call: Any) -> None:
    import urllib3

    s3 = buckets.client("s3", "eu-west-1", by_address=True, signature_version="s3v4")
    await call(s3.put_object, Bucket="there", Key="k", Body=b"seen")
    url = s3.generate_presigned_url("get_object", Params={"Bucket": "there", "Key": "k"}, ExpiresIn=60)
    answer = await asyncio.to_thread(urllib3.request, "GET", url)
    assert (answer.status, answer.data) == (200, b"seen")
    answer = await asyncio.to_thread(urllib3.request, "GET", url.replace("/k?", "/other?"))
    assert answer.status == 403
    assert b"<Code>SignatureDoesNotMatch</Code>" in answer.data


async def test_copies_between_regions(buckets: Any, call: Any) -> None:
    here, there = buckets.client("s3"), buckets.client("s3", "eu-west-1")
    await call(
        here.put_object,
        Bucket="here",
        Key="a b/ü",
        Body=b"0123456789",
        ContentType="text/plain",
        CacheControl="max-age=5",
        Metadata={"colour": "red"},
        Tagging="k=v%26w",
    )
    source = {"Bucket": "here", "Key": "a b/ü"}
    copied = await call(there.copy_object, Bucket="there", Key="copy", CopySource=source)
    got = await call(there.get_object, Bucket="there", Key="copy")
    assert got["Body"] == b"0123456789"
    assert copied["CopyObjectResult"]["ETag"] == got["ETag"]
    assert (got["ContentType"], got["CacheControl"], got["Metadata"]) == ("text/plain", "max-age=5", {"colour": "red"})
    tags = await call(there.get_object_tagging, Bucket="there", Key="copy")
    assert tags["TagSet"] == [{"Key": "k", "Value": "v&w"}]
    await call(
        there.copy_object,
        Bucket="there",
        Key="replaced",
        CopySource=source,
        MetadataDirective="REPLACE",
        ContentType="text/html",
        Metadata={"x": "y"},
    )
    got = await call(there.head_object, Bucket="there", Key="replaced")
    assert (got["ContentType"], got["Metadata"], "CacheControl" in got) == ("text/html", {"x": "y"}, False)
    upload = await call(there.create_multipart_upload, Bucket="there", Key="parts")
    part = {"Bucket": "there", "Key": "parts", "UploadId": upload["UploadId"], "PartNumber": 1}
    made = await call(there.upload_part_copy, **part, CopySource=source, CopySourceRange="bytes=2-4")
    done = {"Parts": [{"PartNumber": 1, "ETag": made["CopyPartResult"]["ETag"]}]}
    await call(
        there.complete_multipart_upload,
        Bucket="there",
        Key="parts",
        UploadId=upload["UploadId"],
        MultipartUpload=done,
    )
    assert (await call(there.get_object, Bucket="there", Key="parts"))["Body"] == b"234"


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"CopySource": "nowhere/k"}, ("NoSuchBucket", 404)),
        ({"CopySource": "there/absent"}, ("NoSuchKey", 404)),
        ({"CopySource": "there/k", "CopySourceIfMatch": '"0"'}, ("PreconditionFailed", 412)),
    ],
)
async def test_copies_that_fail(buckets: Any, call: Any, params: dict[str, Any], expected: tuple[str, int]) -> None:
    await call(buckets.client("s3", "eu-west-1").put_object, Bucket="there", Key="k", Body=b"x")
    with pytest.raises(ClientError) as error:
        await call(buckets.client("s3").copy_object, Bucket="here", Key="k", **params)
    assert code(error) == expected


async def test_a_role_deletes_only_what_it_may(buckets: Any, call: Any) -> None:
    root = buckets.client("s3")
    for key in ("public/a", "public/b", "secret/a"):
        await call(root.put_object, Bucket="here", Key=key, Body=b"x")
    role = await buckets.role(
        "cleaner",
        {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": "arn:aws:s3:::here/*"},
        {"Effect": "Deny", "Action": "s3:*", "Resource": "arn:aws:s3:::here/secret/*"},
    )
    assumed = await call(buckets.client("sts").assume_role, RoleArn=role.arn, RoleSessionName="test")
    credentials = assumed["Credentials"]
    keys = (credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
    s3 = buckets.client("s3", keys=keys)
    with pytest.raises(ClientError) as error:
        await call(s3.delete_objects, Bucket="here", Delete={"Objects": [{"Key": "public/a"}, {"Key": "secret/a"}]})
    assert code(error) == ("AccessDenied", 403)
    await call(s3.delete_objects, Bucket="here", Delete={"Objects": [{"Key": "public/a"}, {"Key": "public/b"}]})
    left = await call(root.list_objects_v2, Bucket="here")
    assert [each["Key"] for each in left["Contents"]] == ["secret/a"]


async def test_a_store_that_is_down_is_a_503(buckets: Any, call: Any) -> None:
    await buckets.servers[0].drain(0.1)
    s3 = buckets.client("s3")
    with pytest.raises(ClientError) as error:
        await call(s3.list_objects_v2, Bucket="here")
    assert code(error) == ("ServiceUnavailable", 503)


async def test_a_role_may_do_what_its_policies_say(buckets: Any, call: Any) -> None:
    await call(buckets.client("s3").put_object, Bucket="here", Key="public/a", Body=b"a")
    await call(buckets.client("s3").put_object, Bucket="here", Key="private/a", Body=b"a")
    role = await buckets.role(
        "reader",
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::here/public/*"},
        {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": "arn:aws:s3:::here",
            "Condition": {"StringEquals": {"s3:prefix": "public/"}},
        },
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::here/*"},
    )
    assumed = await call(buckets.client("sts").assume_role, RoleArn=role.arn, RoleSessionName="test")
    credentials = assumed["Credentials"]
    keys = (credentials["AccessKeyId"], credentials["SecretAccessKey"], credentials["SessionToken"])
    s3 = buckets.client("s3", keys=keys)
    assert (await call(s3.get_object, Bucket="here", Key="public/a"))["Body"] == b"a"
    await call(s3.list_objects_v2, Bucket="here", Prefix="public/")
    await call(s3.copy_object, Bucket="here", Key="b", CopySource="here/public/a")
    refused = [
        (s3.get_object, {"Bucket": "here", "Key": "private/a"}),
        (s3.list_objects_v2, {"Bucket": "here", "Prefix": "private/"}),
        (s3.list_buckets, {}),
        (s3.delete_object, {"Bucket": "here", "Key": "public/a"}),
        (s3.copy_object, {"Bucket": "here", "Key": "b", "CopySource": "here/private/a"}),
        (s3.create_bucket, {"Bucket": "new"}),
    ]
    for function, params in refused:
        with pytest.raises(ClientError) as error:
            await call(function, **params)
        assert code(error) == ("AccessDenied", 403), function


async def test_a_bucket_policy_is_checked_kept_copied_and_obeyed(buckets: Any, call: Any) -> None:
    s3 = buckets.client("s3")
    await call(s3.put_object, Bucket="here", Key="secret/k", Body=b"x")
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::here/secret/*"}
    policy = {"Version": "2012-10-17", "Statement": [deny]}
    await call(s3.put_bucket_policy, Bucket="here", Policy=json.dumps(policy))
    assert buckets.state.get(Bucket, "here").policy == policy
    with pytest.raises(ClientError) as error:
        await call(s3.get_object, Bucket="here", Key="secret/k")
    assert code(error) == ("AccessDenied", 403)
    assert json.loads((await call(s3.get_bucket_policy, Bucket="here"))["Policy"]) == policy
    await call(s3.delete_bucket_policy, Bucket="here")
    assert buckets.state.get(Bucket, "here").policy is None
    assert (await call(s3.get_object, Bucket="here", Key="secret/k"))["Body"] == b"x"
    for wrong in ("[]", json.dumps({**policy, "Statement": [{**deny, "Resource": "arn:aws:s3:::there/*"}]})):
        with pytest.raises(ClientError) as error:
            await call(s3.put_bucket_policy, Bucket="here", Policy=wrong)
        assert code(error) == ("MalformedPolicy", 400)


async def test_a_public_policy_is_refused_where_it_is_blocked(buckets: Any, call: Any) -> None:
    s3 = buckets.client("s3")
    allow = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::here/*"}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [allow]})
    block = {"BlockPublicAcls": False, "IgnorePublicAcls": False, "RestrictPublicBuckets": False}
    await call(
        s3.put_public_access_block,
        Bucket="here",
        PublicAccessBlockConfiguration={**block, "BlockPublicPolicy": True},
    )
    with pytest.raises(ClientError) as error:
        await call(s3.put_bucket_policy, Bucket="here", Policy=policy)
    assert code(error) == ("AccessDenied", 403)
    await call(s3.delete_public_access_block, Bucket="here")
    await call(s3.put_bucket_policy, Bucket="here", Policy=policy)
    assert buckets.state.get(Bucket, "here").policy is not None
