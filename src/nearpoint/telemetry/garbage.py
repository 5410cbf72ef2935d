"""The garbage collector of a process that serves requests.

Requests leave next to no cycles behind, so every look for them is for nothing: with Python's own setting it takes some
4 % of a worker that proxies small objects.
"""

from __future__ import annotations

import gc

# Objects made and not yet freed before the youngest are looked through (Python: 700); a few megabytes at most.
YOUNG_OBJECTS_MAX = 10_000


def settle() -> None:
    """Call when start-up is done: what there is now is never looked at again, what comes is looked at less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS_MAX, *gc.get_threshold()[1:])
