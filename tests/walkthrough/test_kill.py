"""kill -9 of any child while viewers ask: the requests in flight on that child may fail, no others; the world heals."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = "us-east-1"
IN_FLIGHT = 4  # the loop's curls
# A viewer's connection ends in the node of its location and leads through the links. All else is behind those.
CARRIES_VIEWERS = {"links", "node-1"}


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.1)


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        children = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return children + [below for child in children for below in children_of(child)]
    return []


CHILDREN = ("nats", "control", "node-1", "node-2", "links", "replication", "store-us-east-1", "store-eu-west-1")


def test_these_are_all_children(app: Any) -> None:
    assert set(app.world.pids()) - {"supervisor"} <= set(CHILDREN)


@pytest.mark.parametrize("name", CHILDREN)
def test_a_killed_process_costs_no_more_than_its_requests_in_flight(app: Any, curl_loop: Any, name: str) -> None:
    world = app.world
    before = world.pids()
    if name not in before:
        pytest.skip("no such process in this world")
    loop = curl_loop(world, HERE, app.url)
    os.kill(before[name], signal.SIGKILL)
    wait_until(lambda: world.pids().get(name) not in (before[name], None), f"{name} does not come back")
    wait_until(lambda: world.status()["ready"], "the world does not heal")
    answers = loop.end()
    failed = [answer for answer in answers if answer[0] != 200]
    assert len(failed) <= (IN_FLIGHT if name in CARRIES_VIEWERS else 0), failed
    assert len(answers) > len(failed)
    # A store is asked again once its region has passed probes.
    wait_until(lambda: app.ask("eu-west-1") == app.hello("eu-west-1"), "the far region is not back")
    # And what it does is done again: the control plane answers and the nodes hear of it.
    world.aws("sts").get_caller_identity()
    wait_until(lambda: app.ask(HERE) == app.hello(HERE), "the nearest region is not back")


def test_killed_functions_cost_a_request_each(app: Any, curl_loop: Any) -> None:
    world = app.world
    loop = curl_loop(world, HERE, app.url)
    processes = children_of(world.pids()["node-1"])
    assert len(processes) >= 2  # a zygote and a worker
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    failed = [answer for answer in loop.end() if answer[0] != 200]
    assert len(failed) <= IN_FLIGHT, failed
    assert app.ask(HERE) == app.hello(HERE)


def test_a_node_serves_and_starts_without_the_state_store(app: Any) -> None:
    """NATS hangs rather than dies: a dead one would be started again before this test could look."""
    world = app.world
    before = world.pids()
    os.kill(before["nats"], signal.SIGSTOP)
    try:
        assert app.ask(HERE) == app.hello(HERE)
        os.kill(before["node-1"], signal.SIGKILL)
        world.forget_connections()
        wait_until(lambda: world.pids()["node-1"] not in (before["node-1"], None), "node-1 does not come back")
        assert app.ask(HERE) == app.hello(HERE)
        wait_until(lambda: world.status()["ready"], "the world is not ready")
    finally:
        os.kill(before["nats"], signal.SIGCONT)
    # And it hears what is new as soon as the state store is back.
    _turn_dial(app, 0)
    wait_until(lambda: app.ask(HERE) == app.hello("eu-west-1"), "the dial has no effect")
    _turn_dial(app, 100)
    wait_until(lambda: app.ask(HERE) == app.hello(HERE), "the dial has no effect")


def _turn_dial(app: Any, percent: int) -> None:
    update = {"Bucket": app.buckets[HERE], "Region": HERE, "TrafficDialPercentage": percent}
    app.world.aws("s3control").submit_multi_region_access_point_routes(
        AccountId=app.world.settings["account_id"], Mrap=app.arn, RouteUpdates=[update]
    )
