"""How long to wait before trying again (pure): doubling, up to a bound, never giving up, spread by chance."""

from __future__ import annotations

FIRST_S = 0.05
LONGEST_S = 0.5  # two questions a second are little to a store, and half a second is soon after an outage


def delay_s(failures: int, chance: float) -> float:
    """After so many failures in a row. `chance` is between 0 and 1: half of the delay is left to it, so that those who
    failed together don't come back together."""
    whole = min(LONGEST_S, FIRST_S * 2.0 ** min(failures - 1, 30))
    return whole * (0.5 + chance / 2)
