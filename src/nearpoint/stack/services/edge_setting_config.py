"""What policies, access controls, keys and key groups of CloudFront may say, in CloudFormation's shape.

Shapes: CloudFormation's `AWS::CloudFront::CachePolicy` and its sisters; rules and codes: CloudFront API Reference;
numbers: CloudFront quotas of 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nearpoint.awsproto.errors import AwsError
from nearpoint.edge.policies import TTL_S_MAX
from nearpoint.edge.signed_url import read_public_key
from nearpoint.stack.schema import Fields, Flag, Items, Number, PropertyError, Schema, Text, Whole

_NAME = Text(length_min=1, length_max=128, pattern=r"[A-Za-z0-9_.-]+(?: [A-Za-z0-9_.-]+)*")
_COMMENT = Text(length_max=128)
_FIELD_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_HEADER = Text(length_min=1, length_max=256, pattern=_FIELD_NAME)
_VALUE = Text(length_max=1783, pattern=r"[\x20-\x7e\x80-\xff]*")
_SECONDS = Whole(0, int(TTL_S_MAX))
CUSTOM_HEADERS_MAX = 10
REMOVE_HEADERS_MAX = 10
SELECTED_MAX = 10  # headers, cookies or query strings of a policy
PUBLIC_KEYS_IN_GROUP_MAX = 5
CSP_CHARACTERS_MAX = 1783

# Developer Guide, "Headers that you can't remove".
_NOT_REMOVABLE = frozenset(
    ("connection", "content-encoding", "content-length", "expect", "host", "keep-alive", "proxy-authenticate",
     "proxy-authorization", "proxy-connection", "trailer", "transfer-encoding", "upgrade", "via", "warning",
     "x-cache", "x-forwarded-proto", "x-real-ip")
)  # fmt: skip
_NOT_REMOVABLE_PREFIXES = ("x-accel-", "x-amz-cf-", "x-amzn-", "x-edge-")
# Those that CloudFront sets itself or that have a place of their own in the policy are no custom headers.
_NOT_CUSTOM = _NOT_REMOVABLE - {"warning"} | {"content-range", "set-cookie2"}


def _refuse(text: str, code: str = "InvalidArgument") -> AwsError:
    return AwsError(code, text, status=400)


def _selection(what: str, words: Sequence[str], names: Schema) -> Schema:
    """`HeadersConfig {HeaderBehavior, Headers}` and its two sisters."""
    word = f"{what.removesuffix('s')}Behavior"
    return Fields({word: Text(tuple(words)), what: Items(names)}, (word,))


_COOKIES = _selection("Cookies", ("none", "whitelist", "allExcept", "all"), Text(length_min=1, length_max=512))
_QUERIES = _selection("QueryStrings", ("none", "whitelist", "allExcept", "all"), Text(length_min=1, length_max=128))

_CACHE_POLICY = Fields(
    {
        "Name": _NAME,
        "Comment": _COMMENT,
        "MinTTL": _SECONDS,
        "DefaultTTL": _SECONDS,
        "MaxTTL": _SECONDS,
        "ParametersInCacheKeyAndForwardedToOrigin": Fields(
            {
                "EnableAcceptEncodingGzip": Flag(),
                "EnableAcceptEncodingBrotli": Flag(),
                "HeadersConfig": _selection("Headers", ("none", "whitelist"), _HEADER),
                "CookiesConfig": _COOKIES,
                "QueryStringsConfig": _QUERIES,
            },
            ("EnableAcceptEncodingGzip", "HeadersConfig", "CookiesConfig", "QueryStringsConfig"),
        ),
    },
    ("Name", "MinTTL"),
)
_ORIGIN_REQUEST_POLICY = Fields(
    {
        "Name": _NAME,
        "Comment": _COMMENT,
        "HeadersConfig": _selection(
            "Headers", ("none", "whitelist", "allViewer", "allViewerAndWhitelistCloudFront", "allExcept"), _HEADER
        ),
        "CookiesConfig": _COOKIES,
        "QueryStringsConfig": _QUERIES,
    },
    ("Name", "HeadersConfig", "CookiesConfig", "QueryStringsConfig"),
)


def _listed(of: Schema, count_min: int = 0, count_max: int = 100) -> Schema:
    return Fields({"Items": Items(of, count_min, count_max)}, ("Items",))


def _overriding(known: Mapping[str, Schema], required: tuple[str, ...] = ()) -> Schema:
    return Fields({"Override": Flag(), **known}, ("Override", *required))


_METHODS = ("GET", "DELETE", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "ALL")
_RESPONSE_HEADERS_POLICY = Fields(
    {
        "Name": _NAME,
        "Comment": _COMMENT,
        "CorsConfig": Fields(
            {
                "AccessControlAllowCredentials": Flag(),
                "AccessControlAllowHeaders": _listed(_HEADER, 1),
                "AccessControlAllowMethods": _listed(Text(_METHODS), 1),
                "AccessControlAllowOrigins": _listed(Text(length_min=1, length_max=253), 1),
                "AccessControlExposeHeaders": _listed(_HEADER),
                "AccessControlMaxAgeSec": Whole(0, 2**31 - 1),
                "OriginOverride": Flag(),
            },
            ("AccessControlAllowCredentials", "AccessControlAllowHeaders", "AccessControlAllowMethods",
             "AccessControlAllowOrigins", "OriginOverride"),
        ),
        "SecurityHeadersConfig": Fields(
            {
                "ContentSecurityPolicy": _overriding(
                    {"ContentSecurityPolicy": Text(pattern=r"[\x20-\x7e]*", length_max=64_000)},
                    ("ContentSecurityPolicy",),
                ),
                "ContentTypeOptions": _overriding({}),
                "FrameOptions": _overriding({"FrameOption": Text(("DENY", "SAMEORIGIN"))}, ("FrameOption",)),
                "ReferrerPolicy": _overriding(
                    {
                        "ReferrerPolicy": Text(
                            ("no-referrer", "no-referrer-when-downgrade", "origin", "origin-when-cross-origin",
                             "same-origin", "strict-origin", "strict-origin-when-cross-origin", "unsafe-url")
                        )
                    },
                    ("ReferrerPolicy",),
                ),
                "StrictTransportSecurity": _overriding(
                    {
                        "AccessControlMaxAgeSec": Whole(0, 2**31 - 1),
                        "IncludeSubdomains": Flag(),
                        "Preload": Flag(),
                    },
                    ("AccessControlMaxAgeSec",),
                ),
                "XSSProtection": _overriding(
                    {"Protection": Flag(), "ModeBlock": Flag(), "ReportUri": Text(pattern=r"[!-~]*")},
                    ("Protection",),
                ),
            }
        ),
        "ServerTimingHeadersConfig": Fields({"Enabled": Flag(), "SamplingRate": Number(0, 100)}, ("Enabled",)),
        "CustomHeadersConfig": _listed(_overriding({"Header": _HEADER, "Value": _VALUE}, ("Header", "Value"))),
        "RemoveHeadersConfig": _listed(Fields({"Header": _HEADER}, ("Header",))),
    },
    ("Name",),
)  # fmt: skip
_ORIGIN_ACCESS_CONTROL = Fields(
    {
        "Name": Text(length_min=1, length_max=64),
        "Description": Text(length_max=256),
        # The others exist on AWS; what they sign for does not exist here.
        "OriginAccessControlOriginType": Text(("s3",)),
        "SigningBehavior": Text(("always", "never", "no-override")),
        "SigningProtocol": Text(("sigv4", "sigv4a")),
    },
    ("Name", "OriginAccessControlOriginType", "SigningBehavior", "SigningProtocol"),
)
_KEY_GROUP = Fields(
    {"Name": _NAME, "Comment": _COMMENT, "Items": Items(Text(length_min=1, length_max=128), 1)}, ("Name", "Items")
)
_PUBLIC_KEY = Fields(
    {
        "Name": _NAME,
        "Comment": _COMMENT,
        "CallerReference": Text(length_min=1, length_max=128),
        "EncodedKey": Text(length_min=1, length_max=4096),
    },
    ("CallerReference", "Name", "EncodedKey"),
)


def _checked(schema: Fields, config: Any) -> dict[str, Any]:
    try:
        return schema.check(config, "")
    except PropertyError as error:
        raise _refuse(f"{error.text} ({error.path})") from None


def _check_selections(policy: Mapping[str, Any], codes: Mapping[str, str]) -> None:
    for what, code in codes.items():
        config = policy[f"{what}Config"]
        word = config[f"{what.removesuffix('s')}Behavior"]
        names = config.get(what, [])
        named = word in ("whitelist", "allExcept", "allViewerAndWhitelistCloudFront")
        if named != bool(names):
            raise _refuse(f"The parameter {what} does not fit {what.removesuffix('s')}Behavior {word}.")
        if len(names) > SELECTED_MAX:
            raise _refuse(f"The number of {what} is greater than the maximum allowed: {SELECTED_MAX}.", code)
        lowered = [name.lower() if what == "Headers" else name for name in names]
        if len(set(lowered)) != len(lowered):
            raise _refuse(f"The parameter {what} contains a duplicate.")


def check_cache_policy(config: Any) -> dict[str, Any]:
    """A cache policy's configuration, its defaults put in. Raises AwsError."""
    checked = _checked(_CACHE_POLICY, config)
    default = checked.setdefault("DefaultTTL", max(86_400, checked["MinTTL"]))
    checked.setdefault("MaxTTL", max(31_536_000, default))
    if not checked["MinTTL"] <= default <= checked["MaxTTL"]:
        raise _refuse("The order of MinTTL, DefaultTTL and MaxTTL has to be ascending.")
    nothing = {
        "EnableAcceptEncodingGzip": False,
        "EnableAcceptEncodingBrotli": False,
        "HeadersConfig": {"HeaderBehavior": "none"},
        "CookiesConfig": {"CookieBehavior": "none"},
        "QueryStringsConfig": {"QueryStringBehavior": "none"},
    }
    parameters = checked.setdefault("ParametersInCacheKeyAndForwardedToOrigin", nothing)
    codes = {
        "Headers": "TooManyHeadersInCachePolicy",
        "Cookies": "TooManyCookiesInCachePolicy",
        "QueryStrings": "TooManyQueryStringsInCachePolicy",
    }
    _check_selections(parameters, codes)
    for name in parameters["HeadersConfig"].get("Headers", ()):
        if name.lower() in ("accept-encoding", "cookie", "connection", "cloudfront-viewer-address"):
            raise _refuse(f"The parameter Headers contains {name} that is not allowed.")
    selects = any(parameters[f"{what}Config"][f"{what.removesuffix('s')}Behavior"] != "none" for what in codes) or any(
        parameters.get(f"EnableAcceptEncoding{coding}") for coding in ("Gzip", "Brotli")
    )
    if selects and checked["MaxTTL"] == 0:
        raise _refuse("The parameter ParametersInCacheKey cannot select anything when caching is disabled (MaxTTL 0).")
    return checked


def check_origin_request_policy(config: Any) -> dict[str, Any]:
    """An origin request policy's configuration. Raises AwsError."""
    checked = _checked(_ORIGIN_REQUEST_POLICY, config)
    codes = {
        "Headers": "TooManyHeadersInOriginRequestPolicy",
        "Cookies": "TooManyCookiesInOriginRequestPolicy",
        "QueryStrings": "TooManyQueryStringsInOriginRequestPolicy",
    }
    _check_selections(checked, codes)
    headers = checked["HeadersConfig"]
    behavior = headers["HeaderBehavior"]
    for name in headers.get("Headers", ()):
        lowered = name.lower()
        if behavior != "allExcept" and lowered in ("accept-encoding", "cookie", "authorization", "connection"):
            raise _refuse(f"The parameter Headers contains {name} that is not allowed.")
        if behavior == "allViewerAndWhitelistCloudFront" and not lowered.startswith("cloudfront-"):
            raise _refuse(f"The parameter Headers contains {name} that CloudFront does not add.")
    return checked


_ORIGIN_PATTERN = re.compile(r"(?:https?://)?(?:\*\.)?[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*(?::(?:[0-9]{1,5}|\*))?")


def check_response_headers_policy(config: Any) -> dict[str, Any]:
    """A response headers policy's configuration. Raises AwsError."""
    checked = _checked(_RESPONSE_HEADERS_POLICY, config)
    sections = ("CorsConfig", "SecurityHeadersConfig", "ServerTimingHeadersConfig", "CustomHeadersConfig",
                "RemoveHeadersConfig")  # fmt: skip
    if not any(checked.get(section) for section in sections):
        raise _refuse("The parameter ResponseHeadersPolicyConfig must have at least one section of headers.")
    cors = checked.get("CorsConfig")
    if cors is not None:
        _check_cors(cors)
    security = checked.get("SecurityHeadersConfig", {})
    csp = security.get("ContentSecurityPolicy")
    if csp is not None and len(csp["ContentSecurityPolicy"]) > CSP_CHARACTERS_MAX:
        raise _refuse(
            f"The Content-Security-Policy is longer than {CSP_CHARACTERS_MAX} characters.",
            "TooLongCSPInResponseHeadersPolicy",
        )
    xss = security.get("XSSProtection")
    if xss is not None:
        if xss.get("ReportUri") and xss.get("ModeBlock"):
            raise _refuse("The parameters ModeBlock and ReportUri cannot both be set.")
        if not xss["Protection"] and (xss.get("ReportUri") or xss.get("ModeBlock")):
            raise _refuse("The parameters ModeBlock and ReportUri need Protection.")
    timing = checked.get("ServerTimingHeadersConfig")
    if timing is not None and timing["Enabled"] and "SamplingRate" not in timing:
        raise _refuse("The parameter SamplingRate is required when Server-Timing is enabled.")
    _check_custom(checked.get("CustomHeadersConfig", {}).get("Items", []))
    removed = [each["Header"].lower() for each in checked.get("RemoveHeadersConfig", {}).get("Items", [])]
    if len(removed) > REMOVE_HEADERS_MAX:
        raise _refuse(
            f"The number of headers to remove is greater than the maximum allowed: {REMOVE_HEADERS_MAX}.",
            "TooManyRemoveHeadersInResponseHeadersPolicy",
        )
    if len(set(removed)) != len(removed):
        raise _refuse("The parameter RemoveHeadersConfig contains a duplicate.")
    for name in removed:
        if name in _NOT_REMOVABLE or name.startswith(_NOT_REMOVABLE_PREFIXES):
            raise _refuse(f"The parameter RemoveHeadersConfig contains {name} that is not allowed.")
    return checked


def _check_cors(cors: Mapping[str, Any]) -> None:
    for origin in cors["AccessControlAllowOrigins"]["Items"]:
        if origin != "*" and not _ORIGIN_PATTERN.fullmatch(origin):
            raise _refuse(f"The parameter AccessControlAllowOrigins contains {origin!r} that is not an origin.")
    methods = cors["AccessControlAllowMethods"]["Items"]
    if "ALL" in methods and len(methods) > 1:
        raise _refuse("The parameter AccessControlAllowMethods contains ALL together with other methods.")
    if cors["AccessControlAllowCredentials"]:
        # The Fetch standard reads `*` literally in answers to requests with credentials.
        for name in ("AccessControlAllowOrigins", "AccessControlAllowHeaders", "AccessControlExposeHeaders"):
            if "*" in cors.get(name, {}).get("Items", ()):
                raise _refuse(f"The parameter {name} cannot be * when credentials are allowed.")


def _check_custom(items: Sequence[Mapping[str, Any]]) -> None:
    names = [each["Header"].lower() for each in items]
    if len(names) > CUSTOM_HEADERS_MAX:
        raise _refuse(
            f"The number of custom headers is greater than the maximum allowed: {CUSTOM_HEADERS_MAX}.",
            "TooManyCustomHeadersInResponseHeadersPolicy",
        )
    if len(set(names)) != len(names):
        raise _refuse("The parameter CustomHeadersConfig contains a duplicate.")
    for name in names:
        if name in _NOT_CUSTOM or name.startswith(_NOT_REMOVABLE_PREFIXES):
            raise _refuse(f"The parameter CustomHeadersConfig contains {name} that is not allowed.")


def check_origin_access_control(config: Any) -> dict[str, Any]:
    """An origin access control's configuration. Raises AwsError."""
    return _checked(_ORIGIN_ACCESS_CONTROL, config)


def check_key_group(config: Any) -> dict[str, Any]:
    """A key group's configuration; whether its keys exist is not asked here. Raises AwsError."""
    checked = _checked(_KEY_GROUP, config)
    if len(checked["Items"]) > PUBLIC_KEYS_IN_GROUP_MAX:
        raise _refuse(
            f"The number of public keys in the key group is greater than the maximum allowed: "
            f"{PUBLIC_KEYS_IN_GROUP_MAX}.",
            "TooManyPublicKeysInKeyGroup",
        )
    if len(set(checked["Items"])) != len(checked["Items"]):
        raise _refuse("The parameter Items contains a duplicate.")
    return checked


def check_public_key(config: Any) -> dict[str, Any]:
    """A public key's configuration; its PEM is read. Raises AwsError."""
    checked = _checked(_PUBLIC_KEY, config)
    try:
        read_public_key(checked["EncodedKey"])
    except ValueError as error:
        raise _refuse(f"Your request contains an invalid public key: {error}") from None
    return checked
