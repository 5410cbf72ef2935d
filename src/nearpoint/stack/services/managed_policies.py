"""The AWS managed policies that roles of edge applications carry, by ARN, with what each allows."""

from __future__ import annotations

from typing import Any

_LOG_WRITES = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]
_S3_READS = ["s3:Get*", "s3:List*", "s3:Describe*", "s3-object-lambda:Get*", "s3-object-lambda:List*"]


def _allow(*actions: str, resource: str = "*") -> dict[str, Any]:
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": resource}],
    }


DOCUMENTS: dict[str, dict[str, Any]] = {
    f"arn:aws:iam::aws:policy/{path}": document
    for path, document in {
        "service-role/AWSLambdaBasicExecutionRole": _allow(*_LOG_WRITES),
        "service-role/AWSLambdaRole": _allow("lambda:InvokeFunction"),
        "AWSLambdaExecute": {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Action": ["logs:*"], "Resource": "arn:aws:logs:*:*:*"},
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
        "AmazonS3ReadOnlyAccess": _allow(*_S3_READS),
        "AmazonS3FullAccess": _allow("s3:*", "s3-object-lambda:*"),
        "CloudFrontReadOnlyAccess": _allow("cloudfront:Describe*", "cloudfront:Get*", "cloudfront:List*"),
        "CloudFrontFullAccess": _allow("cloudfront:*", "cloudfront-keyvaluestore:*"),
        "CloudWatchLogsFullAccess": _allow("logs:*"),
        "CloudWatchLogsReadOnlyAccess": _allow(
            "logs:Describe*", "logs:Get*", "logs:List*", "logs:StartQuery", "logs:StopQuery", "logs:FilterLogEvents"
        ),
        "ReadOnlyAccess": _allow(*_S3_READS, "cloudfront:Get*", "cloudfront:List*", "lambda:Get*", "lambda:List*"),
        "AdministratorAccess": _allow("*"),
    }.items()
}
