"""The words of the commands about copies between regions: `nearpoint replication …`, `nearpoint members …`
and `nearpoint reconcile`."""

from __future__ import annotations

from typing import Annotated

import typer

from nearpoint.cli.words import COPIES, DATA, Commands, Data, Json, examples

commands = Commands()

replication = Commands(
    help="Copying between the regions of an access point.",
    epilog=examples("nearpoint replication enable my-point", "nearpoint replication status --watch"),
    no_args_is_help=True,
)

members = Commands(
    help="Editing the members of a running access point; no write is lost. Interrupted, the same command goes on.",
    epilog=examples(
        "nearpoint members add my-point ap-south-1 my-bucket --create",
        "nearpoint members drain my-point eu-west-1",
        "nearpoint members remove my-point eu-west-1",
    ),
    no_args_is_help=True,
)
AccessPoint = Annotated[str, typer.Argument(help="Its name, alias or ARN.")]
Region = Annotated[str, typer.Argument(help="The member's region.")]
Timeout = Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Give up waiting after so long.")]


commands.add_typer(replication, name="replication", rich_help_panel=COPIES)
commands.add_typer(members, name="members", rich_help_panel=COPIES)


@replication.command(name="enable", epilog=examples("nearpoint replication enable my-point"))
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
    epilog=examples("nearpoint replication status --watch", "nearpoint replication status --json"),
)
def replication_status(
    data: Data = DATA,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on, until Ctrl-C; with --json a line a second.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what is pending between which buckets, how long copies take, and what was given up and why."""
    from nearpoint.cli import replication as module

    module.status(data=data, watch=watch, as_json=as_json)


@replication.command(name="retry", epilog=examples("nearpoint replication retry"))
def replication_retry(data: Data = DATA, as_json: Json = False) -> None:
    """Try again what was given up."""
    from nearpoint.cli import replication as module

    module.retry(data=data, as_json=as_json)


@replication.command(
    name="schedule",
    epilog=examples(
        "nearpoint replication schedule", "nearpoint replication schedule 6h", "nearpoint replication schedule off"
    ),
)
def replication_schedule(
    every: Annotated[
        str | None, typer.Argument(metavar="EVERY", help="A number with s, m, h or d; or off. Left out: show it.")
    ] = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Show or set how often the regions are compared, and what differs repaired, by itself."""
    from nearpoint.cli import replication as module

    module.schedule(data=data, every=every, as_json=as_json)


@members.command(name="list", epilog=examples("nearpoint members list my-point"))
def members_list(access_point: AccessPoint, data: Data = DATA, as_json: Json = False) -> None:
    """Show the members, their dials, and what is on its way from and to each."""
    from nearpoint.cli import members as module

    module.show(data=data, access_point=access_point, as_json=as_json)


@members.command(name="add", epilog=examples("nearpoint members add my-point ap-south-1 my-bucket --create --dial 100"))
def members_add(
    access_point: AccessPoint,
    region: Region,
    bucket: Annotated[str, typer.Argument(help="The bucket in that region.")],
    create: Annotated[bool, typer.Option("--create", help="Make the bucket if there is none.")] = False,
    dial: Annotated[
        int, typer.Option(min=0, max=100, metavar="PERCENT", help="Its share of the traffic in the end.")
    ] = 100,
    timeout: Timeout = 86_400,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Add a bucket of a further region: rules both ways, everything copied over, then its dial is turned up."""
    from nearpoint.cli import members as module

    module.add(
        data=data, access_point=access_point, region=region, bucket=bucket, create=create, dial=dial,
        timeout_s=timeout, as_json=as_json,
    )  # fmt: skip


@members.command(name="drain", epilog=examples("nearpoint members drain my-point eu-west-1"))
def members_drain(
    access_point: AccessPoint, region: Region, timeout: Timeout = 86_400, data: Data = DATA, as_json: Json = False
) -> None:
    """Let no new request go to a region, and wait until the others have everything that it took."""
    from nearpoint.cli import members as module

    module.drain(data=data, access_point=access_point, region=region, timeout_s=timeout, as_json=as_json)


@members.command(name="remove", epilog=examples("nearpoint members remove my-point eu-west-1"))
def members_remove(
    access_point: AccessPoint,
    region: Region,
    abort_uploads: Annotated[
        bool, typer.Option("--abort-uploads", help="Abort its multipart uploads instead of waiting for them.")
    ] = False,
    timeout: Timeout = 86_400,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Take a drained region out of the access point. Its bucket and what is in it stay."""
    from nearpoint.cli import members as module

    module.remove(
        data=data, access_point=access_point, region=region, abort_uploads=abort_uploads, timeout_s=timeout,
        as_json=as_json,
    )  # fmt: skip


@commands.command(epilog=examples("nearpoint reconcile --check", "nearpoint reconcile --json"), rich_help_panel=COPIES)
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
