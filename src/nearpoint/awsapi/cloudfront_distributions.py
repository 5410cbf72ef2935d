"""CloudFront's distributions: create, read, change, delete, tag (CloudFront API Reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.awsapi import waiting
from nearpoint.awsapi.call import Call, Context, Handler
from nearpoint.awsapi.cloudfront_input import distribution_config
from nearpoint.awsapi.cloudfront_paging import page
from nearpoint.awsapi.distribution_shape import caller_reference, config_of, identity_of, summary_of
from nearpoint.awsproto import AwsError
from nearpoint.awsproto.model import Member
from nearpoint.stack.services import distributions, edge_settings
from nearpoint.stack.services.distribution_config import behaviors
from nearpoint.state.resources import Distribution

PUBLISH_TIMEOUT_S = 120.0
TAGS_MAX = 50


def _shape(call: Call, name: str) -> Member:
    return Member(call.service.model.shape(name), {})


def _distribution(call: Call, distribution: Distribution) -> dict[str, Any]:
    running = [
        each
        for each in distributions.list_invalidations(call.ctx.state, distribution.distribution_id)
        if each.status == "InProgress"
    ]
    groups = [
        {"KeyGroupId": id, "KeyPairIds": {"Quantity": len(keys), "Items": keys}}
        for id, keys in edge_settings.active_keys(call.ctx.state, distribution.config)
    ]
    # No account has a CloudFront key pair here.
    named = {each: None for behavior in behaviors(distribution.config) for each in behavior.get("TrustedSigners", ())}
    signers = [{"AwsAccountNumber": each, "KeyPairIds": {"Quantity": 0}} for each in named]
    return {
        **identity_of(distribution),
        "InProgressInvalidationBatches": len(running),
        "ActiveTrustedSigners": {"Enabled": bool(signers), "Quantity": len(signers), "Items": signers or None},
        "ActiveTrustedKeyGroups": {"Enabled": bool(groups), "Quantity": len(groups), "Items": groups or None},
        "DistributionConfig": config_of(distribution, _shape(call, "DistributionConfig")),
    }


async def _deploy(ctx: Context, distribution_id: str, etag: str) -> None:
    while not await ctx.published(PUBLISH_TIMEOUT_S):
        continue
    await distributions.mark_deployed(ctx.domain, distribution_id, etag)


async def resume(ctx: Context) -> None:
    """Carry on with the deployments that an earlier process left in progress."""
    for each in ctx.state.list(Distribution):
        if each.status != "Deployed":
            ctx.spawn(_deploy(ctx, each.distribution_id, each.etag))


async def _create(call: Call, given: Mapping[str, Any], tags: Mapping[str, str]) -> Mapping[str, Any]:
    config, reference = distribution_config(_shape(call, "DistributionConfig"), given)
    if not reference:
        raise AwsError("InvalidArgument", "The parameter CallerReference is required.", status=400)
    distribution = await distributions.create_distribution(
        call.ctx.domain, config=config, tags=tags, caller_reference=reference
    )
    if distribution.status != "Deployed":
        call.ctx.spawn(_deploy(call.ctx, distribution.distribution_id, distribution.etag))
    path = f"{call.service.model.api_version}/distribution/{distribution.distribution_id}"
    return {
        "Distribution": _distribution(call, distribution),
        "ETag": distribution.etag,
        "Location": f"https://cloudfront.amazonaws.com/{path}",
    }


async def create_distribution(call: Call) -> Mapping[str, Any]:
    return await _create(call, call.params["DistributionConfig"], {})


async def create_distribution_with_tags(call: Call) -> Mapping[str, Any]:
    given = call.params["DistributionConfigWithTags"]
    return await _create(call, given["DistributionConfig"], _tags({}, given["Tags"].get("Items", [])))


async def get_distribution(call: Call) -> Mapping[str, Any]:
    await waiting.until(call, lambda: distributions.find(call.ctx.state, call.params["Id"]).status == "Deployed")
    distribution = distributions.find(call.ctx.state, call.params["Id"])
    return {"Distribution": _distribution(call, distribution), "ETag": distribution.etag}


async def get_distribution_config(call: Call) -> Mapping[str, Any]:
    distribution = distributions.find(call.ctx.state, call.params["Id"])
    return {
        "DistributionConfig": config_of(distribution, _shape(call, "DistributionConfig")),
        "ETag": distribution.etag,
    }


async def update_distribution(call: Call) -> Mapping[str, Any]:
    config, reference = distribution_config(_shape(call, "DistributionConfig"), call.params["DistributionConfig"])
    before = distributions.find(call.ctx.state, call.params["Id"])
    if reference != caller_reference(before):
        raise AwsError("IllegalUpdate", "The caller reference of a distribution cannot be changed.", status=400)
    distribution = await distributions.update_distribution(
        call.ctx.domain, before.distribution_id, config=config, if_match=call.params.get("IfMatch") or None
    )
    call.ctx.spawn(_deploy(call.ctx, distribution.distribution_id, distribution.etag))
    return {"Distribution": _distribution(call, distribution), "ETag": distribution.etag}


async def delete_distribution(call: Call) -> Mapping[str, Any]:
    await distributions.delete_distribution(
        call.ctx.domain, call.params["Id"], if_match=call.params.get("IfMatch") or None
    )
    return {}


async def list_distributions(call: Call) -> Mapping[str, Any]:
    items = call.ctx.state.list(Distribution)
    found, around = page(call, items, [each.distribution_id for each in items])
    shape = _shape(call, "DistributionSummary")
    return {"DistributionList": {**around, "Items": [summary_of(each, shape) for each in found] or None}}


# --- tags


def _tags(before: Mapping[str, str], items: list[dict[str, Any]]) -> dict[str, str]:
    tags = {**before, **{item["Key"]: item.get("Value") or "" for item in items}}
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or len(value) > 256 or key.lower().startswith("aws:"):
            raise AwsError("InvalidTagging", "The tagging specified is not valid.", status=400)
    if len(tags) > TAGS_MAX:
        raise AwsError("InvalidTagging", f"A resource has at most {TAGS_MAX} tags.", status=400)
    return tags


def _tagged(call: Call) -> Distribution:
    arn = call.params["Resource"]
    prefix = f"arn:aws:cloudfront::{call.ctx.account_id}:distribution/"
    distribution = call.ctx.state.get(Distribution, arn.removeprefix(prefix)) if arn.startswith(prefix) else None
    if distribution is None:
        raise AwsError("NoSuchResource", "The specified resource does not exist.", status=404)
    return distribution


async def tag_resource(call: Call) -> Mapping[str, Any]:
    distribution = _tagged(call)
    tags = _tags(distribution.tags, call.params["Tags"].get("Items", []))
    await distributions.set_tags(call.ctx.domain, distribution.distribution_id, tags)
    return {}


async def untag_resource(call: Call) -> Mapping[str, Any]:
    distribution = _tagged(call)
    gone = set(call.params["TagKeys"].get("Items", []))
    tags = {key: value for key, value in distribution.tags.items() if key not in gone}
    await distributions.set_tags(call.ctx.domain, distribution.distribution_id, tags)
    return {}


async def list_tags_for_resource(call: Call) -> Mapping[str, Any]:
    tags = _tagged(call).tags
    return {"Tags": {"Items": [{"Key": key, "Value": value} for key, value in tags.items()]}}


HANDLERS: dict[str, Handler] = {
    "CreateDistribution": create_distribution,
    "CreateDistributionWithTags": create_distribution_with_tags,
    "DeleteDistribution": delete_distribution,
    "GetDistribution": get_distribution,
    "GetDistributionConfig": get_distribution_config,
    "ListDistributions": list_distributions,
    "ListTagsForResource": list_tags_for_resource,
    "TagResource": tag_resource,
    "UntagResource": untag_resource,
    "UpdateDistribution": update_distribution,
}


def arn_of(call: Call) -> str:
    """The distribution that a call is about."""
    params = call.params
    distribution_id = params.get("DistributionId") or params.get("Id") or "*"
    return f"arn:aws:cloudfront::{call.ctx.account_id}:distribution/{distribution_id}"


def _resource(call: Call) -> str:
    return str(call.params["Resource"])


RESOURCES = {
    **{name: arn_of for name in HANDLERS if name != "ListDistributions"},
    "ListTagsForResource": _resource,
    "TagResource": _resource,
    "UntagResource": _resource,
}
