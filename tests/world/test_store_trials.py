"""The user's own stores are tried when they get a bucket, and again where something is not known."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.state.planner import build
from nearpoint.state.resources import Bucket, StoreLimits
from nearpoint.state.store import MemoryState
from nearpoint.wire.client import Client
from nearpoint.wire.message import Headers, Request, Response, read_all
from nearpoint.wire.server import Server
from nearpoint.world.store_trials import StoreTrials

BUCKET = Bucket(name="mine", region="own-1", created_at=0.0)


class Careless:
    """A store that takes every request for a plain one. While it is `down` it answers 503."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.down = False
        self.asked = 0

    async def handle(self, request: Request) -> Response:
        self.asked += 1
        if self.down:
            return Response(503)
        if request.method == "PUT":
            self.objects[request.path] = await read_all(request.body, 1 << 20)
        if request.method == "DELETE":
            self.objects.pop(request.path, None)
            return Response(204)
        data = self.objects.get(request.path, b"")
        headers = Headers([("ETag", '"x"'), ("Content-Length", str(len(data)))])
        return Response(200, headers, b"" if request.method == "HEAD" else data)


@pytest.fixture
async def trials(loopback_socket: socket.socket) -> AsyncIterator[Any]:
    careless, client, state, told = Careless(), Client(), MemoryState(), []
    server = Server(careless.handle)
    await server.start(loopback_socket)
    spec = StoreSpec(
        region="own-1",
        endpoint=f"http://127.0.0.1:{loopback_socket.getsockname()[1]}",
        access_key_id="K",
        secret_key="S",
    )
    store = Store(spec, client, clock=lambda: datetime.now(UTC))
    made = StoreTrials(state, {"own-1": store}, told.append)
    yield made, state, careless, told
    await client.close()
    await server.drain(0.0)


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def _snapshot(state: MemoryState) -> Any:
    return build(state, generation=1, account_id="1", session_secret="s", own_stores=("own-1",))


async def test_a_bucket_is_not_trusted_until_it_has_been_tried(trials: Any) -> None:
    trying, state, careless, told = trials
    running = asyncio.create_task(trying.run())
    await _until(lambda: told)
    assert careless.asked == 0  # there is nothing to try yet
    await state.put(BUCKET)
    assert not _snapshot(state).store_limits["own-1/mine"].is_known
    await _until(lambda: state.list(StoreLimits))
    limits = _snapshot(state).store_limits["own-1/mine"]
    assert (limits.is_known, limits.unknown) == (True, ())
    assert {"conditional create", "tagging", "ACLs", "version ids"} <= set(limits.refused)
    assert not [path for path in careless.objects if "nearpoint-probe" in path]
    await _until(lambda: told[-1] == [limits])
    await state.delete(BUCKET)
    await _until(lambda: not state.list(StoreLimits))
    running.cancel()


async def test_what_is_forgotten_is_tried_again_and_what_is_down_stays_known(trials: Any) -> None:
    trying, state, careless, _ = trials
    await state.put(BUCKET)
    await trying.first()
    (limits,) = state.list(StoreLimits)
    asked = careless.asked
    await trying.first()
    assert careless.asked == asked  # it is known
    await state.delete(limits)  # as when versions are turned on
    await trying.first()
    assert state.list(StoreLimits) == [limits]
    careless.down = True
    again = StoreTrials(state, trying._stores, lambda _: None)  # a control plane that starts anew
    await again.first()
    assert state.list(StoreLimits) == [limits]


async def test_a_store_that_is_down_from_the_beginning(trials: Any) -> None:
    trying, state, careless, _ = trials
    careless.down = True
    await state.put(BUCKET)
    await trying.first()
    assert not state.list(StoreLimits)[0].is_known
    assert not _snapshot(state).store_limits["own-1/mine"].is_known
