"""CloudFront: invalidations here, distributions and what they refer to beside it (CloudFront API Reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.awsapi import cloudfront_distributions, cloudfront_settings, waiting
from nearpoint.awsapi.call import Call, Context, Handler
from nearpoint.awsapi.cloudfront_paging import page
from nearpoint.awsproto import AwsError
from nearpoint.stack.services import distributions
from nearpoint.state.resources import Invalidation

SERVICE = "cloudfront"
PUBLISH_TIMEOUT_S = 120.0


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
    """Carry on with the invalidations and deployments that an earlier process left in progress."""
    await cloudfront_distributions.resume(ctx)
    for invalidation in ctx.state.list(Invalidation):
        if invalidation.status == "InProgress":
            ctx.spawn(_complete(ctx, invalidation.invalidation_id))


async def get_invalidation(call: Call) -> Mapping[str, Any]:
    state, params = call.ctx.state, call.params
    await waiting.until(
        call,
        lambda: distributions.find_invalidation(state, params["DistributionId"], params["Id"]).status == "Completed",
    )
    found = distributions.find_invalidation(state, params["DistributionId"], params["Id"])
    return {"Invalidation": _invalidation(found)}


async def list_invalidations(call: Call) -> Mapping[str, Any]:
    distribution = distributions.find(call.ctx.state, call.params["DistributionId"])
    items = distributions.list_invalidations(call.ctx.state, distribution.distribution_id)
    found, around = page(call, items, [each.invalidation_id for each in items])
    shown = [{"Id": each.invalidation_id, "CreateTime": each.created_at, "Status": each.status} for each in found]
    return {"InvalidationList": {**around, "Items": shown or None}}


_INVALIDATIONS: dict[str, Handler] = {
    "CreateInvalidation": create_invalidation,
    "GetInvalidation": get_invalidation,
    "ListInvalidations": list_invalidations,
}
HANDLERS: dict[str, Handler] = {
    **_INVALIDATIONS,
    **cloudfront_distributions.HANDLERS,
    **cloudfront_settings.HANDLERS,
}
RESOURCES = {
    **dict.fromkeys(_INVALIDATIONS, cloudfront_distributions.arn_of),
    **cloudfront_distributions.RESOURCES,
    **cloudfront_settings.RESOURCES,
}
