"""Pages of lists: the items after a token, and the token of the next page. Pure.

A token is the key of the last item of the page, so a page is right whatever was made or removed meanwhile.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from nearpoint.awsproto import AwsError

T = TypeVar("T")
TOKEN_CHARACTERS_MAX = 2048


def encode_token(key: str) -> str:
    """An opaque token of a key."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def decode_token(token: str, error_code: str) -> str:
    """The key of a token. Raises AwsError(`error_code`) for one that was not given out here."""
    try:
        if len(token) > TOKEN_CHARACTERS_MAX:
            raise ValueError("too long")
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        raise AwsError(error_code, "The pagination token is not valid.", status=400) from None


def page(
    items: Sequence[T], key: Callable[[T], str], token: str | None, count: int, *, error_code: str
) -> tuple[list[T], str | None]:
    """Up to `count` items after the one that the token names (items sorted by key), and the next token or None."""
    after = None if token is None else decode_token(token, error_code)
    rest = [item for item in items if after is None or key(item) > after]
    found = rest[:count]
    return found, encode_token(key(found[-1])) if found and len(rest) > count else None
