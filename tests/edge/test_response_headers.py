from __future__ import annotations

from typing import Any

import pytest

from nearpoint.edge.managed import MANAGED_RESPONSE_HEADERS_POLICIES, SECURITY_HEADERS, SIMPLE_CORS
from nearpoint.edge.properties import ConfigError
from nearpoint.edge.response_headers import (
    apply_response_headers,
    compile_response_headers,
    server_timing,
    wants_timing,
    with_server_timing,
)
from nearpoint.wire.message import Headers

ORIGIN = [("Content-Type", "text/html"), ("Server", "origin"), ("Date", "then")]
DATE = "Mon, 23 Nov 2026 06:00:00 GMT"


def applied(config: dict[str, Any], fields: Any = ORIGIN, method: str = "GET", **request: str) -> list[tuple[str, str]]:
    headers = Headers([(name.replace("_", "-"), value) for name, value in request.items()])
    policy = compile_response_headers({"Name": "p", **config})
    return apply_response_headers(policy, fields, method=method, request=headers, date=DATE)


def cors(origins: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    config = {
        "AccessControlAllowOrigins": {"Items": origins or ["https://a.example"]},
        "AccessControlAllowHeaders": {"Items": ["X-A", "X-B"]},
        "AccessControlAllowMethods": {"Items": ["GET", "PUT"]},
        "AccessControlExposeHeaders": {"Items": ["X-E"]},
        "AccessControlAllowCredentials": True,
        "AccessControlMaxAgeSec": 600,
        "OriginOverride": False,
    }
    return {"CorsConfig": config | changes}


def added(fields: list[tuple[str, str]]) -> dict[str, str]:
    return {name: value for name, value in fields if (name, value) not in ORIGIN}


ALLOW = "Access-Control-Allow-Origin"


def test_cors_answers_requests_with_an_origin() -> None:
    assert added(applied(cors())) == {"Vary": "Origin"}
    simple = {ALLOW: "https://a.example", "Access-Control-Allow-Credentials": "true", "Vary": "Origin"} | {
        "Access-Control-Expose-Headers": "X-E"
    }
    assert added(applied(cors(), Origin="https://a.example")) == simple
    assert added(applied(cors(), method="OPTIONS", Origin="https://a.example")) == simple
    preflight = applied(cors(), method="OPTIONS", Origin="https://a.example", Access_Control_Request_Method="PUT")
    assert added(preflight) == simple | {
        "Access-Control-Allow-Methods": "GET, PUT",
        "Access-Control-Allow-Headers": "X-A, X-B",
        "Access-Control-Max-Age": "600",
    }
    assert added(applied(cors(), Origin="https://b.example")) == {"Vary": "Origin"}
    every = applied(cors(AccessControlAllowMethods={"Items": ["ALL"]}), method="OPTIONS", Origin="https://a.example",
                    Access_Control_Request_Method="PUT")  # fmt: skip
    assert "DELETE" in added(every)["Access-Control-Allow-Methods"]


def test_any_origin_is_a_star_and_varies_nothing() -> None:
    config = MANAGED_RESPONSE_HEADERS_POLICIES[SIMPLE_CORS]
    assert added(applied(dict(config), Origin="https://x.example")) == {ALLOW: "*"}
    assert applied(dict(config)) == ORIGIN


@pytest.mark.parametrize(
    ("allowed", "origin", "answered"),
    [
        ("https://a.example", "https://a.example", True),
        ("https://a.example", "https://A.EXAMPLE", True),
        ("https://a.example", "http://a.example", False),
        ("https://a.example", "https://a.example.evil", False),
        ("https://a.example", "https://a.example:444", False),
        ("https://a.example", "https://aXexample", False),
        ("https://a.example", "null", False),
        ("a.example", "http://a.example", True),
        ("a.example", "https://a.example", True),
        ("*.example", "https://a.example", True),
        ("*.example", "https://a.b.example", True),
        ("*.example", "https://example", False),
        ("*.example", "https://evil/a.example", False),
        ("*.example", "https://user:evil.example", False),
        ("http://*.example.org", "http://a.example.org", True),
        ("http://*.example.org", "https://a.example.org", False),
        ("http://a.example:8080", "http://a.example:8080", True),
        ("http://a.example:8080", "http://a.example:80800", False),
        ("http://a.example:*", "http://a.example:1", True),
        ("http://a.example:*", "http://a.example", True),
    ],
)
def test_origins(allowed: str, origin: str, answered: bool) -> None:
    assert (ALLOW in added(applied(cors([allowed]), Origin=origin))) is answered


def test_the_origins_own_cors_headers() -> None:
    theirs = [*ORIGIN, (ALLOW.lower(), "https://other"), ("Vary", "Accept, Origin")]
    kept = applied(cors(), theirs, Origin="https://a.example")
    assert (ALLOW.lower(), "https://other") in kept
    assert ALLOW not in dict(kept)
    assert ("Access-Control-Allow-Credentials", "true") in kept
    assert [value for name, value in kept if name == "Vary"] == ["Accept, Origin"]
    replaced = applied(cors(OriginOverride=True), theirs, Origin="https://a.example")
    assert dict(replaced)[ALLOW] == "https://a.example"
    assert ALLOW.lower() not in dict(replaced)
    assert not [each for each in applied(cors(OriginOverride=True), theirs, Origin="https://b") if "ccess" in each[0]]


def test_security_headers() -> None:
    managed = dict(MANAGED_RESPONSE_HEADERS_POLICIES[SECURITY_HEADERS])
    assert added(applied(managed)) == {
        "Strict-Transport-Security": "max-age=31536000",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "SAMEORIGIN",
        "Referrer-Policy": "strict-origin-when-cross-origin",
        "X-XSS-Protection": "1; mode=block",
    }
    theirs = [("x-frame-options", "DENY"), ("x-content-type-options", "sniff")]
    fields = applied(managed, theirs)
    assert ("x-frame-options", "DENY") in fields
    assert "X-Frame-Options" not in dict(fields)
    assert [value for name, value in fields if name.lower() == "x-content-type-options"] == ["nosniff"]
    other = {
        "StrictTransportSecurity": {
            "Override": True, "AccessControlMaxAgeSec": "5", "IncludeSubdomains": True, "Preload": "true"
        },
        "XSSProtection": {"Override": True, "Protection": True, "ReportUri": "/r"},
        "ContentSecurityPolicy": {"Override": True, "ContentSecurityPolicy": "default-src 'self'"},
    }  # fmt: skip
    assert added(applied({"SecurityHeadersConfig": other})) == {
        "Strict-Transport-Security": "max-age=5; includeSubDomains; preload",
        "X-XSS-Protection": "1; report=/r",
        "Content-Security-Policy": "default-src 'self'",
    }
    off = {"XSSProtection": {"Override": True, "Protection": False}}
    assert added(applied({"SecurityHeadersConfig": off})) == {"X-XSS-Protection": "0"}


def test_custom_and_removed_headers() -> None:
    custom = {
        "Items": [
            {"Header": "X-A", "Value": "a", "Override": True},
            {"Header": "X-B", "Value": "", "Override": False},
            {"Header": "Server", "Value": "mine", "Override": True},
        ]
    }
    theirs = [("x-a", "1"), ("X-A", "2"), ("x-b", "3"), ("Server", "origin"), ("X-Gone", "1"), ("x-gone", "2")]
    removed = {"Items": [{"Header": "X-GONE"}, {"Header": "X-B"}, {"Header": "Date"}]}
    fields = applied({"CustomHeadersConfig": custom, "RemoveHeadersConfig": removed}, [*theirs, ("Date", "then")])
    assert sorted(fields) == [("Date", DATE), ("Server", "mine"), ("X-A", "a"), ("X-B", "")]
    fields = applied({"RemoveHeadersConfig": {"Items": [{"Header": "server"}]}})
    assert fields == [("Content-Type", "text/html"), ("Date", "then"), ("Server", "CloudFront")]


def test_server_timing() -> None:
    def policy(rate: float) -> Any:
        return compile_response_headers({"ServerTimingHeadersConfig": {"Enabled": True, "SamplingRate": rate}})

    nothing, asked = Headers(), Headers([("Pragma", "server-timing")])
    assert wants_timing(policy(100), nothing, 99.99)
    assert wants_timing(policy(0.5), nothing, 0.49)
    assert not wants_timing(policy(0.5), nothing, 0.5)
    assert not wants_timing(policy(0), nothing, 0.0)
    assert wants_timing(policy(0), asked, 50)
    assert not wants_timing(compile_response_headers({"ServerTimingHeadersConfig": {"Enabled": False}}), asked, 0)

    hit = server_timing(result="Hit", pop="FRA50", request_id="r==", origin_ms=None, edge_ms=1)
    assert hit == (
        'cdn-cache-hit,cdn-pop;desc="FRA50",cdn-rid;desc="r==",cdn-hit-layer;desc="EDGE",cdn-downstream-fbl;dur=1'
    )
    miss = server_timing(result="Miss", pop="FRA50", request_id="r==", origin_ms=20, edge_ms=21)
    assert miss.startswith('cdn-upstream-layer;desc="EDGE",cdn-upstream-fbl;dur=20,cdn-cache-miss,')
    assert "cdn-cache-refresh" in server_timing(result="RefreshHit", pop="F", request_id="r", origin_ms=1, edge_ms=1)
    theirs = [("server-timing", "db;dur=5"), ("A", "b")]
    assert with_server_timing(theirs, "x", from_origin=True) == [("A", "b"), ("Server-Timing", "db;dur=5, x")]
    assert with_server_timing(theirs, "x", from_origin=False) == [("A", "b"), ("Server-Timing", "x")]


def test_what_is_the_same_for_every_request() -> None:
    assert compile_response_headers(MANAGED_RESPONSE_HEADERS_POLICIES[SECURITY_HEADERS]).fixed
    assert not compile_response_headers(cors()).fixed
    timing = {"ServerTimingHeadersConfig": {"Enabled": True, "SamplingRate": 1}}
    assert not compile_response_headers(timing).fixed


@pytest.mark.parametrize(
    "config",
    [
        {"CustomHeadersConfig": {"Items": [{"Header": "X-A", "Value": "a\r\nSet-Cookie: b", "Override": True}]}},
        {"CustomHeadersConfig": {"Items": [{"Value": "a"}]}},
        {"SecurityHeadersConfig": {"FrameOptions": {"Override": True}}},
        {"ServerTimingHeadersConfig": {"Enabled": True, "SamplingRate": 500}},
    ],
)
def test_configurations_that_cannot_be(config: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        compile_response_headers(config)
