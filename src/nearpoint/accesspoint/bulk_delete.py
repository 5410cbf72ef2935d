"""DeleteObjects, key by key: what the caller may not delete is left out and answered as S3 answers it.

S3 API Reference, DeleteObjects: each key is allowed or denied by itself; a denied one is an `Error` in a 200 answer.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Callable

from msgspec import Struct

from nearpoint.awsproto import xml
from nearpoint.awsproto.errors import AwsError
from nearpoint.wire.message import Headers

# 1,000 keys of 1,024 bytes, escaped (S3 API Reference, DeleteObjects).
XML_BYTES_MAX = 8 * 1024 * 1024
KEYS_MAX = 1_000
_ELEMENTS_MAX = 8 * KEYS_MAX  # an object has up to five elements of its own
_NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
_END = re.compile(rb"</(?:\w+:)?DeleteResult>\s*\Z|<(?:\w+:)?DeleteResult[^>]*/>\s*\Z")


class Wanted(Struct, frozen=True, kw_only=True):
    """One object to delete. `fields` are its elements by name: Key, VersionId, ETag …"""

    key: str
    version_id: str | None
    fields: tuple[tuple[str, str], ...]


class BulkDelete(Struct, frozen=True, kw_only=True):
    """A DeleteObjects document taken apart."""

    allowed: tuple[Wanted, ...]
    denied: tuple[Wanted, ...]
    quiet: bool

    def document(self) -> bytes:
        """The document for the store: the allowed objects."""
        objects = "".join(
            "<Object>" + "".join(f"<{name}>{xml.escape(text)}</{name}>" for name, text in one.fields) + "</Object>"
            for one in self.allowed
        )
        quiet = "<Quiet>true</Quiet>" if self.quiet else ""
        return f'<Delete xmlns="{_NAMESPACE}">{objects}{quiet}</Delete>'.encode()

    def answer(self, of_store: bytes) -> bytes:
        """The store's answer (empty: it was not asked) with an `Error` for every denied object."""
        errors = "".join(
            f"<Error><Key>{xml.escape(one.key)}</Key>"
            + ("" if one.version_id is None else f"<VersionId>{xml.escape(one.version_id)}</VersionId>")
            + "<Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
            for one in self.denied
        ).encode()
        found = _END.search(of_store)
        if found is None or not found[0].startswith(b"</"):
            return b'<?xml version="1.0" encoding="UTF-8"?>\n<DeleteResult xmlns="%b">%b</DeleteResult>' % (
                _NAMESPACE.encode(),
                errors,
            )
        return of_store[: found.start()] + errors + of_store[found.start() :]


def read_bulk_delete(document: bytes, may_delete: Callable[[Wanted], bool]) -> BulkDelete:
    """Take a DeleteObjects document apart. Raises AwsError: MalformedXML, also for more than 1,000 objects."""
    try:
        root = xml.parse(document, bytes_max=XML_BYTES_MAX, elements_max=_ELEMENTS_MAX)
    except xml.XmlError:
        raise AwsError("MalformedXML") from None
    allowed: list[Wanted] = []
    denied: list[Wanted] = []
    quiet = root.child("Quiet")
    for item in root.children:
        key = item.child("Key") if item.tag == "Object" else None
        if item.tag != "Object":
            continue
        if key is None or len(allowed) + len(denied) >= KEYS_MAX:
            raise AwsError("MalformedXML")
        version = item.child("VersionId")
        wanted = Wanted(
            key=key.text,
            version_id=None if version is None else version.text,
            fields=tuple((child.tag, child.text) for child in item.children),
        )
        (allowed if may_delete(wanted) else denied).append(wanted)
    if root.tag != "Delete" or not (allowed or denied):
        raise AwsError("MalformedXML")
    return BulkDelete(
        allowed=tuple(allowed), denied=tuple(denied), quiet=quiet is not None and quiet.text.strip().lower() == "true"
    )


def check_digests(headers: Headers, data: bytes) -> None:
    """What the store would have checked of a document that it does not get. Raises AwsError: BadDigest."""
    digests: dict[str, Callable[[], bytes]] = {
        "content-md5": lambda: hashlib.md5(data, usedforsecurity=False).digest(),
        "x-amz-checksum-crc32": lambda: zlib.crc32(data).to_bytes(4, "big"),
        "x-amz-checksum-sha1": lambda: hashlib.sha1(data, usedforsecurity=False).digest(),
        "x-amz-checksum-sha256": lambda: hashlib.sha256(data).digest(),
    }
    for name, digest in digests.items():
        stated = headers.get(name)
        if stated is not None and not hmac.compare_digest(stated.encode("latin-1"), base64.b64encode(digest())):
            raise AwsError("BadDigest")


def headers_for(headers: Headers, document: bytes) -> Headers:
    """The request's fields with the digest of another document."""
    kept = Headers(
        item
        for item in headers
        if item[0].lower() not in ("content-md5", "x-amz-sdk-checksum-algorithm", "x-amz-trailer")
        and not item[0].lower().startswith("x-amz-checksum-")
    )
    kept.add("Content-MD5", base64.b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode())
    return kept
