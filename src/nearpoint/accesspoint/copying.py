"""The source of a copy: a bucket or an access point in `x-amz-copy-source` (S3 API Reference, CopyObject)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

from nearpoint.awsproto.errors import AwsError
from nearpoint.awsproto.service import Service
from nearpoint.regions.copy import copy_across
from nearpoint.regions.store import Store, encode_key
from nearpoint.regions.version import LOGGED_HEADER
from nearpoint.wire.message import Request, Response

_MALFORMED = "Invalid copy source object key"


@dataclass(frozen=True, slots=True, kw_only=True)
class CopySource:
    """What is copied. One of `alias` and `bucket` is set; `version_query` is empty or `?versionId=…` as it was."""

    alias: str | None
    bucket: str | None
    key: str
    version_query: str

    def header(self, bucket: str) -> str:
        """The header's value for a store that keeps the source in `bucket`."""
        return f"{bucket}/{encode_key(self.key)}{self.version_query}"


def parse_copy_source(value: str) -> CopySource:
    """Read `[/]BUCKET/KEY`, `ALIAS/KEY` or an access point ARN, all percent-encoded. Raises AwsError."""
    encoded, mark, version = value.partition("?versionId=")
    try:
        source = unquote_to_bytes(encoded.encode("latin-1")).decode("utf-8").removeprefix("/")
    except UnicodeDecodeError:
        raise AwsError("InvalidArgument", _MALFORMED) from None
    if source.startswith("arn:"):
        parts = source.split(":", 5)
        kind, _, rest = parts[-1].partition("/")
        alias, _, named = rest.partition("/")
        word, _, key = named.partition("/")
        if len(parts) != 6 or parts[2] != "s3" or kind != "accesspoint" or word != "object" or not key:
            raise AwsError("InvalidArgument", _MALFORMED)
        return CopySource(alias=alias, bucket=None, key=key, version_query=mark + version)
    bucket, _, key = source.partition("/")
    if not bucket or not key:
        raise AwsError("InvalidArgument", _MALFORMED)
    is_alias = bucket.endswith(".mrap")
    return CopySource(
        alias=bucket if is_alias else None,
        bucket=None if is_alias else bucket,
        key=key,
        version_query=mark + version,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyPlan:
    """Where the source of a copy is: its bucket by region. A region that has it copies within itself.

    `allowed` raises AwsError unless a bucket's object may be read; `target_key` is the new object's.
    """

    source: CopySource
    target_key: str
    buckets: Mapping[str, str]
    stores: Mapping[str, Store]
    allowed: Callable[[str], None]
    clock: Callable[[], datetime]
    s3: Service

    def header(self, region: str) -> str | None:
        """The value of `x-amz-copy-source` for the store of a region that has the source."""
        bucket = self.buckets[region]
        self.allowed(bucket)
        return self.source.header(bucket)

    def is_across(self, region: str) -> bool:
        """Whether a copy made in `region` has to be read from another one."""
        return region not in self.buckets

    async def carry(self, request: Request, target: Store, bucket: str, query: str) -> Response:
        """Copy from another region; `query` is the target store's own. Raises as `copy_across` does."""
        part = {name: value for name, value in parse_qsl(query) if name in ("partNumber", "uploadId")}
        version = self.source.version_query.removeprefix("?versionId=")
        copied, put = await copy_across(
            request,
            sources=self._sources(),
            source_key=self.source.key,
            source_version=unquote(version) or None,
            target=target,
            target_bucket=bucket,
            target_key=self.target_key,
            part=part or None,
        )
        result: dict[str, Any] = {"ETag": copied.pop("ETag"), "LastModified": self.clock()}
        if not part:
            copied["VersionId"] = put.headers.get("x-amz-version-id")
        operation = self.s3.operations["UploadPartCopy" if part else "CopyObject"]
        name = "CopyPartResult" if part else "CopyObjectResult"
        response = self.s3.serialize(operation, {name: result, **copied}, put.headers.get("x-amz-request-id") or "")
        logged = put.headers.get(LOGGED_HEADER)
        if logged is not None:
            response.headers.add(LOGGED_HEADER, logged)
        return response

    def _sources(self) -> list[tuple[Store, str]]:
        """The stores that have the source and may be read, nearest first. Raises AwsError when there is none."""
        found: list[tuple[Store, str]] = []
        for region, bucket in self.buckets.items():
            if region not in self.stores:
                continue
            try:
                self.allowed(bucket)
            except AwsError:
                if not found:
                    raise
            else:
                found.append((self.stores[region], bucket))
        if not found:
            raise AwsError("NoSuchBucket")
        return found
