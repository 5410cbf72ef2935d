from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from nearpoint.aws.clients import Clients
from nearpoint.aws.stacks import ChangeSet, Event


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """`folder({"index.py": "…"})`: a function's folder with these files."""

    def build(files: dict[str, str | bytes]) -> Path:
        made = tmp_path / "function"
        for name, content in files.items():
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return made

    return build


class Watcher:
    """A Reporter that takes everything down and says yes, unless told otherwise."""

    def __init__(self, *, agrees: bool = True) -> None:
        self.agrees = agrees
        self.said: list[str] = []
        self.asked: list[str] = []
        self.events: list[Event] = []
        self.change_sets: list[ChangeSet] = []

    def step(self, text: str) -> None:
        self.said.append(text)

    def note(self, text: str) -> None:
        self.said.append(text)

    def changes(self, change_set: ChangeSet) -> None:
        self.change_sets.append(change_set)

    def event(self, event: Event) -> None:
        self.events.append(event)

    def confirm(self, question: str) -> bool:
        self.asked.append(question)
        return self.agrees


@pytest.fixture
def watcher() -> Callable[..., Watcher]:
    """`watcher(agrees=False)`: a Reporter that remembers."""
    return Watcher


@pytest.fixture(scope="session")
def lint() -> Callable[[Path], str]:
    """`lint(template)`: what cfn-lint says of it, informational checks included; nothing, best of all."""

    def run(template: Path) -> str:
        command = [Path(sys.executable).with_name("cfn-lint"), "--regions", "us-east-1", "--include-checks", "I"]
        ran = subprocess.run(
            [*command, "--", template], capture_output=True, text=True, check=False, timeout=100, cwd=template.parent
        )
        return ran.stdout + ran.stderr

    return run


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    """moto's AWS."""
    moto = pytest.importorskip("moto")
    from moto.iam.access_control import PermissionResult
    from moto.s3.models import FakeBucket

    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    # moto reads "deny, unless over TLS" as "deny": it has no conditions.
    monkeypatch.setattr(FakeBucket, "get_permission", lambda *_: PermissionResult.NEUTRAL)
    # Every warning of cfn-lint is an error to moto, and half a second.
    monkeypatch.setattr("moto.cloudformation.models.validate_template_cfn_lint", lambda _: [])
    monkeypatch.setattr(Clients, "pause_s_max", 0.001)
    with moto.mock_aws():
        yield Clients(target="aws", session=boto3.Session(region_name="us-east-1"))


TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": ["lambda.amazonaws.com", "edgelambda.amazonaws.com"]},
            "Action": "sts:AssumeRole",
        }
    ],
}


def small_template() -> dict[str, Any]:
    """The active-active application without what moto has no CloudFormation for: the access point."""
    parameters = {key: {"Type": "String"} for key in ("CodeBucket", "CodeKey", "First", "Second")}
    return {
        "Metadata": {
            "Nearpoint": {
                "DataBuckets": ["First", "Second"],
                "Function": {"Folder": "function", "BucketParameter": "CodeBucket", "KeyParameter": "CodeKey"},
            }
        },
        "Parameters": parameters | {"Comment": {"Type": "String", "Default": "one"}},
        "Resources": {
            "Role": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST}},
            "Signer": {
                "Type": "AWS::Lambda::Function",
                "Properties": {
                    "Runtime": "python3.13",
                    "Handler": "index.handler",
                    "Description": {"Ref": "Comment"},
                    "Code": {"S3Bucket": {"Ref": "CodeBucket"}, "S3Key": {"Ref": "CodeKey"}},
                    "Role": {"Fn::GetAtt": ["Role", "Arn"]},
                },
            },
        },
        "Outputs": {"Data": {"Value": {"Fn::Sub": "${First} ${Second}"}}},
    }


@pytest.fixture
def template(tmp_path: Path) -> Callable[..., Path]:
    """`template(change)`: a template's file beside its function; `change` may change it before."""

    def write(change: Callable[[dict[str, Any]], object] = lambda document: None) -> Path:
        document = small_template()
        change(document)
        (tmp_path / "function").mkdir(exist_ok=True)
        (tmp_path / "function" / "index.py").write_text("def handler(event, context):\n    return event\n")
        path = tmp_path / "template.yaml"
        path.write_text(json.dumps(document))
        return path

    return write
