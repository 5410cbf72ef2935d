"""`python -m nearpoint.cli`: the same as `nearpoint`."""

from nearpoint.cli.main import run

run()
