"""Read fallback: a key that the nearest region does not have is looked for in the others before a 404 is given.

All healthy regions are asked for the object's head at once and the nearest that has it serves the request. A delete
marker anywhere means that the object has been deleted, so there is nothing to look for. Misses are remembered for a
moment, so that they stay cheap; a write through this node ends that at once.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from enum import Enum

from nearpoint.accesspoint.routes import Route
from nearpoint.regions.store import Store
from nearpoint.wire.client import Timeouts, UpstreamError
from nearpoint.wire.message import Response

FALLBACK_HEADER = "x-nearpoint-fallback"
# How long a key that no region has is not looked for again: as long as a reader may miss what came in elsewhere.
MISSING_S = 2.0
# After a delete through this node: longer than other regions need to hear of it, where they are replicated.
DELETED_S = 60.0
KEYS_MAX = 10_000
LOOKS_MAX = 64
_TIMEOUTS = Timeouts(connect_s=1.0, read_s=1.0)

ObjectName = tuple[str, str]  # alias and key


class Missing:
    """The keys that are known to be nowhere, each until a time in monotonic seconds; the oldest make room."""

    def __init__(self) -> None:
        self._until_s: OrderedDict[ObjectName, float] = OrderedDict()

    def note(self, name: ObjectName, until_s: float) -> None:
        """Take in that the key is nowhere until then. A longer note stands."""
        self._until_s[name] = max(until_s, self._until_s.pop(name, 0.0))
        if len(self._until_s) > KEYS_MAX:
            self._until_s.popitem(last=False)

    def forget(self, name: ObjectName) -> None:
        """The key has been written."""
        self._until_s.pop(name, None)

    def holds(self, name: ObjectName, now_s: float) -> bool:
        """Whether the key is known to be nowhere."""
        until_s = self._until_s.get(name)
        if until_s is None:
            return False
        if until_s > now_s:
            return True
        del self._until_s[name]
        return False


class Found(Enum):
    """What one region says of a key."""

    YES = "there"
    NO = "not there"
    DELETED = "deleted"
    UNKNOWN = "no answer"


def is_deleted(response: Response) -> bool:
    """Whether a 404 says that the object has been deleted (S3 User Guide, "Working with delete markers")."""
    return response.headers.get("x-amz-delete-marker") == "true"


class Lookout:
    """Looks for keys in the regions."""

    def __init__(self, stores: Mapping[str, Store]) -> None:
        self._stores = stores
        self._looks = 0
        self.missing = Missing()

    async def find(self, name: ObjectName, routes: Sequence[Route], now_s: float) -> Route | None:
        """The first of `routes` that has the key, or None. With too many looks under way, None at once."""
        if not routes or self._looks >= LOOKS_MAX or self.missing.holds(name, now_s):
            return None
        self._looks += 1
        try:
            answers = await asyncio.gather(*(self._ask(route, name[1]) for route in routes))
        finally:
            self._looks -= 1
        if Found.DELETED not in answers:
            for route, answer in zip(routes, answers, strict=True):
                if answer is Found.YES:
                    return route
            if Found.UNKNOWN in answers:
                return None
        self.missing.note(name, now_s + MISSING_S)
        return None

    async def _ask(self, route: Route, key: str) -> Found:
        try:
            response = await self._stores[route.region].send("HEAD", route.bucket, key, timeouts=_TIMEOUTS)
        except UpstreamError:
            return Found.UNKNOWN
        await response.body.close()
        if response.status == 404:
            return Found.DELETED if is_deleted(response) else Found.NO
        # 400: it is encrypted with a key that only the client has.
        return Found.YES if response.status in (200, 400) else Found.UNKNOWN
