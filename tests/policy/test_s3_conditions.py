"""The condition keys that a request of S3 answers by itself."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from nearpoint.awsproto import xml
from nearpoint.awsproto.errors import AwsError
from nearpoint.policy.document import MalformedPolicyError, parse_policy
from nearpoint.policy.s3_conditions import document_conditions, refuse_repeated, request_conditions

NOW = datetime(2026, 11, 20, tzinfo=UTC)
CREATES: dict[str, Any] = {"s3:objectcreationoperation": ("true",)}


@pytest.mark.parametrize(
    ("action", "headers", "query", "expected"),
    [
        ("s3:ListBucket", {}, "prefix=a%2F+b&delimiter=%2F&max-keys=3&list-type=2", {
            "s3:prefix": ("a/ b",), "s3:delimiter": ("/",), "s3:max-keys": ("3",),
        }),
        ("s3:GetObjectVersion", {}, "versionId=v", {"s3:versionid": ("v",)}),
        ("s3:PutObject", {"x-amz-acl": ["private"], "host": ["h"]}, "", {**CREATES, "s3:x-amz-acl": ("private",)}),
        ("s3:PutObject", {"if-none-match": ["*"]}, "uploadId=u", {**CREATES, "s3:if-none-match": ("*",)}),
        ("s3:PutObject", {}, "uploads", {"s3:objectcreationoperation": ("false",)}),
        ("s3:PutObject", {}, "partNumber=1&uploadId=u", {"s3:objectcreationoperation": ("false",)}),
        ("s3:PutObject", {"x-amz-tagging": ["a=1&Bc=x%20y"]}, "", {
            **CREATES, "s3:x-amz-tagging": ("a=1&Bc=x%20y",), "s3:requestobjecttagkeys": ("a", "Bc"),
            "s3:requestobjecttag/a": ("1",), "s3:requestobjecttag/bc": ("x y",),
        }),
        ("s3:PutObject", {"x-amz-object-lock-retain-until-date": ["2026-11-25T01:00:00Z"]}, "", {
            **CREATES, "s3:x-amz-object-lock-retain-until-date": ("2026-11-25T01:00:00Z",),
            "s3:object-lock-retain-until-date": ("2026-11-25T01:00:00Z",),
            "s3:object-lock-remaining-retention-days": ("5",),
        }),
    ],
)  # fmt: skip
def test_requests(action: str, headers: dict[str, list[str]], query: str, expected: dict[str, Any]) -> None:
    assert request_conditions(action, headers, query, NOW) == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (b"<Tagging><TagSet><Tag><Key>A</Key><Value>b</Value></Tag></TagSet></Tagging>", {
            "s3:requestobjecttagkeys": ("A",), "s3:requestobjecttag/a": ("b",),
        }),
        (b"<Tagging/>", {}),
        (b"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>2026-11-19</RetainUntilDate></Retention>", {
            "s3:object-lock-mode": ("GOVERNANCE",), "s3:object-lock-retain-until-date": ("2026-11-19",),
            "s3:object-lock-remaining-retention-days": ("0",),
        }),
        (b"<Retention><RetainUntilDate>soon</RetainUntilDate></Retention>", {
            "s3:object-lock-retain-until-date": ("soon",),
        }),
        (b"<LegalHold><Status>ON</Status></LegalHold>", {"s3:object-lock-legal-hold": ("ON",)}),
        (b"<AccessControlPolicy/>", {}),
    ],
)  # fmt: skip
def test_documents(document: bytes, expected: dict[str, Any]) -> None:
    assert document_conditions(xml.parse(document), NOW) == expected


def test_what_is_given_twice_is_refused() -> None:
    refuse_repeated(["prefix", "delimiter"])
    with pytest.raises(AwsError, match="The prefix parameter may be given only once"):
        refuse_repeated(["prefix", "delimiter", "prefix"])


def test_a_condition_that_cannot_be_decided_makes_no_policy() -> None:
    statement = {
        "Effect": "Deny",
        "Action": "s3:GetObject",
        "Resource": "*",
        "Condition": {"StringEquals": {"s3:ExistingObjectTag/level": "secret"}},
    }
    with pytest.raises(MalformedPolicyError, match="s3:ExistingObjectTag/level"):
        parse_policy({"Version": "2012-10-17", "Statement": statement}, kind="identity")
