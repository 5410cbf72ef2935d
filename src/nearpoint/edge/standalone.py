"""A caching edge in front of any origin, without a control plane: the same engine over one worker's sockets."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import socket
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from nearpoint.edge.accesslog import AccessLog, Logged
from nearpoint.edge.blob import descriptors_max
from nearpoint.edge.bounds import Bounds
from nearpoint.edge.config import Distribution, standalone_distribution
from nearpoint.edge.engine import POLL_S, Edge
from nearpoint.edge.errors import error_page, redirect_to_https
from nearpoint.edge.logfile import LogFile, Rotation
from nearpoint.edge.metrics import FAMILIES, WORKER_READY, EdgeMetrics
from nearpoint.edge.ports import OriginTarget
from nearpoint.edge.purge import Journal, Purge
from nearpoint.edge.store.disk import DiskStore
from nearpoint.telemetry import garbage
from nearpoint.telemetry.admin import admin
from nearpoint.telemetry.metrics import Registry, read
from nearpoint.wire.certificates import context_from_files
from nearpoint.wire.client import Client, Origin, Timeouts
from nearpoint.wire.message import Exchange, Request, Response
from nearpoint.wire.server import Server

DRAIN_S = 10.0
POP = "LOC50-P1"  # a stand-alone edge has no location of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class OriginUrl:
    """An origin as the command line names it: `http[s]://HOST[:PORT][/PATH]`."""

    tls: bool
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError with a sentence that says what is wrong."""
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https"):
            raise ValueError(f"{text!r} is not an http or https URL")
        if not parts.hostname or parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"{text!r} has to be http[s]://HOST[:PORT][/PATH] and no more")
        tls = parts.scheme == "https"
        return cls(tls=tls, host=parts.hostname, port=parts.port or (443 if tls else 80), path=parts.path.rstrip("/"))


class ClientFetch:
    """Fetches from origins over the network (`OriginFetch`)."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._of: OriginTarget | None = None  # what was asked last, which is as good as always what is asked next
        self._origin = Origin(host="", port=0)
        self._timeouts = Timeouts()

    def __call__(self, target: OriginTarget, request: Request, /) -> Awaitable[Response]:
        if target is not self._of:
            tls = target.scheme == "https"
            self._origin = Origin(host=target.host, port=target.port, tls=tls, idle_s=target.keepalive_timeout_s)
            self._timeouts = Timeouts(connect_s=target.connect_timeout_s, read_s=target.read_timeout_s)
            self._of = target
        return self._client.send(request, self._origin, self._timeouts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What a stand-alone edge serves, and with what.

    `log_path` is put away as `rotation` says. `tag_field` is the field of the origin's answers that has their cache
    tags. `cache_dir` is where answers are kept for all workers and over restarts,
    `cache_bytes` at most; None: in memory alone. `metrics_dir` is where the workers count. `tls` has pairs of a
    certificate chain's file and its key's.
    """

    origin: OriginUrl
    bounds: Bounds
    workers: int
    metrics_dir: Path
    log_path: Path | None = None
    rotation: Rotation | None = None
    tag_field: str = ""
    cache_dir: Path | None = None
    cache_bytes: int = 0
    tls: tuple[tuple[Path, Path], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A worker's sockets. `redirect` sends plain HTTP to HTTPS; `admin` is for the first worker alone."""

    main: socket.socket
    redirect: socket.socket | None = None
    admin: socket.socket | None = None


def metrics_file(folder: Path, number: int) -> Path:
    """Where a worker counts."""
    return folder / f"worker-{number:03}.metrics"


def missing_workers(service: Service) -> list[str]:
    """The workers that do not serve yet."""
    counted = read(service.metrics_dir)
    ready = sum(numbers.get(WORKER_READY.name, 0.0) for numbers in counted)
    return [] if ready >= service.workers else [f"{int(ready)} of {service.workers} workers are ready"]


def _distribution(service: Service) -> Distribution:
    origin = service.origin
    return standalone_distribution(
        host=origin.host, port=origin.port, tls=origin.tls, path=origin.path, tag_field=service.tag_field
    )


def redirecting(https_port: int) -> Exchange:
    """Sends whoever came by plain HTTP to HTTPS: whoever named a port to the one that is served, all others (who may
    have come through a mapping of ports) to the usual one."""

    async def redirect(request: Request) -> Response:
        _, colon, named = (request.headers.get("host") or "").rpartition(":")
        port = f":{https_port}" if colon and named.isdecimal() and https_port != 443 else ""
        return redirect_to_https(request.method, f"{request.host}{port}", request.target)

    return redirect


async def serve(service: Service, listening: Listening, *, number: int = 0, alive: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then let what is under way finish for at most DRAIN_S seconds.

    `number` is the worker's. `alive`: the reading end of a pipe that closes when whoever started this process is gone;
    it ends then, too. Raises OSError, ValueError or lmdb.Error for what can't be opened.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stop.set)
    if alive is not None:
        loop.add_reader(alive, stop.set)
    descriptors_max()  # as many as there may be
    tls = context_from_files(service.tls) if service.tls else None
    registry = Registry(metrics_file(service.metrics_dir, number))
    ready = registry.counter(WORKER_READY)
    ready.set(0)
    client = Client()
    access_log = None
    distribution = _distribution(service)
    if service.log_path is not None:
        lines_of = {distribution.id: Logged()}
        access_log = AccessLog(LogFile(service.log_path, service.rotation), POP, lines_of, other=distribution.id)
    store = DiskStore(service.cache_dir, service.cache_bytes) if service.cache_dir is not None else None
    edge = Edge(
        fetch=ClientFetch(client),
        pop=POP,
        bounds=service.bounds,
        store=store,
        metrics=EdgeMetrics(registry),
        access_log=access_log,
    )
    edge.load((), default=distribution)
    instant = edge.instant("https" if tls is not None else "http")
    journal = Journal(service.metrics_dir / "invalidations")
    purge = Purge(journal, clock=time.time, random_hex=lambda: secrets.token_hex(8))
    more = {"/-/invalidate": purge.handle}

    def take_in() -> None:
        news = journal.news()
        if news:
            edge.load((), {distribution.id: news}, default=distribution)

    servers = [Server(edge.handle, tls=tls, instant=instant, error=edge.refusal)]
    try:
        await servers[0].start(listening.main)
        for handler, sock in (
            (redirecting(listening.main.getsockname()[1]), listening.redirect),
            (admin(service.metrics_dir, FAMILIES, lambda: missing_workers(service), more), listening.admin),
        ):
            if sock is not None:
                servers.append(Server(handler, error=_error))
                await servers[-1].start(sock)
        edge.start()
        if access_log is not None:
            access_log.start()
        garbage.settle()
        ready.set(1)
        while not stop.is_set():
            take_in()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), POLL_S)
        ready.set(0)
        if alive is not None:
            loop.remove_reader(alive)
        await asyncio.gather(*(server.drain(DRAIN_S) for server in servers))
    finally:
        await edge.close()
        await client.close()
        if access_log is not None:
            access_log.close()
        if store is not None:
            store.close()


def _error(status: int, text: str) -> Response:
    return error_page(status, "", text)
