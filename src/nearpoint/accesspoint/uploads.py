"""Upload ids that carry their region: a multipart upload belongs to one region for its life, so any node finds it.

The client's id is `REGION.ID`, where ID is the store's own.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection
from urllib.parse import quote, unquote

from nearpoint.awsproto import xml
from nearpoint.wire.message import Body

# The documents that hold upload ids are lists of up to 1,000 uploads or parts (S3 API Reference).
UPLOAD_XML_BYTES_MAX = 4 * 1024 * 1024
_IN_QUERY = ("uploadId", "upload-id-marker")
_COMPLETED_BYTES_MAX = 65_536
_ROOT = re.compile(rb"<[A-Za-z]")
_LOCATION = re.compile(rb"<Location>[^<]*</Location>")
_IN_XML = re.compile(rb"<(UploadId|UploadIdMarker|NextUploadIdMarker)>([^<]+)</")


def region_of_query(query: str, regions: Collection[str]) -> str | None:
    """The region that the upload id in a raw query string carries, or None. Empty: an id of none of these regions."""
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name in _IN_QUERY and value:
            region, dot, _ = unquote(value, encoding="latin-1").partition(".")
            return region if dot and region in regions else ""
    return None


def query_for_store(query: str) -> str:
    """The raw query string with the store's own upload ids."""
    parts = []
    for part in query.split("&"):
        name, equals, value = part.partition("=")
        if name in _IN_QUERY and value:
            _, _, own = unquote(value, encoding="latin-1").partition(".")
            parts.append(f"{name}{equals}{quote(own, safe='', encoding='latin-1')}")
        else:
            parts.append(part)
    return "&".join(parts)


def xml_for_client(document: bytes, region: str) -> bytes:
    """A store's XML with every upload id carrying the region."""
    return _IN_XML.sub(lambda match: b"<%b>%b.%b</" % (match[1], region.encode(), match[2]), document)


async def completed_for_client(body: Body, location: str) -> AsyncIterator[bytes]:
    """A store's answer to CompleteMultipartUpload with the object's address as the client knows it.

    What comes before the document passes at once: S3 sends blanks while it puts the parts together.
    """
    held = b""
    async for piece in body:
        held += piece
        root = _ROOT.search(held)
        if root is None:
            begun = held.rfind(b"<")
            start = begun if begun > held.rfind(b">") else len(held)
        else:
            start = root.start() if len(held) - root.start() <= _COMPLETED_BYTES_MAX else len(held)
        if start:
            yield held[:start]
            held = held[start:]
    if held:
        yield _LOCATION.sub(lambda _: b"<Location>%b</Location>" % xml.escape(location).encode("latin-1"), held)
