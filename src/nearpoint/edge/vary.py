"""The secondary key (RFC 9111 §4.1): the fields that Vary names, as the origin saw them.

A field that is not forwarded to the origin can't have changed its answer, so it is not told apart either.
"""

from __future__ import annotations

from collections.abc import Iterable

from nearpoint.wire.message import Headers

VARY_FIELDS_MAX = 16  # more names than any real origin sends; an answer with more is not kept

Variance = tuple[str, ...]  # field names in lower case, sorted


def vary_names(values: Iterable[str]) -> Variance | None:
    """The names in a response's Vary fields. None: nothing may be reused (`*`, or too many names)."""
    names: set[str] = set()
    for value in values:
        names.update(name.strip().lower() for name in value.split(","))
    names.discard("")
    if "*" in names or len(names) > VARY_FIELDS_MAX:
        return None
    return tuple(sorted(names))


def variant(names: Variance, forwarded: Headers) -> tuple[str | None, ...]:
    """The values that tell variants apart, taken from the request as it goes to the origin."""
    return tuple(_normal(forwarded.joined(name)) for name in names)


def _normal(value: str | None) -> str | None:
    return None if value is None else ",".join(item.strip() for item in value.split(","))
