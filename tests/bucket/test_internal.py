"""The calls of replication: only for the store's own key, and nothing that arrives damaged is taken in."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearpoint.bucket.document import MANIFEST_BYTES_MAX, Manifest, frame

ETAG = "9dd4e461268c8034f5c8564e155c67a6"  # of b"x"


def version(**members: Any) -> Manifest:
    given = {"key": "k", "version": "v", "content": True, "time_us": 5, "origin": "eu", "size": 1, "etag": ETAG}
    return Manifest(**(given | {"head": "Content-Type: text/plain\r\n"} | members))


@pytest.fixture
def put(caller: Any, versioned: str) -> Any:
    """Sends versions to a new bucket: the answer."""
    return lambda body: caller.signed("PUT", f"/-/versions?bucket={versioned}", body)


@pytest.mark.parametrize("path", ["/-/outbox", "/-/owed", "/-/rules", "/-/history?bucket=b", "/-/versions?bucket=b"])
def test_nobody_else_gets_in(caller: Any, path: str) -> None:
    assert caller.send("GET", path, [("Host", caller.host)]).code == "AccessDenied"
    assert caller.signed("GET", path.replace("bucket=b", "bucket=bb")).status in (200, 404, 405)


def test_a_version_is_taken_in_once(put: Any, s3: Any, versioned: str) -> None:
    body = frame(version(tags=(("a", "b"),), amended_us=1)) + b"x"
    assert json.loads(put(body).body) == [{"outcome": "applied"}]
    assert json.loads(put(body + body).body) == [{"outcome": "had"}, {"outcome": "had"}]
    got = s3.get_object(Bucket=versioned, Key="k")
    assert (got["Body"].read(), got["VersionId"], got["ReplicationStatus"], got["TagCount"]) == (
        b"x",
        "v",
        "REPLICA",
        1,
    )
    assert got["ContentType"] == "text/plain"
    # Without its content it is asked for, and an older one goes below.
    older = frame(version(version="w", time_us=4, content=False))
    assert json.loads(put(older).body) == [{"outcome": "content"}]
    assert json.loads(put(frame(version(version="w", time_us=4)) + b"x").body) == [{"outcome": "applied"}]
    listed = s3.list_object_versions(Bucket=versioned)["Versions"]
    assert [(each["VersionId"], each["IsLatest"]) for each in listed] == [("v", True), ("w", False)]


def test_versions_of_the_same_moment_are_listed_in_one_order_whatever_the_page(
    put: Any, s3: Any, versioned: str
) -> None:
    stamps = [("eu", "a"), ("us", "b"), ("ap", "c"), ("us", "d")]
    for region, id in stamps:
        put(frame(version(version=id, origin=region)) + b"x")
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=versioned, PaginationConfig={"PageSize": 1})
    listed = [(each["VersionId"], each["IsLatest"]) for page in pages for each in page.get("Versions", [])]
    assert listed == [("d", True), ("b", False), ("a", False), ("c", False)]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"abc", 400),
        (frame(version()), 400),
        (struct.pack(">II", MANIFEST_BYTES_MAX + 1, 0), 400),
        (struct.pack(">II", 2, 0) + b"{}", 400),
        (struct.pack(">II", 2, zlib.crc32(b"{}")) + b"{}", 400),
        (frame(version(size=-1)), 400),
        (frame(version(size=2, parts=(1, 2))) + b"xxx", 400),
        (frame(version())[:-1] + b" " + b"x", 400),
    ],
)
def test_damaged_frames_are_refused(put: Any, body: bytes, status: int, s3: Any, versioned: str) -> None:
    assert put(body).status == status
    assert "Versions" not in s3.list_object_versions(Bucket=versioned)


@pytest.mark.parametrize(
    "members",
    [{"etag": "0" * 32}, {"checksum": "CRC32 FULL_OBJECT AAAAAA=="}, {"head": "Transfer-Encoding: chunked\r\n"},
     {"head": "x-amz-meta-a: b\n\r\n"}, {"time_us": 2**62}],
)  # fmt: skip
def test_a_version_that_is_not_what_it_says_harms_no_other(put: Any, members: dict[str, Any]) -> None:
    good = frame(version(key="good")) + b"x"
    outcomes = json.loads(put(frame(version(**members)) + b"x" + good).body)
    assert [each["outcome"] for each in outcomes] == ["refused", "applied"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
def test_no_bytes_bring_it_down(put: Any, noise: bytes, at: int, octet: int) -> None:
    body = bytearray(frame(version(key="fuzz")) + b"x" + noise)
    body[at % len(body)] = octet
    assert put(bytes(body)).status in (200, 400)
