"""Who may speak to a store, and what a body must be: raw requests over a socket."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.config import Config

from nearpoint.signing import (
    EMPTY_SHA256,
    STREAMING_HMAC,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED_PAYLOAD,
    Credentials,
    Message,
    presign_v4,
    presign_v4a,
    read_claim,
    sign_v4,
    verify,
)


def test_unsigned_requests_are_denied_with_s3s_document(caller: Any, bucket: str) -> None:
    answer = caller.send("GET", f"/{bucket}/k%20y", [("Host", caller.host)])
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert answer.headers["content-type"] == "application/xml"
    assert answer.field("RequestId") == answer.headers["x-amz-request-id"]
    assert answer.field("HostId") == answer.headers["x-amz-id-2"]
    assert answer.field("Resource") == f"/{bucket}/k%20y"


def test_only_the_health_path_is_open(caller: Any) -> None:
    assert caller.send("GET", "/-/live", [("Host", caller.host)]).status == 200
    assert caller.send("GET", "/", [("Host", caller.host)]).status == 403
    assert caller.send("PUT", "/-/live", [("Host", caller.host), ("Content-Length", "0")]).status == 403


def test_wrong_keys_secrets_times_and_regions(caller: Any, bucket: str) -> None:
    path = f"/{bucket}/k"
    stranger = Credentials("AKIASTRANGERSTRANGER", "secret")
    liar = Credentials(caller.credentials.access_key_id, "wrong")
    assert caller.signed("GET", path, credentials=stranger).code == "InvalidAccessKeyId"
    wrong = caller.signed("GET", path, credentials=liar)
    assert (wrong.status, wrong.code) == (403, "SignatureDoesNotMatch")
    assert wrong.field("CanonicalRequest")
    late = datetime.now(UTC) - timedelta(minutes=16)
    assert caller.signed("GET", path, now=late).code == "RequestTimeTooSkewed"
    elsewhere = caller.signed("GET", path, region="eu-west-1")
    assert (elsewhere.code, elsewhere.field("Region")) == ("AuthorizationHeaderMalformed", "us-east-1")
    session = Credentials(caller.credentials.access_key_id, caller.credentials.secret_key, "token")
    assert caller.signed("GET", path, credentials=session).code == "InvalidToken"


def test_sigv4a_is_accepted(caller: Any, bucket: str) -> None:
    assert caller.signed("PUT", f"/{bucket}/k", b"by v4a", v4a=True).status == 200
    assert caller.signed("GET", f"/{bucket}/k", v4a=True).body == b"by v4a"


@pytest.mark.parametrize("presign", [presign_v4, presign_v4a])
def test_presigned_requests(caller: Any, bucket: str, presign: Any) -> None:
    caller.signed("PUT", f"/{bucket}/k", b"x")
    scope = {"region": "us-east-1"} if presign is presign_v4 else {"region_set": "*"}

    def query(method: str, now: datetime) -> str:
        message = Message(method, f"/{bucket}/k", "", [("Host", caller.host)])
        made: str = presign(message, caller.credentials, service="s3", now=now, expires_s=60, **scope)
        return made

    now = datetime.now(UTC)
    host = [("Host", caller.host)]
    assert caller.send("GET", f"/{bucket}/k?{query('GET', now)}", host).body == b"x"
    expired = caller.send("GET", f"/{bucket}/k?{query('GET', now - timedelta(seconds=62))}", host)
    assert (expired.status, expired.code) == (403, "AccessDenied")
    other = caller.send("GET", f"/{bucket}/other?{query('GET', now)}", host)
    assert other.code == "SignatureDoesNotMatch"
    put = caller.send("PUT", f"/{bucket}/k?{query('PUT', now)}", [*host, ("Content-Length", "3")], b"new")
    assert put.status == 200
    assert caller.signed("GET", f"/{bucket}/k").body == b"new"


def test_boto3_presigns_with_sigv4(running: Any, s3: Any, bucket: str, caller: Any) -> None:
    s3.put_object(Bucket=bucket, Key="a b/ü", Body=b"x")
    url = s3.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "a b/ü", "ResponseContentType": "text/x"}
    )
    answer = caller.send("GET", url.removeprefix(running.endpoint), [("Host", caller.host)])
    assert (answer.body, answer.headers["content-type"]) == (b"x", "text/x")


def test_the_old_signature_is_refused_as_newer_regions_do(running: Any, bucket: str, caller: Any) -> None:
    old = boto3.client(
        "s3",
        endpoint_url=running.endpoint,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(signature_version="s3", s3={"addressing_style": "path"}),
    )
    url = old.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "k"})
    answer = caller.send("GET", url.removeprefix(running.endpoint), [("Host", caller.host)])
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert "AWS4-HMAC-SHA256" in (answer.field("Message") or "")


@pytest.mark.parametrize("size", [5, 40_000])
def test_a_body_must_be_the_one_that_was_signed(caller: Any, bucket: str, size: int) -> None:
    path = f"/{bucket}/k"
    wrong = caller.signed("PUT", path, b"x" * size, payload_hash=hashlib.sha256(b"y").hexdigest())
    assert (wrong.status, wrong.code) == (400, "XAmzContentSHA256Mismatch")
    assert caller.signed("GET", path).code == "NoSuchKey"
    assert caller.signed("PUT", path, b"x" * size, payload_hash=UNSIGNED_PAYLOAD).status == 200


def _streamed(caller: Any, path: str, body: bytes, tamper: bytes = b"", declared: int | None = None) -> Any:
    """PUT in signed chunks; `tamper` replaces the beginning of the framed body's content."""
    now = datetime.now(UTC)
    plain = [
        ("Host", caller.host),
        ("Content-Encoding", "aws-chunked"),
        ("X-Amz-Decoded-Content-Length", str(len(body) if declared is None else declared)),
    ]
    message = Message("PUT", path, "", plain)
    added = sign_v4(message, caller.credentials, region="us-east-1", service="s3", now=now, payload_hash=STREAMING_HMAC)
    signed = Message("PUT", path, "", [*plain, *added])
    claim = read_claim(signed)
    assert claim is not None
    verified = verify(claim, signed, caller.credentials.secret_key, now=now)
    framed = b""
    previous = claim.signature
    scope = f"{now:%Y%m%d}/us-east-1/s3/aws4_request"
    assert isinstance(verified.key, bytes)
    for chunk in [body[at : at + 8192] for at in range(0, len(body), 8192)] + [b""]:
        text = (
            f"AWS4-HMAC-SHA256-PAYLOAD\n{now:%Y%m%dT%H%M%SZ}\n{scope}\n{previous}\n{EMPTY_SHA256}\n"
            f"{hashlib.sha256(chunk).hexdigest()}"
        )
        previous = hmac.digest(verified.key, text.encode(), "sha256").hex()
        framed += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + b"\r\n"
    if tamper:
        framed = framed.replace(body[: len(tamper)], tamper, 1)
    headers = [*plain, *added, ("Content-Length", str(len(framed)))]
    return caller.send("PUT", path, headers, framed)


@pytest.mark.parametrize("size", [5, 8192, 50_000])
def test_signed_chunks(caller: Any, bucket: str, size: int) -> None:
    path = f"/{bucket}/k"
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    tampered = _streamed(caller, path, body, tamper=b"\xff\xff\xff")
    assert (tampered.status, tampered.code) == (403, "SignatureDoesNotMatch")
    assert _streamed(caller, path, body, declared=size + 1).code == "IncompleteBody"
    assert caller.signed("GET", path).code == "NoSuchKey"
    assert _streamed(caller, path, body).status == 200
    answer = caller.signed("GET", path)
    assert answer.body == body
    assert "content-encoding" not in answer.headers


def test_a_trailing_checksum_is_verified(caller: Any, bucket: str) -> None:
    def put(checksum: str) -> Any:
        framed = f"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:{checksum}\r\n\r\n".encode()
        headers = [
            ("Content-Encoding", "aws-chunked"),
            ("X-Amz-Decoded-Content-Length", "5"),
            ("X-Amz-Trailer", "x-amz-checksum-crc32"),
        ]
        return caller.signed("PUT", f"/{bucket}/k", framed, headers=headers, payload_hash=STREAMING_UNSIGNED_TRAILER)

    assert put("AAAAAA==").code == "BadDigest"
    assert put("nonsense").code == "InvalidRequest"
    assert caller.signed("GET", f"/{bucket}/k").code == "NoSuchKey"
    assert put("NhCmhg==").status == 200
    answer = caller.signed("GET", f"/{bucket}/k", headers=[("x-amz-checksum-mode", "ENABLED")])
    assert (answer.body, answer.headers["x-amz-checksum-crc32"]) == (b"hello", "NhCmhg==")


def test_a_put_without_a_length_is_refused(caller: Any, bucket: str) -> None:
    message = Message("PUT", f"/{bucket}/k", "", [("Host", caller.host)])
    added = sign_v4(
        message,
        caller.credentials,
        region="us-east-1",
        service="s3",
        now=datetime.now(UTC),
        payload_hash=UNSIGNED_PAYLOAD,
    )
    headers = [("Host", caller.host), *added, ("Transfer-Encoding", "chunked")]
    answer = caller.send("PUT", f"/{bucket}/k", headers, b"1\r\nx\r\n0\r\n\r\n")
    assert (answer.status, answer.code) == (411, "MissingContentLength")


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "code"),
    [
        ("POST", "/BUCKET", b"", 405, "MethodNotAllowed"),
        ("PATCH", "/BUCKET/k", b"", 405, "MethodNotAllowed"),
        ("GET", "/BUCKET/%ff", b"", 400, "InvalidURI"),
        ("POST", "/BUCKET?delete", b"<not xml", 400, "MalformedXML"),
        ("POST", "/BUCKET?delete", b"<!DOCTYPE a [<!ENTITY b 'c'>]><Delete/>", 400, "MalformedXML"),
        ("PUT", "/BUCKET?versioning", b"<VersioningConfiguration/>", 400, "IllegalVersioningConfigurationException"),
        ("PUT", "/ab", b"", 400, "InvalidBucketName"),
        ("DELETE", "/BUCKET/k?acl", b"", 405, "MethodNotAllowed"),
        ("GET", "/BUCKET/k?versionId=", b"", 400, "InvalidArgument"),
        ("GET", "/BUCKET/k?partNumber=x", b"", 400, "InvalidArgument"),
    ],
)
def test_bad_requests(caller: Any, bucket: str, method: str, target: str, body: bytes, status: int, code: str) -> None:
    md5 = base64.b64encode(hashlib.md5(body).digest()).decode()
    answer = caller.signed(method, target.replace("BUCKET", bucket), body, headers=[("Content-MD5", md5)])
    assert (answer.status, answer.code) == (status, code)


GETS: list[tuple[str, list[tuple[str, str]]]] = [
    ("small", []),
    ("medium", []),
    ("empty", []),
    ("typed", []),
    ("small", [("User-Agent", "x")]),
]


@pytest.mark.parametrize(("key", "headers"), GETS)
def test_the_fast_answer_is_the_ordinary_one(
    s3: Any, caller: Any, bucket: str, key: str, headers: list[tuple[str, str]]
) -> None:
    bodies = {"small": b"x" * 4096, "medium": b"y" * 50_000, "empty": b"", "typed": b"z"}
    extra = {"ContentType": "text/x", "Metadata": {"a": "b"}} if key == "typed" else {}
    for versioned in (False, True):
        s3.put_object(Bucket=bucket, Key=key, Body=bodies[key], **extra)
        fast = caller.signed("GET", f"/{bucket}/{key}", headers=headers)
        ordinary = caller.signed("GET", f"/{bucket}/{key}", headers=[*headers, ("If-Match", "*")])
        assert (fast.status, fast.body) == (200, bodies[key])
        assert fast.body == ordinary.body
        for field in ("x-amz-request-id", "x-amz-id-2", "date"):
            assert fast.headers.pop(field)
            assert ordinary.headers.pop(field)
        assert fast.headers == ordinary.headers
        assert ("x-amz-version-id" in fast.headers) is versioned
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
