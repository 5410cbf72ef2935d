"""A scripted origin, an edge in front of it and a viewer, over real sockets; a clock that stands still."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from nearpoint.edge.bounds import Bounds
from nearpoint.edge.config import Distribution, compile_distribution, standalone_distribution
from nearpoint.edge.engine import Edge
from nearpoint.edge.standalone import ClientFetch
from nearpoint.wire.client import Client, Origin
from nearpoint.wire.dates import http_date
from nearpoint.wire.message import Headers, Request, Response, read_all
from nearpoint.wire.server import Server

DOMAIN = "d111111abcdef8.cloudfront.net"
START = 1_800_000_000.0


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Seen:
    """A request as the origin got it."""

    def __init__(self, request: Request, body: bytes) -> None:
        self.method = request.method
        self.target = request.target
        self.headers = request.headers
        self.body = body


class Reply:
    """A response as the viewer got it."""

    def __init__(self, status: int, headers: Headers, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    def __getitem__(self, name: str) -> str | None:
        return self.headers.get(name)

    @property
    def cache(self) -> str:
        """X-Cache without ` from cloudfront`."""
        value = self.headers.get("x-cache") or ""
        assert value.endswith(" from cloudfront")
        return value.removesuffix(" from cloudfront")

    @property
    def note(self) -> str:
        return self.headers.get("cache-status") or ""


class Stage:
    """Origin, edge and viewer."""

    def __init__(self, client: Client) -> None:
        self.clock = Clock()
        self.seen: list[Seen] = []
        self.answer: Any = lambda request: Response(200, Headers([("Content-Type", "text/plain")]), b"hello")
        self.client = client
        self.origin_port = 0
        self.edge_port = 0
        self.edge: Edge
        self.servers: list[Server] = []

    async def origin(self, request: Request) -> Response:
        self.seen.append(Seen(request, await read_all(request.body, 50_000_000)))
        answer = self.answer(request)
        response: Response = await answer if inspect.isawaitable(answer) else answer
        if "date" not in response.headers:
            response.headers.add("Date", http_date(datetime.fromtimestamp(self.clock.now, UTC)))
        return response

    async def serve(self, handler: Any, **options: Any) -> int:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        server = Server(handler, **options)
        await server.start(sock)
        self.servers.append(server)
        return int(sock.getsockname()[1])

    async def open(
        self,
        *distributions: Distribution,
        fetch: Any = None,
        functions: Any = None,
        store: Any = None,
        access_log: Any = None,
        **bounds: Any,
    ) -> Edge:
        """Put an edge in front of the origin; the stand-alone distribution when none is given."""
        self.edge = Edge(
            fetch=fetch or ClientFetch(self.client),
            functions=functions,
            pop="TST50-P1",
            bounds=Bounds(**bounds),
            store=store,
            clock=self.clock,
            access_log=access_log,
        )
        if distributions:
            self.edge.load(distributions)
        else:
            self.edge.load((), default=standalone_distribution(host="127.0.0.1", port=self.origin_port, tls=False))
        self.edge_port = await self.serve(self.edge.handle, instant=self.edge.instant("http"), error=self.edge.refusal)
        return self.edge

    def config(self, **behavior: Any) -> dict[str, Any]:
        """A DistributionConfig for the origin, in CloudFormation's shape."""
        return {
            "Enabled": True,
            "Origins": [
                {
                    "Id": "origin",
                    "DomainName": "127.0.0.1",
                    "CustomOriginConfig": {"HTTPPort": self.origin_port, "OriginProtocolPolicy": "http-only"},
                }
            ],
            "DefaultCacheBehavior": {
                "TargetOriginId": "origin",
                "ViewerProtocolPolicy": "allow-all",
                "ForwardedValues": {"QueryString": False},
                **behavior,
            },
        }

    def distribution(self, config: dict[str, Any] | None = None, **behavior: Any) -> Distribution:
        return compile_distribution(distribution_id="E1", domain=DOMAIN, config=config or self.config(**behavior))

    async def get(
        self, target: str = "/", *, method: str = "GET", body: Any = b"", host: str = DOMAIN, **headers: str
    ) -> Reply:
        """Ask the edge. Header names: `if_none_match` for `If-None-Match`."""
        fields = [("Host", host), *((name.replace("_", "-"), value) for name, value in headers.items())]
        request = Request(method, target, Headers(fields), body)
        response = await self.client.send(request, Origin(host="127.0.0.1", port=self.edge_port))
        return Reply(response.status, response.headers, await read_all(response.body, 100_000_000))

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait for something to become true; the test's own time-out is the limit."""
        while True:
            value = condition()
            if await value if inspect.isawaitable(value) else value:
                return
            await asyncio.sleep(0.01)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes to the edge and read until it closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.edge_port)
        writer.write(data)
        answer = await reader.read()
        writer.close()
        return answer


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    client = Client()
    made = Stage(client)
    made.origin_port = await made.serve(made.origin)
    yield made
    if hasattr(made, "edge"):
        await made.edge.close()
    for server in made.servers:
        await server.drain(0)
    await client.close()


@pytest.fixture
def answer() -> Callable[..., Response]:
    """Builds a response: `answer(b"body", status=200, cache_control="max-age=60")`."""

    def build(body: Any = b"hello", *, status: int = 200, **headers: str) -> Response:
        return Response(status, Headers([(name.replace("_", "-"), value) for name, value in headers.items()]), body)

    return build
