"""Conversations with an access point over real sockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from nearpoint.signing import Credentials, Message, presign_v4, presign_v4a
from nearpoint.state.resources import Bucket, Role
from nearpoint.state.sessions import mint
from nearpoint.wire.message import Headers, Request, StreamBody

ACCOUNT = "123456789012"
ALIAS = "mfzwi23gnjvgw.mrap"
HOST = f"{ALIAS}.accesspoint.s3-global.amazonaws.com"
ROOT = Credentials("AKIAROOT", "root-secret")


async def test_a_get_goes_to_the_nearest_region_and_says_so(world: Any) -> None:
    status, headers, body = await world.ask("GET", "/hello.txt")
    assert (status, body) == (200, b"hello from near")
    assert headers.get("x-nearpoint-region") == "near"
    assert headers.get("x-amz-meta-Odd") == "caf\xc3\xa9"
    assert headers.get("x-amz-request-id")
    assert 'desc="near"' in (headers.get("server-timing") or "")


async def test_an_answer_that_no_region_gave_says_so(world: Any) -> None:
    world.publish(world.access_point())
    refused = {
        "an alias that is not there": await world.ask("GET", "/hello.txt", host=HOST.replace("mfz", "nix")),
        "no signature": await world.ask("GET", "/hello.txt", credentials=Credentials("AKIANOBODY", "x")),
        "no such upload": await world.ask("GET", "/k?uploadId=mars.x"),
    }
    assert {name: answer[0] for name, answer in refused.items()} == {
        "an alias that is not there": 404, "no signature": 403, "no such upload": 404,
    }  # fmt: skip
    world.publish(world.access_point(near=0, far=0))
    refused["no active region"] = await world.ask("GET", "/hello.txt")
    for name, (_, headers, _) in refused.items():
        assert headers.get("x-nearpoint-region") == "none", name
        assert re.fullmatch(r'accesspoint;dur=\d+\.\d;desc="here"', headers.get("server-timing") or ""), name


async def test_an_answer_that_no_region_could_give_says_who_was_asked(world: Any) -> None:
    await world.stores["near"].stop()
    await world.stores["far"].stop()
    status, headers, _ = await world.ask("GET", "/hello.txt")
    assert (status, headers.get("x-nearpoint-region")) == (503, "none")
    timing = headers.get("server-timing") or ""
    assert re.findall(r'store;dur=[\d.]+;desc="(\w+)"', timing) == ["near", "far"]


async def test_the_dial_moves_all_traffic_and_back(world: Any) -> None:
    world.publish(world.access_point(near=0))
    assert (await world.ask("GET", "/hello.txt"))[2] == b"hello from far"
    world.publish(world.access_point(near=100))
    assert (await world.ask("GET", "/hello.txt"))[2] == b"hello from near"


async def test_no_active_region_is_service_unavailable(world: Any) -> None:
    world.publish(world.access_point(near=0, far=0))
    status, _, body = await world.ask("GET", "/hello.txt")
    assert status == 503
    assert b"<Code>ServiceUnavailable</Code>" in body


async def test_like_on_aws_a_missing_key_is_a_404_of_the_nearest_region(world: Any) -> None:
    world.publish(replace(world.access_point(), read_fallback=False))
    world.stores["far"].objects["/far-bucket/only-far"] = b"x"
    status, headers, _ = await world.ask("GET", "/only-far")
    assert (status, headers.get("x-nearpoint-region")) == (404, "near")
    assert not world.stores["far"].requests


@pytest.mark.parametrize("how", ["hang", "500", "502", "503", "504"])
async def test_a_read_fails_over_before_the_client_sees_a_byte(world: Any, how: str) -> None:
    world.stores["near"].behave = how
    status, headers, body = await world.ask("GET", "/hello.txt")
    assert (status, body) == (200, b"hello from far")
    assert headers.get("x-nearpoint-region") == "far"


async def test_a_read_fails_over_when_the_connection_is_refused(world: Any) -> None:
    await world.stores["near"].stop()
    assert (await world.ask("HEAD", "/hello.txt"))[1].get("x-nearpoint-region") == "far"
    status, _, body = await world.ask("GET", "/hello.txt")
    assert (status, body) == (200, b"hello from far")
    assert world.node.fleet.states["near"].value == "ejected"


async def test_when_everything_is_down_the_answer_is_503_with_a_hint(world: Any) -> None:
    for store in world.stores.values():
        await store.stop()
    status, headers, body = await world.ask("GET", "/hello.txt")
    assert (status, headers.get("retry-after")) == (503, "1")
    assert b"<Code>ServiceUnavailable</Code>" in body


async def test_a_download_that_breaks_goes_on_from_another_region(world: Any) -> None:
    data = bytes(range(256)) * 8192
    for name, store in world.stores.items():
        store.objects[f"/{name}-bucket/big"] = data
    world.stores["near"].behave = "break"
    status, _, body = await world.ask("GET", "/big")
    assert (status, body == data) == (200, True)
    resumed = world.stores["far"].requests[-1]
    assert resumed.headers.get("range") == f"bytes={len(data) // 2}-{len(data) - 1}"
    assert resumed.headers.get("if-match") == f'"{hashlib.md5(data).hexdigest()}"'
    status, _, body = await world.ask("GET", "/big", headers=[("Range", "bytes=1000-1500000")])
    assert (status, body == data[1000:1500001]) == (206, True)


async def test_a_download_that_stands_still_goes_on_from_another_region(world: Any) -> None:
    data = bytes(range(256)) * 4096
    for name, store in world.stores.items():
        store.objects[f"/{name}-bucket/big"] = data
    world.stores["near"].behave = "stall"
    async with asyncio.timeout(20):
        assert (await world.ask("GET", "/big"))[2] == data
    assert len(world.stores["far"].requests) == 1


async def test_a_download_of_other_content_is_cut_and_never_passed_for_whole(world: Any) -> None:
    world.stores["near"].objects["/near-bucket/big"] = b"a" * 1_000_000
    world.stores["far"].objects["/far-bucket/big"] = b"b" * 1_000_000
    world.stores["near"].behave = "break"
    with pytest.raises(Exception, match=r"ended|short|lost"):
        await world.ask("GET", "/big")


async def test_a_download_that_no_other_region_has_is_asked_for_again_where_it_was(world: Any) -> None:
    data = bytes(range(256)) * 4096
    world.stores["near"].objects["/near-bucket/only"] = data
    world.stores["near"].behave = "break once"
    assert (await world.ask("GET", "/only"))[2] == data
    assert [store.requests[-1].headers.get("range") is not None for store in world.stores.values()] == [True, True]


async def test_a_small_put_is_repeated_elsewhere(world: Any) -> None:
    world.stores["near"].behave = "500"
    status, headers, _ = await world.ask("PUT", "/new", body=b"content", headers=[("x-amz-meta-a", "1")])
    assert (status, headers.get("x-nearpoint-region")) == (200, "far")
    assert world.stores["far"].objects["/far-bucket/new"] == b"content"
    assert world.stores["far"].requests[-1].headers.get("x-amz-meta-a") == "1"


async def test_a_conditional_put_is_not_repeated_when_it_may_have_happened(world: Any) -> None:
    world.stores["near"].behave = "500"
    status, _, _ = await world.ask("PUT", "/new", body=b"content", headers=[("If-None-Match", "*")])
    assert status == 500
    assert not world.stores["far"].requests


async def test_a_long_put_moves_on_when_its_region_never_asked_for_the_body(world: Any) -> None:
    await world.stores["near"].stop()
    data = b"0123456789" * 100_000

    async def chunks() -> Any:
        for at in range(0, len(data), 50_000):
            yield data[at : at + 50_000]

    digest = hashlib.sha256(data).hexdigest()
    status, headers, _ = await world.ask("PUT", "/long", body=StreamBody(chunks(), len(data)), payload_hash=digest)
    assert (status, headers.get("x-nearpoint-region")) == (200, "far")
    assert world.stores["far"].objects["/far-bucket/long"] == data
    sent = world.stores["far"].requests[-1]
    assert sent.headers.get("x-amz-content-sha256") == digest


@pytest.mark.parametrize("size", [5, 70_000, 300_000])
async def test_a_body_that_is_not_what_was_signed_stores_nothing(world: Any, size: int) -> None:
    status, _, body = await world.ask("PUT", "/wrong", body=b"x" * size, payload_hash=hashlib.sha256(b"y").hexdigest())
    assert status == 400
    assert b"<Code>XAmzContentSHA256Mismatch</Code>" in body
    assert not world.stores["near"].objects.keys() & {"/near-bucket/wrong"}
    assert not world.stores["near"].bodies


def _aws_chunked(data: bytes, size: int, checksum: str) -> bytes:
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return framed + f"0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode()


@pytest.mark.parametrize("size", [0, 5, 65_536, 65_537, 400_000])
async def test_aws_chunked_bodies_arrive_with_their_checksum(world: Any, size: int) -> None:
    data = bytes(at * 7 % 251 for at in range(size))
    checksum = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    status, _, _ = await world.ask(
        "PUT",
        "/chunked",
        body=_aws_chunked(data, 60_000, checksum),
        payload_hash="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        headers=[
            ("Content-Encoding", "gzip,aws-chunked"),
            ("X-Amz-Trailer", "x-amz-checksum-crc32"),
            ("X-Amz-Decoded-Content-Length", str(size)),
        ],
    )
    assert status == 200
    sent = world.stores["near"].requests[-1]
    if size <= 65_536:
        assert world.stores["near"].bodies[-1] == data
        assert sent.headers.get("x-amz-checksum-crc32") == checksum
        assert sent.headers.get("content-encoding") == "gzip"
        assert "x-amz-trailer" not in sent.headers
    else:
        assert world.stores["near"].bodies[-1].endswith(f"\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode())
        assert sent.headers.get("content-encoding") == "aws-chunked,gzip"
        assert sent.headers.get("x-amz-trailer") == "x-amz-checksum-crc32"
        assert sent.headers.get("x-amz-content-sha256") == "STREAMING-UNSIGNED-PAYLOAD-TRAILER"


@pytest.mark.parametrize("declared", [399_999, 400_001])
async def test_a_chunked_body_of_another_length_stores_nothing(world: Any, declared: int) -> None:
    data = b"z" * 400_000
    status, _, body = await world.ask(
        "PUT",
        "/short",
        body=_aws_chunked(data, 60_000, "AAAAAA=="),
        payload_hash="STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        headers=[
            ("Content-Encoding", "aws-chunked"),
            ("X-Amz-Trailer", "x-amz-checksum-crc32"),
            ("X-Amz-Decoded-Content-Length", str(declared)),
        ],
    )
    assert (status, b"<Code>IncompleteBody</Code>" in body) == (400, True)
    assert not world.stores["near"].bodies


async def test_an_upload_stays_in_its_region(world: Any) -> None:
    status, _, body = await world.ask("POST", "/k?uploads")
    upload_id = body.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
    assert (status, upload_id) == (200, "near.own.near/+id")
    world.measured(near=500.0, far=1.0)
    world.publish(world.access_point(near=0))
    quoted = upload_id.replace("/", "%2F").replace("+", "%2B")
    status, headers, _ = await world.ask("PUT", f"/k?partNumber=1&uploadId={quoted}", body=b"part")
    assert (status, headers.get("x-nearpoint-region")) == (200, "near")
    assert world.stores["near"].requests[-1].query == "partNumber=1&uploadId=own.near%2F%2Bid"
    status, _, body = await world.ask("PUT", "/k?partNumber=1&uploadId=mars.x", body=b"part")
    assert (status, b"NoSuchUpload" in body) == (404, True)


@pytest.mark.parametrize(
    "path",
    ["/a/../b", "/a//b", "//", "/..", "/sp%20ace", "/caf%C3%A9", "/a%2Fb", "/pl+us", "/%7Etilde", "/q%3Fmark", "/a/"],
)
async def test_keys_arrive_byte_for_byte(world: Any, path: str) -> None:
    from urllib.parse import quote, unquote_to_bytes

    status, _, _ = await world.ask("PUT", path, body=b"k")
    assert status == 200, world.stores["near"].refused
    stored = world.stores["near"].requests[-1].path
    assert unquote_to_bytes(stored) == b"/near-bucket" + unquote_to_bytes(path)
    assert stored == "/near-bucket" + quote(unquote_to_bytes(path), safe="/~")


async def test_query_parameters_pass_and_signatures_do_not(world: Any) -> None:
    await world.ask("GET", "/?list-type=2&prefix=a%2Fb&delimiter=%7C&start-after=x%20y")
    sent = world.stores["near"].requests[-1]
    assert sent.target == "/near-bucket?list-type=2&prefix=a%2Fb&delimiter=%7C&start-after=x%20y"
    assert sent.headers.get("x-amz-region-set") is None
    assert not world.stores["near"].refused


@pytest.mark.parametrize("sign", [presign_v4, presign_v4a])
async def test_presigned_requests_work(world: Any, sign: Any) -> None:
    message = Message("GET", "/hello.txt", "response-content-type=text%2Fx", [("Host", HOST)])
    scope = {"region": "anywhere"} if sign is presign_v4 else {}
    query = sign(message, ROOT, now=datetime.now(UTC), expires_s=60, **scope)
    request = Request("GET", f"/hello.txt?{query}", Headers([("Host", HOST)]))
    status, _, body = await world.raw(request)
    assert (status, body) == (200, b"hello from near")
    assert world.stores["near"].requests[-1].query == "response-content-type=text%2Fx"
    tampered = Request("GET", f"/other.txt?{query}", Headers([("Host", HOST)]))
    status, _, body = await world.raw(tampered)
    assert (status, b"SignatureDoesNotMatch" in body) == (403, True)


async def test_a_presigned_request_is_good_only_as_long_as_it_is_valid(world: Any) -> None:
    def request(expires_s: int, signed_at: datetime, **extra: str) -> Request:
        message = Message("GET", "/hello.txt", "", [("Host", HOST)])
        query = presign_v4a(message, ROOT, now=signed_at, expires_s=expires_s)
        fields = [(name.replace("_", "-"), value) for name, value in extra.items()]
        return Request("GET", f"/hello.txt?{query}", Headers([("Host", HOST), *fields]))

    good = request(60, datetime.now(UTC))
    assert [(await world.raw(good))[0] for _ in range(3)] == [200, 200, 200]
    varied = Request("GET", good.target, Headers([("Host", HOST), ("x-amz-meta-a", "b")]))
    assert (await world.raw(varied))[0] == 403
    elsewhere = Request("GET", good.target, Headers([("Host", f"{ALIAS}.s3.example.net")]))
    assert (await world.raw(elsewhere))[0] == 403
    assert (await world.raw(Request("HEAD", good.target, good.headers)))[0] == 403
    short = request(1, datetime.now(UTC))
    assert (await world.raw(short))[0] == 200
    await asyncio.sleep(2.1)
    status, _, body = await world.raw(short)
    assert (status, b"Request has expired" in body) == (403, True)
    key = world.snapshot.access_keys.pop(ROOT.access_key_id)
    world.publish(world.access_point())
    status, _, body = await world.raw(good)
    assert (status, b"InvalidAccessKeyId" in body) == (403, True)
    world.snapshot.access_keys[ROOT.access_key_id] = key


async def test_plain_sigv4_is_taken_with_any_region(world: Any) -> None:
    assert (await world.ask("GET", "/hello.txt", v4_region="mars-1"))[0] == 200


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"credentials": Credentials("AKIANOBODY", "x")}, 403, "InvalidAccessKeyId"),
        ({"credentials": Credentials("AKIAROOT", "wrong")}, 403, "SignatureDoesNotMatch"),
        ({"now": datetime.now(UTC) - timedelta(hours=1)}, 403, "RequestTimeTooSkewed"),
        ({"region_set": "mars-*"}, 400, "AuthorizationHeaderMalformed"),
        ({"host": "nosuch.mrap.accesspoint.s3-global.amazonaws.com"}, 404, "NoSuchAccessPoint"),
        ({"credentials": Credentials("AKIAROOT", "root-secret", "no-token")}, 400, "InvalidToken"),
    ],
)
async def test_bad_requests_get_s3_errors_and_reach_no_store(
    world: Any, change: dict[str, Any], status: int, code: str
) -> None:
    found, headers, body = await world.ask("GET", "/hello.txt", **change)
    assert (found, f"<Code>{code}</Code>" in body.decode()) == (status, True), body
    assert headers.get("x-amz-request-id").encode() in body
    assert not world.stores["near"].requests


async def test_anonymous_requests_are_denied(world: Any) -> None:
    status, _, body = await world.raw(Request("GET", "/hello.txt", Headers([("Host", HOST)])))
    assert (status, b"<Code>AccessDenied</Code>" in body) == (403, True)


@pytest.mark.parametrize(("method", "target"), [("PUT", "/"), ("DELETE", "/"), ("GET", "/?policy"), ("POST", "/k")])
async def test_what_an_access_point_does_not_do(world: Any, method: str, target: str) -> None:
    status, _, body = await world.ask(method, target)
    assert (status, b"MethodNotAllowed" in body) == (405, True)


@pytest.mark.parametrize(
    ("host", "target"),
    [("s3.example.net", f"/{ALIAS}/hello.txt"), (f"{ALIAS}.s3.example.net", "/hello.txt")],
)
async def test_the_alias_works_as_a_bucket_name(world: Any, host: str, target: str) -> None:
    assert (await world.ask("GET", target, host=host))[2] == b"hello from near"


def _role(*statements: dict[str, Any]) -> Role:
    return Role(
        name="edge",
        role_id="AROA1",
        arn=f"arn:aws:iam::{ACCOUNT}:role/edge",
        created_at=0.0,
        trust={},
        inline_policies={"p": {"Version": "2012-10-17", "Statement": list(statements)}},
    )


def _session(role: Role, expires_at: int | None = None) -> Credentials:
    at = int(datetime.now(UTC).timestamp()) + 600 if expires_at is None else expires_at
    key, secret, token = mint(
        "session-secret", role_arn=role.arn, session_name="s", expires_at=at, random_bytes=b"0123456789"
    )
    return Credentials(key, secret, token)


ACCESS_POINT = {
    "Effect": "Allow",
    "Action": "s3:GetObject*",
    "Resource": f"arn:aws:s3::{ACCOUNT}:accesspoint/{ALIAS}/*",
}
BUCKETS = {"Effect": "Allow", "Action": "s3:*", "Resource": ["arn:aws:s3:::near-bucket/*", "arn:aws:s3:::far-bucket/*"]}


@pytest.mark.parametrize(
    ("statements", "method", "target", "expected"),
    [
        ([ACCESS_POINT, BUCKETS], "GET", "/hello.txt", 200),
        ([ACCESS_POINT, BUCKETS], "GET", "/?list-type=2", 403),
        ([ACCESS_POINT, BUCKETS], "PUT", "/hello.txt", 403),
        ([ACCESS_POINT], "GET", "/hello.txt", 403),
        ([BUCKETS], "GET", "/hello.txt", 403),
        ([], "GET", "/hello.txt", 403),
        (
            [ACCESS_POINT, BUCKETS, {"Effect": "Deny", "Action": "*", "Resource": "*"}],
            "GET",
            "/hello.txt",
            403,
        ),
    ],
)
async def test_a_role_may_what_its_policies_say_of_access_point_and_bucket(
    world: Any, statements: list[dict[str, Any]], method: str, target: str, expected: int
) -> None:
    role = _role(*statements) if statements else _role({"Effect": "Deny", "Action": "s3:x", "Resource": "*"})
    world.publish(world.access_point(), roles=(role,))
    status, _, _ = await world.ask(method, target, credentials=_session(role))
    assert status == expected


async def test_an_expired_session_is_told_so(world: Any) -> None:
    role = _role(ACCESS_POINT, BUCKETS)
    world.publish(world.access_point(), roles=(role,))
    status, _, body = await world.ask("GET", "/hello.txt", credentials=_session(role, 1))
    assert (status, b"<Code>ExpiredToken</Code>" in body) == (400, True)


async def test_bulk_deletes_are_checked_key_by_key(world: Any) -> None:
    resources = [f"arn:aws:s3::{ACCOUNT}:accesspoint/{ALIAS}/object/mine/*", "arn:aws:s3:::near-bucket/mine/*"]
    role = _role(
        {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": resources},
        {
            "Effect": "Allow",
            "Action": "s3:DeleteObject",
            "Resource": [f"arn:aws:s3::{ACCOUNT}:accesspoint/{ALIAS}", "arn:aws:s3:::near-bucket"],
        },
    )
    world.publish(world.access_point(), roles=(role,))
    objects = "".join(f"<Object><Key>{key}</Key></Object>" for key in ("mine/a", "yours/a&amp;b", "mine/b"))
    body = f"<Delete>{objects}</Delete>".encode()
    status, _, answer = await world.ask("POST", "/?delete", body=body, credentials=_session(role))
    assert status == 200
    assert answer.count(b"<Error>") == 1
    assert b"<Error><Key>yours/a&amp;b</Key><Code>AccessDenied</Code>" in answer
    sent = world.stores["near"].bodies[-1]
    assert [word in sent for word in (b"mine/a", b"mine/b", b"yours")] == [True, True, False]
    body = b"<Delete><Object><Key>yours/c</Key></Object></Delete>"
    status, _, answer = await world.ask("POST", "/?delete", body=body, credentials=_session(role))
    assert (status, answer.count(b"<Error>"), len(world.stores["near"].bodies)) == (200, 1, 1)
    status, _, _ = await world.ask("POST", "/?delete", body=b"<!DOCTYPE x><Delete/>", credentials=_session(role))
    assert status == 400


async def test_a_copy_from_the_access_point_names_the_regions_own_bucket(world: Any) -> None:
    source = f"arn%3Aaws%3As3%3A%3A{ACCOUNT}%3Aaccesspoint/{ALIAS}/object/a%20b?versionId=7"
    status, _, _ = await world.ask("PUT", "/copy", headers=[("x-amz-copy-source", source)])
    assert status == 200
    assert world.stores["near"].requests[-1].headers.get("x-amz-copy-source") == "near-bucket/a%20b?versionId=7"


async def test_probes_measure_eject_and_bring_back(world: Any) -> None:
    running = asyncio.create_task(world.node.run())
    try:
        await _until(lambda: world.node.fleet.report()[0].samples > 3)
        world.stores["near"].behave = "hang"
        await _until(lambda: world.node.fleet.states["near"].value == "ejected")
        report = world.node.report()["access_points"][ALIAS]
        assert report["chosen"] == "far"
        assert {route["region"]: route["reason"] for route in report["routes"]} == {"near": "ejected", "far": "nearest"}
        assert (await world.ask("GET", "/hello.txt"))[2] == b"hello from far"
        world.stores["near"].behave = "ok"
        await _until(lambda: world.node.fleet.states["near"].value == "healthy")
    finally:
        running.cancel()


async def test_a_region_whose_connections_take_long_is_measured_all_the_same(world: Any) -> None:
    world.stores["far"].behave = "far away"
    running = asyncio.create_task(world.node.run())
    try:
        await _until(lambda: world.node.is_measured and world.node.fleet.rtt_ms_p50("far") > 400)
        await _until(lambda: world.node.fleet.states["far"].value == "healthy")
    finally:
        running.cancel()


async def _until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 (what is awaited is a measurement, not an event)
            await asyncio.sleep(0.02)


def _bucket(name: str, region: str, *statements: dict[str, Any]) -> Bucket:
    policy = {"Version": "2012-10-17", "Statement": list(statements)} if statements else None
    return Bucket(name=name, region=region, created_at=0.0, policy=policy)


async def test_the_buckets_own_policy_has_a_say(world: Any) -> None:
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::near-bucket/*"}
    world.publish(world.access_point(), buckets=(_bucket("near-bucket", "near", deny),))
    status, _, body = await world.ask("GET", "/hello.txt")
    assert (status, b"explicit deny in bucket policy" in body) == (403, True)
    assert not world.stores["near"].requests
    condition = {"StringNotEquals": {"s3:DataAccessPointAccount": ACCOUNT}}
    world.publish(world.access_point(), buckets=(_bucket("near-bucket", "near", {**deny, "Condition": condition}),))
    assert (await world.ask("GET", "/hello.txt"))[0] == 200


async def test_a_bucket_policy_can_let_a_role_in(world: Any) -> None:
    point = f"arn:aws:s3::{ACCOUNT}:accesspoint/{ALIAS}/object/*"
    role = _role({"Effect": "Allow", "Action": "s3:GetObject", "Resource": point})
    world.publish(world.access_point(), roles=(role,))
    assert (await world.ask("GET", "/hello.txt", credentials=_session(role)))[0] == 403
    allow = {
        "Effect": "Allow",
        "Principal": {"AWS": role.arn},
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::near-bucket/*",
    }
    world.publish(world.access_point(), roles=(role,), buckets=(_bucket("near-bucket", "near", allow),))
    assert (await world.ask("GET", "/hello.txt", credentials=_session(role)))[0] == 200


async def test_a_region_whose_bucket_is_closed_to_the_caller_is_not_failed_over_to(world: Any) -> None:
    deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::far-bucket/*"}
    world.publish(world.access_point(), buckets=(_bucket("far-bucket", "far", deny),))
    world.stores["near"].behave = "500"
    assert (await world.ask("GET", "/hello.txt"))[0] == 500
    assert not world.stores["far"].requests
