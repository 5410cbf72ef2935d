"""A call on the store as its operations see it, and what they all read from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nearpoint.awsproto import AwsError, Operation
from nearpoint.bucket.conditions import Conditions
from nearpoint.bucket.names import KEY_BYTES_MAX
from nearpoint.signing import Verified
from nearpoint.wire.message import Headers, Request, Response

Result = dict[str, Any] | Response  # a modelled result to be serialised, or the whole answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request whose signature holds. `params` are named and typed as in boto3; `query` is decoded."""

    request: Request
    operation: Operation
    params: dict[str, Any]
    query: dict[str, list[str]]
    verified: Verified

    @property
    def headers(self) -> Headers:
        return self.request.headers

    @property
    def bucket(self) -> str:
        return str(self.params["Bucket"])

    @property
    def key(self) -> bytes:
        """The object's key. Raises KeyTooLongError."""
        return legal_key(self.params["Key"])

    @property
    def version(self) -> str | None:
        """The version that the query names. Raises InvalidArgument for an empty one."""
        version: str | None = self.params.get("VersionId")
        if version == "":
            raise AwsError(
                "InvalidArgument",
                "Version id cannot be the empty string",
                extra={"ArgumentName": "versionId", "ArgumentValue": ""},
            )
        return version


def legal_key(key: str) -> bytes:
    """A key as it is stored. Raises KeyTooLongError."""
    octets = key.encode("utf-8")
    if len(octets) > KEY_BYTES_MAX:
        raise AwsError("KeyTooLongError", extra={"Size": str(len(octets)), "MaxSizeAllowed": str(KEY_BYTES_MAX)})
    return octets


def conditions_of(headers: Headers, prefix: str = "") -> Conditions:
    """The conditional fields of a header; `prefix` is `x-amz-copy-source-` for those on a copy's source."""
    get = headers.joined
    return Conditions(
        if_match=get(f"{prefix}if-match"),
        if_none_match=get(f"{prefix}if-none-match"),
        if_modified_since=get(f"{prefix}if-modified-since"),
        if_unmodified_since=get(f"{prefix}if-unmodified-since"),
    )


def write_conditions(headers: Headers) -> Conditions:
    """The conditions of a write. Raises NotImplemented for those S3 does not know on writes."""
    conditions = conditions_of(headers)
    if conditions.if_none_match is not None and conditions.if_none_match.strip() != "*":
        raise AwsError("NotImplemented", extra={"Header": "If-None-Match"})
    if conditions.if_match is not None and conditions.if_none_match is not None:
        raise AwsError("NotImplemented", extra={"Header": "If-Match"})
    return conditions
