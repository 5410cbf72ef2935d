"""The garbage collector of a process that serves requests.

Requests leave next to no cycles behind, so every look for them is for nothing: with Python's own setting it takes some
4 % of a worker that proxies small objects. A look at everything there is takes most of a second where a million answers
are kept, and nobody is answered meanwhile; what an edge lets go of is part of no cycle (`tests/edge/test_hot.py`), and
cycles of requests that were broken off are found while they are young.
"""

from __future__ import annotations

import gc

# Objects made and not yet freed before the youngest are looked through (Python: 700); a few megabytes at most.
YOUNG_OBJECTS_MAX = 10_000
MIDDLE_ROUNDS = 3  # looks at the youngest before those that outlived one are looked through
OLD_ROUNDS = 100_000  # once in some thousand million objects


def settle() -> None:
    """Call when start-up is done: what there is now is never looked at again, what comes is looked at less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, MIDDLE_ROUNDS, OLD_ROUNDS)
