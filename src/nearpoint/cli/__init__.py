"""The commands. Their words are in `main`; what each does is in the module of its name."""

from __future__ import annotations

import sys


def run() -> None:
    """Run the command line, or say what it needs where only the signing library is installed."""
    try:
        from nearpoint.cli import main
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "nearpoint":
            raise
        sys.exit(f"nearpoint: The commands need {error.name} and more: `pip install '.[world]'` in the checkout.")
    main.run()
