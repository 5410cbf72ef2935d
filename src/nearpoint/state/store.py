"""What keeps resources has to do. `nats.NatsState` does it durably; `MemoryState` shows all of the behaviour, and is
what tests run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from nearpoint.state.resources import Resource

R = TypeVar("R", bound=Resource)


class State(Protocol):
    """Reads are from memory and immediate; a write returns once it is durable.

    One process (the control plane's) writes. `version` rises by one with every write.
    """

    @property
    def version(self) -> int: ...

    def get(self, kind: type[R], id: str) -> R | None:
        """The resource of that kind and id, or None."""

    def list(self, kind: type[R]) -> list[R]:
        """Every resource of the kind, by id."""

    async def put(self, resource: Resource) -> None:
        """Create or replace."""

    async def delete(self, resource: Resource) -> None:
        """Remove; nothing happens if it is not there."""

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back after every write."""


class MemoryState:
    """State in this process's memory alone: gone with it."""

    def __init__(self) -> None:
        self._resources: dict[str, dict[str, Resource]] = {}
        self._callbacks: list[Callable[[], None]] = []
        self.version = 0

    def get(self, kind: type[R], id: str) -> R | None:
        found = self._resources.get(kind.KIND, {}).get(id)
        return found if isinstance(found, kind) else None

    def list(self, kind: type[R]) -> list[R]:
        of_kind = self._resources.get(kind.KIND, {})
        return [resource for _, resource in sorted(of_kind.items()) if isinstance(resource, kind)]

    async def put(self, resource: Resource) -> None:
        self._resources.setdefault(resource.KIND, {})[resource.id] = resource
        self._changed()

    async def delete(self, resource: Resource) -> None:
        if self._resources.get(resource.KIND, {}).pop(resource.id, None) is not None:
            self._changed()

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def _changed(self) -> None:
        self.version += 1
        for callback in self._callbacks:
            callback()
