"""Reads Cache-Control (RFC 9111 §5.2): directives that a shared cache has to know, and what a doubtful one means.

A doubtful value is read on the safe side: a malformed or repeated max-age counts as 0 (§4.2.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

DELTA_SECONDS_MAX = 2**31  # RFC 9111 §1.2.2
_ITEM = re.compile(r"""[\s,]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s,"]*))?\s*""")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheControl:
    """A response's directives. Times are in seconds; None: not there."""

    no_store: bool = False
    no_cache: bool = False
    no_cache_fields: tuple[str, ...] = ()
    private: bool = False
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    max_age_s: int | None = None
    s_maxage_s: int | None = None
    stale_while_revalidate_s: int | None = None
    stale_if_error_s: int | None = None


EMPTY = CacheControl()


def _delta(value: str, before: int | None) -> int:
    text = value.strip('"')
    seconds = 0
    if text.isascii() and text.isdigit():
        digits = text.lstrip("0")
        seconds = min(int(digits or 0), DELTA_SECONDS_MAX) if len(digits) < 20 else DELTA_SECONDS_MAX
    return seconds if before is None else min(seconds, before)


def _items(value: str) -> Iterable[tuple[str, str]]:
    at = 0
    while at < len(value):
        found = _ITEM.match(value, at)
        if found is None or found.end() == at:
            comma = value.find(",", at)  # what can't be read is skipped up to the next directive
            if comma < 0:
                return
            at = comma + 1
            continue
        yield found[1].lower(), found[2] or ""
        at = found.end()


def parse_cache_control(values: Iterable[str]) -> CacheControl:
    """Every Cache-Control field of a response as one value."""
    joined = ",".join(values)
    return _parse(joined) if joined else EMPTY


@lru_cache(maxsize=1024)  # origins say the same few things again and again
def _parse(joined: str) -> CacheControl:
    flags: set[str] = set()
    times: dict[str, int] = {}
    fields: list[str] = []
    for name, value in _items(joined):
        if name in ("max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"):
            times[name] = _delta(value, times.get(name))
        elif name == "no-cache" and value.strip('"'):
            fields += [field.strip().lower() for field in value.strip('"').split(",") if field.strip()]
        else:
            flags.add(name)
    return CacheControl(
        no_store="no-store" in flags,
        no_cache="no-cache" in flags,
        no_cache_fields=tuple(fields),
        private="private" in flags,
        public="public" in flags,
        must_revalidate="must-revalidate" in flags,
        proxy_revalidate="proxy-revalidate" in flags,
        max_age_s=times.get("max-age"),
        s_maxage_s=times.get("s-maxage"),
        stale_while_revalidate_s=times.get("stale-while-revalidate"),
        stale_if_error_s=times.get("stale-if-error"),
    )
