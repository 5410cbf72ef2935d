"""Where a Multi-Region Access Point may have its buckets (S3 User Guide, "Multi-Region Access Point restrictions and
limitations" and "Configuring Multi-Region Access Point opt-in Regions")."""

from __future__ import annotations

from collections.abc import Sequence

from nearpoint.aws.errors import DeployError

DEFAULT = frozenset(
    ("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1", "eu-central-1", "eu-north-1",
     "eu-west-1", "eu-west-2", "eu-west-3", "ap-south-1", "ap-northeast-1", "ap-northeast-2", "ap-northeast-3",
     "ap-southeast-1", "ap-southeast-2")
)  # fmt: skip
OPT_IN = frozenset(
    ("af-south-1", "ap-east-1", "ap-south-2", "ap-southeast-3", "ap-southeast-4", "ca-west-1", "eu-central-2",
     "eu-south-1", "eu-south-2", "il-central-1", "me-central-1", "me-south-1")
)  # fmt: skip
REGIONS_MAX = 17  # S3 User Guide: buckets of an access point


def check_regions(regions: Sequence[str]) -> list[str]:
    """What is worth saying about them. Raises DeployError for what can't be."""
    unknown = [region for region in regions if region not in DEFAULT | OPT_IN]
    if unknown:
        raise DeployError(
            f"A Multi-Region Access Point can't have a bucket in {', '.join(unknown)}. It can in "
            f"{', '.join(sorted(DEFAULT))}; and, once the account has opted in, in {', '.join(sorted(OPT_IN))}.",
            usage=True,
        )
    twice = sorted({region for region in regions if regions.count(region) > 1})
    if twice:
        raise DeployError(
            f"{', '.join(twice)} stands twice in --regions; an access point has one bucket of a region.", usage=True
        )
    if len(regions) > REGIONS_MAX:
        raise DeployError(f"A Multi-Region Access Point has at most {REGIONS_MAX} buckets.", usage=True)
    return [
        f"{region} is an opt-in Region: the account must have it enabled before the access point is made."
        for region in regions
        if region in OPT_IN
    ]
