"""Compression by the edge: what is compressed on its way into the cache, and how.

CloudFront Developer Guide, "Serve compressed files": types, sizes and what becomes of ETag are its own. An object is
compressed once, for each coding that viewers ask for, and kept so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Literal

import brotli
from zlib_ng import zlib_ng

from nearpoint.edge.config import Behavior
from nearpoint.edge.key import BROTLI, GZIP, encoding_class, encoding_mask
from nearpoint.wire.message import Body, Headers, StreamBody

Coding = Literal["br", "gzip"]
Fields = list[tuple[str, str]]

BYTES_MIN, BYTES_MAX = 1_000, 10_000_000
STATUSES = frozenset({200, 403, 404})
# 64 KB of text: brotli at 4 in 0.75 ms, gzip at 6 in 0.25 ms; more costs much more than it saves.
BROTLI_QUALITY = 4
GZIP_LEVEL = 6
_GZIP_WINDOW = 31  # zlib's largest window, with gzip's own head and tail

TYPES = frozenset(
    {
        "application/dash+xml", "application/eot", "application/font", "application/font-sfnt",
        "application/javascript", "application/json", "application/opentype", "application/otf",
        "application/pdf", "application/pkcs7-mime", "application/protobuf", "application/rss+xml",
        "application/truetype", "application/ttf", "application/vnd.apple.mpegurl",
        "application/vnd.mapbox-vector-tile", "application/vnd.ms-fontobject", "application/wasm",
        "application/xhtml+xml", "application/xml", "application/x-font-opentype", "application/x-font-truetype",
        "application/x-font-ttf", "application/x-httpd-cgi", "application/x-javascript", "application/x-mpegurl",
        "application/x-opentype", "application/x-otf", "application/x-perl", "application/x-ttf", "font/eot",
        "font/opentype", "font/otf", "font/ttf", "image/svg+xml", "text/css", "text/csv", "text/html",
        "text/javascript", "text/js", "text/plain", "text/richtext", "text/tab-separated-values", "text/xml",
        "text/x-component", "text/x-java-source", "text/x-script", "vnd.apple.mpegurl",
    }
)  # fmt: skip


def choose_coding(
    behavior: Behavior, request: Headers, *, status: int, headers: Headers, length: int | None
) -> Coding | None:
    """How an answer that is to be kept is compressed, or None: it stays as it is.

    `headers` and `length` are the origin's. Without a cache policy only gzip is offered.
    """
    if not behavior.compress or status not in STATUSES or length is None or not BYTES_MIN <= length <= BYTES_MAX:
        return None
    if "content-encoding" in headers or "content-range" in headers:
        return None
    content_type = (headers.get("content-type") or "").partition(";")[0].strip().lower()
    if content_type not in TYPES or "no-transform" in (headers.joined("cache-control") or "").lower():
        return None
    accepted = encoding_class(request.joined("accept-encoding")) & encoding_mask(behavior.cache)
    if accepted & BROTLI and not behavior.forward.legacy_headers:
        return "br"
    return "gzip" if accepted & GZIP else None


def encoded_fields(fields: Sequence[tuple[str, str]], coding: Coding) -> Fields:
    """The fields of the compressed answer: a strong ETag becomes weak, one that is none goes."""
    out: Fields = []
    varies = False
    for name, value in fields:
        low = name.lower()
        if low == "etag":
            if value.startswith('"'):
                out.append((name, f"W/{value}"))
            elif value.startswith("W/"):
                out.append((name, value))
            continue
        if low == "vary":
            varies = varies or "accept-encoding" in value.lower()
        if low not in ("content-length", "content-md5"):
            out.append((name, value))
    out.append(("Content-Encoding", coding))
    if not varies:
        out.append(("Vary", "Accept-Encoding"))
    return out


def compressed(data: bytes, coding: Coding) -> bytes:
    """The whole compressed."""
    if coding == "br":
        return bytes(brotli.compress(data, quality=BROTLI_QUALITY))
    compressor = zlib_ng.compressobj(GZIP_LEVEL, zlib_ng.DEFLATED, _GZIP_WINDOW)
    return bytes(compressor.compress(data) + compressor.flush())


def compressing(body: Body, coding: Coding) -> StreamBody:
    """A body compressed while it passes; its length is not known beforehand. It breaks off where `body` does."""
    return StreamBody(_chunks(body, coding), on_close=body.close)


async def _chunks(body: Body, coding: Coding) -> AsyncIterator[bytes]:
    process: Callable[[bytes], bytes]
    finish: Callable[[], bytes]
    if coding == "br":
        brotli_stream = brotli.Compressor(quality=BROTLI_QUALITY)
        process, finish = brotli_stream.process, brotli_stream.finish
    else:
        gzip_stream = zlib_ng.compressobj(GZIP_LEVEL, zlib_ng.DEFLATED, _GZIP_WINDOW)
        process, finish = gzip_stream.compress, gzip_stream.flush
    expected, seen = body.length, 0
    async for chunk in body:
        seen += len(chunk)
        if piece := process(chunk):
            yield piece
    if expected is not None and seen != expected:
        raise ConnectionError(f"{seen} of {expected} bytes came")
    yield finish()
