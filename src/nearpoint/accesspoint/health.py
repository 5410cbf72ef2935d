"""Whether a region can be used, from what probes and requests saw.

A state machine per region whose moves are TRANSITIONS; every time is an argument, in seconds of one monotonic clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class State(Enum):
    """HEALTHY takes traffic; EJECTED takes none while another region can; PROBATION is half open: probes only."""

    HEALTHY = "healthy"
    EJECTED = "ejected"
    PROBATION = "probation"


class Outcome(Enum):
    """What came of one probe or request."""

    OK = "ok"
    REFUSED = "connection refused"
    LOST = "connection lost"
    TIMEOUT = "time-out"
    SERVER_ERROR = "server error"


class Signal(Enum):
    """What the counts of outcomes amount to."""

    PASSED = "passed"
    PASSED_ENOUGH = "passed enough"
    FAILED = "failed"
    FAILED_ENOUGH = "failed enough"


TRANSITIONS: Mapping[tuple[State, Signal], State] = {
    (State.HEALTHY, Signal.PASSED): State.HEALTHY,
    (State.HEALTHY, Signal.PASSED_ENOUGH): State.HEALTHY,
    (State.HEALTHY, Signal.FAILED): State.HEALTHY,
    (State.HEALTHY, Signal.FAILED_ENOUGH): State.EJECTED,
    (State.EJECTED, Signal.PASSED): State.PROBATION,
    (State.EJECTED, Signal.PASSED_ENOUGH): State.PROBATION,
    (State.EJECTED, Signal.FAILED): State.EJECTED,
    (State.EJECTED, Signal.FAILED_ENOUGH): State.EJECTED,
    (State.PROBATION, Signal.PASSED): State.PROBATION,
    (State.PROBATION, Signal.PASSED_ENOUGH): State.HEALTHY,
    (State.PROBATION, Signal.FAILED): State.EJECTED,
    (State.PROBATION, Signal.FAILED_ENOUGH): State.EJECTED,
}

# With a probe every 250 ms and 450 ms to answer, two failures in a row are known 1 s after a region fell silent.
UNREACHABLE_IN_A_ROW = 2
SERVER_ERRORS_IN_A_ROW = 3
# A region that answers half of its requests with 5xx is no better than one that is silent.
ERROR_RATIO = 0.5
ERROR_RATIO_OUTCOMES_MIN = 20
ERROR_WINDOW_S = 1.0
PASSES_TO_RETURN = 3
# After an ejection probes must pass for this long; doubled for every further one within HOLD_MEMORY_S.
HOLD_S = 0.5
HOLD_S_MAX = 16.0
HOLD_MEMORY_S = 60.0


class RegionHealth:
    """One region's state. `reason` says in words why it is not healthy; empty when it is."""

    __slots__ = (
        "_bad",
        "_ejected_at_s",
        "_ejections",
        "_errors_in_a_row",
        "_good",
        "_passes_in_a_row",
        "_unreachable_in_a_row",
        "_window_started_s",
        "reason",
        "state",
    )

    def __init__(self) -> None:
        self.state = State.HEALTHY
        self.reason = ""
        self._unreachable_in_a_row = 0
        self._errors_in_a_row = 0
        self._passes_in_a_row = 0
        self._good = 0
        self._bad = 0
        self._window_started_s = 0.0
        self._ejected_at_s = 0.0
        self._ejections = 0

    def observe(self, outcome: Outcome, *, probe: bool, now_s: float) -> bool:
        """Take in what a probe or a request saw; True when the state changed.

        Only probes bring a region back: a request's success says nothing of the others.
        """
        if now_s - self._window_started_s >= ERROR_WINDOW_S:
            self._window_started_s, self._good, self._bad = now_s, 0, 0
        if outcome is Outcome.OK:
            self._good += 1
            self._unreachable_in_a_row = self._errors_in_a_row = 0
            if self.state is State.HEALTHY or not probe or now_s - self._ejected_at_s < self.hold_s:
                return False
            self._passes_in_a_row += 1
            enough = self._passes_in_a_row >= PASSES_TO_RETURN
            return self._move(Signal.PASSED_ENOUGH if enough else Signal.PASSED, outcome, now_s)
        self._bad += 1
        self._passes_in_a_row = 0
        if outcome is Outcome.SERVER_ERROR:
            self._errors_in_a_row += 1
        else:
            self._unreachable_in_a_row += 1
        return self._move(Signal.FAILED_ENOUGH if self._failed_enough() else Signal.FAILED, outcome, now_s)

    @property
    def is_steady(self) -> bool:
        """True for a healthy region whose last outcome was good."""
        return self.state is State.HEALTHY and not (self._unreachable_in_a_row or self._errors_in_a_row)

    @property
    def hold_s(self) -> float:
        """For how long after its ejection the region stays out whatever its probes say."""
        return float(min(HOLD_S * 2 ** max(0, self._ejections - 1), HOLD_S_MAX))

    def _failed_enough(self) -> bool:
        outcomes = self._good + self._bad
        return (
            self._unreachable_in_a_row >= UNREACHABLE_IN_A_ROW
            or self._errors_in_a_row >= SERVER_ERRORS_IN_A_ROW
            or (outcomes >= ERROR_RATIO_OUTCOMES_MIN and self._bad >= ERROR_RATIO * outcomes)
        )

    def _move(self, signal: Signal, outcome: Outcome, now_s: float) -> bool:
        before, self.state = self.state, TRANSITIONS[self.state, signal]
        if before is self.state:
            return False
        if self.state is State.EJECTED:
            if now_s - self._ejected_at_s > HOLD_MEMORY_S:
                self._ejections = 0
            self._ejections += 1
            self._ejected_at_s = now_s
            self.reason = outcome.value
        elif self.state is State.HEALTHY:
            self.reason = ""
            self._unreachable_in_a_row = self._errors_in_a_row = self._good = self._bad = 0
        return True
