"""Disks that are full or read-only: one clear line, nothing damaged, and on it goes when there is space."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

HERE = "us-east-1"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many MB."""
    mounted = []

    def mount(size_mb: int) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
            pytest.skip("mounting a disk takes root")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    for size in (1 << 20, 4096, 64):
        with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * size)
    return filler


def refused(world: Any, *words: str) -> None:
    """`up` says it in one line, with exit code 1, on either way of starting."""
    for options in (("--detach",), ()):
        ran = world.nearpoint("up", *options, check=False)
        assert (ran.returncode, ran.stdout) == (1, "")
        [line] = [line for line in ran.stderr.splitlines() if line and not line.startswith("Starting ")]
        assert line.startswith("nearpoint: ")
        assert all(word in line for word in words)


def impatient(world: Any, service: str) -> Any:
    """A client that does not retry."""
    settings = world.settings
    return boto3.client(
        service, region_name=HERE, verify=str(world.data / "ca" / "bundle.pem"),
        aws_access_key_id=settings["access_key_id"], aws_secret_access_key=settings["secret_key"],
        config=Config(proxies=dict.fromkeys(("http", "https"), world.proxy(HERE)), retries={"max_attempts": 0}),
    )  # fmt: skip


def test_a_disk_that_is_too_small(small_disk: Any, make_world: Any) -> None:
    disk = small_disk(16)
    refused(make_world(disk / "world"), "The disk of", "is full", "MB are free")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    refused(make_world(disk / "world"), "cannot be written to")
    refused(make_world(disk / "another"), "cannot be used: Read-only file system")


def test_a_disk_that_runs_full(small_disk: Any, make_world: Any) -> None:
    disk = small_disk(110)
    world = make_world(disk / "world")
    world.up("--regions", HERE, "--edges", "FRA", "--workers", "1")
    s3 = impatient(world, "s3")
    s3.create_bucket(Bucket="before")
    s3.put_object(Bucket="before", Key="kept", Body=b"kept" * 1000)
    filler = fill(disk)
    for key in ("kept", "new"):
        with pytest.raises(ClientError, match="The disk of this store is full") as caught:
            s3.put_object(Bucket="before", Key=key, Body=b"x" * 300_000)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    # What needs no space goes on; the control plane's writes fail.
    assert s3.get_object(Bucket="before", Key="kept")["Body"].read() == b"kept" * 1000
    _write_state_until_it_fails(world)
    assert world.status()["processes"]
    world.down()
    refused(world, "The disk of", "is full")
    # And with space again, all is as it was.
    filler.unlink()
    world.up("--regions", HERE)
    s3 = impatient(world, "s3")
    assert s3.get_object(Bucket="before", Key="kept")["Body"].read() == b"kept" * 1000
    s3.put_object(Bucket="before", Key="new", Body=b"new")
    s3.create_bucket(Bucket="afterwards")
    # A state store that found the disk full comes back by itself too.
    filler = fill(disk)
    _write_state_until_it_fails(world)
    filler.unlink()
    until = time.monotonic() + 40
    while not _writes_state(world):
        assert time.monotonic() < until
        time.sleep(0.3)


def _write_state_until_it_fails(world: Any) -> None:
    until = time.monotonic() + 60
    while _writes_state(world):
        assert time.monotonic() < until


def _writes_state(world: Any) -> bool:
    """Create a stack of which the template alone takes 20 KB, compressed: whether that was answered well."""
    template = {"Metadata": {"filler": secrets.token_hex(20_000)}, "Resources": {"Role": ROLE}}
    try:
        impatient(world, "cloudformation").create_stack(
            StackName=f"stack-{time.monotonic_ns()}", TemplateBody=json.dumps(template), Capabilities=["CAPABILITY_IAM"]
        )
    except ClientError:
        return False
    return True


ROLE = {
    "Type": "AWS::IAM::Role",
    "Properties": {
        "AssumeRolePolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"Service": ["lambda.amazonaws.com"]}, "Action": "sts:AssumeRole"}
            ],
        }
    },
}
