"""What a request to an access point is: its key, the permissions it needs, and how it may be repeated."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import unquote, unquote_to_bytes

from msgspec import Struct

from nearpoint.accesspoint.authorize import Access
from nearpoint.accesspoint.copying import CopySource, parse_copy_source
from nearpoint.accesspoint.documents import COMPLETION, root_of
from nearpoint.accesspoint.uploads import region_of_query
from nearpoint.awsproto.errors import AwsError
from nearpoint.policy.s3_actions import s3_action
from nearpoint.policy.s3_conditions import refuse_repeated
from nearpoint.wire.message import Headers

KEY_BYTES_MAX = 1024  # S3 User Guide, "Object key naming guidelines"

# What an access point does on the bucket itself; its configuration is the bucket's own affair.
_BUCKET_ACTIONS = frozenset(
    {
        "s3:DeleteObject",
        "s3:GetBucketLocation",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:ListBucketVersions",
    }
)
_READS = frozenset({"GET", "HEAD"})
_CONDITIONS = ("if-match", "if-none-match", "x-amz-if-match-size", "x-amz-if-match-last-modified-time")


# What of a missing object may be there in another region.
_OF_AN_OBJECT = frozenset({"s3:GetObject", "s3:GetObjectAcl", "s3:GetObjectAttributes", "s3:GetObjectTagging"})


class Call(Struct, frozen=True, kw_only=True):
    """One S3 call.

    `access` is the permission that it needs (a copy needs one on its source as well). `key` is None for the bucket
    itself. `upload_region` is the region an upload id belongs to: there alone can it go. `holds_upload_ids`: the
    answer names upload ids. `document` is the root element of its XML body. `repeatable`: doing it twice is the same as
    doing it once. `may_be_elsewhere`: another region may have what one has not.
    """

    access: Access
    is_read: bool
    repeatable: bool
    upload_region: str | None = None
    holds_upload_ids: bool = False
    is_bulk_delete: bool = False
    document: str | None = None
    is_bucket_head: bool = False
    is_download: bool = False
    may_be_elsewhere: bool = False
    copy_source: CopySource | None = None

    @property
    def action(self) -> str:
        """`s3:GetObject` and the like."""
        return self.access.action

    @property
    def is_completion(self) -> bool:
        """True for what makes an object of its parts."""
        return self.document == COMPLETION

    @property
    def key(self) -> str | None:
        """The key, decoded."""
        return self.access.key


_OWNERS = ("x-amz-expected-bucket-owner", "x-amz-source-expected-bucket-owner")


def check_head(headers: Headers, account_id: str) -> None:
    """Refuse what a store might pass over: another owner than the access point's account, and appending.

    An owner that is right is taken off: the account behind a store's own credentials may be another one. Raises
    AwsError: AccessDenied (S3 User Guide, "Verifying bucket ownership"), NotImplemented (only directory buckets can be
    appended to).
    """
    for name in _OWNERS:
        owner = headers.get(name)
        if owner is not None:
            if owner != account_id:
                raise AwsError("AccessDenied")
            headers.remove(name)
    if "x-amz-write-offset-bytes" in headers:
        raise AwsError("NotImplemented", extra={"Header": "x-amz-write-offset-bytes"})


def decode_key(path: str) -> str | None:
    """The key in a percent-encoded path, None for `/`. Raises AwsError (InvalidURI, KeyTooLongError)."""
    encoded = path[1:]
    if not encoded:
        return None
    if "%" not in encoded and encoded.isascii() and len(encoded) <= KEY_BYTES_MAX:
        return encoded
    try:
        octets = unquote_to_bytes(encoded.encode("latin-1"))
        key = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise AwsError("InvalidURI") from None
    if len(octets) > KEY_BYTES_MAX:
        raise AwsError("KeyTooLongError", extra={"Size": str(len(octets)), "MaxSizeAllowed": str(KEY_BYTES_MAX)})
    return key


def read_call(method: str, path: str, query: str, headers: Headers, regions: Collection[str]) -> Call:
    """The call that a request makes. `path` is the percent-encoded key; `regions` are the access point's.

    Raises AwsError: InvalidArgument for a parameter that is there twice, InvalidURI, KeyTooLongError, MethodNotAllowed
    for what an access point does not do, NoSuchUpload.
    """
    key = decode_key(path)
    if not query and key is not None and method in _READS:
        return Call(
            access=Access(action="s3:GetObject", key=key),
            is_read=True,
            repeatable=True,
            is_download=method == "GET",
            may_be_elsewhere=True,
        )
    names = [unquote(part.partition("=")[0], encoding="latin-1") for part in query.split("&") if part]
    parameters = frozenset(names)
    if len(parameters) != len(names):
        refuse_repeated(names)
    action = s3_action(method, has_key=key is not None, parameters=parameters)
    if action is None or (key is None and action not in _BUCKET_ACTIONS):
        raise AwsError("MethodNotAllowed", extra={"Method": method})
    upload_region = region_of_query(query, regions) if "upload" in query else None
    if upload_region == "":
        raise AwsError("NoSuchUpload")
    source = headers.get("x-amz-copy-source") if method == "PUT" else None
    is_read = method in _READS
    conditional = not is_read and any(name in headers for name in _CONDITIONS)
    return Call(
        access=Access(action=action, key=key),
        is_read=is_read,
        repeatable=is_read or (method in ("PUT", "DELETE") and not conditional),
        upload_region=upload_region,
        holds_upload_ids="uploads" in parameters or (method == "GET" and "uploadId" in parameters),
        is_bulk_delete=key is None and method == "POST",
        document=None if key is None or is_read else root_of(method, parameters),
        is_bucket_head=key is None and method == "HEAD",
        is_download=method == "GET" and action in ("s3:GetObject", "s3:GetObjectVersion"),
        may_be_elsewhere=is_read and key is not None and action in _OF_AN_OBJECT,
        copy_source=parse_copy_source(source) if source is not None else None,
    )
