"""One location: its edge in front, its access point behind, and the names that lead to each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import lmdb
import structlog

from nearpoint.accesspoint.newest import Behind
from nearpoint.accesspoint.routes import address_of
from nearpoint.accesspoint.server import AccessPointNode
from nearpoint.edge.accesslog import AccessLog, Logged
from nearpoint.edge.bounds import Bounds
from nearpoint.edge.config import Distribution, compile_distribution
from nearpoint.edge.engine import Edge
from nearpoint.edge.invalidation import Invalidation, compile_invalidation
from nearpoint.edge.logspool import LogSpool
from nearpoint.edge.metrics import EdgeMetrics
from nearpoint.edge.ports import FunctionRunner, OriginTarget
from nearpoint.edge.properties import ConfigError
from nearpoint.edge.references import References
from nearpoint.edge.signed_url import read_public_key
from nearpoint.edge.store.disk import DiskStore
from nearpoint.edge.viewer import Whereabouts
from nearpoint.node.service_credentials import ServiceCredentials
from nearpoint.node.shields import Shields, is_from_shielded
from nearpoint.regions.replay import SpoolSpace
from nearpoint.regions.store import Store
from nearpoint.state.resources import Snapshot
from nearpoint.wire.client import Client, Origin, Timeouts
from nearpoint.wire.message import Exchange, Request, Response

log = structlog.get_logger("nearpoint.node")

AWS_SUFFIX = ".amazonaws.com"


class OriginRouter:
    """The edge's OriginFetch: access points are asked directly, AWS names at the local AWS, others over the network."""

    def __init__(self, access_point: Exchange, client: Client, aws_api: Origin) -> None:
        self._access_point = access_point
        self._client = client
        self._aws_api = aws_api

    async def __call__(self, target: OriginTarget, request: Request, /) -> Response:
        host = target.host.lower()
        if address_of(host, "/") is not None:
            return await self._access_point(request)
        timeouts = Timeouts(connect_s=target.connect_timeout_s, read_s=target.read_timeout_s)
        if host.endswith(AWS_SUFFIX):
            return await self._client.send(request, self._aws_api, timeouts)
        tls = target.scheme == "https"
        origin = Origin(
            host=target.host,
            port=target.port,
            tls=tls,
            server_name=target.host if tls else None,
            idle_s=target.keepalive_timeout_s,
        )
        return await self._client.send(request, origin, timeouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSpace:
    """What an edge may keep: in memory, and in a folder of its own in `folder`; None: in memory alone."""

    memory_bytes: int = 268_435_456
    folder: Path | None = None
    disk_bytes: int = 0


def kept_cache(space: CacheSpace, location: str) -> DiskStore | None:
    """The disk tier of a location's edge. Without one it works, too."""
    if space.folder is None:
        return None
    try:
        return DiskStore(space.folder / location, space.disk_bytes)
    except (OSError, lmdb.Error) as error:
        log.warning("an edge keeps nothing on disk", location=location, error=str(error))
        return None


class Location:
    """What answers at one place. `handle` is the server's handler; `instant` its hook for cached hits."""

    def __init__(
        self,
        name: str,
        *,
        pop: str,
        snapshot: Callable[[], Snapshot],
        stores: Mapping[str, Store],
        functions: FunctionRunner,
        client: Client,
        aws_api: Origin,
        where: Whereabouts | None = None,
        shields: Mapping[str, Origin | None] | None = None,
        logs: LogSpool | None = None,
        space: SpoolSpace | None = None,
        cache: CacheSpace | None = None,
        metrics: EdgeMetrics | None = None,
        behind: Behind | None = None,
    ) -> None:
        self.name = name
        self.stores = stores
        cache = cache or CacheSpace()
        self.access_point = AccessPointNode(name, snapshot, stores, space=space, behind=behind)
        origins = OriginRouter(self.access_point.handle, client, aws_api)
        self._store = kept_cache(cache, name)
        self._snapshot = snapshot
        self._logs = logs
        self._access_log = AccessLog(logs, pop) if logs is not None else None
        self.edge = Edge(
            fetch=origins,
            functions=functions,
            credentials=ServiceCredentials(snapshot),
            shields=Shields(shields or {}, client=client, snapshot=snapshot),
            pop=pop,
            where=where,
            bounds=Bounds(cache_bytes_max=cache.memory_bytes),
            store=self._store,
            metrics=metrics,
            access_log=self._access_log,
        )

    def load(self, distributions: Sequence[Distribution], invalidations: Mapping[str, Sequence[Invalidation]]) -> None:
        """Serve these distributions from now on."""
        self.edge.load(distributions, invalidations)
        if self._access_log is not None and self._logs is not None:
            logged = {each.id: (each, each.logging) for each in distributions if each.logging is not None}
            self._access_log.serve(
                {id: Logged(domain=each.domain, cookies=how.cookies) for id, (each, how) in logged.items()}
            )
            self._logs.serve({id: how.target for id, (_, how) in logged.items()})

    def start(self) -> None:
        """Begin what is done now and then."""
        self.edge.start()
        if self._access_log is not None:
            self._access_log.start()

    async def close(self) -> None:
        """Stop the edge and let go of its cache."""
        await self.edge.close()
        if self._access_log is not None:
            self._access_log.close()
        if self._store is not None:
            self._store.close()

    async def handle(self, request: Request) -> Response:
        """Answer by the Host: a distribution's names lead to the edge, an access point's to the access point. Another
        location's edge may ask for what its viewers want."""
        if is_from_shielded(request, self._snapshot()):
            return await self.edge.shield(request)
        if not self.edge.serves(request.host) and address_of(request.host, request.path) is not None:
            return await self.access_point.handle(request)
        return await self.edge.handle(request)


def compiled(
    snapshot: Snapshot, on_error: Callable[[str, ConfigError], None], seen: set[str]
) -> tuple[list[Distribution], dict[str, list[Invalidation]]]:
    """The distributions of a snapshot and its invalidations that have not been seen, ready for `Edge.load`.

    `on_error` hears of a distribution that cannot be served; the others are.
    """
    distributions = []
    roots = {}
    known = references(snapshot)
    for each in snapshot.distributions.values():
        try:
            made = compile_distribution(
                distribution_id=each.distribution_id, domain=each.domain, config=each.config, references=known
            )
        except ConfigError as error:
            on_error(each.distribution_id, error)
            continue
        distributions.append(made)
        roots[made.id] = made.default_root_object
    return distributions, _invalidations(snapshot, roots, seen)


def references(snapshot: Snapshot) -> References:
    """What distributions name by id. A key that cannot be read verifies nothing."""
    policies = (snapshot.cache_policies, snapshot.origin_request_policies, snapshot.response_headers_policies)
    keys = {}
    for id, key in snapshot.public_keys.items():
        with contextlib.suppress(ValueError):
            keys[id] = read_public_key(key.config["EncodedKey"])
    return References(
        policies={id: policy.config for kind in policies for id, policy in kind.items()},
        access_controls={id: control.config for id, control in snapshot.origin_access_controls.items()},
        key_groups={
            id: {key_id: keys[key_id] for key_id in group.config["Items"] if key_id in keys}
            for id, group in snapshot.key_groups.items()
        },
    )


def _invalidations(snapshot: Snapshot, known: Mapping[str, str], seen: set[str]) -> dict[str, list[Invalidation]]:
    by_distribution: dict[str, list[Invalidation]] = {}
    for each in snapshot.invalidations:
        if each.distribution_id in known and each.invalidation_id not in seen:
            seen.add(each.invalidation_id)
            by_distribution.setdefault(each.distribution_id, []).append(
                compile_invalidation(
                    invalidation_id=each.invalidation_id,
                    at=each.created_at,
                    paths=each.paths,
                    default_root_object=known[each.distribution_id],
                )
            )
    seen &= {each.invalidation_id for each in snapshot.invalidations}
    return by_distribution


def load(
    locations: Iterable[Location],
    snapshot: Snapshot,
    on_error: Callable[[str, ConfigError], None],
    seen: set[str] | None = None,
) -> None:
    """Let every location serve what the snapshot says. `seen` are the invalidations that they have been given before,
    by id; thousands may be in a snapshot, and they are read but once."""
    distributions, invalidations = compiled(snapshot, on_error, set() if seen is None else seen)
    for location in locations:
        location.load(distributions, invalidations)
