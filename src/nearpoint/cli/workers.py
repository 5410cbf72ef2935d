"""Processes that share listening addresses: forked, replaced when they end by themselves, ended together."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from nearpoint.wire.listen import listening_socket

# Of workers that end by themselves: with more in so short a time the command gives up.
RESTARTS_MAX = 5
RESTARTS_WITHIN_S = 10.0
WORKERS_MAX = 256

Sockets = Sequence[socket.socket]
# What one worker does with its sockets, until SIGTERM or SIGINT. It gets its number, and the reading end of a pipe that
# closes when the process that started it is gone. Returns its exit code.
Work = Callable[[int, Sockets, int | None], int]

_ENDING = {signal.SIGTERM, signal.SIGINT}
_HANDLED = _ENDING | {signal.SIGHUP}


def open_sockets(addresses: Sequence[tuple[str, int]], workers: int) -> list[list[socket.socket]]:
    """For each worker, a socket at each address: the kernel spreads connections among them. Raises OSError.

    Port 0 is the same free port for all.
    """
    first: list[socket.socket] = []
    opened = [first]
    try:
        for host, port in addresses:
            try:
                first.append(listening_socket(host, port, shared=workers > 1))
            except OSError as error:
                raise OSError(error.errno, error.strerror or str(error), f"{host}:{port}") from None
        bound = [(host, sock.getsockname()[1]) for (host, _), sock in zip(addresses, first, strict=True)]
        for _ in range(workers - 1):
            opened.append([])
            for host, port in bound:
                opened[-1].append(listening_socket(host, port, shared=True))
    except BaseException:
        close_all(opened)
        raise
    return opened


def close_all(sockets: Sequence[Sockets]) -> None:
    """Close every socket of every worker."""
    for of_worker in sockets:
        for sock in of_worker:
            sock.close()


def run_workers(
    name: str, sockets: Sequence[Sockets], work: Work, *, on_hangup: Callable[[], bool] | None = None
) -> int:
    """Run a worker for each entry of `sockets` until SIGTERM or SIGINT. Returns the exit code of the command.

    One worker runs in this process, several are forked. `on_hangup` is asked on SIGHUP; when it says yes the workers
    get the signal too. A single worker handles SIGHUP itself.
    """
    if len(sockets) == 1:
        return work(0, sockets[0], None)
    return _Supervisor(name, sockets, work, on_hangup).run()


class _Supervisor:
    def __init__(self, name: str, sockets: Sequence[Sockets], work: Work, on_hangup: Callable[[], bool] | None) -> None:
        self._name = name
        self._sockets = sockets
        self._work = work
        self._on_hangup = on_hangup
        self._stopping = False
        self._workers: dict[int, int] = {}  # number by pid
        # The pipe closes when this process is gone, however it went: the workers end then.
        self._alive, self._ours = os.pipe()

    def run(self) -> int:
        for each in _ENDING:
            signal.signal(each, self._stop)
        if self._on_hangup is not None:
            signal.signal(signal.SIGHUP, self._hang_up)
        for at in range(len(self._sockets)):
            self._start(at)
        restarts: deque[float] = deque()
        failed = False
        while self._workers:
            pid, status = os.wait()
            number = self._workers.pop(pid, -1)
            if self._stopping or number < 0:
                continue
            now = time.monotonic()
            while restarts and now - restarts[0] > RESTARTS_WITHIN_S:
                restarts.popleft()
            restarts.append(now)
            if len(restarts) > RESTARTS_MAX:
                self._say("workers end again and again")
                failed = True
                self._stop()
                continue
            self._say(f"worker {pid} ended ({os.waitstatus_to_exitcode(status)}), a new one begins")
            self._start(number)
        return 1 if failed else 0

    def _start(self, number: int) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)  # neither side may miss a signal while it gets ready
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(self._ours)
                for each in _ENDING:
                    signal.signal(each, signal.SIG_DFL)
                if self._on_hangup is not None:
                    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the worker listens for it
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)
                close_all([of_worker for at, of_worker in enumerate(self._sockets) if at != number])
                code = self._work(number, self._sockets[number], self._alive)
            except BaseException:
                traceback.print_exc()  # os._exit says nothing
            finally:
                os._exit(code)
        self._workers[pid] = number
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)

    def _stop(self, *_: object) -> None:
        self._stopping = True
        self._tell(signal.SIGTERM)

    def _hang_up(self, *_: object) -> None:
        if self._on_hangup is not None and not self._stopping and self._on_hangup():
            self._tell(signal.SIGHUP)

    def _tell(self, number: signal.Signals) -> None:
        for pid in list(self._workers):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _say(self, text: str) -> None:
        print(f"nearpoint {self._name}: {text}", file=sys.stderr, flush=True)
