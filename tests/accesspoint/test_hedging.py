"""Hedged reads, and session affinity."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from nearpoint.accesspoint.affinity import prefer
from nearpoint.accesspoint.health import State
from nearpoint.accesspoint.hedging import SAMPLES_MIN, Budget, SlowMark, race
from nearpoint.accesspoint.routes import Route
from nearpoint.wire.message import Response


def test_at_most_one_request_in_twenty_is_asked_twice() -> None:
    budget = Budget()
    taken = 0
    for _ in range(10_000):
        budget.earn()
        taken += budget.take()
    assert taken <= 501


def test_the_mark_is_the_95th_percentile_once_there_are_enough_samples() -> None:
    mark = SlowMark()
    for number in range(SAMPLES_MIN - 1):
        mark.add(float(number))
    assert mark.p95_s is None
    for number in range(100):
        mark.add(float(number))
    assert mark.p95_s is not None
    assert 75 <= mark.p95_s <= 96


async def _answer(status: int, after_s: float, log: list[str] | None = None) -> Response:
    try:
        await asyncio.sleep(after_s)
    except asyncio.CancelledError:
        if log is not None:
            log.append("cancelled")
        raise
    return Response(status)


async def test_the_first_good_answer_wins_and_the_loser_is_cancelled() -> None:
    log: list[str] = []
    response, by_second = await race(_answer(200, 30, log), lambda: _answer(201, 0), 0.01, Budget())
    assert (response.status, by_second, log) == (201, True, ["cancelled"])
    response, by_second = await race(_answer(200, 0), lambda: _answer(201, 0), 0.5, Budget())
    assert (response.status, by_second) == (200, False)


async def test_a_bad_answer_does_not_win() -> None:
    response, by_second = await race(_answer(200, 0.1), lambda: _answer(503, 0), 0.01, Budget())
    assert (response.status, by_second) == (200, False)


async def test_without_budget_nobody_else_is_asked() -> None:
    budget = Budget()
    while budget.take():
        pass
    response, by_second = await race(_answer(200, 0.05), lambda: _answer(201, 0), 0.01, budget)
    assert (response.status, by_second) == (200, False)


async def test_a_slow_region_is_overtaken(world: Any) -> None:
    world.publish(replace(world.access_point(), hedge_reads=True))
    for _ in range(SAMPLES_MIN + 5):
        assert (await world.ask("GET", "/hello.txt"))[2] == b"hello from near"
    world.stores["near"].behave = "far away"
    assert (await world.ask("GET", "/hello.txt"))[1].get("x-nearpoint-region") == "far"


ROUTES = (Route(region="a", bucket="a"), Route(region="b", bucket="b"))


@pytest.mark.parametrize(
    ("wanted", "state", "first"),
    [("b", State.HEALTHY, "b"), ("b", State.EJECTED, "a"), ("b", State.PROBATION, "a"), ("c", State.HEALTHY, "a")],
)
def test_affinity_is_bounded_by_health_and_dial(wanted: str, state: State, first: str) -> None:
    order = prefer(ROUTES, wanted, {"a": State.HEALTHY, "b": state})
    assert order[0].region == first
    assert set(order) == set(ROUTES)


async def test_a_client_stays_where_it_asks_to(world: Any) -> None:
    prefer_far = [("x-nearpoint-prefer-region", "far")]
    assert (await world.ask("GET", "/hello.txt", headers=prefer_far))[2] == b"hello from far"
    assert world.stores["far"].requests[-1].headers.get("x-nearpoint-prefer-region") is None
    world.publish(world.access_point(far=0))
    assert (await world.ask("GET", "/hello.txt", headers=prefer_far))[2] == b"hello from near"
    world.publish(replace(world.access_point(), affinity=False))
    assert (await world.ask("GET", "/hello.txt", headers=prefer_far))[2] == b"hello from near"
