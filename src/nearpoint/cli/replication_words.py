"""The words of the commands about copies between regions: `nearpoint replication …` and `nearpoint reconcile`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option("--data", envvar="NEARPOINT_DATA", help="The world's data folder.", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
DATA = Path(".nearpoint")

replication = typer.Typer(
    help="Copying between the regions of an access point.",
    epilog="Examples:  [bold]nearpoint replication enable my-point[/]   [bold]nearpoint replication status --watch[/]",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.add_typer(replication, name="replication")
    app.command(epilog="Examples:  [bold]nearpoint reconcile --check[/]   [bold]nearpoint reconcile --json[/]")(
        reconcile
    )


@replication.command(name="enable", epilog="Example:  [bold]nearpoint replication enable my-point[/]")
def replication_enable(
    access_point: Annotated[str, typer.Argument(help="Its name, alias or ARN.")],
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Keep versions in all buckets of an access point, and copy every write to all others."""
    from nearpoint.cli import replication as module

    module.enable(data=data, access_point=access_point, as_json=as_json)


@replication.command(
    name="status",
    epilog="Examples:  [bold]nearpoint replication status --watch[/]   [bold]nearpoint replication status --json[/]",
)
def replication_status(
    data: Data = DATA,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Go on, until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show what is pending between which buckets, how long copies take, and what was given up and why."""
    from nearpoint.cli import replication as module

    module.status(data=data, watch=watch, as_json=as_json)


@replication.command(name="retry", epilog="Example:  [bold]nearpoint replication retry[/]")
def replication_retry(data: Data = DATA, as_json: Json = False) -> None:
    """Try again what was given up."""
    from nearpoint.cli import replication as module

    module.retry(data=data, as_json=as_json)


@replication.command(
    name="schedule",
    epilog="Examples:  [bold]nearpoint replication schedule[/]   [bold]nearpoint replication schedule 6h[/]"
    "   [bold]nearpoint replication schedule off[/]",
)
def replication_schedule(
    every: Annotated[
        str | None, typer.Argument(metavar="[EVERY]", help="A number with s, m, h or d; or off. Left out: show it.")
    ] = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Show or set how often the regions are compared, and what differs repaired, by itself."""
    from nearpoint.cli import replication as module

    module.schedule(data=data, every=every, as_json=as_json)


def reconcile(
    data: Data = DATA,
    check: Annotated[
        bool, typer.Option("--check", help="Only say what differs; exit code 1 when something does.")
    ] = False,
    afresh: Annotated[bool, typer.Option("--afresh", help="Do not go on with one that was interrupted.")] = False,
    as_json: Json = False,
) -> None:
    """Compare the regions' buckets version by version, and bring each what it lacks by its rules. Interrupted, the same
    command goes on where it was."""
    from nearpoint.cli import reconcile as module

    raise typer.Exit(module.command(data=data, check=check, afresh=afresh, as_json=as_json))
