"""Signed URLs and signed cookies: whether a request of a restricted behavior may be answered.

CloudFront Developer Guide, "Use signed URLs", "Use signed cookies" and "Create a signed URL using a canned policy". A
canned policy is not sent: its text follows from the URL and the time it expires.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from nearpoint.edge.behavior import PathPattern
from nearpoint.wire.message import Headers

Key = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

PARAMETERS = frozenset({"Expires", "Policy", "Signature", "Key-Pair-Id", "Hash-Algorithm"})
COOKIE_PREFIX = "CloudFront-"
_FROM_URL_TEXT = str.maketrans("-_~", "+=/")
_HASHES: Mapping[str, type[hashes.HashAlgorithm]] = {"": hashes.SHA1, "SHA1": hashes.SHA1, "SHA256": hashes.SHA256}


def read_public_key(pem: str) -> Key:
    """A public key that may verify: RSA of 2,048 bits, or ECDSA over P-256. Raises ValueError."""
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("it is no public key in PEM") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size != 2048:
            raise ValueError(f"an RSA key has to have 2048 bits, not {key.key_size}")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, ec.SECP256R1):
            raise ValueError(f"an ECDSA key has to be over P-256, not {key.curve.name}")
        return key
    raise ValueError("it is neither RSA nor ECDSA")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is not answered: the code and message of CloudFront's 403."""

    code: str
    message: str


MISSING_KEY = Refusal(code="MissingKey", message="Missing Key-Pair-Id query parameter or cookie value")
UNKNOWN_KEY = Refusal(code="InvalidKey", message="Unknown Key")
MISSING_SIGNATURE = Refusal(code="MissingSignature", message="Missing Signature query parameter or cookie value")
MALFORMED_SIGNATURE = Refusal(code="MalformedSignature", message="Could not unencode Signature")
MISSING_POLICY = Refusal(code="MissingPolicy", message="Missing Policy or Expires query parameter or cookie value")
MALFORMED_POLICY = Refusal(code="MalformedPolicy", message="Malformed Policy")
DENIED = Refusal(code="AccessDenied", message="Access denied")


def without_parameters(query: str) -> str:
    """The query less what belongs to the signature: what the origin and the cache key see, and what was signed."""
    if not query:
        return query
    return "&".join(item for item in query.split("&") if item.partition("=")[0] not in PARAMETERS)


def without_cookies(headers: Headers) -> Headers:
    """The headers less the cookies that belong to the signature."""
    sent = headers.get_all("cookie")
    if not any(COOKIE_PREFIX in each for each in sent):
        return headers
    kept = headers.copy()
    kept.remove("cookie")
    for each in sent:
        pairs = (pair.strip() for pair in each.split(";"))
        rest = "; ".join(pair for pair in pairs if pair and _cookie_name(pair) not in PARAMETERS)
        if rest:
            kept.add("Cookie", rest)
    return kept


def _cookie_name(pair: str) -> str:
    """`Policy` for `CloudFront-Policy=…`, and so on; empty for a cookie of another name."""
    name = pair.partition("=")[0].strip()
    return name.removeprefix(COOKIE_PREFIX) if name.startswith(COOKIE_PREFIX) else ""


def _sent(query: str, headers: Headers) -> dict[str, str]:
    """What the request says of its signature. With any of it in the URL the cookies do not count; first wins."""
    sent: dict[str, str] = {}
    for item in query.split("&"):
        name, _, value = item.partition("=")
        if name in PARAMETERS:
            sent.setdefault(name, value)
    if "Key-Pair-Id" in sent or "Signature" in sent:
        return sent
    from_cookies: dict[str, str] = {}
    for each in headers.get_all("cookie"):
        for pair in each.split(";"):
            name = _cookie_name(pair)
            if name in PARAMETERS:
                from_cookies.setdefault(name, pair.partition("=")[2].strip().strip('"'))
    return from_cookies


def check_access(
    *, scheme: str, host: str, path: str, query: str, headers: Headers, keys: Mapping[str, Key], now: float, ip: str
) -> Refusal | None:
    """Why the request may not be answered, or None: it may.

    `scheme`, `host` (with a port, if there is one), `path` and `query` are as the viewer sent them; `keys` are the
    trusted ones by id; `now` is in Unix seconds; `ip` is the viewer's.
    """
    sent = _sent(query, headers)
    if not sent.get("Key-Pair-Id"):
        return MISSING_KEY
    key = keys.get(sent["Key-Pair-Id"])
    if key is None:
        return UNKNOWN_KEY
    if not sent.get("Signature"):
        return MISSING_SIGNATURE
    algorithm = _HASHES.get(sent.get("Hash-Algorithm", ""))
    if algorithm is None:
        return DENIED
    try:
        signature = _decoded(sent["Signature"])
    except ValueError:
        return MALFORMED_SIGNATURE
    rest = without_parameters(query)
    url = f"{scheme}://{host}{path}" + (f"?{rest}" if rest else "")
    if sent.get("Policy"):
        try:
            text = _decoded(sent["Policy"])
        except ValueError:
            return MALFORMED_POLICY
    elif sent.get("Expires"):
        if not re.fullmatch(r"[0-9]{1,12}", sent["Expires"]):
            return MALFORMED_POLICY
        text = canned_policy(url, int(sent["Expires"])).encode("latin-1")
    else:
        return MISSING_POLICY
    if not _verifies(key, signature, text, algorithm()):
        return DENIED
    policy = _read_policy(text)
    if policy is None:
        return MALFORMED_POLICY
    return None if policy.allows(url, now, ip, canned=not sent.get("Policy")) else DENIED


def canned_policy(url: str, expires_at: int) -> str:
    """The text that is signed when there is no policy of one's own (URL as on the wire, without the signature)."""
    return f'{{"Statement":[{{"Resource":"{url}","Condition":{{"DateLessThan":{{"AWS:EpochTime":{expires_at}}}}}}}]}}'


def _decoded(value: str) -> bytes:
    """Base 64 in CloudFront's alphabet (`-_~` for `+=/`). Raises ValueError."""
    try:
        return base64.b64decode(value.translate(_FROM_URL_TEXT), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("not base 64") from None


def _verifies(key: Key, signature: bytes, text: bytes, algorithm: hashes.HashAlgorithm) -> bool:
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, text, padding.PKCS1v15(), algorithm)
        else:
            key.verify(signature, text, ec.ECDSA(algorithm))
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Policy:
    """A policy whose signature is right. Times in Unix seconds."""

    resource: str | None
    before: int
    after: int | None
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None

    def allows(self, url: str, now: float, ip: str, *, canned: bool) -> bool:
        """`canned`: its resource is the URL by construction, and a `*` in it is only a `*`."""
        if now >= self.before or (self.after is not None and now <= self.after):
            return False
        if self.network is not None:
            try:
                address = ipaddress.ip_address(ip)
            except ValueError:
                return False
            if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
                address = address.ipv4_mapped
            if address not in self.network:
                return False
        return canned or self.resource is None or matches(self.resource, url)


def matches(resource: str, url: str) -> bool:
    """Whether a policy's resource names the URL: `*` stands for any run of characters, `?` for exactly one."""
    return PathPattern(resource, tuple(re.sub(r"\*+", "*", resource).split("*"))).matches(url)


def _read_policy(text: bytes) -> _Policy | None:
    """The one statement of a policy, or None: malformed."""
    try:
        document: Any = msgspec.json.decode(text)
        (statement,) = document["Statement"]
        condition = statement["Condition"]
        before = condition["DateLessThan"]["AWS:EpochTime"]
        after = condition["DateGreaterThan"]["AWS:EpochTime"] if "DateGreaterThan" in condition else None
        cidr = condition["IpAddress"]["AWS:SourceIp"] if "IpAddress" in condition else None
        network = None if cidr is None else ipaddress.ip_network(cidr, strict=False)
        resource = statement.get("Resource")
    except (msgspec.MsgspecError, RecursionError, KeyError, TypeError, ValueError, AttributeError):
        return None
    times = [before] if after is None else [before, after]
    if any(isinstance(time, bool) or not isinstance(time, int) for time in times):
        return None
    if resource is not None and not isinstance(resource, str):
        return None
    if not set(condition) <= {"DateLessThan", "DateGreaterThan", "IpAddress"}:
        return None
    return _Policy(resource=resource, before=before, after=after, network=network)
