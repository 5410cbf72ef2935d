"""The sandbox's end of a function's processes: starts a zygote, has it fork workers, calls a worker.

Each process is held by a pidfd, so that a signal never meets a stranger who inherited the number.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import orjson

from nearpoint.functions.logs import LineCutter

Kind = Literal["raised", "timeout", "throttled", "crashed", "import-error", "too-large", "memory", "malformed"]
_ANSWERS: tuple[Kind, ...] = ("raised", "memory", "crashed", "too-large", "malformed")

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
MESSAGE_BYTES_MAX = 128 * 1024
# How often a call in progress is looked at. A worker may overshoot its memory between two looks, up to RLIMIT_DATA.
WATCH_S = 0.02
EXIT_STATUS_WAIT_S = 0.25
_LENGTH = struct.Struct(">I")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class StartError(Exception):
    """A function's process cannot be had; `kind` is import-error when the package is at fault, else crashed."""

    def __init__(self, kind: Kind, text: str) -> None:
        super().__init__(text)
        self.kind: Kind = kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a worker made of a call: `value`, or `kind` and `text` when it failed. `peak_memory_mb` is resident."""

    value: Any = None
    kind: Kind | None = None
    text: str = ""
    peak_memory_mb: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a zygote is started with; `config` is the first message that it gets."""

    config: dict[str, Any]
    environment: dict[str, str]
    folder: Path
    memory_bytes_max: int
    answer_bytes_max: int


class _Output:
    """Reads one end of a pipe as data comes, and whatever is there on demand."""

    def __init__(self, fd: int, feed: Callable[[bytes], None]) -> None:
        self._fd = fd
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._once)

    def _once(self) -> None:
        try:
            data = os.read(self._fd, 65536)
        except BlockingIOError:
            return
        if data:
            self._feed(data)
        else:
            self.close()

    def drain(self) -> None:
        """Take what is in the pipe, a pipeful at most: somebody may be writing without end."""
        for _ in range(16):
            if self._fd < 0:
                return
            try:
                data = os.read(self._fd, 65536)
            except BlockingIOError:
                return
            if not data:
                return
            self._feed(data)

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


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
        self._output = _Output(log_read, self._feed)
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
        worker = Worker(self, number, pid, pidfd, log_read)
        self.workers[number] = worker
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


def describe_status(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "killed with its parent process"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
        return f"killed by signal {-status}"
    return f"exit status {status}"


class Worker(asyncio.Protocol):
    """One forked process that answers one call at a time.

    `usable` until it is ended or ends; `idle_since` is the loop's time at which its last call ended; `gone` is
    done when the process is gone.
    """

    def __init__(self, zygote: Zygote, number: int, pid: int, pidfd: int, log_fd: int) -> None:
        self.zygote = zygote
        self.pid = pid
        self.usable = True
        self.idle_since = 0.0
        self.access_key_id: str | None = None
        self._number = number
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._output = _Output(log_fd, self._feed)
        self._cutter: LineCutter | None = None
        self._on_line: Callable[[str], None] | None = None
        self._transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._reply: asyncio.Future[Reply] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._peak_bytes = 0

    def call(self, payload: bytes, deadline_s: float, on_line: Callable[[str], None]) -> asyncio.Future[Reply]:
        """Send one call; the future never raises. A call that breaks a limit ends the process."""
        reply = self._reply = self._loop.create_future()
        self._cutter, self._on_line = LineCutter(), on_line
        self._deadline = self._loop.time() + deadline_s
        self._peak_bytes = 0
        if self._transport is None or not self.usable:
            self._fail("crashed", "the function's process ended")
            return reply
        self._timer = self._loop.call_later(min(WATCH_S, deadline_s), self._watch)
        self._transport.writelines((_LENGTH.pack(len(payload)), payload))
        return reply

    def stop(self) -> None:
        """Let it end: it is idle and not wanted any more."""
        self.usable = False
        if self._transport is not None:
            self._transport.close()

    def kill(self) -> None:
        """End it at once."""
        self.usable = False
        if not self.gone.done():
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def kill_group(self) -> None:
        """End what it started, when its zygote is no longer there to do so."""
        self.kill()
        if self.pid != self.zygote.pid:
            with contextlib.suppress(OSError):
                os.killpg(self.pid, signal.SIGKILL)

    # ── asyncio.Protocol ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports behave like asyncio's and are none of its classes.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        buffered = self._data
        buffered += data
        if len(buffered) < 4:
            return
        size = _LENGTH.unpack_from(buffered)[0]
        if size > self.zygote.spec.answer_bytes_max:
            self._kill_for("too-large", f"the result has {size} bytes")
        elif len(buffered) >= 4 + size:
            encoded = bytes(buffered[4 : 4 + size])
            buffered.clear()
            self._answered(encoded)

    def connection_lost(self, error: Exception | None) -> None:
        # The zygote is about to say with which status the process ended; without it there is no more to tell.
        self.usable = False
        if not self.gone.done():
            self._loop.call_later(EXIT_STATUS_WAIT_S, self.ended, None)

    # ── inside ──

    def ended(self, status: int | None) -> None:
        """The process is gone, or not to be reached any more."""
        if self.gone.done():
            return
        self._fail("crashed", f"the function's process ended: {describe_status(status)}")
        self.kill()
        self.zygote.workers.pop(self._number, None)
        self._output.close()
        os.close(self._pidfd)
        if self._transport is not None:
            self._transport.abort()
        self.gone.set_result(None)

    def _answered(self, encoded: bytes) -> None:
        try:
            answer = orjson.loads(encoded)
            peak_memory_mb = max(int(answer["peak_kb"]) // 1024, 1)
        except (ValueError, KeyError, TypeError):
            self._kill_for("malformed", "the function's process answered with something that is not JSON")
            return
        for kind in _ANSWERS:
            if kind in answer:
                self._finish(Reply(kind=kind, text=str(answer[kind]), peak_memory_mb=peak_memory_mb))
                return
        self._finish(Reply(value=answer.get("value"), peak_memory_mb=peak_memory_mb))

    def _fail(self, kind: Kind, text: str) -> None:
        self._finish(Reply(kind=kind, text=text, peak_memory_mb=self._peak_bytes >> 20))

    def _kill_for(self, kind: Kind, text: str) -> None:
        self._fail(kind, text)
        self.kill()
        self.stop()

    def _finish(self, reply: Reply) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._reply = self._reply, None
        if waiting is None:
            return
        self._output.drain()
        if self._cutter is not None and self._on_line is not None:
            for line in self._cutter.finish():
                self._on_line(line)
        self._cutter = None
        self.idle_since = self._loop.time()
        if not waiting.done():
            waiting.set_result(reply)

    def _feed(self, data: bytes) -> None:
        # What is printed between two calls, by a thread that goes on, belongs to none.
        if self._cutter is not None and self._on_line is not None:
            for line in self._cutter.feed(data):
                self._on_line(line)

    def _watch(self) -> None:
        now = self._loop.time()
        if now >= self._deadline:
            self._kill_for("timeout", "the function ran into its time limit")
            return
        limit = self.zygote.spec.memory_bytes_max
        resident = self._resident_bytes()
        self._peak_bytes = max(self._peak_bytes, resident)
        if resident > limit:
            self._kill_for("memory", f"memory limit exceeded: {resident >> 20} MB used, {limit >> 20} MB allowed")
            return
        self._timer = self._loop.call_later(min(WATCH_S, self._deadline - now), self._watch)

    def _resident_bytes(self) -> int:
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as statm:  # noqa: PTH123 - a hot path
                return int(statm.read().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError, ValueError):
            return 0
