"""A whole local world on free ports, and clients that stand in it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NEARPOINT = (sys.executable, "-m", "nearpoint")


class World:
    """A running world and the commands of its user."""

    def __init__(self, data: Path) -> None:
        self.data = data

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

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self.nearpoint("status", "--json", check=False).stdout)
        return answer

    def pids(self) -> dict[str, int]:
        return {row["name"]: row["pid"] for row in self.status()["processes"]}

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
        self.url = self.output("Url")
        self.arn = self.output("AccessPointArn")

    def output(self, key: str) -> str:
        query = f"Stacks[0].Outputs[?OutputKey=='{key}'].OutputValue"
        describe = f"aws cloudformation describe-stacks --region us-east-1 --stack-name {self.name}"
        return self.world.shell("us-east-1", f'{describe} --query "{query}" --output text').strip()

    def hello(self, region: str) -> str:
        """What the region's bucket says."""
        return f"hello from s3 bucket {self.buckets[region]}\n"

    def ask(self, location: str) -> str:
        return self.world.shell(location, f"curl -sS {self.url}")

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
