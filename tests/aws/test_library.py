"""`nearpoint.signing` as a library: the package in an environment where nothing else is, and the page about it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs" / "how-to" / "sign-from-python.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
# Nothing of the page goes over the network: whatever connects is told no.
OFFLINE = """
import socket
def refuse(*arguments, **_):
    raise OSError("no network here")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the package, installed without an index, and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    uv = Path(sys.executable).with_name("uv")
    environment = folder / "environment"
    built = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder / "dist"]
    install = [uv, "pip", "install", "--quiet", "--offline", "--no-index", "--python", environment / "bin" / "python"]
    for command in (
        built,
        [uv, "venv", "--quiet", "--offline", "--python", sys.executable, environment],
        [*install, "--find-links", folder / "dist", "nearpoint"],
    ):
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100, cwd=CHECKOUT)
        assert ran.returncode == 0, ran.stderr
    return environment / "bin" / "python"


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *arguments], capture_output=True, text=True, check=False, timeout=60, cwd=cwd)


def test_it_signs_where_nothing_else_is_installed(bare: Path, tmp_path: Path) -> None:
    there = "import importlib.metadata as m; print(*sorted(d.name for d in m.distributions()))"
    assert run(bare, "-I", "-c", there, cwd=tmp_path).stdout.split() == ["nearpoint"]
    ran = run(bare, "-I", "-c", BLOCKS[0], cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "Authorization: AWS4-ECDSA-P256-SHA256 Credential=" in ran.stdout
    adapter = 'from nearpoint.aws.adapters import Signer; Signer(None, region="x").headers'
    assert run(bare, "-I", "-c", adapter, cwd=tmp_path).returncode == 0


def test_the_commands_say_what_they_lack(bare: Path, tmp_path: Path) -> None:
    for command in ([bare.with_name("nearpoint"), "status"], [bare, "-m", "nearpoint", "status"]):
        ran = run(Path(command[0]), *map(str, command[1:]), cwd=tmp_path)
        assert ran.returncode == 1
        assert ran.stderr == "nearpoint: The commands need typer and more: `pip install '.[world]'` in the checkout.\n"


def test_the_page_runs_as_it_is_written(tmp_path: Path) -> None:
    """All of it in one program, as a reader would go on typing; requests that leave the machine are refused."""
    lines = OFFLINE
    for block in BLOCKS:
        lines += f"try:\n{''.join(f'    {line}' for line in block.splitlines(keepends=True))}\n"
        lines += "except Exception as error:\n    assert 'no network here' in repr(error) or 'resolve' in repr(error)"
        lines += " or 'connect' in repr(error), repr(error)\n"
    program = tmp_path / "page.py"
    program.write_text(lines)
    environment = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_MAX_ATTEMPTS": "1",
                   "AWS_DEFAULT_REGION": "eu-west-1"}  # fmt: skip
    ran = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, check=False, timeout=100, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    assert len(BLOCKS) == 5
