"""A whole world that is written to from two regions while its processes are killed and its links cut; then it heals.

Checked: every acknowledged write is in every region (versions never go, so superseded ones too); the regions are equal,
byte for byte with all that hangs on their objects; nothing deleted has come back; nothing is pending; every status is
true. A seed replays its operations and faults (`NEARPOINT_SEEDS=5,6 pytest tests/replication/test_harness.py`);
`NEARPOINT_HARNESS_S` is how long each is written to.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

pytestmark = pytest.mark.timeout(600)

SEEDS = [int(each) for each in os.environ.get("NEARPOINT_SEEDS", "1").split(",")]
WRITING_S = float(os.environ.get("NEARPOINT_HARNESS_S", "6"))
REGIONS = ("us-east-1", "eu-west-1")
PART = 5 * 1024 * 1024
KILLED = ("replication", "store-us-east-1", "store-eu-west-1", "links", "nats", "control")
FAULTS = ("refuse", "blackhole", "slow", "errors")
ROLE = "arn:aws:iam::123456789012:role/r"


class World:
    """A running world, its stores' own clients, and its faults."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.command("up", "--detach", "--regions", ",".join(REGIONS), "--edges", "FRA")
        self.settings: dict[str, Any] = json.loads((data / "world.json").read_bytes())

    def command(self, *words: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", "nearpoint", *words, "--data", str(self.data)],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def s3(self, region: str) -> Any:
        """The region's S3 endpoint of this world."""
        proxy = f"http://{region}:x@127.0.0.1:{self.settings['ports']['proxy']}"
        return boto3.client(
            "s3", region_name=region, verify=str(self.data / "ca" / "bundle.pem"),
            aws_access_key_id=self.settings["access_key_id"], aws_secret_access_key=self.settings["secret_key"],
            config=Config(
                proxies={"http": proxy, "https": proxy}, retries={"total_max_attempts": 1}, read_timeout=8,
                connect_timeout=5,
            ),
        )  # fmt: skip

    def ask(self, method: str, path: str, body: Any = None, port: str = "admin") -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.settings["ports"][port], timeout=60)
        headers = {"Authorization": f"Bearer {self.settings['admin_token']}"}
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body).encode() if body else None, headers)
            return json.loads(connection.getresponse().read())

    def kill(self, name: str) -> None:
        pids = {row["name"]: row["pid"] for row in self.ask("GET", "/status")["processes"]}
        if pids.get(name):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pids[name], signal.SIGKILL)


class Writer(threading.Thread):
    """Writes to one region: keys of its own and keys that others write too. Remembers what was acknowledged."""

    def __init__(self, world: World, region: str, bucket: str, seed: str) -> None:
        super().__init__(name=seed)
        self._s3 = world.s3(region)
        self._bucket = bucket
        self._chance = random.Random(seed)
        self._seed = seed
        self.stopping = threading.Event()
        self.acknowledged: list[tuple[str, str]] = []  # key, version
        self.own: dict[str, set[str | None]] = {}  # of its own keys: what they may be now (None: deleted)
        self.failed = 0

    def run(self) -> None:
        for number in range(100_000):
            if self.stopping.is_set():
                return
            own = self._chance.random() < 0.6
            key = f"{self._seed}/{self._chance.randrange(6)}" if own else f"shared/{self._chance.randrange(4)}"
            roll = self._chance.random()
            body = f"{self._seed} {number} ".encode() * self._chance.choice((1, 30, 3000))
            value = None if roll < 0.15 else hashlib.md5(body).hexdigest()
            if 0.15 <= roll < 0.2:
                value = "parts"
            elif 0.2 <= roll < 0.3:
                self._tag(key, number)
                continue
            may_be = self.own.get(key, {None})
            if own:
                self.own[key] = may_be | {value}
            try:
                version = self._write(key, value, body, number)
            except (ClientError, BotoCoreError):
                self.failed += 1
                time.sleep(0.05)
                continue
            self.acknowledged.append((key, version))
            if own:
                self.own[key] = {value}

    def _write(self, key: str, value: str | None, body: bytes, number: int) -> str:
        where = {"Bucket": self._bucket, "Key": key}
        if value is None:
            return str(self._s3.delete_object(**where)["VersionId"])
        if value != "parts":
            return str(self._s3.put_object(**where, Body=body, Metadata={"n": str(number)})["VersionId"])
        upload = self._s3.create_multipart_upload(**where, Metadata={"n": str(number)})["UploadId"]
        parts = []
        for at, content in enumerate((bytes([number % 256]) * PART, b"end"), 1):
            made = self._s3.upload_part(**where, UploadId=upload, PartNumber=at, Body=content)
            parts.append({"PartNumber": at, "ETag": made["ETag"], "ChecksumCRC32": made["ChecksumCRC32"]})
        done = self._s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})
        return str(done["VersionId"])

    def _tag(self, key: str, number: int) -> None:
        tags = {"TagSet": [{"Key": "n", "Value": str(number)}]}
        with contextlib.suppress(ClientError, BotoCoreError):
            self._s3.put_object_tagging(Bucket=self._bucket, Key=key, Tagging=tags)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "data")
    yield made
    made.command("down")


def disturb(world: World, chance: random.Random, until: float) -> None:
    """Kill processes and break regions, one after the other."""
    while time.monotonic() < until:
        if chance.random() < 0.6:
            world.kill(chance.choice(KILLED))
            time.sleep(chance.random())
        else:
            region = chance.choice(REGIONS)
            world.ask("PUT", f"/faults/{region}", {"how": chance.choice(FAULTS)})
            time.sleep(chance.random() * 1.5)
            world.ask("DELETE", f"/faults/{region}")


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_acknowledged_is_lost_and_the_regions_are_equal(world: World, seed: int) -> None:
    buckets = {region: f"harness-{region}" for region in REGIONS}
    clients = {region: world.s3(region) for region in REGIONS}
    make_pair(clients, buckets)
    writers = [Writer(world, region, buckets[region], f"{seed}-{region}-{at}") for region in REGIONS for at in range(3)]
    for writer in writers:
        writer.start()
    disturb(world, random.Random(seed), time.monotonic() + WRITING_S)
    for writer in writers:
        writer.stopping.set()
    for writer in writers:
        writer.join()
    wait_until_settled(world)
    acknowledged = [each for writer in writers for each in writer.acknowledged]
    print(f"seed {seed}: {len(acknowledged)} acknowledged, {sum(writer.failed for writer in writers)} failed")
    assert len(acknowledged) > 50
    seen = {region: everything(clients[region], buckets[region]) for region in REGIONS}
    for region in REGIONS:
        there = {(key, version) for key, version, *_ in seen[region]}
        lost = [each for each in acknowledged if each not in there]
        assert not lost, f"seed {seed}: {lost[:3]} are not in {region}"
    assert seen[REGIONS[0]] == seen[REGIONS[1]], f"seed {seed}"
    for region in REGIONS:
        check_current(clients[region], buckets[region], writers, f"seed {seed}, {region}")


def test_the_commands_and_two_clients_that_read_what_the_other_wrote(world: World) -> None:
    us, eu = (world.s3(region) for region in REGIONS)
    us.create_bucket(Bucket="walk-us")
    eu.create_bucket(Bucket="walk-eu", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    proxy = f"http://us-east-1:x@127.0.0.1:{world.settings['ports']['proxy']}"
    control = boto3.client(
        "s3control", region_name="us-west-2", verify=str(world.data / "ca" / "bundle.pem"),
        aws_access_key_id=world.settings["access_key_id"], aws_secret_access_key=world.settings["secret_key"],
        config=Config(proxies={"http": proxy, "https": proxy}),
    )  # fmt: skip
    account = world.settings["account_id"]
    control.create_multi_region_access_point(
        AccountId=account, ClientToken="1",
        Details={"Name": "walk", "Regions": [{"Bucket": "walk-us"}, {"Bucket": "walk-eu"}]},
    )  # fmt: skip
    until = time.monotonic() + 30
    while not (listed := control.list_multi_region_access_points(AccountId=account)["AccessPoints"]):
        assert time.monotonic() < until
        time.sleep(0.2)
    while listed[0]["Status"] != "READY":
        assert time.monotonic() < until
        time.sleep(0.2)
        listed = control.list_multi_region_access_points(AccountId=account)["AccessPoints"]
    made = json.loads(world.command("replication", "enable", "walk", "--json"))["rules"]
    assert {(each["from"], each["to"]) for each in made} == {("walk-us", "walk-eu"), ("walk-eu", "walk-us")}
    # Once more changes nothing.
    before = us.get_bucket_replication(Bucket="walk-us")["ReplicationConfiguration"]
    world.command("replication", "enable", listed[0]["Alias"])
    assert us.get_bucket_replication(Bucket="walk-us")["ReplicationConfiguration"] == before
    arn = f"arn:aws:s3::{account}:accesspoint/{listed[0]['Alias']}"
    for at in range(5):
        # The access point may still be on its way to the nodes.
        retried(lambda at=at: us.put_object(Bucket=arn, Key=f"from-us-{at}", Body=f"us {at}".encode()))
        retried(lambda at=at: eu.put_object(Bucket=arn, Key=f"from-eu-{at}", Body=f"eu {at}".encode()))
    wait_until_settled(world)
    for at in range(5):
        assert eu.get_object(Bucket="walk-eu", Key=f"from-us-{at}")["Body"].read() == f"us {at}".encode()
        assert us.get_object(Bucket="walk-us", Key=f"from-eu-{at}")["Body"].read() == f"eu {at}".encode()
    status = json.loads(world.command("replication", "status", "--json"))
    assert {(pair["from"], pair["to"], pair["pending"]) for pair in status["pairs"]} == {
        ("us-east-1", "eu-west-1", 0),
        ("eu-west-1", "us-east-1", 0),
    }
    assert all(pair["lag_ms_p50"] for pair in status["pairs"])
    assert json.loads(world.command("replication", "retry", "--json"))["retried"] == 0
    [compared] = json.loads(world.command("reconcile", "--check", "--json"))
    assert (compared["keys"], compared["missing"], compared["amended"]) == (10, 0, 0)


def retried(call: Any) -> Any:
    until = time.monotonic() + 15
    while True:
        try:
            return call()
        except (ClientError, BotoCoreError):
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def make_pair(clients: dict[str, Any], buckets: dict[str, str]) -> None:
    for region, bucket in buckets.items():
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        clients[region].create_bucket(Bucket=bucket, **where)
        clients[region].put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    on = {"Status": "Enabled"}
    for region, bucket in buckets.items():
        other = next(each for each in buckets.values() if each != bucket)
        rule = {
            "ID": "all", "Priority": 1, "Filter": {}, "DeleteMarkerReplication": on, **on,
            "SourceSelectionCriteria": {"ReplicaModifications": on},
            "Destination": {"Bucket": f"arn:aws:s3:::{other}"},
        }  # fmt: skip
        clients[region].put_bucket_replication(Bucket=bucket, ReplicationConfiguration={"Role": ROLE, "Rules": [rule]})


def wait_until_settled(world: World) -> None:
    until = time.monotonic() + 90
    status: Any = None
    while time.monotonic() < until:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException):
            status = world.ask("GET", "/status", port="replication")
            if not status["unreachable"] and not any(pair["pending"] for pair in status["pairs"]):
                assert not status["parked"], status["parked"]
                if world.ask("GET", "/status")["ready"]:
                    return
        time.sleep(0.2)
    raise AssertionError(f"pending does not drop to zero: {status}")


def everything(s3: Any, bucket: str) -> list[tuple[Any, ...]]:
    """Every version and delete marker: key, id, time, whether it is current, and all that hangs on it."""
    found: list[tuple[Any, ...]] = []
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for each in page.get("DeleteMarkers", []):
            found.append((each["Key"], each["VersionId"], each["LastModified"], each["IsLatest"]))
        for each in page.get("Versions", []):
            where = {"Bucket": bucket, "Key": each["Key"], "VersionId": each["VersionId"]}
            got = s3.get_object(**where, ChecksumMode="ENABLED")
            tags = s3.get_object_tagging(**where)["TagSet"] if got.get("TagCount") else []
            assert got["ReplicationStatus"] in ("COMPLETED", "REPLICA"), (each["Key"], got["ReplicationStatus"])
            body = hashlib.md5(got["Body"].read()).hexdigest()
            found.append(
                (each["Key"], each["VersionId"], each["LastModified"], each["IsLatest"], each["ETag"], body,
                 got["Metadata"], got["ContentType"], got.get("ChecksumCRC32"), got.get("ChecksumCRC64NVME"), str(tags))
            )  # fmt: skip
    return sorted(found, key=lambda each: each[:2])


def check_current(s3: Any, bucket: str, writers: list[Writer], what: str) -> None:
    """Of keys with one writer it is known what they are: nothing deleted is back, nothing newer is hidden."""
    for writer in writers:
        for key, may_be in writer.own.items():
            try:
                etag: str | None = s3.head_object(Bucket=bucket, Key=key)["ETag"].strip('"')
            except ClientError as error:
                if error.response["Error"]["Code"] != "404":
                    raise
                etag = None
            value = "parts" if etag is not None and "-" in etag else etag
            assert value in may_be, f"{what}: {key} is {value}, not one of {may_be}"
