"""The whole way in a local world by its commands: deploy, again, verify, update, delete; interruptions anywhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NEARPOINT = (sys.executable, "-m", "nearpoint")
REGIONS = ("--regions", "us-east-1,eu-west-1")
pytestmark = pytest.mark.xdist_group("aws-world")


class World:
    """A running world and the commands of its user."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def run(self, *arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        ran = subprocess.run(
            [*NEARPOINT, *arguments, "--data", self.data], capture_output=True, text=True, check=False, timeout=90,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert ran.returncode == code, ran.stdout + ran.stderr
        return ran

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def aws(self, *arguments: str) -> Any:
        ran = subprocess.run(
            [*NEARPOINT, "shell", "us-east-1", "--data", self.data, "--", Path(sys.executable).with_name("aws"),
             *arguments, "--output", "json"],
            capture_output=True, text=True, check=False, timeout=90,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout or "null")

    def curl(self, place: str, url: str) -> str:
        command = [*NEARPOINT, "shell", place, "--data", self.data, "--", "curl", "-sf", "--max-time", "30", url]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def buckets(self) -> list[str]:
        return sorted(each["Name"] for each in self.aws("s3api", "list-buckets").get("Buckets") or ())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("world") / "data")
    world.run("up", "--detach", *REGIONS, "--edges", "FRA")
    yield world
    world.run("down")


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """The active-active example, to be changed."""
    shutil.copytree(EXAMPLES / "active-active", tmp_path / "app")
    return tmp_path / "app"


def test_there_verified_changed_and_back(world: World, application: Path) -> None:
    planned = world.json("deploy", application, *REGIONS, "--plan")
    assert (planned["status"], {each["action"] for each in planned["changes"]}) == ("NOT_THERE", {"Add"})
    assert world.buckets() == []

    done = world.json("deploy", application, *REGIONS)
    assert (done["stack"], done["status"], done["changed"]) == ("app", "CREATE_COMPLETE", True)
    assert done["outputs"]["Url"].startswith("https://")
    again = world.run("deploy", application, *REGIONS)
    assert "the stack is as the template says" in again.stderr
    assert done["outputs"]["Url"] in again.stdout

    report = world.json("verify", "--stack", "app")
    assert report["right"], report
    assert {each["place"]: each["region"] for each in report["answers"]} == {
        "us-east-1": "us-east-1", "eu-west-1": "eu-west-1", "FRA": "eu-west-1",
    }  # fmt: skip
    verdicts = {each["name"]: each["verdict"] for each in report["checks"]}
    assert verdicts["with us-east-1's dial at 0 another region answers"] == "right"
    assert verdicts["with its dial back us-east-1 answers again"] == "right"
    assert verdicts["what was asked for before is not kept (TTL 0)"] == "right"
    for bucket in done["buckets"]:
        versions = world.aws("s3api", "list-object-versions", "--bucket", bucket["name"])
        assert not versions.get("Versions")

    function = application / "function" / "index.py"
    function.write_text(function.read_text() + "\nCHANGED = True\n")
    changed = world.json("deploy", application, *REGIONS)
    assert {each["resource"]: each["replacement"] for each in changed["changes"]} == {
        "Distribution": "False", "Signer": "False", "SignerVersion": "True",
    }  # fmt: skip
    assert world.json("verify", "--stack", "app", "--no-failover")["right"]

    refused = world.run("delete", "--stack", "app", code=3)
    assert "app-123456789012-eu-west-1" in refused.stderr
    gone = world.json("delete", "--stack", "app", "--yes")
    assert (gone["left"], gone["kept"], len(gone["removed"])) == ([], [], 4)
    assert world.buckets() == []
    assert world.aws("cloudformation", "describe-stacks")["Stacks"] == []
    assert "there is no deployment app" in world.run("delete", "--stack", "app", "--yes").stderr
    assert "no deployment app" in world.run("verify", "--stack", "app", code=1).stderr


@pytest.mark.parametrize("after", ["bucket", "CREATE_IN_PROGRESS"])
def test_an_interrupted_deployment_goes_on(world: World, application: Path, after: str) -> None:
    stack = f"cut-{after.lower().replace('_', '-')}"
    command = [*NEARPOINT, "deploy", str(application), *REGIONS, "--stack", stack, "--data", str(world.data)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if after in line:
            break
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    done = world.json("deploy", application, *REGIONS, "--stack", stack)
    assert done["status"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    assert done["outputs"]["Url"]
    assert world.json("delete", "--stack", stack, "--yes")["left"] == []
    assert [each for each in world.buckets() if each.startswith(stack)] == []


def test_a_stack_that_fails_says_why_and_how_to_go_on(world: World, application: Path) -> None:
    path = application / "template.yaml"
    text = path.read_text()
    path.write_text(text.replace("MemorySize: 128", "MemorySize: 64"))
    failed = world.run("deploy", application, *REGIONS, "--stack", "fails", code=1)
    assert "Signer (AWS::Lambda::Function)" in failed.stderr.splitlines()[-1]
    path.write_text(text)
    again = world.run("deploy", application, *REGIONS, "--stack", "fails", code=1)
    assert "ROLLBACK_COMPLETE. Remove it with `nearpoint delete --stack fails`" in again.stderr
    world.json("delete", "--stack", "fails", "--yes")
    assert world.json("deploy", application, *REGIONS, "--stack", "fails")["status"] == "CREATE_COMPLETE"
    world.json("delete", "--stack", "fails", "--yes")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("deploy", "APP", "--regions", "us-east-1,us-west-2"), 1, "us-west-2"),
        (("deploy", "APP", *REGIONS, "--stack", "1st"), 2, "no stack name"),
        (("deploy", "APP", *REGIONS, "--parameter", "Access"), 2, "KEY=VALUE"),
        (("deploy", "APP", *REGIONS, "--target", "azure"), 2, "--target is one of"),
        (("deploy", "APP", *REGIONS, "--profile", "me"), 2, "--profile is for --target aws"),
        (("deploy", "nowhere.yaml", *REGIONS), 1, "cannot be read"),
    ],
)
def test_asked_for_wrongly(world: World, application: Path, arguments: tuple[str, ...], code: int, words: str) -> None:
    given = [str(application) if each == "APP" else each for each in arguments]
    assert words in world.run(*given, code=code).stderr
    world.run("delete", "--stack", "app", "--yes")
    assert world.buckets() == []


def test_cloudfront_signs_by_itself_and_buckets_copy(world: World) -> None:
    done = world.json("deploy", EXAMPLES / "signed-by-cloudfront", *REGIONS, "--stack", "plain")
    assert done["packages"] == []
    report = world.json("verify", "--stack", "plain")
    assert report["right"], report
    verdicts = {each["name"]: each["verdict"] for each in report["checks"]}
    assert verdicts["what was asked for before is kept"] == "right"
    assert verdicts["us-east-1 copies to eu-west-1"] == "right"
    assert verdicts["eu-west-1 copies to us-east-1"] == "right"
    assert world.json("deploy", EXAMPLES / "signed-by-cloudfront", *REGIONS, "--stack", "plain")["changed"] is False
    assert world.json("delete", "--stack", "plain", "--yes")["left"] == []


def test_the_second_origin_answers_when_no_region_does(world: World) -> None:
    done = world.json("deploy", EXAMPLES / "origin-failover", *REGIONS, "--stack", "spare")
    fallback = done["outputs"]["FallbackBucket"]
    assert world.json("verify", "--stack", "spare", "--no-failover")["right"]
    world.aws("s3api", "put-object", "--bucket", fallback, "--key", "page", "--body", __file__)
    regions = REGIONS[1].split(",")
    try:
        for region in regions:
            world.run("fail", region, "--how", "errors")
        # The fallback's own region is broken too: its links to access points are, not the store itself.
        shown = world.curl("eu-west-1", done["outputs"]["Url"] + "/page")
    finally:
        for region in regions:
            world.run("heal", region)
    assert shown == Path(__file__).read_text()
    gone = world.json("delete", "--stack", "spare", "--yes")
    assert gone["kept"] == [f"{fallback} (AWS::S3::Bucket)"]
    world.aws("s3api", "delete-object", "--bucket", fallback, "--key", "page")
    world.aws("s3api", "delete-bucket", "--bucket", fallback)
