"""A caching edge in front of any origin, without a control plane: the same engine over one worker's sockets."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from nearpoint.edge.accesslog import AccessLog
from nearpoint.edge.bounds import Bounds
from nearpoint.edge.config import standalone_distribution
from nearpoint.edge.engine import Edge
from nearpoint.edge.errors import error_page
from nearpoint.edge.ports import OriginTarget
from nearpoint.wire.client import Client, Origin, Timeouts
from nearpoint.wire.limits import Limits
from nearpoint.wire.message import Request, Response
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

    async def __call__(self, target: OriginTarget, request: Request, /) -> Response:
        origin = Origin(host=target.host, port=target.port, tls=target.scheme == "https")
        timeouts = Timeouts(connect_s=target.connect_timeout_s, read_s=target.read_timeout_s)
        return await self._client.send(request, origin, timeouts)


async def serve(
    sock: socket.socket,
    origin: OriginUrl,
    *,
    bounds: Bounds | None = None,
    tls: ssl.SSLContext | None = None,
    log_path: str | None = None,
    alive: int | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then let what is under way finish for at most DRAIN_S seconds.

    `alive`: the reading end of a pipe that closes when whoever started this process is gone; it ends then, too.
    """
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if alive is not None:
        loop.add_reader(alive, stop.set)
    client = Client()
    access_log = AccessLog(log_path, POP) if log_path is not None else None
    edge = Edge(
        fetch=ClientFetch(client),
        pop=POP,
        bounds=bounds,
        log_hit=access_log.hit if access_log is not None else None,
        log_answer=access_log.answer if access_log is not None else None,
    )
    distribution = standalone_distribution(host=origin.host, port=origin.port, tls=origin.tls, path=origin.path)
    edge.load((), default=distribution)
    server = Server(
        edge.handle,
        limits=Limits(),
        tls=tls,
        instant=edge.instant("https" if tls is not None else "http"),
        error=lambda status, text: error_page(status, "", text),
    )
    try:
        await server.start(sock)
        if access_log is not None:
            access_log.start()
        await stop.wait()
        if alive is not None:
            loop.remove_reader(alive)
        await server.drain(DRAIN_S)
    finally:
        await edge.close()
        await client.close()
        if access_log is not None:
            access_log.close()
