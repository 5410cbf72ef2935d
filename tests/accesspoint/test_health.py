"""The health of a region: every state with every signal, and what the counts amount to."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.accesspoint.health import (
    HOLD_S_MAX,
    PASSES_TO_RETURN,
    TRANSITIONS,
    UNREACHABLE_IN_A_ROW,
    Outcome,
    RegionHealth,
    Signal,
    State,
)

FAILURES = [outcome for outcome in Outcome if outcome is not Outcome.OK]


def test_every_state_answers_every_signal() -> None:
    assert set(TRANSITIONS) == set(itertools.product(State, Signal))


def test_a_region_is_never_healthy_again_without_probation() -> None:
    for (state, _), after in TRANSITIONS.items():
        if state is State.EJECTED:
            assert after is not State.HEALTHY


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.LOST, Outcome.TIMEOUT])
def test_two_unreachable_in_a_row_eject(outcome: Outcome) -> None:
    health = RegionHealth()
    assert not health.observe(outcome, probe=True, now_s=1.0)
    health.observe(Outcome.OK, probe=False, now_s=1.1)
    assert not health.observe(outcome, probe=True, now_s=1.2)
    assert health.observe(outcome, probe=False, now_s=1.3)
    assert (health.state, health.reason) == (State.EJECTED, outcome.value)


def test_half_of_the_answers_being_errors_ejects_though_none_follow_each_other() -> None:
    health = RegionHealth()
    for at in range(40):
        health.observe(Outcome.SERVER_ERROR if at % 2 else Outcome.OK, probe=False, now_s=1.0 + at / 1000)
    assert health.state is State.EJECTED


def test_errors_spread_over_time_do_not_eject() -> None:
    health = RegionHealth()
    for at in range(400):
        health.observe(Outcome.SERVER_ERROR if at % 2 else Outcome.OK, probe=False, now_s=1.0 + at / 10)
    assert health.state is State.HEALTHY


def test_only_passing_probes_bring_a_region_back() -> None:
    health = RegionHealth()
    for _ in range(UNREACHABLE_IN_A_ROW):
        health.observe(Outcome.TIMEOUT, probe=True, now_s=1.0)
    for _ in range(50):
        health.observe(Outcome.OK, probe=False, now_s=9.0)
    assert health.state is State.EJECTED
    states = []
    for _ in range(PASSES_TO_RETURN):
        health.observe(Outcome.OK, probe=True, now_s=9.0)
        states.append(health.state)
    assert states == [State.PROBATION, State.PROBATION, State.HEALTHY]
    assert health.reason == ""


def test_one_failure_on_probation_ejects_again_and_for_longer() -> None:
    health = RegionHealth()
    for _ in range(UNREACHABLE_IN_A_ROW):
        health.observe(Outcome.TIMEOUT, probe=True, now_s=1.0)
    first_s = health.hold_s
    health.observe(Outcome.OK, probe=True, now_s=2.0)
    assert health.observe(Outcome.SERVER_ERROR, probe=True, now_s=2.1)
    assert health.state is State.EJECTED
    assert health.hold_s == 2 * first_s
    assert not health.observe(Outcome.OK, probe=True, now_s=2.1 + health.hold_s / 2)


@given(st.lists(st.tuples(st.sampled_from(list(Outcome)), st.booleans(), st.floats(0, 5)), max_size=200))
def test_whatever_happens_a_region_that_passes_probes_returns(story) -> None:
    health = RegionHealth()
    now_s = 0.0
    for outcome, probe, later_s in story:
        before = health.state
        now_s += later_s
        changed = health.observe(outcome, probe=probe, now_s=now_s)
        assert changed == (health.state is not before)
        assert (health.reason == "") == (health.state is State.HEALTHY)
    now_s += HOLD_S_MAX
    for _ in range(PASSES_TO_RETURN):
        health.observe(Outcome.OK, probe=True, now_s=now_s)
    assert health.state is State.HEALTHY
