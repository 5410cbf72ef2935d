"""aws-chunked bodies, without I/O: framing, chunk signatures, trailers.

S3 API Reference, "Signature calculations for the authorization header: transferring payload in multiple chunks" and
"including trailing headers". A body is `SIZE[;chunk-signature=S]CRLF DATA CRLF …`, closed by a chunk of size 0, the
trailer fields and, where chunks are signed, `x-amz-trailer-signature`. Every chunk's signature covers the one before
it; the first follows that of the request. SigV4A pads chunk signatures with `*` to 144 digits so that lengths are known
beforehand; the padding is not part of the chain.
"""

from __future__ import annotations

import hashlib
import hmac

from nearpoint.signing import canonical, keys
from nearpoint.signing.values import (
    ECDSA_ALGORITHM,
    EMPTY_SHA256,
    HMAC_ALGORITHM,
    STREAMING_ECDSA,
    STREAMING_ECDSA_TRAILER,
    STREAMING_HMAC,
    STREAMING_HMAC_TRAILER,
    STREAMING_UNSIGNED_TRAILER,
    IncompleteBodyError,
    SignatureError,
    signature_octets,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from nearpoint.signing.values import Credentials, Verified

_TRAILER_SIGNATURE = "x-amz-trailer-signature"
_SIGNATURE_DIGITS = {STREAMING_ECDSA: 144, STREAMING_ECDSA_TRAILER: 144}
_WITH_TRAILER = frozenset({STREAMING_UNSIGNED_TRAILER, STREAMING_HMAC_TRAILER, STREAMING_ECDSA_TRAILER})
_HMAC_MODES = frozenset({STREAMING_HMAC, STREAMING_HMAC_TRAILER})
_ECDSA_MODES = frozenset({STREAMING_ECDSA, STREAMING_ECDSA_TRAILER})

# A size of 16 digits, the longest signature and the words between them come to 180 bytes.
_LINE_BYTES_MAX = 512
_TRAILERS_BYTES_MAX = 8192
_TRAILERS_MAX = 16


class _Chain:
    """Texts to sign for a row of chunks; `previous` is the signature that the next one covers."""

    __slots__ = ("_algorithm", "_head", "previous")

    def __init__(self, *, v4a: bool, signed_at: datetime, region: str | None, service: str, seed: str) -> None:
        timestamp = canonical.timestamp(signed_at)
        self._algorithm = ECDSA_ALGORITHM if v4a else HMAC_ALGORITHM
        scope = f"{timestamp[:8]}/{service}/aws4_request" if v4a else f"{timestamp[:8]}/{region}/{service}/aws4_request"
        self._head = f"{timestamp}\n{scope}\n"
        self.previous = seed

    def of_chunk(self, sha256: str) -> bytes:
        return f"{self._algorithm}-PAYLOAD\n{self._head}{self.previous}\n{EMPTY_SHA256}\n{sha256}".encode("latin-1")

    def of_trailer(self, fields: Iterable[tuple[str, str]]) -> bytes:
        text = "".join(f"{name}:{value}\n" for name, value in sorted(fields))
        sha256 = hashlib.sha256(text.encode("latin-1")).hexdigest()
        return f"{self._algorithm}-TRAILER\n{self._head}{self.previous}\n{sha256}".encode("latin-1")


def _malformed_trailer() -> SignatureError:
    return SignatureError(
        "MalformedTrailerError",
        "The request contained trailing data that was not well-formed or did not conform to our published schema.",
    )


class ChunkDecoder:
    """Takes the framing off a body and checks it.

    Feed it whatever arrives, cut anywhere. What `feed` returns is provisional: bytes of a signed chunk come out before
    the chunk's signature has been checked, so nothing may be made final until `finish` has returned.
    """

    __slots__ = (
        "_buffer",
        "_chain",
        "_check",
        "_chunk_left",
        "_decoded",
        "_hash",
        "_length",
        "_mode",
        "_signature",
        "_state",
        "_trailer_names",
        "_trailer_signature",
        "_trailers",
        "_trailers_size",
    )

    def __init__(
        self, verified: Verified | None, decoded_length: int, trailer_names: Iterable[str] | None = None
    ) -> None:
        """For a request that has been verified and whose payload hash is one of the STREAMING- words.

        `verified` is None for an anonymous request, whose chunks can't be signed. `decoded_length` is
        x-amz-decoded-content-length. `trailer_names`, where given, are those of x-amz-trailer: then exactly these must
        come. Raises SignatureError (InvalidRequest) when chunks are to be signed another way than the request is, and
        ValueError for a payload hash that is not a STREAMING- word.
        """
        self._mode = STREAMING_UNSIGNED_TRAILER if verified is None else verified.payload_hash
        self._length = decoded_length
        self._trailer_names = None if trailer_names is None else {name.strip().lower() for name in trailer_names}
        self._chain: _Chain | None = None
        self._check: Callable[[bytes, bytes], bool] | None = None
        if verified is not None and self._mode != STREAMING_UNSIGNED_TRAILER:
            self._check = _checker(verified, self._mode)
            claim = verified.claim
            self._chain = _Chain(
                v4a=claim.region is None,
                signed_at=claim.signed_at,
                region=claim.region,
                service=claim.service,
                seed=claim.signature,
            )
        self._buffer = bytearray()
        self._state = "size"
        self._chunk_left = 0
        self._decoded = 0
        self._hash = hashlib.sha256()
        self._signature = ""
        self._trailers: dict[str, str] = {}
        self._trailers_size = 0
        self._trailer_signature: str | None = None

    def feed(self, data: bytes) -> bytes:
        """The content in these bytes of the body.

        Raises IncompleteBodyError for broken framing or too much content, SignatureError (SignatureDoesNotMatch,
        MalformedTrailerError) for a chunk or trailer that is not what was signed.
        """
        content: list[bytes] = []
        if self._state == "data" and not self._buffer:
            piece, data = data[: self._chunk_left], data[self._chunk_left :]
            self._pass_on(piece, content)
        self._buffer += data
        while self._step(content):
            pass
        return content[0] if len(content) == 1 else b"".join(content)

    def finish(self) -> dict[str, str]:
        """The trailers, names in lower case, once the body has ended.

        Raises IncompleteBodyError when it ended too early or is not as long as declared, SignatureError
        (MalformedTrailerError) when a trailer that was announced is missing.
        """
        if self._state != "end" or self._decoded != self._length:
            raise IncompleteBodyError
        if self._trailer_names is not None and self._trailer_names != set(self._trailers):
            raise _malformed_trailer()
        return dict(self._trailers)

    def _step(self, content: list[bytes]) -> bool:
        """Move on by one element of the framing; False when more data is needed."""
        if self._state == "size":
            line = self._take_line()
            if line is None:
                return False
            self._start_chunk(line)
        elif self._state == "data":
            if not self._buffer:
                return False
            piece = bytes(self._buffer[: self._chunk_left])
            del self._buffer[: len(piece)]
            self._pass_on(piece, content)
        elif self._state == "data end":
            if len(self._buffer) < 2:
                return False
            if self._buffer[:2] != b"\r\n":
                raise IncompleteBodyError("A chunk is not followed by CRLF")
            del self._buffer[:2]
            self._end_chunk()
            self._state = "size"
        elif self._state == "trailers":
            line = self._take_line()
            if line is None:
                return False
            if line:
                self._add_trailer(line)
            else:
                self._end_trailers()
        else:
            if self._buffer:
                raise IncompleteBodyError("There is more data after the last chunk")
            return False
        return True

    def _pass_on(self, piece: bytes, content: list[bytes]) -> None:
        self._chunk_left -= len(piece)
        if self._chain is not None:
            self._hash.update(piece)
        content.append(piece)
        if not self._chunk_left:
            self._state = "data end"

    def _take_line(self) -> str | None:
        end = self._buffer.find(b"\r\n", 0, _LINE_BYTES_MAX + 2)
        if end < 0:
            if len(self._buffer) > _LINE_BYTES_MAX:
                raise IncompleteBodyError("A line of the chunk framing is too long")
            return None
        line = self._buffer[:end].decode("latin-1")
        del self._buffer[: end + 2]
        return line

    def _start_chunk(self, line: str) -> None:
        size_text, semicolon, extension = line.partition(";")
        if not 1 <= len(size_text) <= 16 or size_text.strip("0123456789abcdefABCDEF"):
            raise IncompleteBodyError("A chunk size is not a hexadecimal number")
        size = int(size_text, 16)
        if self._chain is not None:
            name, _, signature = extension.partition("=")
            if name != "chunk-signature":
                raise IncompleteBodyError("A chunk has no signature")
            self._signature = signature.rstrip("*")
        elif semicolon:
            raise IncompleteBodyError("A chunk of an unsigned body has an extension")
        if size > self._length - self._decoded:
            raise IncompleteBodyError("The body is longer than its declared length")
        self._decoded += size
        if size:
            self._chunk_left = size
            self._state = "data"
        else:
            self._end_chunk()
            self._state = "trailers"

    def _end_chunk(self) -> None:
        if self._chain is not None:
            self._prove(self._chain.of_chunk(self._hash.hexdigest()), self._signature)
            self._hash = hashlib.sha256()

    def _prove(self, text: bytes, signature: str) -> None:
        if self._chain is None or self._check is None or not self._check(text, signature_octets(signature)):
            raise SignatureError(
                "SignatureDoesNotMatch",
                "The request signature we calculated does not match the signature you provided. "
                "Check your key and signing method.",
                {"StringToSign": text.decode("latin-1"), "SignatureProvided": signature},
            )
        self._chain.previous = signature

    def _add_trailer(self, line: str) -> None:
        self._trailers_size += len(line)
        if self._mode not in _WITH_TRAILER or self._trailers_size > _TRAILERS_BYTES_MAX:
            raise _malformed_trailer()
        name, colon, value = line.partition(":")
        # Some clients end a field with LF and again with CRLF, as S3's own documentation once printed it.
        name, value = name.lower(), value.strip(" \t\n")
        if not colon or not name or name.strip(" \t") != name or name in self._trailers or "\n" in value:
            raise _malformed_trailer()
        if name == _TRAILER_SIGNATURE and self._chain is not None:
            self._trailer_signature = value.rstrip("*")
        elif self._trailer_signature is not None or len(self._trailers) == _TRAILERS_MAX:
            raise _malformed_trailer()
        else:
            self._trailers[name] = value

    def _end_trailers(self) -> None:
        if self._chain is not None and self._mode in _WITH_TRAILER:
            if self._trailer_signature is None:
                raise _malformed_trailer()
            self._prove(self._chain.of_trailer(self._trailers.items()), self._trailer_signature)
        self._state = "end"


def _checker(verified: Verified, mode: str) -> Callable[[bytes, bytes], bool]:
    key = verified.key
    if mode in _HMAC_MODES and isinstance(key, bytes):
        return lambda text, signature: hmac.compare_digest(hmac.digest(key, text, "sha256"), signature)
    if mode in _ECDSA_MODES and not isinstance(key, bytes):
        return lambda text, signature: key.verify(hashlib.sha256(text).digest(), signature)
    if mode in _HMAC_MODES or mode in _ECDSA_MODES:
        raise SignatureError("InvalidRequest", "The body's chunks are signed with another algorithm than the request.")
    raise ValueError(f"{mode} is not a chunked payload")


class ChunkEncoder:
    """Puts the framing on a body: a chunk for each piece it is fed."""

    __slots__ = ("_chain", "_mode", "_sign")

    def __init__(
        self,
        mode: str = STREAMING_UNSIGNED_TRAILER,
        credentials: Credentials | None = None,
        *,
        signed_at: datetime | None = None,
        region: str | None = None,
        service: str = "s3",
        seed: str = "",
    ) -> None:
        """`mode` is the request's payload hash, a STREAMING- word.

        The signed modes need the credentials, time and (for v4) region of the request, and its signature as `seed`.
        Raises ValueError when they are missing or `mode` is none of these words.
        """
        self._mode = mode
        self._chain: _Chain | None = None
        self._sign: Callable[[bytes], str] | None = None
        if mode == STREAMING_UNSIGNED_TRAILER:
            return
        v4a = mode in _ECDSA_MODES
        if credentials is None or signed_at is None or (mode not in _HMAC_MODES and not v4a):
            raise ValueError(f"can't sign a body as {mode} with what was given")
        self._chain = _Chain(v4a=v4a, signed_at=signed_at, region=region, service=service, seed=seed)
        if v4a:
            private = keys.v4a_key(credentials.access_key_id, credentials.secret_key)
            self._sign = lambda text: private.sign(hashlib.sha256(text).digest()).hex()
            return
        if region is None:
            raise ValueError(f"{mode} needs a region")
        key = keys.v4_key(credentials.secret_key, canonical.timestamp(signed_at)[:8], region, service)
        self._sign = lambda text: hmac.digest(key, text, "sha256").hex()

    def feed(self, piece: bytes) -> bytes:
        """One chunk of the body; empty for an empty piece, which would end it. S3 wants 8 KiB or more of all but the
        last."""
        return self._chunk(piece) + piece + b"\r\n" if piece else b""

    def finish(self, trailers: Mapping[str, str] | None = None) -> bytes:
        """The end of the body. Trailers only in the modes that have them (ValueError)."""
        if trailers and self._mode not in _WITH_TRAILER:
            raise ValueError(f"{self._mode} has no trailers")
        fields = [(name.lower(), value.strip(" \t")) for name, value in (trailers or {}).items()]
        end = self._chunk(b"")
        for name, value in fields:
            end += f"{name}:{value}\r\n".encode("latin-1")
        if self._mode in _WITH_TRAILER and self._chain is not None:
            signature = self._next(self._chain.of_trailer(fields))
            end += f"{_TRAILER_SIGNATURE}:{signature}\r\n".encode("latin-1")
        return end + b"\r\n"

    def _chunk(self, piece: bytes) -> bytes:
        if self._chain is None:
            return b"%x\r\n" % len(piece)
        signature = self._next(self._chain.of_chunk(hashlib.sha256(piece).hexdigest()))
        return f"{len(piece):x};chunk-signature={signature}\r\n".encode("latin-1")

    def _next(self, text: bytes) -> str:
        assert self._chain is not None
        assert self._sign is not None
        signature = self._sign(text)
        self._chain.previous = signature
        return signature.ljust(_SIGNATURE_DIGITS.get(self._mode, 64), "*")
