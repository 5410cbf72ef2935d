"""Conversations: a server of ours with raw bytes on its sockets, and raw servers for our client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop

from nearpoint.wire.client import Client
from nearpoint.wire.message import Exchange
from nearpoint.wire.server import Server

PATIENCE_S = 10


def pytest_asyncio_loop_factories(config: Any, item: Any) -> Mapping[str, Any]:
    """The loop that production runs on."""
    return {"uvloop": uvloop.new_event_loop}


@dataclass
class Answer:
    """A response as read from the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str | None:
        return next((value for have, value in self.headers if have.lower() == name.lower()), None)


@dataclass
class Dialogue:
    """A raw connection to a server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    trace: list[Answer] = field(default_factory=list)

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def line(self) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.readline()

    async def answer(self, *, to: str = "GET") -> Answer:
        """The next response, read by its own framing."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")[:-2]
            status = int(lines[0].split(" ")[1])
            headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines[1:])]
            answer = Answer(status, headers, b"")
            if to != "HEAD" and status >= 200 and status not in (204, 304):
                answer.body = await self._body(answer)
        self.trace.append(answer)
        return answer

    async def _body(self, answer: Answer) -> bytes:
        if answer.get("transfer-encoding") == "chunked":
            parts = []
            while size := int(await self.reader.readline(), 16):
                parts.append(await self.reader.readexactly(size))
                assert await self.reader.readexactly(2) == b"\r\n"
            assert await self.reader.readexactly(2) == b"\r\n"
            return b"".join(parts)
        length = answer.get("content-length")
        return await (self.reader.read() if length is None else self.reader.readexactly(int(length)))

    async def rest(self) -> bytes:
        """Everything up to the end of the connection; a reset ends it too."""
        parts = []
        async with asyncio.timeout(PATIENCE_S):
            with suppress(ConnectionResetError):
                while data := await self.reader.read(65536):
                    parts.append(data)
        return b"".join(parts)

    async def closed(self) -> bool:
        """True when the connection ends without another byte."""
        return await self.rest() == b""

    async def hang_up(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


class World:
    """What a test started; all of it ends with the test."""

    def __init__(self) -> None:
        self.servers: list[Server] = []
        self.raw: list[asyncio.Server] = []
        self.dialogues: list[Dialogue] = []
        self.clients: list[Client] = []
        self.failures: list[Exception] = []

    async def serve(self, handler: Exchange, **settings: Any) -> int:
        """Start a server and return its port."""
        sock = socket.create_server(("127.0.0.1", 0))
        server = Server(handler, **settings)
        self.servers.append(server)
        await server.start(sock)
        return int(sock.getsockname()[1])

    async def dial(self, port: int, **settings: Any) -> Dialogue:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20, **settings)
        dialogue = Dialogue(reader, writer)
        self.dialogues.append(dialogue)
        return dialogue

    async def ask(self, port: int, data: bytes) -> bytes:
        """Everything that a server says to these bytes until it closes."""
        dialogue = await self.dial(port)
        await dialogue.say(data)
        return await dialogue.rest()

    async def upstream(
        self, script: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], **settings: Any
    ) -> int:
        """A raw server that plays a script on every connection; returns its port."""

        async def play(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                with suppress(ConnectionError, asyncio.IncompleteReadError):
                    await script(reader, writer)
            except Exception as error:
                self.failures.append(error)
            finally:
                writer.close()

        server = await asyncio.start_server(play, "127.0.0.1", 0, limit=2**20, **settings)
        self.raw.append(server)
        return int(server.sockets[0].getsockname()[1])

    def client(self, **settings: Any) -> Client:
        client = Client(**settings)
        self.clients.append(client)
        return client

    async def end(self) -> None:
        for dialogue in self.dialogues:
            await dialogue.hang_up()
        for client in self.clients:
            await client.close()
        for server in self.servers:
            await server.drain(0)
        for raw in self.raw:
            raw.close()
        assert self.failures == []


@pytest.fixture
async def world() -> AsyncIterator[World]:
    it = World()
    yield it
    await it.end()
