"""`python -m nearpoint.bucket --config FILE`: one region's store as a process.

The file is JSON with `region`, `folder`, `access_key_id`, `secret_key`, perhaps `account_id`, and either
`sockets: {"http": fd}` from the supervisor or `host` and `port` (0: any; the log says which). It holds a secret: give
it mode 0600. `GET /-/live` answers without a signature as soon as requests are served.
"""

from __future__ import annotations

import ctypes
import gc
import socket
import sys
from contextlib import suppress
from pathlib import Path

import structlog

from nearpoint.bucket.fast import FastReads
from nearpoint.bucket.schema import StoreUnusableError
from nearpoint.bucket.server import StoreServer, utc_now
from nearpoint.bucket.store import Store
from nearpoint.regions.refusals import error_page
from nearpoint.signing import Credentials
from nearpoint.telemetry.child import Child, run_child
from nearpoint.wire.server import Server

log = structlog.get_logger("nearpoint.bucket")

_DRAIN_S = 10.0
_M_MMAP_THRESHOLD = -3  # mallopt(3); once set, glibc no longer raises it by itself


async def main(child: Child) -> None:
    """Serve until told to stop, then drain."""
    config = child.config
    if "sockets" in config:
        sock = child.listener("http")
    else:
        sock = socket.create_server((config.get("host", "127.0.0.1"), int(config["port"])), backlog=1024)
    store = Store(Path(config["folder"]), config["region"], account_id=config.get("account_id"))
    credentials = Credentials(config["access_key_id"], config["secret_key"])
    answers = StoreServer(store, credentials, clock=utc_now)
    instant = FastReads(
        store, authenticate=answers.authenticate, new_request_id=answers.new_request_id, date=lambda: server.date
    )
    server = Server(
        answers.handle,
        instant=instant,
        error=lambda status, reason: error_page(status, reason, answers.new_request_id()),
    )
    await server.start(sock)
    _settle_memory()
    child.ready()
    log.info("ready", region=store.region, address=sock.getsockname())
    await child.stopping.wait()
    store.stop_waiting()
    await server.drain(_DRAIN_S)
    await store.close()


def _settle_memory() -> None:
    """Leave what was loaded out of garbage collections, and give large blocks back to the system as they are freed."""
    gc.collect()
    gc.freeze()
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 128 * 1024)


if __name__ == "__main__":
    try:
        run_child("bucket", main)
    except (StoreUnusableError, OSError) as error:
        sys.stderr.write(f"nearpoint bucket: {error}\n")
        sys.exit(1)
