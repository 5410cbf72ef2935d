"""SigV4 and SigV4A: sign, presign, read a claim, verify it, and the chunked bodies that go with them.

Only the standard library is needed, so this folder can be packed into a Lambda function by itself; `awscrt` makes the
elliptic curve faster where it is installed. Nothing here reads a clock or a random source.
"""

from nearpoint.signing.chunked import ChunkDecoder, ChunkEncoder
from nearpoint.signing.claim import read_claim
from nearpoint.signing.regionset import is_region_set, region_set_matches
from nearpoint.signing.sign import (
    EXPIRES_S_MAX,
    V4Signer,
    inspect_presign_v4,
    inspect_presign_v4a,
    inspect_v4,
    inspect_v4a,
    presign_v4,
    presign_v4a,
    sign_v4,
    sign_v4a,
)
from nearpoint.signing.values import (
    EMPTY_SHA256,
    STREAMING_ECDSA,
    STREAMING_ECDSA_TRAILER,
    STREAMING_HMAC,
    STREAMING_HMAC_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    UNSIGNED_PAYLOAD,
    Claim,
    Credentials,
    IncompleteBodyError,
    Inspection,
    Message,
    SignatureError,
    Verified,
)
from nearpoint.signing.verify import SKEW_S_MAX, verify

__all__ = [
    "Credentials",
    "Message",
    "Claim",
    "Verified",
    "Inspection",
    "SignatureError",
    "IncompleteBodyError",
    "sign_v4",
    "V4Signer",
    "sign_v4a",
    "presign_v4",
    "presign_v4a",
    "inspect_v4",
    "inspect_v4a",
    "inspect_presign_v4",
    "inspect_presign_v4a",
    "read_claim",
    "verify",
    "ChunkDecoder",
    "ChunkEncoder",
    "is_region_set",
    "region_set_matches",
    "EMPTY_SHA256",
    "UNSIGNED_PAYLOAD",
    "STREAMING_UNSIGNED_TRAILER",
    "STREAMING_HMAC",
    "STREAMING_HMAC_TRAILER",
    "STREAMING_ECDSA",
    "STREAMING_ECDSA_TRAILER",
    "EXPIRES_S_MAX",
    "SKEW_S_MAX",
]
