"""Origin access control: the edge signs its requests to S3 origins as the service it is.

CloudFront Developer Guide, "Restrict access to an Amazon S3 origin" (`sigv4`) and "Restrict access to an Amazon S3
Multi-Region Access Point origin" (`sigv4a`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from nearpoint.edge.properties import ConfigError, required_text
from nearpoint.signing import UNSIGNED_PAYLOAD, Credentials, Message, sign_v4, sign_v4a
from nearpoint.wire.message import Headers

_REPLACED = ("authorization", "x-amz-date", "x-amz-security-token", "x-amz-region-set")
_BUCKET = re.compile(r".+\.s3[.-](?:dualstack\.)?(?:([a-z]{2}(?:-[a-z]+)+-\d{1,2})\.)?amazonaws\.com")
GLOBAL_REGION = "us-east-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessControl:
    """How requests to an origin are signed."""

    protocol: Literal["sigv4", "sigv4a"]
    behavior: Literal["always", "never", "no-override"]

    def signs(self, headers: Headers) -> bool:
        """Whether a request with these fields is signed: `no-override` leaves a viewer's Authorization alone."""
        if self.behavior == "no-override":
            return "authorization" not in headers
        return self.behavior == "always"


def compile_access_control(config: Mapping[str, Any], where: str) -> AccessControl:
    """Compile an OriginAccessControlConfig (AWS::CloudFront::OriginAccessControl). Raises ConfigError."""
    protocol = required_text(config, "SigningProtocol", where)
    behavior = required_text(config, "SigningBehavior", where)
    if protocol not in ("sigv4", "sigv4a"):
        raise ConfigError(f"{where}.SigningProtocol", f"{protocol!r} is not sigv4 or sigv4a")
    if behavior not in ("always", "never", "no-override"):
        raise ConfigError(f"{where}.SigningBehavior", f"{behavior!r} is not always, never or no-override")
    return AccessControl(protocol=protocol, behavior=behavior)  # type: ignore[arg-type]


def bucket_region(domain: str) -> str:
    """The Region in `BUCKET.s3.REGION.amazonaws.com`; us-east-1 where the name has none."""
    found = _BUCKET.fullmatch(domain)
    return (found[1] if found else None) or GLOBAL_REGION


def signed(
    control: AccessControl,
    headers: Headers,
    *,
    method: str,
    target: str,
    domain: str,
    credentials: Credentials,
    now: datetime,
) -> Headers:
    """The fields of a request to `domain` with its signature in place of any other.

    The body is not covered: it streams. A viewer's own x-amz-content-sha256 is, where it has come so far.
    """
    out = headers.copy()
    for name in _REPLACED:
        out.remove(name)
    path, _, query = target.partition("?")
    message = Message(method, path, query, list(out))
    payload_hash = out.get("x-amz-content-sha256") or UNSIGNED_PAYLOAD
    if control.protocol == "sigv4a":
        fields = sign_v4a(message, credentials, region_set="*", now=now, payload_hash=payload_hash)
    else:
        fields = sign_v4(message, credentials, region=bucket_region(domain), now=now, payload_hash=payload_hash)
    for name, value in fields:
        out.set(name, value)
    return out
