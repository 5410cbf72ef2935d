"""Multipart uploads over the wire."""

from __future__ import annotations

import base64
import hashlib
import io
import os
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig

PART = 5 * 1024 * 1024


def _upload(s3: Any, bucket: str, key: str, bodies: list[bytes], **arguments: Any) -> tuple[str, list[dict[str, Any]]]:
    upload = s3.create_multipart_upload(Bucket=bucket, Key=key, **arguments)["UploadId"]
    summed = {name: value for name, value in arguments.items() if name == "ChecksumAlgorithm"}
    parts = []
    for number, body in enumerate(bodies, 1):
        part = s3.upload_part(Bucket=bucket, Key=key, UploadId=upload, PartNumber=number, Body=body, **summed)
        kept = {name: value for name, value in part.items() if name == "ETag" or name.startswith("Checksum")}
        parts.append({"PartNumber": number} | kept)
    return upload, parts


def test_parts_become_one_object(s3: Any, bucket: str) -> None:
    bodies = [os.urandom(PART), os.urandom(PART + 1), b"the end"]
    upload, parts = _upload(s3, bucket, "k", bodies, Metadata={"m": "1"}, ContentType="text/x")
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    done = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    digest = hashlib.md5(b"".join(hashlib.md5(body).digest() for body in bodies)).hexdigest()
    assert done["ETag"] == f'"{digest}-3"'
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == b"".join(bodies)
    assert (got["Metadata"], got["ContentType"]) == ({"m": "1"}, "text/x")
    second = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert second["Body"].read() == bodies[1]
    assert (second["PartsCount"], second["ContentRange"]) == (3, f"bytes {PART}-{2 * PART}/{2 * PART + 8}")
    across = s3.get_object(Bucket=bucket, Key="k", Range=f"bytes={PART - 3}-{2 * PART + 3}")["Body"].read()
    assert across == b"".join(bodies)[PART - 3 : 2 * PART + 4]
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "k"})
    copied = s3.get_object(Bucket=bucket, Key="copy")
    assert (copied["Body"].read(), copied["ETag"]) == (
        b"".join(bodies),
        f'"{hashlib.md5(b"".join(bodies)).hexdigest()}"',
    )


@pytest.mark.parametrize(
    ("algorithm", "kind"),
    [("CRC32", "FULL_OBJECT"), ("CRC32C", "FULL_OBJECT"), ("CRC64NVME", "FULL_OBJECT"), ("SHA256", "COMPOSITE")],
)
def test_checksums_of_the_whole(s3: Any, bucket: str, algorithm: str, kind: str) -> None:
    bodies = [os.urandom(PART), os.urandom(1000)]
    upload, parts = _upload(s3, bucket, "k", bodies, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    done = s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    assert done["ChecksumType"] == kind
    whole = s3.put_object(Bucket=bucket, Key="whole", Body=b"".join(bodies), ChecksumAlgorithm=algorithm)
    if kind == "FULL_OBJECT":
        assert done[f"Checksum{algorithm}"] == whole[f"Checksum{algorithm}"]
    else:
        digests = b"".join(hashlib.sha256(body).digest() for body in bodies)
        assert done["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(digests).digest()).decode() + "-2"
    attributes = s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts", "Checksum"])
    assert attributes["ObjectParts"]["TotalPartsCount"] == 2
    assert s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")["Body"].read() == b"".join(bodies)


def test_what_completion_refuses(s3: Any, bucket: str, refused: Any) -> None:
    upload, parts = _upload(s3, bucket, "k", [b"small", os.urandom(PART), b"end"])

    def complete(chosen: list[dict[str, Any]], **arguments: Any) -> Any:
        return refused(
            s3.complete_multipart_upload,
            **({"Bucket": bucket, "Key": "k", "UploadId": upload, "MultipartUpload": {"Parts": chosen}} | arguments),
        )

    assert complete(parts) == ("EntityTooSmall", 400)
    assert complete([parts[2], parts[1]]) == ("InvalidPartOrder", 400)
    assert complete([parts[1], {"PartNumber": 9, "ETag": '"0"'}]) == ("InvalidPart", 400)
    assert complete([parts[1], {"PartNumber": 3, "ETag": parts[1]["ETag"]}]) == ("InvalidPart", 400)
    assert complete([]) == ("MalformedXML", 400)
    assert complete(parts[1:], UploadId="unknown") == ("NoSuchUpload", 404)
    assert complete(parts[1:], Key="other") == ("NoSuchUpload", 404)
    assert complete(parts[1:], MpuObjectSize=7) == ("InvalidRequest", 400)
    s3.complete_multipart_upload(
        Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts[1:]}, IfNoneMatch="*"
    )
    assert s3.head_object(Bucket=bucket, Key="k", PartNumber=2)["ContentLength"] == 3
    assert complete(parts[1:]) == ("NoSuchUpload", 404)


def test_parts_are_listed_replaced_and_aborted(s3: Any, bucket: str, refused: Any) -> None:
    upload, _ = _upload(s3, bucket, "k", [b"1", b"22", b"333"])
    s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=2, Body=b"replaced" * 5000)
    listed = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)
    assert [part["Size"] for part in listed["Parts"]] == [1, 40_000, 3]
    page = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, MaxParts=2)
    assert (page["IsTruncated"], page["NextPartNumberMarker"]) == (True, 2)
    rest = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, PartNumberMarker=2)
    assert [part["PartNumber"] for part in rest["Parts"]] == [3]
    assert refused(s3.upload_part, Bucket=bucket, Key="k", UploadId=upload, PartNumber=10_001, Body=b"") == (
        "InvalidArgument",
        400,
    )
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
    assert refused(s3.list_parts, Bucket=bucket, Key="k", UploadId=upload) == ("NoSuchUpload", 404)
    assert refused(s3.upload_part, Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x" * 20_000) == (
        "NoSuchUpload",
        404,
    )


def test_parts_copied_from_ranges(s3: Any, bucket: str, refused: Any) -> None:
    body = os.urandom(PART + 100)
    s3.put_object(Bucket=bucket, Key="src", Body=body)
    source = {"Bucket": bucket, "Key": "src"}
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    arguments = {"Bucket": bucket, "Key": "k", "UploadId": upload, "CopySource": source}
    parts = []
    for number, span in ((1, f"0-{PART - 1}"), (2, f"{PART}-{PART + 99}")):
        result = s3.upload_part_copy(PartNumber=number, CopySourceRange=f"bytes={span}", **arguments)
        parts.append({"PartNumber": number, "ETag": result["CopyPartResult"]["ETag"]})
    for span in ("bytes=0-", f"bytes=0-{len(body)}", "bytes=9-2"):
        assert refused(s3.upload_part_copy, PartNumber=3, CopySourceRange=span, **arguments) == ("InvalidArgument", 400)
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == body


def test_uploads_are_listed(s3: Any, bucket: str) -> None:
    for key in ("a/1", "a/2", "b"):
        s3.create_multipart_upload(Bucket=bucket, Key=key)
    second = s3.create_multipart_upload(Bucket=bucket, Key="b")["UploadId"]
    listed = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [item["Prefix"] for item in listed["CommonPrefixes"]] == ["a/"]
    assert [item["Key"] for item in listed["Uploads"]] == ["b", "b"]
    paged: list[str] = []
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=bucket, PaginationConfig={"PageSize": 1}):
        paged += [item["UploadId"] for item in page.get("Uploads", [])]
    assert len(set(paged)) == 4
    assert paged[-1] == second
    s3.delete_bucket(Bucket=bucket)


def test_the_transfer_manager_moves_large_files(s3: Any, bucket: str) -> None:
    body = os.urandom(20_000_000)
    s3.upload_fileobj(io.BytesIO(body), bucket, "k", Config=TransferConfig(multipart_chunksize=PART))
    back = io.BytesIO()
    s3.download_fileobj(bucket, "k", back, Config=TransferConfig(multipart_chunksize=PART))
    assert back.getvalue() == body
