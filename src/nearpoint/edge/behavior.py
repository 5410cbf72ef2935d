"""Which behavior serves a path: the first whose pattern matches, in order.

`*` stands for any run of characters, `?` for exactly one; case counts (CloudFront Developer Guide, "Path pattern").
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

PATTERN_LENGTH_MAX = 255  # Developer Guide, "Path pattern"
_UNRESERVED_ESCAPE = re.compile(r"%(?:4[1-9A-Fa-f]|5[0-9Aa]|6[1-9A-Fa-f]|7[0-9Aa]|3[0-9]|2[DdEe]|5[Ff]|7[Ee])")


@dataclass(frozen=True, slots=True)
class PathPattern:
    """A compiled path pattern."""

    text: str
    parts: tuple[str, ...]  # the runs between `*`, in order

    def matches(self, path: str) -> bool:
        """Whether the whole path matches. Takes time linear in the pattern's and the path's length, no backtracking."""
        first, *rest = self.parts
        if not rest:
            return len(path) == len(first) and _match_at(first, path, 0)
        if not _match_at(first, path, 0):
            return False
        last = rest.pop()
        at, end = len(first), len(path) - len(last)
        for part in rest:
            found = _find(part, path, at, end)
            if found < 0:
                return False
            at = found + len(part)
        return at <= end and _match_at(last, path, end)


def _match_at(part: str, path: str, at: int) -> bool:
    if "?" not in part:
        return path.startswith(part, at)
    if len(path) - at < len(part):
        return False
    return all(want in ("?", have) for want, have in zip(part, path[at : at + len(part)], strict=True))


def _find(part: str, path: str, start: int, end: int) -> int:
    if "?" not in part:
        return path.find(part, start, end)
    for at in range(start, end - len(part) + 1):
        if _match_at(part, path, at):
            return at
    return -1


def compile_pattern(text: str) -> PathPattern:
    """Compile a pattern; a missing leading slash is added, as CloudFront does."""
    absolute = text if text.startswith(("/", "*")) else "/" + text
    parts = re.sub(r"\*+", "*", absolute).split("*")
    return PathPattern(text, tuple(parts))


def normal_path(path: str) -> str:
    """The path as RFC 3986 §6.2.2 normalises it: unreserved characters decoded, dot segments removed.

    Behaviors are matched on this, so `/public/../private/x` can't pass for public; the origin gets the raw path.
    """
    if "%" in path:
        path = _UNRESERVED_ESCAPE.sub(lambda found: chr(int(found.group()[1:], 16)), path)
    if "/." not in path:
        return path
    segments: list[str] = []
    for segment in path.split("/")[1:]:
        if segment == "..":
            if segments:
                segments.pop()
        elif segment != ".":
            segments.append(segment)
    if path.endswith(("/.", "/..")):
        segments.append("")
    return "/" + "/".join(segments)


class Patterned(Protocol):
    @property
    def pattern(self) -> PathPattern | None: ...


B = TypeVar("B", bound=Patterned)


def choose_behavior(behaviors: Sequence[B], path: str) -> B:
    """The first behavior whose pattern matches the path; the last one, the default, has no pattern."""
    if len(behaviors) > 1:
        normal = normal_path(path)
        for behavior in behaviors[:-1]:
            if behavior.pattern is not None and behavior.pattern.matches(normal):
                return behavior
    return behaviors[-1]
