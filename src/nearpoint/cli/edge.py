"""`nearpoint edge`: a stand-alone caching edge in front of any origin, one process per worker."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

from nearpoint.edge.bounds import Bounds
from nearpoint.edge.standalone import OriginUrl, listening_socket, serve
from nearpoint.telemetry import logs

RESTARTS_MAX = 5  # of workers that end by themselves, then the command gives up


def parse_listen(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[::1]:PORT` or `:PORT`. Raises ValueError with a sentence that says what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - no host means every address


def run_edge(listen: str, origin: str, *, workers: int = 1, cache_mb: int = 256, access_log: str | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0 ended as asked, 1 could not serve, 2 bad arguments."""
    try:
        host, port = parse_listen(listen)
        url = OriginUrl.parse(origin)
        if not 1 <= workers <= 256:
            raise ValueError(f"{workers} workers: between 1 and 256")
        if cache_mb < 1:
            raise ValueError(f"a cache of {cache_mb} MB: at least 1")
    except ValueError as error:
        print(f"nearpoint edge: {error}", file=sys.stderr)
        return 2
    bounds = Bounds(cache_bytes_max=cache_mb * 1_048_576 // workers)
    try:
        first = listening_socket(host, port, shared=workers > 1)
        name = first.getsockname()
        # Every worker has a socket of its own: the kernel spreads connections among them.
        socks = [first, *(listening_socket(host, name[1], shared=True) for _ in range(workers - 1))]
        if access_log is not None:
            Path(access_log).open("ab").close()  # a name that can't be written is said now
    except OSError as error:
        print(f"nearpoint edge: {listen}: {error.strerror or error}", file=sys.stderr)
        return 1
    shown = f"[{name[0]}]" if ":" in name[0] else name[0]
    print(f"nearpoint edge: http://{shown}:{name[1]} -> {origin} ({workers} workers)", file=sys.stderr, flush=True)
    if workers == 1:
        return _work(first, url, bounds, access_log)
    return _supervise(socks, url, bounds, access_log)


def _work(sock: socket.socket, url: OriginUrl, bounds: Bounds, access_log: str | None, alive: int | None = None) -> int:
    import uvloop

    logs.configure("edge")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sock, url, bounds=bounds, log_path=access_log, alive=alive))
    return 0


_ENDING = {signal.SIGTERM, signal.SIGINT}


def _supervise(socks: list[socket.socket], url: OriginUrl, bounds: Bounds, access_log: str | None) -> int:
    """Fork a worker per socket, start those anew that end by themselves, and end them all when asked to."""
    stopping = False
    workers: dict[int, socket.socket] = {}
    alive, ours = os.pipe()  # closes when this process is gone, however it went: the workers end then

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in list(workers):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def start(sock: socket.socket) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # neither side may miss a signal while it gets ready
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(ours)
                for number in _ENDING:
                    signal.signal(number, signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
                for other in socks:
                    if other is not sock:
                        other.close()
                code = _work(sock, url, bounds, access_log, alive)
            finally:
                os._exit(code)
        workers[pid] = sock
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)

    for number in _ENDING:
        signal.signal(number, stop)
    for sock in socks:
        start(sock)
    restarts = 0
    failed = False
    while workers:
        pid, status = os.wait()
        sock = workers.pop(pid)
        if stopping:
            continue
        restarts += 1
        if restarts > RESTARTS_MAX:
            print("nearpoint edge: workers end again and again", file=sys.stderr)
            failed = True
            stop()
            continue
        code = os.waitstatus_to_exitcode(status)
        print(f"nearpoint edge: worker {pid} ended ({code}), a new one begins", file=sys.stderr)
        start(sock)
    return 1 if failed else 0
