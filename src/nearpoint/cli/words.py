"""What the words of all commands share: options, the headings they are listed under, and examples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option("--data", envvar="NEARPOINT_DATA", help="The world's data folder.", metavar="DIR")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
DATA = Path(".nearpoint")

WORLD = "The local world"
COPIES = "Copies between regions"
TEMPLATES = "A template, here or on AWS"
ALONE = "Without the world"


def examples(*commands: str) -> str:
    """The epilog; in Typer's markup a blank line ends a line."""
    return "\n\n".join(("Examples:" if len(commands) > 1 else "Example:", *(f"  [bold]{one}[/]" for one in commands)))
