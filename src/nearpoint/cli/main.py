"""The command line. Each command's work is in the module of its name; here are only its words."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from nearpoint import __version__
from nearpoint.cli import replication_words

app = typer.Typer(
    help="One global endpoint in front of S3 buckets in many regions, on this machine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[Path, typer.Option("--data", envvar="NEARPOINT_DATA", help="The world's data folder.", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
DATA = Path(".nearpoint")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"nearpoint {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command(
    epilog="Examples:  [bold]nearpoint up --detach[/]   [bold]nearpoint up --regions us-east-1,eu-west-1[/]"
    "   [bold]nearpoint up --store eu-west-1=http://KEY:SECRET@127.0.0.1:8333[/]"
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
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The location proxy's port.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Processes that share the locations.")] = 2,
    as_json: Json = False,
    notify_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Start the local world and serve until Ctrl-C."""
    from nearpoint.cli import up as command

    command.up(
        data=data, regions=regions, edges=edges, stores=store or [], port=port, workers=workers, detach=detach,
        as_json=as_json, notify_fd=notify_fd,
    )  # fmt: skip


@app.command(epilog="Example:  [bold]nearpoint down[/]")
def down(data: Data = DATA, as_json: Json = False) -> None:
    """Stop the local world. What it holds stays in the data folder."""
    from nearpoint.cli import up as command

    command.down(data=data, as_json=as_json)


@app.command(epilog="Example:  [bold]nearpoint status --json[/]")
def status(data: Data = DATA, as_json: Json = False) -> None:
    """Show the processes of the world, their memory, and what fails on purpose."""
    from nearpoint.cli import inspect

    inspect.status(data=data, as_json=as_json)


@app.command(epilog="Example:  [bold]nearpoint routes --json[/]")
def routes(data: Data = DATA, as_json: Json = False) -> None:
    """Show, for each location, the measured time to each region and which one answers."""
    from nearpoint.cli import inspect

    inspect.routes(data=data, as_json=as_json)


@app.command(
    epilog="Examples:  [bold]nearpoint settings my-point[/]   [bold]nearpoint settings my-point --no-read-fallback[/]"
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


@app.command(
    epilog="Examples:  [bold]nearpoint shell eu-west-1[/]   [bold]nearpoint shell FRA -- curl -sI https://d….cloudfront.net[/]",
)
def shell(
    location: Annotated[str, typer.Argument(help="A region (eu-west-1), an edge city's code (FRA) or its name.")],
    command: Annotated[list[str] | None, typer.Argument(help="One command to run there, after --.")] = None,
    data: Data = DATA,
) -> None:
    """Open a shell that stands somewhere, where aws, boto3 and curl reach the local world; or run one command there."""
    from nearpoint.cli import shell as module

    raise typer.Exit(module.shell(data=data, location=location, command=command or []))


@app.command(epilog="Examples:  [bold]nearpoint fail us-east-1[/]   [bold]nearpoint fail eu-west-1 --how blackhole[/]")
def fail(
    region: Annotated[str, typer.Argument(help="The region to break.")],
    data: Data = DATA,
    how: Annotated[
        str, typer.Option(help="refuse (links cut), blackhole, slow, errors (503) or stop (the store ends).")
    ] = "refuse",
    as_json: Json = False,
) -> None:
    """Break a region, until it is healed."""
    from nearpoint.cli import drill

    drill.fail(data=data, region=region, how=how, as_json=as_json)


@app.command(epilog="Example:  [bold]nearpoint heal us-east-1[/]")
def heal(
    region: Annotated[str, typer.Argument(help="The region to heal.")], data: Data = DATA, as_json: Json = False
) -> None:
    """End a region's outage."""
    from nearpoint.cli import drill

    drill.heal(data=data, region=region, as_json=as_json)


@app.command(epilog="Examples:  [bold]nearpoint logs -f[/]   [bold]nearpoint logs control node-1[/]")
def logs(
    names: Annotated[list[str] | None, typer.Argument(help="Functions or processes; all functions by default.")] = None,
    data: Data = DATA,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=100_000, help="How many last lines first.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written.")] = False,
    as_json: Json = False,
) -> None:
    """Show what the functions (or the named processes) wrote."""
    from nearpoint.cli import logs as module

    module.logs(data=data, names=names or [], lines=lines, follow=follow, as_json=as_json)


@app.command(
    epilog="Examples:  [bold]nearpoint edge --listen 127.0.0.1:8080 --origin http://127.0.0.1:9000[/]"
    "   [bold]nearpoint edge --listen :80 --origin https://example.org --workers 4[/]"
)
def edge(
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to serve; without a host, on all addresses.")],
    origin: Annotated[str, typer.Option(metavar="URL", help="What to cache: http:// or https://, a path in front.")],
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that share the port.")] = 1,
    cache_mb: Annotated[
        int, typer.Option(min=1, metavar="MB", help="Memory for the cache, all workers together.")
    ] = 256,
    access_log: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write CloudFront's standard log lines there.")
    ] = None,
    access_log_mb: Annotated[
        int, typer.Option(min=0, metavar="MB", help="Put the log away and compress it when it is so large; 0: never.")
    ] = 256,
    access_log_hours: Annotated[
        float, typer.Option(min=0, metavar="HOURS", help="Put the log away when it is so old; 0: never.")
    ] = 24,
    access_log_keep: Annotated[
        int, typer.Option(min=0, metavar="N", help="How many compressed logs are kept; 0: all.")
    ] = 30,
    cache_tag_header: Annotated[
        str, typer.Option(metavar="NAME", help="The origin's header that has cache tags, for invalidation by tag.")
    ] = "",
    cache_dir: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep answers there, for all workers and over restarts.")
    ] = None,
    cache_gb: Annotated[float, typer.Option(metavar="GB", help="How much the folder may hold.")] = 1.0,
    admin: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Serve /metrics, /-/live, /-/ready, /-/invalidate there.")
    ] = None,
    tls_cert: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="Serve HTTPS with this chain; may be repeated.")
    ] = None,
    tls_key: Annotated[list[Path] | None, typer.Option(metavar="FILE", help="The key of each --tls-cert.")] = None,
    redirect_http: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Send plain HTTP from there to HTTPS.")
    ] = None,
) -> None:
    """Run a caching edge alone, in front of any origin: no world, no control plane. It honours Cache-Control."""
    from nearpoint.cli.edge import run_edge

    raise typer.Exit(
        run_edge(
            listen,
            origin,
            workers=workers,
            cache_mb=cache_mb,
            access_log=access_log,
            access_log_mb=access_log_mb,
            access_log_hours=access_log_hours,
            access_log_keep=access_log_keep,
            cache_tag_header=cache_tag_header,
            cache_dir=cache_dir,
            cache_gb=cache_gb,
            admin=admin,
            tls_certs=tls_cert or (),
            tls_keys=tls_key or (),
            redirect_http=redirect_http,
        )
    )


@app.command(epilog="Examples:  [bold]nearpoint demo[/]   [bold]nearpoint demo --json[/]")
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


@app.command(
    name="package",
    epilog="Examples:  [bold]nearpoint package[/]   [bold]nearpoint package my-function --output build/my.zip[/]",
)
def package_(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="The function's folder; by default the one that signs.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The zip to write.", metavar="FILE")] = Path(
        "function.zip"
    ),
    handler: Annotated[str, typer.Option(help="MODULE.FUNCTION.")] = "index.handler",
    runtime: Annotated[str, typer.Option(help="Lambda's runtime that its wheels are for.")] = "python3.13",
    event: Annotated[str, typer.Option(help="Where it will run; decides how large it may be.")] = "origin-request",
    as_json: Json = False,
) -> None:
    """Build the zip of a Lambda@Edge function, and say what would keep it from running there."""
    from nearpoint.cli import package as module

    module.command(folder=folder, output=output, handler=handler, runtime=runtime, event=event, as_json=as_json)


@app.command(
    epilog="Examples:  [bold]nearpoint accesspoint --config nearpoint.toml --check[/]   "
    "[bold]nearpoint accesspoint --workers 4[/]"
)
def accesspoint(
    config: Annotated[
        Path,
        typer.Option("--config", "-c", envvar="NEARPOINT_CONFIG", metavar="FILE", help="Stores, access points, keys."),
    ] = Path("nearpoint.toml"),
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that share the addresses.")] = 1,
    check: Annotated[bool, typer.Option("--check", help="Try what every store can do, show it, and end.")] = False,
    access_log: Annotated[
        str, typer.Option(metavar="FILE", help="A line for each request: - is standard error, off is none.")
    ] = "-",
    as_json: Json = False,
) -> None:
    """Serve one S3 endpoint over your own stores, without the local world. SIGHUP reads the file again."""
    from nearpoint.cli import accesspoint as module

    if check:
        module.check_stores(config, as_json=as_json)
        return
    raise typer.Exit(
        module.accesspoint(config, workers=workers, access_log=None if access_log == "off" else access_log)
    )


@app.command(epilog="Example:  [bold]nearpoint aws-data aws-data && export AWS_DATA_PATH=$PWD/aws-data[/]")
def aws_data(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The data folder to write.")], as_json: Json = False
) -> None:
    """Write a botocore data folder with which access point ARNs go to a plain --endpoint-url."""
    from nearpoint.cli import aws_data as module

    module.aws_data(folder, as_json=as_json)


Target = Annotated[str, typer.Option(help="local, the world of --data; or aws.")]
Profile = Annotated[str | None, typer.Option(help="The AWS profile, with --target aws.", metavar="NAME")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]


@app.command(
    epilog="Examples:  [bold]nearpoint deploy template.yaml --regions us-east-1,eu-west-1[/]"
    "   [bold]nearpoint deploy template.yaml --regions us-east-1,eu-west-1 --target aws --profile me[/]"
)
def deploy(
    template: Annotated[Path, typer.Argument(help="The template, or the folder of a template.yaml.")],
    regions: Annotated[str, typer.Option(metavar="LIST", help="Where the data buckets are, in order.")],
    stack: Annotated[str | None, typer.Option(help="The stack's name; by default the folder's.")] = None,
    target: Target = "local",
    profile: Profile = None,
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", metavar="KEY=VALUE", help="A parameter of the template.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Only show what would change.")] = False,
    yes: Yes = False,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Make or update the buckets, the package and the stack of a template. Again, it goes on or changes nothing."""
    from nearpoint.cli import deploy as module

    module.command(
        template=template, regions=regions, stack=stack, target=target, profile=profile, parameters=parameter or [],
        plan=plan, yes=yes, data=data, as_json=as_json,
    )  # fmt: skip


Stack = Annotated[str, typer.Option("--stack", help="The stack's name.")]


@app.command(
    epilog="Examples:  [bold]nearpoint verify --stack my-app[/]   [bold]nearpoint verify --stack my-app --json[/]"
)
def verify(
    stack: Stack,
    target: Target = "local",
    profile: Profile = None,
    failover: Annotated[
        bool | None,
        typer.Option(
            "--failover/--no-failover",
            help="Turn a region's dial to 0 and back; moves real traffic on AWS, so there only when asked for.",
        ),
    ] = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Put a marker into each bucket, ask for it through CloudFront, and say what was right and what was not."""
    from nearpoint.cli import verify as module

    raise typer.Exit(
        module.command(stack=stack, target=target, profile=profile, failover=failover, data=data, as_json=as_json)
    )


@app.command(
    epilog="Examples:  [bold]nearpoint delete --stack my-app[/]"
    "   [bold]nearpoint delete --stack my-app --target aws --wait[/]"
)
def delete(
    stack: Stack,
    target: Target = "local",
    profile: Profile = None,
    keep_buckets: Annotated[bool, typer.Option("--keep-buckets", help="Leave the data buckets as they are.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Stay until CloudFront has removed the functions from its edges: hours.")
    ] = False,
    yes: Yes = False,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Remove all that `nearpoint deploy` made: the stack, then the buckets and what is in them."""
    from nearpoint.cli import delete as module

    raise typer.Exit(
        module.command(
            stack=stack, target=target, profile=profile, keep_buckets=keep_buckets, wait=wait, yes=yes, data=data,
            as_json=as_json,
        )
    )  # fmt: skip


@app.command(
    name="import",
    epilog="Examples:  [bold]nearpoint import --distribution E1A2B3C4D5E6F7[/]"
    "   [bold]nearpoint import --distribution E1A2B3C4D5E6F7 --target aws --output app/template.yaml[/]",
)
def import_(
    distribution: Annotated[str, typer.Option(metavar="ID", help="The distribution's id.")],
    access_point: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Its name, alias or ARN; by default the one that an origin leads to."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The template; functions go beside it.")
    ] = Path("template.yaml"),
    target: Target = "local",
    profile: Profile = None,
    data: Data = DATA,
    as_json: Json = False,
) -> None:
    """Write the template that makes an existing distribution and access point once more, for `nearpoint deploy`."""
    from nearpoint.cli import import_ as module

    raise typer.Exit(
        module.command(
            distribution=distribution, access_point=access_point, output=output, target=target, profile=profile,
            data=data, as_json=as_json,
        )
    )  # fmt: skip


replication_words.register(app)


def run() -> None:
    """Run the command line and exit: every expected failure is one line and its exit code."""
    from nearpoint.cli.console import CommandError, Exit, complain
    from nearpoint.world.layout import WorldError

    try:
        app()
    except CommandError as error:
        complain(str(error))
        sys.exit(error.code)
    except WorldError as error:
        complain(str(error))
        sys.exit(Exit.FAILED)
    except BrokenPipeError:
        # Whoever read the output has seen enough. Nothing may be written to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(Exit.FAILED)
    except OSError as error:
        complain(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""))
        sys.exit(Exit.FAILED)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
