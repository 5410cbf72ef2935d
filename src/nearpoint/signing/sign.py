"""Signs a request with SigV4 or SigV4A, in headers or in the query.

In order: the fields to sign, the canonical request, the string to sign, the signature. `inspect_*` show each of them.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import timezone

from nearpoint.signing import canonical, keys
from nearpoint.signing.regionset import is_region_set
from nearpoint.signing.values import (
    ECDSA_ALGORITHM,
    EMPTY_SHA256,
    HMAC_ALGORITHM,
    S3_SERVICES,
    UNSIGNED_PAYLOAD,
    Inspection,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from typing import Final

    from nearpoint.signing.values import Credentials, Message

# Messages that differ in path and query alone share the rest of what is signed; so many kinds of them in one second.
_KNOWN_MAX = 64
EXPIRES_S_MAX = 604_800  # a week (S3 API Reference, "Authenticating requests: using query parameters")

# What a proxy, a load balancer or CloudFront changes on the way; signing these breaks signatures now and then.
_NOT_SIGNED = frozenset(
    {
        "authorization",
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
        "x-amzn-trace-id",
        "x-forwarded-for",
        "x-forwarded-proto",
    }
)


def _timestamp(now: datetime) -> str:
    if now.tzinfo is not timezone.utc:
        if now.tzinfo is None:
            raise ValueError("now must carry a time zone")
        now = now.astimezone(timezone.utc)
    return canonical.timestamp(now.replace(microsecond=0))


def _fields(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in _NOT_SIGNED:
            continue
        clean = canonical.header_value(value)
        fields[lowered] = f"{fields[lowered]},{clean}" if lowered in fields else clean
    if "host" not in fields:
        raise ValueError("a request without Host can't be signed")
    return fields


class _Signer:
    """Whose signature, for where and when: what SigV4 and SigV4A do differently. `region` is None for SigV4A."""

    __slots__ = (
        "_credentials",
        "_key",
        "_known",
        "_region",
        "algorithm",
        "credential",
        "extra",
        "scope",
        "service",
        "timestamp",
    )

    def __init__(
        self,
        credentials: Credentials,
        service: str,
        now: datetime,
        *,
        region: str | None = None,
        region_set: str = "",
    ) -> None:
        self._credentials = credentials
        self._region = region
        self._key: bytes | None = None
        self._known: dict[tuple[tuple[tuple[str, str], ...], str], _SignedHeaders] = {}
        self.service = service
        self.timestamp = _timestamp(now)
        self.extra: list[tuple[str, str]] = []
        day = self.timestamp[:8]
        if region is None:
            if region_set != "*" and not is_region_set(region_set):
                raise ValueError(f"not a region set: {region_set!r}")
            self.algorithm = ECDSA_ALGORITHM
            self.scope = f"{day}/{service}/aws4_request"
            self.extra.append(("X-Amz-Region-Set", region_set))
        else:
            self.algorithm = HMAC_ALGORITHM
            self.scope = f"{day}/{region}/{service}/aws4_request"
        self.credential = f"{credentials.access_key_id}/{self.scope}"
        if credentials.session_token is not None:
            self.extra.append(("X-Amz-Security-Token", credentials.session_token))

    def headers(self, headers: Sequence[tuple[str, str]], payload_hash: str) -> _SignedHeaders:
        """What goes before and behind the signature of a message with these headers."""
        key = (tuple(headers), payload_hash)
        found = self._known.get(key)
        if found is None:
            found = self._make_headers(headers, payload_hash)
            if len(self._known) < _KNOWN_MAX:
                self._known[key] = found
        return found

    def _make_headers(self, headers: Sequence[tuple[str, str]], payload_hash: str) -> _SignedHeaders:
        added = [("X-Amz-Date", self.timestamp), *self.extra]
        if self.service in S3_SERVICES:
            added.append(("X-Amz-Content-Sha256", payload_hash))
        fields = _fields(headers)
        for name, value in added:
            fields[name.lower()] = value
        ordered = sorted(fields.items())
        names = ";".join([name for name, _ in ordered])
        return _SignedHeaders(
            added=added,
            signed=canonical.signed_part(ordered, payload_hash),
            authorization=f"{self.algorithm} Credential={self.credential}, SignedHeaders={names}, Signature=",
        )

    def sign(self, text: str) -> str:
        who = self._credentials
        if self._region is None:
            digest = hashlib.sha256(text.encode("latin-1")).digest()
            return keys.v4a_key(who.access_key_id, who.secret_key).sign(digest).hex()
        key = self._key
        if key is None:
            key = self._key = keys.v4_key(who.secret_key, self.timestamp[:8], self._region, self.service)
        return hmac.digest(key, text.encode("latin-1"), "sha256").hex()


class _SignedHeaders:
    """The header form but for the path, the query and the signature: `added` and `authorization` go into the request,
    `signed` into the canonical request."""

    __slots__ = ("added", "authorization", "signed")

    def __init__(self, *, added: list[tuple[str, str]], signed: str, authorization: str) -> None:
        self.added: Final = added
        self.signed: Final = signed
        self.authorization: Final = authorization


def _checkpoints(message: Message, query: str, signer: _Signer, signed: str) -> tuple[str, str, str]:
    of_path = canonical.path_of_s3 if signer.service in S3_SERVICES else canonical.path_of_others
    request = canonical.canonical_request(
        message.method,
        of_path(message.path),
        canonical.query_of(canonical.query_parameters(query)) if query else "",
        signed,
    )
    text = canonical.string_to_sign(signer.algorithm, signer.timestamp, signer.scope, request)
    return request, text, signer.sign(text)


def _in_headers(message: Message, signer: _Signer, payload_hash: str) -> Inspection:
    about = signer.headers(message.headers, payload_hash)
    request, text, signature = _checkpoints(message, message.query, signer, about.signed)
    headers = [*about.added, ("Authorization", about.authorization + signature)]
    return Inspection(
        canonical_request=request, string_to_sign=text, signature=signature, headers=headers, query=message.query
    )


def _in_query(message: Message, signer: _Signer, payload_hash: str | None, expires_s: int) -> Inspection:
    if not 1 <= expires_s <= EXPIRES_S_MAX:
        raise ValueError(f"expires_s must be 1 to {EXPIRES_S_MAX}, not {expires_s}")
    if payload_hash is None:
        payload_hash = UNSIGNED_PAYLOAD if signer.service in S3_SERVICES else EMPTY_SHA256
    ordered = sorted(_fields(message.headers).items())
    added = [
        ("X-Amz-Algorithm", signer.algorithm),
        ("X-Amz-Credential", signer.credential),
        ("X-Amz-Date", signer.timestamp),
        ("X-Amz-Expires", str(expires_s)),
        ("X-Amz-SignedHeaders", ";".join([name for name, _ in ordered])),
        *signer.extra,
    ]
    extra = "&".join([f"{name}={canonical.encode(value.encode('latin-1'))}" for name, value in added])
    query = f"{message.query}&{extra}" if message.query else extra
    signed = canonical.signed_part(ordered, payload_hash)
    request, text, signature = _checkpoints(message, query, signer, signed)
    return Inspection(
        canonical_request=request,
        string_to_sign=text,
        signature=signature,
        headers=[],
        query=f"{query}&X-Amz-Signature={signature}",
    )


def inspect_v4(
    message: Message,
    credentials: Credentials,
    *,
    region: str,
    service: str = "s3",
    now: datetime,
    payload_hash: str,
) -> Inspection:
    """`sign_v4` with its three checkpoints."""
    return _in_headers(message, _Signer(credentials, service, now, region=region), payload_hash)


def inspect_v4a(
    message: Message,
    credentials: Credentials,
    *,
    region_set: str = "*",
    service: str = "s3",
    now: datetime,
    payload_hash: str,
) -> Inspection:
    """`sign_v4a` with its three checkpoints."""
    return _in_headers(message, _Signer(credentials, service, now, region_set=region_set), payload_hash)


class V4Signer:
    """`sign_v4` for many requests with one key to one place: what they share is computed once a second."""

    __slots__ = ("_credentials", "_region", "_second", "_service", "_signer")

    def __init__(self, credentials: Credentials, *, region: str, service: str = "s3") -> None:
        self._credentials = credentials
        self._region = region
        self._service = service
        self._second: datetime | None = None
        self._signer: _Signer | None = None

    def sign(self, message: Message, *, now: datetime, payload_hash: str) -> list[tuple[str, str]]:
        """As `sign_v4`."""
        signer = self._signer
        second = now.replace(microsecond=0)
        if signer is None or second != self._second:
            signer = self._signer = _Signer(self._credentials, self._service, now, region=self._region)
            self._second = second
        about = signer.headers(message.headers, payload_hash)
        _, _, signature = _checkpoints(message, message.query, signer, about.signed)
        return [*about.added, ("Authorization", about.authorization + signature)]


def sign_v4(
    message: Message,
    credentials: Credentials,
    *,
    region: str,
    service: str = "s3",
    now: datetime,
    payload_hash: str,
) -> list[tuple[str, str]]:
    """The headers to add to the request, or to put in the place of those it has.

    X-Amz-Date, X-Amz-Content-Sha256 (S3 only), X-Amz-Security-Token (with a session) and Authorization. `payload_hash`
    is the body's SHA-256 in lower-case hex or one of `PAYLOAD_WORDS`. Every header of the message is signed but those
    that change on the way (User-Agent, Via, hop-by-hop …). Raises ValueError for a message without Host or a naive
    `now`.
    """
    return inspect_v4(message, credentials, region=region, service=service, now=now, payload_hash=payload_hash).headers


def sign_v4a(
    message: Message,
    credentials: Credentials,
    *,
    region_set: str = "*",
    service: str = "s3",
    now: datetime,
    payload_hash: str,
) -> list[tuple[str, str]]:
    """As `sign_v4`, with X-Amz-Region-Set: the Regions in which the signature is good, `*` for all."""
    return inspect_v4a(
        message, credentials, region_set=region_set, service=service, now=now, payload_hash=payload_hash
    ).headers


def presign_v4(
    message: Message,
    credentials: Credentials,
    *,
    region: str,
    service: str = "s3",
    now: datetime,
    expires_s: int,
    payload_hash: str | None = None,
) -> str:
    """The new query, good for `expires_s` (1 to 604,800) seconds.

    Whoever uses it has to send the message's headers as they are here, so give only Host and what has to be fixed.
    `payload_hash` defaults to UNSIGNED-PAYLOAD for S3 and to the empty body elsewhere. Raises ValueError.
    """
    signer = _Signer(credentials, service, now, region=region)
    return _in_query(message, signer, payload_hash, expires_s).query


def presign_v4a(
    message: Message,
    credentials: Credentials,
    *,
    region_set: str = "*",
    service: str = "s3",
    now: datetime,
    expires_s: int,
    payload_hash: str | None = None,
) -> str:
    """As `presign_v4`, good in every Region of the set."""
    signer = _Signer(credentials, service, now, region_set=region_set)
    return _in_query(message, signer, payload_hash, expires_s).query


def inspect_presign_v4(
    message: Message,
    credentials: Credentials,
    *,
    region: str,
    service: str = "s3",
    now: datetime,
    expires_s: int,
    payload_hash: str | None = None,
) -> Inspection:
    """`presign_v4` with its three checkpoints."""
    signer = _Signer(credentials, service, now, region=region)
    return _in_query(message, signer, payload_hash, expires_s)


def inspect_presign_v4a(
    message: Message,
    credentials: Credentials,
    *,
    region_set: str = "*",
    service: str = "s3",
    now: datetime,
    expires_s: int,
    payload_hash: str | None = None,
) -> Inspection:
    """`presign_v4a` with its three checkpoints."""
    signer = _Signer(credentials, service, now, region_set=region_set)
    return _in_query(message, signer, payload_hash, expires_s)
