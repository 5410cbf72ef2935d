"""What a write says about an object: the header it will be served with, its storage class and tags.

The header is kept as it goes out, so reading an object assembles nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from nearpoint.awsproto.errors import AwsError
from nearpoint.wire.message import Headers

USER_METADATA_BYTES_MAX = 2048  # S3 User Guide, "Working with object metadata"
TAGS_MAX = 10
_TAG_KEY_MAX = 128
_TAG_VALUE_MAX = 256
_CONTENT_FIELDS = ("Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires")
_USER_PREFIX = "x-amz-meta-"
_STORAGE_CLASSES = frozenset(
    {
        "DEEP_ARCHIVE",
        "GLACIER",
        "GLACIER_IR",
        "INTELLIGENT_TIERING",
        "ONEZONE_IA",
        "REDUCED_REDUNDANCY",
        "STANDARD",
        "STANDARD_IA",
    }
)
_ENCRYPTIONS = frozenset({"AES256", "aws:kms", "aws:kms:dsse"})
_OVERRIDES = {
    "response-cache-control": "Cache-Control",
    "response-content-disposition": "Content-Disposition",
    "response-content-encoding": "Content-Encoding",
    "response-content-language": "Content-Language",
    "response-content-type": "Content-Type",
    "response-expires": "Expires",
}

Tags = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """All that a write says about an object besides its content. `head` is header lines as on the wire; `extras` are
    its legal hold, its retention and the grants of its ACL, where it has them."""

    head: bytes
    storage_class: str
    tags: Tags
    extras: dict[str, Any]
    encryption: str = "AES256"


def read_description(headers: Headers) -> Description:
    """The description in the header of PutObject, CreateMultipartUpload or CopyObject, without what depends on the
    bucket (`admission`). Raises AwsError."""
    refuse_unsupported(headers)
    lines = [("Content-Type", headers.get("content-type") or "binary/octet-stream")]
    for name in _CONTENT_FIELDS:
        value = headers.joined(name)
        if name == "Content-Encoding" and value is not None:
            codings = [coding.strip() for coding in value.split(",")]
            value = ",".join(coding for coding in codings if coding.lower() != "aws-chunked")
        if value:
            lines.append((name, value))
    lines.extend(_user_metadata(headers))
    redirect = headers.get("x-amz-website-redirect-location")
    if redirect is not None:
        if not redirect.startswith(("/", "http://", "https://")):
            raise AwsError(
                "InvalidRedirectLocation",
                "The website redirect location must have a prefix of 'http://' or 'https://' or '/'.",
            )
        lines.append(("x-amz-website-redirect-location", redirect))
    encryption = _encryption(headers)
    lines.extend(encryption)
    storage_class = headers.get("x-amz-storage-class") or "STANDARD"
    if storage_class not in _STORAGE_CLASSES:
        raise AwsError("InvalidStorageClass", extra={"StorageClassRequested": storage_class})
    if storage_class != "STANDARD":
        lines.append(("x-amz-storage-class", storage_class))
    tagging = headers.get("x-amz-tagging")
    return Description(
        head=pack(lines),
        storage_class=storage_class,
        tags=[] if tagging is None else check_tags(parse_qsl(tagging, keep_blank_values=True)),
        extras={},
        encryption=encryption[0][1],
    )


def refuse_unsupported(headers: Headers) -> None:
    """Raises AwsError for what the header asks and this store cannot give: encryption with the client's keys."""
    if "x-amz-server-side-encryption-customer-algorithm" in headers:
        raise AwsError("NotImplemented", extra={"Header": "x-amz-server-side-encryption-customer-algorithm"})


def _user_metadata(headers: Headers) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered.startswith(_USER_PREFIX):
            found[lowered] = f"{found[lowered]},{value}" if lowered in found else value
    size = sum(len(name) - len(_USER_PREFIX) + len(value) for name, value in found.items())
    if size > USER_METADATA_BYTES_MAX:
        raise AwsError("MetadataTooLarge", extra={"Size": str(size), "MaxSizeAllowed": str(USER_METADATA_BYTES_MAX)})
    return list(found.items())


def _encryption(headers: Headers) -> list[tuple[str, str]]:
    asked = headers.get("x-amz-server-side-encryption") or "AES256"
    if asked not in _ENCRYPTIONS:
        raise AwsError(
            "InvalidArgument",
            "The encryption method specified is not supported",
            extra={"ArgumentName": "x-amz-server-side-encryption", "ArgumentValue": asked},
        )
    lines = [("x-amz-server-side-encryption", asked)]
    key = headers.get("x-amz-server-side-encryption-aws-kms-key-id")
    if key is not None and asked != "AES256":
        lines.append(("x-amz-server-side-encryption-aws-kms-key-id", key))
    return lines


def check_tags(pairs: Iterable[tuple[str, str]]) -> Tags:
    """The tags of an object. Raises AwsError for those that S3 refuses."""
    tags = list(pairs)
    if len(tags) > TAGS_MAX:
        raise AwsError("BadRequest", "Object tags cannot be greater than 10", status=400)
    if len({key for key, _ in tags}) != len(tags):
        raise AwsError("InvalidTag", "Cannot provide multiple Tags with the same key")
    for key, value in tags:
        if not key or len(key) > _TAG_KEY_MAX or key.startswith("aws:"):
            raise AwsError("InvalidTag", "The TagKey you have provided is invalid", extra={"TagKey": key})
        if len(value) > _TAG_VALUE_MAX:
            raise AwsError("InvalidTag", "The TagValue you have provided is invalid", extra={"TagValue": value})
    return tags


def pack(lines: Iterable[tuple[str, str]]) -> bytes:
    """Header fields as they go out."""
    return "".join([f"{name}: {value}\r\n" for name, value in lines]).encode("latin-1", "replace")


def unpack(head: bytes) -> list[tuple[str, str]]:
    """The fields of `pack`."""
    lines = head.decode("latin-1").split("\r\n")
    return [(name, value) for name, _, value in (line.partition(": ") for line in lines if line)]


def kept_head(source: bytes, asked: bytes) -> bytes:
    """The header of a copy that keeps its source's metadata; redirect, encryption and storage class are the copy's own
    (S3 API Reference, CopyObject)."""
    own = [(name, value) for name, value in unpack(source) if not _is_placement(name)]
    return pack(own + [(name, value) for name, value in unpack(asked) if _is_placement(name)])


def _is_placement(name: str) -> bool:
    return name.startswith("x-amz-") and not name.startswith(_USER_PREFIX)


def override(fields: list[tuple[str, str]], query: Mapping[str, list[str]]) -> list[tuple[str, str]]:
    """The fields as the `response-…` parameters of a signed GET want them."""
    wanted = {name: query[parameter][0] for parameter, name in _OVERRIDES.items() if parameter in query}
    if not wanted:
        return fields
    for value in wanted.values():
        if any(ord(char) < 32 or ord(char) == 127 for char in value):
            raise AwsError("InvalidArgument", "Header value cannot be represented using ISO-8859-1.")
    kept = [(name, value) for name, value in fields if name not in wanted]
    return kept + [(name, value.encode("utf-8").decode("latin-1")) for name, value in wanted.items()]
