"""A set of sequences that takes a bit each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nearpoint.gateway.sequences import Sequences

STEPS = st.lists(st.tuples(st.booleans(), st.integers(min_value=1, max_value=3000)))


@given(STEPS)
def test_it_is_a_set(steps: list[tuple[bool, int]]) -> None:
    ours, theirs = Sequences(), set[int]()
    for adds, sequence in steps:
        changed = ours.add(sequence) if adds else ours.discard(sequence)
        assert changed == ((sequence not in theirs) if adds else (sequence in theirs))
        theirs.symmetric_difference_update({sequence} if changed else ())
        assert len(ours) == len(theirs)
