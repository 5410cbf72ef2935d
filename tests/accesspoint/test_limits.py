"""What a store would do wrong is refused or put right: the decision as a table, and conversations about it."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import msgspec
import pytest

from nearpoint.accesspoint.call import read_call
from nearpoint.accesspoint.limits import able, needs
from nearpoint.accesspoint.routes import Route
from nearpoint.awsproto.errors import AwsError
from nearpoint.regions.digests import digest
from nearpoint.signing import ChunkEncoder
from nearpoint.state.resources import StoreLimits
from nearpoint.wire.message import Headers, Request, StreamBody

NEAR, FAR = Route(region="near", bucket="near-bucket"), Route(region="far", bucket="far-bucket")


@pytest.mark.parametrize(
    ("method", "target", "fields", "wanted"),
    [
        ("GET", "/k", {}, ()),
        ("GET", "/k", {"If-Match": '"e"', "If-None-Match": "x"}, ()),
        ("PUT", "/k", {"If-None-Match": "*"}, ("conditional create",)),
        ("PUT", "/k", {"if-match": '"e"'}, ("conditional replace",)),
        ("DELETE", "/k", {"If-Match": '"e"'}, ("conditional delete",)),
        ("POST", "/k?uploadId=near.u", {"If-None-Match": "*"}, ("conditional create",)),
        ("GET", "/k?versionId=v", {}, ("version ids",)),
        ("GET", "/k?versionId=null", {}, ()),
        ("DELETE", "/k?version%49d=v", {}, ("version ids",)),
        ("GET", "/k?partNumber=1", {}, ("part reads",)),
        ("PUT", "/k?partNumber=1&uploadId=near.u", {}, ()),
        ("PUT", "/k?tagging", {}, ("tagging",)),
        ("GET", "/k?acl&versionId=v", {}, ("ACLs", "version ids")),
        ("PUT", "/k?legal-hold", {}, ("object lock",)),
        ("PUT", "/k?retention", {}, ("object lock",)),
        ("GET", "/k?attributes", {}, ("attributes",)),
        ("PUT", "/k", {"x-amz-tagging": "a=b"}, ("tagging",)),
        ("PUT", "/k?X-Amz-Tagging=a%3Db", {}, ("tagging",)),
        ("PUT", "/k", {"x-amz-object-lock-mode": "GOVERNANCE"}, ("object lock",)),
        ("GET", "/k", {"x-amz-server-side-encryption-customer-key": "k"}, ("customer keys",)),
        (
            "PUT",
            "/k",
            {"x-amz-copy-source": "b/k?versionId=v", "x-amz-copy-source-if-match": "e"},
            ("conditional copy", "version ids"),
        ),
    ],
)
def test_what_a_request_needs(method: str, target: str, fields: dict[str, str], wanted: tuple[str, ...]) -> None:
    request = Request(method, target, Headers(fields.items()))
    call = read_call(method, request.path, request.query, request.headers, ("near", "far"))
    assert needs(call, request) == wanted


def _limits(region: str, **fields: Any) -> StoreLimits:
    return StoreLimits(region=region, bucket=f"{region}-bucket", **fields)


def test_the_first_region_has_to_do_it_and_others_are_left_out() -> None:
    refusing = {"tagging": "tags are lost"}
    assert able((NEAR, FAR), (), {"near": _limits("near", refused=refusing)}) == (NEAR, FAR)
    assert able((NEAR, FAR), ("tagging",), {"far": _limits("far", refused=refusing)}) == (NEAR,)
    assert able((NEAR, FAR), ("tagging",), {"far": _limits("far", is_known=False)}) == (NEAR,)
    assert able((NEAR, FAR), ("ACLs",), {"near": _limits("near", refused=refusing)}) == (NEAR, FAR)
    with pytest.raises(AwsError, match="tags are lost") as refused:
        able((NEAR, FAR), ("tagging",), {"near": _limits("near", refused=refusing)})
    assert (refused.value.code, refused.value.status) == ("NotImplemented", 501)
    for limits in (_limits("near", is_known=False), _limits("near", unknown=("tagging",))):
        with pytest.raises(AwsError, match="is being found out") as later:
            able((NEAR, FAR), ("tagging",), {"near": limits})
        assert (later.value.status, later.value.headers["Retry-After"]) == (503, "1")


@pytest.fixture
def limited(world: Any) -> Any:
    """The world, with a near store that ignores conditions and versions, and says wrongly what it answers."""
    limits = _limits(
        "near",
        refused={"conditional create": "If-None-Match: * is ignored", "version ids": "versionId is ignored"},
        mended={"conditional read": "", "checksum verification": "", "ranges": "", "metadata": ""},
    )
    world.snapshot = msgspec.structs.replace(world.snapshot, generation=2, store_limits={limits.id: limits})
    return world


@pytest.mark.parametrize(
    ("method", "target", "fields", "body"),
    [
        ("PUT", "/new", [("If-None-Match", "*")], b"x"),
        ("GET", "/hello.txt?versionId=v", [], b""),
        ("DELETE", "/hello.txt?versionId=v", [], b""),
        (
            "POST",
            "/?delete",
            [],
            b"<Delete><Object><Key>hello.txt</Key><VersionId>v</VersionId></Object></Delete>",
        ),
    ],
)
async def test_what_the_store_would_do_wrong_is_not_asked_of_it(
    limited: Any, method: str, target: str, fields: list[tuple[str, str]], body: bytes
) -> None:
    status, headers, answer = await limited.ask(method, target, headers=fields, body=body)
    assert (status, b"<Code>NotImplemented</Code>" in answer, b"is ignored" in answer) == (501, True, True)
    assert headers.get("x-amz-request-id")
    assert not limited.stores["near"].requests
    assert not limited.stores["far"].requests


async def test_conditions_of_reads_are_held_here(limited: Any) -> None:
    etag = f'"{hashlib.md5(b"hello from near").hexdigest()}"'
    near = limited.stores["near"]
    near.ignores_conditions = True
    status, headers, body = await limited.ask("GET", "/hello.txt", headers=[("If-Match", etag)])
    assert (status, body, headers.get("x-nearpoint-region")) == (200, b"hello from near", "near")
    status, headers, body = await limited.ask("GET", "/hello.txt", headers=[("If-Match", '"other"')])
    assert (status, b"PreconditionFailed" in body) == (412, True)
    status, headers, body = await limited.ask("GET", "/hello.txt", headers=[("If-None-Match", f'"x", {etag}')])
    assert (status, headers.get("etag"), body) == (304, etag, b"")


async def test_a_part_is_a_206_and_carries_no_checksum_of_the_whole(limited: Any) -> None:
    limited.stores["near"].mislabels = True
    status, headers, body = await limited.ask("GET", "/hello.txt", headers=[("Range", "bytes=6-9")])
    assert (status, headers.get("content-range"), body) == (206, "bytes 6-9/15", b"from")
    assert headers.get("x-amz-checksum-crc32") is None
    assert [name for name, _ in headers if name.lower() == "x-amz-meta-odd"] == ["x-amz-meta-odd"]


@pytest.mark.parametrize("size", [5, 200_000])
async def test_checksums_are_held_here_where_the_store_does_not(limited: Any, size: int) -> None:
    data = b"z" * size
    wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()

    def body() -> Any:
        async def pieces() -> Any:
            for at in range(0, size, 50_000):
                yield data[at : at + 50_000]

        return StreamBody(pieces(), size)

    for name, value in (("x-amz-checksum-sha256", wrong), ("Content-MD5", "AAAAAAAAAAAAAAAAAAAAAA==")):
        status, _, answer = await limited.ask("PUT", "/wrong", headers=[(name, value)], body=body())
        assert (status, b"<Code>BadDigest</Code>" in answer) == (400, True)
    assert "/near-bucket/wrong" not in limited.stores["near"].objects
    right = base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert (await limited.ask("PUT", "/right", headers=[("x-amz-checksum-sha256", right)], body=body()))[0] == 200
    assert limited.stores["near"].objects["/near-bucket/right"] == data


@pytest.mark.parametrize("size", [5, 200_000])
async def test_a_store_that_reads_no_trailers_gets_the_content_alone(world: Any, size: int) -> None:
    limits = _limits("near", mended={"trailing checksums": "answers 411 MissingContentLength"})
    world.snapshot = msgspec.structs.replace(world.snapshot, generation=2, store_limits={limits.id: limits})
    data = b"z" * size
    for checked, status in ((b"other", 400), (data, 200)):
        encoder = ChunkEncoder()
        checksum = digest("CRC32", checked)
        body = encoder.feed(data) + encoder.finish({"x-amz-checksum-crc32": checksum})
        got, _, answer = await world.ask(
            "PUT",
            "/trailer",
            body=body,
            payload_hash="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            headers=[
                ("Content-Encoding", "aws-chunked"),
                ("X-Amz-Trailer", "x-amz-checksum-crc32"),
                ("X-Amz-Decoded-Content-Length", str(size)),
            ],
        )
        assert (got, b"BadDigest" in answer) == (status, status == 400)
    assert world.stores["near"].bodies == [data]
    sent = world.stores["near"].requests[-1].headers
    assert (sent.get("content-length"), sent.get("content-encoding"), sent.get("x-amz-trailer")) == (
        str(size), None, None,
    )  # fmt: skip
    assert sent.get("x-amz-checksum-crc32") == (checksum if size < 65_536 else None)
