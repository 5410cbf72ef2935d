"""What is signed, with what, and what goes wrong: the values every module here speaks in.

They are written by hand rather than as dataclasses: this package is imported at the cold start of a Lambda function,
and `dataclasses` alone (with `inspect` and `re`) would cost more than everything here together.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Final, Literal

    from nearpoint.signing.ec import PublicKey

HMAC_ALGORITHM = "AWS4-HMAC-SHA256"
ECDSA_ALGORITHM = "AWS4-ECDSA-P256-SHA256"

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
STREAMING_UNSIGNED_TRAILER = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
STREAMING_HMAC = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
STREAMING_HMAC_TRAILER = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
STREAMING_ECDSA = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"
STREAMING_ECDSA_TRAILER = "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER"
# What x-amz-content-sha256 may hold besides a digest (S3 API Reference, "Authenticating requests").
PAYLOAD_WORDS = frozenset(
    {
        UNSIGNED_PAYLOAD,
        STREAMING_UNSIGNED_TRAILER,
        STREAMING_HMAC,
        STREAMING_HMAC_TRAILER,
        STREAMING_ECDSA,
        STREAMING_ECDSA_TRAILER,
    }
)

# Signing names whose path is neither normalised nor encoded twice, and whose requests carry x-amz-content-sha256.
S3_SERVICES = frozenset({"s3", "s3express", "s3-object-lambda", "s3-outposts"})


class Value:
    """Compares, hashes and prints by its slots. Not to be changed once made."""

    __slots__: tuple[str, ...] = ()
    _hidden: frozenset[str] = frozenset()

    def _fields(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.__slots__ if name[0] != "_")

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self._fields() == other._fields()

    def __hash__(self) -> int:
        return hash(self._fields())

    def __repr__(self) -> str:
        names = (name for name in self.__slots__ if name[0] != "_")
        shown = (f"{name}={'…' if name in self._hidden else repr(getattr(self, name))}" for name in names)
        return f"{type(self).__name__}({', '.join(shown)})"


class Credentials(Value):
    """An access key; `session_token` for a temporary one. Its secrets don't show in `repr`."""

    __slots__ = ("access_key_id", "secret_key", "session_token")
    _hidden = frozenset({"secret_key", "session_token"})

    def __init__(self, access_key_id: str, secret_key: str, session_token: str | None = None) -> None:
        self.access_key_id: Final = access_key_id
        self.secret_key: Final = secret_key
        self.session_token: Final = session_token


class Message(Value):
    """The part of a request that a signature covers, as it is on the wire (latin-1 text).

    `path` and `query` are percent-encoded and stand without the `?` between them; `headers` are (name, value) pairs
    in any case and order. `by_name` holds the same fields' values by name in lower case, where the caller has them.
    """

    __slots__ = ("_by_name", "headers", "method", "path", "query")

    def __init__(
        self,
        method: str,
        path: str,
        query: str,
        headers: Sequence[tuple[str, str]],
        by_name: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.method: Final = method
        self.path: Final = path
        self.query: Final = query
        self.headers: Final = headers
        self._by_name = by_name

    @property
    def by_name(self) -> Mapping[str, Sequence[str]]:
        """The values of each header field in order, by its name in lower case."""
        if self._by_name is None:
            found: dict[str, list[str]] = {}
            for name, value in self.headers:
                found.setdefault(name.lower(), []).append(value)
            self._by_name = found
        return self._by_name


class Inspection(Value):
    """A signature and how it came about: the three checkpoints at which two signers can be compared.

    `headers` are those to add to the request (query form: none), `query` is the whole new query (header form: as it
    was).
    """

    __slots__ = ("canonical_request", "headers", "query", "signature", "string_to_sign")

    def __init__(
        self,
        *,
        canonical_request: str,
        string_to_sign: str,
        signature: str,
        headers: list[tuple[str, str]],
        query: str,
    ) -> None:
        self.canonical_request: Final = canonical_request
        self.string_to_sign: Final = string_to_sign
        self.signature: Final = signature
        self.headers: Final = headers
        self.query: Final = query


class Claim(Value):
    """Who a request says it is from, before anything has been proved.

    `region` is set for v4, `region_set` for v4a; `expires_s` in the query form only. `payload_hash` is empty where the
    request doesn't state it, which services other than S3 allow: the verifier then needs the body's digest.
    """

    __slots__ = (
        "access_key_id",
        "algorithm",
        "expires_s",
        "form",
        "payload_hash",
        "region",
        "region_set",
        "service",
        "session_token",
        "signature",
        "signed_at",
        "signed_headers",
    )
    _hidden = frozenset({"session_token"})

    def __init__(
        self,
        *,
        algorithm: Literal["v4", "v4a"],
        form: Literal["header", "query"],
        access_key_id: str,
        session_token: str | None,
        region: str | None,
        region_set: str | None,
        service: str,
        signed_at: datetime,
        expires_s: int | None,
        signed_headers: tuple[str, ...],
        signature: str,
        payload_hash: str,
    ) -> None:
        self.algorithm: Final = algorithm
        self.form: Final = form
        self.access_key_id: Final = access_key_id
        self.session_token: Final = session_token
        self.region: Final = region
        self.region_set: Final = region_set
        self.service: Final = service
        self.signed_at: Final = signed_at
        self.expires_s: Final = expires_s
        self.signed_headers: Final = signed_headers
        self.signature: Final = signature
        self.payload_hash: Final = payload_hash


class Verified(Value):
    """A claim that holds, its checkpoints, and the key that checks the chunks of a signed body after it.

    `key` is the derived signing key for v4, the public key for v4a.
    """

    __slots__ = ("canonical_request", "claim", "key", "payload_hash", "string_to_sign")
    _hidden = frozenset({"key"})

    def __init__(
        self,
        *,
        claim: Claim,
        payload_hash: str,
        canonical_request: str,
        string_to_sign: str,
        key: bytes | PublicKey,
    ) -> None:
        self.claim: Final = claim
        self.payload_hash: Final = payload_hash
        self.canonical_request: Final = canonical_request
        self.string_to_sign: Final = string_to_sign
        self.key: Final = key


class SignatureError(Exception):
    """A signature, or a body that was signed, is refused.

    `code` is S3's error code, `text` (also `str(error)`) its message, `fields` the further elements S3 puts into that
    error document.
    """

    def __init__(self, code: str, text: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.fields: dict[str, str] = dict(fields or {})


class IncompleteBodyError(SignatureError):
    """A body ends too early, is longer than declared, or breaks its chunk framing (S3's IncompleteBody)."""

    def __init__(self, text: str = "The request body terminated unexpectedly") -> None:
        super().__init__("IncompleteBody", text)


def signature_octets(signature: str) -> bytes:
    """What a signature in hex stands for; nothing if it isn't plain lower-case hex, so that it has one spelling."""
    return b"" if signature.strip("0123456789abcdef") or len(signature) % 2 else bytes.fromhex(signature)
