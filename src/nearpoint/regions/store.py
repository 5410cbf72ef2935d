"""An S3 client for one region's store, whichever store that is.

It signs with the store's own credentials (SigV4), puts the bucket where the store wants it, keeps every byte of the
key, and streams both ways. The connection may go elsewhere (a relay) while the signature names the store's endpoint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import datetime
from urllib.parse import quote_from_bytes, urlsplit

from nearpoint.regions.catalog import StoreSpec
from nearpoint.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, Credentials, Message, V4Signer
from nearpoint.wire.client import Client, Origin, Timeouts
from nearpoint.wire.message import Body, BytesBody, Headers, Request, Response

_SIGNED = frozenset({"content-type", "content-md5"})


def encode_key(key: str) -> str:
    """The path of a key as S3 signs it: UTF-8, everything encoded but unreserved characters and `/`, `..` kept.

    A lone surrogate stands for a byte that is not UTF-8 (`os.fsdecode`), so any key that was received can be sent.
    """
    return quote_from_bytes(key.encode("utf-8", "surrogateescape"), safe="/")


class Store:
    """The store of one region. One instance serves any number of requests at once."""

    def __init__(
        self,
        spec: StoreSpec,
        client: Client,
        *,
        clock: Callable[[], datetime],
        connect_to: Origin | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        """`clock` gives the time in UTC; `connect_to` is where to connect instead of the endpoint itself."""
        parts = urlsplit(spec.endpoint)
        tls = parts.scheme == "https"
        host = parts.hostname or ""
        self.spec = spec
        self._client = client
        self._clock = clock
        self._timeouts = timeouts if timeouts is not None else Timeouts()
        self._signer = V4Signer(
            Credentials(spec.access_key_id, spec.secret_key, spec.session_token), region=spec.signing_region
        )
        self._prefix = parts.path.rstrip("/")
        self._authority = parts.netloc
        port = parts.port or (443 if tls else 80)
        self._origin = connect_to or Origin(host=host, port=port, tls=tls, server_name=host if tls else None)

    @property
    def region(self) -> str:
        """The region this store stands in."""
        return self.spec.region

    @property
    def origin(self) -> Origin:
        """Where connections go."""
        return self._origin

    def address(self, bucket: str | None, key: str | None) -> tuple[str, str]:
        """The Host header and the percent-encoded path of a bucket or key; neither given: the store itself."""
        path = "" if key is None else "/" + encode_key(key)
        if bucket is None:
            return self._authority, self._prefix + "/"
        if self.spec.addressing == "virtual":
            return f"{bucket}.{self._authority}", self._prefix + (path or "/")
        return self._authority, f"{self._prefix}/{bucket}{path}"

    async def send(
        self,
        method: str,
        bucket: str | None,
        key: str | None = None,
        *,
        query: str = "",
        headers: Headers | None = None,
        body: Body | bytes = b"",
        payload_hash: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> Response:
        """Send one signed request and return the response with its body still to come.

        `key` is the key itself, not encoded; `query` is the raw query string; `headers` carries no Host and nothing of
        another signature. `payload_hash` is the value of `x-amz-content-sha256`; left out, bytes are hashed and
        streams go as UNSIGNED-PAYLOAD. Raises wire's UpstreamError when the store cannot be reached or stops
        half-way, and whatever `body` raises while it is read (the request is cut off then, so the store drops it).
        """
        request = self.request(method, bucket, key, query=query, headers=headers, body=body, payload_hash=payload_hash)
        return await self.send_signed(request, timeouts)

    def request(
        self,
        method: str,
        bucket: str | None,
        key: str | None = None,
        *,
        query: str = "",
        headers: Headers | None = None,
        body: Body | bytes = b"",
        payload_hash: str | None = None,
    ) -> Request:
        """The signed request that `send` sends. It is good for 15 minutes, and any number of times without a body."""
        host, path = self.address(bucket, key)
        content: Body = BytesBody(body) if isinstance(body, bytes) else body
        if payload_hash is None:
            payload_hash = _hash_of(content)
        to_sign = [("Host", host)]
        plain = [("Host", host)]
        if headers is not None:
            plain.extend(headers)
            for item in headers:
                name = item[0].lower()
                if name.startswith("x-amz-") or name in _SIGNED:
                    to_sign.append(item)
        plain.extend(
            self._signer.sign(Message(method, path, query, to_sign), now=self._clock(), payload_hash=payload_hash)
        )
        return Request(method, f"{path}?{query}" if query else path, Headers(plain), content)

    async def send_signed(self, request: Request, timeouts: Timeouts | None = None) -> Response:
        """Send what `request` made. Raises as `send` does."""
        return await self._client.send(request, self._origin, timeouts or self._timeouts)


def _hash_of(body: Body) -> str:
    if not isinstance(body, BytesBody):
        return UNSIGNED_PAYLOAD
    return hashlib.sha256(body.data).hexdigest() if body.data else EMPTY_SHA256
