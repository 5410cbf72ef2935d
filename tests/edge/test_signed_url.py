"""Signed URLs and cookies: tables of what is let through, with boto3's signer as the other side."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.signers import CloudFrontSigner
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from nearpoint.edge.signed_url import (
    DENIED,
    MALFORMED_POLICY,
    MALFORMED_SIGNATURE,
    MISSING_KEY,
    MISSING_POLICY,
    MISSING_SIGNATURE,
    UNKNOWN_KEY,
    check_access,
    matches,
    read_public_key,
    without_cookies,
    without_parameters,
)
from nearpoint.wire.message import Headers

NOW = 1_800_000_000
PRIVATE = rsa.generate_private_key(65537, 2048)
ELLIPTIC = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return str(key.public_key().public_bytes(serialization.Encoding.PEM, form).decode())


KEYS = {"K1": read_public_key(pem(PRIVATE)), "K2": read_public_key(pem(ELLIPTIC))}
URL = "https://d1.cloudfront.net/a/b.jpg"


def sign(text: bytes, algorithm: Any = hashes.SHA1, key: Any = PRIVATE) -> bytes:
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(text, padding.PKCS1v15(), algorithm())
    return bytes(key.sign(text, ec.ECDSA(algorithm())))


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode().translate(str.maketrans("+=/", "-_~"))


def check(url: str, *, cookies: str = "", now: float = NOW, ip: str = "192.0.2.7", keys: Any = KEYS) -> Any:
    parts = urlsplit(url)
    headers = Headers([("Cookie", cookies)] if cookies else [])
    return check_access(
        scheme=parts.scheme, host=parts.netloc, path=parts.path, query=parts.query, headers=headers, keys=keys,
        now=now, ip=ip,
    )  # fmt: skip


def signed(url: str, *, until: int = NOW + 60, policy: str | None = None) -> str:
    signer = CloudFrontSigner("K1", sign)
    if policy is not None:
        return str(signer.generate_presigned_url(url, policy=policy))
    return str(signer.generate_presigned_url(url, datetime.datetime.fromtimestamp(until, datetime.UTC)))


def statement(resource: str | None = URL, **conditions: Any) -> str:
    given = {"DateLessThan": {"AWS:EpochTime": NOW + 60}, **conditions}
    inside: dict[str, Any] = {"Condition": {name: value for name, value in given.items() if value is not None}}
    if resource is not None:
        inside["Resource"] = resource
    return json.dumps({"Statement": [inside]}, separators=(",", ":"))


@pytest.mark.parametrize("url", [URL, f"{URL}?size=large&x=1", "http://d1.cloudfront.net:8080/", f"{URL}?Policies=1"])
def test_canned_policies_of_boto3(url: str) -> None:
    made = signed(url)
    assert check(made) is None
    assert check(made, now=NOW + 60) == DENIED
    assert check(made.replace("/d1.", "/d2.")) == DENIED
    assert check(made.replace("http", "https", 1) if made.startswith("http:") else "http" + made[5:]) == DENIED
    assert check(made.replace("Expires=18", "Expires=19")) == DENIED
    assert check(made + "&more=1") == DENIED


@pytest.mark.parametrize(
    ("policy", "changes", "allowed"),
    [
        (statement(), {}, True),
        (statement(), {"now": NOW + 60}, False),
        (statement("*"), {}, True),
        (statement(None), {}, True),
        (statement("https://d1.cloudfront.net/a/*"), {}, True),
        (statement("http*://d1.cloudfront.net/*.jpg"), {}, True),
        (statement("https://d1.cloudfront.net/a/?.jpg"), {}, True),
        (statement("https://d1.cloudfront.net/a/??.jpg"), {}, False),
        (statement("https://d1.cloudfront.net/b/*"), {}, False),
        (statement("http://d1.cloudfront.net/a/b.jpg"), {}, False),
        (statement(DateGreaterThan={"AWS:EpochTime": NOW - 1}), {}, True),
        (statement(DateGreaterThan={"AWS:EpochTime": NOW + 1}), {}, False),
        (statement(IpAddress={"AWS:SourceIp": "192.0.2.0/24"}), {}, True),
        (statement(IpAddress={"AWS:SourceIp": "192.0.2.7"}), {}, True),
        (statement(IpAddress={"AWS:SourceIp": "192.0.2.7/32"}), {"ip": "192.0.2.8"}, False),
        (statement(IpAddress={"AWS:SourceIp": "192.0.2.0/24"}), {"ip": "::ffff:192.0.2.9"}, True),
        (statement(IpAddress={"AWS:SourceIp": "192.0.2.0/24"}), {"ip": "2001:db8::1"}, False),
        (statement(IpAddress={"AWS:SourceIp": "0.0.0.0/0"}), {"ip": ""}, False),
    ],
)
def test_custom_policies(policy: str, changes: dict[str, Any], allowed: bool) -> None:
    assert check(signed(URL, policy=policy), **changes) == (None if allowed else DENIED)


@pytest.mark.parametrize(
    "policy",
    [
        "{}",
        "[]",
        "not json",
        '{"Statement":[]}',
        statement(DateLessThan=None),
        statement(DateLessThan={"AWS:EpochTime": "1800000060"}),
        statement(DateLessThan={"AWS:EpochTime": True}),
        statement(IpAddress={"AWS:SourceIp": "nowhere"}),
        statement(Else={}),
        json.dumps({"Statement": [json.loads(statement())["Statement"][0]] * 2}),
        json.dumps({"Statement": [{"Resource": 5, "Condition": {"DateLessThan": {"AWS:EpochTime": NOW + 60}}}]}),
    ],
)
def test_malformed_policies(policy: str) -> None:
    assert check(signed(URL, policy=policy)) == MALFORMED_POLICY


def test_what_is_missing_or_wrong() -> None:
    made = signed(URL)
    query = dict(item.split("=", 1) for item in made.partition("?")[2].split("&"))

    def without(*names: str, **others: str) -> str:
        left = {name: value for name, value in query.items() if name not in names} | others
        return f"{URL}?" + "&".join(f"{name.replace('_', '-')}={value}" for name, value in left.items())

    assert check(URL) == MISSING_KEY
    assert check(without("Key-Pair-Id")) == MISSING_KEY
    assert check(without("Key-Pair-Id", Key_Pair_Id="K9")) == UNKNOWN_KEY
    assert check(made, keys={}) == UNKNOWN_KEY
    assert check(without("Signature")) == MISSING_SIGNATURE
    assert check(without("Signature", Signature="!!")) == MALFORMED_SIGNATURE
    assert check(without("Signature", Signature="AAAA")) == DENIED
    assert check(without("Expires")) == MISSING_POLICY
    assert check(without("Expires", Expires="soon")) == MALFORMED_POLICY
    assert check(without(Policy="!")) == MALFORMED_POLICY
    assert check(without(Hash_Algorithm="SHA256")) == DENIED
    assert check(without(Hash_Algorithm="MD5")) == DENIED
    assert check(without("Key-Pair-Id", Key_Pair_Id="K2")) == DENIED  # another key's signature


@pytest.mark.parametrize(("key_id", "key"), [("K1", PRIVATE), ("K2", ELLIPTIC)])
@pytest.mark.parametrize(("name", "algorithm"), [("", hashes.SHA1), ("SHA1", hashes.SHA1), ("SHA256", hashes.SHA256)])
def test_keys_and_hashes(key_id: str, key: Any, name: str, algorithm: Any) -> None:
    policy = statement().encode()
    query = f"Policy={encoded(policy)}&Signature={encoded(sign(policy, algorithm, key))}&Key-Pair-Id={key_id}"
    assert check(f"{URL}?{query}" + (f"&Hash-Algorithm={name}" if name else "")) is None


def test_cookies() -> None:
    policy = statement("https://d1.cloudfront.net/*").encode()
    cookies = (
        f"a=1; CloudFront-Policy={encoded(policy)}; CloudFront-Signature={encoded(sign(policy))}; "
        "CloudFront-Key-Pair-Id=K1"
    )
    assert check(URL, cookies=cookies) is None
    assert check("https://d1.cloudfront.net/other?x=1", cookies=cookies) is None
    assert check(URL, cookies=cookies, now=NOW + 61) == DENIED
    # With a signature in the URL that one alone counts.
    assert check(f"{URL}?Key-Pair-Id=K1&Signature=AAAA&Expires=1", cookies=cookies) == DENIED
    canned = f'{{"Statement":[{{"Resource":"{URL}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{NOW + 9}}}}}}}]}}'
    cookies = (
        f"CloudFront-Expires={NOW + 9}; CloudFront-Signature={encoded(sign(canned.encode()))}; "
        "CloudFront-Key-Pair-Id=K1"
    )
    assert check(URL, cookies=cookies) is None
    assert check(f"{URL}?x=1", cookies=cookies) == DENIED


def test_what_the_origin_does_not_see() -> None:
    assert without_parameters("") == ""
    assert without_parameters("a=1&Expires=2&b&Signature=x&Key-Pair-Id=K&Policy=p&Hash-Algorithm=SHA256") == "a=1&b"
    assert without_parameters("expires=2&Expires2=3") == "expires=2&Expires2=3"
    headers = Headers([("A", "b"), ("Cookie", "s=1; CloudFront-Policy=x; CloudFront-Other=2")])
    assert list(without_cookies(headers)) == [("A", "b"), ("Cookie", "s=1; CloudFront-Other=2")]
    assert list(without_cookies(Headers([("Cookie", "CloudFront-Key-Pair-Id=K")]))) == []
    plain = Headers([("Cookie", "s=1")])
    assert without_cookies(plain) is plain


def test_a_hostile_resource_takes_linear_time() -> None:
    assert not matches("*a" * 4000 + "*b", "a" * 8000)
    assert matches("*a" * 4000, "a" * 8000)


@pytest.mark.parametrize(
    "text",
    ["", "no key", pem(rsa.generate_private_key(65537, 1024)), pem(ec.generate_private_key(ec.SECP384R1()))],
)
def test_keys_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"it|key"):
        read_public_key(text)
