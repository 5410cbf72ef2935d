"""Killed at any instant, a store has every write that it acknowledged, and every object whole."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from nearpoint.signing import Message, sign_v4

KILLS = 12
_SIZES = (10, 4096, 16_384, 16_385, 60_000)


class Writer(threading.Thread):
    """Overwrites its own few keys until the store is gone; remembers what was acknowledged and what was under way."""

    def __init__(self, store: Any, bucket: str, name: str, seed: int, known: dict[str, set[str]]) -> None:
        super().__init__()
        self._s3 = store.client(max_pool_connections=1)
        self._bucket = bucket
        self._name = name
        self._random = random.Random(seed)
        self.known = known  # key: digests that it may have now
        self.acknowledged = 0

    def run(self) -> None:
        while True:
            key = f"{self._name}/{self._random.randrange(4)}"
            body = self._random.randbytes(self._random.choice(_SIZES))
            digest = hashlib.sha256(body).hexdigest()
            before = self.known.get(key, {""})
            self.known[key] = before | {digest}
            try:
                self._s3.put_object(Bucket=self._bucket, Key=key, Body=body)
            except (BotoCoreError, ClientError):
                return
            self.known[key] = {digest}
            self.acknowledged += 1


def test_kill_9_loses_nothing_acknowledged_and_halves_nothing(own_store: Any) -> None:
    own_store.start()
    own_store.client().create_bucket(Bucket="crash-bucket")
    known: dict[str, dict[str, set[str]]] = {f"w{at}": {} for at in range(4)}
    acknowledged = 0
    pauses = random.Random(7)
    for kill in range(KILLS):
        writers = [Writer(own_store, "crash-bucket", name, kill, known[name]) for name in known]
        for writer in writers:
            writer.start()
        time.sleep(0.05 + pauses.random() * 0.25)
        own_store.kill()
        own_store.sock.close()  # the writers' connections in the backlog end with it
        for writer in writers:
            writer.join()
            acknowledged += writer.acknowledged
        own_store.__init__(own_store.folder)
        own_store.start()
        s3 = own_store.client()
        for keys in known.values():
            for key, digests in keys.items():
                try:
                    found = hashlib.sha256(s3.get_object(Bucket="crash-bucket", Key=key)["Body"].read()).hexdigest()
                except s3.exceptions.NoSuchKey:
                    found = ""
                assert found in digests, f"{key} after kill {kill}"
                keys[key] = {found}
    assert acknowledged > KILLS
    listed = own_store.client().list_objects_v2(Bucket="crash-bucket")["Contents"]
    assert {item["Key"] for item in listed} == {
        key for keys in known.values() for key, digests in keys.items() if digests != {""}
    }
    large = sum(1 for item in listed if item["Size"] > 16_384)
    _wait_for_files(own_store.folder / "data" / "content", large)


def _wait_for_files(folder: Path, count: int) -> None:
    """The sweep runs behind the start: in the end there is one file an object, no orphan."""
    files: list[Path] = []
    for _ in range(200):
        files = [path for path in folder.rglob("*") if path.is_file()]
        if len(files) == count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{len(files)} files for {count} objects")


def test_everything_is_there_after_a_restart(own_store: Any) -> None:
    own_store.start()
    s3 = own_store.client()
    s3.create_bucket(Bucket="kept-bucket")
    s3.put_bucket_versioning(Bucket="kept-bucket", VersioningConfiguration={"Status": "Enabled"})
    s3.put_bucket_cors(
        Bucket="kept-bucket", CORSConfiguration={"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}
    )
    body = os.urandom(100_000)
    s3.put_object(Bucket="kept-bucket", Key="k", Body=b"old")
    s3.put_object(Bucket="kept-bucket", Key="k", Body=body, Metadata={"m": "1"}, Tagging="t=1")
    upload = s3.create_multipart_upload(Bucket="kept-bucket", Key="m")["UploadId"]
    part = s3.upload_part(Bucket="kept-bucket", Key="m", UploadId=upload, PartNumber=1, Body=b"part")
    before = s3.list_object_versions(Bucket="kept-bucket")["Versions"]
    assert own_store.stop() == 0
    own_store.start()
    s3 = own_store.client()
    assert s3.list_object_versions(Bucket="kept-bucket")["Versions"] == before
    got = s3.get_object(Bucket="kept-bucket", Key="k")
    assert (got["Body"].read(), got["Metadata"], got["TagCount"]) == (body, {"m": "1"}, 1)
    assert s3.get_bucket_cors(Bucket="kept-bucket")["CORSRules"][0]["AllowedMethods"] == ["GET"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]}]}
    s3.complete_multipart_upload(Bucket="kept-bucket", Key="m", UploadId=upload, MultipartUpload=parts)
    assert s3.get_object(Bucket="kept-bucket", Key="m")["Body"].read() == b"part"


def test_stopping_lets_requests_finish(own_store: Any, caller_of: Any) -> None:
    own_store.start()
    caller = caller_of(own_store)
    assert caller.signed("PUT", "/drain-bucket").status == 200
    body = os.urandom(400_000)
    message = Message("PUT", "/drain-bucket/k", "", [("Host", caller.host)])
    digest = hashlib.sha256(body).hexdigest()
    signed = sign_v4(
        message, caller.credentials, region="us-east-1", service="s3", now=datetime.now(UTC), payload_hash=digest
    )
    lines = [("Host", caller.host), *signed, ("Content-Length", str(len(body)))]
    head = "PUT /drain-bucket/k HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
    with socket.create_connection(("127.0.0.1", own_store.port), timeout=20) as connection:
        connection.sendall(head.encode() + body[:200_000])
        time.sleep(0.3)
        own_store.process.terminate()
        time.sleep(0.3)
        assert own_store.process.poll() is None
        connection.sendall(body[200_000:])
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200")
    assert own_store.process.wait(20) == 0
    own_store.start()
    assert caller_of(own_store).signed("GET", "/drain-bucket/k").body == body


@pytest.mark.parametrize("before", [b"", b"the old one"])
def test_an_upload_that_breaks_off_leaves_what_was_there(own_store: Any, caller_of: Any, before: bytes) -> None:
    own_store.start()
    caller = caller_of(own_store)
    caller.signed("PUT", "/torn-bucket")
    if before:
        caller.signed("PUT", "/torn-bucket/k", before)
    message = Message("PUT", "/torn-bucket/k", "", [("Host", caller.host)])
    digest = hashlib.sha256(b"x" * 900_000).hexdigest()
    signed = sign_v4(
        message, caller.credentials, region="us-east-1", service="s3", now=datetime.now(UTC), payload_hash=digest
    )
    lines = [("Host", caller.host), *signed, ("Content-Length", "900000")]
    head = "PUT /torn-bucket/k HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
    with socket.create_connection(("127.0.0.1", own_store.port), timeout=20) as connection:
        connection.sendall(head.encode() + b"x" * 700_000)
        time.sleep(0.2)
    answer = caller.signed("GET", "/torn-bucket/k")
    assert (answer.status, answer.body if before else b"") == ((200, before) if before else (404, b""))
    _wait_for_files(own_store.folder / "data" / "content", 0)


@pytest.mark.parametrize("size", [10, 60_000])
def test_a_write_whose_client_gave_up_while_the_store_stood_still_is_not_made_afterwards(
    own_store: Any, caller_of: Any, size: int
) -> None:
    """The client has long written elsewhere, so a write made now would be newer than what followed it there."""
    own_store.start()
    caller = caller_of(own_store)
    caller.signed("PUT", "/still-bucket")
    body = os.urandom(size)
    own_store.process.send_signal(signal.SIGSTOP)
    for at in range(20):
        message = Message("PUT", f"/still-bucket/late-{at}", "", [("Host", caller.host)])
        digest = hashlib.sha256(body).hexdigest()
        signed = sign_v4(
            message, caller.credentials, region="us-east-1", service="s3", now=datetime.now(UTC), payload_hash=digest
        )
        lines = [("Host", caller.host), *signed, ("Content-Length", str(size))]
        head = f"PUT {message.path} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
        with socket.create_connection(("127.0.0.1", own_store.port), timeout=20) as connection:
            connection.sendall(head.encode() + body)
    own_store.process.send_signal(signal.SIGCONT)
    assert caller.signed("PUT", "/still-bucket/next", body).status == 200
    time.sleep(0.3)
    listed = own_store.client().list_objects_v2(Bucket="still-bucket")["Contents"]
    assert [item["Key"] for item in listed] == ["next"]
    _wait_for_files(own_store.folder / "data" / "content", 1 if size > 16_384 else 0)


@pytest.mark.parametrize("broken", ["running", "folder"])
def test_a_store_that_cannot_start_says_why_in_one_line(own_store: Any, tmp_path: Path, broken: str) -> None:
    if broken == "running":
        own_store.start()
    else:
        (own_store.folder).mkdir()
        (own_store.folder / "data").write_text("not a folder")
    second = type(own_store)(own_store.folder)
    second.launch()
    assert second.process.wait(20) == 1
    lines = [
        line for line in (own_store.folder / "log").read_text().splitlines() if line.startswith("nearpoint bucket")
    ]
    assert len(lines) == 1
    second.close()
