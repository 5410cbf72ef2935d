"""Chooses the region that serves a request.

Dials come from the route table; latency only orders the active, healthy regions (S3 User Guide, "Multi-Region Access
Point request routing" and "failover configuration").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nearpoint.accesspoint.health import State
from nearpoint.accesspoint.routes import Route

DIALED_DOWN = "dial is 0"
DECLINED = "not in the dial's share"
FARTHER = "farther"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The routes to try, in order, and why every route but the first was not chosen, by region."""

    order: tuple[Route, ...]
    rejected: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoActiveRegion:
    """Every dial is at 0."""

    rejected: Mapping[str, str]


Choice = Chosen | NoActiveRegion


def choose(
    routes: Sequence[Route], health: Mapping[str, State], latency_order: Sequence[str], draw: float = 0.0
) -> Choice:
    """The order in which to try the routes.

    Regions with a dial of 0 are never tried. Healthy ones come first, nearest first; a dial between 0 and 100 takes
    that share of the requests that come to it (`draw`, from [0, 1), is the request's lot) and lets the rest pass on to
    the next. Regions on probation, then ejected ones, come last: when nothing is healthy it is better to try than to
    fail. Where every dial lets a request pass, the nearest takes it after all.
    """
    rank = {region: at for at, region in enumerate(latency_order)}
    active = sorted(
        (route for route in routes if route.dial_percent > 0),
        key=lambda route: (rank.get(route.region, len(rank)), route.region),
    )
    rejected = {route.region: DIALED_DOWN for route in routes if route.dial_percent <= 0}
    if not active:
        return NoActiveRegion(rejected=rejected)
    by_state: dict[State, list[Route]] = {state: [] for state in State}
    for route in active:
        by_state[health.get(route.region, State.HEALTHY)].append(route)
    healthy = by_state[State.HEALTHY]
    order = [*healthy, *by_state[State.PROBATION], *by_state[State.EJECTED]]
    taker = _taker(healthy, draw)
    if taker is not None:
        for route in healthy[: healthy.index(taker)]:
            rejected[route.region] = DECLINED
        order.remove(taker)
        order.insert(0, taker)
    for route in order[1:]:
        state = health.get(route.region, State.HEALTHY)
        rejected.setdefault(route.region, FARTHER if state is State.HEALTHY else state.value)
    return Chosen(order=tuple(order), rejected=rejected)


def _taker(healthy: Sequence[Route], draw: float) -> Route | None:
    """The first route whose share the lot falls into; what is left of the lot decides at the next one."""
    for route in healthy:
        share = route.dial_percent / 100
        if draw < share or route.dial_percent >= 100:
            return route
        draw = (draw - share) / (1 - share)
    return healthy[0] if healthy else None
