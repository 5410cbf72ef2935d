"""The sandbox's end of a function's zygote, the process that has imported the handler and forks workers.

The other end is `bootstrap.py`, which says what goes over the control socket.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from nearpoint.functions.logs import LineCutter
from nearpoint.functions.worker import Kind, Output, Worker, describe_status

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
MESSAGE_BYTES_MAX = 128 * 1024


class StartError(Exception):
    """A function's process cannot be had; `kind` is import-error when the package is at fault, else crashed."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind: Kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a zygote is started with; `config` is the first message that it gets."""

    config: dict[str, Any]
    environment: dict[str, str]
    folder: Path
    memory_bytes_max: int
    answer_bytes_max: int


class Zygote:
    """One bootstrap process and the workers that it forked. Made by starting the process; raises StartError.

    `init_ms` is what its start took, `threads` whether a fork would lose threads, `contained` what the kernel granted,
    `gone` is done when the process has ended. `generation` is its owner's.
    """

    def __init__(self, spec: Spec, on_line: Callable[[str], None]) -> None:
        self.spec = spec
        self.init_ms = 0.0
        self.threads = 1
        self.contained: dict[str, Any] = {}
        self.workers: dict[int, Worker] = {}
        self.alive = False
        self.generation = 0
        self.gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._cutter = LineCutter()
        self._on_line = on_line
        self._ready: asyncio.Future[None] = self._loop.create_future()
        self._forks: dict[int, asyncio.Future[tuple[int, int]]] = {}
        self._number = 0
        self._spawn()

    async def ready(self, timeout_s: float) -> None:
        """Wait until it has imported the handler. Raises StartError, having ended it."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._ready
        except TimeoutError:
            self.kill()
            raise StartError("import-error", f"the import took longer than {timeout_s:g} s") from None
        except BaseException:
            self.kill()
            raise

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        log_read, log_write = os.pipe()
        try:
            # Not in a thread: the kernel takes the thread that starts a process for its parent (PR_SET_PDEATHSIG).
            self._process = subprocess.Popen(
                [
                    getattr(sys, "_base_executable", sys.executable),
                    *("-I", "-S", "-B", "-X", "utf8"),
                    str(BOOTSTRAP),
                    str(theirs.fileno()),
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log_write,
                stderr=log_write,
                pass_fds=[theirs.fileno()],
                env=self.spec.environment,
                cwd=self.spec.folder,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            os.close(log_read)
            raise StartError("crashed", f"the function's process cannot be started: {error}") from error
        finally:
            theirs.close()
            os.close(log_write)
        self.alive = True
        self._pidfd = os.pidfd_open(self._process.pid)
        self._loop.add_reader(self._pidfd, self._exited)
        self._output = Output(log_read, self._feed)
        self._control = ours
        ours.setblocking(False)
        self._loop.add_reader(ours, self._on_message)
        self._tell(self.spec.config)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """End it, and with it its workers, at once."""
        if not self.gone.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    async def fork(self, timeout_s: float) -> Worker:
        """A new worker. Raises StartError when the zygote ended or does not answer."""
        return await self._new_worker("fork", timeout_s)

    async def serve(self) -> Worker:
        """The zygote itself as a worker, for a module whose threads a fork would lose. No fork after that."""
        return await self._new_worker("serve", 0)

    async def _new_worker(self, do: str, timeout_s: float) -> Worker:
        if not self.alive:
            raise StartError("crashed", "the function's process ended")
        self._number += 1
        number = self._number
        ours, theirs = socket.socketpair()
        log_read, log_write = os.pipe()
        ours.setblocking(False)
        try:
            fork = self._forks[number] = self._loop.create_future()
            self._tell({"do": do, "number": number}, [theirs.fileno(), log_write])
            if do == "serve":
                pid, pidfd = self._process.pid, os.dup(self._pidfd)
            else:
                async with asyncio.timeout(timeout_s):
                    pid, pidfd = await fork
        except BaseException as error:
            ours.close()
            os.close(log_read)
            if isinstance(error, TimeoutError):
                self.kill()
                raise StartError("crashed", "the function's process does not answer") from None
            if isinstance(error, OSError):
                self.alive = False
                raise StartError("crashed", f"the function's process cannot be reached: {error}") from error
            raise
        finally:
            self._forks.pop(number, None)
            theirs.close()
            os.close(log_write)
        worker = self.workers[number] = Worker(self, pid=pid, pidfd=pidfd, log_fd=log_read)
        worker.gone.add_done_callback(lambda _: self.workers.pop(number, None))
        await self._loop.create_unix_connection(lambda: worker, sock=ours)
        if not self.alive:
            worker.ended(None)
        return worker

    def _tell(self, message: dict[str, Any], fds: list[int] | None = None) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._control.sendmsg([orjson.dumps(message)], rights)

    def _on_message(self) -> None:
        fds = array.array("i")
        try:
            data, ancillary, _, _ = self._control.recvmsg(
                MESSAGE_BYTES_MAX, socket.CMSG_SPACE(4 * fds.itemsize), socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, raw in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
        if not data:
            self._loop.remove_reader(self._control)
            self.kill()
            return
        self._heard(orjson.loads(data), list(fds))

    def _heard(self, message: dict[str, Any], fds: list[int]) -> None:
        if "forked" in message:
            fork = self._forks.get(message["forked"])
            if fork is not None and not fork.done():
                fork.set_result((message["pid"], fds.pop()))
        elif "refused" in message:
            fork = self._forks.get(message["refused"])
            if fork is not None and not fork.done():
                fork.set_exception(StartError("crashed", f"the system refused a process: {message['why']}"))
        elif "exited" in message:
            worker = self.workers.get(message["exited"])
            if worker is not None:
                worker.ended(message["status"])
        elif "ready" in message and not self._ready.done():
            self.init_ms = message["init_ms"]
            self.threads = message["threads"]
            self.contained = message["contained"]
            self._flush_log()
            self._ready.set_result(None)
        elif "failed" in message and not self._ready.done():
            self._flush_log()
            self._ready.set_exception(StartError("import-error", message["failed"]))
        for fd in fds:
            os.close(fd)

    def _feed(self, data: bytes) -> None:
        for line in self._cutter.feed(data):
            self._on_line(line)

    def _flush_log(self) -> None:
        self._output.drain()
        for line in self._cutter.finish():
            self._on_line(line)

    def _exited(self) -> None:
        self.alive = False
        # What it has started, as the only worker or while it was imported; not yet reaped, its number is nobody else's.
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        status = self._process.wait()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._loop.remove_reader(self._control)
        self._control.close()
        self._flush_log()
        self._output.close()
        error = StartError("crashed", f"the function's process ended: {describe_status(status)}")
        if not self._ready.done():
            # A process that ends while it imports was ended by what it imports.
            self._ready.set_exception(StartError("import-error", str(error)))
            self._ready.exception()
        for fork in self._forks.values():
            if not fork.done():
                fork.set_exception(error)
                fork.exception()
        for worker in list(self.workers.values()):
            worker.kill_group()
            worker.ended(None)
        self.gone.set_result(status)
