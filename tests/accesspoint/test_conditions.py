"""What policies look at is what the store gets: nothing slips past a condition in another place of the request."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from nearpoint.regions.forward import outgoing_headers
from nearpoint.regions.payload import Payload
from nearpoint.signing import Credentials, Message, presign_v4, presign_v4a
from nearpoint.state.resources import Role
from nearpoint.state.sessions import mint
from nearpoint.wire.message import BytesBody, Headers, Request

ACCOUNT = "123456789012"
HOST = "mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com"
ROOT = Credentials("AKIAROOT", "root-secret")
SSE = ("x-amz-server-side-encryption", "AES256")
LIMITED = [
    {"Effect": "Allow", "Action": ["s3:PutObject*", "s3:GetObject"], "Resource": "*"},
    {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": "*",
        "Condition": {"StringEquals": {"s3:prefix": "public/"}},
    },
    {
        "Effect": "Deny",
        "Action": "s3:PutObject",
        "Resource": "*",
        "Condition": {"StringEquals": {"s3:x-amz-storage-class": "GLACIER"}},
    },
    {
        "Effect": "Deny",
        "Action": "s3:PutObject",
        "Resource": "*",
        "Condition": {"Null": {"s3:x-amz-server-side-encryption": "true"}},
    },
    {
        "Effect": "Deny",
        "Action": ["s3:PutObject", "s3:PutObjectTagging"],
        "Resource": "*",
        "Condition": {"ForAnyValue:StringEquals": {"s3:RequestObjectTagKeys": "secret"}},
    },
]


@pytest.fixture
def limited(world: Any) -> Credentials:
    role = Role(
        name="r",
        role_id="AROA1",
        arn=f"arn:aws:iam::{ACCOUNT}:role/r",
        created_at=0.0,
        trust={},
        inline_policies={"p": {"Version": "2012-10-17", "Statement": LIMITED}},
    )
    world.publish(world.access_point(), roles=(role,))
    at = int(datetime.now(UTC).timestamp()) + 600
    key, secret, token = mint(
        "session-secret", role_arn=role.arn, session_name="s", expires_at=at, random_bytes=b"0123456789"
    )
    return Credentials(key, secret, token)


TAGGING = b"<Tagging><TagSet><Tag><Key>%b</Key><Value>1</Value></Tag></TagSet></Tagging>"


@pytest.mark.parametrize(
    ("method", "target", "headers", "body", "expected"),
    [
        ("GET", "/?list-type=2&prefix=public/", [], b"", 404),  # the store of these tests lists nothing
        ("GET", "/?list-type=2&prefix=secret/", [], b"", 403),
        ("GET", "/?list-type=2&prefix=secret/&prefix=public/", [], b"", 400),
        ("GET", "/?list-type=2&pre%66ix=secret/&prefix=public/", [], b"", 400),
        ("GET", "/?list-type=2&prefix=public/&inventory", [], b"", 405),
        ("GET", "/?prefix=public/&session", [], b"", 405),
        ("GET", "/?list-type=2&prefix=public/" + "".join(f"&x{at}" for at in range(1_500)), [], b"", 404),
        ("PUT", "/key", [SSE], b"x", 200),
        ("PUT", "/key", [], b"x", 403),
        ("PUT", "/key", [SSE, ("x-amz-storage-class", "GLACIER")], b"x", 403),
        ("PUT", "/key", [SSE, ("x-amz-storage-class", "STANDARD"), ("x-amz-storage-class", "GLACIER")], b"x", 400),
        ("PUT", "/key?x-amz-storage-class=GLACIER", [SSE], b"x", 403),
        ("PUT", "/key?X-Amz-Storage-Clas%73=STANDARD", [SSE, ("x-amz-storage-class", "GLACIER")], b"x", 400),
        ("PUT", "/key?x-amz-storage-class=a%0d%0ab", [SSE], b"x", 400),
        ("PUT", "/key", [SSE, ("x-amz-tagging", "a=1&secret=2")], b"x", 403),
        ("PUT", "/key?tagging", [], TAGGING % b"secret", 403),
        ("PUT", "/key?tagging", [], TAGGING % b"open", 200),
        ("PUT", "/key?annotation", [SSE], b"x", 405),
    ],
)
async def test_a_condition_sees_what_the_store_would(
    world: Any,
    limited: Credentials,
    method: str,
    target: str,
    headers: list[tuple[str, str]],
    body: bytes,
    expected: int,
) -> None:
    status, _, answer = await world.ask(method, target, headers=headers, body=body, credentials=limited)
    assert status == expected, answer
    assert bool(world.stores["near"].requests) == (expected in (200, 404))


def test_no_connection_option_takes_off_what_a_policy_has_seen() -> None:
    named = "x-amz-server-side-encryption, If-None-Match, x-of-this-hop"
    fields = [SSE, ("If-None-Match", "*"), ("x-of-this-hop", "1"), ("Connection", named)]
    sent = outgoing_headers(Headers(fields), Payload(BytesBody(), length=0, headers=[]))
    assert list(sent) == fields[:2]


@pytest.mark.parametrize("sign", [presign_v4, presign_v4a])
async def test_fields_in_the_query_of_a_presigned_url_arrive_as_fields(world: Any, sign: Any) -> None:
    query = "x-id=PutObject&x-amz-meta-who=%C3%A9+me&x-amz-tagging=a%3D1"
    more = {"region": "us-east-1"} if sign is presign_v4 else {}
    signed = sign(Message("PUT", "/key", query, [("Host", HOST)]), ROOT, now=datetime.now(UTC), expires_s=60, **more)
    for _ in range(2):
        status, _, answer = await world.raw(Request("PUT", f"/key?{signed}", Headers([("Host", HOST)]), b"x"))
        assert status == 200, answer
        sent = world.stores["near"].requests[-1]
        assert sent.target == "/near-bucket/key?x-id=PutObject"
        assert sent.headers.get("x-amz-meta-who") == "\xc3\xa9+me"
        assert sent.headers.get("x-amz-tagging") == "a=1"
