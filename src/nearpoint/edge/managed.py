"""The policies that AWS manages, by id (CloudFront Developer Guide, "Use managed cache policies" and its sisters).

Each has the shape that CloudFormation gives its kind, as if the account had made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CACHING_OPTIMIZED = "658327ea-f89d-4fab-a63d-7e88639e58f6"
CACHING_OPTIMIZED_UNCOMPRESSED = "b2884449-e4de-46a7-ac36-70bc7f1ddd6d"
CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
ALL_VIEWER = "216adef6-5c7f-47e4-b989-5492eafa07d3"
ALL_VIEWER_AND_CLOUDFRONT = "33f36d7e-f396-46d9-90e0-52428a34d9dc"
ALL_VIEWER_EXCEPT_HOST = "b689b0a8-53d0-40ab-baf2-68738e2966ac"
CORS_S3_ORIGIN = "88a5eaf4-2fd4-4709-b370-b4c650ea3fcf"
SECURITY_HEADERS = "67f7725c-6f97-4210-82d7-5512b31e9d03"
SIMPLE_CORS = "60669652-455b-4ae9-85a4-c4c02393f86c"
CORS_WITH_PREFLIGHT = "5cc3b908-e619-4b99-88e5-2cf7f45965bd"
CORS_AND_SECURITY_HEADERS = "e61eb60c-9c35-4d20-a928-2b84e02af89c"
CORS_WITH_PREFLIGHT_AND_SECURITY_HEADERS = "eaab4381-ed33-4a86-88ca-d9558dc6cd63"

_YEAR_S = 31_536_000
_OVERRIDE_METHODS = ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"]


def _headers(names: Sequence[str]) -> Mapping[str, Any]:
    return {"HeaderBehavior": "whitelist", "Headers": list(names)} if names else {"HeaderBehavior": "none"}


def _queries(queries: str | Sequence[str]) -> Mapping[str, Any]:
    if isinstance(queries, str):
        return {"QueryStringBehavior": queries}
    return {"QueryStringBehavior": "whitelist", "QueryStrings": list(queries)}


def _cache(
    name: str,
    ttls_s: tuple[int, int, int],
    *,
    compressed: bool,
    headers: Sequence[str] = (),
    cookies: str = "none",
    queries: str | Sequence[str] = "none",
) -> Mapping[str, Any]:
    """`ttls_s`: least, default, most."""
    return {
        "Name": name,
        "MinTTL": ttls_s[0],
        "DefaultTTL": ttls_s[1],
        "MaxTTL": ttls_s[2],
        "ParametersInCacheKeyAndForwardedToOrigin": {
            "EnableAcceptEncodingGzip": compressed,
            "EnableAcceptEncodingBrotli": compressed,
            "HeadersConfig": _headers(headers),
            "CookiesConfig": {"CookieBehavior": cookies},
            "QueryStringsConfig": _queries(queries),
        },
    }


def _request(name: str, headers: Mapping[str, Any], cookies: str, queries: str) -> Mapping[str, Any]:
    return {
        "Name": name,
        "HeadersConfig": headers,
        "CookiesConfig": {"CookieBehavior": cookies},
        "QueryStringsConfig": {"QueryStringBehavior": queries},
    }


MANAGED_CACHE_POLICIES: Mapping[str, Mapping[str, Any]] = {
    CACHING_OPTIMIZED: _cache("Managed-CachingOptimized", (1, 86_400, _YEAR_S), compressed=True),
    CACHING_OPTIMIZED_UNCOMPRESSED: _cache(
        "Managed-CachingOptimizedForUncompressedObjects", (1, 86_400, _YEAR_S), compressed=False
    ),
    CACHING_DISABLED: _cache("Managed-CachingDisabled", (0, 0, 0), compressed=False),
    "08627262-05a9-4f76-9ded-b50ca2e3a84f": _cache(
        "Managed-Elemental-MediaPackage",
        (0, 86_400, _YEAR_S),
        compressed=True,
        headers=["Origin"],
        queries=["aws.manifestfilter", "start", "end", "m"],
    ),
    "2e54312d-136d-493c-8eb9-b001f22f67d2": _cache(
        "Managed-Amplify",
        (2, 2, 600),
        compressed=True,
        headers=["Authorization", "CloudFront-Viewer-Country", "Host"],
        cookies="all",
        queries="all",
    ),
    "83da9c7e-98b4-4e11-a168-04f0df8e2c65": _cache(
        "Managed-UseOriginCacheControlHeaders",
        (0, 0, _YEAR_S),
        compressed=True,
        headers=["Host", "Origin", *_OVERRIDE_METHODS],
        cookies="all",
    ),
    "4cc15a8a-d715-48a4-82b8-cc0b614638fe": _cache(
        "Managed-UseOriginCacheControlHeaders-QueryStrings",
        (0, 0, _YEAR_S),
        compressed=True,
        headers=["Host", "Origin", *_OVERRIDE_METHODS],
        cookies="all",
        queries="all",
    ),
}

# Origin request policies that keep these parameters from S3 (Developer Guide, "Use managed origin request policies").
KEPT_FROM_S3 = frozenset({"response-content-type", "response-content-disposition", "response-content-encoding"})
_MEDIA_TAILOR = "775133bc-15f2-49f9-abea-afb2e0bf67d2"
KEEPING_FROM_S3 = frozenset({ALL_VIEWER, ALL_VIEWER_AND_CLOUDFRONT, ALL_VIEWER_EXCEPT_HOST, _MEDIA_TAILOR})

_CLOUDFRONT_FIELDS = [
    "CloudFront-Forwarded-Proto",
    "CloudFront-Is-Android-Viewer",
    "CloudFront-Is-Desktop-Viewer",
    "CloudFront-Is-IOS-Viewer",
    "CloudFront-Is-Mobile-Viewer",
    "CloudFront-Is-SmartTV-Viewer",
    "CloudFront-Is-Tablet-Viewer",
    "CloudFront-Viewer-Address",
    "CloudFront-Viewer-ASN",
    "CloudFront-Viewer-City",
    "CloudFront-Viewer-Country",
    "CloudFront-Viewer-Country-Name",
    "CloudFront-Viewer-Country-Region",
    "CloudFront-Viewer-Country-Region-Name",
    "CloudFront-Viewer-Http-Version",
    "CloudFront-Viewer-Latitude",
    "CloudFront-Viewer-Longitude",
    "CloudFront-Viewer-Metro-Code",
    "CloudFront-Viewer-Postal-Code",
    "CloudFront-Viewer-Time-Zone",
    "CloudFront-Viewer-TLS",
]
_PREFLIGHT_FIELDS = ["Origin", "Access-Control-Request-Headers", "Access-Control-Request-Method"]

MANAGED_ORIGIN_REQUEST_POLICIES: Mapping[str, Mapping[str, Any]] = {
    ALL_VIEWER: _request("Managed-AllViewer", {"HeaderBehavior": "allViewer"}, "all", "all"),
    ALL_VIEWER_EXCEPT_HOST: _request(
        "Managed-AllViewerExceptHostHeader", {"HeaderBehavior": "allExcept", "Headers": ["host"]}, "all", "all"
    ),
    CORS_S3_ORIGIN: _request("Managed-CORS-S3Origin", _headers(_PREFLIGHT_FIELDS), "none", "none"),
    "59781a5b-3903-41f3-afcb-af62929ccde1": _request("Managed-CORS-CustomOrigin", _headers(["Origin"]), "none", "none"),
    "acba4595-bd28-49b8-b9fe-13317c0390fa": _request(
        "Managed-UserAgentRefererHeaders", _headers(["User-Agent", "Referer"]), "none", "none"
    ),
    _MEDIA_TAILOR: _request(
        "Managed-Elemental-MediaTailor-PersonalizedManifests",
        _headers([*_PREFLIGHT_FIELDS, "User-Agent", "X-Forwarded-For"]),
        "none",
        "all",
    ),
    ALL_VIEWER_AND_CLOUDFRONT: _request(
        "Managed-AllViewerAndCloudFrontHeaders-2022-06",
        {"HeaderBehavior": "allViewerAndWhitelistCloudFront", "Headers": _CLOUDFRONT_FIELDS},
        "all",
        "all",
    ),
    "bf0718e1-ba1e-49d1-88b1-f726733018ae": _request("Managed-HostHeaderOnly", _headers(["Host"]), "none", "none"),
}

_SECURITY: Mapping[str, Any] = {
    "SecurityHeadersConfig": {
        "XSSProtection": {"Override": False, "Protection": True, "ModeBlock": True},
        "FrameOptions": {"Override": False, "FrameOption": "SAMEORIGIN"},
        "ReferrerPolicy": {"Override": False, "ReferrerPolicy": "strict-origin-when-cross-origin"},
        "ContentTypeOptions": {"Override": True},
        "StrictTransportSecurity": {"Override": False, "AccessControlMaxAgeSec": _YEAR_S},
    }
}


def _cors(methods: Sequence[str], exposed: Sequence[str] = ()) -> Mapping[str, Any]:
    cors: dict[str, Any] = {
        "AccessControlAllowOrigins": {"Items": ["*"]},
        "AccessControlAllowHeaders": {"Items": ["*"]},
        "AccessControlAllowMethods": {"Items": list(methods)},
        "AccessControlAllowCredentials": False,
        "OriginOverride": False,
    }
    if exposed:
        cors["AccessControlExposeHeaders"] = {"Items": list(exposed)}
    return {"CorsConfig": cors}


_SIMPLE = _cors(["GET", "HEAD"])
_PREFLIGHT = _cors(["GET", "DELETE", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"], ["*"])

MANAGED_RESPONSE_HEADERS_POLICIES: Mapping[str, Mapping[str, Any]] = {
    SECURITY_HEADERS: {"Name": "Managed-SecurityHeadersPolicy", **_SECURITY},
    SIMPLE_CORS: {"Name": "Managed-SimpleCORS", **_SIMPLE},
    CORS_WITH_PREFLIGHT: {"Name": "Managed-CORS-With-Preflight", **_PREFLIGHT},
    CORS_AND_SECURITY_HEADERS: {"Name": "Managed-CORS-and-SecurityHeadersPolicy", **_SIMPLE, **_SECURITY},
    CORS_WITH_PREFLIGHT_AND_SECURITY_HEADERS: {
        "Name": "Managed-CORS-with-preflight-and-SecurityHeadersPolicy",
        **_PREFLIGHT,
        **_SECURITY,
    },
}

MANAGED_POLICIES: Mapping[str, Mapping[str, Any]] = {
    **MANAGED_CACHE_POLICIES,
    **MANAGED_ORIGIN_REQUEST_POLICIES,
    **MANAGED_RESPONSE_HEADERS_POLICIES,
}
