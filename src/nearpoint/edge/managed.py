"""The policies that AWS manages, by id (CloudFront Developer Guide, "Use managed cache policies" and its sisters)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CACHING_OPTIMIZED = "658327ea-f89d-4fab-a63d-7e88639e58f6"
CACHING_OPTIMIZED_UNCOMPRESSED = "b2884449-e4de-46a7-ac36-70bc7f1ddd6d"
CACHING_DISABLED = "4135ea2d-6df8-44a3-9df3-4b5a84be39ad"
ALL_VIEWER = "216adef6-5c7f-47e4-b989-5492eafa07d3"
ALL_VIEWER_EXCEPT_HOST = "b689b0a8-53d0-40ab-baf2-68738e2966ac"
CORS_S3_ORIGIN = "88a5eaf4-2fd4-4709-b370-b4c650ea3fcf"


def _cache(name: str, ttls_s: tuple[int, int, int], *, compressed: bool) -> Mapping[str, Any]:
    return {
        "Name": name,
        "MinTTL": ttls_s[0],
        "DefaultTTL": ttls_s[1],
        "MaxTTL": ttls_s[2],
        "ParametersInCacheKeyAndForwardedToOrigin": {
            "EnableAcceptEncodingGzip": compressed,
            "EnableAcceptEncodingBrotli": compressed,
            "HeadersConfig": {"HeaderBehavior": "none"},
            "CookiesConfig": {"CookieBehavior": "none"},
            "QueryStringsConfig": {"QueryStringBehavior": "none"},
        },
    }


def _request(name: str, headers: Mapping[str, Any], cookies: str, queries: str) -> Mapping[str, Any]:
    return {
        "Name": name,
        "HeadersConfig": headers,
        "CookiesConfig": {"CookieBehavior": cookies},
        "QueryStringsConfig": {"QueryStringBehavior": queries},
    }


MANAGED_POLICIES: Mapping[str, Mapping[str, Any]] = {
    CACHING_OPTIMIZED: _cache("Managed-CachingOptimized", (1, 86_400, 31_536_000), compressed=True),
    CACHING_OPTIMIZED_UNCOMPRESSED: _cache(
        "Managed-CachingOptimizedForUncompressedObjects", (1, 86_400, 31_536_000), compressed=False
    ),
    CACHING_DISABLED: _cache("Managed-CachingDisabled", (0, 0, 0), compressed=False),
    ALL_VIEWER: _request("Managed-AllViewer", {"HeaderBehavior": "allViewer"}, "all", "all"),
    ALL_VIEWER_EXCEPT_HOST: _request(
        "Managed-AllViewerExceptHostHeader", {"HeaderBehavior": "allExcept", "Headers": ["host"]}, "all", "all"
    ),
    CORS_S3_ORIGIN: _request(
        "Managed-CORS-S3Origin",
        {
            "HeaderBehavior": "whitelist",
            "Headers": ["origin", "access-control-request-headers", "access-control-request-method"],
        },
        "none",
        "none",
    ),
}
