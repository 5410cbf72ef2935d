"""A distribution's configuration from CloudFormation's shape to the CloudFront API's. Pure.

The API's shapes come from botocore's model: a list is `{Quantity, Items}` there, and some names differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.awsproto.model import Member, Shape
from nearpoint.state.resources import Distribution

# CloudFormation's name of a member where it is not the API's own
NAMES = {
    "ACMCertificateArn": "AcmCertificateArn",
    "CustomHeaders": "OriginCustomHeaders",
    "IAMCertificateId": "IamCertificateId",
    "IsIPV6Enabled": "IPV6Enabled",
    "OriginSslProtocols": "OriginSSLProtocols",
    "SSLSupportMethod": "SslSupportMethod",
}
# What CloudFront answers where the template said nothing (CloudFront API Reference, DistributionConfig).
_DISTRIBUTION_DEFAULTS: dict[str, Any] = {
    "Aliases": [],
    "CacheBehaviors": [],
    "Comment": "",
    "CustomErrorResponses": [],
    "DefaultRootObject": "",
    "HttpVersion": "http2",
    "IPV6Enabled": False,
    "OriginGroups": {"Quantity": 0},
    "PriceClass": "PriceClass_All",
    "Restrictions": {"GeoRestriction": {"RestrictionType": "none", "Locations": []}},
    "Staging": False,
    "ViewerCertificate": {
        "CloudFrontDefaultCertificate": True,
        "MinimumProtocolVersion": "TLSv1",
        "CertificateSource": "cloudfront",
    },
    "WebACLId": "",
}
_CONFIG_DEFAULTS: dict[str, Any] = {"Logging": {"Enabled": False, "IncludeCookies": False, "Bucket": "", "Prefix": ""}}
_BEHAVIOR_DEFAULTS: dict[str, Any] = {
    "AllowedMethods": ["HEAD", "GET"],
    "CachedMethods": ["HEAD", "GET"],
    "Compress": False,
    "FieldLevelEncryptionId": "",
    "FunctionAssociations": [],
    "LambdaFunctionAssociations": [],
    "SmoothStreaming": False,
    "TrustedKeyGroups": [],
    "TrustedSigners": [],
}
_TTL_DEFAULTS: dict[str, Any] = {"MinTTL": 0, "DefaultTTL": 86400, "MaxTTL": 31536000}
_FORWARDED_DEFAULTS: dict[str, Any] = {"Cookies": {"Forward": "none"}, "Headers": [], "QueryStringCacheKeys": []}
_ORIGIN_DEFAULTS: dict[str, Any] = {
    "ConnectionAttempts": 3,
    "ConnectionTimeout": 10,
    "OriginAccessControlId": "",
    "OriginCustomHeaders": [],
    "OriginPath": "",
    "OriginShield": {"Enabled": False},
}
_CUSTOM_ORIGIN_DEFAULTS: dict[str, Any] = {
    "HTTPPort": 80,
    "HTTPSPort": 443,
    "OriginKeepaliveTimeout": 5,
    "OriginReadTimeout": 30,
    "OriginSSLProtocols": ["TLSv1", "SSLv3"],
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CacheBehavior": _BEHAVIOR_DEFAULTS,
    "CustomOriginConfig": _CUSTOM_ORIGIN_DEFAULTS,
    "DefaultCacheBehavior": _BEHAVIOR_DEFAULTS,
    "DistributionConfig": {**_DISTRIBUTION_DEFAULTS, **_CONFIG_DEFAULTS},
    "DistributionSummary": _DISTRIBUTION_DEFAULTS,
    "ForwardedValues": _FORWARDED_DEFAULTS,
    "LambdaFunctionAssociation": {"IncludeBody": False},
    "LoggingConfig": {"Enabled": True, "IncludeCookies": False, "Bucket": "", "Prefix": ""},
    "Origin": _ORIGIN_DEFAULTS,
    "S3OriginConfig": {"OriginAccessIdentity": ""},
}


def api_value(member: Member, value: Any) -> Any:
    """A value of CloudFormation's shape as the API has it."""
    shape = member.shape
    if member.type == "list":
        assert shape.element is not None
        return [api_value(shape.element, item) for item in value]
    if member.type != "structure":
        return value
    if isinstance(value, list):
        return _listed(shape, value)
    return _structure(shape, value)


def _listed(shape: Shape, items: list[Any]) -> dict[str, Any]:
    """`{Quantity, Items}` of a plain list, with `Enabled` where the shape has it."""
    listed: dict[str, Any] = {"Quantity": len(items)}
    if "Enabled" in shape.members:
        listed["Enabled"] = bool(items)
    if items:
        listed["Items"] = api_value(shape.members["Items"], items)
    return listed


def _structure(shape: Shape, value: Mapping[str, Any]) -> dict[str, Any]:
    source = {**_DEFAULTS.get(shape.name, {}), **value}
    if "Compress" in shape.members and "CachePolicyId" not in source:
        source = {**_TTL_DEFAULTS, **source}
    if shape.name == "GeoRestriction":
        return {"RestrictionType": source["RestrictionType"], **_listed(shape, list(source.get("Locations", ())))}
    if "Quantity" in shape.members and "Quantity" not in source:
        source["Quantity"] = len(source.get("Items", ()))
    found: dict[str, Any] = {}
    for name, member in shape.members.items():
        item = source.get(NAMES.get(name, name))
        if item is not None:
            found[name] = api_value(member, item)
    if "AllowedMethods" in found:
        # The API keeps the cached methods inside the allowed ones.
        cached = shape.members["AllowedMethods"].shape.members["CachedMethods"]
        found["AllowedMethods"]["CachedMethods"] = api_value(cached, source["CachedMethods"])
    return found


def config_of(distribution: Distribution, shape: Member) -> dict[str, Any]:
    """The `DistributionConfig` of a distribution; `shape` is the model's."""
    return api_value(shape, {**distribution.config, "CallerReference": caller_reference(distribution)})  # type: ignore[no-any-return]


def caller_reference(distribution: Distribution) -> str:
    """CloudFormation gives none; the API requires one, and it never changes."""
    return distribution.caller_reference or distribution.distribution_id


def summary_of(distribution: Distribution, shape: Member) -> dict[str, Any]:
    """The `DistributionSummary` of a distribution; `shape` is the model's."""
    summary: dict[str, Any] = api_value(shape, distribution.config)
    return {**summary, **identity_of(distribution), "ETag": distribution.etag}


def identity_of(distribution: Distribution) -> dict[str, Any]:
    """What a distribution and its summary have alike besides the configuration."""
    return {
        "Id": distribution.distribution_id,
        "ARN": distribution.arn,
        "Status": distribution.status,
        "LastModifiedTime": distribution.last_modified,
        "DomainName": distribution.domain,
    }
