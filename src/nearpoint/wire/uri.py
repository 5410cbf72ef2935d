"""Percent-encoding, paths and queries, byte for byte as S3 reads and writes them (RFC 3986; SigV4 "UriEncode").

Nothing is normalised: `..`, `.`, `//` and a trailing `/` are bytes of a key like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote_from_bytes, unquote_to_bytes

_MALFORMED = re.compile(r"%(?![0-9A-Fa-f]{2})")


class MalformedUriError(ValueError):
    """A percent sign without two hex digits, or bytes that are not the UTF-8 they have to be."""


def encode(data: bytes | str, *, keep: str = "") -> str:
    """Percent-encode all but `A-Za-z0-9-._~` and the ASCII characters of `keep`: upper-case hex, str as UTF-8."""
    return quote_from_bytes(data.encode() if isinstance(data, str) else data, safe=keep)


def decode(text: str, *, plus: bool = False) -> bytes:
    """The bytes of a percent-encoded latin-1 text; with `plus`, `+` is a space, as in a query.

    Raises MalformedUriError for a `%` that begins no escape.
    """
    if "%" not in text and not (plus and "+" in text):
        return _raw(text)
    if _MALFORMED.search(text) is not None:
        raise MalformedUriError("a % without two hex digits")
    return unquote_to_bytes(_raw(text.replace("+", " ") if plus else text))


def decode_text(text: str, *, plus: bool = False) -> str:
    """As `decode`, for what has to be UTF-8. Raises MalformedUriError where it is not."""
    try:
        return decode(text, plus=plus).decode()
    except UnicodeDecodeError as error:
        raise MalformedUriError("not UTF-8 after decoding") from error


def _raw(text: str) -> bytes:
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise MalformedUriError("not the text of a wire") from error


def split_target(target: str) -> tuple[str, str | None]:
    """Path and query of an origin-form target, still encoded; the query is None where there is no `?`."""
    path, mark, query = target.partition("?")
    return path, query if mark else None


def join_target(path: str, query: str | None) -> str:
    """The inverse of `split_target`."""
    return path if query is None else f"{path}?{query}"


def split_query(query: str) -> list[tuple[str, str | None]]:
    """Names and values of a query in order, still encoded; the value of `?a` is None, of `?a=` the empty string.

    Empty pieces (`a&&b`) are left out.
    """
    pairs: list[tuple[str, str | None]] = []
    for piece in query.split("&"):
        if piece:
            name, mark, value = piece.partition("=")
            pairs.append((name, value if mark else None))
    return pairs


def parse_query(query: str) -> list[tuple[str, str | None]]:
    """As `split_query`, decoded to text, with `+` as a space. Raises MalformedUriError."""
    return [
        (decode_text(name, plus=True), None if value is None else decode_text(value, plus=True))
        for name, value in split_query(query)
    ]


def join_query(pairs: Iterable[tuple[str, str | None]]) -> str:
    """Decoded names and values as a query; a value of None is written without `=`."""
    return "&".join(encode(name) if value is None else f"{encode(name)}={encode(value)}" for name, value in pairs)


def path_of_key(key: str | bytes) -> str:
    """The encoded path of an object key at the root of a host: `/` and the key, whose slashes stay."""
    return "/" + encode(key, keep="/")


def key_of_path(path: str) -> str:
    """The object key of an encoded path at the root of a host. Raises MalformedUriError."""
    return decode_text(path.removeprefix("/"))
