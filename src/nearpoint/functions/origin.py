"""The origin of a request as a function sees and may change it (Lambda@Edge event structure, `origin`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomOrigin:
    """Any HTTP server. `path` is put before the request's; custom headers are (name, value) as written."""

    domain_name: str
    path: str = ""
    port: int = 443
    protocol: Literal["http", "https"] = "https"
    read_timeout_s: int = 30
    keepalive_timeout_s: int = 5
    ssl_protocols: tuple[str, ...] = ("TLSv1.2",)
    custom_headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Origin:
    """A bucket reached as S3."""

    domain_name: str
    region: str
    path: str = ""
    auth_method: Literal["origin-access-identity", "none"] = "none"
    custom_headers: tuple[tuple[str, str], ...] = ()


Origin = CustomOrigin | S3Origin
