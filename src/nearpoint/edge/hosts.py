"""Which distribution answers for a Host: by its name, or by the most specific wildcard above it.

`*.example.com` stands for every name below example.com, however deep (CloudFront Developer Guide, "Using the * wildcard
in alternate domain names").
"""

from __future__ import annotations

from collections.abc import Iterable

from nearpoint.edge.config import Distribution

HOST_CHARACTERS_MAX = 253


class Hosts:
    """The names of some distributions; `default` answers for every other."""

    def __init__(self, distributions: Iterable[Distribution] = (), default: Distribution | None = None) -> None:
        listed = [*distributions, *((default,) if default is not None else ())]
        self.by_id = {each.id: each for each in listed}
        self.default = default
        self._by_name = {host: each for each in listed for host in each.hosts}
        self._wild = any(host.startswith("*.") for host in self._by_name)

    def find(self, host: str) -> Distribution | None:
        """The distribution for a Host, in lower case and without its port."""
        found = self._by_name.get(host)
        if found is None and self._wild and len(host) <= HOST_CHARACTERS_MAX:
            _, dot, parent = host.partition(".")
            while dot and found is None:
                found = self._by_name.get("*." + parent)
                _, dot, parent = parent.partition(".")
        return found if found is not None else self.default

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hosts) and (self._by_name, self.default) == (other._by_name, other.default)

    __hash__ = None  # type: ignore[assignment]
