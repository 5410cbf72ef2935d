"""The walk-through with one region on a store of the user's own: a real SeaweedFS that verifies signatures."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

OURS, FOREIGN = "us-east-1", "eu-west-1"
ACCESS_KEY_ID, SECRET_KEY = "AKIAFOREIGNSTORE0000", "foreign/secret+with:odd@characters"


@pytest.fixture(scope="module")
def seaweedfs(tmp_path_factory: pytest.TempPathFactory, seaweedfs_in: Any) -> Iterator[int]:
    """The port of a SeaweedFS S3 gateway with one identity."""
    server = seaweedfs_in(tmp_path_factory.mktemp("seaweedfs"), ACCESS_KEY_ID, SECRET_KEY)
    yield server.port
    server.kill()


@pytest.fixture(scope="module")
def world(seaweedfs: int, module_world_at: Any) -> Any:
    from urllib.parse import quote

    store = f"{FOREIGN}=http://{ACCESS_KEY_ID}:{quote(SECRET_KEY, safe='')}@127.0.0.1:{seaweedfs}"
    return module_world_at("--regions", OURS, "--edges", "FRA", "--store", store)


@pytest.fixture(scope="module")
def app(world: Any, new_app: Any) -> Any:
    return new_app(world)


def test_its_process_is_not_ours(world: Any) -> None:
    assert f"store-{FOREIGN}" not in world.pids()
    ran = world.nearpoint("fail", FOREIGN, "--how", "stop", check=False)
    assert ran.returncode == 3
    assert "not a process of this world" in ran.stderr


def test_each_place_is_answered_by_its_nearest_bucket(app: Any) -> None:
    for location, region in ((OURS, OURS), (FOREIGN, FOREIGN), ("FRA", FOREIGN)):
        assert app.ask(location) == app.hello(region)
    missing = app.world.get("FRA", f"{app.url}/missing")
    assert missing.status == 404
    assert b"<Code>NoSuchKey</Code>" in missing.data
    assert app.world.get("FRA", app.url, headers={"Range": "bytes=0-4"}).data == b"hello"


def test_what_the_store_lacks_is_found_out_said_and_minded(app: Any) -> None:
    until = time.monotonic() + 30
    while not (found := [one for one in app.world.status()["store_limits"] if one["bucket"] == app.buckets[FOREIGN]]):
        assert time.monotonic() < until
        time.sleep(0.1)
    assert (found[0]["region"], found[0]["is_known"]) == (FOREIGN, True)
    assert "metadata" in found[0]["mended"]
    said = " ".join(app.world.nearpoint("status").stdout.split())
    assert f"Store of {FOREIGN}, bucket {app.buckets[FOREIGN]}: " in said
    s3 = app.world.aws("s3", FOREIGN)
    s3.put_object(Bucket=app.arn, Key="with metadata", Body=b"x", Metadata={"who": "me"})
    assert s3.get_object(Bucket=app.arn, Key="with metadata")["Metadata"] == {"who": "me"}
    s3.delete_object(Bucket=app.arn, Key="with metadata")


def test_objects_by_bucket_name_and_by_arn(app: Any) -> None:
    s3 = app.world.aws("s3", FOREIGN)
    body = secrets.token_bytes(6 * 1024 * 1024)
    for bucket in (app.buckets[FOREIGN], app.arn):
        s3.put_object(Bucket=bucket, Key="a b/ü+.bin", Body=body, Metadata={"who": "me"}, ContentType="image/png")
        got = s3.get_object(Bucket=bucket, Key="a b/ü+.bin")
        assert got["Body"].read() == body
        assert (got["ContentType"], got["Metadata"]) == ("image/png", {"who": "me"})
        assert [each["Key"] for each in s3.list_objects_v2(Bucket=bucket, Prefix="a b/")["Contents"]] == ["a b/ü+.bin"]
        upload = s3.create_multipart_upload(Bucket=bucket, Key="parts")["UploadId"]
        parts = [
            {"PartNumber": number, "ETag": s3.upload_part(
                Bucket=bucket, Key="parts", UploadId=upload, PartNumber=number, Body=content
            )["ETag"]}
            for number, content in ((1, body), (2, b"end"))
        ]  # fmt: skip
        s3.complete_multipart_upload(Bucket=bucket, Key="parts", UploadId=upload, MultipartUpload={"Parts": parts})
        assert s3.head_object(Bucket=bucket, Key="parts")["ContentLength"] == len(body) + 3
        for key in ("a b/ü+.bin", "parts"):
            s3.delete_object(Bucket=bucket, Key=key)
        with pytest.raises(ClientError, match="404"):
            s3.head_object(Bucket=bucket, Key="parts")


def test_an_outage_of_the_foreign_region(app: Any) -> None:
    world = app.world
    world.nearpoint("fail", FOREIGN)
    try:
        assert [app.ask("FRA") for _ in range(10)] == [app.hello(OURS)] * 10
    finally:
        world.nearpoint("heal", FOREIGN)
    until = time.monotonic() + 20
    while app.ask("FRA") != app.hello(FOREIGN):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_replication_with_a_store_of_the_users_own(app: Any) -> None:
    """Written everywhere while the gateway, NATS and the copiers are killed: in the end both regions are the same."""
    world, name = app.world, "copied"
    buckets = {region: f"copied-{region}-{secrets.token_hex(3)}" for region in (OURS, FOREIGN)}
    s3 = {region: world.aws("s3", region) for region in buckets}
    for region, bucket in buckets.items():
        there = {} if region == OURS else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        s3[region].create_bucket(Bucket=bucket, **there)
    control, account = world.aws("s3control", "us-west-2"), world.settings["account_id"]
    control.create_multi_region_access_point(
        AccountId=account,
        ClientToken=name,
        Details={"Name": name, "Regions": [{"Bucket": bucket} for bucket in buckets.values()]},
    )
    enabled = replication(world, "enable", name)
    assert enabled.returncode == 0, enabled.stderr
    assert s3[FOREIGN].get_bucket_replication(Bucket=buckets[FOREIGN])["ReplicationConfiguration"]["Rules"]
    acknowledged: dict[str, list[bytes | None]] = {}
    for round, killed in enumerate((f"gateway-{FOREIGN}", "nats", "replication", None)):
        if killed is not None:
            os.kill(world.pids()[killed], signal.SIGKILL)
        for at in range(24):
            region, key = (OURS, FOREIGN)[at % 2], f"k {at % 6}"
            body = None if at % 11 == 10 else f"{round} {at}".encode()
            with contextlib.suppress(ClientError, BotoCoreError):
                if body is None:
                    s3[region].delete_object(Bucket=buckets[region], Key=key)
                else:
                    s3[region].put_object(
                        Bucket=buckets[region], Key=key, Body=body, Metadata={"at": str(at)}, Tagging=f"at={at}"
                    )
                acknowledged.setdefault(key, []).append(body)
    until = time.monotonic() + 60
    while not settled(world):
        assert time.monotonic() < until, replication(world, "status").stdout
        time.sleep(0.2)
    for key, written in acknowledged.items():
        here, there = (content(s3[region], buckets[region], key) for region in buckets)
        assert here == there
        assert here is None or here[0] in written
    checked = world.nearpoint("reconcile", "--check", check=False)
    assert checked.returncode == 0, checked.stdout
    control.delete_multi_region_access_point(AccountId=account, ClientToken="gone", Details={"Name": name})
    for region, bucket in buckets.items():
        versions = s3[region].list_object_versions(Bucket=bucket)
        for each in versions.get("Versions", []) + versions.get("DeleteMarkers", []):
            s3[region].delete_object(Bucket=bucket, Key=each["Key"], VersionId=each["VersionId"])
        s3[region].delete_bucket(Bucket=bucket)


def replication(world: Any, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`nearpoint replication ARGUMENTS --data …`."""
    command = [sys.executable, "-m", "nearpoint", "replication", *arguments, "--data", str(world.data)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def settled(world: Any) -> bool:
    """Whether nothing is pending, and everybody could be asked."""
    ran = replication(world, "status", "--json")
    if ran.returncode != 0:
        return False
    status = json.loads(ran.stdout)
    return not status["unreachable"] and all(pair["pending"] == 0 for pair in status["pairs"])


def content(s3: Any, bucket: str, key: str) -> tuple[bytes, str, dict[str, str], list[Any]] | None:
    """An object with what is on it; None where it is deleted."""
    try:
        got = s3.get_object(Bucket=bucket, Key=key)
    except s3.exceptions.NoSuchKey:
        return None
    assert got["ReplicationStatus"] in ("COMPLETED", "REPLICA")
    tags = s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]
    return got["Body"].read(), got["ETag"], got["Metadata"], tags


def test_it_is_kept_for_the_next_start_and_removed_in_the_end(app: Any) -> None:
    world = app.world
    world.down()
    world.up("--regions", OURS)
    world.forget_connections()
    assert app.ask(FOREIGN) == app.hello(FOREIGN)
    app.delete()
    assert world.aws("s3").list_buckets()["Buckets"] == []
