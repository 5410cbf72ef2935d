"""What a CloudFront distribution's configuration may say, in CloudFormation's shape.

Shape: CloudFormation's `AWS::CloudFront::Distribution DistributionConfig`; rules and codes: CloudFront API Reference,
CreateDistribution; limits: CloudFront quotas of 2026.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from nearpoint.awsproto.errors import AwsError
from nearpoint.edge.log_target import log_bucket
from nearpoint.stack.schema import Fields, Flag, Items, PropertyError, Schema, Text, Whole
from nearpoint.stack.services.distribution_codes import code_of

BEHAVIORS_MAX = 75
ORIGINS_MAX = 100
EVENT_TYPES = ("viewer-request", "origin-request", "origin-response", "viewer-response")
METHOD_SETS = (
    {"GET", "HEAD"},
    {"GET", "HEAD", "OPTIONS"},
    {"GET", "HEAD", "OPTIONS", "PUT", "POST", "PATCH", "DELETE"},
)
ERROR_CODES = (400, 403, 404, 405, 414, 416, 500, 501, 502, 503, 504)
# The names of buckets and access points that a request can be signed for (Developer Guide, "Restrict access to an
# Amazon S3 origin" and its sister for Multi-Region Access Points).
_S3_DOMAIN = re.compile(
    r"[a-z0-9][a-z0-9.-]*\.s3[.-](?:dualstack\.)?(?:[a-z]{2}(?:-[a-z]+)+-\d{1,2}\.)?amazonaws\.com|"
    r"[a-z][a-z0-9]*(?:\.mrap)?\.accesspoint\.s3-global\.amazonaws\.com"
)
_ID = Text(length_min=1, length_max=128)
_PORT = Whole(80, 65535)
_SECONDS = Whole(0, 2**31)
_HEADER_VALUE = r"[\x20-\x7e\x80-\xff]*"

_FORWARDED_VALUES = Fields(
    {
        "QueryString": Flag(),
        "QueryStringCacheKeys": Items(Text(length_min=1, length_max=128), count_max=10),
        "Headers": Items(Text(pattern=r"\*|[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}"), count_max=25),
        "Cookies": Fields(
            {
                "Forward": Text(("none", "whitelist", "all")),
                "WhitelistedNames": Items(Text(length_min=1, length_max=512), count_max=50),
            },
            ("Forward",),
        ),
    },
    ("QueryString",),
)
_BEHAVIOR: dict[str, Schema] = {
    "TargetOriginId": _ID,
    "ViewerProtocolPolicy": Text(("allow-all", "https-only", "redirect-to-https")),
    "AllowedMethods": Items(Text(length_max=16)),
    "CachedMethods": Items(Text(length_max=16)),
    "Compress": Flag(),
    "CachePolicyId": _ID,
    "OriginRequestPolicyId": _ID,
    "ResponseHeadersPolicyId": _ID,
    "TrustedKeyGroups": Items(_ID, count_max=4),
    "TrustedSigners": Items(Text(pattern=r"self|[0-9]{12}"), count_max=5),
    "ForwardedValues": _FORWARDED_VALUES,
    "MinTTL": _SECONDS,
    "DefaultTTL": _SECONDS,
    "MaxTTL": _SECONDS,
    "LambdaFunctionAssociations": Items(
        Fields(
            {"EventType": Text(EVENT_TYPES), "IncludeBody": Flag(), "LambdaFunctionARN": Text(length_max=512)},
            ("EventType", "LambdaFunctionARN"),
        ),
        count_max=4,
    ),
}
_BEHAVIOR_REFUSED = (
    "FieldLevelEncryptionId", "FunctionAssociations", "GrpcConfig", "RealtimeLogConfigArn", "SmoothStreaming",
)  # fmt: skip
_ORIGIN = Fields(
    {
        "Id": _ID,
        "DomainName": Text(length_min=1, length_max=253),
        "OriginPath": Text(length_max=255, pattern=r"|/[!-~]*[!-.0-~]"),
        "OriginCustomHeaders": Items(
            Fields(
                {
                    "HeaderName": Text(pattern=r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}"),
                    "HeaderValue": Text(length_max=1783, pattern=_HEADER_VALUE),
                },
                ("HeaderName", "HeaderValue"),
            ),
            count_max=30,
        ),
        "ConnectionAttempts": Whole(1, 3),
        "ConnectionTimeout": Whole(1, 10),
        "CustomOriginConfig": Fields(
            {
                "HTTPPort": _PORT,
                "HTTPSPort": _PORT,
                "OriginProtocolPolicy": Text(("http-only", "https-only", "match-viewer")),
                "OriginSSLProtocols": Items(Text(("SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"))),
                "OriginReadTimeout": Whole(1, 120),
                "OriginKeepaliveTimeout": Whole(1, 120),
                "IpAddressType": Text(("ipv4", "ipv6", "dualstack")),
            },
            ("OriginProtocolPolicy",),
            ("OriginMtlsConfig",),
        ),
        "S3OriginConfig": Fields({"OriginReadTimeout": Whole(1, 120)}, (), ("OriginAccessIdentity",)),
        "OriginShield": Fields(
            {"Enabled": Flag(), "OriginShieldRegion": Text(length_max=32, pattern=r"[a-z]{2}(-[a-z]+)+-[0-9]")}
        ),
        "ResponseCompletionTimeout": Whole(1, 3600),
        "OriginAccessControlId": Text(length_max=128),
    },
    ("Id", "DomainName"),
    ("VpcOriginConfig",),
)
_ORIGIN_GROUP = Fields(
    {
        "Id": _ID,
        "FailoverCriteria": Fields(
            {"StatusCodes": Fields({"Quantity": Whole(1, 9), "Items": Items(Whole(400, 599), 1, 9)}, ("Items",))},
            ("StatusCodes",),
        ),
        "Members": Fields(
            {"Quantity": Whole(2, 2), "Items": Items(Fields({"OriginId": _ID}, ("OriginId",)), 2, 2)}, ("Items",)
        ),
        "SelectionCriteria": Text(("default",)),
    },
    ("Id", "FailoverCriteria", "Members"),
)


# A custom domain, or one for all names below a domain.
HOST_NAME = r"(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
ALIASES_MAX = 100  # CloudFront quotas: alternate domain names per distribution


def _no_restriction(name: str, value: Any) -> bool:
    if name == "ViewerCertificate":
        return isinstance(value, dict) and set(value) <= {
            "CloudFrontDefaultCertificate",
            "MinimumProtocolVersion",
            "CertificateSource",
            "SslSupportMethod",
            # The local authority mints what a custom domain needs, whichever certificate is named.
            "AcmCertificateArn",
            "IamCertificateId",
        }
    return value in (None, "", [], {}, False, "false")


CONFIG = Fields(
    {
        "Enabled": Flag(),
        "Aliases": Items(Text(pattern=HOST_NAME, length_max=253), count_max=ALIASES_MAX),
        "Comment": Text(length_max=128),
        "DefaultRootObject": Text(length_max=255, pattern=r"|[!-.0-~][!-~]*"),
        "Origins": Items(_ORIGIN, 1, ORIGINS_MAX),
        "OriginGroups": Fields({"Quantity": Whole(0, 10), "Items": Items(_ORIGIN_GROUP, 0, 10)}),
        "DefaultCacheBehavior": Fields(_BEHAVIOR, ("TargetOriginId", "ViewerProtocolPolicy"), _BEHAVIOR_REFUSED),
        "CacheBehaviors": Items(
            Fields(
                {**_BEHAVIOR, "PathPattern": Text(length_min=1, length_max=255)},
                ("PathPattern", "TargetOriginId", "ViewerProtocolPolicy"),
                _BEHAVIOR_REFUSED,
            ),
            count_max=BEHAVIORS_MAX,
        ),
        "CustomErrorResponses": Items(
            Fields(
                {
                    "ErrorCode": Whole(400, 599),
                    "ErrorCachingMinTTL": _SECONDS,
                    "ResponseCode": Whole(200, 599),
                    "ResponsePagePath": Text(length_max=4000, pattern=r"|/[!-~]*"),
                },
                ("ErrorCode",),
            ),
            count_max=len(ERROR_CODES),
        ),
        "HttpVersion": Text(("http1.1", "http2", "http2and3", "http3", "HTTP1.1", "HTTP2", "HTTP2AND3", "HTTP3")),
        "IPV6Enabled": Flag(),
        "Restrictions": Fields(
            {
                "GeoRestriction": Fields(
                    {
                        "RestrictionType": Text(("none", "whitelist", "blacklist")),
                        "Locations": Items(Text(pattern="[A-Za-z]{2}"), count_max=300),
                    },
                    ("RestrictionType",),
                )
            },
            ("GeoRestriction",),
        ),
        "Logging": Fields(
            {
                "Enabled": Flag(),
                "Bucket": Text(length_max=256),
                "Prefix": Text(length_max=256, pattern=r"|[!-.0-~][!-~]*"),
                "IncludeCookies": Flag(),
            }
        ),
        "CacheTagConfig": Fields(
            {"HeaderName": Text(pattern=r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}")}, ("HeaderName",)
        ),
        "PriceClass": Text(("PriceClass_100", "PriceClass_200", "PriceClass_All", "None")),
    },
    ("Enabled", "DefaultCacheBehavior", "Origins"),
    (
        "AnycastIpListId", "ConnectionFunctionAssociation", "ConnectionMode",
        "ContinuousDeploymentPolicyId", "Staging", "TenantConfig", "ViewerCertificate",
        "ViewerMtlsConfig", "WebACLId",
    ),
    _no_restriction,
)  # fmt: skip


def _refuse(code: str, text: str, status: int = 400) -> AwsError:
    return AwsError(code, text, status=status)


def behaviors(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The default behavior and then the others."""
    yield config["DefaultCacheBehavior"]
    yield from config.get("CacheBehaviors", ())


def check_config(config: Any) -> dict[str, Any]:
    """The configuration with its values coerced. Raises AwsError (InvalidArgument and CloudFront's other codes)."""
    try:
        checked = CONFIG.check(config, "")
    except PropertyError as error:
        raise _refuse(code_of(error.path, config), f"{error.text} ({error.path})") from None
    aliases = [alias.lower() for alias in checked.get("Aliases", ())]
    if len(set(aliases)) != len(aliases):
        raise _refuse("InvalidArgument", "The parameter CNAME contains a duplicate.")
    origin_ids = [origin["Id"] for origin in checked["Origins"]]
    for origin in checked["Origins"]:
        _check_origin(origin)
    groups = checked.get("OriginGroups", {}).get("Items", [])
    targets = [*origin_ids, *(group["Id"] for group in groups)]
    if len(set(targets)) != len(targets):
        raise _refuse("InvalidArgument", "Origin and origin group ids have to be unique within a distribution.")
    for group in groups:
        members = [member["OriginId"] for member in group["Members"]["Items"]]
        if not set(members) <= set(origin_ids):
            raise _refuse("NoSuchOrigin", "One or more of your origins or origin groups do not exist.", 404)
        if members[0] == members[1]:
            raise _refuse("InvalidArgument", "The members of an origin group have to be different origins.")
        unfit = set(group["FailoverCriteria"]["StatusCodes"]["Items"]) - {400, 403, 404, 416, 429, 500, 502, 503, 504}
        if unfit:
            raise _refuse("InvalidArgument", f"An origin group cannot fail over on status {min(unfit)}.")
    _check_logging(checked)
    patterns = [behavior["PathPattern"] for behavior in checked.get("CacheBehaviors", ())]
    if len(set(patterns)) != len(patterns):
        raise _refuse("InvalidArgument", "The parameter PathPattern contains a duplicate.")
    for behavior in behaviors(checked):
        _check_behavior(behavior, set(targets))
    _check_error_responses(checked.get("CustomErrorResponses", []))
    geo = checked.get("Restrictions", {}).get("GeoRestriction", {"RestrictionType": "none"})
    if (geo["RestrictionType"] == "none") == bool(geo.get("Locations")):
        raise _refuse("InvalidGeoRestrictionParameter", "Locations do not fit the restriction type.")
    return checked


def _check_logging(config: dict[str, Any]) -> None:
    logging = config.get("Logging")
    if logging is None:
        return
    if not logging.pop("Enabled", True) or not logging:
        del config["Logging"]
    elif log_bucket(logging.get("Bucket", "")) is None:
        raise _refuse("InvalidArgument", "The parameter Logging Bucket does not refer to a valid S3 bucket.")


def _check_origin(origin: dict[str, Any]) -> None:
    if ("CustomOriginConfig" in origin) == ("S3OriginConfig" in origin):
        raise _refuse(
            "InvalidOrigin", "Exactly one of CustomOriginConfig, VpcOriginConfig and S3OriginConfig must be specified"
        )
    domain = origin["DomainName"]
    labels = domain.split(".")
    if not all(re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?", label) for label in labels):
        raise _refuse("InvalidArgument", f"The parameter Origin DomainName is not a domain name: {domain[:80]!r}")
    try:
        ipaddress.ip_address(domain)
    except ValueError:
        pass
    else:
        raise _refuse("InvalidArgument", "The parameter Origin DomainName cannot be an IP address.")
    if origin.get("OriginAccessControlId") and not _S3_DOMAIN.fullmatch(domain.lower()):
        raise _refuse(
            "InvalidDomainNameForOriginAccessControl",
            "An origin access control is associated with an origin whose domain name is not supported.",
        )
    shield = origin.get("OriginShield", {})
    if shield.get("Enabled") and not shield.get("OriginShieldRegion"):
        raise _refuse("InvalidArgument", "The parameter OriginShieldRegion is required when Origin Shield is enabled.")
    custom = origin.get("CustomOriginConfig", {})
    for name in ("HTTPPort", "HTTPSPort"):
        port = custom.get(name, 80)
        if port not in (80, 443) and port < 1024:
            raise _refuse("InvalidArgument", f"The parameter {name} has to be 80, 443 or 1024 to 65535.")
    names = [header["HeaderName"].lower() for header in origin.get("OriginCustomHeaders", ())]
    if len(set(names)) != len(names):
        raise _refuse("InvalidArgument", "The parameter OriginCustomHeaders contains a duplicate.")
    for name in names:
        if name in _HEADERS_NOT_CUSTOM or name.startswith(("x-amz-", "x-edge-")):
            raise _refuse("InvalidArgument", f"The parameter HeaderName contains {name} that is not allowed.")


# CloudFront Developer Guide, "Custom headers that CloudFront can't add to origin requests".
_HEADERS_NOT_CUSTOM = frozenset(
    ("cache-control", "connection", "content-length", "cookie", "host", "if-match", "if-modified-since",
     "if-none-match", "if-range", "if-unmodified-since", "max-forwards", "pragma", "proxy-authenticate",
     "proxy-authorization", "proxy-connection", "range", "request-range", "te", "trailer", "transfer-encoding",
     "upgrade", "via", "x-real-ip")
)  # fmt: skip


def _check_behavior(behavior: dict[str, Any], targets: set[str]) -> None:
    if behavior["TargetOriginId"] not in targets:
        raise _refuse("NoSuchOrigin", "One or more of your origins or origin groups do not exist.", 404)
    if "CachePolicyId" in behavior:
        for name in ("ForwardedValues", "MinTTL", "DefaultTTL", "MaxTTL"):
            if name in behavior:
                raise _refuse(
                    "InvalidArgument",
                    f"The parameter {name} cannot be used when a cache policy is associated to the cache behavior.",
                )
    elif "ForwardedValues" not in behavior:
        raise _refuse("InvalidArgument", "The parameter ForwardedValues is required.")
    elif "OriginRequestPolicyId" in behavior:
        raise _refuse(
            "InvalidArgument", "The parameter OriginRequestPolicyId needs a cache policy in the cache behavior."
        )
    minimum = behavior.get("MinTTL", 0)
    default = behavior.get("DefaultTTL", max(86400, minimum))
    maximum = behavior.get("MaxTTL", max(31536000, default))
    if not minimum <= default <= maximum:
        raise _refuse("InvalidTTLOrder", "The order of MinTTL, DefaultTTL and MaxTTL has to be ascending.")
    allowed = set(behavior.get("AllowedMethods", ("GET", "HEAD")))
    cached = set(behavior.get("CachedMethods", ("GET", "HEAD")))
    if allowed not in METHOD_SETS:
        raise _refuse("InvalidArgument", "The parameter AllowedMethods is none of the three sets there are.")
    if cached not in METHOD_SETS[:2] or not cached <= allowed:
        raise _refuse("InvalidArgument", "The parameter CachedMethods cannot contain methods not in AllowedMethods.")
    events = [each["EventType"] for each in behavior.get("LambdaFunctionAssociations", ())]
    if len(set(events)) != len(events):
        raise _refuse(
            "InvalidLambdaFunctionAssociation", "A cache behavior has at most one Lambda function per event type."
        )
    for association in behavior.get("LambdaFunctionAssociations", ()):
        if association.get("IncludeBody") and not association["EventType"].endswith("-request"):
            raise _refuse(
                "InvalidLambdaFunctionAssociation", "IncludeBody is for viewer-request and origin-request only."
            )


def _check_error_responses(responses: list[dict[str, Any]]) -> None:
    codes = [response["ErrorCode"] for response in responses]
    if not set(codes) <= set(ERROR_CODES):
        raise _refuse("InvalidErrorCode", "The parameter ErrorCode is not one that can be customised.")
    if len(set(codes)) != len(codes):
        raise _refuse("InvalidArgument", "The parameter ErrorCode is repeated.")
    for response in responses:
        if bool(response.get("ResponsePagePath")) != ("ResponseCode" in response):
            raise _refuse("InvalidArgument", "ResponsePagePath and ResponseCode go together.")
        if response.get("ResponseCode", 200) not in (200, *ERROR_CODES):
            raise _refuse("InvalidResponseCode", "The parameter ResponseCode is none that can be answered with.")
