"""`python -m nearpoint.cli`: the same as `nearpoint`."""

from nearpoint.cli import run

run()
