"""What stores can do, found out by trying: the embedded store, SeaweedFS, rclone, and stores that misbehave."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nearpoint.regions.capabilities import FEATURES, PREFIX, Capabilities, probe
from nearpoint.regions.catalog import StoreSpec
from nearpoint.regions.store import Store
from nearpoint.wire.client import Client
from nearpoint.wire.message import Headers, Request, Response
from nearpoint.wire.server import Server

_tokens = itertools.count(1)


def _now() -> datetime:
    return datetime.now(UTC)


async def _probe(store: Any, bucket: str | None = None, **change: Any) -> Capabilities:
    spec = {
        "region": store.region, "endpoint": store.endpoint, "access_key_id": store.access_key_id,
        "secret_key": store.secret_key, "signing_region": store.region,
    }  # fmt: skip
    timeout_s = change.pop("timeout_s", 10.0)
    clock = change.pop("clock", _now)
    client = Client()
    try:
        made = Store(StoreSpec(**{**spec, **change}), client, clock=_now)
        token = f"{os.getpid()}-{next(_tokens)}"
        return await probe(made, bucket or store.bucket, token=token, clock=clock, timeout_s=timeout_s)
    finally:
        await client.close()


def _left(store: Any) -> list[str]:
    listed = store.client().list_objects_v2(Bucket=store.bucket, Prefix=PREFIX)
    return [each["Key"] for each in listed.get("Contents", [])]


def _details(found: Capabilities) -> dict[str, str]:
    return {one.feature: one.detail for one in found.lacks}


async def test_the_embedded_store_does_it_all(near: Any) -> None:
    found = await _probe(near)
    assert (found.access, found.problem, found.clock_skew_s) == ("read-write", "", 0.0)
    assert _details(found) == {
        "versioning": "off for this bucket",
        "ACLs": "off for this bucket",
        "object lock": "off for this bucket",
        "customer keys": "answers 501 NotImplemented",
    }
    assert [one.feature for one in found.findings] == list(FEATURES)
    assert not any(one.remedy for one in found.findings)
    assert _left(near) == []


async def test_a_bucket_with_versions_is_left_as_it_was(near: Any) -> None:
    client = near.client()
    client.create_bucket(Bucket="versioned", CreateBucketConfiguration={"LocationConstraint": near.region})
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    found = await _probe(near, "versioned")
    assert (found.access, found.problem, set(_details(found))) == (
        "read-write",
        "",
        {"ACLs", "object lock", "customer keys"},
    )
    listed = client.list_object_versions(Bucket="versioned")
    assert "Versions" not in listed
    assert "DeleteMarkers" not in listed
    client.delete_bucket(Bucket="versioned")


async def test_seaweedfs(weed: Any) -> None:
    found = await _probe(weed)
    assert (found.access, found.problem) == ("read-write", "")
    assert _details(found) == {
        "versioning": "off for this bucket",
        "version ids": "versionId is ignored",
        "metadata": "names come back in other case",
        "attributes": "without checksums",
        "object lock": "off for this bucket",
    }
    assert (list(found.with_remedy("refuse")), list(found.with_remedy("mend"))) == (["version ids"], ["metadata"])
    assert _left(weed) == []


async def test_rclone_says_less_than_it_seems(rclone: Any) -> None:
    found = await _probe(rclone)
    assert (found.access, found.problem) == ("read-write", "")
    assert found.with_remedy("refuse") == {
        "version ids": "DeleteObjects ignores VersionId",
        "conditional create": "If-None-Match: * is ignored",
        "conditional replace": "If-Match is ignored",
        "conditional delete": "If-Match is ignored",
        "conditional copy": "x-amz-copy-source-if-match is ignored",
        "part reads": "partNumber is ignored",
        "attributes": "the object itself is answered",
        "tagging": "a request for its tags overwrites the object",
        "ACLs": "a request for its ACL overwrites the object",
        "object lock": "a request for its legal hold overwrites the object",
        "customer keys": "the client's key is ignored",
    }
    assert found.with_remedy("mend") == {
        "conditional read": "If-Match is ignored",
        "ranges": "parts are answered with 200 instead of 206",
        "metadata": "names come back in other case",
        "checksum verification": "a body that does not fit its CRC32 is kept",
        "trailing checksums": "answers 411 MissingContentLength",
    }
    assert {one.feature for one in found.findings if one.verdict == "yes"} == {
        "clock", "listing", "checksums", "copies", "multipart",
    }  # fmt: skip
    # On the disk: for minutes it may go on listing what has been overwritten and deleted in quick succession.
    assert not [path for path in (rclone.folder / PREFIX).rglob("*") if path.is_file()]


async def test_credentials_that_may_only_read(weed: Any) -> None:
    name, secret = weed.read_only
    found = await _probe(weed, access_key_id=name, secret_key=secret)
    assert (found.access, found.problem) == ("read-only", "")
    assert [one.feature for one in found.findings] == ["clock", "listing", "versioning"]


@pytest.mark.parametrize(
    ("store", "bucket", "change", "problem"),
    [
        ("near", "no-such-bucket", {}, "there is no bucket no-such-bucket"),
        ("near", None, {"secret_key": "wrong"}, "was answered 403 SignatureDoesNotMatch"),
        ("near", None, {"access_key_id": "WHO"}, "was answered 403 InvalidAccessKeyId"),
        ("weed", None, {"secret_key": "wrong"}, "was answered 403 SignatureDoesNotMatch"),
        ("near", None, {"endpoint": "http://127.0.0.1:1"}, "cannot be reached"),
        ("near", None, {"endpoint": "http://no-such-host.invalid"}, "cannot be reached"),
    ],
)
async def test_no_access(
    store: str, bucket: str | None, change: dict[str, Any], problem: str, request: pytest.FixtureRequest
) -> None:
    found = await _probe(request.getfixturevalue(store), bucket, **change)
    assert found.access == "none"
    assert problem in found.problem
    assert found.findings == ()


async def test_clocks_that_differ_are_seen(near: Any) -> None:
    found = await _probe(near, clock=lambda: _now() - timedelta(seconds=200))
    assert found.clock_skew_s == pytest.approx(200, abs=2)
    assert found.findings[0].verdict == "yes"
    found = await _probe(near, clock=lambda: _now() + timedelta(hours=1))
    assert (found.findings[0].feature, found.findings[0].verdict) == ("clock", "no")


class Odd:
    """A store that answers 200 to everything, but for what it is told to do with some requests."""

    region, bucket, access_key_id, secret_key = "odd", "b", "K", "S"

    def __init__(self, behave: Any) -> None:
        self.behave = behave
        self.endpoint = ""
        self.deleted: list[str] = []

    async def handle(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.deleted.append(request.target)
        answer: Response | None = await self.behave(request)
        return answer or Response(200, Headers([("ETag", '"x"')]), b"" if request.method == "HEAD" else b"<a/>")


async def _odd(behave: Any, sock: socket.socket, **change: Any) -> tuple[Odd, Capabilities]:
    odd = Odd(behave)
    server = Server(odd.handle)
    await server.start(sock)
    odd.endpoint = f"http://127.0.0.1:{sock.getsockname()[1]}"
    try:
        return odd, await _probe(odd, **change)
    finally:
        await server.drain(0.0)


async def test_a_store_that_hangs_costs_the_time_allowed(loopback_socket: socket.socket) -> None:
    async def hang(request: Request) -> Response | None:
        await asyncio.sleep(30)
        return None

    _, found = await _odd(hang, loopback_socket, timeout_s=0.2)
    assert (found.access, found.problem) == ("none", "no answer within 0.2 s")


async def test_what_hangs_is_not_known_and_the_rest_is(loopback_socket: socket.socket) -> None:
    async def hang_on_tags(request: Request) -> Response | None:
        if request.query == "tagging":
            await asyncio.sleep(30)
        return None

    odd, found = await _odd(hang_on_tags, loopback_socket, timeout_s=1.0)
    verdicts = {one.feature: one.verdict for one in found.findings}
    assert found.access == "read-write"
    assert (verdicts["tagging"], verdicts["conditional create"], verdicts["multipart"]) == ("unknown", "no", "no")
    assert {target.rsplit("/", 1)[1] for target in odd.deleted} >= {"object", "create", "replace", "tagged"}


async def test_a_store_that_cuts_connections(loopback_socket: socket.socket) -> None:
    async def cut(request: Request) -> Response | None:
        if request.method == "PUT" and not request.target.endswith("/object"):
            raise ConnectionResetError
        return None

    odd, found = await _odd(cut, loopback_socket)
    assert found.access == "read-write"
    assert {one.feature for one in found.lacks} >= {"conditional create", "multipart"}
    assert any(target.endswith("/create") for target in odd.deleted)


async def test_what_stays_is_said(loopback_socket: socket.socket) -> None:
    async def keep(request: Request) -> Response | None:
        return Response(403) if request.method == "DELETE" else None

    _, found = await _odd(keep, loopback_socket)
    assert found.problem.startswith("scratch objects may have stayed below .nearpoint-probe/")


@pytest.mark.parametrize("status", [301, 500, 503])
async def test_a_store_that_answers_no_question(loopback_socket: socket.socket, status: int) -> None:
    async def refuse(request: Request) -> Response | None:
        return Response(status, body=b"" if request.method == "HEAD" else b"<Error><Code>SlowDown</Code></Error>")

    _, found = await _odd(refuse, loopback_socket)
    assert (found.access, found.problem) == ("none", f"HEAD b was answered {status}")
