"""The walk-through as a person types it: the AWS CLI, curl and boto3, inside the shell, without any endpoint."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

FIRST, SECOND = "us-east-1", "eu-west-1"

SDK_SCRIPT = """
import boto3, sys
bucket, s3 = sys.argv[1], boto3.client("s3")
body = bytes(range(256)) * 40
s3.put_object(Bucket=bucket, Key="a b/ü+.bin", Body=body, Metadata={"who": "me"}, ContentType="image/png")
got = s3.get_object(Bucket=bucket, Key="a b/ü+.bin")
assert got["Body"].read() == body and got["ContentType"] == "image/png"
assert [o["Key"] for o in s3.list_objects_v2(Bucket=bucket, Prefix="a b/")["Contents"]] == ["a b/ü+.bin"]
assert s3.head_object(Bucket=bucket, Key="a b/ü+.bin")["Metadata"] == {"who": "me"}
s3.delete_object(Bucket=bucket, Key="a b/ü+.bin")
try:
    s3.head_object(Bucket=bucket, Key="a b/ü+.bin")
except s3.exceptions.ClientError as error:
    assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
else:
    raise SystemExit("still there")
"""


def test_each_place_is_answered_by_its_nearest_bucket(stack: Any) -> None:
    for location, region in ((FIRST, FIRST), (SECOND, SECOND), ("FRA", SECOND), ("SIN", SECOND), ("GRU", FIRST)):
        assert stack.world.shell(location, f"curl -sS {stack.url}") == stack.hello(region), location


def test_the_answer_says_where_it_comes_from(stack: Any) -> None:
    head = stack.world.shell("FRA", f"curl -sSi {stack.url}").lower()
    # Kept without a time of its own, it is asked for again each time; what has not changed is not sent again.
    assert re.search("x-cache: (miss|refreshhit) from cloudfront", head)
    assert "x-nearpoint-region: eu-west-1" in head
    assert re.search(r"x-amz-cf-pop: fra", head)
    assert re.search(r"via: 1\.1 [0-9a-f]+\.cloudfront\.net \(cloudfront\)", head)


def test_a_range_and_a_missing_key_and_a_method_that_is_not_allowed(stack: Any) -> None:
    told = stack.world.shell(
        FIRST,
        f"""
        curl -sS -r 0-4 -w '\\n' {stack.url}
        code() {{ curl -sS -o /dev/null -w '%{{http_code}}\\n' "$@"; }}
        code {stack.url}/missing
        code -X DELETE {stack.url}/index.html
        code http://{stack.url.removeprefix("https://")}/
        """,
    )
    assert told.split() == ["hello", "404", "403", "301"]


def test_a_dial_moves_all_traffic_and_brings_it_back(stack: Any) -> None:
    def dial(percent: int) -> None:
        update = f"Bucket={stack.buckets[FIRST]},Region={FIRST},TrafficDialPercentage={percent}"
        stack.world.shell(
            FIRST,
            "aws s3control submit-multi-region-access-point-routes --region us-east-1"
            f" --account-id {stack.arn.split(':')[4]} --mrap {stack.arn} --route-updates {update}",
        )

    dial(0)
    assert {stack.ask(FIRST), stack.ask(SECOND)} == {stack.hello(SECOND)}
    dial(100)
    assert stack.ask(FIRST) == stack.hello(FIRST)
    assert stack.ask(SECOND) == stack.hello(SECOND)


@pytest.mark.parametrize("how", ["refuse", "stop", "blackhole", "errors"])
def test_an_outage_costs_no_request(stack: Any, how: str) -> None:
    """Ten requests over the moment of the failure; all answered, the last ones by the other region."""
    loop = f"for i in $(seq 10); do curl -sS --max-time 10 {stack.url}; sleep 0.1; done"
    asking = subprocess.Popen(
        [sys.executable, "-m", "nearpoint", "shell", "--data", str(stack.world.data), FIRST, "--", "bash", "-c", loop],
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.world.nearpoint("fail", FIRST, "--how", how)
    try:
        answers = asking.communicate(timeout=60)[0].splitlines(keepends=True)
        assert len(answers) == 10
        assert set(answers) <= {stack.hello(FIRST), stack.hello(SECOND)}
        assert answers[-1] == stack.hello(SECOND)
    finally:
        stack.world.nearpoint("heal", FIRST)
    until = time.monotonic() + 30
    while stack.ask(FIRST) != stack.hello(FIRST):
        assert time.monotonic() < until, "the region does not come back"


def test_boto3_takes_the_arn_for_a_bucket(stack: Any, tmp_path: Path) -> None:
    script = tmp_path / "sdk.py"
    script.write_text(SDK_SCRIPT)
    stack.world.shell(FIRST, f"{sys.executable} {script} {stack.arn}")


def test_the_cli_takes_the_arn_for_a_bucket(stack: Any) -> None:
    told = stack.world.shell(
        SECOND,
        f"""
        echo anywhere | aws s3 cp - s3://{stack.arn}/note.txt
        aws s3 cp s3://{stack.arn}/note.txt -
        aws s3 ls s3://{stack.arn}/
        aws s3 rm s3://{stack.arn}/note.txt
        """,
    )
    assert told.startswith("anywhere\n")
    assert "note.txt" in told


def test_routes_show_measurements_and_choices(stack: Any) -> None:
    routes = json.loads(stack.world.nearpoint("routes", "--json").stdout)
    assert set(routes) == {FIRST, SECOND, "FRA", "SIN"}
    alias = stack.arn.rpartition("/")[2]
    assert routes["FRA"]["access_points"][alias]["chosen"] == SECOND
    assert 10 < routes["FRA"]["regions"][SECOND]["rtt_ms"] < routes["FRA"]["regions"][FIRST]["rtt_ms"]
    table = stack.world.nearpoint("routes").stdout
    assert alias in table


def test_the_functions_log_is_kept(stack: Any) -> None:
    stack.ask(FIRST)
    until = time.monotonic() + 10
    while "REPORT RequestId" not in stack.world.nearpoint("logs", check=False).stdout:
        assert time.monotonic() < until


def test_a_command_in_the_shell_returns_its_exit_code(world: Any) -> None:
    assert world.nearpoint("shell", FIRST, "--", "sh", "-c", "exit 7", check=False).returncode == 7
    assert world.nearpoint("shell", "Atlantis", "--", "true", check=False).returncode == 2


def test_who_one_is_and_what_there_is_not(world: Any) -> None:
    told = world.shell(
        FIRST,
        """
        aws sts get-caller-identity --query Arn --output text
        ! aws dynamodb list-tables
        ! AWS_SECRET_ACCESS_KEY=wrong aws s3api list-buckets
        ! AWS_ACCESS_KEY_ID=AKIANOBODY aws s3api list-buckets
        """,
        check=False,
    )
    for words in (":root\n", "not implemented in this world", "SignatureDoesNotMatch", "InvalidAccessKeyId"):
        assert words in told
