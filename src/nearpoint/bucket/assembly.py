"""Decides what a completed multipart upload becomes: order, sizes, entity tag, checksum (pure).

The entity tag is the MD5 of the parts' MD5s, and `-N` (S3 API Reference, CompleteMultipartUpload).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nearpoint.awsproto.errors import AwsError
from nearpoint.bucket.checksums import Checksum, ChecksumType, join

PART_BYTES_MIN = 5 * 1024**2  # every part but the last


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedPart:
    """A part as the client lists it; `checksums` are those it gives, base64 by algorithm."""

    number: int
    etag: str
    checksums: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class HavePart:
    """A part as it was uploaded."""

    number: int
    size: int
    etag: str
    checksum: Checksum


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """The object that the parts make; no checksum where the parts were not all summed alike."""

    size: int
    etag: str
    checksum: Checksum | None


def assemble(
    asked: Sequence[AskedPart],
    have: Mapping[int, HavePart],
    *,
    algorithm: str,
    kind: ChecksumType,
    required: bool,
    declared: tuple[str, str] | None,
    declared_size: str | None,
    upload: str,
) -> Whole:
    """What the asked parts make. `required`: each must come with its checksum. `declared`: algorithm and value of the
    whole. Raises AwsError: MalformedXML, InvalidPartOrder, InvalidPart, EntityTooSmall, InvalidRequest, BadDigest.
    """
    if not asked:
        raise AwsError("MalformedXML")
    if any(later.number <= earlier.number for earlier, later in itertools.pairwise(asked)):
        raise AwsError("InvalidPartOrder", extra={"UploadId": upload})
    parts: list[HavePart] = []
    for at, wanted in enumerate(asked):
        part = have.get(wanted.number)
        if part is None or part.etag != wanted.etag:
            raise _invalid_part(wanted, upload)
        given = wanted.checksums.get(part.checksum.algorithm)
        if given is not None and given != part.checksum.value:
            raise _invalid_part(wanted, upload)
        if required and given is None:
            raise AwsError(
                "InvalidRequest",
                f"The upload was created using a {algorithm.lower()} checksum. The complete request must include the "
                f"checksum for each part. It was missing for part {wanted.number} in the request.",
            )
        if part.size < PART_BYTES_MIN and at < len(asked) - 1:
            raise AwsError(
                "EntityTooSmall",
                "Your proposed upload is smaller than the minimum allowed size",
                extra={
                    "ProposedSize": str(part.size),
                    "MinSizeAllowed": str(PART_BYTES_MIN),
                    "PartNumber": str(part.number),
                    "ETag": part.etag,
                },
            )
        parts.append(part)
    size = sum(part.size for part in parts)
    if declared_size is not None and declared_size != str(size):
        raise AwsError(
            "InvalidRequest",
            f"The provided 'x-amz-mp-object-size' header value {declared_size} does not match what was computed: "
            f"{size}",
        )
    checksum = _checksum(parts, algorithm, kind)
    if declared is not None and not _agrees(declared, checksum):
        raise AwsError("BadDigest", f"The {declared[0]} you specified did not match the calculated checksum.")
    digest = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False)
    return Whole(size=size, etag=f"{digest.hexdigest()}-{len(parts)}", checksum=checksum)


def _checksum(parts: Sequence[HavePart], algorithm: str, kind: ChecksumType) -> Checksum | None:
    if any(part.checksum.algorithm != algorithm for part in parts):
        return None
    return join(algorithm, kind, [(part.checksum.value, part.size) for part in parts])


def _agrees(declared: tuple[str, str], checksum: Checksum | None) -> bool:
    algorithm, value = declared
    if checksum is None or checksum.algorithm != algorithm:
        return False
    return value in (checksum.value, checksum.value.partition("-")[0])


def _invalid_part(part: AskedPart, upload: str) -> AwsError:
    return AwsError(
        "InvalidPart",
        extra={"UploadId": upload, "PartNumber": str(part.number), "ETag": part.etag},
    )
