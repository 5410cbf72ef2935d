"""The whole way in a local world by its commands: deploy, again, verify, update, import, delete; interruptions."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nearpoint.aws.clients import Clients
from nearpoint.cli import delete, deploy, import_, main, verify
from nearpoint.cli.target import clients_of

EXAMPLES = Path(__file__).parents[2] / "examples"
NEARPOINT = (sys.executable, "-m", "nearpoint")
REGIONS = ("--regions", "us-east-1,eu-west-1")


@dataclass(frozen=True)
class Ran:
    """What a command printed."""

    stdout: str
    stderr: str


class World:
    """A running world and the commands of its user, run in this process: starting Python each time would take longer
    than the commands do."""

    def __init__(self, data: Path) -> None:
        self.data = data

    @property
    def clients(self) -> Clients:
        """The user's own AWS clients."""
        return clients_of("local", data=self.data, profile=None)

    def run(self, *arguments: str | Path, code: int = 0) -> Ran:
        out, err = io.StringIO(), io.StringIO()
        before = sys.argv
        sys.argv = ["nearpoint", *map(str, arguments), "--data", str(self.data)]
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main.run()
            ended = 0
        except SystemExit as left:
            ended = int(left.code or 0)
        finally:
            sys.argv = before
        assert ended == code, out.getvalue() + err.getvalue()
        return Ran(out.getvalue(), err.getvalue())

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)

    def curl(self, place: str, url: str) -> str:
        command = [*NEARPOINT, "shell", place, "--data", self.data, "--", "curl", "-sf", "--max-time", "30", url]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=90)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def buckets(self, prefix: str) -> list[str]:
        names = [each["Name"] for each in self.clients.client("s3").list_buckets()["Buckets"]]
        return [name for name in names if name.startswith(f"{prefix}-")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    data = tmp_path_factory.mktemp("world") / "data"
    kept = functools.cache(clients_of)  # reading botocore's models for each command takes longer than its work
    with pytest.MonkeyPatch.context() as patch:
        for module in (deploy, verify, delete, import_):
            patch.setattr(module, "clients_of", kept)
        yield from _world(data)


def _world(data: Path) -> Iterator[World]:
    up = [*NEARPOINT, "up", "--detach", *REGIONS, "--edges", "FRA", "--data", data]
    subprocess.run(up, check=True, capture_output=True, timeout=90)
    yield World(data)
    subprocess.run([*NEARPOINT, "down", "--data", data], check=True, capture_output=True, timeout=90)


@pytest.fixture
def application(tmp_path: Path) -> Path:
    """The active-active example, to be changed."""
    shutil.copytree(EXAMPLES / "active-active", tmp_path / "app")
    return tmp_path / "app"


def test_there_verified_changed_and_back(world: World, application: Path) -> None:
    planned = world.json("deploy", application, *REGIONS, "--plan")
    assert (planned["status"], {each["action"] for each in planned["changes"]}) == ("NOT_THERE", {"Add"})
    assert world.buckets("app") == []

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
    assert verdicts["what was asked for before is kept"] == "right"
    for bucket in done["buckets"]:
        versions = world.clients.client("s3", bucket["region"]).list_object_versions(Bucket=bucket["name"])
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
    assert world.buckets("app") == []
    stacks = world.clients.client("cloudformation").describe_stacks()["Stacks"]
    assert "app" not in {each["StackName"] for each in stacks}
    assert "there is no deployment app" in world.run("delete", "--stack", "app", "--yes").stderr
    assert "no deployment app" in world.run("verify", "--stack", "app", code=3).stderr


@pytest.mark.parametrize(
    ("after", "by"),
    [("bucket", signal.SIGKILL), ("bucket", signal.SIGINT), ("CREATE_IN_PROGRESS", signal.SIGINT)],
)
def test_an_interrupted_deployment_goes_on(world: World, application: Path, after: str, by: signal.Signals) -> None:
    stack = f"cut-{after[:6].lower()}-{by.name.lower()}"
    command = [*NEARPOINT, "deploy", str(application), *REGIONS, "--stack", stack, "--data", str(world.data)]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
        # Whoever runs the tests in the background has interrupts ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if after in line:
            break
    os.kill(process.pid, by)
    said = process.stderr.read()
    process.wait()
    process.stderr.close()
    if by == signal.SIGINT:
        assert process.returncode == 130
        assert f"goes on from here; `nearpoint delete --stack {stack}`" in said.splitlines()[-1]
    done = world.json("deploy", application, *REGIONS, "--stack", stack)
    assert done["status"] in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    assert done["outputs"]["Url"]
    assert world.json("delete", "--stack", stack, "--yes")["left"] == []
    assert world.buckets(stack) == []


def test_a_stack_that_fails_says_why_and_how_to_go_on(world: World, application: Path) -> None:
    path = application / "template.yaml"
    text = path.read_text()
    path.write_text(text.replace("MemorySize: 128", "MemorySize: 64"))
    failed = world.run("deploy", application, *REGIONS, "--stack", "fails", code=1)
    line = text.splitlines().index("  Signer:") + 1
    assert f"{path}:{line}: Signer (AWS::Lambda::Function): Value of" in failed.stderr.splitlines()[-1]
    path.write_text(text)
    again = world.run("deploy", application, *REGIONS, "--stack", "fails", code=1)
    assert "ROLLBACK_COMPLETE. Remove it with `nearpoint delete --stack fails`" in again.stderr
    world.json("delete", "--stack", "fails", "--yes")
    assert world.json("deploy", application, *REGIONS, "--stack", "fails")["status"] == "CREATE_COMPLETE"
    world.json("delete", "--stack", "fails", "--yes")


def test_asked_for_wrongly(world: World, application: Path, tmp_path: Path) -> None:
    app, wrong = str(application), ("--stack", "wrong")
    dangling = str(application / "dangling.yaml")
    text = (application / "template.yaml").read_text()
    Path(dangling).write_text(text.replace("!GetAtt AccessPoint.", "!GetAtt AccessPoin."))
    for arguments, code, words in (
        (("deploy", app, "--regions", "us-east-1,us-west-2", *wrong), 2, "us-west-2"),
        (("deploy", app, *REGIONS, "--stack", "1st"), 2, "no stack name"),
        (("deploy", app, *REGIONS, *wrong, "--parameter", "Access"), 2, "KEY=VALUE"),
        (("deploy", app, *REGIONS, *wrong, "--parameter", "Access=all"), 1, "'Access' must be one of AllowedValues"),
        (("deploy", dangling, *REGIONS, *wrong), 1, "Fn::GetAtt references undefined resource AccessPoin."),
        (("deploy", app, *REGIONS, *wrong, "--account", "123456789012"), 2, "--account is for --target aws"),
        (("deploy", app, *REGIONS, *wrong, "--target", "azure"), 2, "--target is one of"),
        (("deploy", app, *REGIONS, *wrong, "--profile", "me"), 2, "--profile is for --target aws"),
        (("deploy", "nowhere.yaml", *REGIONS), 2, "cannot be read"),
        (("deploy", app, "--regions", "us-east-1,mars-north-1", *wrong), 2, "can't have a bucket in mars-north-1"),
        (("deploy", app, "--regions", "us-east-1", *wrong), 2, "--regions names 1"),
        (("deploy", app, "--regions", "us-east-1,us-east-1", *wrong), 2, "stands twice"),
        (("deploy", app, *REGIONS, *wrong, "--parameter", "Nope=1"), 2, "declares no parameter Nope"),
        (("import", "--distribution", "E0", "-o", str(tmp_path / "t.yaml")), 3, "There is no distribution E0"),
    ):
        assert words in world.run(*arguments, code=code).stderr
    assert not (tmp_path / "t.yaml").exists()
    assert world.buckets("wrong") == []


def imported(world: World, outputs: dict[str, str], folder: Path, lint: Callable[[Path], str]) -> tuple[Any, Any]:
    """What `import` says of a distribution, and what the template it wrote is deployed as, by the name of `copy`."""
    template = folder / "template.yaml"
    told = world.json("import", "--distribution", outputs["DistributionId"], "--output", template)
    assert told["missing"] == []
    assert lint(template) == ""
    for value in outputs.values():
        assert value.removeprefix("https://") not in template.read_text().partition("Metadata:")[2]
    done = world.json("deploy", template, "--regions", ",".join(told["regions"]), "--stack", "copy")
    assert outputs.keys() <= done["outputs"].keys()
    return told, done


def test_cloudfront_signs_by_itself_and_buckets_copy(world: World, tmp_path: Path, lint: Callable[[Path], str]) -> None:
    done = world.json("deploy", EXAMPLES / "signed-by-cloudfront", *REGIONS, "--stack", "plain")
    assert done["packages"] == []
    assert world.json("deploy", EXAMPLES / "signed-by-cloudfront", *REGIONS, "--stack", "plain")["changed"] is False
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    name = done["buckets"][1]["name"]
    world.clients.client("s3", "eu-west-1").put_bucket_lifecycle_configuration(
        Bucket=name, LifecycleConfiguration={"Rules": [rule]}
    )
    _, again = imported(world, done["outputs"], tmp_path, lint)
    kept = world.clients.client("s3", "eu-west-1").get_bucket_lifecycle_configuration(
        Bucket=again["buckets"][1]["name"]
    )
    assert kept["Rules"] == [rule]
    for stack in ("plain", "copy"):
        report = world.json("verify", "--stack", stack, *(["--no-failover"] if stack == "copy" else []))
        assert report["right"], report
        verdicts = {each["name"]: each["verdict"] for each in report["checks"]}
        assert verdicts["what was asked for before is kept"] == "right"
        assert verdicts["us-east-1 copies to eu-west-1"] == "right"
        assert verdicts["eu-west-1 copies to us-east-1"] == "right"
        assert world.json("delete", "--stack", stack, "--yes")["left"] == []


def test_the_second_origin_answers_when_no_region_does(
    world: World, tmp_path: Path, lint: Callable[[Path], str]
) -> None:
    done = world.json("deploy", EXAMPLES / "origin-failover", *REGIONS, "--stack", "spare")
    told, copy = imported(world, done["outputs"], tmp_path, lint)
    code = (EXAMPLES / "origin-failover" / "function" / "index.py").read_text()
    assert (tmp_path / "function" / "index.py").read_text() == code
    assert any("aws s3 sync" in note for note in told["notes"])
    assert world.json("verify", "--stack", "copy", "--no-failover")["right"]
    s3 = world.clients.client("s3")
    fallbacks = [done["outputs"]["FallbackBucket"]]
    fallbacks += [name for name in world.buckets("copy") if "fallback" in name]
    for fallback in fallbacks:
        s3.put_object(Bucket=fallback, Key="page", Body=fallback.encode())
    regions = REGIONS[1].split(",")
    try:
        for region in regions:
            world.run("fail", region, "--how", "errors")
        # The fallback's own region is broken too: its links to access points are, not the store itself.
        shown = [world.curl("eu-west-1", each["outputs"]["Url"] + "/page") for each in (done, copy)]
    finally:
        for region in regions:
            world.run("heal", region)
    assert shown == fallbacks
    for stack, fallback in zip(("spare", "copy"), fallbacks, strict=True):
        gone = world.json("delete", "--stack", stack, "--yes")
        assert f"{fallback} (AWS::S3::Bucket)" in gone["kept"]
