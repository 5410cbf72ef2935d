"""Builds the canonical request and the string to sign: one text for every spelling of the same request.

IAM User Guide, "Create a signed AWS API request"; S3 API Reference, "Authenticating requests: using the Authorization
header". S3 takes the path as it is, encoded once; every other service takes it without dot segments and doubled
slashes, and encodes what is on the wire once more.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_IN_PATH = _UNRESERVED + b"/"
_ENCODED = [f"%{octet:02X}" for octet in range(256)]
for _octet in _UNRESERVED:
    _ENCODED[_octet] = chr(_octet)
_OCTETS = {
    high + low: bytes((int(high + low, 16),)) for high in "0123456789abcdefABCDEF" for low in "0123456789abcdefABCDEF"
}


@lru_cache(maxsize=64)
def timestamp(moment: datetime) -> str:
    """`yyyymmddThhmmssZ`, the day being its first eight characters. `moment` must be in UTC."""
    day = f"{moment.year:04}{moment.month:02}{moment.day:02}"
    return f"{day}T{moment.hour:02}{moment.minute:02}{moment.second:02}Z"


def decode(text: str) -> bytes:
    """The octets that percent-encoded latin-1 text stands for. A stray `%` stands for itself; `+` is a plus."""
    if "%" not in text:
        return text.encode("latin-1")
    first, *rest = text.split("%")
    parts = [first.encode("latin-1")]
    for part in rest:
        octet = _OCTETS.get(part[:2])
        parts.append(b"%" + part.encode("latin-1") if octet is None else octet + part[2:].encode("latin-1"))
    return b"".join(parts)


def encode(octets: bytes) -> str:
    """Percent-encode all but RFC 3986's unreserved characters, with capital hex digits."""
    if not octets.translate(None, _UNRESERVED):
        return octets.decode("ascii")
    return "".join([_ENCODED[octet] for octet in octets])


def _without_dot_segments(path: str) -> str:
    segments: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if segments:
                segments.pop()
        elif segment not in {"", "."}:
            segments.append(segment)
    slash = "/" if segments and (path.endswith(("/", "/.", "/.."))) else ""
    return "/" + "/".join(segments) + slash


def path_of_s3(path: str) -> str:
    """S3's flavour: neither normalised nor encoded twice, whatever was escaped on the wire; `%2F` stays one."""
    if not path.encode("latin-1").translate(None, _IN_PATH):
        return path or "/"
    return "/".join([encode(decode(segment)) for segment in path.split("/")])


def path_of_others(path: str, *, normalize: bool = True) -> str:
    """The general flavour: normalised, then the wire's own text encoded again."""
    path = _without_dot_segments(path) if normalize else path or "/"
    return "/".join([encode(segment.encode("latin-1")) for segment in path.split("/")])


def query_parameters(query: str) -> list[tuple[str, str]]:
    """The parameters of a query string in order, names and values as they are on the wire."""
    pairs: list[tuple[str, str]] = []
    for item in query.split("&"):
        if item:
            name, _, value = item.partition("=")
            pairs.append((name, value))
    return pairs


def _join(pairs: list[tuple[str, str]]) -> str:
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


def query_of(parameters: Iterable[tuple[str, str]]) -> str:
    """Decoded, encoded anew and sorted."""
    return _join([(encode(decode(name)), encode(decode(value))) for name, value in parameters])


def query_as_sent(parameters: Iterable[tuple[str, str]]) -> str:
    """Sorted only: what a signer builds that takes the wire's escapes for granted, as botocore does."""
    return _join(list(parameters))


def header_value(value: str) -> str:
    """Without white space around it, and with one space for each run of it inside."""
    if " " not in value and value.isascii() and value.isprintable():
        return value
    value = value.strip(" \t\r\n")
    if "  " in value or "\t" in value or "\n" in value or "\r" in value:
        # As octets: `str.split` would also take a latin-1 0xA0, one half of many UTF-8 characters, for white space.
        return b" ".join(value.encode("latin-1").split()).decode("latin-1")
    return value


def signed_part(fields: Iterable[tuple[str, str]], payload_hash: str) -> str:
    """What a canonical request says of header fields and body; `fields` sorted, clean, names in lower case."""
    lines = "".join([f"{name}:{value}\n" for name, value in fields])
    names = ";".join([name for name, _ in fields])
    return f"{lines}\n{names}\n{payload_hash}"


def canonical_request(method: str, path: str, query: str, signed: str) -> str:
    """From parts that are canonical already; `signed` is a `signed_part`."""
    return f"{method}\n{path}\n{query}\n{signed}"


def string_to_sign(algorithm: str, timestamp: str, scope: str, request: str) -> str:
    """`scope` is `date/region/service/aws4_request`, without the region for SigV4A."""
    return f"{algorithm}\n{timestamp}\n{scope}\n{hashlib.sha256(request.encode('latin-1')).hexdigest()}"
