"""Object lock: legal holds and retention, and the buckets that have none."""

from __future__ import annotations

import base64
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nearpoint.awsproto import AwsError
from nearpoint.bucket import locks
from nearpoint.wire.message import Headers

LATER = "2099-01-01T00:00:00Z"
MISSING = ("InvalidRequest", 400)


@pytest.fixture
def locked(s3: Any, bucket: str) -> str:
    """A bucket with object lock."""
    name = f"{bucket}-locked"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def test_locks_protect_versions(s3: Any, locked: str, refused: Any) -> None:
    version = s3.put_object(Bucket=locked, Key="k", Body=b"x")["VersionId"]
    assert refused(s3.get_object_legal_hold, Bucket=locked, Key="k") == ("NoSuchObjectLockConfiguration", 404)
    s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "ON"})
    assert s3.get_object_legal_hold(Bucket=locked, Key="k")["LegalHold"]["Status"] == "ON"
    assert s3.head_object(Bucket=locked, Key="k")["ObjectLockLegalHoldStatus"] == "ON"
    assert refused(s3.delete_object, Bucket=locked, Key="k", VersionId=version) == ("AccessDenied", 403)
    s3.put_object_legal_hold(Bucket=locked, Key="k", LegalHold={"Status": "OFF"})
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": LATER}
    s3.put_object_retention(Bucket=locked, Key="k", Retention=retention)
    assert s3.get_object_retention(Bucket=locked, Key="k")["Retention"]["Mode"] == "GOVERNANCE"
    assert refused(s3.delete_object, Bucket=locked, Key="k", VersionId=version) == ("AccessDenied", 403)
    s3.delete_object(Bucket=locked, Key="k", VersionId=version, BypassGovernanceRetention=True)


def test_a_bucket_without_object_lock_has_no_locks(s3: Any, versioned: str, refused: Any) -> None:
    s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    k = {"Bucket": versioned, "Key": "k"}
    assert refused(s3.put_object_legal_hold, LegalHold={"Status": "ON"}, **k) == MISSING
    assert refused(s3.get_object_legal_hold, **k) == MISSING
    assert refused(s3.put_object_retention, Retention={"Mode": "GOVERNANCE", "RetainUntilDate": LATER}, **k) == MISSING
    assert refused(s3.get_object_retention, **k) == MISSING
    asked = {"ObjectLockMode": "GOVERNANCE", "ObjectLockRetainUntilDate": LATER}
    assert refused(s3.put_object, Body=b"", **asked, **k) == MISSING
    assert refused(s3.put_object, Body=b"", ObjectLockLegalHoldStatus="ON", **k) == MISSING
    assert refused(s3.create_multipart_upload, **asked, **k) == MISSING
    assert refused(s3.copy_object, CopySource=f"{versioned}/k", Bucket=versioned, Key="copy", **asked) == MISSING


def test_object_lock_is_for_buckets_that_keep_versions(s3: Any, bucket: str, locked: str, refused: Any) -> None:
    on = {"ObjectLockEnabled": "Enabled"}
    state = ("InvalidBucketState", 409)
    assert refused(s3.put_object_lock_configuration, Bucket=bucket, ObjectLockConfiguration=on) == state
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=on)
    for name in (bucket, locked):
        suspended = {"Status": "Suspended"}
        assert refused(s3.put_bucket_versioning, Bucket=name, VersioningConfiguration=suspended) == state
        s3.put_object(Bucket=name, Key="k", Body=b"", ObjectLockLegalHoldStatus="ON")


def test_a_default_retention_is_every_new_objects(s3: Any, locked: str, refused: Any) -> None:
    rule = {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 3}}
    s3.put_object_lock_configuration(
        Bucket=locked, ObjectLockConfiguration={"ObjectLockEnabled": "Enabled", "Rule": rule}
    )
    version = s3.put_object(Bucket=locked, Key="k", Body=b"")["VersionId"]
    kept = s3.get_object_retention(Bucket=locked, Key="k")["Retention"]
    assert kept["Mode"] == "GOVERNANCE"
    assert timedelta(days=2.9) < kept["RetainUntilDate"] - datetime.now(UTC) < timedelta(days=3.1)
    assert refused(s3.delete_object, Bucket=locked, Key="k", VersionId=version) == ("AccessDenied", 403)
    asked = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": LATER}
    s3.put_object(Bucket=locked, Key="own", Body=b"", **asked)
    assert s3.get_object_retention(Bucket=locked, Key="own")["Retention"]["Mode"] == "COMPLIANCE"


def test_a_locked_write_carries_a_checksum(caller: Any, locked: str) -> None:
    hold = [("x-amz-object-lock-legal-hold", "ON")]
    answer = caller.signed("PUT", f"/{locked}/k", b"x", headers=hold)
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    summed = [*hold, ("Content-MD5", "nd0g5+Swoku75ua9VLeJww==")]
    assert caller.signed("PUT", f"/{locked}/k", b"x", headers=summed).status == 400  # another body's
    checksum = base64.b64encode(zlib.crc32(b"x").to_bytes(4, "big")).decode()
    summed = [*hold, ("x-amz-checksum-crc32", checksum)]
    answer = caller.signed("PUT", f"/{locked}/k", b"x", headers=summed)
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    "fields",
    [
        [("x-amz-object-lock-legal-hold", "on")],
        [("x-amz-object-lock-mode", "GOVERNANCE")],
        [("x-amz-object-lock-retain-until-date", LATER)],
        [("x-amz-object-lock-mode", "NONE"), ("x-amz-object-lock-retain-until-date", LATER)],
        [("x-amz-object-lock-mode", "GOVERNANCE"), ("x-amz-object-lock-retain-until-date", "tomorrow")],
    ],
)
def test_what_locks_nothing_is_refused(fields: list[tuple[str, str]]) -> None:
    with pytest.raises(AwsError) as caught:
        locks.of_headers(Headers(fields))
    assert caught.value.code == "InvalidArgument"


def test_a_retention_ends_in_the_future() -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    locks.check_future({"Mode": "GOVERNANCE", "RetainUntilDate": "2030-01-02T00:00:00Z"}, now)
    with pytest.raises(AwsError):
        locks.check_future({"Mode": "GOVERNANCE", "RetainUntilDate": "2030-01-01T00:00:00Z"}, now)


@pytest.mark.parametrize(
    ("configuration", "code"),
    [
        ({}, "MalformedXML"),
        ({"ObjectLockEnabled": "Disabled"}, "MalformedXML"),
        ({"ObjectLockEnabled": "Enabled", "Rule": {}}, "MalformedXML"),
        *(
            ({"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": default}}, code)
            for default, code in (
                ({"Mode": "GOVERNANCE"}, "MalformedXML"),
                ({"Mode": "GOVERNANCE", "Days": 1, "Years": 1}, "MalformedXML"),
                ({"Mode": "SOME", "Days": 1}, "MalformedXML"),
                ({"Mode": "GOVERNANCE", "Days": 0}, "InvalidArgument"),
                ({"Mode": "GOVERNANCE", "Years": 101}, "InvalidArgument"),
            )
        ),
    ],
)
def test_a_configuration_that_is_none_is_refused(configuration: dict[str, Any], code: str) -> None:
    with pytest.raises(AwsError) as caught:
        locks.check_configuration(configuration)
    assert caught.value.code == code
