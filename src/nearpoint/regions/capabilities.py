"""Finds out what a store can do, by trying it on scratch objects under `.nearpoint-probe/` that are removed again.

`probe` asks one bucket, within a bounded time. What a store lacks is found out, not guessed from its name: a store that
answers 200 to `If-None-Match: *` and overwrites says so nowhere. What could not be found out is `unknown`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from nearpoint.regions.scratch import Scratch
from nearpoint.regions.store import Store
from nearpoint.regions.trials import BODY, OBJECT_FIELDS, READING, WRITING, Remedy, Trial, UnsettledError, Verdict
from nearpoint.wire.client import UpstreamError

PREFIX = ".nearpoint-probe/"
SKEW_S_MAX = 900.0  # a signature is refused beyond it (S3 API Reference, RequestTimeTooSkewed)

Access = Literal["read-write", "read-only", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that S3 does, whether this store does it, and what was seen.

    `remedy`: what the access point does about it: nothing, `refuse` requests that need it, or `mend` the answers.
    """

    feature: str
    verdict: Verdict
    detail: str = ""
    remedy: Remedy = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What one bucket's store can do with the credentials it was asked with.

    `problem` says why there is no access, or what of the probe was left behind; empty otherwise. `clock_skew_s` is the
    store's clock less this machine's, to the second; None when it sends no Date.
    """

    region: str
    bucket: str
    endpoint: str
    access: Access
    problem: str = ""
    clock_skew_s: float | None = None
    findings: tuple[Finding, ...] = ()

    @property
    def lacks(self) -> tuple[Finding, ...]:
        """What the store was seen not to do."""
        return tuple(one for one in self.findings if one.verdict == "no")

    @property
    def is_complete(self) -> bool:
        """False where asking again may find out more."""
        return self.access != "none" and all(one.verdict != "unknown" for one in self.findings if one.feature != CLOCK)

    def with_remedy(self, remedy: Remedy) -> dict[str, str]:
        """What was seen of the features that need this remedy."""
        return {one.feature: one.detail for one in self.findings if one.remedy == remedy}


CLOCK = "clock"
# In the order they are shown. A read-only probe finds out the first of them.
READ_FEATURES = (CLOCK, *READING)
FEATURES = (*READ_FEATURES, *WRITING)


async def probe(
    store: Store, bucket: str, *, token: str, clock: Callable[[], datetime], timeout_s: float = 10.0
) -> Capabilities:
    """Find out what `store` can do in `bucket`. Takes at most `timeout_s` and some seconds for cleaning up.

    `token` makes the scratch keys unique. Never raises for what the store does or fails to do.
    """
    scratch = Scratch(store, bucket, f"{PREFIX}{token}/", clock=clock, timeout_s=timeout_s)
    return await _Probe(store, scratch, timeout_s).run()


class _Probe:
    def __init__(self, store: Store, scratch: Scratch, timeout_s: float) -> None:
        self._store = store
        self._scratch = scratch
        self._timeout_s = timeout_s
        self._findings: dict[str, Finding] = {}

    async def run(self) -> Capabilities:
        access: Access = "none"
        problem = ""
        try:
            async with asyncio.timeout(self._timeout_s):
                access, problem = await self._find_access()
                if access != "none":
                    await self._find_features(access)
        except TimeoutError:
            problem = problem or (f"no answer within {self._timeout_s:g} s" if access == "none" else "")
        except UpstreamError as error:
            problem = f"cannot be reached: {error}"
        finally:
            left = await self._scratch.clean_up()
        if left:
            problem = f"{problem}; {left}" if problem else left
        features = () if access == "none" else READ_FEATURES if access == "read-only" else FEATURES
        late = f"not found out within {self._timeout_s:g} s"
        return Capabilities(
            region=self._store.region,
            bucket=self._scratch.bucket,
            endpoint=self._store.spec.endpoint,
            access=access,
            problem=problem,
            clock_skew_s=self._scratch.clock_skew_s,
            findings=tuple(
                self._findings.get(name) or Finding(feature=name, verdict="unknown", detail=late) for name in features
            ),
        )

    async def _find_access(self) -> tuple[Access, str]:
        head = await self._scratch.ask("HEAD")
        if head.status == 404:
            return "none", f"there is no bucket {self._scratch.bucket}"
        if head.status >= 500 or head.status in (301, 307):
            return "none", f"HEAD {self._scratch.bucket} was answered {head}"
        put = await self._scratch.put("object", OBJECT_FIELDS, BODY)
        if put.status == 200:
            return "read-write", ""
        if head.status == 200 and put.status in (401, 403, 405):
            return "read-only", ""
        said = await self._scratch.ask("GET", query="list-type=2&max-keys=1")  # HEAD has no words for what is wrong
        if said.status == 200:
            return "read-only", ""
        why = (
            ""
            if self._scratch.clock_skew_s is None or abs(self._scratch.clock_skew_s) < 60
            else f" (clocks differ by {self._scratch.clock_skew_s:+.0f} s)"
        )
        return "none", f"was answered {said if said.code else put}{why}"

    async def _find_features(self, access: Access) -> None:
        skew_s = self._scratch.clock_skew_s
        if skew_s is not None:
            in_time: Verdict = "yes" if abs(skew_s) < SKEW_S_MAX else "no"
            self._findings[CLOCK] = Finding(feature=CLOCK, verdict=in_time, detail=f"{skew_s:+.0f} s" if skew_s else "")
        else:
            self._findings[CLOCK] = Finding(feature=CLOCK, verdict="unknown", detail="answers carry no Date")
        trials = READING if access == "read-only" else READING | WRITING
        async with asyncio.TaskGroup() as group:
            for feature, trial in trials.items():
                group.create_task(self._try(feature, trial))

    async def _try(self, feature: str, trial: Trial) -> None:
        try:
            seen = await trial(self._scratch)
        except (UpstreamError, UnsettledError) as error:
            self._findings[feature] = Finding(feature=feature, verdict="unknown", detail=str(error))
        else:
            self._findings[feature] = Finding(
                feature=feature, verdict=seen.verdict, detail=seen.detail, remedy=seen.remedy
            )
