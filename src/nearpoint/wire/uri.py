"""Percent-encoding, byte for byte as S3 reads and writes them (RFC 3986; SigV4 "UriEncode").

Nothing is normalised: `..`, `.`, `//` and a trailing `/` are bytes of a key like any other.
"""

from __future__ import annotations

import re
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
