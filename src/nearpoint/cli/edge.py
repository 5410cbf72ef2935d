"""`nearpoint edge`: a stand-alone caching edge in front of any origin, one process per worker."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nearpoint.cli.console import CommandError, Exit
from nearpoint.cli.workers import WORKERS_MAX, Sockets, close_all, open_sockets, run_workers
from nearpoint.edge.bounds import Bounds
from nearpoint.edge.logfile import Rotation
from nearpoint.edge.standalone import Listening, OriginUrl, Service, serve
from nearpoint.edge.store import lifetime
from nearpoint.edge.tags import is_tag_field
from nearpoint.telemetry import logs
from nearpoint.wire.certificates import context_from_files
from nearpoint.wire.listen import listening_socket, parse_listen, shown_address


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of the command, by their names. `tls_certs` and `tls_keys` are pairs in the same order."""

    listen: str
    origin: str
    workers: int = 1
    cache_mb: int = 256
    access_log: Path | None = None
    access_log_mb: int = 256
    access_log_hours: float = 24
    access_log_keep: int = 30
    cache_tag_header: str = ""
    cache_dir: Path | None = None
    cache_gb: float = 1.0
    admin: str | None = None
    tls_certs: tuple[Path, ...] = ()
    tls_keys: tuple[Path, ...] = ()
    redirect_http: str | None = None

    def check(self) -> None:
        """Raises ValueError or OSError for what can't be served, before anything is opened."""
        if not 1 <= self.workers <= WORKERS_MAX:
            raise ValueError(f"{self.workers} workers: between 1 and {WORKERS_MAX}")
        if self.cache_mb < 1:
            raise ValueError(f"a cache of {self.cache_mb} MB: at least 1")
        if not 0.01 <= self.cache_gb <= 1_000_000:
            raise ValueError(f"a cache of {self.cache_gb} GB on disk: between 0.01 and 1,000,000")
        if self.access_log_mb < 0 or self.access_log_hours < 0 or self.access_log_keep < 0:
            raise ValueError("--access-log-mb, -hours and -keep: 0 (no bound) or more")
        if self.cache_tag_header and not is_tag_field(self.cache_tag_header):
            raise ValueError(f"{self.cache_tag_header!r} is not the name of a header")
        if len(self.tls_certs) != len(self.tls_keys):
            raise ValueError("each --tls-cert needs its --tls-key, in the same order")
        if self.tls:
            context_from_files(self.tls)
        elif self.redirect_http is not None:
            raise ValueError("--redirect-http needs --tls-cert and --tls-key")

    @property
    def tls(self) -> tuple[tuple[Path, Path], ...]:
        """Each certificate with its key."""
        return tuple(zip(self.tls_certs, self.tls_keys, strict=True))


def run_edge(options: Options) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code. Raises CommandError for what keeps it from starting."""
    try:
        addresses = [parse_listen(each) for each in (options.listen, options.redirect_http) if each is not None]
        admin = None if options.admin is None else parse_listen(options.admin)
        origin = OriginUrl.parse(options.origin)
        options.check()
    except OSError as error:  # a certificate or its key
        said = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise CommandError(said, Exit.USAGE) from None
    except ValueError as error:
        raise CommandError(str(error), Exit.USAGE) from None
    sockets = _opened(options, addresses, admin)
    _banner(options, sockets[0])
    with tempfile.TemporaryDirectory(prefix="nearpoint-edge-") as folder:
        service = _service(options, origin, Path(folder))

        def work(number: int, socks: Sockets, alive: int | None) -> int:
            import uvloop

            logs.configure("edge")
            listening = Listening(
                main=socks[0],
                redirect=socks[1] if options.redirect_http is not None else None,
                admin=socks[-1] if options.admin is not None and number == 0 else None,
            )
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve(service, listening, number=number, alive=alive))
            return 0

        code = run_workers("edge", sockets, work)
    close_all(sockets)
    if options.cache_dir is not None:
        with suppress(OSError):
            lifetime.seal(options.cache_dir)
    return code


def _opened(options: Options, addresses: list[tuple[str, int]], admin: tuple[str, int] | None) -> list[Sockets]:
    """The sockets of each worker, the admin's last among those of the first; log and cache folder can be written."""
    sockets: list[Sockets] = []
    try:
        opened = open_sockets(addresses, options.workers)
        sockets.extend(opened)
        if admin is not None:
            opened[0].append(listening_socket(*admin, shared=False))
        if options.access_log is not None:
            options.access_log.open("ab").close()
        if options.cache_dir is not None:
            lifetime.prepare(options.cache_dir)
    except OSError as error:
        close_all(sockets)
        raise CommandError(f"{error.filename or options.admin}: {error.strerror or error}") from None
    return sockets


def _banner(options: Options, socks: Sockets) -> None:
    scheme = "https" if options.tls else "http"
    also = f", admin at http://{shown_address(socks[-1])}" if options.admin is not None else ""
    workers = f"{options.workers} worker{'' if options.workers == 1 else 's'}{also}"
    said = f"nearpoint edge: {scheme}://{shown_address(socks[0])} -> {options.origin} ({workers})"
    print(said, file=sys.stderr, flush=True)


def _service(options: Options, origin: OriginUrl, metrics_dir: Path) -> Service:
    """What every worker serves; sizes in bytes, ages in seconds."""
    return Service(
        origin=origin,
        bounds=Bounds(cache_bytes_max=options.cache_mb * 1_048_576 // options.workers),
        workers=options.workers,
        metrics_dir=metrics_dir,
        log_path=options.access_log,
        tag_field=options.cache_tag_header,
        rotation=Rotation(
            bytes_max=options.access_log_mb * 1_048_576,
            age_s_max=options.access_log_hours * 3600,
            kept_max=options.access_log_keep,
        ),
        cache_dir=options.cache_dir,
        cache_bytes=int(options.cache_gb * 1_073_741_824),
        tls=options.tls,
    )
