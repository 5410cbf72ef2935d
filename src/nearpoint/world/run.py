"""The life of a world in this process: take the folder, start, serve until asked to end, stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import msgspec

from nearpoint.wire.server import Server
from nearpoint.wire.tls import Authority
from nearpoint.world.admin import Admin
from nearpoint.world.layout import Layout, World, save_world, take_lock
from nearpoint.world.supervisor import Supervisor
from nearpoint.world.trust import write_bundle


async def _run(
    layout: Layout,
    supervisor: Supervisor,
    on_start: Callable[[int], None],
    on_progress: Callable[[str], None],
    on_ready: Callable[[World], None],
) -> None:
    world = supervisor.world = msgspec.structs.replace(supervisor.world, ports=supervisor.ports)
    admin = Admin(supervisor, world.admin_token)
    server = Server(admin.handle)
    loop = asyncio.get_running_loop()
    asked_to_end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked_to_end.set)
    starting: asyncio.Task[None] | None = None
    stopping = asyncio.create_task(asked_to_end.wait())
    try:
        save_world(layout, world)
        await server.start(supervisor.listener("admin"))
        on_start(len(supervisor.describe()))
        starting = asyncio.create_task(supervisor.start(on_progress))
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            admin.ready = True
            on_ready(world)
            await stopping
    finally:
        for task in (starting, stopping):
            if task is not None:
                task.cancel()
        admin.close()
        await server.drain(1.0)  # before its socket is closed with all others
        await supervisor.stop()


def run_world(
    layout: Layout,
    world: World,
    *,
    proxy_port: int | None,
    node_workers: int,
    on_start: Callable[[int], None],
    on_progress: Callable[[str], None],
    on_ready: Callable[[World], None],
) -> None:
    """Run until a signal or `nearpoint down` ends it. Raises WorldError when it cannot start, leaving nothing behind.

    `on_start` hears how many processes there are, `on_progress` the name of each that is ready, `on_ready` that all
    are.
    """
    lock = take_lock(layout)
    try:
        layout.check_space()
        authority = Authority.load_or_create(layout.ca)
        write_bundle(layout, authority.certificate_pem)
        supervisor = Supervisor(layout, world, proxy_port=proxy_port, node_workers=node_workers)
        asyncio.run(_run(layout, supervisor, on_start, on_progress, on_ready))
    finally:
        os.close(lock)
