"""The source of a copy: a bucket or an access point in `x-amz-copy-source` (S3 API Reference, CopyObject)."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from nearpoint.awsproto.errors import AwsError
from nearpoint.regions.store import encode_key

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
