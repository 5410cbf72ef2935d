"""One authenticated call of an AWS operation, and what its handler may use.

A service module states `SERVICE` (botocore's name) and `HANDLERS`: operation name → `async (Call) -> result`. A handler
gets boto3-style parameters and returns a boto3-style result; it raises AwsError for everything else. It may also state
`RESOURCES`: operation name → `(Call) -> ARN`, what identity policies are asked about (`*` where it says nothing).
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

from nearpoint.awsproto import Operation, Service
from nearpoint.regions.store import Store
from nearpoint.state.resources import Snapshot
from nearpoint.state.sessions import Identity
from nearpoint.state.store import State
from nearpoint.wire.message import Request

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What all handlers share.

    `now` answers Unix seconds. `packages` is the folder of function packages (`<sha256>.zip`). `published` waits, up to
    the given seconds, until every live node runs by what the state holds now, and says whether they do. `parts` holds
    further singletons by their type, such as the stack engine: `ctx.part(Engine)`.
    """

    account_id: str
    state: State
    snapshot: Callable[[], Snapshot]
    stores: Mapping[str, Store]
    now: Callable[[], float]
    packages: Path
    published: Callable[[float], Awaitable[bool]]
    random_bytes: Callable[[int], bytes] = os.urandom
    parts: Mapping[type, Any] = field(default_factory=dict)

    def part(self, kind: type[T]) -> T:
        """The singleton of that type. Raises KeyError where this world has none."""
        return cast("T", self.parts[kind])


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
    """A module of this package that answers one service. `RESOURCES` may be left out."""

    SERVICE: str
    HANDLERS: Mapping[str, Handler]
