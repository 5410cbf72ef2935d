"""S3's additional checksums: computing them, verifying what a client declared, and joining those of parts.

API Reference, "Checking object integrity": CRC64NVME always covers the full object; SHA-1 and SHA-256 of a multipart
object are composite (a digest over the parts' digests, `-N` behind it); CRC32 and CRC32C may be either.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from awscrt import checksums as crt

from nearpoint.awsproto.errors import AwsError

ChecksumType = Literal["FULL_OBJECT", "COMPOSITE"]
DEFAULT_ALGORITHM = "CRC64NVME"  # what S3 computes when a client names none


class Digest(Protocol):
    """A running digest, as hashlib's."""

    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc:
    __slots__ = ("_function", "_size_bytes", "_value")

    def __init__(self, function: Callable[[bytes, int], int], size_bytes: int) -> None:
        self._function = function
        self._size_bytes = size_bytes
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = self._function(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(self._size_bytes, "big")


_NEW: dict[str, Callable[[], Digest]] = {
    "CRC32": lambda: _Crc(crt.crc32, 4),
    "CRC32C": lambda: _Crc(crt.crc32c, 4),
    "CRC64NVME": lambda: _Crc(crt.crc64nvme, 8),
    "SHA1": lambda: hashlib.sha1(usedforsecurity=False),
    "SHA256": hashlib.sha256,
}
_COMBINE: dict[str, Callable[[int, int, int], int]] = {
    "CRC32": crt.combine_crc32,
    "CRC32C": crt.combine_crc32c,
    "CRC64NVME": crt.combine_crc64nvme,
}
_SIZE_BYTES = {"CRC32": 4, "CRC32C": 4, "CRC64NVME": 8, "SHA1": 20, "SHA256": 32}
HEADER = {name: f"x-amz-checksum-{name.lower()}" for name in _NEW}
ALGORITHM_OF = {header: name for name, header in HEADER.items()}


@dataclass(frozen=True, slots=True)
class Checksum:
    """What is kept of an object or part; `value` is base64, with `-N` when composite."""

    algorithm: str
    kind: ChecksumType
    value: str

    def pack(self) -> str:
        """As one column."""
        return f"{self.algorithm} {self.kind} {self.value}"

    @staticmethod
    def unpack(text: str) -> Checksum:
        """From `pack`."""
        algorithm, kind, value = text.split(" ")
        return Checksum(algorithm, "COMPOSITE" if kind == "COMPOSITE" else "FULL_OBJECT", value)


def new(algorithm: str) -> Digest:
    """A running digest. `algorithm` is one of S3's names."""
    return _NEW[algorithm]()


def encode(digest: bytes) -> str:
    """Base64, as in S3's headers."""
    return base64.b64encode(digest).decode("ascii")


def declared(get: Callable[[str], str | None]) -> tuple[str, str] | None:
    """The algorithm and base64 value that a request's header gives for its body, or None.

    Raises InvalidRequest for more than one, and for a value that cannot be of that algorithm.
    """
    found = declared_whole(get)
    if found is not None:
        check_value(*found)
    return found


def declared_whole(get: Callable[[str], str | None]) -> tuple[str, str] | None:
    """As `declared`, for a multipart object, whose value may end in `-N`."""
    found: tuple[str, str] | None = None
    for header, algorithm in ALGORITHM_OF.items():
        value = get(header)
        if value is None:
            continue
        if found is not None:
            raise AwsError(
                "InvalidRequest", "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
            )
        found = (algorithm, value)
    return found


def check_value(algorithm: str, value: str) -> None:
    """Raises InvalidRequest unless `value` is base64 of the algorithm's length."""
    try:
        fits = len(base64.b64decode(value, validate=True)) == _SIZE_BYTES[algorithm]
    except (binascii.Error, ValueError):
        fits = False
    if not fits:
        raise AwsError("InvalidRequest", f"Value for {HEADER[algorithm]} header is invalid.")


def wanted(get: Callable[[str], str | None]) -> str | None:
    """The algorithm that a request says it uses, by any of the three ways to say so, or None.

    Raises InvalidRequest for an unknown one, or one that is announced and then not sent.
    """
    trailer = (get("x-amz-trailer") or "").strip().lower()
    if trailer in ALGORITHM_OF:
        return ALGORITHM_OF[trailer]
    found = declared(get)
    announced = get("x-amz-sdk-checksum-algorithm")
    if announced is not None:
        check_algorithm(announced.upper(), "x-amz-sdk-checksum-algorithm")
        if found is None and get("content-md5") is None:
            raise AwsError(
                "InvalidRequest",
                "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer "
                "headers were found.",
            )
    return None if found is None else found[0]


def check_algorithm(algorithm: str, header: str = "x-amz-checksum-algorithm") -> str:
    """The algorithm if S3 has it. Raises InvalidRequest."""
    if algorithm not in _NEW:
        raise AwsError(
            "InvalidRequest",
            f"Checksum algorithm provided is unsupported. Please try again with any of the valid "
            f"types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256] ({header})",
        )
    return algorithm


def upload_type(algorithm: str, kind: str | None) -> ChecksumType:
    """The checksum type of a multipart upload. Raises InvalidRequest for a pair that S3 does not offer."""
    if kind is None:
        return "FULL_OBJECT" if algorithm == "CRC64NVME" else "COMPOSITE"
    if (kind, algorithm) in {("FULL_OBJECT", "SHA1"), ("FULL_OBJECT", "SHA256"), ("COMPOSITE", "CRC64NVME")}:
        raise AwsError(
            "InvalidRequest",
            f"The {kind} checksum type cannot be used with the {algorithm.lower()} checksum algorithm.",
        )
    if kind not in ("FULL_OBJECT", "COMPOSITE"):
        raise AwsError("InvalidRequest", "Value for x-amz-checksum-type header is invalid.")
    return "COMPOSITE" if kind == "COMPOSITE" else "FULL_OBJECT"


def join(algorithm: str, kind: ChecksumType, parts: Sequence[tuple[str, int]]) -> Checksum:
    """The checksum of a multipart object from its parts' (base64 value, size in bytes), in order."""
    digests = [base64.b64decode(value) for value, _ in parts]
    if kind == "COMPOSITE":
        whole = new(algorithm)
        whole.update(b"".join(digests))
        return Checksum(algorithm, kind, f"{encode(whole.digest())}-{len(parts)}")
    combine = _COMBINE[algorithm]
    value = 0
    for digest, (_, size) in zip(digests, parts, strict=True):
        value = combine(value, int.from_bytes(digest, "big"), size)
    return Checksum(algorithm, kind, encode(value.to_bytes(_SIZE_BYTES[algorithm], "big")))


def fields(checksum: Checksum) -> Mapping[str, str]:
    """The members by which S3's XML answers give a checksum."""
    return {f"Checksum{checksum.algorithm}": checksum.value, "ChecksumType": checksum.kind}
