"""Replication rules of a bucket: what they say of other buckets is checked here, all else by the bucket's own store.

Destinations have to be there, and to keep versions (S3 API Reference, PutBucketReplication).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nearpoint.awsproto import AwsError, load_service, xml
from nearpoint.regions.rules import check, destination_buckets
from nearpoint.regions.store import Store
from nearpoint.state.resources import Bucket
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.message import BodyTooLargeError, BytesBody, read_all

CONFIGURATION_BYTES_MAX = 2 * 1024 * 1024
_ANSWER_BYTES_MAX = 64 * 1024


async def check_destinations(
    configuration: Mapping[str, Any],
    *,
    source: str,
    bucket_of: Callable[[str], Bucket | None],
    store_of: Callable[[str], Store],
) -> None:
    """Raises AwsError(InvalidRequest) for a destination that is not there or keeps no versions."""
    check(configuration, source=source)
    for name in destination_buckets(configuration):
        bucket = bucket_of(name)
        if bucket is None:
            raise AwsError("InvalidRequest", "Destination bucket must exist.")
        if not await _keeps_versions(store_of(bucket.region), name):
            raise AwsError("InvalidRequest", "Destination bucket must have versioning enabled.")


async def _keeps_versions(store: Store, bucket: str) -> bool:
    try:
        answer = await store.send("GET", bucket, query="versioning")
        data = await read_all(answer.body, _ANSWER_BYTES_MAX)
        status = xml.parse(data).child("Status") if answer.status == 200 else None
    except (UpstreamError, BodyTooLargeError, xml.XmlError) as error:
        raise AwsError("ServiceUnavailable", f"The store of {store.region} did not answer.") from error
    return status is not None and status.text == "Enabled"


def document(configuration: Mapping[str, Any]) -> bytes:
    """The body of a PutBucketReplication: the same document as a GetBucketReplication answers."""
    s3 = load_service("s3")
    answer = {"ReplicationConfiguration": configuration}
    body = s3.serialize(s3.operations["GetBucketReplication"], answer, "-").body
    assert isinstance(body, BytesBody)
    return body.data
