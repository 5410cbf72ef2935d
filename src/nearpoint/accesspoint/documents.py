"""XML bodies of requests, read before a store sees them: what is no such document goes no further (pure)."""

from __future__ import annotations

from collections.abc import Collection

from nearpoint.awsproto import xml
from nearpoint.awsproto.errors import AwsError

BYTES_MAX = 65_536
# 10,000 parts with their checksums (S3 API Reference, CompleteMultipartUpload).
COMPLETION_BYTES_MAX = 4 * 1024 * 1024
_ROOTS = {
    "acl": "AccessControlPolicy",
    "legal-hold": "LegalHold",
    "restore": "RestoreRequest",
    "retention": "Retention",
    "select": "SelectObjectContentRequest",
    "tagging": "Tagging",
}
COMPLETION = "CompleteMultipartUpload"


def root_of(method: str, parameters: Collection[str]) -> str | None:
    """The root element of the body that a call about an object has; None where its body is no document."""
    if method == "POST" and "uploadId" in parameters:
        return COMPLETION
    if method in ("PUT", "POST"):
        return next((root for name, root in _ROOTS.items() if name in parameters), None)
    return None


def bytes_max(root: str) -> int:
    """How long such a document may be."""
    return COMPLETION_BYTES_MAX if root == COMPLETION else BYTES_MAX


def read_document(data: bytes | None, root: str, *, has_length: bool) -> xml.Node | None:
    """The document; None where there is no body (an ACL may be in the head; all else the store refuses by itself).

    `data` is None for a body that is too long, or of unknown length. Raises AwsError: MalformedXML, MalformedACLError,
    MaxMessageLengthExceeded, MissingContentLength.
    """
    if data is None:
        raise AwsError("MaxMessageLengthExceeded" if has_length else "MissingContentLength")
    if not data:
        return None
    try:
        document = xml.parse(data, bytes_max=bytes_max(root))
    except xml.XmlError:
        document = None
    if document is None or document.tag != root:
        raise AwsError("MalformedACLError" if root == _ROOTS["acl"] else "MalformedXML")
    return document
