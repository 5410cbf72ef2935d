"""Two second opinions, awscrt and botocore: each must sign what we verify, and accept what we sign."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import awscrt.auth
import awscrt.http
import botocore.auth
import botocore.awsrequest
import botocore.credentials
import botocore.crt.auth
import pytest
from awscrt.crypto import EC, ECExportFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from nearpoint.signing import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Claim,
    Credentials,
    Message,
    inspect_presign_v4,
    inspect_presign_v4a,
    inspect_v4,
    inspect_v4a,
    keys,
    presign_v4,
    presign_v4a,
    read_claim,
    sign_v4,
    sign_v4a,
    verify,
)
from nearpoint.signing.ec import _PUBLIC_HEAD

NOW = datetime(2026, 11, 23, 12, 30, 45, tzinfo=UTC)
HOST = "mfzwi23gnjvgw.mrap.accesspoint.s3-global.amazonaws.com"

who = st.sampled_from(
    [Credentials("AKIDEXAMPLE", "wJalrXUtnFEMI"), Credentials("ASIAX", "s3cr+t/", "FwoGZXIvYXdzEP//a+==")]
)
paths = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=4).map(
    lambda parts: "/" + "/".join(quote(part, safe="-._~") for part in parts)
)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6).map(
    lambda text: quote(text, safe="-._~")
)
queries = st.lists(st.tuples(words, st.one_of(st.just(""), words)), max_size=4, unique_by=lambda pair: pair[0]).map(
    lambda pairs: "&".join(f"{name}={value}" for name, value in pairs)
)
values = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20)
header_lists = st.dictionaries(
    st.sampled_from(["Range", "X-Amz-Meta-A", "x-amz-meta-b", "Content-Type", "If-None-Match", "cache-control"]),
    values,
    max_size=4,
)
methods = st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE"])
messages = st.builds(
    lambda method, path, query, headers: Message(method, path, query, [("Host", HOST), *headers.items()]),
    methods, paths, queries, header_lists,
)  # fmt: skip
services = st.sampled_from(["s3", "execute-api"])


def sign_with_awscrt(
    message: Message, credentials: Credentials, *, v4a: bool, service: str, payload_hash: str, expires_s: int | None
) -> Message:
    s3 = service == "s3"
    request = awscrt.http.HttpRequest(
        message.method,
        f"{message.path}?{message.query}" if message.query else message.path,
        awscrt.http.HttpHeaders(list(message.headers)),
    )
    header_type = awscrt.auth.AwsSignedBodyHeaderType
    algorithm = awscrt.auth.AwsSigningAlgorithm
    form = awscrt.auth.AwsSignatureType
    config = awscrt.auth.AwsSigningConfig(
        algorithm=algorithm.V4_ASYMMETRIC if v4a else algorithm.V4,
        signature_type=form.HTTP_REQUEST_HEADERS if expires_s is None else form.HTTP_REQUEST_QUERY_PARAMS,
        credentials_provider=awscrt.auth.AwsCredentialsProvider.new_static(
            credentials.access_key_id, credentials.secret_key, credentials.session_token
        ),
        region="*" if v4a else "eu-west-1",
        service=service,
        date=NOW,
        use_double_uri_encode=not s3,
        should_normalize_uri_path=not s3,
        signed_body_value=payload_hash,
        signed_body_header_type=header_type.X_AMZ_CONTENT_SHA_256 if s3 and expires_s is None else header_type.NONE,
        expiration_in_seconds=expires_s,
    )
    awscrt.auth.aws_sign_request(request, config).result()
    path, _, query = request.path.partition("?")
    return Message(request.method, path, query, list(request.headers))


def prove(message: Message, credentials: Credentials, service: str, payload_hash: str) -> Claim:
    claim = read_claim(message)
    assert claim is not None
    assert claim.access_key_id == credentials.access_key_id
    assert claim.session_token == credentials.session_token
    verify(
        claim, message, credentials.secret_key, now=NOW, region="eu-west-1", service=service,
        payload_hash=None if claim.payload_hash else payload_hash,
    )  # fmt: skip
    return claim


@given(messages, who, services, st.booleans(), st.sampled_from([None, 1, 3600, 604800]))
@settings(deadline=None, max_examples=150)
def test_we_verify_what_awscrt_signs(
    message: Message, credentials: Credentials, service: str, v4a: bool, expires_s: int | None
) -> None:
    payload_hash = UNSIGNED_PAYLOAD if expires_s and service == "s3" else EMPTY_SHA256
    signed = sign_with_awscrt(
        message, credentials, v4a=v4a, service=service, payload_hash=payload_hash, expires_s=expires_s
    )
    claim = prove(signed, credentials, service, payload_hash)
    assert claim.algorithm == ("v4a" if v4a else "v4")
    assert claim.expires_s == expires_s


@given(messages, who, services)
@settings(deadline=None, max_examples=100)
def test_our_v4_is_awscrts(message: Message, credentials: Credentials, service: str) -> None:
    theirs = sign_with_awscrt(
        message, credentials, v4a=False, service=service, payload_hash=EMPTY_SHA256, expires_s=None
    )
    ours = inspect_v4(message, credentials, region="eu-west-1", service=service, now=NOW, payload_hash=EMPTY_SHA256)
    claim = read_claim(theirs)
    assert claim is not None
    assert claim.signature == ours.signature
    sent = {name.lower(): value for name, value in theirs.headers}
    assert all(sent[name.lower()] == value for name, value in ours.headers)


@given(messages, who, services)
@settings(deadline=None, max_examples=60)
def test_a_key_of_awscrts_making_accepts_our_v4a(message: Message, credentials: Credentials, service: str) -> None:
    # awscrt only shows the key it derived through what it signs, so both are checked against one public key.
    point = keys.v4a_key(credentials.access_key_id, credentials.secret_key).public.point
    public = EC.new_key_from_der_data(_PUBLIC_HEAD + b"".join(part.to_bytes(32, "big") for part in point))
    ours = inspect_v4a(message, credentials, service=service, now=NOW, payload_hash=EMPTY_SHA256)
    theirs = read_claim(
        sign_with_awscrt(message, credentials, v4a=True, service=service, payload_hash=EMPTY_SHA256, expires_s=None)
    )
    assert theirs is not None
    digest = hashlib.sha256(ours.string_to_sign.encode("latin-1")).digest()
    assert public.verify(digest, bytes.fromhex(theirs.signature))
    assert public.verify(digest, bytes.fromhex(ours.signature))
    assert public.export_key(ECExportFormat.SPKI).startswith(_PUBLIC_HEAD)


@given(messages, who, services, st.integers(1, 604800))
@settings(deadline=None, max_examples=60)
def test_our_presigned_query_is_awscrts(
    message: Message, credentials: Credentials, service: str, expires_s: int
) -> None:
    payload_hash = UNSIGNED_PAYLOAD if service == "s3" else EMPTY_SHA256
    theirs = read_claim(
        sign_with_awscrt(
            message, credentials, v4a=False, service=service, payload_hash=payload_hash, expires_s=expires_s
        )
    )
    ours = inspect_presign_v4(message, credentials, region="eu-west-1", service=service, now=NOW, expires_s=expires_s)
    assert theirs is not None
    assert theirs.signature == ours.signature
    v4a = inspect_presign_v4a(message, credentials, service=service, now=NOW, expires_s=expires_s)
    signed = Message(message.method, message.path, v4a.query, message.headers)
    prove(signed, credentials, service, payload_hash)


Signer = Callable[[botocore.credentials.Credentials], Any]
SIGNERS: dict[str, tuple[str, Signer]] = {
    "SigV4Auth": ("execute-api", lambda who: botocore.auth.SigV4Auth(who, "execute-api", "eu-west-1")),
    "SigV4QueryAuth": ("execute-api", lambda who: botocore.auth.SigV4QueryAuth(who, "execute-api", "eu-west-1")),
    "S3SigV4Auth": ("s3", lambda who: botocore.auth.S3SigV4Auth(who, "s3", "eu-west-1")),
    "S3SigV4QueryAuth": ("s3", lambda who: botocore.auth.S3SigV4QueryAuth(who, "s3", "eu-west-1")),
    "CrtSigV4AsymAuth": (
        "execute-api",
        lambda who: botocore.crt.auth.CrtSigV4AsymAuth(who, "execute-api", "*"),
    ),
    "CrtS3SigV4Auth": ("s3", lambda who: botocore.crt.auth.CrtS3SigV4Auth(who, "s3", "eu-west-1")),
    "CrtS3SigV4AsymAuth": ("s3", lambda who: botocore.crt.auth.CrtS3SigV4AsymAuth(who, "s3", "eu-west-*,us-east-1")),
    "CrtS3SigV4AsymQueryAuth": ("s3", lambda who: botocore.crt.auth.CrtS3SigV4AsymQueryAuth(who, "s3", "*")),
}
BODY = b"five!"


@pytest.mark.parametrize("name", SIGNERS)
@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzEP//a+=="])
@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/a/b.txt",
        "/a%20b/%C3%A9?list-type=2&prefix=a%2Fb&delimiter=%7C",
        "/k?uploads=",
        "/wire!*'(),;:@$+/escapes?x=a+b&y=(1)&z=a:b",  # nothing canonical about it
    ],
)
def test_we_verify_what_botocore_signs(
    name: str, method: str, token: str | None, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, make = SIGNERS[name]
    body = BODY if method == "PUT" and "Query" not in name else b""
    for module in (botocore.auth, botocore.crt.auth):
        if hasattr(module, "get_current_datetime"):
            monkeypatch.setattr(module, "get_current_datetime", lambda *_, **__: NOW.replace(tzinfo=None))
    request = botocore.awsrequest.AWSRequest(
        method=method, url=f"https://{HOST}{target}", data=body or None,
        headers={"Range": "bytes=0-3", "User-Agent": "Boto3/1"},
    )  # fmt: skip
    signer = make(botocore.credentials.Credentials("AKIDEXAMPLE", "secret", token))
    signer.add_auth(request)
    _, _, path_and_query = request.url.partition(HOST)
    path, _, query = path_and_query.partition("?")
    headers = [("Host", HOST), *((key, value) for key, value in request.headers.items() if key.lower() != "host")]
    message = Message(method, path, query, headers)
    claim = read_claim(message)
    assert claim is not None
    assert claim.session_token == token
    now = claim.signed_at
    verify(
        claim,
        message,
        "secret",
        now=now,
        region="eu-west-1",
        service=service,
        payload_hash=hashlib.sha256(body).hexdigest(),
    )


def test_the_shorthands_are_the_inspections() -> None:
    message = Message("GET", "/k", "", [("Host", HOST)])
    credentials = Credentials("AKID", "secret")
    common: dict[str, Any] = {"now": NOW, "service": "s3"}
    hashed = {"payload_hash": EMPTY_SHA256}
    assert (
        sign_v4(message, credentials, region="r", **common, **hashed)
        == inspect_v4(message, credentials, region="r", **common, **hashed).headers
    )
    assert (
        presign_v4(message, credentials, region="r", expires_s=9, **common)
        == inspect_presign_v4(message, credentials, region="r", expires_s=9, **common).query
    )
    headers = sign_v4a(message, credentials, region_set="eu-*", **common, **hashed)
    assert ("X-Amz-Region-Set", "eu-*") in headers
    assert "X-Amz-Region-Set=eu-%2A" in presign_v4a(message, credentials, region_set="eu-*", expires_s=9, **common)
