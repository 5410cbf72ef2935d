"""`nearpoint up` and `nearpoint down`."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from rich.progress import BarColumn, Progress, TaskID, TextColumn

from nearpoint.cli.console import CommandError, Exit, notes, print_json
from nearpoint.cli.inspect import limit_lines, silent_stores
from nearpoint.cli.world_client import WorldClient
from nearpoint.world import geography
from nearpoint.world.layout import (
    Layout,
    StoreAccess,
    World,
    WorldError,
    is_running,
    load_world,
    open_world,
    supervisor_pid,
)

STOP_TIMEOUT_S = 30.0
LINE_COLUMNS = 80  # what a command is for is left out where its line would not fit
STORE_FORM = "--store takes REGION=http://ACCESS_KEY_ID:SECRET_KEY@HOST:PORT, special characters as %XX."


def parse_places(text: str | None, known: dict[str, geography.Place], what: str) -> tuple[str, ...]:
    """Names from a comma list. Raises CommandError for a name that is not on the map."""
    names = tuple(name.strip() for name in (text or "").split(",") if name.strip())
    for name in names:
        if name not in known:
            raise CommandError(f"No {what} {name!r}. Known: {', '.join(known)}.", Exit.USAGE)
    return names


def parse_stores(values: list[str]) -> dict[str, StoreAccess]:
    """`REGION=http://ACCESS_KEY_ID:SECRET_KEY@HOST:PORT` for each region on a store of your own.

    A secret with `/`, `@` or other special characters is given percent-encoded. Raises CommandError, which never says
    the secret.
    """
    stores = {}
    for value in values:
        region, _, url = value.partition("=")
        try:
            parts = urlsplit(url)
            port = parts.port or 80
        except ValueError:
            raise CommandError(STORE_FORM, Exit.USAGE) from None
        if region not in geography.REGIONS:
            raise CommandError(f"No region {region!r}. {STORE_FORM}", Exit.USAGE)
        if parts.scheme != "http" or not parts.hostname or not parts.username or not parts.password:
            raise CommandError(STORE_FORM, Exit.USAGE)
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        stores[region] = StoreAccess(
            access_key_id=unquote(parts.username), secret_key=unquote(parts.password), endpoint=f"http://{host}:{port}"
        )
    return stores


class _Reporter:
    """Shows how far the start is: a bar on a terminal, one line otherwise."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("Starting"), BarColumn(24), TextColumn("{task.completed}/{task.total} {task.description}"),
            console=notes, transient=True, disable=not notes.is_terminal,
        )  # fmt: skip
        self._task: TaskID | None = None

    def start(self, total: int) -> None:
        self._task = self._progress.add_task("", total=total)
        self._progress.start()
        if not notes.is_terminal:
            notes.print(f"Starting {total} processes ...")

    def advance(self, name: str) -> None:
        if self._task is not None:
            self._progress.update(self._task, advance=1, description=name)

    def stop(self) -> None:
        self._progress.stop()


@contextmanager
def _reporting() -> Iterator[_Reporter]:
    reporter = _Reporter()
    try:
        yield reporter
    finally:
        reporter.stop()


def banner(layout: Layout, world: World, seconds: float, *, detached: bool) -> None:
    """What there is, and what a user can do now."""
    own = [region for region in world.regions if world.stores[region].endpoint]
    notes.print(f"[bold]Nearpoint is up[/] after {seconds:.1f} s")
    notes.print(f"  regions   {', '.join(world.regions)}" + (f"   (own stores: {', '.join(own)})" if own else ""))
    notes.print(f"  edges     {', '.join(world.edges)}")
    notes.print(f"  account   {world.account_id}")
    notes.print(f"  data      {layout.data}")
    notes.print(f"  proxy     http://LOCATION:x@127.0.0.1:{world.ports['proxy']}")
    client = WorldClient(layout.data)
    for line in (*limit_lines(client.ask("GET", "/status")["store_limits"]), *silent_stores(client)) if own else ():
        notes.print(f"  [yellow]{line}[/]", soft_wrap=True)
    notes.print("Next:")
    following = {
        f"shell {world.regions[0]}": "aws, curl, boto3 as if you stood there",
        "demo": "the whole walk-through by itself",
    }
    if detached:
        following["down"] = "stops it; what it holds stays"
    _show_next(following, layout)
    if not detached:
        notes.print("Ctrl-C stops it; what it holds stays in the data folder.")


def _show_next(commands: Mapping[str, str], layout: Layout) -> None:
    """The commands to go on with, as they have to be typed here; what they are for, where there is room."""
    data = "" if layout.data == Path.cwd() / ".nearpoint" else f" --data {shlex.quote(str(layout.data))}"
    typed = {f"{_program()} {command}{data}": what for command, what in commands.items()}
    width = max(map(len, typed))
    for line, what in typed.items():
        room = 2 + width + 2 + max(map(len, commands.values())) <= LINE_COLUMNS
        notes.print(f"  {line:<{width}}  {what}" if room else f"  {line}", soft_wrap=True, markup=False)


def _program() -> str:
    """How the user called us: the bare name where the PATH has it, else the way to it, as from a checkout's `.venv`."""
    called = sys.argv[0]
    return called if Path(called).name == "nearpoint" and shutil.which("nearpoint") is None else "nearpoint"


def up(
    *, data: Path, regions: str | None, edges: str | None, stores: list[str], port: int | None, workers: int,
    detach: bool, as_json: bool, notify_fd: int | None,
) -> None:  # fmt: skip
    """Start the world of a data folder and serve until interrupted, or leave it running with `detach`."""
    layout = Layout(data)
    layout.make()
    if is_running(layout):
        raise CommandError(
            f"A world is already running on {layout.data}. Stop it with `nearpoint down`, or use another --data folder."
        )
    first = load_world(layout) is None
    wanted_regions = parse_places(regions, geography.REGIONS, "region")
    wanted_edges = parse_places(edges, geography.POPS, "edge city")
    wanted_stores = parse_stores(stores)
    if detach:
        _up_detached(layout, regions, edges, stores, port, workers, as_json)
        return
    world = open_world(
        layout,
        regions=wanted_regions or (geography.DEFAULT_REGIONS if first else ()),
        edges=wanted_edges or (geography.DEFAULT_EDGES if first and edges is None else ()),
        stores=wanted_stores,
    )
    from nearpoint.telemetry import logs
    from nearpoint.world.run import run_world

    logs.configure("supervisor")
    started = time.monotonic()
    if notify_fd is not None:
        with os.fdopen(notify_fd, "w", buffering=1) as notify:
            _run_notifying(layout, world, port, workers, notify)
        return
    with _reporting() as reporter:

        def ready(world: World) -> None:
            reporter.stop()
            if as_json:
                print_json(WorldClient(data).ask("GET", "/status"))
            else:
                banner(layout, world, time.monotonic() - started, detached=False)

        run_world(
            layout, world, proxy_port=port, node_workers=workers,
            on_start=reporter.start, on_progress=reporter.advance, on_ready=ready,
        )  # fmt: skip


def _run_notifying(layout: Layout, world: World, port: int | None, workers: int, notify: IO[str]) -> None:
    from nearpoint.world.run import run_world

    def tell(message: dict[str, Any]) -> None:
        try:
            notify.write(json.dumps(message) + "\n")
        except OSError:
            return  # whoever waited has gone; the world goes on

    try:
        run_world(
            layout, world, proxy_port=port, node_workers=workers,
            on_start=lambda total: tell({"start": total}),
            on_progress=lambda name: tell({"progress": name}),
            on_ready=lambda _: tell({"ready": True}),
        )  # fmt: skip
    except WorldError as error:
        tell({"error": str(error)})


def _up_detached(
    layout: Layout, regions: str | None, edges: str | None, stores: list[str], port: int | None, workers: int,
    as_json: bool,
) -> None:  # fmt: skip
    read_fd, write_fd = os.pipe()
    command = [sys.executable, "-m", "nearpoint", "up", "--data", str(layout.data), "--notify-fd", str(write_fd)]
    command += ["--workers", str(workers)]
    for option, value in (("--regions", regions), ("--edges", edges), ("--port", port)):
        command += [option, str(value)] if value is not None else []
    for store in stores:
        command += ["--store", store]
    started = time.monotonic()
    log = os.open(layout.logs / "supervisor.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(write_fd,), start_new_session=True
    )
    os.close(log)
    os.close(write_fd)
    try:
        with _reporting() as reporter, os.fdopen(read_fd) as lines:
            ready = _follow_start(lines, reporter)
    except BaseException:  # it said why, or Ctrl-C: either way nothing shall be left
        process.terminate()
        process.wait()
        raise
    if not ready:
        tail = (layout.logs / "supervisor.log").read_text(errors="replace").strip().splitlines()[-1:]
        raise CommandError(f"The world did not start: {' '.join(tail) or f'exit code {process.wait()}'}")
    world = load_world(layout)
    assert world is not None
    if as_json:
        print_json(WorldClient(layout.data).ask("GET", "/status"))
    else:
        banner(layout, world, time.monotonic() - started, detached=True)


def _follow_start(lines: Iterable[str], reporter: _Reporter) -> bool:
    """Show what the starting world says. False when it ended without a word; CommandError with its reason."""
    for line in lines:
        message = json.loads(line)
        if "start" in message:
            reporter.start(message["start"])
        elif "progress" in message:
            reporter.advance(message["progress"])
        elif "error" in message:
            raise CommandError(message["error"])
        elif "ready" in message:
            return True
    return False


def down(*, data: Path, as_json: bool) -> None:
    """Stop the world of a data folder and wait until nothing of it runs. One that does not run is no error."""
    layout = Layout(data)
    if not is_running(layout):
        if as_json:
            print_json({"stopped": False, "data": str(layout.data)})
        else:
            notes.print(f"No world is running on {layout.data}.")
        return
    deadline = time.monotonic() + STOP_TIMEOUT_S
    asked = False
    while is_running(layout):
        pid = None if asked else supervisor_pid(layout)  # a world that has only just begun has not written it yet
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
            asked = True
        if time.monotonic() > deadline:
            raise CommandError(
                f"The world on {layout.data} has not ended after {STOP_TIMEOUT_S:.0f} s.", Exit.TIMED_OUT
            )
        time.sleep(0.05)
    if as_json:
        print_json({"stopped": True, "data": str(layout.data)})
    else:
        notes.print(f"Stopped. Everything is kept in {layout.data}.")
