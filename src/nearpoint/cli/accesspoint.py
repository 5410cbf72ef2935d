"""`nearpoint accesspoint`: one endpoint over the stores of `nearpoint.toml`, one process per worker."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from rich.markup import escape

from nearpoint.cli.console import CommandError, Exit, notes, print_json, results, table
from nearpoint.cli.workers import WORKERS_MAX, Sockets, close_all, open_sockets, run_workers
from nearpoint.node.board import Board
from nearpoint.node.standalone_server import WorkerSockets, check, probe_all, serve
from nearpoint.regions.capabilities import Capabilities
from nearpoint.regions.settings import Settings, SettingsError, load
from nearpoint.regions.store import Store
from nearpoint.telemetry import logs
from nearpoint.wire.client import Client
from nearpoint.wire.listen import listening_socket, shown_address


def read_settings(config: Path) -> Settings:
    """The file, checked in every way that asks no store. Raises CommandError with a line for each mistake."""
    try:
        settings = load(config)
        check(settings)
    except SettingsError as error:
        raise CommandError(escape(str(error)), Exit.USAGE) from None
    except FileNotFoundError:
        words = f"There is no {config}. docs/reference/nearpoint-toml.md says what it holds."
        raise CommandError(words, Exit.USAGE) from None
    except OSError as error:
        raise CommandError(f"{config}: {error.strerror or error}", Exit.USAGE) from None
    return settings


def check_stores(config: Path, *, as_json: bool) -> None:
    """`--check`: read the file, probe every store, say what each can do. Exit code 4 when one gives no access."""
    settings = read_settings(config)
    for warning in settings.warnings:
        notes.print(f"[yellow]{escape(warning)}[/]", soft_wrap=True)

    async def ask() -> list[Capabilities]:
        client = Client()
        stores = {
            region.spec.region: Store(region.spec, client, clock=lambda: datetime.now(UTC))
            for region in settings.regions
        }
        try:
            return await probe_all(settings, stores)
        finally:
            await client.close()

    found = asyncio.run(ask())
    if as_json:
        print_json({"config": str(config.resolve()), "stores": [asdict(one) for one in found]})
    else:
        _show(settings, found)
    closed = [one for one in found if one.access == "none"]
    if closed:
        raise CommandError(
            "No access to " + ", ".join(f"{one.bucket} in {one.region}" for one in closed), Exit.UNREACHABLE
        )


def _show(settings: Settings, found: list[Capabilities]) -> None:
    locations = {region.spec.region: region.location for region in settings.regions}
    stores = table("region", "bucket", "endpoint", "access", "clock", "remarks", title="Stores")
    for one in found:
        colour = {"read-write": "green", "read-only": "yellow", "none": "red"}[one.access]
        clock = "" if one.clock_skew_s is None else "right" if not one.clock_skew_s else f"{one.clock_skew_s:+.0f} s"
        place = f"{one.region} ({locations[one.region]})" if locations[one.region] else one.region
        stores.add_row(place, one.bucket, one.endpoint, f"[{colour}]{one.access}[/]", clock, escape(one.problem))
    results.print(stores)
    open_stores = [one for one in found if one.findings]
    if not open_stores:
        return
    features = table("", *(one.region for one in open_stores), title="What they do")
    marks = {"yes": "[green]yes[/]", "no": "[red]no[/]", "unknown": "[yellow]?[/]"}
    for name in dict.fromkeys(finding.feature for one in open_stores for finding in one.findings):
        cells = []
        for one in open_stores:
            finding = next((each for each in one.findings if each.feature == name), None)
            detail = "" if finding is None or not finding.detail else f" {escape(finding.detail)}"
            if finding is not None and finding.remedy:
                detail += f" [cyan]→ {'refused' if finding.remedy == 'refuse' else 'put right'} here[/]"
            cells.append("[dim]not tried[/]" if finding is None else marks[finding.verdict] + detail)
        features.add_row(name, *cells)
    results.print(features)


def accesspoint(config: Path, *, workers: int, access_log: str | None) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code. Raises CommandError for what keeps it from starting."""
    if not 1 <= workers <= WORKERS_MAX:
        raise CommandError(f"{workers} workers: between 1 and {WORKERS_MAX}", Exit.USAGE)
    settings = read_settings(config)
    try:
        if access_log is not None and access_log != "-":
            Path(access_log).expanduser().open("ab").close()  # a name that can't be written is said now
        sockets = open_sockets([*settings.http, *settings.https], workers)
        admin = None if settings.admin is None else listening_socket(*settings.admin, shared=False)
    except OSError as error:
        raise CommandError(f"{error.filename or settings.admin}: {error.strerror or error}") from None
    board = Board(workers)
    _banner(settings, sockets[0], None if admin is None else shown_address(admin), workers)
    current = settings

    def reread() -> bool:
        nonlocal current
        try:
            changed = load(current.file)
            check(changed)
        except (SettingsError, OSError) as error:
            print(f"nearpoint accesspoint: the changed file is not taken: {error}", file=sys.stderr, flush=True)
            return False
        current = changed
        return True

    def work(number: int, socks: Sockets, alive: int | None) -> int:
        import uvloop

        logs.configure(f"accesspoint-{number + 1}")
        split = len(settings.http)
        mine = WorkerSockets(http=socks[:split], https=socks[split:], admin=admin)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(current, mine, number=number, board=board, access_log=access_log, alive=alive))
        return 0

    code = run_workers("accesspoint", sockets, work, on_hangup=reread)
    close_all(sockets)
    return code


def _banner(settings: Settings, socks: Sockets, admin: str | None, workers: int) -> None:
    """What is served, and commands to paste."""
    split = len(settings.http)
    urls = [f"http://{shown_address(sock)}" for sock in socks[:split]]
    urls += [f"https://{shown_address(sock)}" for sock in socks[split:]]
    url = urls[0].replace("0.0.0.0", "127.0.0.1").replace("[::]", "[::1]")  # noqa: S104 - for whoever pastes it
    key = settings.access_keys[0]
    lines = [
        f"Access point over {len(settings.regions)} regions, {workers} worker{'s' if workers > 1 else ''}",
        *(f"  endpoint      {each}" for each in urls),
        *([f"  health        http://{admin}/-/ready"] if admin is not None else []),
    ]
    for one in settings.access_points:
        members = ", ".join(f"{bucket} in {region} ({dial} %)" for region, bucket, dial in one.members)
        lines += [
            f"  access point  {one.name}: {one.alias}, over {members}",
            f"                arn:aws:s3::{settings.account_id}:accesspoint/{one.alias}",
            *(f"                {domain}" for domain in one.domains),
        ]
    alias = settings.access_points[0].alias
    lines += [
        "",
        f"  export AWS_ACCESS_KEY_ID={key.access_key_id} AWS_SECRET_ACCESS_KEY=… AWS_REGION=us-east-1",
        f"  aws s3 ls s3://{alias} --endpoint-url {url}",
        f"  nearpoint aws-data aws-data && AWS_DATA_PATH=aws-data aws s3 ls --endpoint-url {url} "
        f"s3://arn:aws:s3::{settings.account_id}:accesspoint/{alias}",
        "",
        *(f"  warning: {warning}" for warning in settings.warnings),
    ]
    for line in lines:
        notes.print(line, soft_wrap=True, markup=False)
