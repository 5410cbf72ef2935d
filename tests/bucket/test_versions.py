"""Versions and delete markers over the wire (S3 User Guide, "Using versioning in S3 buckets")."""

from __future__ import annotations

from typing import Any


def _history(s3: Any, bucket: str, **arguments: Any) -> list[tuple[str, str, bool, bool]]:
    """(key, version, is latest, is marker), newest first within a key."""
    found: list[tuple[str, str, bool, bool, Any]] = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, **arguments):
        for item in page.get("Versions", []):
            found.append((item["Key"], item["VersionId"], item["IsLatest"], False, item["LastModified"]))
        for item in page.get("DeleteMarkers", []):
            found.append((item["Key"], item["VersionId"], item["IsLatest"], True, item["LastModified"]))
    return [entry[:4] for entry in found]


def test_versions_pile_up_and_come_back(s3: Any, versioned: str, refused: Any) -> None:
    one = s3.put_object(Bucket=versioned, Key="k", Body=b"1")["VersionId"]
    two = s3.put_object(Bucket=versioned, Key="k", Body=b"2" * 30_000)["VersionId"]
    assert s3.get_object(Bucket=versioned, Key="k")["VersionId"] == two
    assert s3.get_object(Bucket=versioned, Key="k", VersionId=one)["Body"].read() == b"1"
    marker = s3.delete_object(Bucket=versioned, Key="k")
    assert marker["DeleteMarker"] is True
    assert refused(s3.get_object, Bucket=versioned, Key="k") == ("NoSuchKey", 404)
    assert refused(s3.get_object, Bucket=versioned, Key="k", VersionId=marker["VersionId"]) == ("MethodNotAllowed", 405)
    assert refused(s3.get_object, Bucket=versioned, Key="k", VersionId="unknown") == ("NoSuchVersion", 404)
    assert "Contents" not in s3.list_objects_v2(Bucket=versioned)
    assert sorted(_history(s3, versioned)) == sorted(
        [("k", one, False, False), ("k", two, False, False), ("k", marker["VersionId"], True, True)]
    )
    undone = s3.delete_object(Bucket=versioned, Key="k", VersionId=marker["VersionId"])
    assert (undone["DeleteMarker"], undone["VersionId"]) == (True, marker["VersionId"])
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"2" * 30_000
    s3.delete_object(Bucket=versioned, Key="k", VersionId=two)
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"1"
    assert [item["Size"] for item in s3.list_objects_v2(Bucket=versioned)["Contents"]] == [1]
    s3.delete_object(Bucket=versioned, Key="k", VersionId=one)
    assert _history(s3, versioned) == []


def test_a_missing_key_says_that_a_marker_hides_it(s3: Any, versioned: str) -> None:
    s3.put_object(Bucket=versioned, Key="k", Body=b"")
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    try:
        s3.head_object(Bucket=versioned, Key="k")
        raise AssertionError("it is gone")
    except s3.exceptions.ClientError as error:
        headers = error.response["ResponseMetadata"]["HTTPHeaders"]
    assert (headers["x-amz-delete-marker"], headers["x-amz-version-id"]) == ("true", marker)


def test_objects_from_before_versioning_are_version_null(s3: Any, bucket: str) -> None:
    assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    assert "VersionId" not in s3.get_object(Bucket=bucket, Key="k")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_object(Bucket=bucket, Key="k")["VersionId"] == "null"
    s3.put_object(Bucket=bucket, Key="k", Body=b"new")
    assert s3.get_object(Bucket=bucket, Key="k", VersionId="null")["Body"].read() == b"old"


def test_suspended_versioning_writes_version_null_and_keeps_the_others(s3: Any, versioned: str) -> None:
    kept = s3.put_object(Bucket=versioned, Key="k", Body=b"kept")["VersionId"]
    s3.put_bucket_versioning(Bucket=versioned, VersioningConfiguration={"Status": "Suspended"})
    assert s3.put_object(Bucket=versioned, Key="k", Body=b"null 1")["VersionId"] == "null"
    assert s3.put_object(Bucket=versioned, Key="k", Body=b"null 2")["VersionId"] == "null"
    assert sorted(_history(s3, versioned)) == sorted([("k", "null", True, False), ("k", kept, False, False)])
    deleted = s3.delete_object(Bucket=versioned, Key="k")
    assert (deleted["DeleteMarker"], deleted["VersionId"]) == (True, "null")
    assert sorted(_history(s3, versioned)) == sorted([("k", "null", True, True), ("k", kept, False, False)])
    s3.delete_object(Bucket=versioned, Key="k", VersionId="null")
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"kept"


def test_history_is_paged_within_a_key_and_survives_deleting_each_page(s3: Any, versioned: str) -> None:
    versions = [s3.put_object(Bucket=versioned, Key="k", Body=b"")["VersionId"] for _ in range(7)]
    s3.put_object(Bucket=versioned, Key="l", Body=b"")
    paged = [entry[1] for entry in _history(s3, versioned, PaginationConfig={"PageSize": 3})]
    assert paged[:7] == versions[::-1]
    assert len(paged) == 8
    latest = [entry[2] for entry in _history(s3, versioned, PaginationConfig={"PageSize": 3})]
    assert latest == [True, False, False, False, False, False, False, True]
    after = s3.list_object_versions(Bucket=versioned, KeyMarker="k", VersionIdMarker=versions[3])["Versions"]
    assert [item["VersionId"] for item in after[:3]] == versions[:3][::-1]
    # What every tool does that empties a bucket: delete a page, go on behind its last entry.
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=versioned, PaginationConfig={"PageSize": 2}):
        objects = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in page.get("Versions", [])]
        s3.delete_objects(Bucket=versioned, Delete={"Objects": objects})
    s3.delete_bucket(Bucket=versioned)


def test_copying_an_old_version_makes_it_current_again(s3: Any, versioned: str) -> None:
    one = s3.put_object(Bucket=versioned, Key="k", Body=b"1")["VersionId"]
    s3.put_object(Bucket=versioned, Key="k", Body=b"2")
    copied = s3.copy_object(Bucket=versioned, Key="k", CopySource={"Bucket": versioned, "Key": "k", "VersionId": one})
    assert copied["CopySourceVersionId"] == one
    assert s3.get_object(Bucket=versioned, Key="k")["Body"].read() == b"1"
    assert len(_history(s3, versioned)) == 3


def test_batch_delete_of_keys_and_versions(s3: Any, versioned: str) -> None:
    one = s3.put_object(Bucket=versioned, Key="a", Body=b"")["VersionId"]
    s3.put_object(Bucket=versioned, Key="b", Body=b"")
    deleted = s3.delete_objects(Bucket=versioned, Delete={"Objects": [{"Key": "a", "VersionId": one}, {"Key": "b"}]})[
        "Deleted"
    ]
    assert deleted[0] == {"Key": "a", "VersionId": one}
    assert deleted[1]["DeleteMarker"] is True
    assert _history(s3, versioned)[0][0] == "b"


def test_tags_belong_to_a_version(s3: Any, versioned: str) -> None:
    one = s3.put_object(Bucket=versioned, Key="k", Body=b"", Tagging="v=1")["VersionId"]
    s3.put_object(Bucket=versioned, Key="k", Body=b"", Tagging="v=2")
    assert s3.get_object_tagging(Bucket=versioned, Key="k", VersionId=one)["TagSet"][0]["Value"] == "1"
    s3.put_object_tagging(Bucket=versioned, Key="k", VersionId=one, Tagging={"TagSet": [{"Key": "v", "Value": "3"}]})
    assert s3.get_object_tagging(Bucket=versioned, Key="k")["TagSet"][0]["Value"] == "2"
    assert s3.get_object_tagging(Bucket=versioned, Key="k", VersionId=one)["TagSet"][0]["Value"] == "3"
