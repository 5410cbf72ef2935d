"""The sandbox's end of one worker process: sends a call, watches its limits, collects the answer and what it printed.

Each process is held by a pidfd, so that a signal never meets a stranger who inherited the number.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import orjson

from nearpoint.functions.logs import LineCutter

if TYPE_CHECKING:
    from nearpoint.functions.zygote import Zygote

Kind = Literal["raised", "timeout", "throttled", "crashed", "import-error", "too-large", "memory", "malformed"]
_ANSWERS: tuple[Kind, ...] = ("raised", "memory", "crashed", "too-large", "malformed")

# How often a call in progress is looked at. A worker may overshoot its memory between two looks, up to RLIMIT_DATA.
WATCH_S = 0.02
EXIT_STATUS_WAIT_S = 0.25
PROCESSES_MAX = 1_024  # Lambda quotas: execution processes and threads
_LENGTH = struct.Struct(">I")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a worker made of a call: `value`, or `kind` and `text` when it failed. `peak_memory_mb` is resident."""

    value: Any = None
    kind: Kind | None = None
    text: str = ""
    peak_memory_mb: int = 0


class Output:
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


def describe_status(status: int | None) -> str:
    """An exit status in words."""
    if status is None:
        return "killed with its parent process"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-status).name}"
        return f"killed by signal {-status}"
    return f"exit status {status}"


def processes_of(session: int) -> int:
    """How many processes a session has."""
    found = 0
    for name in os.listdir("/proc"):  # noqa: PTH208 - a hot path
        if name.isdigit():
            with contextlib.suppress(OSError):
                found += os.getsid(int(name)) == session
    return found


class Worker(asyncio.Protocol):
    """One forked process that answers one call at a time.

    `usable` until it is ended or ends; `idle_since` is the loop's time at which its last call ended; `gone` is
    done when the process is gone.
    """

    def __init__(self, zygote: Zygote, *, pid: int, pidfd: int, log_fd: int) -> None:
        self.zygote = zygote
        self.pid = pid
        self.usable = True
        self.idle_since = 0.0
        self.access_key_id: str | None = None
        self._pidfd = pidfd
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._output = Output(log_fd, self._feed)
        self._cutter: LineCutter | None = None
        self._on_line: Callable[[str], None] | None = None
        self._transport: asyncio.Transport | None = None
        self._data = bytearray()
        self._reply: asyncio.Future[Reply] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0
        self._peak_bytes = 0
        self._forks = False  # it has been seen with a process of its own

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
        self._forks = self._forks or self._has_children()
        if self._forks and processes_of(self.pid) > PROCESSES_MAX:
            self._kill_for("crashed", f"the function had more than {PROCESSES_MAX} processes")
            return
        self._timer = self._loop.call_later(min(WATCH_S, self._deadline - now), self._watch)

    def _has_children(self) -> bool:
        try:
            with open(f"/proc/{self.pid}/task/{self.pid}/children", "rb") as children:  # noqa: PTH123 - a hot path
                return children.read(1) != b""
        except OSError:
            return True  # gone, or a kernel that does not tell

    def _resident_bytes(self) -> int:
        try:
            with open(f"/proc/{self.pid}/statm", "rb") as statm:  # noqa: PTH123 - a hot path
                return int(statm.read().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError, ValueError):
            return 0
