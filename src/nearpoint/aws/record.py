"""What a deployment has made, written down before it is made: an object in the deployment's own bucket.

So whatever interrupts a deployment, `delete` knows what to look for, and `verify` which bucket is whose region's.
"""

from __future__ import annotations

import msgspec
from botocore.exceptions import BotoCoreError, ClientError
from msgspec import Struct

from nearpoint.aws.buckets import Bucket, bucket_name
from nearpoint.aws.clients import HOME_REGION, Clients
from nearpoint.aws.errors import DeployError
from nearpoint.aws.explain import code_of, explained

KEY = "nearpoint/deployment.json"
BYTES_MAX = 1_000_000


class DataBucket(Struct, frozen=True, kw_only=True):
    """`made`: by deploy, so that it may be emptied."""

    name: str
    region: str
    parameter: str
    made: bool


class Record(Struct, frozen=True, kw_only=True):
    """A deployment; `data` in the order of its regions. `account`: whose it is, empty in older ones; `alarms`: whether
    there are some outside the stack; `replicated`: whether deploy has put rules on the buckets; `tags`: the template's
    tag keys, by bucket parameter."""

    version: int = 1
    stack: str
    account: str = ""
    data: tuple[DataBucket, ...] = ()
    alarms: bool = False
    replicated: bool = False
    tags: dict[str, tuple[str, ...]] = {}


def home_bucket(clients: Clients, stack: str) -> Bucket:
    """The deployment's own bucket: packages, large templates and this record."""
    name = bucket_name(stack, clients.identity().account_id, "deployment")
    return Bucket(name=name, region=HOME_REGION, holds_data=False)


def read(clients: Clients, stack: str) -> Record | None:
    """The record of a stack's deployment; None where there is none. Raises DeployError."""
    bucket = home_bucket(clients, stack)
    s3 = clients.client("s3", bucket.region)
    try:
        answer = s3.get_object(Bucket=bucket.name, Key=KEY, ExpectedBucketOwner=clients.identity().account_id)
        record = msgspec.json.decode(answer["Body"].read(BYTES_MAX), type=Record)
    except ClientError as error:
        if code_of(error) in ("NoSuchKey", "NoSuchBucket", "404"):
            return None
        raise explained(error) from error
    except BotoCoreError as error:
        raise explained(error) from error
    except msgspec.MsgspecError as error:
        raise DeployError(f"s3://{bucket.name}/{KEY} is no record of a deployment: {error}.") from None
    if record.version != 1:
        raise DeployError(f"s3://{bucket.name}/{KEY} was written by a newer Nearpoint (version {record.version}).")
    account_id = clients.identity().account_id
    if record.account not in ("", account_id):
        raise DeployError(
            f"The deployment {stack} is of account {record.account}, as s3://{bucket.name}/{KEY} says, and these "
            f"credentials are of account {account_id}. Name a profile of {record.account} with --profile.",
            refused=True,
        )
    return record


def write(clients: Clients, record: Record) -> None:
    """Keep the record; unchanged, nothing is written. Raises DeployError."""
    if read(clients, record.stack) == record:
        return
    bucket = home_bucket(clients, record.stack)
    try:
        clients.client("s3", bucket.region).put_object(
            Bucket=bucket.name, Key=KEY, Body=msgspec.json.encode(record), ContentType="application/json"
        )
    except ClientError as error:
        raise explained(error) from error
