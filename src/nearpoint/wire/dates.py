"""Dates as HTTP and AWS write them: IMF-fixdate (RFC 9110 §5.6.7) and ISO 8601. All times are UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_CLOCK = r"(?P<hour>\d{2}):(?P<minute>\d{2}):(?P<second>\d{2})"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_HTTP_FORMS = (
    re.compile(rf"(?:{'|'.join(_DAYS)}), (?P<day>\d{{2}}) {_MONTH} (?P<year>\d{{4}}) {_CLOCK} GMT", re.ASCII),
    re.compile(rf"(?:{'|'.join(_LONG_DAYS)}), (?P<day>\d{{2}})-{_MONTH}-(?P<year>\d{{2}}) {_CLOCK} GMT", re.ASCII),
    re.compile(rf"(?:{'|'.join(_DAYS)}) {_MONTH} (?P<day>[ \d]\d) {_CLOCK} (?P<year>\d{{4}})", re.ASCII),
)
_ISO = re.compile(
    r"(?P<year>\d{4})-?(?P<month>\d{2})-?(?P<day>\d{2})"
    r"(?:[T ](?P<hour>\d{2}):?(?P<minute>\d{2}):?(?P<second>\d{2})(?:[.,](?P<fraction>\d{1,9}))?"
    r"(?P<zone>Z|[+-]\d{2}:?\d{2})?)?",
    re.ASCII | re.IGNORECASE,
)


def http_date(moment: datetime) -> str:
    """The moment as an HTTP date, `Mon, 23 Nov 2026 04:32:00 GMT`; a naive one is taken as UTC."""
    at = moment.astimezone(UTC) if moment.tzinfo is not None else moment
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04}"
        f" {at.hour:02}:{at.minute:02}:{at.second:02} GMT"
    )


def parse_http_date(text: str, *, now: datetime | None = None) -> datetime | None:
    """The moment of an HTTP date in any of its three forms; None when it is none, as RFC 9110 §13 wants it ignored.

    `now` decides the century of the two-digit year of the RFC 850 form: not more than 50 years ahead.
    """
    for form in _HTTP_FORMS:
        match = form.fullmatch(text.strip(" \t"))
        if match is None:
            continue
        year = int(match["year"])
        if len(match["year"]) == 2:
            reference = now.year if now is not None else 2000
            year += reference - reference % 100
            if year > reference + 50:
                year -= 100
        try:
            return datetime(
                year,
                _MONTHS.index(match["month"]) + 1,
                int(match["day"]),
                int(match["hour"]),
                int(match["minute"]),
                min(int(match["second"]), 59),  # a leap second has no place in datetime
                tzinfo=UTC,
            )
        except ValueError:
            return None
    return None


def iso_date(moment: datetime) -> str:
    """The moment as S3 writes it in XML, `2026-11-23T04:32:00.000Z`; a naive one is taken as UTC."""
    at = moment.astimezone(UTC) if moment.tzinfo is not None else moment
    return (
        f"{at.strftime('%Y-%m-%dT%H:%M:%S') if at.year >= 1000 else at.isoformat()[:19]}.{at.microsecond // 1000:03}Z"
    )


def parse_iso_date(text: str) -> datetime | None:
    """The moment of an ISO 8601 date, with or without time, fraction and zone (UTC without); None when it is none."""
    match = _ISO.fullmatch(text.strip())
    if match is None:
        return None
    zone: timezone = UTC
    sign = match["zone"]
    if sign and sign not in "Zz":
        minutes = int(sign[1:3]) * 60 + int(sign[-2:])
        if minutes >= 24 * 60:
            return None
        zone = timezone(timedelta(minutes=minutes if sign[0] == "+" else -minutes))
    try:
        moment = datetime(
            int(match["year"]),
            int(match["month"]),
            int(match["day"]),
            int(match["hour"] or 0),
            int(match["minute"] or 0),
            min(int(match["second"] or 0), 59),
            int((match["fraction"] or "0").ljust(6, "0")[:6]),
            tzinfo=zone,
        )
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
