"""The words of the commands that need no world: `nearpoint edge`, `nearpoint accesspoint`, `nearpoint aws-data`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearpoint.cli.words import ALONE, Commands, Json, examples

commands = Commands()


@commands.command(
    epilog=examples(
        "nearpoint edge --listen 127.0.0.1:8080 --origin http://127.0.0.1:9000",
        "nearpoint edge --listen :80 --origin https://example.org --workers 4",
    ),
    rich_help_panel=ALONE,
)
def edge(
    listen: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where to serve; without a host, on all addresses.")],
    origin: Annotated[str, typer.Option(metavar="URL", help="What to cache: http:// or https://, a path in front.")],
    workers: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Processes that share the port.")] = 1,
    cache_mb: Annotated[
        int, typer.Option(min=1, metavar="MB", help="Memory for the cache, all workers together.")
    ] = 256,
    access_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write CloudFront's standard log lines there.")
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
    from nearpoint.cli.edge import Options, run_edge

    options = Options(
        listen=listen, origin=origin, workers=workers, cache_mb=cache_mb, access_log=access_log,
        access_log_mb=access_log_mb, access_log_hours=access_log_hours, access_log_keep=access_log_keep,
        cache_tag_header=cache_tag_header, cache_dir=cache_dir, cache_gb=cache_gb, admin=admin,
        tls_certs=tuple(tls_cert or ()), tls_keys=tuple(tls_key or ()), redirect_http=redirect_http,
    )  # fmt: skip
    raise typer.Exit(run_edge(options))


@commands.command(
    epilog=examples(
        "nearpoint accesspoint --config nearpoint.toml --check",
        "nearpoint accesspoint --workers 4",
    ),
    rich_help_panel=ALONE,
)
def accesspoint(
    config: Annotated[
        Path,
        typer.Option("--config", "-c", envvar="NEARPOINT_CONFIG", metavar="FILE", help="Stores, access points, keys."),
    ] = Path("nearpoint.toml"),
    workers: Annotated[int, typer.Option(min=1, max=256, metavar="N", help="Processes that share the addresses.")] = 1,
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


@commands.command(
    epilog=examples(
        "nearpoint aws-data aws-data && export AWS_DATA_PATH=$PWD/aws-data",
    ),
    rich_help_panel=ALONE,
)
def aws_data(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The data folder to write.")], as_json: Json = False
) -> None:
    """Write a botocore data folder with which access point ARNs go to a plain --endpoint-url."""
    from nearpoint.cli import aws_data as module

    module.aws_data(folder, as_json=as_json)
