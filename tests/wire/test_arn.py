"""ARNs as AWS writes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.wire.arn import Arn, MalformedArnError, parse_arn


@pytest.mark.parametrize(
    ("text", "service", "region", "account", "resource"),
    [
        ("arn:aws:s3:::bucket", "s3", "", "", "bucket"),
        ("arn:aws:s3:::bucket/a/b:c", "s3", "", "", "bucket/a/b:c"),
        ("arn:aws:s3::123456789012:accesspoint/m.mrap", "s3", "", "123456789012", "accesspoint/m.mrap"),
        (
            "arn:aws:s3::123456789012:accesspoint/m.mrap/object/a:b/c",
            "s3",
            "",
            "123456789012",
            "accesspoint/m.mrap/object/a:b/c",
        ),
        ("arn:aws:iam::123456789012:role/path/name", "iam", "", "123456789012", "role/path/name"),
        ("arn:aws:lambda:us-east-1:1:function:f:7", "lambda", "us-east-1", "1", "function:f:7"),
        ("arn:aws:iam::123456789012:root", "iam", "", "123456789012", "root"),
    ],
)
def test_parse(text: str, service: str, region: str, account: str, resource: str) -> None:
    arn = parse_arn(text)
    assert (arn.partition, arn.service, arn.region, arn.account) == ("aws", service, region, account)
    assert arn.resource == resource
    assert str(arn) == text


@pytest.mark.parametrize(
    "text",
    ["", "arn", "bucket", "arn:aws:s3", "arn:aws:s3:::", "arn::s3:::b", "arn:aws::::b", "urn:a:b:c:d:e", "arn:a:b:c:d"],
)
def test_malformed(text: str) -> None:
    with pytest.raises(MalformedArnError):
        parse_arn(text)


def test_a_megabyte_is_no_arn() -> None:
    with pytest.raises(MalformedArnError):
        parse_arn("arn:aws:s3:::" + "a" * 2**20)


PART = st.text(st.characters(codec="ascii", exclude_characters=":"), min_size=1, max_size=20)


@given(PART, PART, PART | st.just(""), PART | st.just(""), st.text(min_size=1, max_size=40))
def test_both_ways(partition: str, service: str, region: str, account: str, resource: str) -> None:
    arn = Arn(partition=partition, service=service, region=region, account=account, resource=resource)
    assert parse_arn(str(arn)) == arn
