"""Objects over the wire: what goes in comes out, byte for byte, under every legal key."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from typing import Any

import pytest

KEYS = [
    "plain.txt",
    "a/b/c",
    "..",
    "../..",
    "a/../b",
    "//",
    "/leading",
    "a//b",
    "trailing/",
    ".",
    "./x",
    "ünï/çødé/日本語/🙂",
    "sp ace+plus%25&amp;?query#hash",
    "quote\"'<>\\",
    "tab\tnewline\nreturn\r",
    "control\x01\x1f",
    "k" * 1024,
    "é" * 512,
    "~-_.!*'()",
]


@pytest.mark.parametrize("key", KEYS)
def test_every_legal_key_is_an_object_of_its_own(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    assert s3.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}]}) if "\x01" not in key else s3.delete_object(
        Bucket=bucket, Key=key
    )
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_key_that_is_too_long_is_refused(s3: Any, bucket: str, refused: Any) -> None:
    assert refused(s3.put_object, Bucket=bucket, Key="k" * 1025, Body=b"") == ("KeyTooLongError", 400)


@pytest.mark.parametrize("size", [0, 1, 4096, 16 * 1024, 16 * 1024 + 1, 100_000, 2_500_000])
def test_content_of_any_size_comes_back(s3: Any, bucket: str, size: int) -> None:
    body = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    assert put["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    assert got["ContentLength"] == size
    if size > 10:
        assert s3.get_object(Bucket=bucket, Key="k", Range=f"bytes=3-{size - 5}")["Body"].read() == body[3 : size - 4]


def test_all_content_headers_and_user_metadata_come_back(s3: Any, bucket: str) -> None:
    headers = {
        "ContentType": "text/plain; charset=utf-8",
        "CacheControl": "max-age=60, public",
        "ContentDisposition": 'attachment; filename="a b.txt"',
        "ContentEncoding": "gzip",
        "ContentLanguage": "de, en",
        "WebsiteRedirectLocation": "/elsewhere",
        "StorageClass": "STANDARD_IA",
    }
    metadata = {"plain": "value", "upper": "MiXeD CaSe", "spaces": "a  b", "empty": "", "punct": "a=b;c,d"}
    s3.put_object(
        Bucket=bucket, Key="k", Body=b"x", Metadata=metadata, Expires="Wed, 01 Jan 2031 00:00:00 GMT", **headers
    )
    got = s3.head_object(Bucket=bucket, Key="k")
    assert {name: got[name] for name in headers} == headers
    assert got["Metadata"] == metadata
    assert got["ResponseMetadata"]["HTTPHeaders"]["expires"] == "Wed, 01 Jan 2031 00:00:00 GMT"
    assert got["ServerSideEncryption"] == "AES256"


def test_too_much_metadata_is_refused(s3: Any, bucket: str, refused: Any) -> None:
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"", Metadata={"m": "x" * 2048}) == (
        "MetadataTooLarge",
        400,
    )


def test_a_new_object_replaces_all_of_the_old_one(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"old" * 20_000, Metadata={"old": "1"}, ContentType="text/old")
    s3.put_object(Bucket=bucket, Key="k", Body=b"new")
    got = s3.get_object(Bucket=bucket, Key="k")
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"new", {}, "binary/octet-stream")


def test_overrides_of_a_signed_get(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain", CacheControl="no-store")
    got = s3.get_object(
        Bucket=bucket,
        Key="k",
        ResponseContentType="application/json",
        ResponseContentDisposition="inline",
        ResponseCacheControl="max-age=1",
    )
    assert (got["ContentType"], got["ContentDisposition"], got["CacheControl"]) == (
        "application/json",
        "inline",
        "max-age=1",
    )


@pytest.mark.parametrize(
    ("field", "status", "body"),
    [
        ("bytes=0-0", 206, b"0"),
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=-30", 206, b"0123456789"),
        ("bytes=5-500", 206, b"56789"),
        ("bytes=0-1,4-5", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
        ("bytes=5-2", 200, b"0123456789"),
    ],
)
def test_a_range_gives_its_bytes_and_one_that_is_none_the_whole(
    s3: Any, bucket: str, field: str, status: int, body: bytes
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    got = s3.get_object(Bucket=bucket, Key="k", Range=field)
    assert (got["ResponseMetadata"]["HTTPStatusCode"], got["Body"].read()) == (status, body)
    assert s3.head_object(Bucket=bucket, Key="k", Range=field)["ContentLength"] == len(body)


def test_a_range_outside_is_refused(s3: Any, bucket: str, refused: Any) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789")
    assert refused(s3.get_object, Bucket=bucket, Key="k", Range="bytes=10-") == ("InvalidRange", 416)
    assert refused(s3.head_object, Bucket=bucket, Key="k", Range="bytes=10-") == ("416", 416)


def test_what_is_not_there(s3: Any, bucket: str, refused: Any) -> None:
    assert refused(s3.get_object, Bucket=bucket, Key="none") == ("NoSuchKey", 404)
    assert refused(s3.head_object, Bucket=bucket, Key="none") == ("404", 404)
    assert refused(s3.get_object, Bucket="no-such-bucket-here", Key="k") == ("NoSuchBucket", 404)
    assert refused(s3.put_object, Bucket="no-such-bucket-here", Key="k", Body=b"x" * 50_000) == ("NoSuchBucket", 404)
    assert s3.delete_object(Bucket=bucket, Key="none")["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_conditional_reads(s3: Any, bucket: str, refused: Any) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="k")["LastModified"]
    assert s3.get_object(Bucket=bucket, Key="k", IfMatch=etag)["Body"].read() == b"x"
    assert refused(s3.get_object, Bucket=bucket, Key="k", IfMatch='"other"') == ("PreconditionFailed", 412)
    assert refused(s3.get_object, Bucket=bucket, Key="k", IfNoneMatch=etag) == ("304", 304)
    assert refused(s3.get_object, Bucket=bucket, Key="k", IfModifiedSince=modified) == ("304", 304)
    assert refused(s3.head_object, Bucket=bucket, Key="k", IfNoneMatch="*") == ("304", 304)


def test_conditional_writes(s3: Any, bucket: str, refused: Any) -> None:
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"1", IfMatch='"x"') == ("NoSuchKey", 404)
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"1", IfNoneMatch="*")["ETag"]
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"2" * 40_000, IfMatch='"x"') == (
        "PreconditionFailed",
        412,
    )
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"2", IfNoneMatch='"x"') == ("NotImplemented", 501)
    s3.put_object(Bucket=bucket, Key="k", Body=b"2", IfMatch=first)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"
    assert refused(s3.delete_object, Bucket=bucket, Key="k", IfMatch=first) == ("PreconditionFailed", 412)


def test_checksums_of_every_algorithm_are_kept_and_verified(s3: Any, bucket: str, refused: Any) -> None:
    for algorithm in ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"):
        put = s3.put_object(Bucket=bucket, Key="k", Body=b"hello" * 1000, ChecksumAlgorithm=algorithm)
        assert put["ChecksumType"] == "FULL_OBJECT"
        head = s3.head_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert head[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]
        assert f"Checksum{algorithm}" not in s3.head_object(Bucket=bucket, Key="k")
        wrong = base64.b64encode(b"\0" * len(base64.b64decode(put[f"Checksum{algorithm}"]))).decode()
        arguments = {"Bucket": bucket, "Key": "k", "Body": b"other", f"Checksum{algorithm}": wrong}
        assert refused(s3.put_object, **arguments) == ("BadDigest", 400)
        assert refused(s3.put_object, **(arguments | {f"Checksum{algorithm}": "AAAA"})) == ("InvalidRequest", 400)
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"hello" * 1000
    sha1 = s3.put_object(Bucket=bucket, Key="k", Body=b"abc", ChecksumAlgorithm="SHA1")["ChecksumSHA1"]
    assert sha1 == base64.b64encode(hashlib.sha1(b"abc").digest()).decode()
    crc32 = s3.put_object(Bucket=bucket, Key="k", Body=b"abc", ChecksumAlgorithm="CRC32")["ChecksumCRC32"]
    assert crc32 == base64.b64encode(zlib.crc32(b"abc").to_bytes(4, "big")).decode()


def test_without_a_checksum_the_store_computes_crc64nvme(running: Any, bucket: str) -> None:
    s3 = running.client(request_checksum_calculation="when_required")
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"123456789")["ChecksumCRC64NVME"] == "rosUhgp5mIg="


def test_content_md5(s3: Any, bucket: str, refused: Any) -> None:
    right = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    wrong = base64.b64encode(hashlib.md5(b"y").digest()).decode()
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", ContentMD5=right)
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"x", ContentMD5=wrong) == ("BadDigest", 400)
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"x", ContentMD5="AAAA") == ("InvalidDigest", 400)


def test_copy_keeps_or_replaces_metadata_and_content_stays_its_own(s3: Any, bucket: str, refused: Any) -> None:
    for size in (10, 50_000):
        body = os.urandom(size)
        s3.put_object(Bucket=bucket, Key="src/ä b", Body=body, Metadata={"m": "1"}, ContentType="text/x", Tagging="a=b")
        source = {"Bucket": bucket, "Key": "src/ä b"}
        copied = s3.copy_object(Bucket=bucket, Key="dst", CopySource=source)
        assert copied["CopyObjectResult"]["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
        got = s3.get_object(Bucket=bucket, Key="dst")
        assert (got["Metadata"], got["ContentType"], got["TagCount"]) == ({"m": "1"}, "text/x", 1)
        s3.copy_object(
            Bucket=bucket,
            Key="dst2",
            CopySource=source,
            MetadataDirective="REPLACE",
            Metadata={"n": "2"},
            TaggingDirective="REPLACE",
            Tagging="c=d&e=f",
            ChecksumAlgorithm="SHA256",
        )
        got = s3.get_object(Bucket=bucket, Key="dst2", ChecksumMode="ENABLED")
        assert (got["Metadata"], got["ContentType"], got["TagCount"]) == ({"n": "2"}, "binary/octet-stream", 2)
        assert got["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(body).digest()).decode()
        s3.delete_object(Bucket=bucket, Key="src/ä b")
        assert s3.get_object(Bucket=bucket, Key="dst")["Body"].read() == body
        assert s3.get_object(Bucket=bucket, Key="dst2")["Body"].read() == body
    assert refused(s3.copy_object, Bucket=bucket, Key="dst", CopySource={"Bucket": bucket, "Key": "dst"}) == (
        "InvalidRequest",
        400,
    )
    s3.copy_object(
        Bucket=bucket, Key="dst", CopySource={"Bucket": bucket, "Key": "dst"}, MetadataDirective="REPLACE", Metadata={}
    )
    assert s3.get_object(Bucket=bucket, Key="dst")["Body"].read() == body
    assert refused(s3.copy_object, Bucket=bucket, Key="x", CopySource={"Bucket": bucket, "Key": "none"}) == (
        "NoSuchKey",
        404,
    )
    assert refused(
        s3.copy_object, Bucket=bucket, Key="x", CopySource={"Bucket": bucket, "Key": "dst"}, CopySourceIfMatch='"x"'
    ) == ("PreconditionFailed", 412)


def test_tags_are_kept_replaced_and_bounded(s3: Any, bucket: str, refused: Any) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Tagging="a=1&b=%20x")
    tags = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": " x"}]
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == tags
    s3.put_object_tagging(Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "é", "Value": "ü"}]})
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "é", "Value": "ü"}]
    s3.delete_object_tagging(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == []
    many = {"TagSet": [{"Key": str(at), "Value": ""} for at in range(11)]}
    assert refused(s3.put_object_tagging, Bucket=bucket, Key="k", Tagging=many) == ("BadRequest", 400)
    twice = {"TagSet": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}
    assert refused(s3.put_object_tagging, Bucket=bucket, Key="k", Tagging=twice) == ("InvalidTag", 400)


def test_batch_delete_takes_a_thousand_and_says_what_went(s3: Any, bucket: str, refused: Any) -> None:
    for key in ("a", "b", "c"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    objects = [{"Key": key} for key in ("a", "b", "none")]
    assert s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})["Deleted"] == objects
    quiet = {"Objects": [{"Key": f"k{at}"} for at in range(999)] + [{"Key": "c"}], "Quiet": True}
    assert "Deleted" not in s3.delete_objects(Bucket=bucket, Delete=quiet)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    assert refused(s3.delete_objects, Bucket=bucket, Delete={"Objects": [{"Key": f"k{at}"} for at in range(1001)]}) == (
        "MalformedXML",
        400,
    )


def test_attributes(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"abc", ChecksumAlgorithm="SHA256")
    got = s3.get_object_attributes(
        Bucket=bucket, Key="k", ObjectAttributes=["ETag", "Checksum", "ObjectSize", "StorageClass", "ObjectParts"]
    )
    assert (got["ETag"], got["ObjectSize"], got["StorageClass"]) == (hashlib.md5(b"abc").hexdigest(), 3, "STANDARD")
    assert got["Checksum"]["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(b"abc").digest()).decode()
    assert "ObjectParts" not in got


def test_a_request_with_the_wrong_expected_owner_is_denied(s3: Any, bucket: str, refused: Any) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", ExpectedBucketOwner="123456789012")
    assert refused(s3.get_object, Bucket=bucket, Key="k", ExpectedBucketOwner="210987654321") == ("AccessDenied", 403)
    assert refused(s3.list_objects_v2, Bucket=bucket, ExpectedBucketOwner="210987654321") == ("AccessDenied", 403)
