"""The command line. Each command's work is in the module of its name, its words are in those of its group."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from nearpoint import __version__
from nearpoint.cli import alone_words, replication_words, template_words, world_words
from nearpoint.cli.words import Commands

app = Commands(
    help="One global endpoint in front of S3 buckets in many regions, on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _group in (world_words, template_words, replication_words, alone_words):
    app.add_typer(_group.commands)


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
