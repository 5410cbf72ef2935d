"""A whole local world on free ports, and clients that stand in it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config

NEARPOINT = (sys.executable, "-m", "nearpoint")


class World:
    """A running world and the commands of its user."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._clients: dict[tuple[str, str], Any] = {}
        self._viewers: dict[str, urllib3.ProxyManager] = {}

    def up(self, *options: str) -> None:
        """Start it, two regions and two edges unless the options say otherwise."""
        places = () if "--regions" in options else ("--regions", "us-east-1,eu-west-1", "--edges", "FRA,SIN")
        self.nearpoint("up", "--detach", *places, *options)

    def down(self) -> None:
        self.nearpoint("down")

    def nearpoint(self, command: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """`nearpoint COMMAND --data … ARGUMENTS`."""
        ran = subprocess.run(
            [*NEARPOINT, command, "--data", str(self.data), *arguments],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert not check or ran.returncode == 0, ran.stderr + ran.stdout
        return ran

    @property
    def settings(self) -> dict[str, Any]:
        """What world.json says."""
        found: dict[str, Any] = json.loads((self.data / "world.json").read_bytes())
        return found

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.nearpoint("status", "--json", check=False).stdout)
        return answer

    def pids(self) -> dict[str, int]:
        return {row["name"]: row["pid"] for row in self.status()["processes"]}

    def descendants(self) -> dict[int, str]:
        """Every process below the supervisor, with its command line."""
        found = {}
        waiting = [self.pids()["supervisor"]]
        while waiting:
            pid = waiting.pop()
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
                waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def proxy(self, location: str) -> str:
        return f"http://{location}:x@127.0.0.1:{self.settings['ports']['proxy']}"

    def aws(self, service: str, region: str = "us-east-1") -> Any:
        """A boto3 client at the region, as in the shell there."""
        if (service, region) not in self._clients:
            settings = self.settings
            self._clients[service, region] = boto3.client(
                service, region_name=region, verify=str(self.data / "ca" / "bundle.pem"),
                aws_access_key_id=settings["access_key_id"], aws_secret_access_key=settings["secret_key"],
                config=Config(proxies=dict.fromkeys(("http", "https"), self.proxy(region))),
            )  # fmt: skip
        return self._clients[service, region]

    def get(self, location: str, url: str, method: str = "GET", **options: Any) -> urllib3.BaseHTTPResponse:
        """One request of a viewer at the location, over a connection that is kept."""
        if location not in self._viewers:
            self._viewers[location] = urllib3.ProxyManager(
                f"http://127.0.0.1:{self.settings['ports']['proxy']}",
                proxy_headers=urllib3.make_headers(proxy_basic_auth=f"{location}:x"),
                ca_certs=str(self.data / "ca" / "bundle.pem"), retries=False, timeout=30,
            )  # fmt: skip
        return self._viewers[location].request(method, url, redirect=False, **options)

    def forget_connections(self) -> None:
        """Begin anew, as after a restart on other ports."""
        self._clients.clear()
        self._viewers.clear()

    def shell(self, location: str, command: str, *, check: bool = True, **env: str) -> str:
        """Run a line of bash at a location, in the shell that the user has; its standard output."""
        # The pinned AWS CLI, whatever else this machine has.
        env = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"} | env
        ran = subprocess.run(
            [*NEARPOINT, "shell", "--data", str(self.data), location, "--", "bash", "-euo", "pipefail", "-c", command],
            capture_output=True, text=True, check=False, timeout=120, env=os.environ | env,
        )  # fmt: skip
        assert not check or ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
        return ran.stdout if check else ran.stdout + ran.stderr


@pytest.fixture(scope="session")
def example() -> Path:
    """The shipped example's folder."""
    return Path(__file__).parents[2] / "examples" / "active-active"


@pytest.fixture
def new_world(tmp_path: Path) -> Iterator[World]:
    """A world that this test starts itself."""
    world = World(tmp_path / "world")
    yield world
    world.down()


@pytest.fixture
def make_world() -> Iterator[Callable[[Path], World]]:
    """A world in a given folder, not started."""
    made: list[World] = []

    def make(data: Path) -> World:
        made.append(World(data))
        return made[-1]

    yield make
    for world in made:
        world.down()


@pytest.fixture
def new_world_at() -> Iterator[Callable[..., World]]:
    """Starts a world in a given folder, with options for `up`."""
    made: list[World] = []

    def start(data: Path, *options: str) -> World:
        made.append(World(data))
        made[-1].up(*options)
        return made[-1]

    yield start
    for world in made:
        world.down()


@pytest.fixture(scope="module")
def module_world_at(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., World]]:
    """Starts the world of a file with other options than `world`'s."""
    world = World(tmp_path_factory.mktemp("world") / "data")

    def start(*options: str) -> World:
        world.up(*options)
        return world

    yield start
    world.down()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running world for the tests of one file."""
    made = World(tmp_path_factory.mktemp("world") / "data")
    made.up()
    yield made
    made.down()


class Stack:
    """The example's stack, deployed with the AWS CLI under names of its own."""

    def __init__(self, world: World, package: Path, example: Path) -> None:
        self.world = world
        name = f"app-{secrets.token_hex(3)}"
        self.name = name
        self.buckets = {"us-east-1": f"{name}-virginia", "eu-west-1": f"{name}-ireland"}
        world.shell(
            "us-east-1",
            f"""
            aws s3 mb s3://{name}-code --region us-east-1
            aws s3 mb s3://{name}-virginia --region us-east-1
            aws s3 mb s3://{name}-ireland --region eu-west-1
            aws s3 cp --no-progress {package} s3://{name}-code/function.zip
            aws cloudformation create-stack --region us-east-1 --stack-name {name} --capabilities CAPABILITY_IAM \
              --template-body file://{example}/template.yaml --parameters \
              ParameterKey=CodeBucket,ParameterValue={name}-code \
              ParameterKey=FirstBucket,ParameterValue={name}-virginia \
              ParameterKey=SecondBucket,ParameterValue={name}-ireland
            aws cloudformation wait stack-create-complete --region us-east-1 --stack-name {name}
            echo "hello from s3 bucket {name}-virginia" | aws s3 cp - s3://{name}-virginia/index.html
            echo "hello from s3 bucket {name}-ireland" | aws s3 cp - s3://{name}-ireland/index.html
            """,
        )
        query = "Stacks[0].Outputs[?OutputKey=='Url' || OutputKey=='AccessPointArn'].OutputValue"
        describe = f"aws cloudformation describe-stacks --region us-east-1 --stack-name {name}"
        outputs = world.shell("us-east-1", f'{describe} --query "{query}" --output text').split()
        [self.url] = [each for each in outputs if each.startswith("https://")]
        [self.arn] = [each for each in outputs if each.startswith("arn:")]

    def hello(self, region: str) -> str:
        """What the region's bucket says."""
        return f"hello from s3 bucket {self.buckets[region]}\n"

    def ask(self, location: str) -> str:
        return self.world.get(location, self.url).data.decode()

    def delete(self) -> None:
        self.world.shell(
            "us-east-1",
            f"""
            aws cloudformation delete-stack --region us-east-1 --stack-name {self.name}
            aws cloudformation wait stack-delete-complete --region us-east-1 --stack-name {self.name}
            for each in code virginia ireland; do aws s3 rb --force s3://{self.name}-$each; done
            """,
        )


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, example: Path) -> Path:
    """The example's function with Nearpoint's own signer, zipped as its README says."""
    folder = tmp_path_factory.mktemp("package")
    source = Path(__file__).parents[2] / "src"
    subprocess.run(
        f"""
        mkdir -p build/nearpoint/signing
        cp {example}/function/index.py build/
        cp {source}/nearpoint/__init__.py build/nearpoint/
        cp {source}/nearpoint/signing/*.py build/nearpoint/signing/
        cd build && {sys.executable} -m zipfile -c ../function.zip index.py nearpoint
        """,
        shell=True, check=True, cwd=folder,
    )  # fmt: skip
    return folder / "function.zip"


@pytest.fixture(scope="module")
def stack(world: World, package: Path, example: Path) -> Iterator[Stack]:
    """The example, deployed into the file's world."""
    made = Stack(world, package, example)
    yield made
    made.delete()


class App:
    """The example's stack, deployed with boto3: faster than with the CLI, and with any package or template."""

    def __init__(self, world: World, package: bytes, template: str) -> None:
        self.world = world
        self.name = name = f"app-{secrets.token_hex(3)}"
        self.buckets = {"us-east-1": f"{name}-virginia", "eu-west-1": f"{name}-ireland"}
        world.aws("s3").create_bucket(Bucket=f"{name}-code")
        world.aws("s3").put_object(Bucket=f"{name}-code", Key="function.zip", Body=package)
        for region, bucket in self.buckets.items():
            make_bucket(world, bucket, region)
            body = self.hello(region).encode()
            world.aws("s3", region).put_object(Bucket=bucket, Key="index.html", Body=body)
        given = {
            "CodeBucket": f"{name}-code",
            "FirstBucket": self.buckets["us-east-1"],
            "SecondBucket": self.buckets["eu-west-1"],
        }
        stack = create_stack(world, name, template, given)
        assert stack["StackStatus"] == "CREATE_COMPLETE", [each for each in events(world, name) if each[2]]
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
        self.url, self.arn = outputs["Url"], outputs["AccessPointArn"]
        self.host = self.url.removeprefix("https://")

    def hello(self, region: str) -> str:
        return f"hello from s3 bucket {self.buckets[region]}\n"

    def ask(self, location: str, path: str = "/") -> str:
        return self.world.get(location, self.url + path).data.decode()

    def delete(self) -> None:
        """Remove the stack and the buckets."""
        cloudformation = self.world.aws("cloudformation")
        stack_id = cloudformation.describe_stacks(StackName=self.name)["Stacks"][0]["StackId"]
        cloudformation.delete_stack(StackName=self.name)
        assert settled(self.world, stack_id)["StackStatus"] == "DELETE_COMPLETE"
        for bucket, region in ((f"{self.name}-code", "us-east-1"), *((name, at) for at, name in self.buckets.items())):
            s3 = self.world.aws("s3", region)
            for each in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
                s3.delete_object(Bucket=bucket, Key=each["Key"])
            s3.delete_bucket(Bucket=bucket)


def make_bucket(world: World, name: str, region: str = "us-east-1") -> None:
    location = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    world.aws("s3", region).create_bucket(Bucket=name, **location)


def create_stack(world: World, name: str, template: str, given: dict[str, str] | None = None) -> dict[str, Any]:
    """Create a stack and wait until it has come to rest; its description."""
    cloudformation = world.aws("cloudformation")
    cloudformation.create_stack(
        StackName=name, TemplateBody=template, Capabilities=["CAPABILITY_IAM"],
        Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in (given or {}).items()],
    )  # fmt: skip
    return settled(world, name)


def events(world: World, name: str) -> list[tuple[str, str, str]]:
    """What happened to a stack: resource, status and reason, newest first."""
    found = world.aws("cloudformation").describe_stack_events(StackName=name)["StackEvents"]
    keys = ("LogicalResourceId", "ResourceStatus", "ResourceStatusReason")
    return [(each[keys[0]], each[keys[1]], each.get(keys[2], "")) for each in found]


def settled(world: World, name: str) -> dict[str, Any]:
    """The stack's description once nothing is in progress."""
    until = time.monotonic() + 60
    while True:
        stack: dict[str, Any] = world.aws("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        if not stack["StackStatus"].endswith("IN_PROGRESS"):
            return stack
        assert time.monotonic() < until, stack
        time.sleep(0.2)


@pytest.fixture(scope="session")
def shared_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One running world for all files of the group `walkthrough-shared`, which leave it as they found it."""
    made = World(tmp_path_factory.mktemp("world") / "data")
    made.up()
    yield made
    made.down()


@pytest.fixture(scope="session")
def deploy() -> Callable[..., dict[str, Any]]:
    """`create_stack`, for tests: this folder's test files import nothing from one another."""
    return create_stack


@pytest.fixture(scope="module")
def app(world: World, package: Path, example: Path) -> App:
    """The example in the file's world; it goes with the world."""
    return App(world, package.read_bytes(), (example / "template.yaml").read_text())


@pytest.fixture(scope="session")
def new_app(package: Path, example: Path) -> Callable[..., App]:
    """Deploys the example into a world, with another package or template if given."""

    def make(world: World, content: bytes | None = None, template: str | None = None) -> App:
        return App(world, content or package.read_bytes(), template or (example / "template.yaml").read_text())

    return make


class Loop:
    """Four curls at a time, over and over, from one place; `end` gives (status, time in s, curl's error) of each."""

    SCRIPT = """
    for worker in 1 2 3 4; do (
      while [ ! -e {stop} ]; do
        curl -sS -o /dev/null -w '%{{http_code}} %{{time_total}} %{{errormsg}}\\n' --max-time 20 {url} 2>/dev/null || :
        sleep 0.03
      done
    ) & done; wait
    """

    def __init__(self, world: World, location: str, url: str, stop: Path) -> None:
        self._stop = stop
        script = self.SCRIPT.format(url=url, stop=stop)
        self._process = subprocess.Popen(
            [*NEARPOINT, "shell", "--data", str(world.data), location, "--", "bash", "-c", script],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self._first = self._process.stdout.readline()

    def end(self) -> list[tuple[int, float, str]]:
        self._stop.touch()
        rest, _ = self._process.communicate(timeout=60)
        found = []
        for line in [self._first, *rest.splitlines()]:
            status, seconds, error = line.rstrip("\n").split(" ", 2)
            found.append((int(status), float(seconds), error))
        return found


@pytest.fixture
def curl_loop(tmp_path: Path) -> Callable[[World, str, str], Loop]:
    """Starts a `Loop`, which has had its first answer when this returns."""
    return lambda world, location, url: Loop(world, location, url, tmp_path / "stop")
