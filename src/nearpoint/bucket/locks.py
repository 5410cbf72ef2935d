"""Object lock: what a request and a bucket's configuration say of legal holds and retention, checked.

Error sentences are those that S3 has been seen to give.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from nearpoint.awsproto.errors import AwsError
from nearpoint.wire.dates import iso_date, parse_iso_date
from nearpoint.wire.message import Headers

MODES = ("GOVERNANCE", "COMPLIANCE")
_HOLD, _MODE = "x-amz-object-lock-legal-hold", "x-amz-object-lock-mode"
_UNTIL = "x-amz-object-lock-retain-until-date"
_DAYS_MAX, _YEARS_MAX = 36_500, 100  # S3 API Reference, PutObjectLockConfiguration


def of_headers(headers: Headers) -> dict[str, Any]:
    """The hold and retention that the header of a write asks for, by their names among a version's extras.

    Raises AwsError (InvalidArgument).
    """
    found: dict[str, Any] = {}
    hold = headers.get(_HOLD)
    if hold is not None:
        if hold not in ("ON", "OFF"):
            raise _argument("Legal Hold must be either of 'ON' or 'OFF'", _HOLD, hold)
        found["legal_hold"] = hold
    mode, until = headers.get(_MODE), headers.get(_UNTIL)
    if mode is None and until is None:
        return found
    if mode is None or until is None:
        missing = _UNTIL if until is None else _MODE
        raise _argument(f"{_UNTIL} and {_MODE} must both be supplied", missing, "")
    if mode not in MODES:
        raise _argument("Unknown wormMode directive.", _MODE, mode)
    moment = parse_iso_date(until)
    if moment is None:
        raise _argument("The retain until date must be provided in ISO 8601 format", _UNTIL, until)
    found["retention"] = {"Mode": mode, "RetainUntilDate": iso_date(moment)}
    return found


def check_future(retention: dict[str, Any] | None, now: datetime) -> None:
    """Raises InvalidArgument for a retention that is over before it begins."""
    if retention is None:
        return
    until = parse_iso_date(retention["RetainUntilDate"])
    if until is None or until <= now:
        raise _argument("The retain until date must be in the future!", _UNTIL, retention["RetainUntilDate"])


def check_configuration(value: dict[str, Any]) -> None:
    """Check an ObjectLockConfiguration. Raises AwsError (MalformedXML, InvalidArgument)."""
    if value.get("ObjectLockEnabled") != "Enabled":
        raise AwsError("MalformedXML")
    rule = value.get("Rule")
    if rule is None:
        return
    default = rule.get("DefaultRetention", {})
    if default.get("Mode") not in MODES or ("Days" in default) == ("Years" in default):
        raise AwsError("MalformedXML")
    period = default.get("Days", default.get("Years"))
    if period <= 0:
        raise AwsError("InvalidArgument", "Default retention period must be a positive integer value.")
    if period > (_DAYS_MAX if "Days" in default else _YEARS_MAX):
        raise AwsError("InvalidArgument", "Default retention period too large.")


def default_retention(configuration: dict[str, Any], now: datetime) -> dict[str, Any] | None:
    """The retention that an object written now gets by its bucket's configuration, or None."""
    default = configuration.get("Rule", {}).get("DefaultRetention")
    if default is None:
        return None
    days = default["Days"] if "Days" in default else default["Years"] * 365
    return {"Mode": default["Mode"], "RetainUntilDate": iso_date(now.astimezone(UTC) + timedelta(days=days))}


def _argument(message: str, name: str, value: str) -> AwsError:
    return AwsError("InvalidArgument", message, extra={"ArgumentName": name, "ArgumentValue": value})
