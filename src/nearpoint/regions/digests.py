"""The checksums that S3 knows, as its headers carry them (S3 User Guide, "Checking object integrity")."""

from __future__ import annotations

import base64
import hashlib
import zlib

KINDS = ("CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256")


def digest(kind: str, data: bytes) -> str:
    """The checksum in base64: of a CRC its big-endian bytes. `kind` is one of KINDS."""
    from awscrt import checksums

    if kind == "CRC32":
        octets = zlib.crc32(data).to_bytes(4, "big")
    elif kind == "CRC32C":
        octets = checksums.crc32c(data).to_bytes(4, "big")
    elif kind == "CRC64NVME":
        octets = checksums.crc64nvme(data).to_bytes(8, "big")
    else:
        octets = hashlib.new(kind.lower(), data).digest()
    return base64.b64encode(octets).decode()
