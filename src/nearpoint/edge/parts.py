"""A large body in parts: each is fetched, kept and let go by itself, so that a range costs what it needs.

Parts are PART_BYTES long, the last one shorter. What is asked of an origin begins and ends where parts do.
"""

from __future__ import annotations

import re

from nearpoint.wire.ranges import parse_content_range

PART_BYTES = 1_048_576
_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")


def aligned_range(value: str | None) -> tuple[int, int | None] | None:
    """First and last byte (None: the end) of the parts that a Range field touches.

    None where it is not one range that begins at a byte: the size isn't known yet, so a suffix can't be told.
    """
    found = _RANGE.fullmatch((value or "").strip())
    if found is None:
        return None
    first = int(found[1])
    last = int(found[2]) if found[2] else None
    if last is not None and last < first:
        return None
    end = None if last is None else (last // PART_BYTES + 1) * PART_BYTES - 1
    return first // PART_BYTES * PART_BYTES, end


def range_field(first: int, last: int | None) -> str:
    """The Range field for these bytes."""
    return f"bytes={first}-{'' if last is None else last}"


def read_content_range(value: str | None) -> tuple[int, int, int] | None:
    """First byte, last byte and size that a Content-Range states; None where it states none, or nonsense."""
    stated = parse_content_range(value or "")
    if stated is None or stated.span is None or stated.size is None:
        return None
    return stated.span.first, stated.span.last, stated.size


def part_count(size: int) -> int:
    """How many parts a body of this size has."""
    return -(-size // PART_BYTES)


def part_size(size: int, number: int) -> int:
    """How long a part of a body of this size is."""
    return min(PART_BYTES, size - number * PART_BYTES)
