"""The command line's words: help with an example for every command, options, exit codes, one line for each failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner

from nearpoint.cli.console import CommandError, Exit
from nearpoint.cli.main import app
from nearpoint.cli.replication import seconds_of
from nearpoint.cli.shell import environment, find_location
from nearpoint.cli.up import parse_places, parse_stores
from nearpoint.world import geography
from nearpoint.world.layout import Layout, open_world

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
OF_A_WORLD = ("status", "routes", "fail", "heal", "shell")


def nearpoint(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "NEARPOINT_DATA"}
    return subprocess.run(
        [sys.executable, "-m", "nearpoint", *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=60, cwd=cwd, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90), ("10m", 600), ("6h", 21_600), ("1d", 86_400), ("120", 120), ("off", None)]
)
def test_spans_of_time(given: str, seconds: float | None) -> None:
    assert seconds_of(given) == seconds


@pytest.mark.parametrize("given", ["", "x", "7x", "h", "1s", "15d", "-5m", "nan", "inf"])
def test_what_is_no_span_of_time_is_a_mistake_of_usage(given: str) -> None:
    with pytest.raises(CommandError) as caught:
        seconds_of(given)
    assert caught.value.code == Exit.USAGE


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command: str) -> None:
    told = CliRunner().invoke(app, [command, "--help"], terminal_width=200)
    assert told.exit_code == 0
    assert f"nearpoint {command}" in " ".join(told.output.split("Example", 1)[1].split())


def test_usage_errors_have_their_exit_code(tmp_path: Path) -> None:
    for arguments in (
        ("nonsense",),
        ("up", "--data", tmp_path / "w", "--regions", "mars-north-1"),
        ("up", "--detach", "--data", tmp_path / "w", "--edges", "XXX"),
        ("up", "--data", tmp_path / "w", "--store", "eu-west-1=ftp://x"),
        ("up", "--data", tmp_path / "w", "--port", "0"),
        ("shell", "Atlantis", "--data", tmp_path / "w"),
        ("edge", "--listen", "nowhere", "--origin", "http://127.0.0.1:1"),
        ("package", tmp_path / "nowhere"),
    ):
        ran = nearpoint(*arguments)
        assert (ran.returncode, ran.stdout) == (Exit.USAGE, ""), arguments
        assert "Traceback" not in ran.stderr


def test_no_world_is_running(tmp_path: Path) -> None:
    arguments = {"fail": ("us-east-1",), "heal": ("us-east-1",), "shell": ("us-east-1", "--", "true")}
    for command in OF_A_WORLD:
        ran = nearpoint(command, "--data", tmp_path / "none [red]here[/]", *arguments.get(command, ()))
        assert (ran.returncode, ran.stdout) == (Exit.UNREACHABLE, ""), command
        assert ran.stderr.startswith("nearpoint: No world is running on ")
        assert "none [red]here[/]" in ran.stderr
        assert ran.stderr.count("\n") == 1
    ran = nearpoint("down", "--json", "--data", tmp_path / "none")
    assert (ran.returncode, json.loads(ran.stdout)["stopped"]) == (Exit.DONE, False)
    ran = nearpoint("logs", "--data", tmp_path / "none")
    assert (ran.returncode, ran.stdout) == (Exit.UNREACHABLE, "")


def test_the_data_folder_is_unusable(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("not a folder")
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "world.json").write_text("{")
    for data, words in ((file, "cannot be used"), (damaged, "is damaged")):
        for options in ((), ("--detach",)):
            ran = nearpoint("up", *options, "--data", data)
            assert (ran.returncode, ran.stdout) == (Exit.FAILED, "")
            assert ran.stderr.startswith("nearpoint: ")
            assert words in ran.stderr
    assert file.read_text() == "not a folder"


def test_an_interrupt_has_its_exit_code(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    (layout.function_logs / "f.log").write_text("one\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "nearpoint", "logs", "-f", "--data", str(tmp_path)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # Whoever runs the tests in the background has interrupts ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "one\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == Exit.INTERRUPTED
    assert "Traceback" not in said


def test_a_reader_that_has_seen_enough(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make()
    (layout.function_logs / "f.log").write_text("line\n" * 50_000)
    command = f"{sys.executable} -m nearpoint logs --data {tmp_path} -n 50000 | head -1"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("line\n", "")


def test_places_from_a_list() -> None:
    assert parse_places(" eu-west-1,us-east-1 ,", geography.REGIONS, "region") == ("eu-west-1", "us-east-1")
    assert parse_places(None, geography.REGIONS, "region") == ()
    with pytest.raises(CommandError, match=r"No edge city 'eu-west-1'\. Known: IAD") as refused:
        parse_places("eu-west-1", geography.POPS, "edge city")
    assert refused.value.code is Exit.USAGE


def test_stores_from_their_addresses() -> None:
    made = parse_stores(["eu-west-1=http://KEY:se%2Fcr%40et@store.example:8333/", "us-east-1=http://K:S@[::1]"])
    assert made["eu-west-1"].endpoint == "http://store.example:8333"
    assert (made["eu-west-1"].access_key_id, made["eu-west-1"].secret_key) == ("KEY", "se/cr@et")
    assert made["us-east-1"].endpoint == "http://[::1]:80"


@pytest.mark.parametrize(
    "value",
    [
        "", "eu-west-1", "eu-west-1=", "eu-west-1=http://h:1", "eu-west-1=http://K@h:1", "eu-west-1=ftp://K:SECRET@h",
        "eu-west-1=http://K:SECRET@", "eu-west-1=http://K:SECRET@h:99999", "eu-west-1=http://K:SECRET@h:x",
        "mars=http://K:SECRET@h:1", "=http://K:SECRET@h:1",
    ],
)  # fmt: skip
def test_what_is_no_store(value: str) -> None:
    with pytest.raises(CommandError) as refused:
        parse_stores([value])
    assert refused.value.code is Exit.USAGE
    assert "SECRET@" not in str(refused.value).replace("ACCESS_KEY_ID:SECRET_KEY@", "")


@pytest.mark.parametrize(
    ("name", "found"),
    [("eu-west-1", "eu-west-1"), ("fra", "FRA"), ("Frankfurt", "eu-central-1"), (" SIN ", "SIN")],
)
def test_places_by_name_code_or_city(name: str, found: str) -> None:
    assert find_location(name).name == found


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("internal.example, 10.0.0.0/8", "internal.example,10.0.0.0/8"),
        ("*", ""),
        (".amazonaws.com,s3.amazonaws.com,cloudfront.net,com,*.com,d1.cloudfront.net", ""),
        ("localhost,myamazonaws.com", "localhost,myamazonaws.com"),
    ],
)
def test_exceptions_from_the_proxy_never_lead_past_the_world(tmp_path: Path, given: str, kept: str) -> None:
    layout = Layout(tmp_path)
    world = open_world(layout, regions=("us-east-1", "eu-west-1"), edges=("FRA",), stores={})
    world.ports["proxy"] = 1234
    base = {
        "NO_PROXY": given,
        "AWS_PROFILE": "mine",
        "AWS_ENDPOINT_URL": "http://elsewhere",
        "HOME": "/root",
        "PATH": "/bin",
    }
    made = environment(layout, world, find_location("FRA"), base)
    entries = [*filter(None, kept.split(",")), "127.0.0.1", "localhost", "::1"]
    assert made["no_proxy"] == made["NO_PROXY"] == ",".join(dict.fromkeys(entries))
    assert made["https_proxy"] == made["http_proxy"] == "http://FRA:x@127.0.0.1:1234"
    assert made["AWS_REGION"] == "eu-west-1"  # the nearest
    assert made["HOME"] == "/root"
    assert made["PATH"].startswith("/bin:")
    assert not {"AWS_PROFILE", "AWS_ENDPOINT_URL"} & made.keys()
    assert made["AWS_CA_BUNDLE"] == str(layout.trust_bundle)
