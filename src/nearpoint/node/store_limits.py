"""From what was found out about a store to what access points mind of it."""

from __future__ import annotations

from nearpoint.regions.capabilities import Capabilities
from nearpoint.regions.trials import WRITING
from nearpoint.state.resources import StoreLimits


def limits_of(found: Capabilities) -> StoreLimits:
    """What access points mind of a store. One that gave no access is not known yet."""
    return StoreLimits(
        region=found.region,
        bucket=found.bucket,
        endpoint=found.endpoint,
        is_known=found.access != "none",
        unknown=tuple(one.feature for one in found.findings if one.verdict == "unknown" and one.feature in WRITING),
        refused=found.with_remedy("refuse"),
        mended=found.with_remedy("mend"),
        lacks={one.feature: one.detail for one in found.lacks},
    )
