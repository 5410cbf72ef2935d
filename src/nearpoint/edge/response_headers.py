"""Response headers policies: which fields the edge puts into answers and which it takes out.

CloudFront Developer Guide, "Understand response headers policies"; Fetch standard, "CORS protocol". Fields are removed
first and added then. The cached answer stays as the origin gave it; a policy works on what viewers see.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nearpoint.edge.properties import ConfigError, flag_of, list_of, number_of, required_text, text_of, texts_of
from nearpoint.wire.message import Headers

Fields = list[tuple[str, str]]
ALL_METHODS = ("GET", "DELETE", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
SERVER = "CloudFront"
_CORS_PREFIX = "access-control-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """A field to add; without `override` the origin's own one stays."""

    name: str
    value: str
    override: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """The CORS section. `origins` are patterns for an Origin field; None: any origin."""

    origins: tuple[re.Pattern[str], ...] | None
    allow_headers: str
    allow_methods: str
    expose_headers: str
    credentials: bool
    max_age_s: int | None
    override: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseHeaders:
    """A policy, ready to apply. `timing_percent`: the share of answers that get Server-Timing; None: none."""

    cors: Cors | None = None
    added: tuple[Added, ...] = ()
    removed: frozenset[str] = frozenset()
    timing_percent: float | None = None

    @property
    def fixed(self) -> bool:
        """Whether it makes the same of an answer for every request."""
        return self.cors is None and self.timing_percent is None


def compile_response_headers(config: Mapping[str, Any]) -> ResponseHeaders:
    """Compile a ResponseHeadersPolicyConfig (AWS::CloudFront::ResponseHeadersPolicy). Raises ConfigError."""
    where = "ResponseHeadersPolicyConfig"
    cors = config.get("CorsConfig")
    timing = config.get("ServerTimingHeadersConfig")
    timing_percent = None
    if isinstance(timing, Mapping) and flag_of(timing, "Enabled", False, where):
        timing_percent = number_of(timing, "SamplingRate", 0, f"{where}.ServerTimingHeadersConfig", between=(0, 100))
    custom = tuple(
        Added(
            name=required_text(item, "Header", where),
            value=text_of(item, "Value", "", where),
            override=flag_of(item, "Override", False, where),
        )
        for item in list_of(config, "CustomHeadersConfig", where)
    )
    return ResponseHeaders(
        cors=_cors(cors, f"{where}.CorsConfig") if isinstance(cors, Mapping) else None,
        added=_security(config.get("SecurityHeadersConfig") or {}, f"{where}.SecurityHeadersConfig") + custom,
        removed=frozenset(
            required_text(item, "Header", where).lower() for item in list_of(config, "RemoveHeadersConfig", where)
        ),
        timing_percent=timing_percent,
    )


def _cors(config: Mapping[str, Any], where: str) -> Cors:
    origins = texts_of(config, "AccessControlAllowOrigins", where)
    methods = texts_of(config, "AccessControlAllowMethods", where)
    max_age_s = number_of(config, "AccessControlMaxAgeSec", -1, where, between=(-1, 2**31))
    return Cors(
        origins=None if "*" in origins else tuple(_origin_pattern(origin) for origin in origins),
        allow_headers=", ".join(texts_of(config, "AccessControlAllowHeaders", where)),
        allow_methods=", ".join(ALL_METHODS if "ALL" in methods else methods),
        expose_headers=", ".join(texts_of(config, "AccessControlExposeHeaders", where)),
        credentials=flag_of(config, "AccessControlAllowCredentials", False, where),
        max_age_s=None if max_age_s < 0 else int(max_age_s),
        override=flag_of(config, "OriginOverride", False, where),
    )


def _origin_pattern(origin: str) -> re.Pattern[str]:
    """`https://*.example.org`: the scheme may be left out, `*.` stands for any subdomain, `:*` for any port."""
    scheme, mark, rest = origin.partition("://")
    if not mark:
        scheme, rest = "", origin
    host, colon, port = rest.partition(":")
    below = host.startswith("*.")
    pattern = re.escape(scheme) if scheme else "https?"
    pattern += "://" + ("(?:[^./:]+[.])+" if below else "") + re.escape(host[2:] if below else host)
    if colon:
        pattern += "(?::[0-9]+)?" if port == "*" else ":" + re.escape(port)
    return re.compile(pattern, re.IGNORECASE)


def _security(config: Mapping[str, Any], where: str) -> tuple[Added, ...]:
    found: list[Added] = []

    def add(section: str, name: str, value: str) -> None:
        found.append(Added(name=name, value=value, override=flag_of(config[section], "Override", False, where)))

    if "StrictTransportSecurity" in config:
        sts = config["StrictTransportSecurity"]
        value = f"max-age={int(number_of(sts, 'AccessControlMaxAgeSec', None, where, between=(0, 2**31)))}"
        value += "; includeSubDomains" if flag_of(sts, "IncludeSubdomains", False, where) else ""
        value += "; preload" if flag_of(sts, "Preload", False, where) else ""
        add("StrictTransportSecurity", "Strict-Transport-Security", value)
    if "ContentTypeOptions" in config:
        add("ContentTypeOptions", "X-Content-Type-Options", "nosniff")
    for section, member, name in (
        ("FrameOptions", "FrameOption", "X-Frame-Options"),
        ("ReferrerPolicy", "ReferrerPolicy", "Referrer-Policy"),
        ("ContentSecurityPolicy", "ContentSecurityPolicy", "Content-Security-Policy"),
    ):
        if section in config:
            add(section, name, required_text(config[section], member, f"{where}.{section}"))
    if "XSSProtection" in config:
        xss = config["XSSProtection"]
        value = "1" if flag_of(xss, "Protection", False, where) else "0"
        if flag_of(xss, "ModeBlock", False, where):
            value += "; mode=block"
        elif text_of(xss, "ReportUri", "", where):
            value += f"; report={text_of(xss, 'ReportUri', '', where)}"
        add("XSSProtection", "X-XSS-Protection", value)
    return tuple(found)


def apply_response_headers(
    policy: ResponseHeaders, fields: Sequence[tuple[str, str]], *, method: str, request: Headers, date: str
) -> Fields:
    """The fields of an answer as the policy has them, Server-Timing aside.

    `request` are the viewer's fields; `date` is put in where the policy removes the origin's (HTTP-date).
    """
    kept = [item for item in fields if item[0].lower() not in policy.removed]
    if "date" in policy.removed:
        kept.append(("Date", date))
    if "server" in policy.removed:
        kept.append(("Server", SERVER))
    if policy.cors is not None:
        kept = _with_cors(policy.cors, kept, method, request)
    for added in policy.added:
        kept = _with(kept, added.name, added.value, override=added.override)
    return kept


def _with(fields: Fields, name: str, value: str, *, override: bool) -> Fields:
    lowered = name.lower()
    if any(have.lower() == lowered for have, _ in fields):
        if not override:
            return fields
        fields = [item for item in fields if item[0].lower() != lowered]
    return [*fields, (name, value)]


def _with_cors(cors: Cors, fields: Fields, method: str, request: Headers) -> Fields:
    if cors.origins is not None and not _varies_by_origin(fields):
        # Without it a browser's cache would give one origin's answer to another.
        fields = [*fields, ("Vary", "Origin")]
    origin = request.get("origin")
    if origin is None:
        return fields
    if cors.override:
        fields = [item for item in fields if not item[0].lower().startswith(_CORS_PREFIX)]
    if cors.origins is not None and not any(pattern.fullmatch(origin) for pattern in cors.origins):
        return fields
    wanted = [("Access-Control-Allow-Origin", "*" if cors.origins is None else origin)]
    if cors.credentials:
        wanted.append(("Access-Control-Allow-Credentials", "true"))
    if method == "OPTIONS" and "access-control-request-method" in request:
        wanted.append(("Access-Control-Allow-Methods", cors.allow_methods))
        wanted.append(("Access-Control-Allow-Headers", cors.allow_headers))
        if cors.max_age_s is not None:
            wanted.append(("Access-Control-Max-Age", str(cors.max_age_s)))
    if cors.expose_headers:
        wanted.append(("Access-Control-Expose-Headers", cors.expose_headers))
    for name, value in wanted:
        fields = _with(fields, name, value, override=False)
    return fields


def _varies_by_origin(fields: Fields) -> bool:
    return any(
        token.strip().lower() in ("origin", "*")
        for name, value in fields
        if name.lower() == "vary"
        for token in value.split(",")
    )


def wants_timing(policy: ResponseHeaders, request: Headers, percent: float) -> bool:
    """Whether this answer gets Server-Timing. `percent` is a number drawn from [0, 100)."""
    if policy.timing_percent is None:
        return False
    asked = any("server-timing" in value.lower() for value in request.get_all("pragma"))
    return asked or percent < policy.timing_percent


def server_timing(*, result: str, pop: str, request_id: str, origin_ms: int | None, edge_ms: int) -> str:
    """The edge's metrics. `result` is X-Cache's first word; `origin_ms` to the first byte, None: not asked."""
    parts = []
    if origin_ms is not None and result != "RefreshHit":
        parts += ['cdn-upstream-layer;desc="EDGE"', f"cdn-upstream-fbl;dur={origin_ms}"]
    if result == "RefreshHit":
        parts.append("cdn-cache-refresh")
    else:
        parts.append("cdn-cache-hit" if origin_ms is None else "cdn-cache-miss")
    parts += [f'cdn-pop;desc="{pop}"', f'cdn-rid;desc="{request_id}"']
    if origin_ms is None:
        parts.append('cdn-hit-layer;desc="EDGE"')
    parts.append(f"cdn-downstream-fbl;dur={edge_ms}")
    return ",".join(parts)


def with_server_timing(fields: Fields, metrics: str, *, from_origin: bool) -> Fields:
    """The fields with one Server-Timing. On a miss the origin's own metrics stay, before the edge's."""
    theirs = [value for name, value in fields if name.lower() == "server-timing"]
    kept = [item for item in fields if item[0].lower() != "server-timing"]
    return [*kept, ("Server-Timing", ", ".join([*theirs, metrics] if from_origin else [metrics]))]


def check_policy(config: Mapping[str, Any] | None, where: str, policy_id: str) -> Mapping[str, Any]:
    """The configuration, if it is a response headers policy's. Raises ConfigError."""
    sections = ("CorsConfig", "SecurityHeadersConfig", "ServerTimingHeadersConfig", "CustomHeadersConfig",
                "RemoveHeadersConfig")  # fmt: skip
    if config is None or not any(section in config for section in sections):
        text = f"no response headers policy has the id {policy_id!r}"
        raise ConfigError(f"{where}.ResponseHeadersPolicyId", text)
    return config
