"""CloudFront's answers in CloudFormation's shape, without what would be so anyway. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.aws.errors import DeployError
from nearpoint.awsapi.cloudfront_input import kept_value
from nearpoint.awsproto import AwsError, load_service
from nearpoint.awsproto.model import Member

# What CloudFront has where a template says nothing (CloudFormation Template Reference, AWS::CloudFront::Distribution).
_DEFAULTS: Mapping[str, tuple[Any, ...]] = {
    "CloudFrontDefaultCertificate": (False,),
    "Compress": (False,),
    "ConnectionAttempts": (3,),
    "ConnectionMode": ("direct",),
    "ConnectionTimeout": (10,),
    "GrpcConfig": ({"Enabled": False},),
    "HTTPPort": (80,),
    "HTTPSPort": (443,),
    "IPV6Enabled": (False,),
    "IncludeBody": (False,),
    "IpAddressType": ("ipv4",),
    "OriginKeepaliveTimeout": (5,),
    "OriginReadTimeout": (30,),
    "OriginShield": ({"Enabled": False},),
    "PriceClass": ("PriceClass_All",),
    "Restrictions": ({"GeoRestriction": {"RestrictionType": "none"}},),
    "SelectionCriteria": ("default",),
    "SmoothStreaming": (False,),
    "Staging": (False,),
}
# The order in which a reader wants to know; all else comes after in CloudFront's own.
_ORDER = {
    name: place
    for place, name in enumerate(
        ("Id", "Name", "PathPattern", "TargetOriginId", "DomainName", "Enabled", "Comment", "Aliases",
         "ViewerCertificate", "DefaultRootObject", "HttpVersion", "IPV6Enabled", "Origins", "OriginGroups",
         "ViewerProtocolPolicy", "AllowedMethods", "CachedMethods", "Compress", "DefaultCacheBehavior",
         "CacheBehaviors", "CachePolicyId", "EventType", "LambdaFunctionARN")
    )
}  # fmt: skip
# Empty, and still to be said.
_MEANT = frozenset(("S3OriginConfig",))
# CloudFormation counts these lists itself, and the template has to as well.
_COUNTED = frozenset(("OriginGroups", "StatusCodes", "Members"))


def template_shape(shape: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as a template has it; `shape` is the API's name, such as `DistributionConfig`. Raises
    DeployError."""
    try:
        kept = kept_value(Member(load_service("cloudfront").model.shape(shape), {}), config)
    except (AwsError, KeyError) as error:
        raise DeployError(f"CloudFront's {shape} has a form that is not known here: {error}.") from None
    kept.pop("CallerReference", None) if shape == "DistributionConfig" else None
    pruned: dict[str, Any] = _pruned(kept)
    pruned.get("Logging", {}).pop("Enabled", None)  # a template that has the bucket means it
    for response in pruned.get("CustomErrorResponses", ()):
        if "ResponseCode" in response:
            response["ResponseCode"] = int(response["ResponseCode"])  # a text in the API, a number in a template
    certificate = pruned.get("ViewerCertificate", {})
    for name in ("Certificate", "CertificateSource"):  # deprecated names for the same
        certificate.pop(name, None)
    if certificate.get("CloudFrontDefaultCertificate"):
        del pruned["ViewerCertificate"]
    return pruned


def _pruned(value: Any) -> Any:
    if isinstance(value, list):
        return [_pruned(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    found: dict[str, Any] = {}
    for name, item in sorted(value.items(), key=lambda each: _ORDER.get(each[0], len(_ORDER))):
        small = _pruned(item)
        empty = small is None or small in ("", [], {})
        if (empty and name not in _MEANT) or small in _DEFAULTS.get(name, ()):
            continue
        if name in _COUNTED and isinstance(small, dict) and small.get("Items"):
            small = {"Quantity": len(small["Items"]), **small}
        found[name] = small
    return {} if found == {"Quantity": 0} else found
