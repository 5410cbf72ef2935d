"""The words of the commands about the local world."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearpoint.cli.words import DATA, WORLD, Commands, Data, Json, examples

commands = Commands()


@commands.command(
    epilog=examples(
        "nearpoint up --detach",
        "nearpoint up --regions us-east-1,eu-west-1",
        "nearpoint up --store eu-west-1=http://KEY:SECRET@127.0.0.1:8333",
    ),
    rich_help_panel=WORLD,
)
def up(
    data: Data = DATA,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once it is ready.")] = False,
    regions: Annotated[
        str | None, typer.Option(metavar="LIST", help="Regions to have, besides those of the data folder.")
    ] = None,
    edges: Annotated[str | None, typer.Option(metavar="LIST", help="Edge cities to have, by airport code.")] = None,
    store: Annotated[
        list[str] | None,
        typer.Option(metavar="REGION=URL", help="A region on your own S3 store: http://KEY:SECRET@HOST:PORT."),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, metavar="PORT", help="The location proxy's port.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=32, metavar="N", help="Processes that share the locations.")] = 2,
    as_json: Json = False,
    notify_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start the local world and serve until Ctrl-C."""
    from nearpoint.cli import up as command

    command.up(
        data=data, regions=regions, edges=edges, stores=store or [], port=port, workers=workers, detach=detach,
        as_json=as_json, notify_fd=notify_fd,
    )  # fmt: skip


@commands.command(
    epilog=examples("nearpoint down"),
    rich_help_panel=WORLD,
)
def down(data: Data = DATA, as_json: Json = False) -> None:
    """Stop the local world. What it holds stays in the data folder."""
    from nearpoint.cli import up as command

    command.down(data=data, as_json=as_json)


@commands.command(
    epilog=examples("nearpoint status --json"),
    rich_help_panel=WORLD,
)
def status(data: Data = DATA, as_json: Json = False) -> None:
    """Show the processes of the world, their memory, and what fails on purpose."""
    from nearpoint.cli import inspect

    inspect.status(data=data, as_json=as_json)


@commands.command(
    epilog=examples("nearpoint routes --json"),
    rich_help_panel=WORLD,
)
def routes(data: Data = DATA, as_json: Json = False) -> None:
    """Show, for each location, the measured time to each region and which one answers."""
    from nearpoint.cli import inspect

    inspect.routes(data=data, as_json=as_json)


@commands.command(
    epilog=examples(
        "nearpoint settings my-point",
        "nearpoint settings my-point --no-read-fallback",
    ),
    rich_help_panel=WORLD,
)
def settings(
    access_point: Annotated[str, typer.Argument(help="Its name, alias or ARN.")],
    read_fallback: Annotated[
        bool | None,
        typer.Option("--read-fallback/--no-read-fallback", help="Look for a missing key in the other regions."),
    ] = None,
    hedge_reads: Annotated[
        bool | None, typer.Option("--hedge-reads/--no-hedge-reads", help="Ask a second region when the first is slow.")
    ] = None,
    affinity: Annotated[
        bool | None, typer.Option("--affinity/--no-affinity", help="Let a client stay at the region it names.")
    ] = None,
    aws_parity: Annotated[bool, typer.Option("--aws-parity", help="All of these off: as on AWS.")] = False,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Show or change what an access point does beyond AWS; in force everywhere when the command returns."""
    from nearpoint.cli import settings as module

    named = {"read_fallback": read_fallback, "hedge_reads": hedge_reads, "affinity": affinity}
    changes = {name: value for name, value in named.items() if value is not None}
    if aws_parity:
        changes = {**dict.fromkeys(named, False), **changes}
    module.command(data=data, access_point=access_point, changes=changes, as_json=as_json)


@commands.command(
    epilog=examples(
        "nearpoint shell eu-west-1",
        "nearpoint shell FRA -- curl -sI https://d….cloudfront.net",
    ),
    rich_help_panel=WORLD,
)
def shell(
    location: Annotated[str, typer.Argument(help="A region (eu-west-1), an edge city's code (FRA) or its name.")],
    command: Annotated[list[str] | None, typer.Argument(help="One command to run there, after --.")] = None,
    data: Data = DATA,
) -> None:
    """Open a shell that stands somewhere, where aws, boto3 and curl reach the local world; or run one command there."""
    from nearpoint.cli import shell as module

    raise typer.Exit(module.shell(data=data, location=location, command=command or []))


@commands.command(
    epilog=examples(
        "nearpoint fail us-east-1",
        "nearpoint fail eu-west-1 --how blackhole",
    ),
    rich_help_panel=WORLD,
)
def fail(
    region: Annotated[str, typer.Argument(help="The region to break.")],
    data: Data = DATA,
    how: Annotated[
        str,
        typer.Option(metavar="WAY", help="refuse (links cut), blackhole, slow, errors (503) or stop (the store ends)."),
    ] = "refuse",
    as_json: Json = False,
) -> None:
    """Break a region, until it is healed."""
    from nearpoint.cli import drill

    drill.fail(data=data, region=region, how=how, as_json=as_json)


@commands.command(
    epilog=examples("nearpoint heal us-east-1"),
    rich_help_panel=WORLD,
)
def heal(
    region: Annotated[str, typer.Argument(help="The region to heal.")], data: Data = DATA, as_json: Json = False
) -> None:
    """End a region's outage."""
    from nearpoint.cli import drill

    drill.heal(data=data, region=region, as_json=as_json)


@commands.command(
    epilog=examples("nearpoint logs -f", "nearpoint logs control node-1"),
    rich_help_panel=WORLD,
)
def logs(
    names: Annotated[list[str] | None, typer.Argument(help="Functions or processes; all functions by default.")] = None,
    data: Data = DATA,
    lines: Annotated[
        int, typer.Option("--lines", "-n", min=0, max=100_000, metavar="N", help="How many last lines of each first.")
    ] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written.")] = False,
    as_json: Json = False,
) -> None:
    """Show what the functions (or the named processes) wrote, in the order of time."""
    from nearpoint.cli import logs as module

    module.logs(data=data, names=names or [], lines=lines, follow=follow, as_json=as_json)


@commands.command(
    epilog=examples("nearpoint demo", "nearpoint demo --json"),
    rich_help_panel=WORLD,
)
def demo(
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="DIR", help="Use the world of this folder; a world of its own by default."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Run the whole walk-through: buckets, function, stack, answers from everywhere, dials, an outage, clean-up."""
    from nearpoint.cli import demo as module

    raise typer.Exit(module.demo(data=data, as_json=as_json))
