"""`AWS::CloudFront::Distribution`: Ref is the id; complete once every node serves it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearpoint.stack.intrinsics import Made
from nearpoint.stack.schema import TAGS, Document, Fields, tags_of
from nearpoint.stack.services import distributions
from nearpoint.stack.types.base import PUBLISHED_TIMEOUT_S, Immediate, Means, Naming, NotStabilizedError
from nearpoint.state.resources import Distribution as DistributionResource


def _made(distribution: DistributionResource) -> Made:
    return Made(
        ref=distribution.distribution_id,
        attributes={"DomainName": distribution.domain, "Id": distribution.distribution_id},
    )


class Distribution(Immediate):
    name = "AWS::CloudFront::Distribution"
    # The configuration's own shape is checked by the service.
    properties = Fields({"DistributionConfig": Document(), "Tags": TAGS}, ("DistributionConfig",))
    attributes = frozenset(("DomainName", "Id"))
    replacing: frozenset[str] = frozenset()

    def physical_id(self, naming: Naming, properties: Mapping[str, Any], means: Means) -> str:
        return distributions.id_of(naming.random_bytes)

    def exists(self, physical_id: str, means: Means) -> Made | None:
        distribution = means.services.state.get(DistributionResource, physical_id)
        return None if distribution is None else _made(distribution)

    async def create(self, physical_id: str, properties: dict[str, Any], means: Means) -> Made:
        distribution = await distributions.create_distribution(
            means.services,
            config=properties["DistributionConfig"],
            tags=tags_of(properties.get("Tags")),
            distribution_id=physical_id,
        )
        return _made(distribution)

    async def settle(self, physical_id: str, means: Means) -> None:
        distribution = distributions.find(means.services.state, physical_id)
        if distribution.status == "Deployed":
            return
        if not await means.published(PUBLISHED_TIMEOUT_S):
            raise NotStabilizedError("Exceeded attempts to wait")
        await distributions.mark_deployed(means.services, physical_id, distribution.etag)

    async def update(self, physical_id: str, before: dict[str, Any], properties: dict[str, Any], means: Means) -> Made:
        etag = distributions.find(means.services.state, physical_id).etag
        distribution = await distributions.update_distribution(
            means.services,
            physical_id,
            config=properties["DistributionConfig"],
            if_match=etag,
            tags=tags_of(properties.get("Tags")),
        )
        return _made(distribution)

    async def delete(self, physical_id: str, properties: dict[str, Any], means: Means) -> None:
        distribution = means.services.state.get(DistributionResource, physical_id)
        if distribution is not None:
            await distributions.delete_distribution(
                means.services, physical_id, if_match=distribution.etag, even_enabled=True
            )
