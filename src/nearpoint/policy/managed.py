"""The AWS managed policies that are known here, by ARN (AWS Managed Policy Reference Guide).

What they grant outside S3 and logs is kept as granted there; only S3 actions are ever evaluated by the access point.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from nearpoint.policy.document import Policy, parse_policy

_LOGS = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]


def _allow(actions: list[str] | str, resource: str = "*") -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": actions, "Resource": resource}],
    }


MANAGED_POLICIES: Mapping[str, dict[str, Any]] = {
    "arn:aws:iam::aws:policy/AdministratorAccess": _allow("*"),
    "arn:aws:iam::aws:policy/AmazonS3FullAccess": _allow(["s3:*", "s3-object-lambda:*"]),
    "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess": _allow(
        [
            "s3:Get*",
            "s3:List*",
            "s3:Describe*",
            "s3-object-lambda:Get*",
            "s3-object-lambda:List*",
        ]
    ),
    "arn:aws:iam::aws:policy/CloudWatchLogsFullAccess": _allow(["logs:*", "cloudwatch:GenerateQuery"]),
    "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole": _allow(_LOGS),
    "arn:aws:iam::aws:policy/AWSLambdaExecute": {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "logs:*", "Resource": "arn:aws:logs:*:*:*"},
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "arn:aws:s3:::*"},
        ],
    },
    "arn:aws:iam::aws:policy/AWSLambda_FullAccess": _allow(
        [
            "lambda:*",
            "logs:DescribeLogGroups",
            "iam:GetPolicy",
            "iam:GetPolicyVersion",
            "iam:GetRole",
            "iam:GetRolePolicy",
            "iam:ListAttachedRolePolicies",
            "iam:ListRolePolicies",
            "iam:ListRoles",
            "kms:ListAliases",
            "tag:GetResources",
            "xray:GetTraceSummaries",
            "xray:BatchGetTraces",
        ]
    ),
    "arn:aws:iam::aws:policy/ReadOnlyAccess": _allow(
        ["s3:Get*", "s3:List*", "s3:Describe*", "cloudfront:Get*", "cloudfront:List*", "logs:Get*", "logs:Describe*"]
    ),
    "arn:aws:iam::aws:policy/CloudFrontReadOnlyAccess": _allow(
        ["cloudfront:Describe*", "cloudfront:Get*", "cloudfront:List*", "s3:ListAllMyBuckets"]
    ),
}


@cache
def managed_policy(arn: str) -> Policy | None:
    """The managed policy of that ARN, or None for one that is not known here."""
    document = MANAGED_POLICIES.get(arn)
    return None if document is None else parse_policy(document, kind="identity", name=arn.rsplit("/", 1)[1])
