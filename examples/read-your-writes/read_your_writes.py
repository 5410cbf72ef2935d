"""Writes in one region through an access point and reads its own write in another at once, again and again.

    nearpoint shell us-east-1
    python read_your_writes.py arn:aws:s3::123456789012:accesspoint/ALIAS us-east-1 eu-west-1 --rounds 200

Each round writes, overwrites or deletes a key as a client that stands in the first region, then reads it as one that
stands in the second; then the other way round. Prints how many reads were stale, and which regions served them.
`--strong` asks for the newest version that any reachable region holds. Against AWS it needs no Nearpoint, and shows
what S3 does.
"""

from __future__ import annotations

import argparse
import collections
import os
import sys
import urllib.parse
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def client(region: str, *, strong: bool) -> Any:
    """An S3 client in a region: in a local world, one that stands there (the proxy's user is the place)."""
    settings: dict[str, Any] = {"retries": {"total_max_attempts": 3}}
    given = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
    if given:
        parts = urllib.parse.urlsplit(given)
        proxy = parts._replace(netloc=f"{region}:x@{parts.hostname}:{parts.port}").geturl()
        settings["proxies"] = {"http": proxy, "https": proxy}
    s3 = boto3.client("s3", region_name=region, config=Config(**settings))
    if strong:

        def insist(request: Any, **_: Any) -> None:
            request.headers["x-nearpoint-consistency"] = "strong"

        for operation in ("GetObject", "HeadObject"):
            s3.meta.events.register(f"before-sign.s3.{operation}", insist)
    return s3


def read(s3: Any, bucket: str, key: str) -> tuple[str | None, str]:
    """What a key is, None where it is not there; and the region that said so, where it says."""
    try:
        answer = s3.get_object(Bucket=bucket, Key=key)
    except ClientError as error:
        if error.response["Error"]["Code"] != "NoSuchKey":
            raise
        return None, error.response["ResponseMetadata"]["HTTPHeaders"].get("x-nearpoint-region", "?")
    region = answer["ResponseMetadata"]["HTTPHeaders"].get("x-nearpoint-region", "?")
    return answer["Body"].read().decode(), region


def main() -> int:
    """Exit code 1 when a read did not show the write before it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bucket", help="the access point's ARN")
    parser.add_argument("regions", nargs="+", help="two regions or more")
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--strong", action="store_true")
    options = parser.parse_args()
    clients = [client(region, strong=options.strong) for region in options.regions]
    served: collections.Counter[str] = collections.Counter()
    stale = 0
    for number in range(options.rounds):
        writer, reader = clients[number % len(clients)], clients[(number + 1) % len(clients)]
        key = f"read-your-writes/{number % 5}"
        wanted: str | None = f"round {number}"
        if number % 7 == 6:
            writer.delete_object(Bucket=options.bucket, Key=key)
            wanted = None
        else:
            writer.put_object(Bucket=options.bucket, Key=key, Body=f"round {number}".encode())
        found, region = read(reader, options.bucket, key)
        served[region] += 1
        stale += found != wanted
    print(f"{options.rounds} rounds, {stale} stale; served by {dict(served)}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
