"""A region is added to a running access point, and another drained and removed, while everybody goes on writing."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

pytestmark = pytest.mark.timeout(300)  # twenty commands, one after the other
US, EU, AP = "us-east-1", "eu-west-1", "ap-south-1"


class Writer(threading.Thread):
    """Writes one key after the other through the access point; remembers what was acknowledged."""

    def __init__(self, world: Any, region: str, arn: str) -> None:
        super().__init__(daemon=True)
        self._s3 = world.client("s3", region, 4)
        self._region = region
        self._arn = arn
        self.stopping = threading.Event()
        self.acknowledged: dict[str, str] = {}
        self.served_by: set[str] = set()

    def run(self) -> None:
        number = 0
        while not self.stopping.wait(0.01):
            number += 1
            key = f"{self._region}/{number}"
            try:
                answer = self._s3.put_object(Bucket=self._arn, Key=key, Body=key.encode())
            except (ClientError, BotoCoreError):
                continue
            self.acknowledged[key] = answer["VersionId"]
            self.served_by.add(answer["ResponseMetadata"]["HTTPHeaders"]["x-nearpoint-region"])


def versions(world: Any, region: str, bucket: str) -> dict[str, str]:
    pages = world.client("s3", region, 4).get_paginator("list_object_versions").paginate(Bucket=bucket)
    return {each["Key"]: each["VersionId"] for page in pages for each in page.get("Versions", [])}


def interrupted(world: Any, *words: str) -> None:
    """A command of members that is ended in the middle: once by Ctrl-C, once by kill -9."""
    for number, after_s in ((signal.SIGINT, 1.0), (signal.SIGKILL, 1.2)):
        command = [sys.executable, "-m", "nearpoint", "members", *words, "--data", str(world.data)]
        running = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True,
            # Whoever runs the tests in the background has interrupts ignored, which children inherit.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
        )  # fmt: skip
        time.sleep(after_s)
        running.send_signal(number)
        running.communicate(timeout=60)


def test_a_region_is_added_and_another_removed_and_no_write_is_lost(make_live: Callable[..., Any]) -> None:
    world = make_live(US, EU, AP)
    world.start()
    arn = world.make_access_point("app", {US: "app-us", EU: "app-eu"})
    us, eu, ap = (world.client("s3", region, 4) for region in (US, EU, AP))
    for at in range(300):
        us.put_object(Bucket="app-us", Key=f"before/{at}", Body=b"before" * at)
    writers = [Writer(world, region, arn) for region in (US, EU, AP)]
    for writer in writers:
        writer.start()
    # A bucket that is not there is made only when that is said.
    told = world.ran("members", "add", "app", AP, "app-ap")
    assert (told.returncode, "--create" in told.stderr) == (3, True), told.stderr
    # Interrupted twice, once harshly; then it goes on.
    interrupted(world, "add", "app", AP, "app-ap", "--create")
    made = json.loads(world.command("members", "add", "app", AP, "app-ap", "--create", "--json"))
    assert {each["region"]: each["dial_percent"] for each in made["members"]} == {US: 100, EU: 100, AP: 100}
    assert ap.get_object(Bucket="app-ap", Key="before/299")["Body"].read() == b"before" * 299
    until = time.monotonic() + 30
    while AP not in writers[2].served_by:
        assert time.monotonic() < until, "the new member takes no write"
        time.sleep(0.1)
    # Away with another, which has an upload under way.
    upload = eu.create_multipart_upload(Bucket=arn, Key="large")["UploadId"]
    assert upload.startswith(EU)
    told = world.ran("members", "remove", "app", EU)
    assert (told.returncode, "drain" in told.stderr) == (3, True), told.stderr
    told = world.ran("members", "drain", "app", EU, "--timeout", "2")
    assert (told.returncode, "large" in told.stderr) == (5, True), told.stderr
    part = eu.upload_part(Bucket=arn, Key="large", UploadId=upload, PartNumber=1, Body=b"x" * 100_000)
    eu.complete_multipart_upload(
        Bucket=arn, Key="large", UploadId=upload,
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
    )  # fmt: skip
    interrupted(world, "drain", "app", EU)
    world.command("members", "drain", "app", EU)
    shown = json.loads(world.command("members", "list", "app", "--json"))["members"]
    assert {each["region"]: each["dial_percent"] for each in shown} == {US: 100, EU: 0, AP: 100}
    interrupted(world, "remove", "app", EU)
    for _ in range(2):  # the second time there is nothing left to do
        left = json.loads(world.command("members", "remove", "app", EU, "--json"))["members"]
        assert {each["region"] for each in left} == {US, AP}
    time.sleep(0.5)
    for writer in writers:
        writer.stopping.set()
        writer.join()
    world.wait_until_settled()
    acknowledged = {key: version for writer in writers for key, version in writer.acknowledged.items()}
    assert len(acknowledged) > 200
    for region, bucket in ((US, "app-us"), (AP, "app-ap")):
        there = versions(world, region, bucket)
        lost = {key for key, version in acknowledged.items() if there.get(key) != version}
        assert not lost, f"{len(lost)} are not in {region}, for example {sorted(lost)[:3]}"
        assert len(there) == 300 + len(acknowledged) + 2  # and `-`, and `large`
    # Nothing goes to the one that was removed any more.
    assert all(
        rule["Destination"]["Bucket"] != "arn:aws:s3:::app-eu"
        for s3, bucket in ((us, "app-us"), (ap, "app-ap"))
        for rule in s3.get_bucket_replication(Bucket=bucket)["ReplicationConfiguration"]["Rules"]
    )
    us.put_object(Bucket="app-us", Key="later", Body=b"x")
    world.wait_until_settled()
    with pytest.raises(ClientError, match="404"):
        eu.head_object(Bucket="app-eu", Key="later")
    # What is still written to it directly reaches the others.
    eu.put_object(Bucket="app-eu", Key="straggler", Body=b"x")
    world.wait_until_settled()
    assert us.head_object(Bucket="app-us", Key="straggler")["ReplicationStatus"] == "REPLICA"


def test_a_store_of_another_maker_is_added_and_removed(
    make_live: Callable[..., Any], seaweedfs_in: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = seaweedfs_in(tmp_path_factory.mktemp("seaweedfs"), "AKIAFOREIGNSTORE0000", "foreignsecret")
    world = make_live(US, EU, foreign={EU: f"http://AKIAFOREIGNSTORE0000:foreignsecret@127.0.0.1:{store.port}"})
    world.start()
    us, eu = (world.client("s3", region, 4) for region in (US, EU))
    arn = world.make_access_point("app", {US: "app-us"})
    us.put_bucket_versioning(Bucket="app-us", VersioningConfiguration={"Status": "Enabled"})
    for at in range(60):
        us.put_object(Bucket="app-us", Key=f"before/{at}", Body=b"before" * at, Metadata={"at": str(at)})
    us.delete_object(Bucket="app-us", Key="before/0")
    writers = [Writer(world, US, arn), Writer(world, EU, arn)]
    for writer in writers:
        writer.start()
    world.command("members", "add", "app", EU, "app-eu", "--create")
    assert eu.head_object(Bucket="app-eu", Key="before/59")["Metadata"] == {"at": "59"}
    with pytest.raises(ClientError):
        eu.head_object(Bucket="app-eu", Key="before/0")
    until = time.monotonic() + 30
    while EU not in writers[1].served_by:
        assert time.monotonic() < until, "the new member takes no write"
        time.sleep(0.1)
    # What each region has of a key is known to the microsecond, whoever made its store.
    for number in range(4):
        s3, bucket = (us, "app-us") if number % 2 else (eu, "app-eu")
        s3.put_object(Bucket=bucket, Key="turns", Body=str(number).encode())
        got = strongly(world, US if number % 2 == 0 else EU).get_object(Bucket=arn, Key="turns")
        assert got["ResponseMetadata"]["HTTPHeaders"]["x-nearpoint-consistency"] == "strong"
        assert got["Body"].read() == str(number).encode()
    upload = eu.create_multipart_upload(Bucket=arn, Key="large")["UploadId"]
    assert upload.startswith(EU)
    told = world.ran("members", "drain", "app", EU, "--timeout", "1")
    assert (told.returncode, "large" in told.stderr) == (5, True), told.stderr
    left = json.loads(world.command("members", "remove", "app", EU, "--abort-uploads", "--json"))["members"]
    assert {each["region"] for each in left} == {US}
    for writer in writers:
        writer.stopping.set()
        writer.join()
    world.wait_until_settled()
    acknowledged = {key for writer in writers for key in writer.acknowledged}
    assert len(acknowledged) > 50
    lost = acknowledged - versions(world, US, "app-us").keys()
    assert not lost, f"{len(lost)} are not in {US}, for example {sorted(lost)[:3]}"
    assert eu.list_objects_v2(Bucket="app-eu", Prefix="before/")["KeyCount"] == 59, "its bucket stays as it was"


def strongly(world: Any, region: str) -> Any:
    """A client whose reads insist on the newest version."""
    s3 = world.client("s3", region, 4)

    def insist(request: Any, **_: Any) -> None:
        request.headers["x-nearpoint-consistency"] = "strong"

    s3.meta.events.register("before-sign.s3.GetObject", insist)
    return s3
