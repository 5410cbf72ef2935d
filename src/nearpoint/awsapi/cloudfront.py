"""CloudFront: the distributions there are, and invalidations (CloudFront API Reference). Distributions are made by
CloudFormation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from nearpoint.awsapi.call import Call, Context, Handler
from nearpoint.awsapi.distribution_shape import config_of, identity_of, summary_of
from nearpoint.awsproto import AwsError
from nearpoint.awsproto.model import Member
from nearpoint.stack.services import distributions
from nearpoint.state.resources import Distribution, Invalidation

T = TypeVar("T")

SERVICE = "cloudfront"
PAGE_DEFAULT, PAGE_MAX = 100, 100
PUBLISH_TIMEOUT_S = 120.0


def _shape(call: Call, name: str) -> Member:
    return Member(call.service.model.shape(name), {})


def _distribution(call: Call, distribution: Distribution) -> dict[str, Any]:
    running = [
        each
        for each in distributions.list_invalidations(call.ctx.state, distribution.distribution_id)
        if each.status == "InProgress"
    ]
    return {
        **identity_of(distribution),
        "InProgressInvalidationBatches": len(running),
        "ActiveTrustedSigners": {"Enabled": False, "Quantity": 0},
        "ActiveTrustedKeyGroups": {"Enabled": False, "Quantity": 0},
        "DistributionConfig": config_of(distribution, _shape(call, "DistributionConfig")),
    }


async def get_distribution(call: Call) -> Mapping[str, Any]:
    distribution = distributions.find(call.ctx.state, call.params["Id"])
    return {"Distribution": _distribution(call, distribution), "ETag": distribution.etag}


async def get_distribution_config(call: Call) -> Mapping[str, Any]:
    distribution = distributions.find(call.ctx.state, call.params["Id"])
    return {
        "DistributionConfig": config_of(distribution, _shape(call, "DistributionConfig")),
        "ETag": distribution.etag,
    }


def _page(call: Call, items: Sequence[T], ids: Sequence[str]) -> tuple[list[T], dict[str, Any]]:
    """A page of items after the one whose id the marker is, and the fields around it."""
    marker = call.params.get("Marker") or ""
    try:
        count = int(call.params.get("MaxItems") or PAGE_DEFAULT)  # a string in the model
    except ValueError:
        count = 0
    if not 1 <= count <= PAGE_MAX:
        raise AwsError("InvalidArgument", f"The parameter MaxItems is 1 to {PAGE_MAX}.")
    if marker and marker not in ids:
        raise AwsError("InvalidArgument", "The parameter Marker is not valid.")
    start = ids.index(marker) + 1 if marker else 0
    found = list(items[start : start + count])
    truncated = start + count < len(items)
    around: dict[str, Any] = {
        "Marker": marker,
        "MaxItems": count,
        "IsTruncated": truncated,
        "Quantity": len(found),
        "NextMarker": ids[start + count - 1] if truncated else None,
    }
    return found, around


async def list_distributions(call: Call) -> Mapping[str, Any]:
    items = call.ctx.state.list(Distribution)
    found, around = _page(call, items, [each.distribution_id for each in items])
    shape = _shape(call, "DistributionSummary")
    return {"DistributionList": {**around, "Items": [summary_of(each, shape) for each in found] or None}}


def _invalidation(invalidation: Invalidation) -> dict[str, Any]:
    return {
        "Id": invalidation.invalidation_id,
        "Status": invalidation.status,
        "CreateTime": invalidation.created_at,
        "InvalidationBatch": {
            "Paths": {"Quantity": len(invalidation.paths), "Items": list(invalidation.paths)},
            "CallerReference": invalidation.caller_reference,
        },
    }


async def create_invalidation(call: Call) -> Mapping[str, Any]:
    batch = call.params["InvalidationBatch"]
    paths = batch["Paths"].get("Items", [])
    if batch["Paths"]["Quantity"] != len(paths):
        raise AwsError("InconsistentQuantities", "The value of Quantity and the size of Items don't match.", status=400)
    invalidation = await distributions.create_invalidation(
        call.ctx.domain, call.params["DistributionId"], paths=paths, caller_reference=batch["CallerReference"]
    )
    if invalidation.status == "InProgress":
        call.ctx.spawn(_complete(call.ctx, invalidation.invalidation_id))
    return {
        "Invalidation": _invalidation(invalidation),
        "Location": f"https://cloudfront.amazonaws.com/{call.service.model.api_version}/distribution/"
        f"{invalidation.distribution_id}/invalidation/{invalidation.invalidation_id}",
    }


async def _complete(ctx: Context, invalidation_id: str) -> None:
    # A node that has not got it serves nothing newer either; it stays in progress until every live node has it.
    while not await ctx.published(PUBLISH_TIMEOUT_S):
        continue
    await distributions.complete_invalidation(ctx.domain, invalidation_id)


async def resume(ctx: Context) -> None:
    """Carry on with the invalidations that an earlier process left in progress."""
    for invalidation in ctx.state.list(Invalidation):
        if invalidation.status == "InProgress":
            ctx.spawn(_complete(ctx, invalidation.invalidation_id))


async def get_invalidation(call: Call) -> Mapping[str, Any]:
    found = distributions.find_invalidation(call.ctx.state, call.params["DistributionId"], call.params["Id"])
    return {"Invalidation": _invalidation(found)}


async def list_invalidations(call: Call) -> Mapping[str, Any]:
    distribution = distributions.find(call.ctx.state, call.params["DistributionId"])
    items = distributions.list_invalidations(call.ctx.state, distribution.distribution_id)
    found, around = _page(call, items, [each.invalidation_id for each in items])
    shown = [{"Id": each.invalidation_id, "CreateTime": each.created_at, "Status": each.status} for each in found]
    return {"InvalidationList": {**around, "Items": shown or None}}


HANDLERS: dict[str, Handler] = {
    "CreateInvalidation": create_invalidation,
    "GetDistribution": get_distribution,
    "GetDistributionConfig": get_distribution_config,
    "GetInvalidation": get_invalidation,
    "ListDistributions": list_distributions,
    "ListInvalidations": list_invalidations,
}


def _arn(call: Call) -> str:
    params = call.params
    distribution_id = params.get("DistributionId") or params.get("Id")
    return f"arn:aws:cloudfront::{call.ctx.account_id}:distribution/{distribution_id}"


RESOURCES = {name: _arn for name in HANDLERS if name != "ListDistributions"}
