"""Which stored answers an invalidation takes away.

A path may end in `*`; it is compared as written and with its percent-escapes decoded, with the query that is in the
cache key (CloudFront Developer Guide, "Specify the objects to invalidate").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import unquote


@dataclass(frozen=True, slots=True, kw_only=True)
class PathInvalidation:
    """What was asked: everything that matches and was requested from the origin before `at` (Unix seconds) is gone."""

    id: str
    at: float
    exact: frozenset[str]
    prefixes: tuple[str, ...]

    def matches(self, path: str) -> bool:
        """Whether a path, with its keyed query if it has one, is among those invalidated."""
        decoded = unquote(path)
        return decoded in self.exact or decoded.startswith(self.prefixes)


def compile_invalidation(
    *, invalidation_id: str, at: float, paths: Iterable[str], default_root_object: str = ""
) -> PathInvalidation:
    """Compile an invalidation's paths. `/` also stands for the default root object."""
    exact: set[str] = set()
    prefixes: list[str] = []
    for given in paths:
        path = unquote(given if given.startswith(("/", "*")) else "/" + given)
        if path.endswith("*"):
            prefixes.append(path[:-1])
        else:
            exact.add(path)
            if path == "/" and default_root_object:
                exact.add("/" + default_root_object)
    return PathInvalidation(id=invalidation_id, at=at, exact=frozenset(exact), prefixes=tuple(prefixes))


def is_invalidated(path: str, requested_at: float, invalidations: Iterable[PathInvalidation]) -> bool:
    """Whether what was asked of the origin at `requested_at` for this path has been invalidated since."""
    return any(each.at >= requested_at and each.matches(path) for each in invalidations)
