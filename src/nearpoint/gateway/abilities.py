"""What a foreign store can do of what replication rests on, found out by trying (`regions.capabilities`).

A store that takes conditions and ignores them, loses metadata or keeps no versions says so nowhere. Replication does
without conditions (it looks afterwards), but not without versions and metadata.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from nearpoint.regions.capabilities import Capabilities, probe
from nearpoint.regions.store import Store

log = structlog.get_logger("nearpoint.gateway")

# What is missing in a store that lacks it, in words for whoever looks at `nearpoint replication status`.
CONSEQUENCES = {
    "versioning": "nothing is copied to it: it keeps no versions",
    "metadata": "nothing is copied to it: it loses metadata, and with it the stamps",
    "conditional create": "checked after the write: it overwrites in spite of If-None-Match",
    "conditional replace": "checked after the write: it overwrites in spite of If-Match",
    "conditional delete": "checked after the delete: it deletes in spite of If-Match",
    "tagging": "copies have no tags",
    "multipart": "large objects cannot be copied to it",
}
NEEDED = ("versioning", "metadata")
# Finding out costs the store some dozens of requests.
OBSTACLE_AGAIN_S = 5.0
UNKNOWN_AGAIN_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ability:
    """What a bucket's store can do. What could not be found out is taken for absent, but for what replication needs."""

    missing: dict[str, str]
    """What it was seen not to do, and what follows."""

    conditional_create: bool = False
    conditional_replace: bool = False
    conditional_delete: bool = False
    tags: bool = True
    checksums: bool = False
    known: bool = True

    @property
    def conditional(self) -> bool:
        """Whether every write can be made on the condition that nobody has written meanwhile."""
        return self.conditional_create and self.conditional_replace and self.conditional_delete

    @property
    def obstacle(self) -> str | None:
        """Why nothing can be copied there."""
        return next((self.missing[feature] for feature in NEEDED if feature in self.missing), None)


UNKNOWN = Ability(missing={}, known=False)


def ability_of(found: Capabilities) -> Ability:
    """What a probe has found (pure)."""
    # What the access point puts right in the answers (the case of a metadata field's name) is no loss.
    verdicts = {one.feature: "yes" if one.remedy == "mend" else one.verdict for one in found.findings}
    return Ability(
        missing={name: text for name, text in CONSEQUENCES.items() if verdicts.get(name) == "no"},
        conditional_create=verdicts.get("conditional create") == "yes",
        conditional_replace=verdicts.get("conditional replace") == "yes",
        conditional_delete=verdicts.get("conditional delete") == "yes",
        tags=verdicts.get("tagging") != "no",
        checksums=verdicts.get("checksums") == "yes",
        known=found.access == "read-write" and all(verdicts.get(name) in ("yes", "no") for name in CONSEQUENCES),
    )


def _now() -> datetime:
    return datetime.now(UTC)


async def try_out(store: Store, bucket: str) -> Ability:
    """Find out. Takes a second or two and leaves nothing behind."""
    return ability_of(await probe(store, bucket, token=secrets.token_hex(4), clock=_now))


class Abilities:
    """What a store can do in each bucket, found out once. What replication needs and misses is looked for again."""

    def __init__(
        self, find_out: Callable[[str], Awaitable[Ability]], *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._find_out = find_out
        self._clock_s = clock_s
        self._found: dict[str, Ability] = {}
        self._found_at_s: dict[str, float] = {}
        self._finding: dict[str, asyncio.Lock] = {}

    def now(self, bucket: str) -> Ability:
        """What is known."""
        return self._found.get(bucket, UNKNOWN)

    async def of(self, bucket: str) -> Ability:
        """What is known, found out first if need be."""
        if not self._is_old(bucket):
            return self._found[bucket]
        async with self._finding.setdefault(bucket, asyncio.Lock()):
            if not self._is_old(bucket):  # somebody else has just found out
                return self._found[bucket]
            found = self._found[bucket] = await self._find_out(bucket)
            self._found_at_s[bucket] = self._clock_s()
        if found.missing:
            log.warning("the store lacks something", bucket=bucket, missing=sorted(found.missing))
        return found

    def _is_old(self, bucket: str) -> bool:
        found = self._found.get(bucket)
        if found is None:
            return True
        again_s = OBSTACLE_AGAIN_S if found.obstacle is not None else UNKNOWN_AGAIN_S
        settled = found.known and found.obstacle is None
        return not settled and self._clock_s() - self._found_at_s[bucket] >= again_s

    def forget(self, bucket: str) -> None:
        """The bucket is no more."""
        self._found.pop(bucket, None)
        self._finding.pop(bucket, None)

    def report(self) -> dict[str, dict[str, str]]:
        """What is missing, by bucket."""
        return {bucket: found.missing for bucket, found in self._found.items() if found.missing}
