"""Buckets and their configuration over the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nearpoint.bucket.names import is_bucket_name, successor


def test_the_life_of_a_bucket(s3: Any, refused: Any) -> None:
    assert s3.create_bucket(Bucket="life-of-a-bucket")["Location"] == "/life-of-a-bucket"
    s3.create_bucket(Bucket="life-of-a-bucket")  # us-east-1 lets its owner do it twice
    assert s3.head_bucket(Bucket="life-of-a-bucket")["BucketRegion"] == "us-east-1"
    assert "life-of-a-bucket" in [item["Name"] for item in s3.list_buckets(Prefix="life")["Buckets"]]
    assert s3.get_bucket_location(Bucket="life-of-a-bucket")["LocationConstraint"] is None
    s3.put_object(Bucket="life-of-a-bucket", Key="k", Body=b"")
    assert refused(s3.delete_bucket, Bucket="life-of-a-bucket") == ("BucketNotEmpty", 409)
    s3.delete_object(Bucket="life-of-a-bucket", Key="k")
    s3.delete_bucket(Bucket="life-of-a-bucket")
    assert refused(s3.head_bucket, Bucket="life-of-a-bucket") == ("404", 404)
    assert refused(s3.delete_bucket, Bucket="life-of-a-bucket") == ("NoSuchBucket", 404)


def test_the_location_must_be_the_region(own_store: Any, s3: Any, refused: Any) -> None:
    own_store.region = "eu-west-1"
    own_store.start()
    ireland = own_store.client()
    here = {"LocationConstraint": "eu-west-1"}
    refusal = ("IllegalLocationConstraintException", 400)
    assert refused(ireland.create_bucket, Bucket="irish-bucket") == refusal
    assert refused(s3.create_bucket, Bucket="irish-bucket", CreateBucketConfiguration=here) == refusal
    ireland.create_bucket(Bucket="irish-bucket", CreateBucketConfiguration=here)
    assert refused(ireland.create_bucket, Bucket="irish-bucket", CreateBucketConfiguration=here) == (
        "BucketAlreadyOwnedByYou",
        409,
    )
    assert ireland.get_bucket_location(Bucket="irish-bucket")["LocationConstraint"] == "eu-west-1"
    assert own_store.stop() == 0


@pytest.mark.parametrize(
    ("name", "legal"),
    [
        ("abc", True),
        ("a.b-c.9", True),
        ("a" * 63, True),
        ("ab", False),
        ("a" * 64, False),
        ("Abc", False),
        ("a_bc", False),
        ("-abc", False),
        ("abc-", False),
        ("a..b", False),
        ("192.168.0.1", False),
        ("xn--abc", False),
        ("abc-s3alias", False),
        ("abc.mrap", False),
    ],
)
def test_bucket_names(name: str, legal: bool) -> None:
    assert is_bucket_name(name) is legal


def test_successor() -> None:
    assert successor(b"a/") == b"a0"
    assert successor(b"a\xff\xff") == b"b"
    assert successor(b"\xff") is None


def test_buckets_are_paged(s3: Any) -> None:
    names = [f"paged-bucket-{at}" for at in range(5)]
    for name in names:
        s3.create_bucket(Bucket=name)
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = s3.list_buckets(Prefix="paged-", MaxBuckets=2, **token)
        found += [item["Name"] for item in page["Buckets"]]
        if "ContinuationToken" not in page:
            break
        token = {"ContinuationToken": page["ContinuationToken"]}
    assert found == names


POLICY = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*"}]})
SETTINGS: list[tuple[str, dict[str, Any], dict[str, Any], str | None]] = [
    (
        "bucket_cors",
        {"CORSConfiguration": {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}},
        {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]},
        "NoSuchCORSConfiguration",
    ),
    (
        "bucket_tagging",
        {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}},
        {"TagSet": [{"Key": "a", "Value": "b"}]},
        "NoSuchTagSet",
    ),
    ("bucket_policy", {"Policy": POLICY}, {"Policy": POLICY}, "NoSuchBucketPolicy"),
    (
        "bucket_lifecycle_configuration",
        {
            "LifecycleConfiguration": {
                "Rules": [
                    {"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "p/"}, "Expiration": {"Days": 3}},
                ]
            }
        },
        {"Rules": [{"ID": "r", "Status": "Enabled", "Filter": {"Prefix": "p/"}, "Expiration": {"Days": 3}}]},
        "NoSuchLifecycleConfiguration",
    ),
    (
        "bucket_encryption",
        {
            "ServerSideEncryptionConfiguration": {
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
            }
        },
        {
            "ServerSideEncryptionConfiguration": {
                "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms"}}]
            }
        },
        None,
    ),
    (
        "bucket_website",
        {"WebsiteConfiguration": {"IndexDocument": {"Suffix": "index.html"}}},
        {"IndexDocument": {"Suffix": "index.html"}},
        "NoSuchWebsiteConfiguration",
    ),
    (
        "bucket_ownership_controls",
        {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}},
        {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}},
        "OwnershipControlsNotFoundError",
    ),
    (
        "public_access_block",
        {"PublicAccessBlockConfiguration": {"BlockPublicAcls": False, "IgnorePublicAcls": True}},
        {"PublicAccessBlockConfiguration": {"BlockPublicAcls": False, "IgnorePublicAcls": True}},
        "NoSuchPublicAccessBlockConfiguration",
    ),
]
_DELETE = {"bucket_lifecycle_configuration": "delete_bucket_lifecycle"}


@pytest.mark.parametrize(("name", "put", "got", "missing"), SETTINGS, ids=[item[0] for item in SETTINGS])
def test_configuration_is_kept_and_given_back(
    s3: Any, bucket: str, refused: Any, name: str, put: dict[str, Any], got: dict[str, Any], missing: str | None
) -> None:
    getattr(s3, f"put_{name}")(Bucket=bucket, **put)
    answer = getattr(s3, f"get_{name}")(Bucket=bucket)
    assert {key: answer[key] for key in got} == got
    getattr(s3, _DELETE.get(name, f"delete_{name}"))(Bucket=bucket)
    if missing is not None:
        assert refused(getattr(s3, f"get_{name}"), Bucket=bucket) == (missing, 404)


def test_defaults_of_a_new_bucket(s3: Any, bucket: str) -> None:
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]["BlockPublicPolicy"] is True
    rules = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert rules == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    encryption = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert encryption["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    assert "Status" not in s3.get_bucket_accelerate_configuration(Bucket=bucket)
    assert "LoggingEnabled" not in s3.get_bucket_logging(Bucket=bucket)
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)


def test_policy_status(s3: Any, bucket: str, refused: Any) -> None:
    s3.put_bucket_policy(Bucket=bucket, Policy=POLICY)
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is True
    s3.put_bucket_policy(Bucket=bucket, Policy=POLICY.replace('"*"', '{"AWS": "123456789012"}'))
    assert s3.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"] is False
    assert refused(s3.put_bucket_policy, Bucket=bucket, Policy="not json") == ("MalformedPolicy", 400)


def test_replication_needs_versions(s3: Any, bucket: str, refused: Any) -> None:
    destination = {"Bucket": "arn:aws:s3:::other"}
    rule = {"Status": "Enabled", "Priority": 1, "Filter": {}, "Destination": destination}
    rule["DeleteMarkerReplication"] = {"Status": "Enabled"}
    configuration = {"Role": "arn:aws:iam::123456789012:role/r", "Rules": [rule]}
    arguments = {"Bucket": bucket, "ReplicationConfiguration": configuration}
    assert refused(s3.put_bucket_replication, **arguments) == ("InvalidRequest", 400)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_replication(**arguments)
    got = s3.get_bucket_replication(Bucket=bucket)["ReplicationConfiguration"]["Rules"][0]
    assert got["Destination"] == destination
    suspended = {"Status": "Suspended"}
    assert refused(s3.put_bucket_versioning, Bucket=bucket, VersioningConfiguration=suspended) == (
        "InvalidBucketState",
        409,
    )


def test_what_is_not_implemented_says_so(s3: Any, bucket: str, refused: Any) -> None:
    assert refused(s3.list_bucket_metrics_configurations, Bucket=bucket) == ("NotImplemented", 501)
    assert refused(s3.get_object_torrent, Bucket=bucket, Key="k") == ("NotImplemented", 501)


def test_lifecycle_rules_have_names_of_their_own(s3: Any, bucket: str, refused: Any) -> None:
    def rules(*names: str | None) -> dict[str, Any]:
        rule = {"Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
        return {"Rules": [rule | ({} if name is None else {"ID": name}) for name in names]}

    put = s3.put_bucket_lifecycle_configuration
    assert refused(put, Bucket=bucket, LifecycleConfiguration=rules("a", "b", "a")) == ("InvalidArgument", 400)
    assert refused(put, Bucket=bucket, LifecycleConfiguration=rules("a" * 256)) == ("InvalidArgument", 400)
    put(Bucket=bucket, LifecycleConfiguration=rules("a", "b", None, None))
    assert len(s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]) == 4
