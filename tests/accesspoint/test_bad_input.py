"""Bad input: each case gets S3's own code and status with a request id, and nothing of it reaches a store."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from nearpoint.signing import Credentials, Message, presign_v4a, sign_v4a
from nearpoint.wire.exchange import RequestBodyError
from nearpoint.wire.message import BodyTooLargeError, Headers, Request, StreamBody, read_all

ALIAS = "mfzwi23gnjvgw.mrap"
HOST = f"{ALIAS}.accesspoint.s3-global.amazonaws.com"
ROOT = Credentials("AKIAROOT", "root-secret")
EMPTY = hashlib.sha256(b"").hexdigest()
Fields = list[tuple[str, str]]


def _signed(
    method: str = "PUT",
    target: str = "/key",
    body: bytes = b"content",
    *,
    host: str = HOST,
    more: Fields | None = None,
    payload_hash: str | None = None,
    after_s: float = 0,
    region_set: str = "*",
    credentials: Credentials = ROOT,
) -> tuple[Fields, bytes]:
    path, _, query = target.partition("?")
    fields = [("Host", host), *(more or [])]
    stated = payload_hash or hashlib.sha256(body).hexdigest()
    now = datetime.now(UTC) + timedelta(seconds=after_s)
    made = sign_v4a(
        Message(method, path, query, fields), credentials, region_set=region_set, now=now, payload_hash=stated
    )
    return [*fields, *made], body


def _changed(fields: Fields, name: str, change: Callable[[str], str]) -> Fields:
    return [(each, change(value) if each.lower() == name else value) for each, value in fields]


def _flipped(value: str) -> str:
    return value[:-6] + ("0" if value[-6] != "0" else "1") + value[-5:]


CASES: dict[str, tuple[str, str, tuple[Fields, bytes], str, int]] = {
    "unsigned": ("PUT", "/key", ([("Host", HOST)], b"x"), "AccessDenied", 403),
    "malformed authorization": (
        "PUT",
        "/key",
        ([("Host", HOST), ("Authorization", "AWS4-ECDSA-P256-SHA256 nonsense"), ("x-amz-content-sha256", EMPTY)], b""),
        "AuthorizationHeaderMalformed",
        400,
    ),
    "tampered signature": (
        "PUT",
        "/key",
        (_changed(_signed()[0], "authorization", _flipped), b"content"),
        "SignatureDoesNotMatch",
        403,
    ),
    "tampered header": (
        "PUT",
        "/key",
        (_changed(_signed(more=[("x-amz-meta-a", "1")])[0], "x-amz-meta-a", lambda _: "2"), b"content"),
        "SignatureDoesNotMatch",
        403,
    ),
    "unsigned x-amz header": (
        "PUT",
        "/key",
        ([*_signed()[0], ("x-amz-acl", "private")], b"content"),
        "AccessDenied",
        403,
    ),
    "tampered query": ("PUT", "/key?tagging", _signed(), "SignatureDoesNotMatch", 403),
    "tampered path": ("PUT", "/other", _signed(), "SignatureDoesNotMatch", 403),
    "other method": ("DELETE", "/key", _signed(), "SignatureDoesNotMatch", 403),
    "tampered body": ("PUT", "/key", (_signed()[0], b"CONTENT"), "XAmzContentSHA256Mismatch", 400),
    "no hash": (
        "PUT",
        "/key",
        ([one for one in _signed()[0] if one[0].lower() != "x-amz-content-sha256"], b"content"),
        "InvalidRequest",
        400,
    ),
    "skewed": ("PUT", "/key", _signed(after_s=-1000), "RequestTimeTooSkewed", 403),
    "from the future": ("PUT", "/key", _signed(after_s=1000), "RequestTimeTooSkewed", 403),
    "wrong region set": ("PUT", "/key", _signed(region_set="mars-*"), "AuthorizationHeaderMalformed", 400),
    "unknown key id": (
        "PUT",
        "/key",
        _signed(credentials=Credentials("AKIANOBODY", "x")),
        "InvalidAccessKeyId",
        403,
    ),
    "wrong secret": ("PUT", "/key", _signed(credentials=Credentials("AKIAROOT", "x")), "SignatureDoesNotMatch", 403),
    "forged session": (
        "PUT",
        "/key",
        _signed(credentials=Credentials("ASIAX", "x", "forged")),
        "InvalidToken",
        400,
    ),
    "no such alias": (
        "PUT",
        "/key",
        _signed(host=HOST.replace("mfzwi", "other")),
        "NoSuchAccessPoint",
        404,
    ),
    "long key": ("PUT", "/" + "k" * 1025, _signed(target="/" + "k" * 1025), "KeyTooLongError", 400),
    "key that is not UTF-8": ("PUT", "/%ff%fe", _signed(target="/%ff%fe"), "InvalidURI", 400),
    "bucket configuration": ("PUT", "/?policy", _signed(target="/?policy"), "MethodNotAllowed", 405),
    "foreign upload id": (
        "PUT",
        "/key?partNumber=1&uploadId=mars.x",
        _signed(target="/key?partNumber=1&uploadId=mars.x"),
        "NoSuchUpload",
        404,
    ),
    "signed for another host": (
        "PUT",
        "/key",
        (
            [("Host", HOST) if name == "Host" else (name, value) for name, value in _signed(host="other.example")[0]],
            b"x",
        ),
        "SignatureDoesNotMatch",
        403,
    ),
    "an expired signature again": ("PUT", "/key", _signed(after_s=-3600), "RequestTimeTooSkewed", 403),
    "SigV2": (
        "PUT",
        "/key",
        ([("Host", HOST), ("Authorization", "AWS AKIAROOT:c2lnbmF0dXJl"), ("Date", "now")], b"x"),
        "InvalidRequest",
        400,
    ),
    "presigned SigV2": (
        "PUT",
        "/key?AWSAccessKeyId=AKIAROOT&Expires=9999999999&Signature=c2ln",
        ([("Host", HOST)], b"x"),
        "InvalidRequest",
        400,
    ),
    "entities in CompleteMultipartUpload": (
        "POST",
        "/key?uploadId=near.x",
        _signed(
            "POST",
            "/key?uploadId=near.x",
            b'<!DOCTYPE d [<!ENTITY a "b">]><CompleteMultipartUpload>&a;</CompleteMultipartUpload>',
        ),
        "MalformedXML",
        400,
    ),
    "deep CompleteMultipartUpload": (
        "POST",
        "/key?uploadId=near.x",
        _signed("POST", "/key?uploadId=near.x", b"<CompleteMultipartUpload>" * 5000),
        "MalformedXML",
        400,
    ),
    "another document": (
        "POST",
        "/key?uploadId=near.x",
        _signed("POST", "/key?uploadId=near.x", b"<Delete/>"),
        "MalformedXML",
        400,
    ),
    "tags that are none": ("PUT", "/key?tagging", _signed("PUT", "/key?tagging", b"not xml"), "MalformedXML", 400),
    "an endless retention": (
        "PUT",
        "/key?retention",
        _signed("PUT", "/key?retention", b"<Retention>" + b" " * 70_000 + b"</Retention>"),
        "MaxMessageLengthExceeded",
        400,
    ),
    "two sub-resources": ("PUT", "/key?acl&tagging", _signed(target="/key?acl&tagging"), "MethodNotAllowed", 405),
    "entities in DeleteObjects": (
        "POST",
        "/?delete",
        _signed("POST", "/?delete", b'<!DOCTYPE d [<!ENTITY a "b">]><Delete><Object><Key>&a;</Key></Object></Delete>'),
        "MalformedXML",
        400,
    ),
    "too many keys": (
        "POST",
        "/?delete",
        _signed("POST", "/?delete", b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1001 + b"</Delete>"),
        "MalformedXML",
        400,
    ),
    "deep XML": ("POST", "/?delete", _signed("POST", "/?delete", b"<Delete>" * 5000), "MalformedXML", 400),
}


@pytest.mark.parametrize("name", CASES)
async def test_bad_requests_are_refused_in_s3s_terms(world: Any, name: str) -> None:
    method, target, (fields, body), code, status = CASES[name]
    got, headers, answer = await world.raw(Request(method, target, Headers(fields), body))
    assert (got, f"<Code>{code}</Code>".encode() in answer) == (status, True), answer[:500]
    assert headers.get("x-amz-request-id")
    assert b"<RequestId>" in answer
    assert not any(
        store.requests or store.objects.get(f"/{store.region}-bucket/key") for store in world.stores.values()
    )
    assert (await world.ask("GET", "/hello.txt"))[0] == 200  # nobody else is disturbed


@pytest.mark.parametrize(("signed_s", "expires_s", "code"), [(-100, 60, "AccessDenied"), (2000, 60, "AccessDenied")])
async def test_presigned_urls_out_of_their_time(world: Any, signed_s: int, expires_s: int, code: str) -> None:
    now = datetime.now(UTC) + timedelta(seconds=signed_s)
    query = presign_v4a(Message("GET", "/hello.txt", "", [("Host", HOST)]), ROOT, now=now, expires_s=expires_s)
    status, _, body = await world.raw(Request("GET", f"/hello.txt?{query}", Headers([("Host", HOST)])))
    assert (status, f"<Code>{code}</Code>".encode() in body) == (403, True)
    assert not world.stores["near"].requests


async def test_a_presigned_url_is_good_for_its_own_host_alone(world: Any) -> None:
    query = presign_v4a(Message("GET", "/hello.txt", "", [("Host", HOST)]), ROOT, now=datetime.now(UTC), expires_s=60)
    target = f"/hello.txt?{query}"
    assert (await world.raw(Request("GET", target, Headers([("Host", HOST)]))))[0] == 200
    status, _, body = await world.raw(Request("GET", target, Headers([("Host", f"{ALIAS}.other.example")])))
    assert (status, b"SignatureDoesNotMatch" in body) == (403, True)


async def _raw(world: Any, data: bytes, *, then_close: bool = False) -> bytes:
    reader, writer = await asyncio.open_connection(world.origin.host, world.origin.port)
    writer.write(data)
    if then_close:
        writer.write_eof()
    async with asyncio.timeout(20):
        head = await reader.read(65536)
    writer.close()
    return head


def _head(fields: Fields, target: str = "/key") -> bytes:
    return (f"PUT {target} HTTP/1.1\r\n" + "".join(f"{name}: {value}\r\n" for name, value in fields)).encode("latin-1")


@pytest.mark.parametrize("size", [7, 200_000])
async def test_a_body_shorter_than_declared_stores_nothing(world: Any, size: int) -> None:
    fields, body = _signed(body=b"x" * size)
    data = _head(fields) + f"Content-Length: {size}\r\n\r\n".encode() + body[:-1]
    await _raw(world, data, then_close=True)
    await asyncio.sleep(0.1)
    assert "/near-bucket/key" not in world.stores["near"].objects
    assert "/far-bucket/key" not in world.stores["far"].objects


@pytest.mark.parametrize("size", [7, 200_000])
@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (RequestBodyError(408, "the body stopped arriving"), 400, "RequestTimeout"),
        (RequestBodyError(400, "malformed body"), 400, "BadRequest"),
        (BodyTooLargeError("more"), 400, "EntityTooLarge"),
        (RuntimeError("a fault of ours"), 500, "InternalError"),
    ],
)
async def test_a_body_that_fails_on_the_way_is_answered_as_s3_does(
    world: Any, size: int, error: Exception, status: int, code: str
) -> None:
    async def broken() -> Any:
        yield b"x" * (size - 1)
        raise error

    fields, _ = _signed(body=b"x" * size)
    body = StreamBody(broken(), size)
    response = await world.node.handle(Request("PUT", "/key", Headers(fields), body))
    answer = await read_all(response.body, 65_536)
    assert (response.status, f"<Code>{code}</Code>".encode() in answer) == (status, True), answer
    assert b"a fault of ours" not in answer
    assert response.headers.get("x-amz-request-id")
    assert not any("/key" in path for store in world.stores.values() for path in store.objects)


async def test_what_follows_a_body_is_another_request(world: Any) -> None:
    fields, body = _signed()
    answer = await _raw(world, _head(fields) + b"Content-Length: 7\r\n\r\n" + body + b"garbage\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert world.stores["near"].objects["/near-bucket/key"] == b"content"


STREAMED = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


@pytest.mark.parametrize(
    "body",
    [
        b"7\r\ncontent\r\n0\r\nx-amz-checksum-crc32:AAAAAA==",
        b"8\r\ncontent\r\n0\r\n\r\n",
        b"zz\r\ncontent\r\n0\r\n\r\n",
        b"7\r\ncontentX\r\n0\r\n\r\n",
        b"7\r\ncontent\r\n7\r\ncontent\r\n0\r\n\r\n",
        b"7\r\ncontent\r\n",
        b"",
    ],
)
async def test_broken_chunk_framing_stores_nothing(world: Any, body: bytes) -> None:
    more = [
        ("Content-Encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "7"),
        ("x-amz-trailer", "x-amz-checksum-crc32"),
    ]
    fields, _ = _signed(more=more, payload_hash=STREAMED)
    status, _, answer = await world.raw(Request("PUT", "/key", Headers(fields), body))
    assert status == 400
    assert any(code in answer for code in (b"IncompleteBody", b"MalformedTrailerError", b"InvalidRequest"))
    assert not world.stores["near"].objects.get("/near-bucket/key")


async def test_a_long_body_that_proves_wrong_is_never_completed(world: Any) -> None:
    data = b"0123456789" * 30_000

    async def chunks() -> Any:
        for at in range(0, len(data), 50_000):
            yield data[at : at + 50_000]

    status, _, answer = await world.ask(
        "PUT", "/key", body=StreamBody(chunks(), len(data)), payload_hash=hashlib.sha256(b"other").hexdigest()
    )
    assert (status, b"XAmzContentSHA256Mismatch" in answer) == (400, True)
    assert all(f"/{name}-bucket/key" not in store.objects for name, store in world.stores.items())


KEYS = [
    "a/../b",
    "a//b",
    "./a",
    "a%2Fb",
    "%00%01",
    "caf%C3%A9",
    "%F0%9F%98%80",
    "a+b",
    "a%20b",
    "%26%3C%3E",
    "k" * 1024,
]


@pytest.mark.parametrize("key", KEYS)
async def test_every_legal_key_arrives_as_it_was(world: Any, key: str) -> None:
    from urllib.parse import unquote_to_bytes

    assert (await world.ask("PUT", f"/{key}", body=b"x"))[0] == 200
    (kept,) = (path for path in world.stores["near"].objects if path != "/near-bucket/hello.txt")
    assert unquote_to_bytes(kept.removeprefix("/near-bucket/")) == unquote_to_bytes(key)
    assert (await world.ask("GET", f"/{key}"))[2] == b"x"
