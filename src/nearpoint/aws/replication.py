"""Two-way replication between the data buckets: every bucket copies to every other, timed and measured.

S3 User Guide, "Configuring replication for use with Multi-Region Access Points" and "S3 Replication Time Control".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from nearpoint.aws.clients import Clients
from nearpoint.aws.explain import code_of, explained
from nearpoint.aws.record import DataBucket

ROLE_OUTPUT = "ReplicationRoleArn"  # a template with this output has its buckets replicated
MINUTES = 15  # the one value that S3 knows


def rules(targets: Sequence[DataBucket]) -> list[dict[str, Any]]:
    """A rule for each target, in the words of PutBucketReplication."""
    return [
        {
            "ID": f"to-{target.parameter}",  # a name that a template's alarms can know
            "Priority": priority,
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "DeleteMarkerReplication": {"Status": "Enabled"},
            # Also what changes on a replica (tags, lock) goes back, as two-way replication needs.
            "SourceSelectionCriteria": {"ReplicaModifications": {"Status": "Enabled"}},
            "Destination": {
                "Bucket": f"arn:aws:s3:::{target.name}",
                "ReplicationTime": {"Status": "Enabled", "Time": {"Minutes": MINUTES}},
                "Metrics": {"Status": "Enabled", "EventThreshold": {"Minutes": MINUTES}},
            },
        }
        for priority, target in enumerate(targets, 1)
    ]


def replicate(
    clients: Clients,
    role_arn: str,
    data: Sequence[DataBucket],
    own: Mapping[str, Sequence[Mapping[str, Any]]] = MappingProxyType({}),
) -> None:
    """Put the rules on every bucket where they are not there yet; `own` are the template's rules by parameter, where it
    has some; with an empty list of them a bucket copies nothing. Raises DeployError."""
    for source in data:
        s3 = clients.client("s3", source.region)
        others = [each for each in data if each is not source]
        wanted = {"Role": role_arn, "Rules": own.get(source.parameter, rules(others))}
        try:
            if not wanted["Rules"]:
                s3.delete_bucket_replication(Bucket=source.name)
            elif _current(s3, source.name) != wanted:
                s3.put_bucket_replication(Bucket=source.name, ReplicationConfiguration=wanted)
        except (ClientError, BotoCoreError) as error:
            raise explained(error) from error


def stop(clients: Clients, data: Sequence[DataBucket]) -> None:
    """Take the rules away; what has been copied stays. Raises DeployError."""
    for source in data:
        try:
            clients.client("s3", source.region).delete_bucket_replication(Bucket=source.name)
        except (ClientError, BotoCoreError) as error:
            raise explained(error) from error


def is_replicated(clients: Clients, bucket: DataBucket) -> bool:
    """Whether the bucket has replication rules."""
    return _current(clients.client("s3", bucket.region), bucket.name) is not None


def _current(s3: Any, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = s3.get_bucket_replication(Bucket=name)["ReplicationConfiguration"]
    except ClientError as error:
        if code_of(error) == "ReplicationConfigurationNotFoundError":
            return None
        raise explained(error) from error
    return found
