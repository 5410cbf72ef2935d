"""The AWS managed policies that are known here, by ARN (AWS Managed Policy Reference Guide).

What they grant outside S3 and logs is kept as granted there; only S3 actions are ever evaluated by the access point.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from nearpoint.policy.document import Policy, parse_policy

_S3_READS = ("s3:Get*", "s3:List*", "s3:Describe*", "s3-object-lambda:Get*", "s3-object-lambda:List*")


def _allow(*actions: str) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]}


MANAGED_POLICIES: Mapping[str, dict[str, Any]] = {
    f"arn:aws:iam::aws:policy/{path}": document
    for path, document in {
        "AdministratorAccess": _allow("*"),
        "AmazonS3FullAccess": _allow("s3:*", "s3-object-lambda:*"),
        "AmazonS3ReadOnlyAccess": _allow(*_S3_READS),
        "AWSLambdaExecute": {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": "logs:*", "Resource": "arn:aws:logs:*:*:*"},
                {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::*"},
            ],
        },
        "AWSLambda_FullAccess": _allow("lambda:*", "logs:Describe*", "logs:Get*", "logs:FilterLogEvents"),
        "AWSLambda_ReadOnlyAccess": _allow("lambda:Get*", "lambda:List*", "logs:Describe*", "logs:Get*"),
        "AWSXRayDaemonWriteAccess": _allow(
            "xray:PutTraceSegments",
            "xray:PutTelemetryRecords",
            "xray:GetSamplingRules",
            "xray:GetSamplingTargets",
            "xray:GetSamplingStatisticSummaries",
        ),
        "CloudFrontFullAccess": _allow("cloudfront:*", "cloudfront-keyvaluestore:*"),
        "CloudFrontReadOnlyAccess": _allow(
            "cloudfront:Describe*", "cloudfront:Get*", "cloudfront:List*", "s3:ListAllMyBuckets"
        ),
        "CloudWatchLogsFullAccess": _allow("logs:*", "cloudwatch:GenerateQuery"),
        "CloudWatchLogsReadOnlyAccess": _allow(
            "logs:Describe*", "logs:Get*", "logs:List*", "logs:StartQuery", "logs:StopQuery", "logs:FilterLogEvents"
        ),
        "ReadOnlyAccess": _allow(
            *_S3_READS,
            "cloudfront:Get*",
            "cloudfront:List*",
            "lambda:Get*",
            "lambda:List*",
            "logs:Get*",
            "logs:Describe*",
        ),
        "service-role/AWSLambdaBasicExecutionRole": _allow(
            "logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"
        ),
        "service-role/AWSLambdaRole": _allow("lambda:InvokeFunction"),
    }.items()
}


@cache
def managed_policy(arn: str) -> Policy | None:
    """The managed policy of that ARN, or None for one that is not known here."""
    document = MANAGED_POLICIES.get(arn)
    return None if document is None else parse_policy(document, kind="identity", name=arn.rsplit("/", 1)[1])


def administrator() -> Policy:
    """AdministratorAccess, which is what the account root has by itself."""
    found = managed_policy("arn:aws:iam::aws:policy/AdministratorAccess")
    assert found is not None
    return found
