"""State in a NATS JetStream key-value bucket, and the snapshot that goes out to the nodes through another.

A write is answered after JetStream has synced it (`sync_interval: always` in the server's configuration), so what was
acknowledged survives a killed server. Reads come from a mirror that is loaded once; this process is the only writer.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, unquote

import msgspec
import structlog
from nats.errors import Error as NatsError

from nearpoint.state.resources import Resource, Snapshot

if TYPE_CHECKING:
    from nats.aio.client import Client as NatsClient
    from nats.js.kv import KeyValue

log = structlog.get_logger("nearpoint.state")

R = TypeVar("R", bound=Resource)

STATE_BUCKET = "nearpoint-state"
SNAPSHOT_BUCKET = "nearpoint-snapshot"
SNAPSHOT_KEY = "current"
STATUS_SUBJECT = "nearpoint.node.status"
LOAD_TIMEOUT_S = 10.0  # without a word from the server while everything is loaded
WATCH_CHECK_S = 0.3  # how soon a watcher sees that the server has come back
SNAPSHOT_HISTORY = 16  # generations kept for `nats kv history`, when somebody asks what a node was told


def _nothing() -> None:
    pass


@contextlib.contextmanager
def _telling(on_silent: Callable[[], None]) -> Iterator[None]:
    """Calls `on_silent` when the server leaves what is done inside unanswered, or refuses it for want of resources."""
    try:
        yield
    except (TimeoutError, NatsError):
        on_silent()
        raise


async def connect(url: str, *, name: str, wait_s: float = 10.0) -> NatsClient:
    """A connection that comes back by itself for ever. Raises TimeoutError when no server answers within `wait_s`."""
    from nats.aio.client import Client as NatsClient

    async def on_error(error: Exception) -> None:
        log.debug("nats", error=str(error) or type(error).__name__)

    client = NatsClient()
    try:
        async with asyncio.timeout(wait_s):
            await client.connect(
                url,
                name=name,
                error_cb=on_error,
                connect_timeout=1,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.1,  # type: ignore[arg-type]  # seconds; a fraction is fine
            )
    except BaseException:
        await client.close()
        raise
    return client


async def _bucket(client: NatsClient, name: str, history: int) -> KeyValue:
    """The key-value bucket of that name, made if it is not there. A JetStream that is still starting is waited for."""
    from nats.js.api import KeyValueConfig

    jetstream = client.jetstream(timeout=5)
    for attempt in range(50):
        try:
            return await jetstream.create_key_value(KeyValueConfig(bucket=name, history=history))
        except Exception:
            if attempt == 49:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError("unreachable")


def _key(kind: str, id: str) -> str:
    # KV keys allow [-/_=.a-zA-Z0-9]; percent-encoding with `=` for `%` keeps them readable and is reversible.
    return f"{kind}.{quote(id, safe='').replace('.', '%2E').replace('~', '%7E').replace('%', '=')}"


def _unkey(key: str) -> tuple[str, str]:
    kind, _, id = key.partition(".")
    return kind, unquote(id.replace("=", "%"))


class NatsState:
    """`State` over JetStream. Open with `NatsState.open(client)`."""

    def __init__(self, kv: KeyValue, on_silent: Callable[[], None]) -> None:
        self._kv = kv
        self._on_silent = on_silent
        # Bytes until somebody asks for the kind: only its reader knows the type.
        self._resources: dict[str, dict[str, Resource | bytes]] = {}
        self._callbacks: list[Callable[[], None]] = []
        self.version = 0

    @classmethod
    async def open(cls, client: NatsClient, on_silent: Callable[[], None] = _nothing) -> NatsState:
        """Load everything that is kept. `on_silent` is called when a write is not answered."""
        kv = await _bucket(client, STATE_BUCKET, history=1)
        state = cls(kv, on_silent)
        # Not the watcher's own mark for "that was all": it may come while messages are still on their way.
        stream = (await client.jetstream().stream_info(f"KV_{STATE_BUCKET}")).state
        last = stream.last_seq if stream.messages else 0
        watcher: Any = await kv.watchall()
        while state.version < last:
            entry = await watcher.updates(timeout=LOAD_TIMEOUT_S)
            if entry is None:
                continue
            if entry.operation is None and entry.value is not None:
                kind, id = _unkey(entry.key)
                state._resources.setdefault(kind, {})[id] = entry.value
            state.version = max(state.version, entry.revision or 0)
        await watcher.stop()
        return state

    def get(self, kind: type[R], id: str) -> R | None:
        of_kind = self._resources.get(kind.KIND)
        if of_kind is None or id not in of_kind:
            return None
        found = of_kind[id]
        if isinstance(found, bytes):
            found = of_kind[id] = msgspec.json.decode(found, type=kind)
        return found if isinstance(found, kind) else None

    def list(self, kind: type[R]) -> list[R]:
        found = [self.get(kind, id) for id in sorted(self._resources.get(kind.KIND, ()))]
        return [resource for resource in found if resource is not None]

    async def put(self, resource: Resource) -> None:
        with _telling(self._on_silent):
            revision = await self._kv.put(_key(resource.KIND, resource.id), msgspec.json.encode(resource))
        self._resources.setdefault(resource.KIND, {})[resource.id] = resource
        self._changed(revision)

    async def delete(self, resource: Resource) -> None:
        if resource.id in self._resources.get(resource.KIND, {}):
            with _telling(self._on_silent):
                await self._kv.purge(_key(resource.KIND, resource.id))
            self._resources[resource.KIND].pop(resource.id, None)
            self._changed(self.version + 1)

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def _changed(self, revision: int) -> None:
        self.version = max(self.version + 1, revision)
        for callback in self._callbacks:
            callback()


class SnapshotChannel:
    """Where snapshots are written by the planner and read by the nodes, each a whole value under one key."""

    def __init__(self, client: NatsClient, kv: KeyValue, on_silent: Callable[[], None]) -> None:
        self._client = client
        self._kv = kv
        self._on_silent = on_silent

    @classmethod
    async def open(cls, client: NatsClient, on_silent: Callable[[], None] = _nothing) -> SnapshotChannel:
        """`on_silent` is called when a write is not answered."""
        return cls(client, await _bucket(client, SNAPSHOT_BUCKET, history=SNAPSHOT_HISTORY), on_silent)

    async def publish(self, snapshot: Snapshot) -> None:
        with _telling(self._on_silent):
            await self._kv.put(SNAPSHOT_KEY, msgspec.json.encode(snapshot))

    async def latest(self) -> Snapshot | None:
        """The last one published, or None before the first."""
        from nats.js.errors import KeyNotFoundError

        with contextlib.suppress(KeyNotFoundError):
            entry = await self._kv.get(SNAPSHOT_KEY)
            if entry.value is not None:
                return msgspec.json.decode(entry.value, type=Snapshot)
        return None

    async def watch(self) -> AsyncIterator[Snapshot]:
        """Every snapshot from the latest on, for as long as it is iterated, whatever happens to the server.

        A snapshot may come twice. The server forgets its watchers when it ends, so each reconnect watches anew.
        """
        while True:
            reconnects = self._client.stats["reconnects"]
            try:
                watcher: Any = await self._kv.watch(SNAPSHOT_KEY)
                while self._client.stats["reconnects"] == reconnects:
                    try:
                        entry = await watcher.updates(timeout=WATCH_CHECK_S)
                    except TimeoutError:
                        continue
                    if entry is not None and entry.operation is None and entry.value is not None:
                        yield msgspec.json.decode(entry.value, type=Snapshot)
            except (OSError, NatsError) as error:
                log.info("watching snapshots again", error=str(error) or type(error).__name__)
                await asyncio.sleep(WATCH_CHECK_S)
                continue
            with contextlib.suppress(OSError, NatsError):
                await watcher.stop()
