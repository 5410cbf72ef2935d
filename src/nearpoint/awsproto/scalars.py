"""Scalars of the AWS protocols as text: numbers, booleans, blobs, and timestamps in their three formats.

Values are Python's: `str`, `int`, `float`, `bool`, `bytes`, and aware UTC `datetime` for timestamps; a serialiser also
takes Unix seconds. Source: Smithy's "Serialization" of the AWS protocols.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?")
_ISO = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?)?(Z|[+-]\d\d:?\d\d)?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def read_timestamp(text: str) -> datetime:
    """A timestamp in any of the formats. Raises ValueError."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        try:
            return _EPOCH + timedelta(microseconds=round(float(text) * 1_000_000))
        except OverflowError:
            raise ValueError("a timestamp out of range") from None
    match = _ISO.fullmatch(text)
    if match is None:
        try:
            parsed = parsedate_to_datetime(text)
        except (TypeError, IndexError, OverflowError) as error:
            raise ValueError("not a timestamp") from error
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    at = datetime(
        int(year), int(month), int(day), int(hour or 0), int(minute or 0), int(second or 0), micros, tzinfo=UTC
    )
    if zone and zone != "Z":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
        try:
            at = at - offset if zone[0] == "+" else at + offset
        except OverflowError:
            raise ValueError("a timestamp out of range") from None
    return at


def write_timestamp(value: datetime | float, format: str) -> str | int | float:
    """A timestamp as `iso8601` (milliseconds, as AWS answers), `rfc822`, or `unixTimestamp` (a number)."""
    if not isinstance(value, datetime):
        value = _EPOCH + timedelta(microseconds=round(value * 1_000_000))
    elif value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    else:
        value = value.astimezone(UTC)
    if format == "rfc822":
        return (
            f"{_DAYS[value.weekday()]}, {value.day:02} {_MONTHS[value.month - 1]} {value.year:04} "
            f"{value.hour:02}:{value.minute:02}:{value.second:02} GMT"
        )
    if format.lower() == "unixtimestamp":
        seconds = (value - _EPOCH).total_seconds()
        return int(seconds) if seconds.is_integer() else seconds
    return (
        f"{value.year:04}-{value.month:02}-{value.day:02}T{value.hour:02}:{value.minute:02}:{value.second:02}"
        f".{value.microsecond // 1000:03}Z"
    )


def read_scalar(type: str, text: str) -> Any:
    """The value of a scalar shape's type. Raises ValueError."""
    if type == "string":
        return text
    if type in {"integer", "long"}:
        text = text.strip()
        if not _INTEGER.fullmatch(text):
            raise ValueError("not an integer")
        return int(text)
    if type == "boolean":
        lowered = text.strip().lower()
        if lowered not in {"true", "false"}:
            raise ValueError("not a boolean")
        return lowered == "true"
    if type == "timestamp":
        return read_timestamp(text)
    if type == "blob":
        try:
            return base64.b64decode(text.encode(), validate=False)
        except (binascii.Error, UnicodeEncodeError) as error:
            raise ValueError("not base64") from error
    if type in {"float", "double"}:
        if len(text) > 64 or "_" in text:
            raise ValueError("not a number")
        return float(text)
    raise ValueError(f"not a scalar: {type}")


def write_scalar(type: str, value: Any, timestamp_format: str) -> str:
    """The text of a scalar."""
    if type == "string":
        return value if isinstance(value, str) else str(value)
    if type == "boolean":
        return "true" if value else "false"
    if type == "timestamp":
        return str(write_timestamp(value, timestamp_format))
    if type == "blob":
        return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
    if type in {"float", "double"}:
        return _write_float(float(value))
    return str(value)


def _write_float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return repr(value)
