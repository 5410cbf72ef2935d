"""Access control lists: off where the owner owns everything, kept and given back elsewhere."""

from __future__ import annotations

from typing import Any

import pytest

from nearpoint.awsproto import AwsError
from nearpoint.bucket import acl
from nearpoint.wire.message import Headers

OWNER = {"ID": "a" * 64}
EVERYBODY = "http://acs.amazonaws.com/groups/global/AllUsers"
NOT_SUPPORTED = ("AccessControlListNotSupported", 400)


@pytest.fixture
def open_bucket(s3: Any, bucket: str) -> str:
    """A bucket whose ACLs are in force, public ones included."""
    s3.put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerPreferred"}]}
    )
    s3.delete_public_access_block(Bucket=bucket)
    return bucket


def _shown(answer: dict[str, Any]) -> set[tuple[str | None, str]]:
    return {(grant["Grantee"].get("URI"), grant["Permission"]) for grant in answer["Grants"]}


def test_where_the_owner_owns_everything_there_are_none(s3: Any, bucket: str, refused: Any) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    assert _shown(s3.get_object_acl(Bucket=bucket, Key="k")) == {(None, "FULL_CONTROL")}
    assert _shown(s3.get_bucket_acl(Bucket=bucket)) == {(None, "FULL_CONTROL")}
    for acl_name in ("public-read", "private"):
        assert refused(s3.put_object_acl, Bucket=bucket, Key="k", ACL=acl_name) == NOT_SUPPORTED
        assert refused(s3.put_bucket_acl, Bucket=bucket, ACL=acl_name) == NOT_SUPPORTED
        assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"", ACL=acl_name) == NOT_SUPPORTED
        assert refused(s3.create_multipart_upload, Bucket=bucket, Key="k", ACL=acl_name) == NOT_SUPPORTED
        copy = {"CopySource": f"{bucket}/k", "Key": "copy"}
        assert refused(s3.copy_object, Bucket=bucket, ACL=acl_name, **copy) == NOT_SUPPORTED
    grant = f"uri={EVERYBODY}"
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"", GrantRead=grant) == NOT_SUPPORTED
    s3.put_object(Bucket=bucket, Key="k", Body=b"", ACL="bucket-owner-full-control")  # as writers elsewhere have to


@pytest.mark.parametrize("ownership", ["ObjectWriter", "BucketOwnerPreferred"])
def test_elsewhere_they_are_kept(s3: Any, bucket: str, refused: Any, ownership: str) -> None:
    s3.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": ownership}]})
    assert refused(s3.put_object, Bucket=bucket, Key="k", Body=b"", ACL="public-read") == ("AccessDenied", 403)
    s3.delete_public_access_block(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k", Body=b"1", ACL="public-read")
    assert _shown(s3.get_object_acl(Bucket=bucket, Key="k")) == {(None, "FULL_CONTROL"), (EVERYBODY, "READ")}
    s3.put_object_acl(Bucket=bucket, Key="k", ACL="private")
    assert _shown(s3.get_object_acl(Bucket=bucket, Key="k")) == {(None, "FULL_CONTROL")}
    s3.put_object_acl(Bucket=bucket, Key="k", GrantReadACP=f'uri="{EVERYBODY}"')
    assert _shown(s3.get_object_acl(Bucket=bucket, Key="k")) == {(EVERYBODY, "READ_ACP")}
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"1"


def test_a_document_says_what_it_says(s3: Any, open_bucket: str, refused: Any) -> None:
    s3.put_object(Bucket=open_bucket, Key="k", Body=b"")
    read = s3.get_object_acl(Bucket=open_bucket, Key="k")
    policy = {"Owner": read["Owner"], "Grants": [*read["Grants"]]}
    policy["Grants"].append({"Grantee": {"Type": "Group", "URI": EVERYBODY}, "Permission": "READ"})
    for put, get, of in (
        (s3.put_object_acl, s3.get_object_acl, {"Key": "k"}),
        (s3.put_bucket_acl, s3.get_bucket_acl, {}),
    ):
        put(Bucket=open_bucket, AccessControlPolicy=policy, **of)
        assert _shown(get(Bucket=open_bucket, **of)) == {(None, "FULL_CONTROL"), (EVERYBODY, "READ")}
        both = refused(put, Bucket=open_bucket, AccessControlPolicy=policy, ACL="private", **of)
        assert both == ("UnexpectedContent", 400)
        assert refused(put, Bucket=open_bucket, **of) == ("MissingSecurityHeader", 400)


def test_a_list_is_out_of_force_while_the_owner_owns_everything(s3: Any, open_bucket: str, refused: Any) -> None:
    s3.put_object(Bucket=open_bucket, Key="k", Body=b"", ACL="public-read")
    s3.put_bucket_acl(Bucket=open_bucket, ACL="log-delivery-write")
    enforced = {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}
    refusal = ("InvalidBucketAclWithObjectOwnership", 400)
    assert refused(s3.put_bucket_ownership_controls, Bucket=open_bucket, OwnershipControls=enforced) == refusal
    s3.put_bucket_acl(Bucket=open_bucket, ACL="private")
    s3.put_bucket_ownership_controls(Bucket=open_bucket, OwnershipControls=enforced)
    assert _shown(s3.get_object_acl(Bucket=open_bucket, Key="k")) == {(None, "FULL_CONTROL")}
    s3.delete_bucket_ownership_controls(Bucket=open_bucket)
    assert _shown(s3.get_object_acl(Bucket=open_bucket, Key="k")) == {(None, "FULL_CONTROL"), (EVERYBODY, "READ")}


def test_uploads_and_copies_have_the_list_of_their_own_request(s3: Any, open_bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=open_bucket, Key="big", ACL="public-read")["UploadId"]
    part = s3.upload_part(Bucket=open_bucket, Key="big", UploadId=upload, PartNumber=1, Body=b"x")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(Bucket=open_bucket, Key="big", UploadId=upload, MultipartUpload=parts)
    assert (EVERYBODY, "READ") in _shown(s3.get_object_acl(Bucket=open_bucket, Key="big"))
    s3.copy_object(Bucket=open_bucket, Key="copy", CopySource=f"{open_bucket}/big")
    assert _shown(s3.get_object_acl(Bucket=open_bucket, Key="copy")) == {(None, "FULL_CONTROL")}


def test_a_bucket_is_made_with_what_it_can_have(s3: Any, bucket: str, refused: Any) -> None:
    name = f"{bucket}-made"
    assert refused(s3.create_bucket, Bucket=name, ACL="public-read") == ("InvalidBucketAclWithObjectOwnership", 400)
    writer = {"Bucket": name, "ObjectOwnership": "ObjectWriter"}
    assert refused(s3.create_bucket, ACL="public-read", **writer) == (
        "InvalidBucketAclWithBlockPublicAccessError", 400,
    )  # fmt: skip
    s3.create_bucket(ACL="log-delivery-write", **writer)
    assert s3.get_bucket_ownership_controls(Bucket=name)["OwnershipControls"]["Rules"] == [
        {"ObjectOwnership": "ObjectWriter"}
    ]
    assert len(s3.get_bucket_acl(Bucket=name)["Grants"]) == 3


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ([("x-amz-acl", "publik")], "InvalidArgument"),
        ([("x-amz-acl", "log-delivery-write")], "InvalidArgument"),  # of buckets alone
        ([("x-amz-acl", "private"), ("x-amz-grant-read", f"id={'b' * 64}")], "InvalidRequest"),
        ([("x-amz-grant-everything", f"id={'b' * 64}")], "InvalidArgument"),
        ([("x-amz-grant-read", "everybody")], "InvalidArgument"),
        ([("x-amz-grant-read", "id=me")], "InvalidArgument"),
        ([("x-amz-grant-read", "uri=http://example.com/all")], "InvalidArgument"),
        ([("x-amz-grant-read", "emailAddress=a@example.com")], "UnresolvableGrantByEmailAddress"),
        ([("x-amz-grant-read", ",".join(f"id={number:064x}" for number in range(101)))], "MalformedACLError"),
    ],
)
def test_what_grants_nothing_is_refused(fields: list[tuple[str, str]], code: str) -> None:
    with pytest.raises(AwsError) as caught:
        acl.of_headers(Headers(fields), OWNER)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("policy", "code"),
    [
        ({"Grants": []}, "MalformedACLError"),
        ({"Owner": OWNER}, "MalformedACLError"),
        ({"Owner": {"ID": "b" * 64}, "Grants": []}, "AccessDenied"),
        ({"Owner": OWNER, "Grants": [{"Grantee": OWNER, "Permission": "ALL"}]}, "MalformedACLError"),
        ({"Owner": OWNER, "Grants": [{"Grantee": {}, "Permission": "READ"}]}, "MalformedACLError"),
        (
            {"Owner": OWNER, "Grants": [{"Grantee": OWNER | {"URI": EVERYBODY}, "Permission": "READ"}]},
            "MalformedACLError",
        ),
    ],
)
def test_a_document_that_is_none_is_refused(policy: dict[str, Any], code: str) -> None:
    with pytest.raises(AwsError) as caught:
        acl.of_document(policy, OWNER)
    assert caught.value.code == code
