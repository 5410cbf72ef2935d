"""`nearpoint edge`: a stand-alone caching edge in front of any origin, one process per worker."""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nearpoint.cli.workers import WORKERS_MAX, Sockets, close_all, open_sockets, run_workers
from nearpoint.edge.bounds import Bounds
from nearpoint.edge.logfile import Rotation
from nearpoint.edge.standalone import Listening, OriginUrl, Service, serve
from nearpoint.edge.store import lifetime
from nearpoint.edge.tags import is_tag_field
from nearpoint.telemetry import logs
from nearpoint.wire.certificates import context_from_files
from nearpoint.wire.listen import listening_socket, parse_listen, shown_address


def run_edge(
    listen: str,
    origin: str,
    *,
    workers: int = 1,
    cache_mb: int = 256,
    access_log: str | None = None,
    access_log_mb: int = 256,
    access_log_hours: float = 24,
    access_log_keep: int = 30,
    cache_tag_header: str = "",
    cache_dir: Path | None = None,
    cache_gb: float = 1.0,
    admin: str | None = None,
    tls_certs: Sequence[Path] = (),
    tls_keys: Sequence[Path] = (),
    redirect_http: str | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0 ended as asked, 1 could not serve, 2 bad arguments."""
    try:
        addresses = [parse_listen(listen)]
        if redirect_http is not None:
            addresses.append(parse_listen(redirect_http))
        admin_address = parse_listen(admin) if admin is not None else None
        url = OriginUrl.parse(origin)
        if not 1 <= workers <= WORKERS_MAX:
            raise ValueError(f"{workers} workers: between 1 and {WORKERS_MAX}")
        if cache_mb < 1:
            raise ValueError(f"a cache of {cache_mb} MB: at least 1")
        if not 0.01 <= cache_gb <= 1_000_000:
            raise ValueError(f"a cache of {cache_gb} GB on disk: between 0.01 and 1,000,000")
        if access_log_mb < 0 or access_log_hours < 0 or access_log_keep < 0:
            raise ValueError("--access-log-mb, -hours and -keep: 0 (no bound) or more")
        if cache_tag_header and not is_tag_field(cache_tag_header):
            raise ValueError(f"{cache_tag_header!r} is not the name of a header")
        if len(tls_certs) != len(tls_keys):
            raise ValueError("each --tls-cert needs its --tls-key, in the same order")
        tls = tuple(zip(tls_certs, tls_keys, strict=True))
        if tls:
            context_from_files(tls)  # what is wrong with it is said now
        elif redirect_http is not None:
            raise ValueError("--redirect-http needs --tls-cert and --tls-key")
    except OSError as error:  # a certificate or its key
        said = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"nearpoint edge: {said}", file=sys.stderr)
        return 2
    except ValueError as error:
        print(f"nearpoint edge: {error}", file=sys.stderr)
        return 2
    sockets: list[list[socket.socket]] = []
    try:
        sockets = open_sockets(addresses, workers)
        if admin_address is not None:
            sockets[0].append(listening_socket(*admin_address, shared=False))
        if access_log is not None:
            Path(access_log).open("ab").close()  # a name that can't be written is said now
        if cache_dir is not None:
            lifetime.prepare(cache_dir)
    except OSError as error:
        close_all(sockets)
        print(f"nearpoint edge: {error.filename or listen}: {error.strerror or error}", file=sys.stderr)
        return 1
    scheme = "https" if tls else "http"
    shown = shown_address(sockets[0][0])
    also = f", admin at http://{shown_address(sockets[0][-1])}" if admin_address is not None else ""
    processes = "1 worker" if workers == 1 else f"{workers} workers"
    print(f"nearpoint edge: {scheme}://{shown} -> {origin} ({processes}{also})", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="nearpoint-edge-") as folder:
        service = Service(
            origin=url,
            bounds=Bounds(cache_bytes_max=cache_mb * 1_048_576 // workers),
            workers=workers,
            metrics_dir=Path(folder),
            log_path=Path(access_log) if access_log is not None else None,
            tag_field=cache_tag_header,
            rotation=Rotation(
                bytes_max=access_log_mb * 1_048_576, age_s_max=access_log_hours * 3600, kept_max=access_log_keep
            ),
            cache_dir=cache_dir,
            cache_bytes=int(cache_gb * 1_073_741_824),
            tls=tls,
        )

        def work(number: int, socks: Sockets, alive: int | None) -> int:
            import uvloop

            logs.configure("edge")
            listening = Listening(
                main=socks[0],
                redirect=socks[1] if redirect_http is not None else None,
                admin=socks[-1] if admin_address is not None and number == 0 else None,
            )
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve(service, listening, number=number, alive=alive))
            return 0

        code = run_workers("edge", sockets, work)
    close_all(sockets)
    if cache_dir is not None:
        with suppress(OSError):
            lifetime.seal(cache_dir)
    return code
