"""Compiles an origin of a DistributionConfig: where it is, how it is spoken to, how long it may take.

The input has CloudFormation's shape (AWS::CloudFront::Distribution Origin). What is missing has CloudFront's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nearpoint.edge.access_control import AccessControl, compile_access_control
from nearpoint.edge.properties import ConfigError, flag_of, list_of, number_of, required_text, text_of, texts_of
from nearpoint.edge.references import References


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginTarget:
    """Where one request goes: the behavior's origin, or what a function has made of it.

    `path` is put before the request's target; `custom_headers` are added to it. Times are in seconds.
    """

    kind: Literal["custom", "s3"]
    scheme: Literal["http", "https"]
    host: str
    port: int
    path: str = ""
    custom_headers: tuple[tuple[str, str], ...] = ()
    ssl_protocols: tuple[str, ...] = ("TLSv1.2",)
    connect_timeout_s: float = 10
    connection_attempts: int = 3
    read_timeout_s: float = 30
    keepalive_timeout_s: float = 5
    completion_timeout_s: float | None = None
    region: str = ""  # S3 origins
    auth_method: Literal["origin-access-identity", "none"] = "none"  # S3 origins
    authority: str = field(init=False, compare=False)  # the Host that it is asked for

    def __post_init__(self) -> None:
        usual = self.port == (80 if self.scheme == "http" else 443)
        object.__setattr__(self, "authority", self.host if usual else f"{self.host}:{self.port}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where content comes from. Ports and time-outs are those of CustomOriginConfig, or CloudFront's for S3."""

    id: str
    kind: Literal["custom", "s3"]
    domain: str
    path: str = ""
    protocol: Literal["http-only", "https-only", "match-viewer"] = "https-only"
    http_port: int = 80
    https_port: int = 443
    custom_headers: tuple[tuple[str, str], ...] = ()
    ssl_protocols: tuple[str, ...] = ("TLSv1.2",)
    connect_timeout_s: float = 10
    connection_attempts: int = 3
    read_timeout_s: float = 30
    keepalive_timeout_s: float = 5
    completion_timeout_s: float | None = None  # for a whole answer; None: there is no end to it
    access_control: AccessControl | None = None
    access_identity: str = ""
    shield_region: str = ""  # where its origin shield is, if it has one
    _targets: tuple[OriginTarget, OriginTarget] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        schemes: tuple[Literal["http", "https"], ...] = ("http", "https")
        object.__setattr__(self, "_targets", tuple(self._target(scheme) for scheme in schemes))

    def target(self, viewer_scheme: str) -> OriginTarget:
        """Where it is, for a viewer that came by this scheme."""
        return self._targets[viewer_scheme != "http"]

    def _target(self, viewer_scheme: Literal["http", "https"]) -> OriginTarget:
        scheme = viewer_scheme
        if self.protocol != "match-viewer":
            scheme = "http" if self.protocol == "http-only" else "https"
        return OriginTarget(
            kind=self.kind,
            scheme=scheme,
            host=self.domain,
            port=self.http_port if scheme == "http" else self.https_port,
            path=self.path,
            custom_headers=self.custom_headers,
            ssl_protocols=self.ssl_protocols,
            connect_timeout_s=self.connect_timeout_s,
            connection_attempts=self.connection_attempts,
            read_timeout_s=self.read_timeout_s,
            keepalive_timeout_s=self.keepalive_timeout_s,
            completion_timeout_s=self.completion_timeout_s,
            region=_s3_region(self.domain) if self.kind == "s3" else "",
            auth_method="origin-access-identity" if self.access_identity else "none",
        )


def _s3_region(domain: str) -> str:
    """The Region in `bucket.s3.REGION.amazonaws.com`; us-east-1 where the name has none."""
    labels = domain.removesuffix(".amazonaws.com").split(".")
    return labels[-1] if len(labels) > 1 and labels[-1] != "s3" else "us-east-1"


def _access_control(item: Mapping[str, Any], where: str, known: References) -> AccessControl | None:
    control_id = text_of(item, "OriginAccessControlId", "", where)
    if not control_id:
        return None
    control = known.access_controls.get(control_id)
    if control is None:
        raise ConfigError(f"{where}.OriginAccessControlId", f"no origin access control has the id {control_id!r}")
    return compile_access_control(control, "OriginAccessControlConfig")


def _shield_region(shield: Mapping[str, Any], where: str) -> str:
    return required_text(shield, "OriginShieldRegion", where) if flag_of(shield, "Enabled", False, where) else ""


def compile_origin(item: Any, where: str, known: References) -> Origin:
    """One of a DistributionConfig's Origins; `where` it stands. Raises ConfigError."""
    if not isinstance(item, Mapping):
        raise ConfigError(where, "must be an object")
    custom = item.get("CustomOriginConfig")
    s3 = item.get("S3OriginConfig")
    if custom is not None and s3 is not None:
        raise ConfigError(where, "has both CustomOriginConfig and S3OriginConfig")
    path = text_of(item, "OriginPath", "", where)
    if path and (not path.startswith("/") or path.endswith("/")):
        raise ConfigError(f"{where}.OriginPath", "must begin with / and not end with /")
    domain = required_text(item, "DomainName", where).lower()
    if "/" in domain or ":" in domain or " " in domain:
        raise ConfigError(f"{where}.DomainName", "must be a host name without scheme, port or path")
    base = Origin(
        id=required_text(item, "Id", where),
        kind="s3" if custom is None else "custom",
        domain=domain,
        path=path,
        custom_headers=tuple(
            (required_text(header, "HeaderName", where), text_of(header, "HeaderValue", "", where))
            for header in list_of(item, "OriginCustomHeaders", where)
        ),
        connect_timeout_s=number_of(item, "ConnectionTimeout", 10, where, between=(1, 10)),
        connection_attempts=int(number_of(item, "ConnectionAttempts", 3, where, between=(1, 3))),
        read_timeout_s=number_of(s3 or {}, "OriginReadTimeout", 30, f"{where}.S3OriginConfig", between=(1, 120)),
        completion_timeout_s=number_of(item, "ResponseCompletionTimeout", 0, where, between=(0, 3600)) or None,
        access_control=_access_control(item, where, known),
        access_identity=text_of(s3, "OriginAccessIdentity", "", where) if isinstance(s3, Mapping) else "",
        shield_region=_shield_region(item.get("OriginShield") or {}, f"{where}.OriginShield"),
    )
    if custom is None:
        return base
    if not isinstance(custom, Mapping):
        raise ConfigError(f"{where}.CustomOriginConfig", "must be an object")
    inside = f"{where}.CustomOriginConfig"
    protocol = required_text(custom, "OriginProtocolPolicy", inside)
    if protocol not in ("http-only", "https-only", "match-viewer"):
        text = f"{protocol!r} is not http-only, https-only or match-viewer"
        raise ConfigError(f"{inside}.OriginProtocolPolicy", text)
    return replace(
        base,
        protocol=protocol,  # type: ignore[arg-type]
        http_port=int(number_of(custom, "HTTPPort", 80, inside, between=(1, 65535))),
        https_port=int(number_of(custom, "HTTPSPort", 443, inside, between=(1, 65535))),
        read_timeout_s=number_of(custom, "OriginReadTimeout", 30, inside, between=(1, 120)),
        keepalive_timeout_s=number_of(custom, "OriginKeepaliveTimeout", 5, inside, between=(1, 120)),
        ssl_protocols=tuple(texts_of(custom, "OriginSSLProtocols", inside)) or ("TLSv1.2",),
    )
