"""One authenticated call of an AWS operation, and what its handler may use.

A service module states `SERVICE` (botocore's name) and `HANDLERS`: operation name → `async (Call) -> result`. A handler
gets boto3-style parameters and returns a boto3-style result; it raises AwsError for everything else. A module may also
state `RESOURCES`: operation name → `(Call) -> ARN`, what identity policies are asked about (`*` where it says nothing),
and `resume(context)`: what a control process that was killed has left half done.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import structlog

from nearpoint.awsproto import Operation, Service
from nearpoint.stack.services.context import Context as Domain
from nearpoint.state.resources import Snapshot
from nearpoint.state.sessions import Identity
from nearpoint.state.store import State
from nearpoint.wire.message import Request

if TYPE_CHECKING:
    from nearpoint.regions.store import Store

log = structlog.get_logger("nearpoint.awsapi")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What all handlers share.

    `domain` is the context of `stack.services` (state, account, time, chance, packages). `snapshot` is what calls are
    authenticated by. `stores` are the regions' stores by region name. `published(timeout_s)` waits until every live
    node runs by what the state holds now, and says whether they do. `parts` holds further singletons by their type,
    such as the stack engine: `context.part(Engine)`.
    """

    domain: Domain
    snapshot: Callable[[], Snapshot]
    stores: Mapping[str, Store]
    published: Callable[[float], Awaitable[bool]]
    parts: Mapping[type, Any] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def state(self) -> State:
        return self.domain.state

    @property
    def account_id(self) -> str:
        return self.domain.account_id

    @property
    def packages(self) -> Path:
        """The folder of function packages (`<sha256>.zip`)."""
        return self.domain.packages_dir

    def now(self) -> float:
        """Unix seconds."""
        return self.domain.now()

    def random_bytes(self, count: int) -> bytes:
        return self.domain.random_bytes(count)

    def part(self, kind: type[T]) -> T:
        """The singleton of that type. Raises KeyError where this world has none."""
        return cast("T", self.parts[kind])

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Carry on with `work` after the answer has gone out; a failure is logged. `close` ends what is left."""
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("background work failed", exc_info=task.exception())

    async def close(self) -> None:
        """End the background work; `resume` takes it up again in the next process."""
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call whose signature has been verified and which the caller's policies allow.

    `region` is that of the endpoint; for a global service `us-east-1`.
    """

    service: Service
    operation: Operation
    params: dict[str, Any]
    identity: Identity
    region: str
    request: Request
    request_id: str
    ctx: Context


Handler = Callable[[Call], Awaitable[Mapping[str, Any]]]


class ServiceModule(Protocol):
    """A module of this package that answers one service; `RESOURCES` and `resume` may be left out."""

    @property
    def SERVICE(self) -> str: ...  # noqa: N802

    @property
    def HANDLERS(self) -> Mapping[str, Handler]: ...  # noqa: N802
