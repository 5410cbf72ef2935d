"""What the words of all commands share: options, the headings they are listed under, and examples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

Data = Annotated[Path, typer.Option("--data", envvar="NEARPOINT_DATA", help="The world's data folder.", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
DATA = Path(".nearpoint")
Function = TypeVar("Function", bound=Callable[..., Any])

WORLD = "The local world"
COPIES = "Copies between regions"
TEMPLATES = "A template, here or on AWS"
ALONE = "Without the world"


class Command(TyperCommand):
    """A command whose help names a value by its metavar alone: no Python types, and nothing behind a flag. Arguments
    are in capitals, in brackets where they may be left out, as in every manual page."""

    def get_params(self, ctx: Any) -> list[Any]:
        return [_plainly(each) for each in super().get_params(ctx)]


class Group(TyperGroup):
    """The same for commands that have commands."""

    def get_params(self, ctx: Any) -> list[Any]:
        return [_plainly(each) for each in super().get_params(ctx)]


def argument_name(parameter: Any) -> str:
    """What an argument is called: `ACCESS-POINT`."""
    return str(parameter.metavar or parameter.name.upper().replace("_", "-"))


def _plainly(parameter: Any) -> Any:
    argument = parameter.param_type_name == "argument"
    word = "" if argument else parameter.metavar or ""
    parameter.display_type_rich = lambda ctx: word
    if argument:
        parameter.metavar = argument_name(parameter)
        several = "..." if parameter.nargs != 1 else ""
        usage = (parameter.metavar if parameter.required else f"[{parameter.metavar}]") + several
        parameter.get_usage_pieces = lambda ctx: [usage]
    return parameter


class Commands(typer.Typer):
    """Commands of one heading, or below one name."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(cls=Group, rich_markup_mode="rich", **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Function], Function]:
        """As Typer's, with the house's help."""
        return super().command(name, cls=Command, **settings)


def examples(*commands: str) -> str:
    """The epilog; in Typer's markup a blank line ends a line."""
    return "\n\n".join(("Examples:" if len(commands) > 1 else "Example:", *(f"  [bold]{one}[/]" for one in commands)))
