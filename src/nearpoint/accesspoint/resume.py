"""A download that broke off in the middle: what to ask another region for, and whether its answer fits.

The rest is asked for with Range and If-Match (RFC 9110 §14.2, §13.1.1), so that only the same content can follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from nearpoint.wire.message import Headers
from nearpoint.wire.ranges import parse_content_range

_DROPPED = frozenset({"range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """What a download is made of: bytes `start` to `end` (inclusive) of an object of `total` bytes with this ETag."""

    start: int
    end: int
    total: int
    etag: str
    checksums: tuple[tuple[str, str], ...] = ()

    @property
    def length(self) -> int:
        """Bytes in all."""
        return self.end - self.start + 1


def download_of(status: int, headers: Headers) -> Download | None:
    """The download that a store's answer begins, or None when it cannot be continued elsewhere."""
    etag = headers.get("etag")
    if etag is None or not etag.startswith('"'):
        return None
    checksums = tuple((name.lower(), value) for name, value in headers if name.lower().startswith("x-amz-checksum-"))
    stated = parse_content_range(headers.get("content-range") or "")
    if stated is not None and stated.span is not None and stated.size is not None:
        if status not in (200, 206):  # some stores label a part with 200
            return None
        first, last = stated.span.first, stated.span.last
        return Download(start=first, end=last, total=stated.size, etag=etag, checksums=checksums)
    length = headers.get("content-length") or ""
    if status == 200 and length.isdigit() and int(length) > 0:
        total = int(length)
        return Download(start=0, end=total - 1, total=total, etag=etag, checksums=checksums)
    return None


def resume_headers(headers: Headers, download: Download, sent: int) -> Headers:
    """The request's header fields, asking for what comes after the first `sent` bytes."""
    kept = Headers(item for item in headers if item[0].lower() not in _DROPPED)
    kept.add("Range", f"bytes={download.start + sent}-{download.end}")
    kept.add("If-Match", download.etag)
    return kept


def resume_query(query: str) -> str:
    """The raw query without `partNumber`, which cannot go with Range."""
    return "&".join(part for part in query.split("&") if unquote(part.partition("=")[0]) != "partNumber")


def fits(download: Download, sent: int, status: int, headers: Headers) -> bool:
    """Whether another region's answer is the rest of this very download."""
    rest = download_of(status, headers)
    if rest is None:
        return False
    theirs = dict(rest.checksums)
    return (
        rest.start == download.start + sent
        and rest.end == download.end
        and rest.total == download.total
        and rest.etag == download.etag
        and all(theirs.get(name, value) == value for name, value in download.checksums)
    )
