"""`python -m nearpoint`: the same as `nearpoint`."""

from nearpoint.cli import run

run()
