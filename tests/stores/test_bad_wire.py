"""What is wrong with a connection itself, against `nearpoint accesspoint`: S3's own answer, nobody else disturbed."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest


@pytest.fixture(scope="module")
def impatient(
    tmp_path_factory: pytest.TempPathFactory, make_settings: Any, start_front: Any, near: Any
) -> Iterator[Any]:
    """An access point that waits half a second."""
    text = make_settings({"photos": [near]}) + "[timeouts]\nheader = 0.5\nbody = 0.5\n"
    with start_front(tmp_path_factory.mktemp("impatient"), text) as front:
        yield front


def _talk(front: Any, *pieces: bytes) -> bytes:
    """Everything that comes back until the other side hangs up."""
    parts = urlsplit(front.url)
    answer = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as sock:
        with contextlib.suppress(OSError):
            for piece in pieces:
                sock.sendall(piece)
        with contextlib.suppress(ConnectionResetError):
            while data := sock.recv(65_536):
                answer += data
    return answer


def _presigned(front: Any, method: str = "put_object", key: str = "wire/k") -> tuple[bytes, bytes]:
    """The target of a presigned request, and its Host field."""
    url = urlsplit(front.client().generate_presigned_url(method, {"Bucket": "photos.mrap", "Key": key}))
    return f"{url.path}?{url.query}".encode(), f"Host: {url.netloc}\r\n".encode()


@pytest.mark.parametrize(
    ("case", "status", "code"),
    [
        ("header flood", 400, b"RequestHeaderSectionTooLarge"),
        ("one endless field", 400, b"RequestHeaderSectionTooLarge"),
        ("endless target", 414, b"BadRequest"),
        ("two lengths", 400, b"BadRequest"),
        ("length and chunks", 400, b"BadRequest"),
        ("no Host", 400, b"BadRequest"),
        ("garbage", 400, b"BadRequest"),
        ("slow head", 400, b"RequestTimeout"),
        ("slow body", 400, b"RequestTimeout"),
        ("broken chunks", 411, b"MissingContentLength"),
    ],
)
def test_each_gets_s3s_answer_and_stores_nothing(
    impatient: Any, near: Any, case: str, status: int, code: bytes
) -> None:
    target, host = _presigned(impatient)
    head = b"PUT " + target + b" HTTP/1.1\r\n" + host
    pieces = {
        "header flood": (head + b"".join(b"x-amz-meta-%d: y\r\n" % at for at in range(20_000)) + b"\r\n",),
        "one endless field": (head + b"x-amz-meta-a: " + b"y" * 500_000 + b"\r\n\r\n",),
        "endless target": (b"GET /" + b"k" * 500_000 + b" HTTP/1.1\r\n" + host + b"\r\n",),
        "two lengths": (head + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx",),
        "length and chunks": (head + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",),
        "no Host": (b"PUT " + target + b" HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",),
        "garbage": (b"\x16\x03\x01\x02\x00" + bytes(range(256)) + b"\r\n\r\n",),
        "slow head": (head,),
        "slow body": (head + b"Content-Length: 10\r\n\r\n", b"half"),
        "broken chunks": (head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n",),
    }[case]
    answer = _talk(impatient, *pieces)
    assert re.match(rb"HTTP/1\.1 (\d+)", answer), answer[:300]
    assert (int(answer[9:12]), b"<Code>" + code + b"</Code>" in answer) == (status, True), answer[-500:]
    assert b"<RequestId>" in answer
    s3 = near.client()
    assert "Contents" not in s3.list_objects_v2(Bucket=near.bucket, Prefix="wire/")
    impatient.client().list_objects_v2(Bucket="photos.mrap", MaxKeys=1)


def test_a_body_that_ends_early_is_not_stored(impatient: Any, near: Any) -> None:
    target, host = _presigned(impatient, key="wire/short")
    parts = urlsplit(impatient.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=20) as sock:
        sock.sendall(b"PUT " + target + b" HTTP/1.1\r\n" + host + b"Content-Length: 200000\r\n\r\n" + b"x" * 150_000)
    impatient.client().list_objects_v2(Bucket="photos.mrap", MaxKeys=1)
    assert "Contents" not in near.client().list_objects_v2(Bucket=near.bucket, Prefix="wire/")


def test_sigv2_is_told_what_to_do(front: Any) -> None:
    import urllib.error
    import urllib.request

    s3 = front.client(config={"signature_version": "s3"})
    url = s3.generate_presigned_url("get_object", {"Bucket": "embedded.mrap", "Key": "k"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url)
    said = caught.value.read()
    assert (caught.value.code, b"<Code>InvalidRequest</Code>" in said, b"AWS4-HMAC-SHA256" in said) == (400, True, True)
    with pytest.raises(s3.exceptions.ClientError, match="Please use AWS4-HMAC-SHA256"):
        s3.get_object(Bucket="embedded.mrap", Key="k")


def test_credentials_from_the_environment_and_from_a_profile(
    tmp_path: Path, make_settings: Any, start_front: Any, near: Any, weed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    literal = '{{ access-key-id = "{0.access_key_id}", secret-key = "{0.secret_key}" }}'
    by_region = {
        near.region: '{ access-key-id-env = "NEAR_ID", secret-key-env = "NEAR_SECRET" }',
        weed.region: '{ profile = "weeds" }',
    }
    text = make_settings({"one": [near], "two": [weed]})
    for store in (near, weed):
        before, after = text.split(f'name = "{store.region}"', 1)
        text = before + f'name = "{store.region}"' + after.replace(literal.format(store), by_region[store.region], 1)
    assert "store-secret" not in text
    (tmp_path / "aws").write_text(
        f"[weeds]\naws_access_key_id = {weed.access_key_id}\naws_secret_access_key = {weed.secret_key}\n"
    )
    monkeypatch.setenv("NEAR_ID", near.access_key_id)
    monkeypatch.setenv("NEAR_SECRET", near.secret_key)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws"))
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with start_front(tmp_path, text) as front:
        for alias, store in (("one.mrap", near), ("two.mrap", weed)):
            front.client().put_object(Bucket=alias, Key="by credentials", Body=b"x")
            assert store.client().get_object(Bucket=store.bucket, Key="by credentials")["Body"].read() == b"x"


@pytest.mark.parametrize("size", [5, 200_000])
@pytest.mark.parametrize("store", ["embedded", "weeds", "clones"])
def test_a_trailing_checksum_that_does_not_fit_stores_nothing(front: Any, store: str, size: int) -> None:
    import base64
    import http.client
    import zlib
    from datetime import UTC, datetime

    from nearpoint.signing import ChunkEncoder, Credentials, Message, sign_v4

    mode, data = "STREAMING-UNSIGNED-PAYLOAD-TRAILER", b"z" * size
    host = front.url.removeprefix("http://")
    for checked, status in ((b"other", 400), (data, 200)):
        path = f"/{store}.mrap/trailer-{size}"
        fields = [
            ("Host", host),
            ("Content-Encoding", "aws-chunked"),
            ("X-Amz-Trailer", "x-amz-checksum-crc32"),
            ("X-Amz-Decoded-Content-Length", str(size)),
        ]
        credentials = Credentials("CLIENT", "client-secret")
        message = Message("PUT", path, "", fields)
        fields += sign_v4(message, credentials, region="any", now=datetime.now(UTC), payload_hash=mode)
        encoder = ChunkEncoder(mode)
        checksum = base64.b64encode(zlib.crc32(checked).to_bytes(4, "big")).decode()
        body = encoder.feed(data) + encoder.finish({"x-amz-checksum-crc32": checksum})
        connection = http.client.HTTPConnection(host, timeout=20)
        connection.request("PUT", path, body, dict(fields))
        answer = connection.getresponse()
        assert (answer.status, b"<Code>" in answer.read()) == (status, status != 200)
        connection.close()
        listed = front.client().list_objects_v2(Bucket=f"{store}.mrap", Prefix=f"trailer-{size}")
        assert len(listed.get("Contents", [])) == (1 if status == 200 else 0)
    got = front.client().get_object(Bucket=f"{store}.mrap", Key=f"trailer-{size}")["Body"].read()
    assert got == data
