"""How much memory processes take, from /proc."""

from __future__ import annotations

import contextlib


def resident_bytes(pid: int, *, descendants: bool = True) -> int:
    """Memory of a process (and its descendants), each shared page counted by its share (PSS, proc(5))."""
    total = 0
    for each in (pid, *(_descendants(pid) if descendants else ())):
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += _pss_bytes(each)
    return total


def _pss_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123
        for child in map(int, file.read().split()):
            found += [child, *_descendants(child)]
    return found
