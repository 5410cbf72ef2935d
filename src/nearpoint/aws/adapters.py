"""`nearpoint.signing` for the HTTP clients of Python: requests, httpx, urllib3, botocore. Imports none of them, and
nothing outside the standard library but `nearpoint.signing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from nearpoint.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, Credentials, Message, sign_v4, sign_v4a

# Whatever a request already has under these names is replaced.
_REPLACED = frozenset(("authorization", "x-amz-date", "x-amz-region-set", "x-amz-security-token"))
_DEFAULT_PORTS = {"http": 80, "https": 443}


def utc_now() -> datetime:
    """The time that signatures are made at."""
    return datetime.now(UTC)


class Signer:
    """Signs requests: with SigV4 for the `region` that is given, with SigV4A for every region otherwise.

    `credentials` may be a function, for those that change. As `auth=` it serves requests and httpx; `headers` serves
    everything else. Signed are the host and what is named `x-amz-*` or `content-md5`; a body that streams goes
    unsigned, which S3 takes over TLS.
    """

    def __init__(
        self,
        credentials: Credentials | Callable[[], Credentials],
        *,
        service: str = "s3",
        region: str | None = None,
        region_set: str = "*",
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._credentials = credentials
        self._service = service
        self._region = region
        self._region_set = region_set
        self._now = now

    def headers(
        self,
        method: str,
        url: str,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes | str | None = b"",
        *,
        payload_hash: str | None = None,
    ) -> list[tuple[str, str]]:
        """The headers to add to the request, or to put in the place of those it has.

        `url` is percent-encoded, as it goes over the wire; `headers` are those the request has; a `body` of None
        streams.
        """
        parts = urlsplit(url)
        given = [(name, value) for name, value in headers if name.lower() not in _REPLACED]
        host = next((value for name, value in given if name.lower() == "host"), None) or _host(
            parts.scheme, parts.netloc
        )
        to_sign = [("host", host)]
        to_sign += [(name, value) for name, value in given if _is_signed(name)]
        message = Message(method.upper(), parts.path or "/", parts.query, to_sign)
        digest = payload_hash or _digest(body)
        credentials = self._credentials() if callable(self._credentials) else self._credentials
        if self._region is not None:
            return sign_v4(
                message, credentials, region=self._region, service=self._service, now=self._now(), payload_hash=digest
            )
        return sign_v4a(
            message,
            credentials,
            region_set=self._region_set,
            service=self._service,
            now=self._now(),
            payload_hash=digest,
        )

    def __call__(self, request: Any) -> Any:
        """Sign a requests.PreparedRequest or an httpx.Request, and give it back."""
        body = request.body if hasattr(request, "body") else _httpx_body(request)
        if body is not None and not isinstance(body, bytes | str):
            body = None  # a file or a generator
        elif body is None and hasattr(request, "body"):
            body = b""  # requests says None for no body at all
        for name, value in self.headers(request.method, str(request.url), request.headers.items(), body):
            request.headers[name] = value
        return request


def _httpx_body(request: Any) -> bytes | None:
    try:
        content: bytes = request.content
    except Exception:  # httpx.RequestNotRead: it streams
        return None
    return content


def _host(scheme: str, netloc: str) -> str:
    """The Host that clients send: without the port where it is the scheme's own."""
    host = netloc.rpartition("@")[2]
    name, colon, port = host.rpartition(":")
    return name if colon and port == str(_DEFAULT_PORTS.get(scheme)) else host


def _is_signed(name: str) -> bool:
    lowered = name.lower()
    return lowered == "content-md5" or (lowered.startswith("x-amz-") and lowered != "x-amz-content-sha256")


def _digest(body: bytes | str | None) -> str:
    if body is None:
        return UNSIGNED_PAYLOAD
    octets = body.encode() if isinstance(body, str) else body
    return hashlib.sha256(octets).hexdigest() if octets else EMPTY_SHA256


class BotocoreSigner:
    """SigV4A for botocore and boto3 where awscrt is not installed: what a Multi-Region Access Point's ARN needs.

    botocore finds signers by name: `botocore.auth.AUTH_TYPE_MAPS.update(v4a=BotocoreSigner, s3v4a=BotocoreSigner)`.
    """

    REQUIRES_REGION = True
    REQUIRES_TOKEN = False
    REQUIRES_IDENTITY_CACHE = False

    def __init__(self, credentials: Any, service_name: str, region_name: str) -> None:
        self._signer = Signer(
            Credentials(credentials.access_key, credentials.secret_key, credentials.token),
            service=service_name,
            region_set=region_name,
        )

    def add_auth(self, request: Any) -> None:
        """Sign a botocore.awsrequest.AWSRequest in place."""
        # botocore says here what a body is that it sends in chunks with a checksum behind.
        stated = request.headers.get("X-Amz-Content-SHA256")
        in_memory = request.body is None or isinstance(request.body, bytes | str)
        body = (request.body or b"") if in_memory else None
        signed = self._signer.headers(
            request.method, request.url, list(request.headers.items()), body, payload_hash=stated
        )
        for name, value in signed:
            if name in request.headers:
                del request.headers[name]
            request.headers[name] = value
