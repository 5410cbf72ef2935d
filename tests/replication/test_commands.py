"""The commands of replication, in a world; and two clients that read what the other wrote."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError


def retried(call: Any) -> Any:
    until = time.monotonic() + 15
    while True:
        try:
            return call()
        except (ClientError, BotoCoreError):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def test_the_commands_and_two_clients_that_read_what_the_other_wrote(live: Any) -> None:
    arn = live.make_access_point("walk", {"us-east-1": "walk-us", "eu-west-1": "walk-eu"})
    us, eu = live.s3("us-east-1"), live.s3("eu-west-1")
    made = json.loads(live.command("replication", "enable", "walk", "--json"))["rules"]
    assert {(each["from"], each["to"]) for each in made} == {("walk-us", "walk-eu"), ("walk-eu", "walk-us")}
    # Once more changes nothing.
    before = us.get_bucket_replication(Bucket="walk-us")["ReplicationConfiguration"]
    live.command("replication", "enable", arn)
    assert us.get_bucket_replication(Bucket="walk-us")["ReplicationConfiguration"] == before
    for at in range(5):
        retried(lambda at=at: us.put_object(Bucket=arn, Key=f"from-us-{at}", Body=f"us {at}".encode()))
        retried(lambda at=at: eu.put_object(Bucket=arn, Key=f"from-eu-{at}", Body=f"eu {at}".encode()))
    live.wait_until_settled()
    for at in range(5):
        assert eu.get_object(Bucket="walk-eu", Key=f"from-us-{at}")["Body"].read() == f"us {at}".encode()
        assert us.get_object(Bucket="walk-us", Key=f"from-eu-{at}")["Body"].read() == f"eu {at}".encode()
    status = json.loads(live.command("replication", "status", "--json"))
    assert {(pair["from"], pair["to"], pair["pending"]) for pair in status["pairs"]} == {
        ("us-east-1", "eu-west-1", 0),
        ("eu-west-1", "us-east-1", 0),
    }
    assert all(pair["lag_ms_p50"] for pair in status["pairs"])
    assert json.loads(live.command("replication", "retry", "--json"))["retried"] == 0
    [compared] = json.loads(live.command("reconcile", "--check", "--json"))
    assert (compared["keys"], compared["missing"], compared["amended"]) == (11, 0, 0)
    # Into a pipe, one look after the other.
    command = [sys.executable, "-m", "nearpoint", "replication", "status", "--watch", "--data", str(live.data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        looks = itertools.islice((line for line in watching.stdout if line.startswith("walk-us")), 2)
        assert [line.strip() for line in looks] == ["walk-us (us-east-1) → walk-eu (eu-west-1)"] * 2
        watching.terminate()
    # A region that was made to fail is not reached past its link; the same command goes on when it is back.
    live.command("fail", "eu-west-1")
    refused = live.ran("reconcile", "--check")
    assert refused.returncode == 4
    assert "A region cannot be reached: eu-west-1" in refused.stderr
    live.command("heal", "eu-west-1")
    [compared] = json.loads(live.command("reconcile", "--check", "--json"))
    assert (compared["keys"], compared["missing"]) == (11, 0)
    assert {pair["destination"] for pair in json.loads(live.command("replication", "status", "--json"))["pairs"]} == {
        "walk-us",
        "walk-eu",
    }
