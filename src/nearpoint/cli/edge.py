"""`nearpoint edge`: a stand-alone caching edge in front of any origin, one process per worker."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from nearpoint.cli.workers import WORKERS_MAX, Sockets, close_all, open_sockets, run_workers
from nearpoint.edge.bounds import Bounds
from nearpoint.edge.standalone import OriginUrl, serve
from nearpoint.telemetry import logs
from nearpoint.wire.listen import parse_listen, shown_address


def run_edge(listen: str, origin: str, *, workers: int = 1, cache_mb: int = 256, access_log: str | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0 ended as asked, 1 could not serve, 2 bad arguments."""
    try:
        address = parse_listen(listen)
        url = OriginUrl.parse(origin)
        if not 1 <= workers <= WORKERS_MAX:
            raise ValueError(f"{workers} workers: between 1 and {WORKERS_MAX}")
        if cache_mb < 1:
            raise ValueError(f"a cache of {cache_mb} MB: at least 1")
    except ValueError as error:
        print(f"nearpoint edge: {error}", file=sys.stderr)
        return 2
    bounds = Bounds(cache_bytes_max=cache_mb * 1_048_576 // workers)
    try:
        sockets = open_sockets([address], workers)
        if access_log is not None:
            Path(access_log).open("ab").close()  # a name that can't be written is said now
    except OSError as error:
        print(f"nearpoint edge: {error.filename or listen}: {error.strerror or error}", file=sys.stderr)
        return 1
    shown = shown_address(sockets[0][0])
    print(f"nearpoint edge: http://{shown} -> {origin} ({workers} workers)", file=sys.stderr, flush=True)

    def work(_: int, socks: Sockets, alive: int | None) -> int:
        import uvloop

        logs.configure("edge")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(socks[0], url, bounds=bounds, log_path=access_log, alive=alive))
        return 0

    code = run_workers("edge", sockets, work)
    close_all(sockets)
    return code
