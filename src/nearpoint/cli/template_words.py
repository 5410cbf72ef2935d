"""The words of the commands that take a template from here to AWS, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nearpoint.cli.words import DATA, TEMPLATES, Commands, Data, Json, examples

commands = Commands()
Target = Annotated[str, typer.Option(metavar="WHERE", help="local, the world of --data; or aws.")]
Profile = Annotated[str | None, typer.Option(help="The AWS profile, with --target aws.", metavar="NAME")]
Account = Annotated[
    str | None,
    typer.Option(help="Refuse unless the credentials are of this account, with --target aws.", metavar="ID"),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing.")]
Stack = Annotated[str, typer.Option("--stack", metavar="NAME", help="The stack's name.")]


@commands.command(
    name="package",
    epilog=examples(
        "nearpoint package",
        "nearpoint package my-function --output build/my.zip",
    ),
    rich_help_panel=TEMPLATES,
)
def package_(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="DIR", help="The function's folder; by default the one that signs."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The zip to write.", metavar="FILE")] = Path(
        "function.zip"
    ),
    handler: Annotated[str, typer.Option(metavar="NAME", help="MODULE.FUNCTION.")] = "index.handler",
    runtime: Annotated[
        str, typer.Option(metavar="NAME", help="Lambda's runtime that its wheels are for.")
    ] = "python3.13",
    event: Annotated[
        str, typer.Option(metavar="NAME", help="Where it will run; decides how large it may be.")
    ] = "origin-request",
    as_json: Json = False,
) -> None:
    """Build the zip of a Lambda@Edge function, and say what would keep it from running there."""
    from nearpoint.cli import package as module

    module.command(folder=folder, output=output, handler=handler, runtime=runtime, event=event, as_json=as_json)


@commands.command(
    epilog=examples(
        "nearpoint deploy template.yaml --regions us-east-1,eu-west-1",
        "nearpoint deploy template.yaml --regions us-east-1,eu-west-1 --target aws --profile me",
    ),
    rich_help_panel=TEMPLATES,
)
def deploy(
    template: Annotated[Path, typer.Argument(help="The template, or the folder of a template.yaml.")],
    regions: Annotated[str, typer.Option(metavar="LIST", help="Where the data buckets are, in order.")],
    stack: Annotated[
        str | None, typer.Option(metavar="NAME", help="The stack's name; by default the folder's.")
    ] = None,
    target: Target = "local",
    profile: Profile = None,
    account: Account = None,
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
        template=template, regions=regions, stack=stack, target=target, profile=profile, account=account,
        parameters=parameter or [], plan=plan, yes=yes, data=data, as_json=as_json,
    )  # fmt: skip


@commands.command(
    epilog=examples(
        "nearpoint verify --stack my-app",
        "nearpoint verify --stack my-app --json",
    ),
    rich_help_panel=TEMPLATES,
)
def verify(
    stack: Stack,
    target: Target = "local",
    profile: Profile = None,
    account: Account = None,
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
        module.command(
            stack=stack, target=target, profile=profile, account=account, failover=failover, data=data, as_json=as_json
        )
    )  # fmt: skip


@commands.command(
    epilog=examples(
        "nearpoint delete --stack my-app",
        "nearpoint delete --stack my-app --target aws --wait",
    ),
    rich_help_panel=TEMPLATES,
)
def delete(
    stack: Stack,
    target: Target = "local",
    profile: Profile = None,
    account: Account = None,
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
            stack=stack, target=target, profile=profile, account=account, keep_buckets=keep_buckets, wait=wait,
            yes=yes, data=data, as_json=as_json,
        )
    )  # fmt: skip


@commands.command(
    name="import",
    epilog=examples(
        "nearpoint import --distribution E1A2B3C4D5E6F7",
        "nearpoint import --distribution E1A2B3C4D5E6F7 --target aws --output app/template.yaml",
    ),
    rich_help_panel=TEMPLATES,
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
