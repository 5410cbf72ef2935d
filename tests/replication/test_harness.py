"""Whole worlds that are written to from every region at once, through access points and bucket endpoints, while their
processes are killed and frozen, links cut and slowed, a disk filled and a clock set wrong; then they heal.

Checked: every acknowledged write is in every region (versions never go, so superseded ones too); the regions are equal,
byte for byte with all that hangs on their objects, versions in the same order; of keys whose writer is known, what they
are is what was written last; nothing is pending; no status was ever ahead of the truth.

A seed replays its operations and faults, not how they interleave: `NEARPOINT_SEEDS=5,6 pytest …/test_harness.py`, or
`1-50`. `NEARPOINT_HARNESS_S` is how long each is written to. Even seeds have three regions, every third a wrong clock.

With a store of another maker in one region (`NEARPOINT_FOREIGN_SEEDS`), which is killed and frozen as well as its
gateway, only what a key is now has to be the same everywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from nearpoint.wire.client import Client
from nearpoint.wire.message import Headers, read_all

pytestmark = pytest.mark.timeout(900)

WRITING_S = float(os.environ.get("NEARPOINT_HARNESS_S", "5"))
FOREIGN_WRITING_S = float(os.environ.get("NEARPOINT_HARNESS_S", "2"))
REGIONS = ("us-east-1", "eu-west-1", "ap-south-1")
PART = 5 * 1024 * 1024
FAULTS = ("refuse", "blackhole", "slow", "errors")
DISK_MB = 900
DELETED = None
MODE = ("x-amz-checksum-mode", "ENABLED")
OF_REGION = ("date", "server", "connection", "x-amz-request-id", "x-amz-id-2", "x-amz-replication-status")


def seeds(name: str = "NEARPOINT_SEEDS", default: str = "1,2") -> list[int]:
    """`1,2,5-9` as numbers."""
    found: list[int] = []
    for each in os.environ.get(name, default).split(","):
        first, _, last = each.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


class Owned:
    """What a key with one writer may be. Of each region that took writes the last one; and what nobody answered for."""

    def __init__(self) -> None:
        self._last: dict[str, str | None] = {}
        self._unsure: set[str | None] = set()

    def attempt(self, value: str | None) -> None:
        self._unsure.add(value)

    def acknowledged(self, region: str, value: str | None, *, alone: bool) -> None:
        """`alone`: no other region can have been asked before, so that what was unsure is superseded."""
        self._last[region] = value
        if alone:
            self._unsure.clear()

    @property
    def may_be(self) -> set[str | None]:
        return {*self._last.values(), *self._unsure} | (set() if self._last else {DELETED})


class Writer(threading.Thread):
    """Writes keys of its own, and keys that others write too, to a bucket or to the access point."""

    def __init__(self, world: Any, region: str, where: str, name: str, own_keys: int = 6) -> None:
        super().__init__(name=name, daemon=True)
        self._own_keys = own_keys
        self._s3 = world.s3(region)
        self._region = region
        self._bucket = where
        self.by_access_point = where.startswith("arn:")
        self._chance = random.Random(name)
        self.stopping = threading.Event()
        self.acknowledged: list[tuple[str, str, str]] = []  # key, version, region
        self.own: dict[str, Owned] = {}
        self.keys: set[str] = set()
        self.deleted: dict[str, int] = {}  # the number of the last try to delete a key
        self.failed: Counter[str] = Counter()

    def run(self) -> None:
        number = 0
        while not self.stopping.is_set():
            number += 1
            mine = self._chance.random() < 0.6
            key = (
                f"{self.name}/{self._chance.randrange(self._own_keys)}"
                if mine
                else f"shared/{self._chance.randrange(4)}"
            )
            roll = self._chance.random()
            body = f"{self.name} {number} ".encode() * self._chance.choice((1, 30, 3000))
            if 0.2 <= roll < 0.3:
                self._tag(key, number)
                continue
            value = DELETED if roll < 0.15 else "parts" if roll < 0.19 else hashlib.md5(body).hexdigest()
            owned = self.own.setdefault(key, Owned()) if mine else Owned()
            owned.attempt(value)
            self.keys.add(key)
            if value is DELETED:
                self.deleted[key] = number
            try:
                answer = self._write(key, value, body, number)
            except (ClientError, BotoCoreError) as error:
                self.failed[type(error).__name__] += 1
                self.stopping.wait(0.05)
                continue
            region = answer["ResponseMetadata"]["HTTPHeaders"].get("x-nearpoint-region", self._region)
            self.acknowledged.append((key, str(answer["VersionId"]), region))
            owned.acknowledged(region, value, alone=not self.by_access_point)

    def _write(self, key: str, value: str | None, body: bytes, number: int) -> Any:
        where = {"Bucket": self._bucket, "Key": key}
        if value is DELETED:
            return self._s3.delete_object(**where)
        if value != "parts":
            return self._s3.put_object(**where, Body=body, Metadata={"n": str(number)}, Tagging=f"n={number}")
        upload = self._s3.create_multipart_upload(**where, Metadata={"n": str(number)})["UploadId"]
        parts = []
        for at, content in enumerate((bytes([number % 256]) * PART, b"end"), 1):
            made = self._s3.upload_part(**where, UploadId=upload, PartNumber=at, Body=content)
            parts.append({"PartNumber": at, "ETag": made["ETag"], "ChecksumCRC32": made["ChecksumCRC32"]})
        return self._s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": parts})

    def _tag(self, key: str, number: int) -> None:
        tags = {"TagSet": [{"Key": "n", "Value": str(number)}]}
        with contextlib.suppress(ClientError, BotoCoreError):
            self._s3.put_object_tagging(Bucket=self._bucket, Key=key, Tagging=tags)


class Auditor(threading.Thread):
    """Takes COMPLETED at its word: what says so has to be in every other region at once."""

    def __init__(self, world: Any, buckets: dict[str, str], writers: list[Writer], seed: int) -> None:
        super().__init__(name=f"auditor of {seed}", daemon=True)
        self._buckets = buckets
        self._s3 = {region: world.s3(region) for region in buckets}
        self._writers = writers
        self._chance = random.Random(f"auditor {seed}")
        self.stopping = threading.Event()
        self.believed = 0
        self.lies: list[str] = []

    def run(self) -> None:
        while not self.stopping.wait(0.01):
            known = self._chance.choice(self._writers).acknowledged
            if known:
                with contextlib.suppress(BotoCoreError):
                    self._look(*self._chance.choice(known[-20:]))

    def _look(self, key: str, version: str, region: str) -> None:
        if self._status(region, key, version) != "COMPLETED":
            return
        for other in self._buckets.keys() - {region}:
            if self._status(other, key, version) == "NoSuchVersion":
                self.lies.append(f"{key} {version} is COMPLETED in {region} and not in {other}")
            self.believed += 1

    def _status(self, region: str, key: str, version: str) -> str:
        where = {"Bucket": self._buckets[region], "Key": key, "VersionId": version}
        try:
            return str(self._s3[region].head_object(**where).get("ReplicationStatus"))
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return {404: "NoSuchVersion", 405: "marker"}.get(status, "nobody knows")


class Reader(threading.Thread):
    """Takes COMPLETED at its word where a key is known by what it is now, its writes being numbered by one writer."""

    def __init__(self, world: Any, buckets: dict[str, str], writers: list[tuple[str, Writer]], seed: int) -> None:
        super().__init__(name=f"reader of {seed}", daemon=True)
        self._buckets = buckets
        self._s3 = {region: world.s3(region) for region in buckets}
        self._writers = writers
        self._chance = random.Random(f"reader {seed}")
        self.stopping = threading.Event()
        self.believed = 0
        self.lies: list[str] = []

    def run(self) -> None:
        while not self.stopping.wait(0.01):
            region, writer = self._chance.choice(self._writers)
            keys = list(writer.own)
            if keys:
                with contextlib.suppress(BotoCoreError):
                    self._look(region, writer, self._chance.choice(keys))

    def _look(self, region: str, writer: Writer, key: str) -> None:
        status, number = self._head(region, key)
        if status != "COMPLETED":
            return
        for other in self._buckets.keys() - {region}:
            there, theirs = self._head(other, key)
            gone = there == "nothing" and writer.deleted.get(key, 0) < number
            if gone or (there in ("REPLICA", "PENDING", "COMPLETED") and theirs < number):
                self.lies.append(f"{key} is COMPLETED in {region} as {number}, in {other} it is {there} {theirs}")
            self.believed += 1

    def _head(self, region: str, key: str) -> tuple[str, int]:
        try:
            found = self._s3[region].head_object(Bucket=self._buckets[region], Key=key)
        except ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return ("nothing" if status == 404 else "nobody knows"), 0
        return str(found.get("ReplicationStatus")), int(found["Metadata"]["n"])


def disturb_store(store: Any, chance: random.Random) -> str:
    """Kill a store of another maker and start it again, or let it stand still. What it was."""
    if chance.random() < 0.6:
        store.kill()
        time.sleep(chance.random())
        store.start()
        return "kill the store"
    store.signal(signal.SIGSTOP)
    time.sleep(2 * chance.random())
    store.signal(signal.SIGCONT)
    return "freeze the store"


def disturb(world: Any, chance: random.Random, until: float, skew: bool, store: Any = None) -> Counter[str]:
    """Let one thing after the other happen, to `store` among others. What did."""
    names = [row["name"] for row in world.ask("GET", "/status")["processes"] if row["name"] != "supervisor"]
    done: Counter[str] = Counter()
    while time.monotonic() < until:
        if store is not None and chance.random() < 0.2:
            done[disturb_store(store, chance)] += 1
            continue
        region = chance.choice(world.regions)
        roll = chance.random()
        if roll < 0.55:
            name = chance.choice(names)
            if roll < 0.45:
                world.kill(name)
                done[f"kill {name}"] += 1
                time.sleep(chance.random())
            else:
                world.freeze(name, 2 * chance.random())
                done[f"freeze {name}"] += 1
        elif roll < 0.85:
            how = chance.choice(FAULTS)
            world.ask("PUT", f"/faults/{region}", {"how": how})
            time.sleep(chance.random() * 1.5)
            world.ask("DELETE", f"/faults/{region}")
            done[f"{how} {region}"] += 1
        elif roll < 0.95 or not skew:
            filler = world.fill_disk()
            if filler is not None:
                time.sleep(chance.random())
                filler.unlink()
                done["full disk"] += 1
        else:
            seconds = chance.choice((-60, -5, 0, 3, 40))
            world.skew(region, seconds)
            world.kill(f"store-{region}")
            done[f"clock {seconds:+} s"] += 1
    return done


@pytest.mark.parametrize("seed", seeds())
def test_nothing_acknowledged_is_lost_and_the_regions_are_equal(make_live: Callable[..., Any], seed: int) -> None:
    world = make_live(*REGIONS[: 2 if seed % 2 else 3])
    skewed = seed % 3 == 0
    chance = random.Random(seed)
    if skewed:
        world.skew(chance.choice(world.regions), chance.choice((-45, 45)))
    world.own_disk(chance.choice(world.regions), DISK_MB)
    world.start()
    buckets = {region: f"harness-{region}" for region in world.regions}
    arn = world.make_access_point("harness", buckets)
    writers = []
    for region in world.regions:
        writers += [Writer(world, region, buckets[region], f"{seed}-{region}-{at}") for at in range(2)]
        writers.append(Writer(world, region, arn, f"{seed}-{region}-ap"))
    auditor = Auditor(world, buckets, writers, seed)
    threads: list[Any] = [*writers, auditor]
    for thread in threads:
        thread.start()
    try:
        happened = disturb(world, chance, time.monotonic() + WRITING_S, skewed)
    finally:
        for thread in threads:
            thread.stopping.set()
    for thread in threads:
        thread.join()
    healed = time.monotonic()
    world.wait_until_settled()
    settled_s = time.monotonic() - healed
    acknowledged = [each for writer in writers for each in writer.acknowledged]
    failed = sum((writer.failed for writer in writers), Counter())
    print(
        f"seed {seed}: {len(world.regions)} regions, {len(acknowledged)} acknowledged, {failed.total()} failed, "
        f"settled in {settled_s:.1f} s, {auditor.believed} statuses held to their word; {dict(happened)}",
        flush=True,
    )
    assert len(acknowledged) > 20, failed
    assert not auditor.lies, auditor.lies[:3]
    seen = {region: asyncio.run(everything(world, region, bucket)) for region, bucket in buckets.items()}
    for region, found in seen.items():
        there = {(key, version) for key, version, *_ in found}
        lost = [each for each in acknowledged if each[:2] not in there]
        assert not lost, f"seed {seed}: {lost[:3]} are not in {region}"
        assert found == seen[world.regions[0]], f"seed {seed}: {region} differs from {world.regions[0]}"
        # A clock that is wrong may put a write that fell over to another region below an older one: see `merge`.
        check_current(found, [each for each in writers if not (skewed and each.by_access_point)], f"seed {seed}")
    compared = json.loads(world.command("reconcile", "--check", "--json"))
    assert all(each["missing"] == each["amended"] == 0 for each in compared), compared


async def everything(world: Any, region: str, bucket: str) -> list[tuple[Any, ...]]:
    """Every version and delete marker as they are listed: key, id, time, whether it is current, entity tag, and digests
    of all that hangs on it. Asserts that every status is true."""
    listed: list[dict[str, Any]] = []
    for page in world.client("s3", region, 3).get_paginator("list_object_versions").paginate(Bucket=bucket):
        listed += [each | {"marker": True} for each in page.get("DeleteMarkers", [])] + page.get("Versions", [])
    client = Client()
    store = world.store(region, client)
    at_once = asyncio.Semaphore(8)

    async def read(each: dict[str, Any]) -> tuple[Any, ...]:
        head = (each["Key"], each["VersionId"], each["LastModified"], each["IsLatest"])
        if "marker" in each:
            return (*head, DELETED)
        query = f"versionId={each['VersionId']}"
        async with at_once:
            got = await store.send("GET", bucket, each["Key"], query=query, headers=Headers([MODE]))
            digest = hashlib.md5()
            async for chunk in got.body:
                digest.update(chunk)
            tags = await store.send("GET", bucket, each["Key"], query=f"tagging&{query}")
            tagging = await read_all(tags.body, 2**20)
        assert (got.status, tags.status) == (200, 200), each
        status = got.headers.get("x-amz-replication-status")
        assert status in ("COMPLETED", "REPLICA"), (each["Key"], status)
        fields = sorted((name.lower(), value) for name, value in got.headers if name.lower() not in OF_REGION)
        return (*head, each["ETag"].strip('"'), digest.hexdigest(), tagging, str(fields))

    try:
        found = await asyncio.gather(*map(read, listed))
    finally:
        await client.close()
    return sorted(found, key=lambda each: each[:2])


def check_current(found: list[tuple[Any, ...]], writers: list[Writer], what: str) -> None:
    """Of keys with one writer it is known what they are: nothing deleted is back, nothing newer is hidden."""
    current = {key: etag for key, _, _, is_latest, etag, *_ in found if is_latest}
    for writer in writers:
        for key, owned in writer.own.items():
            etag = current.get(key)
            value = "parts" if etag is not None and "-" in etag else etag
            assert value in owned.may_be, f"{what}: {key} is {value}, not one of {owned.may_be}"


@pytest.mark.parametrize("seed", seeds("NEARPOINT_FOREIGN_SEEDS", "1"))
def test_a_key_is_the_same_everywhere_with_a_store_of_another_maker(
    make_live: Callable[..., Any], seaweedfs_in: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    chance = random.Random(f"foreign {seed}")
    store = seaweedfs_in(tmp_path_factory.mktemp("seaweedfs"), "AKIAFOREIGNSTORE0000", "foreignsecret")
    where = chance.choice(REGIONS[:2])
    world = make_live(
        *REGIONS[:2], foreign={where: f"http://AKIAFOREIGNSTORE0000:foreignsecret@127.0.0.1:{store.port}"}
    )
    world.start()
    buckets = {region: f"foreign-{region}" for region in world.regions}
    arn = world.make_access_point("foreign", buckets)
    writers = [
        (region, Writer(world, region, bucket, f"{seed}-{region}-{at}", 60))
        for region, bucket in buckets.items()
        for at in range(2)
    ]
    everywhere = [Writer(world, region, arn, f"{seed}-{region}-ap") for region in world.regions]
    reader = Reader(world, buckets, writers, seed)
    every = [*(writer for _, writer in writers), *everywhere]
    threads: list[Any] = [*every, reader]
    for thread in threads:
        thread.start()
    try:
        happened = disturb(world, chance, time.monotonic() + FOREIGN_WRITING_S, skew=False, store=store)
    finally:
        for thread in threads:
            thread.stopping.set()
    for thread in threads:
        thread.join()
    healed = time.monotonic()
    world.wait_until_settled()
    keys = sorted(set().union(*(writer.keys for writer in every)))
    seen = wait_until_equal(world, buckets, keys)
    print(
        f"foreign seed {seed}: {where} is foreign, {sum(len(each.acknowledged) for each in every)} acknowledged, "
        f"{sum(each.failed.total() for each in every)} failed, the same after {time.monotonic() - healed:.1f} s, "
        f"{reader.believed} statuses held to their word; {dict(happened)}",
        flush=True,
    )
    assert sum(len(each.acknowledged) for each in every) > 20
    assert not reader.lies, reader.lies[:3]
    for key in keys:
        first, *others = (
            {field: value for field, value in seen[region][key].items() if field != "status"} for region in buckets
        )
        assert all(first == other for other in others), f"foreign seed {seed}: {key} is {first}, and {others}"
        assert all(seen[region][key].get("status") in (None, "COMPLETED", "REPLICA") for region in buckets), key
    for writer in every:
        for key, owned in writer.own.items():
            etag = seen[where][key].get("etag")
            value = "parts" if etag is not None and "-" in etag else etag
            assert value in owned.may_be, f"foreign seed {seed}: {key} is {value}, not one of {owned.may_be}"
    compared = json.loads(world.command("reconcile", "--check", "--json"))
    assert all(each["missing"] == each["amended"] == 0 for each in compared), compared


def wait_until_equal(world: Any, buckets: dict[str, str], keys: list[str]) -> dict[str, dict[str, dict[str, str]]]:
    """What the keys are in each region, once it is the same and no copy is under way; at last, what they are.

    A gateway waits before it ends a write whose answer never came, and copies it then.
    """
    until = time.monotonic() + 30
    while True:
        seen = {region: asyncio.run(as_it_is(world, region, bucket, keys)) for region, bucket in buckets.items()}
        first, *others = seen.values()
        said = [key.get("status") for found in seen.values() for key in found.values()]
        alike = all(
            {k: v for k, v in first[key].items() if k != "status"}
            == {k: v for k, v in other[key].items() if k != "status"}
            for other in others
            for key in keys
        )
        if (alike and "PENDING" not in said) or time.monotonic() > until:
            return seen
        time.sleep(0.5)


async def as_it_is(world: Any, region: str, bucket: str, keys: list[str]) -> dict[str, dict[str, str]]:
    """What each key is: its status, and digests of content, tags, and what is said of it. Empty: it is not there."""
    client = Client()
    store = world.store(region, client)
    at_once = asyncio.Semaphore(8)

    async def read(key: str) -> dict[str, str]:
        async with at_once:
            got = await store.send("GET", bucket, key)
            digest = hashlib.md5()
            async for chunk in got.body:
                digest.update(chunk)
            if got.status == 404:
                return {}
            tags = await store.send("GET", bucket, key, query="tagging")
            tagging = await read_all(tags.body, 2**20)
        assert (got.status, tags.status) == (200, 200), (region, key, got.status, tags.status)
        fields = {name: got.headers.get(name) or "" for name in ("content-type", "content-length", "x-amz-meta-n")}
        pairs = sorted(re.findall(rb"<Key>(.*?)</Key>\s*<Value>(.*?)</Value>", tagging))
        status = got.headers.get("x-amz-replication-status") or ""
        etag = (got.headers.get("etag") or "").strip('"')
        return {"status": status, "etag": etag, "content": digest.hexdigest(), "tags": str(pairs), **fields}

    try:
        return dict(zip(keys, await asyncio.gather(*map(read, keys)), strict=True))
    finally:
        await client.close()
