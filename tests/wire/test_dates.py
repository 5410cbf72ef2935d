"""Dates of HTTP and AWS, both ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.wire.dates import http_date, iso_date, parse_http_date, parse_iso_date

THEN = datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)
MOMENTS = st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC))


@pytest.mark.parametrize(
    "text", ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
)
def test_the_three_forms(text: str) -> None:
    assert parse_http_date(text, now=datetime(2026, 1, 1, tzinfo=UTC)) == THEN


@pytest.mark.parametrize(("year", "expected"), [("26", 2026), ("76", 2076), ("77", 1977), ("99", 1999)])
def test_two_digits_of_a_year(year: str, expected: int) -> None:
    parsed = parse_http_date(f"Sunday, 06-Nov-{year} 08:49:37 GMT", now=datetime(2026, 1, 1, tzinfo=UTC))
    assert parsed is not None
    assert parsed.year == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-1",
        "now",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 25:49:37 GMT",
        "Sun, 06 nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "1994-11-06T08:49:37Z",
    ],
)
def test_no_http_date(text: str) -> None:
    assert parse_http_date(text) is None


def test_a_leap_second() -> None:
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23T04:32:00.123Z", datetime(2026, 11, 23, 4, 32, 0, 123000, tzinfo=UTC)),
        ("2026-11-23T04:32:00Z", datetime(2026, 11, 23, 4, 32, tzinfo=UTC)),
        ("2026-11-23t04:32:00z", datetime(2026, 11, 23, 4, 32, tzinfo=UTC)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("20261123T043200Z", datetime(2026, 11, 23, 4, 32, tzinfo=UTC)),
        ("2026-11-23T04:32:00+02:00", datetime(2026, 11, 23, 2, 32, tzinfo=UTC)),
        ("2026-11-23T04:32:00-0130", datetime(2026, 11, 23, 6, 2, tzinfo=UTC)),
        ("2026-11-23T04:32:00", datetime(2026, 11, 23, 4, 32, tzinfo=UTC)),
        ("2026-13-23", None),
        ("2026-11-23T04:32", None),
        ("2026-11-23T04:32:00+99:00", None),
        ("0001-01-01T00:00:00+10:00", None),
        ("yesterday", None),
    ],
)
def test_iso(text: str, moment: datetime | None) -> None:
    assert parse_iso_date(text) == moment


def test_other_zones_and_naive_moments() -> None:
    here = datetime(2026, 11, 23, 6, 32, tzinfo=timezone(timedelta(hours=2)))
    assert http_date(here) == "Mon, 23 Nov 2026 04:32:00 GMT" == http_date(datetime(2026, 11, 23, 4, 32))
    assert iso_date(here) == "2026-11-23T04:32:00.000Z" == iso_date(datetime(2026, 11, 23, 4, 32))


@given(MOMENTS)
def test_both_ways(moment: datetime) -> None:
    second = moment.replace(microsecond=0)
    assert parse_http_date(http_date(moment)) == second
    assert parse_iso_date(iso_date(moment)) == moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@given(st.text(max_size=40))
def test_any_text_is_survived(text: str) -> None:
    parse_http_date(text)
    parse_iso_date(text)
