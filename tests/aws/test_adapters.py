"""The adapters: what they sign is verified, and botocore reaches an access point with nothing native installed."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from nearpoint.aws.adapters import Signer
from nearpoint.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, Claim, Credentials, Message, read_claim, verify

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY = Credentials("AKIDEXAMPLE", "secret", "token")
URL = "https://m.mrap.accesspoint.s3-global.amazonaws.com/a%20b/%C3%A9?list-type=2&prefix=x%2Fy"


def verified(method: str, url: str, headers: Iterable[tuple[str, str]], payload_hash: str) -> Claim:
    parts = urlsplit(url)
    listed = list(headers)
    if not any(name.lower() == "host" for name, _ in listed):
        listed.append(("host", parts.netloc))
    message = Message(method, parts.path, parts.query, listed)
    claim = read_claim(message)
    assert claim is not None
    digest = None if payload_hash == UNSIGNED_PAYLOAD else payload_hash
    verify(claim, message, KEY.secret_key, now=NOW, payload_hash=digest)
    assert claim.payload_hash == payload_hash
    return claim


@pytest.mark.parametrize("region", [None, "eu-west-1"])
@pytest.mark.parametrize(
    ("body", "digest"),
    [
        (b"", EMPTY_SHA256),
        (b"abc", hashlib.sha256(b"abc").hexdigest()),
        ("é", hashlib.sha256("é".encode()).hexdigest()),
        (None, UNSIGNED_PAYLOAD),
    ],
)
def test_headers(region: str | None, body: Any, digest: str) -> None:
    signer = Signer(lambda: KEY, region=region, now=lambda: NOW)
    own = [("X-Amz-Meta-Who", "me"), ("Accept", "*/*"), ("Authorization", "old"), ("x-amz-date", "old")]
    added = signer.headers("put", URL, own, body)
    claim = verified("PUT", URL, [*own[:2], *added], digest)
    assert claim.algorithm == ("v4a" if region is None else "v4")
    assert "x-amz-meta-who" in claim.signed_headers
    assert "accept" not in claim.signed_headers


def test_ports_and_credentials_in_the_address() -> None:
    signer = Signer(KEY, now=lambda: NOW)
    for url, host in (
        ("https://a.example:443/x", "a.example"),
        ("http://u:p@a.example:8080/x", "a.example:8080"),
        ("http://[::1]:80/x", "[::1]"),
        ("http://[::1]/x", "[::1]"),
    ):
        verified("GET", url, [("host", host), *signer.headers("GET", url)], EMPTY_SHA256)


@pytest.mark.parametrize("body", [None, b"abc", "abc", io.BytesIO(b"abc")])
def test_requests(body: Any) -> None:
    requests = pytest.importorskip("requests")
    request = requests.Request("POST", URL, data=body, auth=Signer(KEY, now=lambda: NOW)).prepare()
    stream = isinstance(body, io.BytesIO)
    digest = UNSIGNED_PAYLOAD if stream else hashlib.sha256(b"abc").hexdigest() if body else EMPTY_SHA256
    verified("POST", request.url, request.headers.items(), digest)


@pytest.mark.parametrize("body", [None, b"abc", iter([b"abc"])])
def test_httpx(body: Any) -> None:
    httpx = pytest.importorskip("httpx")
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(request)
        return httpx.Response(200)

    with httpx.Client(transport=httpx.MockTransport(answer), auth=Signer(KEY, now=lambda: NOW)) as client:
        client.post(URL, content=body)
    digest = EMPTY_SHA256 if body is None else hashlib.sha256(b"abc").hexdigest()
    digest = digest if body is None or isinstance(body, bytes) else UNSIGNED_PAYLOAD
    verified("POST", str(seen[0].url), seen[0].headers.items(), digest)


BOTO3 = """
import sys
sys.modules["awscrt"] = None
import io, urllib.parse
from datetime import UTC, datetime
import boto3, botocore.auth
from botocore.awsrequest import AWSResponse
from nearpoint.aws.adapters import BotocoreSigner
from nearpoint.signing import Message, read_claim, verify
assert "nearpoint.stack" not in sys.modules
botocore.auth.AUTH_TYPE_MAPS.update(v4a=BotocoreSigner, s3v4a=BotocoreSigner)
s3 = boto3.client("s3", "eu-west-1", aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret")
seen = []
def send(request, **_):
    parts = urllib.parse.urlsplit(request.url)
    text = lambda value: value.decode() if isinstance(value, bytes) else value
    headers = [(name, text(value)) for name, value in request.headers.items()]
    message = Message(request.method, parts.path, parts.query, [*headers, ("host", parts.netloc)])
    claim = read_claim(message)
    verify(claim, message, "secret", now=datetime.now(UTC))
    seen.append((parts.netloc, claim.algorithm, claim.region_set))
    class Raw(io.BytesIO):
        def stream(self, **_):
            yield self.read()
    return AWSResponse(request.url, 200, {"ETag": '"x"'}, Raw(b""))
s3.meta.events.register("before-send", send)
arn = "arn:aws:s3::123456789012:accesspoint/m.mrap"
s3.put_object(Bucket=arn, Key="a b", Body=b"abc")
s3.get_object(Bucket=arn, Key="a b", Range="bytes=0-1")
s3.list_objects_v2(Bucket=arn, Prefix="x/y z")
assert seen == [("m.mrap.accesspoint.s3-global.amazonaws.com", "v4a", "*")] * 3, seen
"""


def test_boto3_without_anything_native() -> None:
    ran = subprocess.run([sys.executable, "-c", BOTO3], capture_output=True, text=True, check=False, timeout=60)
    assert ran.returncode == 0, ran.stderr
