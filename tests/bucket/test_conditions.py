"""The condition matrix against RFC 9110 §13.2.2, spelled out once more and differently."""

from __future__ import annotations

import itertools

import pytest

from nearpoint.bucket.conditions import MET, Conditions, Failed, NotModified, decide_read, decide_write, etag_matches

ETAG = "abc"
MODIFIED = 1_700_000_000
BEFORE, AT, AFTER = (
    "Tue, 14 Nov 2023 22:13:19 GMT",
    "Tue, 14 Nov 2023 22:13:20 GMT",
    "Tue, 14 Nov 2023 22:13:21 GMT",
)
TAGS = [None, '"abc"', "abc", 'W/"abc"', "*", '"x", "abc"', '"x"', ""]
DATES = [None, BEFORE, AT, AFTER, "not a date"]


def _matches(field: str) -> bool:
    return "abc" in field or field == "*"


@pytest.mark.parametrize("if_match", TAGS)
@pytest.mark.parametrize("unmodified", DATES)
def test_a_read_is_decided_in_the_order_of_rfc_9110(if_match: str | None, unmodified: str | None) -> None:
    for if_none_match, modified in itertools.product(TAGS, DATES):
        verdict = decide_read(
            Conditions(
                if_match=if_match,
                if_none_match=if_none_match,
                if_modified_since=modified,
                if_unmodified_since=unmodified,
            ),
            etag=ETAG,
            modified_s=MODIFIED,
        )
        if if_match is not None and not _matches(if_match):
            assert verdict == Failed("If-Match")
        elif if_match is None and unmodified == BEFORE:
            assert verdict == Failed("If-Unmodified-Since")
        elif if_none_match is not None and _matches(if_none_match):
            assert verdict == NotModified("If-None-Match")
        elif if_none_match is None and modified in (AT, AFTER):
            assert verdict == NotModified("If-Modified-Since")
        else:
            assert verdict == MET


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "etag", "verdict"),
    [
        (None, None, None, MET),
        (None, "*", None, MET),
        (None, "*", ETAG, Failed("If-None-Match")),
        ('"abc"', None, ETAG, MET),
        ('"x"', None, ETAG, Failed("If-Match")),
        ("*", None, ETAG, MET),
        ("*", None, None, Failed("If-Match")),
    ],
)
def test_a_write_goes_ahead_or_says_which_condition_failed(
    if_match: str | None, if_none_match: str | None, etag: str | None, verdict: object
) -> None:
    assert decide_write(Conditions(if_match=if_match, if_none_match=if_none_match), etag=etag) == verdict


def test_a_tag_must_match_whole() -> None:
    assert not etag_matches('"abcd"', ETAG)
    assert not etag_matches('"ab"', ETAG)
