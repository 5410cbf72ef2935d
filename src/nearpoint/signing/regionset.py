"""Matches a Region against a SigV4A region set: a comma-separated list of names in which `*` stands for anything."""

from __future__ import annotations

# AWS has some forty Regions.
_ENTRIES_MAX = 64
_BYTES_MAX = 2048
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789-*"


def _matches(pattern: str, region: str) -> bool:
    head, star, tail = pattern.partition("*")
    if not star:
        return pattern == region
    if not region.startswith(head):
        return False
    *middle, last = tail.split("*")
    at = len(head)
    for part in middle:
        found = region.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return len(region) - len(last) >= at and region.endswith(last)


def is_region_set(region_set: str) -> bool:
    """Whether the text is a region set of sane size: no empty entry, only the characters of Region names and `*`."""
    if not 0 < len(region_set) <= _BYTES_MAX:
        return False
    entries = region_set.split(",")
    return len(entries) <= _ENTRIES_MAX and all(
        name and not name.strip(_CHARACTERS) for name in (entry.strip(" ") for entry in entries)
    )


def region_set_matches(region_set: str, region: str) -> bool:
    """Whether a signature for this set is good in this Region."""
    return any(_matches(entry.strip(" "), region) for entry in region_set.split(","))
