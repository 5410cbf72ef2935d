"""When a probe counts as failed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.accesspoint.prober import INTERVAL_S, JITTER_RATIO, LATE_S, timeout_s


@given(st.floats(0, 300))
def test_a_silent_region_is_known_within_a_second_of_its_last_answer(rtt_ms: float) -> None:
    assert 2 * INTERVAL_S * (1 + JITTER_RATIO) + timeout_s(rtt_ms) <= 1.0


@given(st.floats(0, 2000))
def test_a_probe_has_time_for_its_round_trip(rtt_ms: float) -> None:
    assert timeout_s(rtt_ms) > 1.2 * rtt_ms / 1000


@pytest.mark.parametrize(("rtt_ms", "expected"), [(None, LATE_S), (0.5, 0.25), (100.0, 0.3), (1000.0, 1.35)])
def test_time_outs(rtt_ms: float | None, expected: float) -> None:
    assert timeout_s(rtt_ms) == pytest.approx(expected)
