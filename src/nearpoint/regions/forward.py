"""Sends an authenticated S3 request on to a bucket of a store, and brings the answer back.

What belonged to the client's connection or signature stays behind; everything else goes byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import unquote

from nearpoint.regions.payload import Payload
from nearpoint.regions.store import Store
from nearpoint.wire.client import Timeouts
from nearpoint.wire.message import Headers, Request, Response

# RFC 9110 §7.6.1; a field that Connection names is one as well.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_SIGNATURE_HEADERS = frozenset(
    {"authorization", "date", "x-amz-content-sha256", "x-amz-date", "x-amz-region-set", "x-amz-security-token"}
)
_BODY_HEADERS = frozenset(
    {"content-encoding", "content-length", "expect", "x-amz-decoded-content-length", "x-amz-trailer"}
)
_LEFT_BEHIND = HOP_BY_HOP | _SIGNATURE_HEADERS | _BODY_HEADERS | {"host"}
_OWN = "x-nearpoint-"  # said between a client and this endpoint
# Connection may name what is meant for the next hop only, never what S3 reads: policies have looked at it.
_OF_S3 = ("x-amz-", "if-", "content-", "cache-control", "expires", "range")
SIGNATURE_PARAMETERS = frozenset(
    {
        "x-amz-algorithm",
        "x-amz-content-sha256",
        "x-amz-credential",
        "x-amz-date",
        "x-amz-expires",
        "x-amz-region-set",
        "x-amz-security-token",
        "x-amz-signature",
        "x-amz-signedheaders",
    }
)
# A body that cannot be sent twice waits for the store's 100, so that a refusal costs the client nothing.
EXPECT_ABOVE_BYTES = 65_536


def outgoing_query(query: str) -> str:
    """The raw query string without the parameters of a presigned URL; the others in place, byte for byte."""
    if not query or ("%" not in query and "x-amz-" not in query.lower()):
        return query
    kept = [
        part
        for part in query.split("&")
        if unquote(part.partition("=")[0], encoding="latin-1").lower() not in SIGNATURE_PARAMETERS
    ]
    return "&".join(kept)


def outgoing_headers(headers: Headers, payload: Payload) -> Headers:
    """The header fields for the store: the client's own, without its hop and its signature, and the payload's."""
    kept = []
    connection = ""
    for item in headers:
        name = item[0].lower()
        if name in _LEFT_BEHIND:
            if name == "connection":
                connection += "," + item[1]
        elif not name.startswith(_OWN):
            kept.append(item)
    if connection:
        named = {name.strip().lower() for name in connection.split(",")}
        kept = [item for item in kept if item[0].lower() not in named or item[0].lower().startswith(_OF_S3)]
    kept.extend(payload.headers)
    if not payload.kept and (payload.length is None or payload.length > EXPECT_ABOVE_BYTES):
        kept.append(("Expect", "100-continue"))
    return Headers(kept)


def outgoing(
    request: Request,
    payload: Payload,
    store: Store,
    *,
    bucket: str,
    key: str | None,
    query: str | None = None,
    copy_source: str | None = None,
    before_body: Callable[[], None] | None = None,
) -> Request:
    """What `forward` sends: the request as the store wants it, signed. Raises PayloadSpentError."""
    headers = outgoing_headers(request.headers, payload)
    if copy_source is not None:
        headers.set("x-amz-copy-source", copy_source)
    return store.request(
        request.method,
        bucket,
        key,
        query=outgoing_query(request.query if query is None else query),
        headers=headers,
        body=payload.open(before_body),
        payload_hash=payload.payload_hash,
    )


async def forward(
    request: Request,
    payload: Payload,
    store: Store,
    *,
    bucket: str,
    key: str | None,
    query: str | None = None,
    copy_source: str | None = None,
    before_body: Callable[[], None] | None = None,
    timeouts: Timeouts | None = None,
) -> Response:
    """Send `request`, whose signature has been verified, to `key` of `bucket` (the bucket itself when None).

    `query` replaces the request's own raw query string, `copy_source` the value of `x-amz-copy-source` (it may name an
    access point); `before_body` is `Payload.open`'s. Raises AwsError when the client's body proved wrong on the way,
    PayloadSpentError when it has already gone elsewhere, wire's UpstreamError when the store fails.
    """
    if payload.length == 0 and not payload.kept:
        await payload.keep(0)  # a head that announces no body would be acted on before the body is checked
    try:
        response = await store.send_signed(
            outgoing(
                request,
                payload,
                store,
                bucket=bucket,
                key=key,
                query=query,
                copy_source=copy_source,
                before_body=before_body,
            ),
            timeouts,
        )
    except Exception as error:
        if payload.failure is not None and error is not payload.failure:
            raise payload.failure from error
        raise
    if payload.failure is not None:  # the store answered while the body was being found wrong
        await response.body.close()
        raise payload.failure
    return response
