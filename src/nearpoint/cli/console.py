"""How commands speak: results on standard output, all else on standard error, and one exit code for each outcome."""

from __future__ import annotations

import json
import os
import sys
from enum import IntEnum
from typing import Any

import rich.box
from rich.console import Console
from rich.table import Table

PIPE_COLUMNS = 200  # a row of a table stays on its line for whoever filters them


def _console(*, stderr: bool) -> Console:
    made = Console(stderr=stderr, highlight=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = PIPE_COLUMNS
    return made


notes = _console(stderr=True)
results = _console(stderr=False)


class Exit(IntEnum):
    """Exit codes, as `docs/reference/cli.md` lists them."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    UNREACHABLE = 4
    TIMED_OUT = 5
    INTERRUPTED = 130


class CommandError(Exception):
    """What went wrong and how to go on, in a line for the user."""

    def __init__(self, message: str, code: Exit = Exit.FAILED) -> None:
        super().__init__(message)
        self.code = code


def complain(message: str) -> None:
    """What went wrong, on standard error. User's text is shown as it is, brackets and all."""
    notes.print("[red]nearpoint:[/]", end=" ")
    notes.print(message, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """The value on standard output, for scripts."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def print_line(value: Any) -> None:
    """One of many values on standard output: JSON on a line of its own, at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def counted(number: int, noun: str) -> str:
    """`1 key`, `2,000 keys`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def table(*columns: str, title: str | None = None) -> Table:
    """An empty table in the house's style. A column that starts with `>` is aligned to the right."""
    made = Table(title=title, title_justify="left", box=rich.box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(
            column.removeprefix(">"), justify="right" if column.startswith(">") else "left", overflow="fold"
        )
    return made
