"""Addresses, keys, bodies on their way, and a conversation with a store."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearpoint.awsproto.errors import AwsError
from nearpoint.regions.catalog import CatalogError, StoreSpec
from nearpoint.regions.forward import forward, outgoing_headers, outgoing_query
from nearpoint.regions.payload import Payload, PayloadSpentError, payload_of
from nearpoint.regions.store import Store
from nearpoint.signing import (
    STREAMING_HMAC,
    STREAMING_HMAC_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED_PAYLOAD,
    ChunkEncoder,
    Credentials,
    Message,
    Verified,
    read_claim,
    sign_v4,
    verify,
)
from nearpoint.wire.client import Client, Origin, UpstreamError
from nearpoint.wire.message import Body, Headers, Request, Response, StreamBody, read_all
from nearpoint.wire.server import Server

KEY = Credentials("AK", "SK", "session-token")
CLIENT = Credentials("CK", "CS")


def _spec(**change: Any) -> StoreSpec:
    values: dict[str, Any] = {
        "region": "eu",
        "endpoint": "https://s3.example.net",
        "access_key_id": "AK",
        "secret_key": "SK",
    }
    return StoreSpec(**{**values, **change})


def _store(spec: StoreSpec, client: Any = None, connect_to: Origin | None = None) -> Store:
    return Store(spec, client, clock=lambda: datetime.now(UTC), connect_to=connect_to)


@pytest.mark.parametrize(
    ("change", "bucket", "key", "expected"),
    [
        ({}, None, None, ("s3.example.net", "/")),
        ({}, "b", None, ("s3.example.net", "/b")),
        ({}, "b", "a/../b//c é+?%", ("s3.example.net", "/b/a/../b//c%20%C3%A9%2B%3F%25")),
        ({"addressing": "virtual"}, "b", "k", ("b.s3.example.net", "/k")),
        ({"addressing": "virtual"}, "b", None, ("b.s3.example.net", "/")),
        ({"endpoint": "http://h:8333/s3/"}, "b", "k", ("h:8333", "/s3/b/k")),
        ({}, "b", "/", ("s3.example.net", "/b//")),
        ({}, "b", "bad\udcff", ("s3.example.net", "/b/bad%FF")),
    ],
)
def test_addresses(change: dict[str, Any], bucket: str, key: str, expected: tuple[str, str]) -> None:
    assert _store(_spec(**change)).address(bucket, key) == expected


def test_the_connection_follows_from_the_endpoint() -> None:
    assert _store(_spec()).origin == Origin(host="s3.example.net", port=443, tls=True, server_name="s3.example.net")
    assert _store(_spec(endpoint="http://[::1]:9000")).origin == Origin(host="::1", port=9000)


@pytest.mark.parametrize(
    "endpoint", ["s3.example.net", "ftp://x", "http://", "http://u:p@h", "http://h/?q", "http://h:x"]
)
def test_endpoints_that_are_none(endpoint: str) -> None:
    with pytest.raises(CatalogError, match="region eu"):
        _spec(endpoint=endpoint)


def test_secrets_do_not_show() -> None:
    assert "SK" not in repr(_spec())


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ""),
        ("a=1&&b", "a=1&&b"),
        ("X-Amz-Algorithm=x&a=%2F&X-Amz-Signature=1&b", "a=%2F&b"),
        ("x-amz-security-token=1&x-amz-acl=private", "x-amz-acl=private"),
        ("%58-Amz-Date=1&c", "c"),
        ("X-Amz-Region-Set=%2A&X-Amz-Credential=c&X-Amz-Expires=1&X-Amz-SignedHeaders=host", ""),
    ],
)
def test_outgoing_queries(query: str, expected: str) -> None:
    assert outgoing_query(query) == expected


def test_outgoing_headers_leave_hop_and_signature_behind() -> None:
    incoming = Headers(
        [
            ("Host", "h"),
            ("Connection", "close, X-Private"),
            ("X-Private", "1"),
            ("Authorization", "a"),
            ("X-Amz-Date", "d"),
            ("X-Amz-Region-Set", "*"),
            ("X-Amz-Security-Token", "t"),
            ("Expect", "100-continue"),
            ("TE", "trailers"),
            ("x-amz-meta-B", "caf\xe9  two"),
            ("Range", "bytes=0-1"),
            ("Content-Encoding", "br"),
            ("Content-Length", "0"),
        ]
    )
    payload = Payload(_streamed(b""), length=0, headers=[("Content-Encoding", "br")])
    assert list(outgoing_headers(incoming, payload)) == [
        ("x-amz-meta-B", "caf\xe9  two"),
        ("Range", "bytes=0-1"),
        ("Content-Encoding", "br"),
    ]


def _streamed(data: bytes, size: int = 1000) -> Body:
    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(data), size):
            yield data[at : at + size]

    return StreamBody(chunks(), len(data))


def _verified(payload_hash: str, extra: list[tuple[str, str]] | None = None) -> tuple[Headers, Verified, datetime]:
    now = datetime.now(UTC).replace(microsecond=0)
    fields = [("Host", "h"), *(extra or [])]
    signed = sign_v4(Message("PUT", "/k", "", fields), CLIENT, region="r", now=now, payload_hash=payload_hash)
    message = Message("PUT", "/k", "", [*fields, *signed])
    claim = read_claim(message)
    assert claim is not None
    return Headers(message.headers), verify(claim, message, CLIENT.secret_key, now=now), now


def _chunked(mode: str, data: bytes, verified: Verified, now: datetime, trailers: dict[str, str] | None) -> bytes:
    encoder = ChunkEncoder(mode, CLIENT, signed_at=now, region="r", seed=verified.claim.signature)
    return encoder.feed(data[: len(data) // 2]) + encoder.feed(data[len(data) // 2 :]) + encoder.finish(trailers)


async def _drain(body: Body) -> bytes:
    return await read_all(body, 1 << 24)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=5000), st.integers(1, 6000), st.sampled_from([STREAMING_HMAC, STREAMING_HMAC_TRAILER]))
async def test_signed_chunks_are_checked_and_taken_off(data: bytes, size: int, mode: str) -> None:
    trailers = {"x-amz-checksum-crc32": "AAAAAA=="} if mode == STREAMING_HMAC_TRAILER else None
    extra = [("x-amz-decoded-content-length", str(len(data))), ("Content-Encoding", "aws-chunked")]
    if trailers:
        extra.append(("x-amz-trailer", "x-amz-checksum-crc32"))
    headers, verified, now = _verified(mode, extra)
    framed = _chunked(mode, data, verified, now, trailers)
    payload = payload_of(_streamed(framed, size), headers, verified)
    sent = await _drain(payload.open())
    if trailers:
        assert payload.payload_hash == STREAMING_UNSIGNED_TRAILER
        again = ChunkEncoder()
        assert sent == again.feed(data) + again.finish(trailers)
        assert ("X-Amz-Trailer", "x-amz-checksum-crc32") in payload.headers
    else:
        assert (payload.payload_hash, sent, payload.headers) == (UNSIGNED_PAYLOAD, data, [])


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=3000), st.data())
async def test_a_changed_byte_never_lets_the_whole_body_out(data: bytes, pick: st.DataObject) -> None:
    extra = [("x-amz-decoded-content-length", str(len(data)))]
    headers, verified, now = _verified(STREAMING_HMAC, extra)
    framed = bytearray(_chunked(STREAMING_HMAC, data, verified, now, None))
    at = pick.draw(st.integers(0, len(framed) - 1))
    framed[at] ^= pick.draw(st.integers(1, 255))
    payload = payload_of(_streamed(bytes(framed), 100), headers, verified)
    out = bytearray()
    try:
        async for piece in payload.open():
            out += piece
    except AwsError:
        assert payload.failure is not None
        assert len(out) < len(data)
    else:
        assert bytes(out) == data  # the case of a hex digit, and what else means the same


@pytest.mark.parametrize("size", [0, 1, 999, 1000, 5000])
async def test_a_wrong_digest_holds_the_last_piece_back(size: int) -> None:
    data = b"x" * size
    headers, verified, _ = _verified(hashlib.sha256(b"other").hexdigest())
    out: list[bytes] = []

    async def pass_on() -> None:
        async for piece in payload_of(_streamed(data), headers, verified).open():
            out.append(piece)

    with pytest.raises(AwsError) as caught:
        await pass_on()
    assert caught.value.code == "XAmzContentSHA256Mismatch"
    assert len(b"".join(out)) < len(data) or not data


async def test_a_kept_body_can_be_sent_again_and_a_streamed_one_cannot() -> None:
    headers, verified, _ = _verified(UNSIGNED_PAYLOAD)
    kept = payload_of(_streamed(b"abc"), headers, verified)
    await kept.keep(3)
    assert [await _drain(kept.open()), await _drain(kept.open())] == [b"abc", b"abc"]
    streamed = payload_of(_streamed(b"abcd"), headers, verified)
    await streamed.keep(3)
    assert streamed.sendable
    assert await _drain(streamed.open()) == b"abcd"
    assert not streamed.sendable
    with pytest.raises(PayloadSpentError):
        streamed.open()


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ([], "MissingContentLength"),
        ([("x-amz-decoded-content-length", "-1")], "InvalidArgument"),
        ([("x-amz-decoded-content-length", "1"), ("x-amz-trailer", "x-amz-acl")], "InvalidRequest"),
    ],
)
def test_bodies_that_are_described_wrongly(extra: list[tuple[str, str]], code: str) -> None:
    headers, verified, _ = _verified(STREAMING_UNSIGNED_TRAILER, extra)
    with pytest.raises(AwsError) as caught:
        payload_of(_streamed(b""), headers, verified)
    assert caught.value.code == code


class _Answering:
    """A store that verifies signatures and remembers what it was sent in full."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.bodies: list[bytes] = []
        self.status = 200

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        message = Message(request.method, request.path, request.query, list(request.headers))
        claim = read_claim(message)
        assert claim is not None
        verify(claim, message, "SK", now=datetime.now(UTC), region="us-east-1", service="s3")
        assert claim.session_token == "session-token"
        if self.status != 200:
            return Response(self.status)
        self.bodies.append(await read_all(request.body, 1 << 24))
        return Response(200, Headers([("x-amz-meta-odd", "\xe9")]), b"done")


@pytest.fixture
async def talk(loopback_socket: socket.socket) -> AsyncIterator[tuple[_Answering, Store]]:
    answering = _Answering()
    server = Server(answering)
    await server.start(loopback_socket)
    client = Client()
    origin = Origin(host="127.0.0.1", port=loopback_socket.getsockname()[1])
    yield answering, _store(_spec(endpoint="http://s3.far.example:99", session_token="session-token"), client, origin)
    await client.close()
    await server.drain(0.0)


async def test_a_store_is_reached_through_a_relay_under_its_own_name(talk: tuple[_Answering, Store]) -> None:
    answering, store = talk
    response = await store.send(
        "PUT", "b", "a/../é//k", query="tagging&x=%2F", headers=Headers([("x-amz-meta-a", "1  2")]), body=b"body"
    )
    assert (response.status, await _drain(response.body)) == (200, b"done")
    assert response.headers.get("x-amz-meta-odd") == "\xe9"
    request = answering.requests[0]
    assert request.target == "/b/a/../%C3%A9//k?tagging&x=%2F"
    assert request.headers.get("host") == "s3.far.example:99"
    assert request.headers.get("x-amz-meta-a") == "1  2"
    assert request.headers.get("x-amz-content-sha256") == hashlib.sha256(b"body").hexdigest()


async def test_a_refusal_leaves_the_clients_body_untouched(talk: tuple[_Answering, Store]) -> None:
    answering, store = talk
    answering.status = 403
    headers, verified, _ = _verified(UNSIGNED_PAYLOAD)
    payload = payload_of(_streamed(b"x" * 500_000, 50_000), headers, verified)
    response = await forward(Request("PUT", "/k", headers), payload, store, bucket="b", key="k")
    assert response.status == 403
    assert payload.sendable
    assert answering.requests[0].headers.get("expect") == "100-continue"


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_wrong_body_is_never_complete_at_the_store(talk: tuple[_Answering, Store], size: int) -> None:
    answering, store = talk
    headers, verified, _ = _verified(hashlib.sha256(b"other").hexdigest())
    payload = payload_of(_streamed(b"x" * size, 50_000), headers, verified)
    with pytest.raises(AwsError) as caught:
        await forward(Request("PUT", "/k", headers), payload, store, bucket="b", key="k")
    assert caught.value.code == "XAmzContentSHA256Mismatch"
    assert not answering.bodies


async def test_an_unreachable_store_is_said_to_be_safe_to_retry() -> None:
    client = Client()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    store = _store(_spec(), client, Origin(host="127.0.0.1", port=port))
    with pytest.raises(UpstreamError) as caught:
        await store.send("GET", "b", "k")
    assert (caught.value.reason, caught.value.retry_safe) == ("connect", True)
    await client.close()
