"""Configurations from the CloudFront API's shape to CloudFormation's, in which they are kept. Pure.

The other way is `distribution_shape`; its tables of names serve here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.awsapi.distribution_shape import NAMES
from nearpoint.awsproto import AwsError
from nearpoint.awsproto.model import Member, Shape

# Lists that CloudFormation leaves as `{Items}`.
_WRAPPED = frozenset(
    {
        "OriginGroups",
        "OriginGroupMembers",
        "ResponseHeadersPolicyAccessControlAllowHeaders",
        "ResponseHeadersPolicyAccessControlAllowMethods",
        "ResponseHeadersPolicyAccessControlAllowOrigins",
        "ResponseHeadersPolicyAccessControlExposeHeaders",
        "ResponseHeadersPolicyCustomHeadersConfig",
        "ResponseHeadersPolicyRemoveHeadersConfig",
        "StatusCodes",
    }
)
# Members for which the API writes an empty text where CloudFormation has no property.
_EMPTY_IS_NONE = frozenset(
    {
        "CachePolicyId",
        "OriginAccessControlId",
        "OriginRequestPolicyId",
        "OriginShieldRegion",
        "ResponseCode",
        "ResponseHeadersPolicyId",
        "ResponsePagePath",
    }
)


def kept_value(member: Member, value: Any) -> Any:
    """A value of the API's shape as CloudFormation has it. Raises AwsError (InconsistentQuantities)."""
    shape = member.shape
    if member.type == "list":
        assert shape.element is not None
        return [kept_value(shape.element, item) for item in value]
    if member.type != "structure":
        return value
    if "Quantity" in shape.members and "RestrictionType" not in shape.members:
        return _list(shape, value)
    return _structure(shape, value)


def _items(shape: Shape, value: Mapping[str, Any]) -> list[Any]:
    items = value.get("Items") or []
    if value.get("Quantity", 0) != len(items):
        raise AwsError("InconsistentQuantities", "The value of Quantity and the size of Items don't match.", status=400)
    kept: list[Any] = kept_value(shape.members["Items"], items)
    return kept


def _list(shape: Shape, value: Mapping[str, Any]) -> Any:
    items = _items(shape, value)
    if "Enabled" in shape.members and bool(value.get("Enabled")) != bool(items):
        raise AwsError("InvalidArgument", "The parameter Enabled does not fit the items.", status=400)
    if shape.name not in _WRAPPED:
        return items
    return {"Items": items} if items or shape.name != "OriginGroups" else {"Quantity": 0}


def _structure(shape: Shape, value: Mapping[str, Any]) -> dict[str, Any]:
    if shape.name == "GeoRestriction":
        items = _items(shape, value)
        return {"RestrictionType": value["RestrictionType"], **({"Locations": items} if items else {})}
    kept: dict[str, Any] = {}
    for name, item in value.items():
        if item is None or (item == "" and name in _EMPTY_IS_NONE):
            continue
        kept[NAMES.get(name, name)] = kept_value(shape.members[name], item)
    allowed = value.get("AllowedMethods")
    if allowed is not None and allowed.get("CachedMethods") is not None:
        # The API keeps the cached methods inside the allowed ones.
        cached = shape.members["AllowedMethods"].shape.members["CachedMethods"]
        kept["CachedMethods"] = kept_value(cached, allowed["CachedMethods"])
    if shape.name == "DistributionConfig" and not value.get("Logging", {}).get("Enabled"):
        kept.pop("Logging", None)
    return kept


def distribution_config(shape: Member, config: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """A `DistributionConfig` as it is kept, and its caller reference."""
    kept = kept_value(shape, config)
    return kept, str(kept.pop("CallerReference", ""))
