"""Which stored answers an invalidation takes away.

A path may end in `*`; it is compared as written and with its percent-escapes decoded, with the query that is in the
cache key (CloudFront Developer Guide, "Specify the objects to invalidate"). `#tag` takes every answer whose origin gave
it that tag (`tags`).

How many invalidations there have been does not matter to a comparison: for each item the latest moment counts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from urllib.parse import unquote

ITEMS_MAX = 10_000  # paths and tags remembered of a distribution; see `Invalidations.add`
IDS_MAX = 20_000  # of invalidations that are skipped when they come again


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalidation:
    """What was asked: everything that matches and was requested from the origin before `at` (Unix seconds) is gone.

    `exact` has paths, and tags in lower case behind a `#`; `prefixes` are paths that ended in `*`, without it.
    """

    id: str
    at: float
    exact: frozenset[str]
    prefixes: tuple[str, ...]


def compile_invalidation(
    *, invalidation_id: str, at: float, paths: Iterable[str], default_root_object: str = ""
) -> Invalidation:
    """Compile an invalidation's items. `/` also stands for the default root object."""
    exact: set[str] = set()
    prefixes: list[str] = []
    for given in paths:
        if given.startswith("#"):
            exact.add(given.lower())
            continue
        path = unquote(given if given.startswith(("/", "*")) else "/" + given)
        if path.endswith("*"):
            prefixes.append(path[:-1])
        else:
            exact.add(path)
            if path == "/" and default_root_object:
                exact.add("/" + default_root_object)
    return Invalidation(id=invalidation_id, at=at, exact=frozenset(exact), prefixes=tuple(prefixes))


class Invalidations:
    """What has been invalidated in one distribution. `count` grows with every invalidation."""

    __slots__ = ("_exact", "_floor_at", "_ids", "_lengths", "_prefixes", "_tagged", "count")

    def __init__(self) -> None:
        self.count = 0
        self._ids: dict[str, None] = {}
        self._exact: dict[str, float] = {}  # by path or #tag: when it was last invalidated
        self._prefixes: dict[str, float] = {}
        self._lengths: tuple[int, ...] = ()  # of the prefixes
        self._tagged = False
        self._floor_at = 0.0  # everything asked for before this moment is gone

    def add(self, news: Iterable[Invalidation]) -> bool:
        """Take note of invalidations; those known by their id are skipped. True when there was a new one.

        When there are too many items the older half is forgotten and takes everything of its time with it: too much is
        gone rather than too little.
        """
        before = self.count
        for each in news:
            if each.id in self._ids:
                continue
            self._ids[each.id] = None
            self.count += 1
            for item in each.exact:
                self._exact[item] = max(each.at, self._exact.get(item, 0.0))
                self._tagged = self._tagged or item.startswith("#")
            for prefix in each.prefixes:
                self._prefixes[prefix] = max(each.at, self._prefixes.get(prefix, 0.0))
        if self.count == before:
            return False
        if len(self._exact) + len(self._prefixes) > ITEMS_MAX:
            moments = sorted([*self._exact.values(), *self._prefixes.values()])
            self._floor_at = max(self._floor_at, moments[len(moments) // 2])
            self._exact = {item: at for item, at in self._exact.items() if at > self._floor_at}
            self._prefixes = {prefix: at for prefix, at in self._prefixes.items() if at > self._floor_at}
        if len(self._ids) > IDS_MAX:
            for id in list(self._ids)[: IDS_MAX // 2]:
                del self._ids[id]
        self._lengths = tuple(sorted({len(prefix) for prefix in self._prefixes}))
        return True

    def takes(self, path: str, requested_at: float, tags: Callable[[], Collection[str]]) -> bool:
        """Whether what was asked of the origin at that moment has been invalidated since.

        `path` has the keyed query if there is one. `tags` is asked for the answer's tags only where that may matter.
        """
        if requested_at <= self._floor_at:
            return True
        decoded = unquote(path)
        if self._exact.get(decoded, -1.0) >= requested_at:
            return True
        if any(self._prefixes.get(decoded[:length], -1.0) >= requested_at for length in self._lengths):
            return True
        return self._tagged and any(self._exact.get(f"#{tag}", -1.0) >= requested_at for tag in tags())
