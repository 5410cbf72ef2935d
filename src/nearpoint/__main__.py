"""`python -m nearpoint`: the same as `nearpoint`."""

from nearpoint.cli.main import run

run()
