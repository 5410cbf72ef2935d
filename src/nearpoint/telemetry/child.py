"""A process that a supervisor runs: its configuration, its sockets, when it is ready, and when it has to end.

The supervisor gives a JSON file (`--config`) and an end of a socket pair, over which both send JSON lines: the
child says `{"ready": true}` and whatever it reports, the supervisor sends what its children need to hear. When the pair
closes, the supervisor is gone and the child ends too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import structlog

from nearpoint.telemetry import logs

log = structlog.get_logger("nearpoint.process")

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
Message = dict[str, Any]


class Child:
    """What `main` gets. `config` is the file's content; `stopping` is set when the process should drain and end."""

    def __init__(self, config: Message) -> None:
        self.config = config
        self.stopping = asyncio.Event()
        self.is_ready = False
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listeners: list[Callable[[Message], None]] = []
        self._told: Message = dict(config.get("greeting") or {})

    def listener(self, name: str) -> socket.socket:
        """The listening socket of that name, opened by the supervisor."""
        sock = socket.socket(fileno=int(self.config["sockets"][name]))
        sock.setblocking(False)
        return sock

    def send(self, message: Message) -> None:
        """Tell the supervisor. Dropped when there is none, or when it does not read."""
        writer = self._writer
        if writer is not None and not writer.is_closing():
            transport = writer.transport
            if transport.get_write_buffer_size() < MESSAGE_BYTES_MAX:
                writer.write(orjson.dumps(message) + b"\n")

    def ready(self) -> None:
        """Say that requests are answered from now on. Before it, a request to stop cancels `main`."""
        self.is_ready = True
        self.send({"ready": True})

    def on_message(self, listener: Callable[[Message], None]) -> None:
        """Hear what the supervisor sends; at once what it has said already, the latest for each key."""
        self._listeners.append(listener)
        if self._told:
            listener(self._told)

    async def connect(self, fd: int) -> None:
        """Take up the channel."""
        sock = socket.socket(fileno=fd)
        sock.setblocking(False)
        self._reader, self._writer = await asyncio.open_unix_connection(sock=sock, limit=MESSAGE_BYTES_MAX)

    async def listen(self) -> None:
        """Read the supervisor's messages until it is gone; then ask this process to stop."""
        assert self._reader is not None
        while line := await self._reader.readline():
            message = orjson.loads(line)
            self._told |= message
            for listener in self._listeners:
                listener(message)
        log.info("the supervisor is gone")
        self.stopping.set()


async def _until_done(child: Child, main: Callable[[Child], Awaitable[None]]) -> None:
    await main(child)


async def _run(config: Message, main: Callable[[Child], Awaitable[None]]) -> None:
    child = Child(config)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, child.stopping.set)
    listening = None
    if "channel" in config:
        await child.connect(int(config["channel"]))
        listening = loop.create_task(child.listen())
    running = loop.create_task(_until_done(child, main))
    stopping = loop.create_task(child.stopping.wait())
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not running.done() and not child.is_ready:
            running.cancel()  # it waits for something that may never come
        with contextlib.suppress(asyncio.CancelledError):
            await running
    finally:
        for task in (stopping, listening):
            if task is not None:
                task.cancel()


def run_child(name: str, main: Callable[[Child], Awaitable[None]]) -> None:
    """The whole life of a child process: read `--config`, set up logs, run `main` until it returns."""
    import uvloop

    parser = argparse.ArgumentParser(prog=f"nearpoint {name}")
    parser.add_argument("--config", type=Path, required=True, help="a JSON file that the supervisor wrote")
    config = orjson.loads(parser.parse_args().config.read_bytes())
    logs.configure(str(config.get("name", name)))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_run(config, main))
