"""The AWS CLI against a store, as a person would use it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def test_the_aws_cli_makes_fills_syncs_and_removes_a_bucket(running: Any, tmp_path: Path) -> None:
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
        "AWS_SECRET_ACCESS_KEY": "test-secret-test-secret-test-secret-test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": running.endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }

    def aws(*arguments: str, stdin: bytes = b"") -> str:
        command = [str(Path(sys.executable).parent / "aws"), *arguments]
        done = subprocess.run(command, env=environment, input=stdin, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    aws("s3", "mb", "s3://cli-bucket")
    aws("s3", "cp", "-", "s3://cli-bucket/index.html", stdin=b"hello from s3 bucket cli-bucket\n")
    assert aws("s3", "cp", "s3://cli-bucket/index.html", "-") == "hello from s3 bucket cli-bucket\n"
    (tmp_path / "tree" / "sub").mkdir(parents=True)
    (tmp_path / "tree" / "sub" / "large").write_bytes(os.urandom(9_000_000))
    (tmp_path / "tree" / "small").write_text("small")
    aws("s3", "sync", str(tmp_path / "tree"), "s3://cli-bucket/tree")
    listed = aws("s3", "ls", "--recursive", "s3://cli-bucket")
    assert [line.split()[2:] for line in listed.splitlines()] == [
        ["32", "index.html"],
        ["5", "tree/small"],
        ["9000000", "tree/sub/large"],
    ] or sorted(line.split()[3] for line in listed.splitlines()) == ["index.html", "tree/small", "tree/sub/large"]
    aws("s3", "rb", "--force", "s3://cli-bucket")
