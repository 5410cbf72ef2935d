"""What every operation needs: the state, whose account it is, the time, chance, and where packages lie."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from nearpoint.state.store import State

LOWER_AND_DIGITS = "abcdefghijklmnopqrstuvwxyz0123456789"
UPPER_AND_DIGITS = LOWER_AND_DIGITS.upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """`now` answers Unix seconds; `random_bytes(n)` n unpredictable bytes; `packages_dir` keeps function packages.

    `lock` is held while an operation checks and writes, so that two calls never both find a name free. `bucket_lock`
    is the same for bucket names: it is held while a store is asked, which may take until a time-out.
    """

    state: State
    account_id: str
    now: Callable[[], float]
    random_bytes: Callable[[int], bytes]
    packages_dir: Path
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    bucket_lock: asyncio.Lock = field(default_factory=asyncio.Lock)


def text_of(random_bytes: bytes, alphabet: str) -> str:
    """One character of the alphabet per byte."""
    return "".join(alphabet[byte % len(alphabet)] for byte in random_bytes)


def base32_of(random_bytes: bytes) -> str:
    """RFC 4648 base 32 without padding: A to Z and 2 to 7."""
    return base64.b32encode(random_bytes).decode().rstrip("=")
