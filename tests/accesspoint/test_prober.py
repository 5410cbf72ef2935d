"""When a probe counts as failed."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.accesspoint.fleet import Fleet
from nearpoint.accesspoint.health import Outcome
from nearpoint.accesspoint.prober import INTERVAL_S, JITTER_RATIO, LATE_S, TIMEOUT_S_MIN, Prober, timeout_s
from nearpoint.regions.store import Store
from nearpoint.wire.message import Response


@given(st.floats(0, 300))
def test_a_silent_region_is_known_within_a_second_of_its_last_answer(rtt_ms: float) -> None:
    assert 2 * INTERVAL_S * (1 + JITTER_RATIO) + timeout_s(rtt_ms) <= 1.0


@given(st.floats(0, 2000))
def test_a_probe_has_time_for_its_round_trip(rtt_ms: float) -> None:
    assert timeout_s(rtt_ms) > 1.2 * rtt_ms / 1000


@pytest.mark.parametrize(("rtt_ms", "expected"), [(None, LATE_S), (0.5, 0.25), (100.0, 0.3), (1000.0, 1.35)])
def test_time_outs(rtt_ms: float | None, expected: float) -> None:
    assert timeout_s(rtt_ms) == pytest.approx(expected)


class Region:
    """A store that answers after a while, and holds the whole process up while it does, if told to."""

    def __init__(self, answers_after_s: float, *, blocks_s: float = 0) -> None:
        self.answers_after_s, self.blocks_s = answers_after_s, blocks_s

    async def send(self, *_: Any, **__: Any) -> Response:
        asyncio.get_running_loop().call_later(0.01, time.sleep, self.blocks_s)
        await asyncio.sleep(self.answers_after_s)
        return Response(404)


async def outcome_of(region: Region, rtt_ms: float) -> Outcome:
    stores = cast(dict[str, Store], {"eu-west-1": region})
    fleet = Fleet(stores)
    fleet.measure("eu-west-1", rtt_ms)
    prober = Prober(fleet, stores, clock_s=time.monotonic, draw=lambda: 0.5, is_idle=lambda: False)
    return await prober.probe("eu-west-1")


async def test_a_region_that_is_silent_has_failed() -> None:
    assert await outcome_of(Region(10 * TIMEOUT_S_MIN), 1.0) is Outcome.TIMEOUT


async def test_a_process_that_was_held_up_does_not_blame_the_region() -> None:
    region = Region(TIMEOUT_S_MIN + 0.1, blocks_s=TIMEOUT_S_MIN + 0.07)
    assert await outcome_of(region, 1.0) is Outcome.OK
