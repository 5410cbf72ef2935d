"""What "public" means (S3 User Guide, "Blocking public access")."""

from __future__ import annotations

from typing import Any

import pytest

from nearpoint.policy.document import parse_policy
from nearpoint.policy.public import is_public


def _policy(principal: Any, condition: dict[str, Any] | None = None, effect: str = "Allow") -> Any:
    statement = {"Effect": effect, "Principal": principal, "Action": "s3:GetObject", "Resource": "*"}
    if condition is not None:
        statement["Condition"] = condition
    return parse_policy({"Version": "2012-10-17", "Statement": [statement]}, kind="resource")


@pytest.mark.parametrize(
    ("principal", "condition", "expected"),
    [
        ("*", None, True),
        ({"AWS": "*"}, None, True),
        ({"AWS": "arn:aws:iam::123456789012:root"}, None, False),
        ({"Service": "cloudfront.amazonaws.com"}, None, False),
        ("*", {"StringEquals": {"aws:SourceAccount": "123456789012"}}, False),
        ("*", {"StringLike": {"aws:SourceArn": "arn:aws:*"}}, True),
        ("*", {"StringEqualsIfExists": {"aws:SourceAccount": "123456789012"}}, True),
        ("*", {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}, False),
        ("*", {"IpAddress": {"aws:SourceIp": "0.0.0.0/1"}}, True),
        ("*", {"StringEquals": {"s3:DataAccessPointAccount": "123456789012"}}, False),
        ("*", {"ArnLike": {"s3:DataAccessPointArn": "arn:aws:s3:*:123456789012:accesspoint/*"}}, False),
        ("*", {"StringEquals": {"aws:Referer": "https://example.com/"}}, True),
    ],
)
def test_what_lets_everybody_in_is_public(principal: Any, condition: dict[str, Any] | None, expected: bool) -> None:
    assert is_public(_policy(principal, condition)) is expected


def test_a_denial_opens_nothing() -> None:
    assert not is_public(_policy("*", effect="Deny"))
