"""One page of a listing: keys in UTF-8 order, rolled up into common prefixes, continued where the last page ended.

The rows come from `Seek`, an index cursor. A common prefix is left by seeking behind it, so a page costs what it shows,
not what lies under it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from nearpoint.bucket.names import successor

Row = tuple[Any, ...]  # (key, ordinal, …): keys rise, ordinals of one key fall

_STEPS_BEFORE_SEEK = 2  # rows passed one by one before a seek is cheaper


@dataclass(frozen=True, slots=True)
class Position:
    """Where to begin: at the first row whose key is ≥ `key`, or, with `below`, within `key` at ordinals below it."""

    key: bytes
    below: Any = None


Seek = Callable[[Position, bytes | None], Iterator[Row]]  # rows from the position up to, not including, the key


@dataclass(frozen=True, slots=True)
class Page:
    """Rows and common prefixes in order. `next`: where the next page begins, None on the last page.

    `last` is the last key or common prefix shown.
    """

    rows: list[Row]
    prefixes: list[bytes]
    last: bytes | None
    next: Position | None


def after(key: bytes) -> Position:
    """Behind every row of a key."""
    return Position(key + b"\0")


def after_marker(marker: bytes, prefix: bytes, delimiter: bytes) -> Position:
    """Behind a marker that a client sent: a key, or a common prefix of the page before, which is left as a whole."""
    if delimiter and marker.startswith(prefix) and marker.endswith(delimiter):
        rolled = rolled_up(marker, prefix, delimiter)
        end = successor(marker)
        if rolled == marker and end is not None:
            return Position(end)
    return after(marker)


def rolled_up(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """The common prefix that stands for this key, or None when the key is listed itself."""
    if not delimiter:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]


def read_page(seek: Seek, *, prefix: bytes, delimiter: bytes, start: Position, limit: int) -> Page:
    """At most `limit` rows and common prefixes together, from `start` on, of keys that begin with `prefix`."""
    end = successor(prefix) if prefix else None
    position = start if start.key >= prefix else Position(prefix)
    rows: list[Row] = []
    prefixes: list[bytes] = []
    last: bytes | None = None
    if limit <= 0:
        return Page(rows, prefixes, None, None)
    if not delimiter:
        rows = list(islice(seek(position, end), limit + 1))
        more = len(rows) > limit
        del rows[limit:]
        last = rows[-1][0] if rows else None
        return Page(rows, prefixes, last, Position(rows[-1][0], rows[-1][1]) if more else None)
    while True:
        cursor = seek(position, end)
        inside: bytes | None = None
        steps = 0
        for row in cursor:
            key: bytes = row[0]
            if inside is not None and key.startswith(inside):
                steps += 1
                if steps < _STEPS_BEFORE_SEEK:
                    continue
                break
            inside = None
            if len(rows) + len(prefixes) == limit:
                return Page(rows, prefixes, last, position)
            rolled = rolled_up(key, prefix, delimiter)
            if rolled is None:
                rows.append(row)
                last = key
                position = Position(key, row[1])
            else:
                prefixes.append(rolled)
                last = inside = rolled
                steps = 0
                behind = successor(rolled)
                if behind is None:
                    return Page(rows, prefixes, last, None)
                position = Position(behind)
        else:
            return Page(rows, prefixes, last, None)
