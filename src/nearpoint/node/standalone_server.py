"""Serves a stand-alone access point: its sockets, its admin port, its signals, and what goes on beside requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson
import structlog

from nearpoint.node.board import Board
from nearpoint.node.request_log import RequestLog
from nearpoint.node.standalone import Standalone, check_policies
from nearpoint.node.store_limits import limits_of
from nearpoint.regions.capabilities import Capabilities, probe
from nearpoint.regions.profiles import Profiles
from nearpoint.regions.refusals import error_page
from nearpoint.regions.settings import Settings, SettingsError, load, renewed
from nearpoint.regions.settings_file import Mistake
from nearpoint.regions.store import Store
from nearpoint.state.resources import StoreLimits
from nearpoint.telemetry import garbage
from nearpoint.wire.limits import Limits
from nearpoint.wire.message import Headers, Request, Response
from nearpoint.wire.server import Server

log = structlog.get_logger("nearpoint.accesspoint")

TELL_S = 0.25  # how often a worker writes to the board
RENEW_S = 300.0  # how often profiles are asked for their credentials; botocore renews ten minutes before they expire
PROBES_AT_ONCE = 4
PROBE_AGAIN_S = 30.0  # for stores of which something is not known yet


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSockets:
    """The listening sockets of one worker. `admin` is served by one of them."""

    http: Sequence[socket.socket]
    https: Sequence[socket.socket]
    admin: socket.socket | None


async def probe_all(
    settings: Settings, stores: Mapping[str, Store], tell: Callable[[Capabilities], None] = lambda _: None
) -> list[Capabilities]:
    """What each bucket behind the access points can do, a few at a time, in the order of the file.

    `tell` hears of each as soon as it is known.
    """
    at_once = asyncio.Semaphore(PROBES_AT_ONCE)

    async def one(region: str, bucket: str) -> Capabilities:
        async with at_once:
            found = await probe(
                stores[region],
                bucket,
                token=secrets.token_hex(8),
                clock=lambda: datetime.now(UTC),
                timeout_s=settings.timeouts.probe,
            )
        tell(found)
        return found

    members = {(region, bucket): None for point in settings.access_points for region, bucket, _ in point.members}
    return list(await asyncio.gather(*(one(region, bucket) for region, bucket in members)))


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """The server's TLS, or None where the file names none. Raises SettingsError for files that do not serve."""
    if settings.certificate is None or settings.key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2", "http/1.1"])
    _load_certificate(context, settings)
    return context


def _load_certificate(context: ssl.SSLContext, settings: Settings) -> None:
    assert settings.certificate is not None
    try:
        context.load_cert_chain(settings.certificate, settings.key, password="")
    except (OSError, ssl.SSLError, ValueError) as error:
        text = f"{settings.certificate} and {settings.key} are not a certificate and its key: {error}"
        raise SettingsError(settings.file, (Mistake(line=None, path="listen.certificate", text=text),)) from None


def check(settings: Settings) -> None:
    """All that can be wrong with settings beyond the file itself. Raises SettingsError."""
    check_policies(settings)
    tls_context(settings)


def log_writer(path: str | None) -> tuple[int, bool] | None:
    """The file descriptor of the request log, and whether it is a terminal: `-` is standard error, None is no log."""
    if path is None:
        return None
    fd = 2 if path == "-" else os.open(Path(path).expanduser(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    return fd, os.isatty(fd)


async def serve(
    settings: Settings, sockets: WorkerSockets, *, number: int, board: Board, access_log: str | None, alive: int | None
) -> None:
    """Serve until SIGTERM or SIGINT, then let what is under way finish. SIGHUP reads the file again.

    `number` is this worker's; `alive`, the reading end of a pipe that closes when whoever started it is gone.
    """
    await _Worker(settings, sockets, number, board, access_log).run(alive)


class _Worker:
    def __init__(
        self, settings: Settings, sockets: WorkerSockets, number: int, board: Board, access_log: str | None
    ) -> None:
        self._sockets = sockets
        self._number = number
        self._board = board
        self._profiles = Profiles()
        self._standalone = Standalone(settings)
        self._capabilities: dict[tuple[str, str], Capabilities] = {}
        self._noticed = 0
        self._probe_now = asyncio.Event()
        self._changing = asyncio.Lock()
        self._tls = tls_context(settings) if sockets.https else None
        target = log_writer(access_log)
        self._request_log = None
        if target is not None:
            fd, terminal = target
            self._request_log = RequestLog(self._standalone.handle, lambda data: os.write(fd, data), terminal=terminal)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, alive: int | None) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._start(self._reload()))
        if alive is not None:
            loop.add_reader(alive, stop.set)
        servers = await self._listen()
        garbage.settle()
        self._start(self._tell())
        self._start(self._renew())
        if self._number == 0:
            self._start(self._find_out())
        await stop.wait()
        if alive is not None:
            loop.remove_reader(alive)
        drain_s = self._standalone.settings.timeouts.drain
        self._board.write(self._number, ["draining"])
        await asyncio.gather(*(server.drain(drain_s) for server in servers))
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._standalone.close()
        if self._request_log is not None:
            self._request_log.flush()

    def _start(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a task of the worker failed", exc_info=task.exception())

    async def _listen(self) -> list[Server]:
        timeouts = self._standalone.settings.timeouts
        limits = Limits(
            header_timeout_s=timeouts.header,
            idle_timeout_s=timeouts.idle,
            body_timeout_s=timeouts.body,
            write_timeout_s=timeouts.write,
        )
        handler = self._standalone.handle if self._request_log is None else self._request_log.handle
        servers = []
        for tls, socks in ((None, self._sockets.http), (self._tls, self._sockets.https)):
            server = Server(handler, limits=limits, tls=tls, error=_refused)
            for sock in socks:
                await server.start(sock)
            servers.append(server)
        if self._sockets.admin is not None and self._number == 0:
            admin = Server(self._admin, limits=Limits(body_bytes_max=0, connections_max=100))
            await admin.start(self._sockets.admin)
            servers.append(admin)
        return servers

    async def _tell(self) -> None:
        while True:
            notice = self._board.notice(self._noticed)
            if notice is not None:
                self._noticed = notice[0]
                self._standalone.know(msgspec.json.decode(notice[1], type=list[StoreLimits]))
            self._board.write(self._number, self._standalone.blocks())
            await asyncio.sleep(TELL_S)

    async def _find_out(self) -> None:
        """Try what the stores can do: when starting, when the file is read again, and until all is known."""
        while True:
            self._probe_now.clear()
            is_complete = True
            settings = self._standalone.settings
            if settings.probe_at_start:
                members = {(region, bucket) for one in settings.access_points for region, bucket, _ in one.members}
                self._capabilities = {key: one for key, one in self._capabilities.items() if key in members}
                found = await probe_all(settings, self._standalone.stores, self._found)
                is_complete = all(one.is_complete for one in found)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if is_complete else PROBE_AGAIN_S):
                    await self._probe_now.wait()

    def _found(self, one: Capabilities) -> None:
        before = self._capabilities.get((one.region, one.bucket))
        self._capabilities[one.region, one.bucket] = one
        limits = [limits_of(each) for each in self._capabilities.values()]
        self._board.put_up(msgspec.json.encode(limits))
        self._standalone.know(limits)
        if before is not None and (before.access, before.problem, before.findings) == (
            one.access, one.problem, one.findings,
        ):  # fmt: skip
            return
        say = log.warning if one.problem or one.access == "none" else log.info
        say(
            "store probed",
            region=one.region,
            bucket=one.bucket,
            access=one.access,
            problem=one.problem,
            clock_skew_s=one.clock_skew_s,
            lacks={lack.feature: lack.detail for lack in one.lacks},
            refused_here=sorted(one.with_remedy("refuse")),
            put_right_here=sorted(one.with_remedy("mend")),
        )

    async def _reload(self) -> None:
        """Read the file again; what is wrong with it leaves everything as it was."""
        async with self._changing:
            before = self._standalone.settings
            try:
                profiles = Profiles()
                settings = await asyncio.to_thread(load, before.file, find_profile=profiles)
                check(settings)
                if self._tls is not None and settings.certificate is not None:
                    _load_certificate(self._tls, settings)
            except (SettingsError, OSError) as error:
                log.error("the changed file is not taken", error=str(error))
                return
            for name in ("http", "https", "admin", "timeouts", "location"):
                if getattr(settings, name) != getattr(before, name):
                    log.warning("takes effect when the command starts again", setting=name)
            self._profiles = profiles
            other_stores = await self._standalone.replace(settings)
            log.info("running by the changed file", other_stores=other_stores)
        self._probe_now.set()

    async def _renew(self) -> None:
        """Keep up with credentials of AWS profiles, which may expire."""
        while True:
            await asyncio.sleep(RENEW_S)
            async with self._changing:
                settings = self._standalone.settings
                if any(region.profile is not None for region in settings.regions):
                    try:
                        now = await asyncio.to_thread(renewed, settings, self._profiles)
                    except LookupError as error:
                        log.error("credentials were not renewed", error=str(error))
                        continue
                    if now != settings:
                        await self._standalone.replace(now)

    async def _admin(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return _json(405, {"error": "GET only"})
        if request.path == "/-/live":
            return _json(200, {"live": True})
        if request.path == "/-/ready":
            self._board.write(self._number, self._standalone.blocks())
            blocks = self._board.read()
            return _json(503 if blocks else 200, {"ready": not blocks, "blocks": blocks})
        if request.path == "/-/routes":
            return _json(200, self._standalone.report())
        if request.path == "/-/capabilities":
            return _json(200, [asdict(one) for one in self._capabilities.values()])
        return _json(404, {"error": "there are /-/live, /-/ready, /-/routes and /-/capabilities"})


def _json(status: int, value: Any) -> Response:
    return Response(status, Headers([("Content-Type", "application/json")]), orjson.dumps(value) + b"\n")


def _refused(status: int, reason: str) -> Response:
    return error_page(status, reason, secrets.token_hex(8).upper())
