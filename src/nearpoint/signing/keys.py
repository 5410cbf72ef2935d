"""Derives signing keys from secrets, and keeps the latest.

SigV4: a chain of HMACs per (secret, day, region, service). SigV4A: a P-256 key that depends on the key pair alone
(IAM User Guide, "Create a signed AWS API request"; NIST SP 800-108 in counter mode).
"""

from __future__ import annotations

import hmac
from functools import lru_cache

from nearpoint.signing import ec, p256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from nearpoint.signing.ec import PrivateKey

# A key is below 1 KB; this many are more than one machine's tenants and regions.
_KEYS_MAX = 4096


@lru_cache(maxsize=_KEYS_MAX)
def v4_key(secret_key: str, date: str, region: str, service: str) -> bytes:
    """The signing key of one day (`yyyymmdd`), region and service."""
    key = ("AWS4" + secret_key).encode("utf-8")
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode("utf-8"), "sha256")
    return key


def v4a_scalar(access_key_id: str, secret_key: str) -> int:
    """The private scalar of a key pair. Raises ValueError in the case, of no practical odds, that there is none."""
    key = ("AWS4A" + secret_key).encode("utf-8")
    label = b"\0\0\0\x01AWS4-ECDSA-P256-SHA256\0" + access_key_id.encode("utf-8")
    for counter in range(1, 255):
        candidate = int.from_bytes(hmac.digest(key, label + bytes((counter,)) + b"\0\0\x01\0", "sha256"), "big")
        if candidate <= p256.N - 2:
            return candidate + 1
    raise ValueError("no SigV4A key follows from these credentials")


@lru_cache(maxsize=_KEYS_MAX)
def v4a_key(access_key_id: str, secret_key: str) -> PrivateKey:
    """The key that signs with SigV4A for this pair; its `public` half verifies."""
    return ec.private_key(v4a_scalar(access_key_id, secret_key))
