"""Every call that S3 has on objects, with boto3, through `nearpoint accesspoint` over real stores."""

from __future__ import annotations

import hashlib
import io
import itertools
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

MIB = 1024 * 1024
# What `rclone serve s3` does not do: either it says so itself, or the access point has found out and refuses.
RCLONE_CANNOT = {
    "test_acl", "test_attributes", "test_bulk_delete", "test_checksums", "test_conditional_writes", "test_copies",
    "test_legal_hold_and_retention", "test_multipart", "test_multipart_checksums", "test_part_copies", "test_tagging",
    "test_versions",
}  # fmt: skip
NEEDS_VERSIONS = {"test_legal_hold_and_retention", "test_versions"}
_numbers = itertools.count(1)


@dataclass
class Talk:
    """A client of one access point, and a folder of its own for keys."""

    s3: Any
    bucket: str
    arn: str
    folder: str
    store: str

    def key(self, name: str = "k") -> str:
        return f"{self.folder}/{name}"

    def refused(self, method: str, **arguments: Any) -> tuple[int, str]:
        """Status and code of a call that has to fail."""
        with pytest.raises(ClientError) as caught:
            getattr(self.s3, method)(Bucket=self.bucket, **arguments)
        response = caught.value.response
        return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]

    def __getattr__(self, method: str) -> Callable[..., Any]:
        call = getattr(self.s3, method)
        return lambda **arguments: call(Bucket=self.bucket, **arguments)


@pytest.fixture(scope="module")
def clients(front: Any, data_path: Path) -> dict[str, Any]:
    """boto3 with the alias, signed with SigV4 and SigV4A, and with the ARN, which AWS's own signer signs (CRT)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_DATA_PATH", str(data_path))
        by_arn = front.client(config={"signature_version": None, "s3": {}})
    by_v4a = {
        store: front.client(region_name=region, config={"signature_version": "s3v4a"})
        for store, region in (("embedded", "eu-west-1"), ("weeds", "weed-1"))
    }
    return {"s3v4": front.client(), "arn": by_arn, **{f"s3v4a {store}": made for store, made in by_v4a.items()}}


WAYS = [(store, way) for store in ("embedded", "weeds") for way in ("s3v4", "s3v4a", "arn")] + [("clones", "s3v4")]


@pytest.fixture(params=WAYS, ids=" ".join)
def talk(request: pytest.FixtureRequest, clients: dict[str, Any]) -> Talk:
    store, way = request.param
    if store == "clones" and request.function.__name__ in RCLONE_CANNOT:
        pytest.skip("rclone serve s3 does not do this")
    alias = f"{store}locked.mrap" if request.function.__name__ in NEEDS_VERSIONS else f"{store}.mrap"
    arn = f"arn:aws:s3::123456789012:accesspoint/{alias}"
    s3 = clients[f"s3v4a {store}" if way == "s3v4a" else way]
    return Talk(s3, arn if way == "arn" else alias, arn, f"talk-{next(_numbers)}", store)


def test_put_get_head_delete(talk: Talk) -> None:
    put = talk.put_object(
        Key=talk.key("a b/é+%2F"), Body=b"hello", ContentType="text/x", Metadata={"who": "me", "n": "1 2"},
        CacheControl="max-age=1", ContentDisposition="inline", ContentLanguage="de",
    )  # fmt: skip
    assert put["ETag"] == f'"{hashlib.md5(b"hello").hexdigest()}"'
    assert put["ResponseMetadata"]["HTTPHeaders"]["x-nearpoint-region"]
    got = talk.get_object(Key=talk.key("a b/é+%2F"))
    assert (got["Body"].read(), got["ContentType"], got["CacheControl"]) == (b"hello", "text/x", "max-age=1")
    assert (got["Metadata"], got["ContentDisposition"], got["ContentLanguage"]) == (
        {"who": "me", "n": "1 2"},
        "inline",
        "de",
    )
    head = talk.head_object(Key=talk.key("a b/é+%2F"))
    assert (head["ContentLength"], head["ETag"], head["Metadata"]) == (5, put["ETag"], got["Metadata"])
    assert talk.delete_object(Key=talk.key("a b/é+%2F"))["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert talk.refused("get_object", Key=talk.key("a b/é+%2F")) == (404, "NoSuchKey")
    assert talk.refused("head_object", Key=talk.key("a b/é+%2F")) == (404, "404")


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3 * MIB])
def test_sizes(talk: Talk, size: int) -> None:
    body = bytes(itertools.islice(itertools.cycle(range(251)), size))
    talk.put_object(Key=talk.key(), Body=body)
    assert talk.get_object(Key=talk.key())["Body"].read() == body


def test_a_body_without_a_length(talk: Talk) -> None:
    class Source(io.BytesIO):
        def seekable(self) -> bool:
            return False

    talk.s3.upload_fileobj(Source(b"x" * 100_000), talk.bucket, talk.key())
    assert talk.head_object(Key=talk.key())["ContentLength"] == 100_000


def test_response_parameters(talk: Talk) -> None:
    talk.put_object(Key=talk.key(), Body=b"x", ContentType="a/b")
    got = talk.get_object(Key=talk.key(), ResponseContentType="c/d", ResponseCacheControl="no-store")
    assert (got["ContentType"], got["CacheControl"]) == ("c/d", "no-store")


def test_ranges(talk: Talk) -> None:
    body = bytes(range(256)) * 4
    talk.put_object(Key=talk.key(), Body=body)
    for asked, first, last in (("bytes=0-9", 0, 9), ("bytes=1000-", 1000, 1023), ("bytes=-24", 1000, 1023)):
        got = talk.get_object(Key=talk.key(), Range=asked)
        assert got["Body"].read() == body[first : last + 1]
        assert got["ContentRange"] == f"bytes {first}-{last}/1024"
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert talk.refused("get_object", Key=talk.key(), Range="bytes=2000-") == (416, "InvalidRange")


def test_conditional_reads(talk: Talk) -> None:
    etag = talk.put_object(Key=talk.key(), Body=b"x")["ETag"]
    past, future = datetime(2001, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)
    assert talk.get_object(Key=talk.key(), IfMatch=etag)["ETag"] == etag
    assert talk.refused("get_object", Key=talk.key(), IfMatch='"other"') == (412, "PreconditionFailed")
    assert talk.refused("get_object", Key=talk.key(), IfNoneMatch=etag)[0] == 304
    assert talk.refused("get_object", Key=talk.key(), IfUnmodifiedSince=past) == (412, "PreconditionFailed")
    assert talk.refused("get_object", Key=talk.key(), IfModifiedSince=future - timedelta(days=1, seconds=-5))[0] == 304
    assert talk.get_object(Key=talk.key(), IfModifiedSince=past)["ETag"] == etag
    assert talk.refused("head_object", Key=talk.key(), IfNoneMatch=etag)[0] == 304


def test_conditional_writes(talk: Talk) -> None:
    etag = talk.put_object(Key=talk.key(), Body=b"1", IfNoneMatch="*")["ETag"]
    assert talk.refused("put_object", Key=talk.key(), Body=b"2", IfNoneMatch="*") == (412, "PreconditionFailed")
    assert talk.refused("put_object", Key=talk.key(), Body=b"2", IfMatch='"0"') == (412, "PreconditionFailed")
    talk.put_object(Key=talk.key(), Body=b"3", IfMatch=etag)
    assert talk.get_object(Key=talk.key())["Body"].read() == b"3"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums(talk: Talk, algorithm: str) -> None:
    body = b"z" * 100_000
    put = talk.put_object(Key=talk.key(), Body=body, ChecksumAlgorithm=algorithm)
    value = put[f"Checksum{algorithm}"]
    assert talk.head_object(Key=talk.key(), ChecksumMode="ENABLED")[f"Checksum{algorithm}"] == value
    assert talk.get_object(Key=talk.key(), ChecksumMode="ENABLED")["Body"].read() == body
    wrong = {f"Checksum{algorithm}": value}
    status, code = talk.refused("put_object", Key=talk.key("wrong"), Body=b"other", **wrong)
    assert (status, code) in ((400, "BadDigest"), (400, "InvalidRequest"), (400, "InvalidDigest"))
    assert talk.refused("head_object", Key=talk.key("wrong")) == (404, "404")


def test_content_md5(talk: Talk) -> None:
    import base64

    right = base64.b64encode(hashlib.md5(b"abc").digest()).decode()
    talk.put_object(Key=talk.key(), Body=b"abc", ContentMD5=right)
    assert talk.refused("put_object", Key=talk.key("w"), Body=b"abd", ContentMD5=right) == (400, "BadDigest")


def test_bulk_delete(talk: Talk) -> None:
    names = [talk.key(f"d/{at} & <x>") for at in range(20)]
    for name in names:
        talk.put_object(Key=name, Body=b"")
    gone = talk.delete_objects(Delete={"Objects": [{"Key": name} for name in [*names, talk.key("never")]]})
    assert {each["Key"] for each in gone["Deleted"]} >= set(names)
    assert "Errors" not in gone
    assert talk.list_objects_v2(Prefix=talk.key("d/"))["KeyCount"] == 0
    quiet = talk.delete_objects(Delete={"Objects": [{"Key": names[0]}], "Quiet": True})
    assert "Deleted" not in quiet


def test_listings(talk: Talk) -> None:
    for name in ("a/1", "a/2", "b/1", "c", "d é"):
        talk.put_object(Key=talk.key(name), Body=b"12")
    prefix = talk.key("")
    listed = talk.list_objects_v2(Prefix=prefix, Delimiter="/")
    assert [each["Prefix"] for each in listed["CommonPrefixes"]] == [f"{prefix}a/", f"{prefix}b/"]
    assert [each["Key"] for each in listed["Contents"]] == [f"{prefix}c", f"{prefix}d é"]
    pages = talk.s3.get_paginator("list_objects_v2").paginate(
        Bucket=talk.bucket, Prefix=prefix, PaginationConfig={"PageSize": 2}
    )
    assert [each["Key"].removeprefix(prefix) for page in pages for each in page["Contents"]] == [
        "a/1", "a/2", "b/1", "c", "d é",
    ]  # fmt: skip
    old = talk.list_objects(Prefix=prefix, MaxKeys=3)
    assert (len(old["Contents"]), old["IsTruncated"]) == (3, True)
    rest = talk.list_objects(Prefix=prefix, Marker=old["Contents"][-1]["Key"])
    assert len(rest["Contents"]) == 2
    after = talk.list_objects_v2(Prefix=prefix, StartAfter=f"{prefix}c")
    assert [each["Key"] for each in after["Contents"]] == [f"{prefix}d é"]


def test_the_bucket_itself(talk: Talk) -> None:
    assert talk.head_bucket()["AccessPointAlias"] is True
    if not talk.bucket.startswith("arn:"):  # boto3 refuses to ask for the location of an ARN
        talk.get_bucket_location()


def test_tagging(talk: Talk) -> None:
    talk.put_object(Key=talk.key(), Body=b"x", Tagging="a=1&b=2%203")
    tags = talk.get_object_tagging(Key=talk.key())["TagSet"]
    assert sorted((tag["Key"], tag["Value"]) for tag in tags) == [("a", "1"), ("b", "2 3")]
    talk.put_object_tagging(Key=talk.key(), Tagging={"TagSet": [{"Key": "c", "Value": "ü"}]})
    assert talk.get_object_tagging(Key=talk.key())["TagSet"] == [{"Key": "c", "Value": "ü"}]
    talk.delete_object_tagging(Key=talk.key())
    assert talk.get_object_tagging(Key=talk.key())["TagSet"] == []


def test_attributes(talk: Talk) -> None:
    put = talk.put_object(Key=talk.key(), Body=b"12345", ChecksumAlgorithm="SHA256")
    found = talk.get_object_attributes(Key=talk.key(), ObjectAttributes=["ETag", "ObjectSize", "Checksum"])
    assert (found["ETag"], found["ObjectSize"]) == (put["ETag"].strip('"'), 5)
    if talk.store != "weeds":  # SeaweedFS leaves checksums out of it
        assert found["Checksum"]["ChecksumSHA256"] == put["ChecksumSHA256"]


@pytest.mark.parametrize("by", ["arn", "alias"])
def test_copies(talk: Talk, by: str) -> None:
    talk.put_object(Key=talk.key("from é"), Body=b"content", Metadata={"a": "1"}, ContentType="a/b")
    source = {"Bucket": talk.arn if by == "arn" else talk.bucket, "Key": talk.key("from é")}
    copied = talk.copy_object(Key=talk.key("to"), CopySource=source)
    assert copied["CopyObjectResult"]["ETag"]
    got = talk.get_object(Key=talk.key("to"))
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"content", {"a": "1"}, "a/b")
    talk.copy_object(
        Key=talk.key("to"), CopySource=source, MetadataDirective="REPLACE", Metadata={"b": "2"}, ContentType="c/d"
    )
    head = talk.head_object(Key=talk.key("to"))
    assert (head["Metadata"], head["ContentType"]) == ({"b": "2"}, "c/d")
    missing = {**source, "Key": talk.key("none")}
    assert talk.refused("copy_object", Key=talk.key("x"), CopySource=missing) == (404, "NoSuchKey")


def test_multipart(talk: Talk) -> None:
    parts = [b"a" * (5 * MIB), b"b" * 1000]
    upload = talk.create_multipart_upload(Key=talk.key(), ContentType="a/b", Metadata={"m": "1"})["UploadId"]
    etags = [
        talk.upload_part(Key=talk.key(), UploadId=upload, PartNumber=number, Body=part)["ETag"]
        for number, part in enumerate(parts, 1)
    ]
    listed = talk.list_parts(Key=talk.key(), UploadId=upload)
    assert [(each["PartNumber"], each["Size"]) for each in listed["Parts"]] == [(1, 5 * MIB), (2, 1000)]
    uploads = talk.list_multipart_uploads(Prefix=talk.key())["Uploads"]
    assert [each["UploadId"] for each in uploads] == [upload]
    done = talk.complete_multipart_upload(
        Key=talk.key(), UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": at, "ETag": etag} for at, etag in enumerate(etags, 1)]},
    )  # fmt: skip
    assert done["ETag"].endswith('-2"')
    got = talk.get_object(Key=talk.key())
    assert (got["Body"].read(), got["ContentType"], got["Metadata"]) == (b"".join(parts), "a/b", {"m": "1"})
    assert talk.get_object(Key=talk.key(), PartNumber=2)["Body"].read() == parts[1]
    assert talk.head_object(Key=talk.key(), PartNumber=1)["PartsCount"] == 2


def test_part_copies(talk: Talk) -> None:
    talk.put_object(Key=talk.key("from"), Body=b"0123456789" * 100)
    upload = talk.create_multipart_upload(Key=talk.key())["UploadId"]
    copied = talk.upload_part_copy(
        Key=talk.key(), UploadId=upload, PartNumber=1, CopySource={"Bucket": talk.arn, "Key": talk.key("from")},
        CopySourceRange="bytes=10-29",
    )  # fmt: skip
    talk.complete_multipart_upload(
        Key=talk.key(), UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}]},
    )  # fmt: skip
    assert talk.get_object(Key=talk.key())["Body"].read() == b"01234567890123456789"


def test_aborted_uploads(talk: Talk) -> None:
    upload = talk.create_multipart_upload(Key=talk.key())["UploadId"]
    talk.upload_part(Key=talk.key(), UploadId=upload, PartNumber=1, Body=b"x")
    talk.abort_multipart_upload(Key=talk.key(), UploadId=upload)
    assert talk.refused("list_parts", Key=talk.key(), UploadId=upload) == (404, "NoSuchUpload")
    assert talk.refused("list_parts", Key=talk.key(), UploadId="made-up") == (404, "NoSuchUpload")


@pytest.mark.parametrize("algorithm", ["CRC32C", "SHA256"])
def test_multipart_checksums(talk: Talk, algorithm: str) -> None:
    upload = talk.create_multipart_upload(Key=talk.key(), ChecksumAlgorithm=algorithm)["UploadId"]
    part = talk.upload_part(
        Key=talk.key(), UploadId=upload, PartNumber=1, Body=b"p" * 1000, ChecksumAlgorithm=algorithm
    )
    name = f"Checksum{algorithm}"
    done = talk.complete_multipart_upload(
        Key=talk.key(), UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"], name: part[name]}]},
    )  # fmt: skip
    assert done[name].endswith("-1")


def test_transfers(talk: Talk) -> None:
    body = bytes(range(256)) * 40_960
    talk.s3.upload_fileobj(io.BytesIO(body), talk.bucket, talk.key())
    into = io.BytesIO()
    talk.s3.download_fileobj(talk.bucket, talk.key(), into)
    assert into.getvalue() == body


def test_presigned(talk: Talk) -> None:
    url = talk.s3.generate_presigned_url("put_object", {"Bucket": talk.bucket, "Key": talk.key("p q")})
    with urllib.request.urlopen(urllib.request.Request(url, b"put", method="PUT", headers={"Content-Type": "a/b"})):
        pass
    url = talk.s3.generate_presigned_url("get_object", {"Bucket": talk.bucket, "Key": talk.key("p q")})
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"put"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url.replace("p%20q", "p%20r"))
    assert (caught.value.code, b"SignatureDoesNotMatch" in caught.value.read()) == (403, True)


def test_acl(talk: Talk) -> None:
    talk.put_object(Key=talk.key(), Body=b"x")
    assert talk.get_object_acl(Key=talk.key())["Owner"]
    if talk.store == "embedded":  # as S3's buckets since 2023: ACLs are off
        assert talk.refused("put_object_acl", Key=talk.key(), ACL="public-read") == (
            400, "AccessControlListNotSupported",
        )  # fmt: skip
    else:
        talk.put_object_acl(Key=talk.key(), ACL="private")
    assert talk.get_object(Key=talk.key())["Body"].read() == b"x"


def test_versions(talk: Talk) -> None:
    first = talk.put_object(Key=talk.key(), Body=b"1")["VersionId"]
    second = talk.put_object(Key=talk.key(), Body=b"2")["VersionId"]
    assert talk.get_object(Key=talk.key(), VersionId=first)["Body"].read() == b"1"
    assert talk.head_object(Key=talk.key(), VersionId=second)["VersionId"] == second
    marker = talk.delete_object(Key=talk.key())
    assert marker["DeleteMarker"] is True
    assert talk.refused("get_object", Key=talk.key()) == (404, "NoSuchKey")
    listed = talk.list_object_versions(Prefix=talk.key())
    assert [each["VersionId"] for each in listed["Versions"]] == [second, first]
    assert [each["VersionId"] for each in listed["DeleteMarkers"]] == [marker["VersionId"]]
    talk.delete_object(Key=talk.key(), VersionId=marker["VersionId"])
    assert talk.get_object(Key=talk.key())["Body"].read() == b"2"
    gone = talk.delete_objects(Delete={"Objects": [{"Key": talk.key(), "VersionId": each} for each in (first, second)]})
    assert {each["VersionId"] for each in gone["Deleted"]} == {first, second}


def test_legal_hold_and_retention(talk: Talk) -> None:
    version = talk.put_object(Key=talk.key(), Body=b"1")["VersionId"]
    talk.put_object_legal_hold(Key=talk.key(), LegalHold={"Status": "ON"})
    assert talk.get_object_legal_hold(Key=talk.key())["LegalHold"]["Status"] == "ON"
    assert talk.refused("delete_object", Key=talk.key(), VersionId=version) == (403, "AccessDenied")
    talk.put_object_legal_hold(Key=talk.key(), LegalHold={"Status": "OFF"})
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    talk.put_object_retention(Key=talk.key(), Retention={"Mode": "GOVERNANCE", "RetainUntilDate": until})
    kept = talk.get_object_retention(Key=talk.key())["Retention"]
    assert (kept["Mode"], kept["RetainUntilDate"]) == ("GOVERNANCE", until)
    assert talk.refused("delete_object", Key=talk.key(), VersionId=version) == (403, "AccessDenied")
    talk.delete_object(Key=talk.key(), VersionId=version, BypassGovernanceRetention=True)
