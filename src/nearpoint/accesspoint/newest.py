"""Sends a read where the newest version is: of a key that is on its way elsewhere, and where the client insists.

What is pending is known without asking (`Behind`): where one region has what the nearest has not, it is asked instead;
where each has something that the other has not, both are asked which of their versions is newer. With
`x-nearpoint-consistency: strong` every region is asked, and the answer names those that gave none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import urlencode

import orjson

from nearpoint.accesspoint.call import Call
from nearpoint.accesspoint.fleet import Fleet
from nearpoint.accesspoint.health import State
from nearpoint.accesspoint.routes import Route
from nearpoint.awsproto.errors import AwsError
from nearpoint.regions.store import Store
from nearpoint.wire.client import Timeouts, UpstreamError
from nearpoint.wire.message import BodyTooLargeError, Response, read_all

CONSISTENCY_HEADER = "x-nearpoint-consistency"
STRONG = "strong"
ANSWER_BYTES_MAX = 16 * 1024
# A region that has been found dead is asked all the same, but not waited for.
_PATIENT = Timeouts(connect_s=1.0, read_s=2.0, head_s=2.0)
_BRIEF = Timeouts(connect_s=0.5, read_s=0.5, head_s=0.5)

# A version as regions order them: time in microseconds, region, entity tag, version id; then its last amendment.
Rank = tuple[int, str, str, str, int, str]
NOTHING: Rank = (-1, "", "", "", 0, "")
SECOND_US = 1_000_000


class Behind(Protocol):
    """What is known of keys that are on their way from one bucket to another."""

    def any(self) -> bool:
        """Whether any is. Asked for every read, so it has to cost nothing."""

    def newer_in(self, bucket: str, key: str, others: Iterable[tuple[str, str]]) -> list[str]:
        """Which of the other regions, each with its bucket, have a version of the key that `bucket` has not."""

    def wrote(self, region: str, bucket: str, keys: Iterable[str], logged: str) -> None:
        """A region has taken a write; `logged` is what its store says that it has added to the log."""


class NothingBehind:
    """Where nothing is known of any log."""

    def any(self) -> bool:
        return False

    def newer_in(self, bucket: str, key: str, others: Iterable[tuple[str, str]]) -> list[str]:
        return []

    def wrote(self, region: str, bucket: str, keys: Iterable[str], logged: str) -> None:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Regions to ask, the newest version first. `missing`: those that did not say what they have; `unsure`: those whose
    version may be the newer one all the same, as it was written in the same second."""

    routes: tuple[Route, ...]
    missing: tuple[str, ...]
    unsure: tuple[str, ...] = ()

    def said(self, region: str | None) -> str:
        """The answer's header, when `region` has served it: who could have something newer is named."""
        passed = [route.region for route in self.routes]
        passed = passed[: passed.index(region)] if region in passed else []
        unsure = [each for each in self.unsure if each != region]
        missing = ",".join(dict.fromkeys((*self.missing, *passed, *unsure)))
        return f"{STRONG}; missing={missing}" if missing else STRONG


def is_strong(call: Call, wanted: str) -> bool:
    """Whether the newest version is insisted on. A write goes where it goes, whatever is wanted of reads.

    Raises AwsError for a value that is not known, and for reads of which it cannot be promised.
    """
    if wanted.strip().lower() != STRONG:
        raise AwsError(
            "InvalidArgument",
            f"The only consistency that can be asked for is {STRONG}.",
            extra={"ArgumentName": CONSISTENCY_HEADER, "ArgumentValue": wanted[:100]},
        )
    if not call.is_read:
        return False
    if not call.may_be_elsewhere:
        raise AwsError(
            "InvalidRequest", "Only an object's newest version can be read strongly: no list, and no version by its id."
        )
    return True


class Newest:
    """Finds out which region has the newest version."""

    def __init__(self, fleet: Fleet, stores: Mapping[str, Store], behind: Behind) -> None:
        self._fleet = fleet
        self._stores = stores
        self._behind = behind

    async def pending(self, key: str, routes: tuple[Route, ...]) -> tuple[Route, ...]:
        """The routes, with those first that have a version which is on its way to the others."""
        states = self._fleet.states
        healthy = [route for route in routes if states.get(route.region) is State.HEALTHY]
        if len(healthy) < 2:
            return routes
        first = healthy[0]
        newer = self._newer(first, key, healthy)
        if not newer:
            return routes
        if len(newer) == 1 and not self._newer(newer[0], key, healthy):
            return (newer[0], *(route for route in routes if route is not newer[0]))
        order = await self.order(key, healthy)
        return (*order.routes, *(route for route in routes if route not in order.routes))

    def _newer(self, route: Route, key: str, routes: Sequence[Route]) -> list[Route]:
        found = self._behind.newer_in(route.bucket, key, [(each.region, each.bucket) for each in routes])
        return [each for each in routes if each.region in found and each is not route]

    async def order(self, key: str, routes: Sequence[Route]) -> Order:
        """The regions that answer, by what they have of the key; equal ones stay as they were.

        Raises AwsError (ServiceUnavailable) when none answers.
        """
        ranks = await asyncio.gather(*(self._rank(route, key) for route in routes))
        known = [(rank, route) for rank, route in zip(ranks, routes, strict=True) if rank is not None]
        if not known:
            raise AwsError("ServiceUnavailable", headers={"Retry-After": "1"})
        known.sort(key=lambda each: each[0], reverse=True)  # stable, so the nearest of equals is the first
        (newest, _), *others = known
        coarse = [self._is_coarse(route) for _, route in known]
        return Order(
            routes=tuple(route for _, route in known),
            missing=tuple(route.region for rank, route in zip(ranks, routes, strict=True) if rank is None),
            unsure=tuple(
                route.region
                for (rank, route), is_coarse in zip(others, coarse[1:], strict=True)
                if (is_coarse or coarse[0]) and may_be_newer(rank, newest)
            ),
        )

    def _is_coarse(self, route: Route) -> bool:
        """Whether a region's store says no more than the second in which a version was written."""
        return self._stores[route.region].spec.kind == "s3"

    async def _rank(self, route: Route, key: str) -> Rank | None:
        store = self._stores[route.region]
        is_dead = self._fleet.states.get(route.region) is State.EJECTED
        timeouts = _BRIEF if is_dead else _PATIENT
        try:
            if store.spec.kind == "s3":
                response = await store.send("HEAD", route.bucket, key, timeouts=timeouts)
                await response.body.close()
                return rank_of_head(response, route.region)
            query = urlencode({"bucket": route.bucket, "key": key})
            response = await store.send("GET", "-", "newest", query=query, timeouts=timeouts)
            data = await read_all(response.body, ANSWER_BYTES_MAX)
        except (UpstreamError, BodyTooLargeError):
            return None
        if response.status != 200:
            return None
        rank = orjson.loads(data)
        return NOTHING if rank is None else tuple(rank)


def may_be_newer(rank: Rank, newest: Rank) -> bool:
    """Whether a version of the same second may have been written after the one that ranks first, where no more than the
    second is known of one of them. Two with the same entity tag are the same to a reader."""
    same_content = bool(rank[2]) and rank[2] == newest[2]
    return rank[0] >= 0 and rank[0] // SECOND_US == newest[0] // SECOND_US and not same_content


def rank_of_head(response: Response, region: str) -> Rank | None:
    """What a store that keeps no stamps has, by the second of its Last-Modified. None when it does not say, as of a
    delete marker."""
    headers = response.headers
    if response.status == 404 and headers.get("x-amz-delete-marker") != "true":
        return NOTHING
    modified = headers.get("last-modified")
    if response.status not in (200, 404) or modified is None:
        return None
    try:
        at_us = int(parsedate_to_datetime(modified).timestamp() * 1_000_000)
    except ValueError:
        return None
    return (at_us, region, (headers.get("etag") or "").strip('"'), headers.get("x-amz-version-id") or "", 0, "")
