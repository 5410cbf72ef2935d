"""Session affinity on request: a client that sends back the region it was served by stays there.

AWS has no stickiness; here `x-nearpoint-prefer-region`, given the value of an answer's `x-nearpoint-region`, asks for
it. The wish counts as long as that region is healthy and its dial is not at 0.
"""

from __future__ import annotations

from collections.abc import Mapping

from nearpoint.accesspoint.health import State
from nearpoint.accesspoint.routes import Route

PREFER_HEADER = "x-nearpoint-prefer-region"


def prefer(order: tuple[Route, ...], region: str, health: Mapping[str, State]) -> tuple[Route, ...]:
    """The routes with the wanted one first, where it is among them (so its dial is above 0) and healthy."""
    if health.get(region, State.HEALTHY) is not State.HEALTHY:
        return order
    wanted = [route for route in order if route.region == region]
    return (*wanted, *(route for route in order if route.region != region))
