"""Every operation with the AWS CLI, by ARN and by alias, and with rclone in all its ways of addressing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BIN = Path(sys.executable).parent

# Runs many commands in one process: starting Python and botocore takes longer than any of them.
DRIVER = """
import contextlib, io, json, sys
from awscli.clidriver import create_clidriver
drivers = {"s3": create_clidriver(), "s3api": create_clidriver()}
answers = []
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = drivers[words[0]].main(words)
    answers.append([code, out.getvalue(), err.getvalue()])
json.dump(answers, sys.stdout)
"""


def _environ(**more: str) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.lower().startswith(("aws_", "rclone_", "http"))
    }
    keys = {"AWS_ACCESS_KEY_ID": "CLIENT", "AWS_SECRET_ACCESS_KEY": "client-secret", "AWS_REGION": "us-east-1"}
    return {**kept, **keys, "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull, **more}


class Cli:
    """The AWS CLI on one access point."""

    def __init__(self, front: Any, data_path: Path, folder: Path) -> None:
        self.folder = folder
        self._environ = _environ(AWS_DATA_PATH=str(data_path), AWS_ENDPOINT_URL_S3=front.url)

    def run(self, *commands: list[str]) -> list[tuple[int, Any, str]]:
        """Exit code, output (decoded where it is JSON) and what was said on standard error, of each command."""
        done = subprocess.run(
            [sys.executable, "-c", DRIVER], input=json.dumps(commands), capture_output=True, text=True, timeout=100,
            env=self._environ, cwd=self.folder, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [
            (code, json.loads(out) if out.startswith("{") else out, err) for code, out, err in json.loads(done.stdout)
        ]


@pytest.mark.parametrize("by", ["arn", "alias"])
@pytest.mark.parametrize("store", ["embedded", "weeds"])
def test_every_operation_with_the_aws_cli(front: Any, data_path: Path, tmp_path: Path, store: str, by: str) -> None:
    def bucket(name: str) -> str:
        return f"arn:aws:s3::123456789012:accesspoint/{name}.mrap" if by == "arn" else f"{name}.mrap"

    cli = Cli(front, data_path, tmp_path)
    (tmp_path / "body").write_bytes(b"0123456789")
    (tmp_path / "big").write_bytes(bytes(range(256)) * 40_000)
    folder = f"cli-{by}"

    def on(operation: str, *words: str, name: str = store) -> list[str]:
        return ["s3api", operation, "--bucket", bucket(name), *words]

    def of(operation: str, *words: str, key: str = "k", name: str = store) -> list[str]:
        return on(operation, "--key", f"{folder}/{key}", *words, name=name)

    tags = "TagSet=[{Key=a,Value=b}]"
    commands = {
        "put": of("put-object", "--body", "body", "--metadata", "who=me", "--checksum-algorithm", "CRC32C"),
        "head": of("head-object", "--checksum-mode", "ENABLED"),
        "get": of("get-object", "--range", "bytes=2-4", "out"),
        "attributes": of("get-object-attributes", "--object-attributes", "ObjectSize"),
        "if none match": of("put-object", "--body", "body", "--if-none-match", "*"),
        "copy": of("copy-object", "--copy-source", f"{bucket(store)}/{folder}/k", key="copy")
        if by == "alias"
        else of("copy-object", "--copy-source", f"{bucket(store)}/object/{folder}/k", key="copy"),
        "list": on("list-objects-v2", "--prefix", f"{folder}/"),
        "old list": on("list-objects", "--prefix", f"{folder}/", "--max-items", "1"),
        "tag": of("put-object-tagging", "--tagging", tags),
        "tags": of("get-object-tagging"),
        "untag": of("delete-object-tagging"),
        "acl": of("get-object-acl"),
        "hold": of("put-object", "--body", "body", name=f"{store}locked"),
        "put hold": of("put-object-legal-hold", "--legal-hold", "Status=ON", name=f"{store}locked"),
        "get hold": of("get-object-legal-hold", name=f"{store}locked"),
        "end hold": of("put-object-legal-hold", "--legal-hold", "Status=OFF", name=f"{store}locked"),
        "versions": on("list-object-versions", "--prefix", f"{folder}/", name=f"{store}locked"),
        "head bucket": on("head-bucket"),
        "begin": of("create-multipart-upload", key="parts"),
        "uploads": on("list-multipart-uploads"),
        "upload": ["s3", "cp", "big", f"s3://{bucket(store)}/{folder}/big"],
        "sync": ["s3", "sync", f"s3://{bucket(store)}/{folder}/", "down", "--exclude", "parts"],
        "ls": ["s3", "ls", f"s3://{bucket(store)}/{folder}/"],
        "mv": ["s3", "mv", f"s3://{bucket(store)}/{folder}/copy", f"s3://{bucket(store)}/{folder}/moved"],
        "delete": of("delete-object"),
        "deletes": on("delete-objects", "--delete", f"Objects=[{{Key={folder}/moved}},{{Key={folder}/big}}]"),
        "nothing": of("get-object", "out"),
    }
    said = dict(zip(commands, cli.run(*commands.values()), strict=True))
    failed = {name: one for name, one in said.items() if one[0] and name not in ("if none match", "nothing")}
    assert not failed
    assert (said["head"][1]["Metadata"], said["head"][1]["ChecksumCRC32C"]) == (
        {"who": "me"}, said["put"][1]["ChecksumCRC32C"],
    )  # fmt: skip
    assert (said["get"][1]["ContentRange"], said["attributes"][1]["ObjectSize"]) == ("bytes 2-4/10", 10)
    assert "PreconditionFailed" in said["if none match"][2]
    assert [each["Key"] for each in said["list"][1]["Contents"]] == [f"{folder}/copy", f"{folder}/k"]
    assert [each["Key"] for each in said["old list"][1]["Contents"]] == [f"{folder}/copy"]
    assert said["tags"][1]["TagSet"] == [{"Key": "a", "Value": "b"}]
    assert said["get hold"][1]["LegalHold"] == {"Status": "ON"}
    assert said["versions"][1]["Versions"][0]["IsLatest"] is True
    assert said["begin"][1]["UploadId"] in [each["UploadId"] for each in said["uploads"][1]["Uploads"]]
    assert (tmp_path / "down" / "big").read_bytes() == (tmp_path / "big").read_bytes()
    assert " big\n" in said["ls"][1]
    assert len(said["deletes"][1]["Deleted"]) == 2
    assert "NoSuchKey" in said["nothing"][2]
    (part,) = cli.run(of("abort-multipart-upload", "--upload-id", said["begin"][1]["UploadId"], key="parts"))
    assert part[0] == 0


@pytest.mark.parametrize(("store", "style"), [("embedded", "path"), ("weeds", "virtual"), ("clones", "path")])
def test_rclone(front: Any, tmp_path: Path, store: str, style: str) -> None:
    """In virtual-host style the access point is rclone's proxy as well, so that no name has to resolve."""
    endpoint = front.url if style == "path" else "http://s3.nearpoint.test"
    environ = _environ(
        HOME=str(tmp_path),
        RCLONE_CONFIG_NP_TYPE="s3",
        RCLONE_CONFIG_NP_PROVIDER="Other",  # `AWS` needs TLS: tests/walkthrough
        RCLONE_CONFIG_NP_ENDPOINT=endpoint,
        RCLONE_CONFIG_NP_ENV_AUTH="true",
        RCLONE_CONFIG_NP_FORCE_PATH_STYLE=str(style == "path").lower(),
        RCLONE_S3_UPLOAD_CUTOFF="6M",
        RCLONE_S3_NO_CHECK_BUCKET="true",
        RCLONE_RETRIES="1",
        **({"http_proxy": front.url} if style == "virtual" else {}),
    )

    def run(*words: str, given: str | None = None) -> str:
        command = [str(BIN / "rclone"), *words]
        done = subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=60, env=environ, check=False
        )
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    source, remote = tmp_path / "source", f"np:{store}.mrap/rclone-{style}"
    (source / "folder").mkdir(parents=True)
    (source / "small").write_text("small")
    (source / "folder" / "big é+").write_bytes(os.urandom(7 * 1024 * 1024))
    run("copy", str(source), remote)
    run("check", "--download", str(source), remote)
    listed = json.loads(run("lsjson", "-R", remote))
    assert {each["Path"] for each in listed} == {"small", "folder", "folder/big é+"}
    assert run("cat", "--offset", "1", "--count", "3", f"{remote}/small") == "mal"
    run("rcat", f"{remote}/piped", given="by pipe")
    if store != "clones":  # whose own copies and moves are another matter
        run("moveto", f"{remote}/piped", f"{remote}/moved")
        assert run("cat", f"{remote}/moved") == "by pipe"
    run("purge", remote)
    assert run("lsf", "-R", remote) == ""
