"""What a data bucket has besides, or in the place of, the settings that `deploy` gives every bucket. Pure.

A template's own `AWS::S3::Bucket` can't have them: its stack makes buckets in us-east-1 only, and the data buckets are
in several regions. So they stand in `Metadata.Nearpoint.BucketSettings`, by parameter, in the words of the S3 API:

    FirstBucket:
      LifecycleConfiguration: {Rules: […]}              # PutBucketLifecycleConfiguration
      ServerSideEncryptionConfiguration: {Rules: […]}   # PutBucketEncryption
      CORSConfiguration: {CORSRules: […]}               # PutBucketCors
      PolicyStatements: […]                             # added to deploy's bucket policy
      ReplicationRules: […]                             # PutBucketReplication; in the place of deploy's
      Tags: {key: value}

`{Parameter}` in a text is the value of that parameter, `{AWS::AccountId}` the account.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

LIFECYCLE, ENCRYPTION, CORS = "LifecycleConfiguration", "ServerSideEncryptionConfiguration", "CORSConfiguration"
POLICY, REPLICATION, TAGS = "PolicyStatements", "ReplicationRules", "Tags"
SETTINGS = frozenset((LIFECYCLE, ENCRYPTION, CORS, POLICY, REPLICATION, TAGS))
ACCOUNT = "AWS::AccountId"
ABORT_UPLOADS_DAYS = 7
_PLACEHOLDER = re.compile(r"(?<!\$)\{([A-Za-z0-9:]+)\}")

DEFAULT_ENCRYPTION: Mapping[str, Any] = {
    "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": True}]
}
DEFAULT_LIFECYCLE: Mapping[str, Any] = {
    "Rules": [
        {
            "ID": "abandoned-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": ABORT_UPLOADS_DAYS},
        }
    ]
}


def filled(settings: Any, values: Mapping[str, str]) -> Any:
    """The settings with their placeholders filled in; what `values` has not is left: IAM has such variables too."""
    if isinstance(settings, str):
        return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), settings)
    if isinstance(settings, Mapping):
        return {key: filled(value, values) for key, value in settings.items()}
    return [filled(each, values) for each in settings] if isinstance(settings, list) else settings


def bucket_policy(name: str, account_id: str, *, holds_data: bool, more: list[dict[str, Any]]) -> dict[str, Any]:
    """The policy of a bucket that deploy makes: over TLS alone and, for data, as the account's access points decide."""
    return {"Version": "2012-10-17", "Statement": [*own_statements(name, account_id, holds_data=holds_data), *more]}


def own_statements(name: str, account_id: str, *, holds_data: bool) -> list[dict[str, Any]]:
    """The statements that deploy's buckets have without being told."""
    arns = [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"]
    statements: list[dict[str, Any]] = [
        {
            "Sid": "OnlyOverTls",
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": arns,
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ]
    if holds_data:
        # S3 User Guide, "Delegating access control to access points": what this account's access points allow, their
        # policies decide. Without it, CloudFront's own signature would be refused by the bucket.
        statements.append(
            {
                "Sid": "AsAccessPointsDecide",
                "Effect": "Allow",
                "Principal": "*",
                "Action": ["s3:GetObject", "s3:ListBucket", "s3:PutObject", "s3:DeleteObject"],
                "Resource": arns,
                "Condition": {"StringEquals": {"s3:DataAccessPointAccount": account_id}},
            }
        )
    return statements
