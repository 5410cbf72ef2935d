"""What CreateDistribution calls a property that is not as it has to be (CloudFront API Reference, its errors)."""

from __future__ import annotations

import re
from typing import Any

# By where it stands, without the numbers of lists' items; the rest is InvalidArgument.
_CODES = (
    (r"CacheBehaviors", "TooManyCacheBehaviors"),
    (r"Origins", "TooManyOrigins"),
    (r"Aliases", "TooManyDistributionCNAMEs"),
    (r"OriginGroups\.Items", "TooManyOriginGroupsPerDistribution"),
    (r"Origins\.OriginCustomHeaders", "TooManyOriginCustomHeaders"),
    (r"\w+\.LambdaFunctionAssociations", "TooManyLambdaFunctionAssociations"),
    (r"\w+\.TrustedKeyGroups", "TooManyKeyGroupsAssociatedToDistribution"),
    (r"\w+\.TrustedSigners", "TooManyTrustedSigners"),
    (r"\w+\.ForwardedValues\.Headers", "TooManyHeadersInForwardedValues"),
    (r"\w+\.ForwardedValues\.Cookies\.WhitelistedNames", "TooManyCookieNamesInWhiteList"),
    (r"\w+\.ForwardedValues\.QueryStringCacheKeys", "TooManyQueryStringParameters"),
    (r"DefaultRootObject", "InvalidDefaultRootObject"),
    (r"Origins\.\w+\.OriginReadTimeout", "InvalidOriginReadTimeout"),
    (r"Origins\.\w+\.OriginKeepaliveTimeout", "InvalidOriginKeepaliveTimeout"),
    (r"CustomErrorResponses\.ErrorCode", "InvalidErrorCode"),
    (r"CustomErrorResponses\.ResponseCode", "InvalidResponseCode"),
)


def code_of(path: str, config: Any) -> str:
    """The code for what is wrong at `path` (`Origins.0.DomainName`) of a configuration in CloudFormation's shape."""
    bare = re.sub(r"\.\d+(?=\.)", "", path)
    code = next((code for pattern, code in _CODES if re.fullmatch(pattern, bare)), "InvalidArgument")
    if code.startswith("TooMany") and not _is_long(path, config):
        return "InvalidArgument"
    return code


def _is_long(path: str, config: Any) -> bool:
    """Whether there is a list with something in it."""
    for name in path.split("."):
        config = config[int(name)] if isinstance(config, list) else config[name]
    return isinstance(config, list) and len(config) > 0
