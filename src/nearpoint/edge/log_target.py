"""What a distribution's `Logging` says: where its standard log goes (CloudFront API Reference, LoggingConfig)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearpoint.edge.properties import ConfigError, flag_of, text_of

_ADDRESS = re.compile(r"([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])\.s3(?:[.-][a-z]{2}(?:-[a-z]+)+-\d)?\.amazonaws\.com")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogTarget:
    """Where a distribution's log goes. `prefix` ends in a slash unless it is empty."""

    bucket: str
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """Where the standard log goes, and whether it has cookies."""

    target: LogTarget
    cookies: bool


def log_bucket(address: str) -> str | None:
    """The bucket of `NAME.s3.amazonaws.com` or `NAME.s3.REGION.amazonaws.com`."""
    found = _ADDRESS.fullmatch(address)
    return found[1] if found else None


def compile_logging(config: Mapping[str, Any]) -> Logging | None:
    """The Logging of a DistributionConfig, None where there is none. Raises ConfigError."""
    given = config.get("Logging") or {}
    address = text_of(given, "Bucket", "", "Logging")
    if not address:
        return None
    bucket = log_bucket(address)
    if bucket is None:
        raise ConfigError("Logging.Bucket", f"{address!r} is not the domain name of a bucket")
    prefix = text_of(given, "Prefix", "", "Logging")
    return Logging(
        target=LogTarget(bucket=bucket, prefix=prefix if prefix.endswith("/") or not prefix else prefix + "/"),
        cookies=flag_of(given, "IncludeCookies", False, "Logging"),
    )
