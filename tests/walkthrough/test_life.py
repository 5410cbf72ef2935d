"""Down and up again, by order and by force: nothing is left running, nothing that was kept is lost."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest


def wait_gone(processes: dict[int, str]) -> None:
    """Wait until none of these processes runs (a zombie does not, nor does another that got its number)."""
    until = time.monotonic() + 15
    while running := [pid for pid in processes if alive(pid, processes[pid])]:
        assert time.monotonic() < until, {pid: processes[pid] for pid in running}
        time.sleep(0.05)


def alive(pid: int, command: str) -> bool:
    try:
        return bool(command) and Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip() == command
    except OSError:
        return False


def assert_closed(ports: dict[str, int]) -> None:
    """Nobody listens on the ports."""
    listening = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A":
            listening.add(int(fields[1].rpartition(":")[2], 16))
    assert not {name: port for name, port in ports.items() if port in listening}


def assert_whole(app: Any) -> None:
    """All that was made is there and works, under the same address."""
    world = app.world
    world.forget_connections()
    for region, bucket in app.buckets.items():
        assert app.ask(region) == app.hello(region)
        assert world.aws("s3", region).get_object(Bucket=bucket, Key="index.html")["Body"].read()
    stack = world.aws("cloudformation").describe_stacks(StackName=app.name)["Stacks"][0]
    assert stack["StackStatus"] == "CREATE_COMPLETE"
    assert app.host in [
        each["DomainName"] for each in world.aws("cloudfront").list_distributions()["DistributionList"]["Items"]
    ]
    assert len(world.aws("lambda").list_functions()["Functions"]) == 1
    routes = world.aws("s3control").get_multi_region_access_point_routes(
        AccountId=world.settings["account_id"], Mrap=app.arn
    )
    assert {each["Bucket"]: each["TrafficDialPercentage"] for each in routes["Routes"]} == dict.fromkeys(
        app.buckets.values(), 100
    )


def test_a_world_ends_and_comes_back(tmp_path: Path, new_world_at: Any, new_app: Any) -> None:
    # Unix sockets end at 108 characters, and shells at spaces.
    world = new_world_at(tmp_path / "a folder with spaces" / ("long" * 30) / "it's a world")
    app = new_app(world)
    assert_whole(app)
    processes, ports = world.descendants(), world.settings["ports"]
    assert len(processes) >= 9  # supervisor, nats, control, two nodes, links, two stores, the function's
    world.down()
    wait_gone(processes)
    assert_closed(ports)
    world.up()
    assert world.settings["ports"] == ports  # programs that were told an address keep it
    assert_whole(app)

    # Everything killed at once.
    processes = world.descendants()
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):  # the supervisor's end is everybody's
            os.kill(pid, signal.SIGKILL)
    wait_gone(processes)
    world.up()
    assert_whole(app)

    # The supervisor alone: it takes all others with it.
    processes = world.descendants()
    os.kill(world.pids()["supervisor"], signal.SIGKILL)
    wait_gone(processes)
    assert_closed(world.settings["ports"])
    assert world.nearpoint("down").returncode == 0
    world.up()
    assert_whole(app)


@pytest.mark.parametrize("after_s", [0.0, 0.6])
def test_down_while_it_starts(tmp_path: Path, new_world: Any, after_s: float) -> None:
    starting = subprocess.Popen(
        [sys.executable, "-m", "nearpoint", "up", "--data", new_world.data], stderr=subprocess.DEVNULL
    )
    lock = new_world.data / "run" / "lock"
    until = time.monotonic() + 20
    while not lock.exists() or not lock.read_text():
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(after_s)
    children = below(starting.pid)
    new_world.down()
    # Ended by the signal if it had not come so far as to handle it.
    assert starting.wait(10) in (0, -signal.SIGTERM)
    wait_gone(children)


def below(pid: int) -> dict[int, str]:
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found[int(child)] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ").strip()
    return found


def test_a_port_that_is_taken(new_world: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options in (("--detach",), ()):
            ran = new_world.nearpoint("up", *options, "--port", str(port), check=False)
            assert ran.returncode == 1
            assert ran.stdout == ""
            line = ran.stderr.strip().splitlines()[-1]
            assert line == f"nearpoint: Port {port} for the proxy cannot be used: Address already in use."
    new_world.up("--port", str(port))
    assert new_world.settings["ports"]["proxy"] == port


def test_a_folder_in_use_and_other_worlds_beside_it(new_world: Any, new_world_at: Any, tmp_path: Path) -> None:
    """Two worlds at once, with places of their own; a second one on the same folder is turned away."""
    other = new_world_at(tmp_path / "other", "--regions", "eu-central-1", "--edges", "CDG", "--workers", "1")
    new_world.up()
    for options in (("--detach",), ()):
        ran = new_world.nearpoint("up", *options, check=False)
        assert ran.returncode == 1
        assert re.fullmatch(
            r"nearpoint: A world is already running on .*\n", ran.stderr.replace("\n", " ").strip() + "\n"
        )
    assert new_world.status()["ready"]
    assert other.status()["regions"] == ["eu-central-1"]
    assert other.status()["edges"] == ["CDG"]
    assert not set(other.settings["ports"].values()) & set(new_world.settings["ports"].values())
    other.aws("s3", "eu-central-1").create_bucket(
        Bucket="only-there", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    assert new_world.aws("s3").list_buckets()["Buckets"] == []
    other.down()
    # More places for a world that is there: added to what it had.
    other.up("--regions", "eu-west-1", "--edges", "FRA")
    assert other.status()["regions"] == ["eu-central-1", "eu-west-1"]
    assert other.status()["edges"] == ["CDG", "FRA"]
    other.forget_connections()
    assert [each["Name"] for each in other.aws("s3").list_buckets()["Buckets"]] == ["only-there"]
