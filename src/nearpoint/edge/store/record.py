"""What is kept on disk of an answer, as bytes with a checksum."""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeVar

import msgspec
from zlib_ng import zlib_ng

from nearpoint.edge.key import Key
from nearpoint.edge.vary import Variance

FORMAT = 1  # of everything in a store's folder: another number, another cache
CHECKSUM_BYTES = 4

RecordKey = bytes  # 16 bytes: of an answer, or of the names that tell its variants apart
PartKey = bytes  # 12 bytes: a body's id and the part's number


class Record(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag="e"):
    """An answer. Times are Unix seconds. `body` is None where it lies in files; `body_id` names them."""

    key: bytes
    variance: Variance
    variant: tuple[str | None, ...]
    status: int
    fields: bytes
    requested_at: float
    born_at: float
    fresh_until: float
    stale_while_until: float
    stale_if_error_until: float
    stale_when_unreachable: bool
    size: int
    body: bytes | None
    body_id: int = 0


class Names(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag="v"):
    """In an answer's place: the fields that tell variants of this key apart."""

    key: bytes
    variance: Variance


class Part(msgspec.Struct, array_like=True, frozen=True, kw_only=True, tag="p"):
    """One file of a body."""

    size: int
    checksum: int


class Note(msgspec.Struct, array_like=True, frozen=True, kw_only=True):
    """An invalidation, for the other workers and for after a restart."""

    distribution_id: str
    id: str
    at: float
    exact: tuple[str, ...]
    prefixes: tuple[str, ...]


_encoder = msgspec.msgpack.Encoder()
_records = msgspec.msgpack.Decoder(Record | Names)
_parts = msgspec.msgpack.Decoder(Part)
_notes = msgspec.msgpack.Decoder(Note)
T = TypeVar("T")


def checksum(data: bytes | memoryview, before: int = 0) -> int:
    """CRC-32 of bytes, going on from what came before them."""
    return int(zlib_ng.crc32(data, before))


def key_bytes(key: Key) -> bytes:
    """A cache key as bytes: two are equal exactly when the keys are."""
    return _encoder.encode(key)


def record_key(key: bytes, variant: tuple[str | None, ...] = ()) -> RecordKey:
    """Where a record is kept."""
    return blake2b(key + b"\0" + _encoder.encode(variant) if variant else key, digest_size=16).digest()


def part_key(body_id: int, number: int) -> PartKey:
    """Where a part is kept; the parts of a body follow each other."""
    return body_id.to_bytes(8, "big") + number.to_bytes(4, "big")


def part_of_key(key: PartKey) -> tuple[int, int]:
    """The body's id and the part's number."""
    return int.from_bytes(key[:8], "big"), int.from_bytes(key[8:], "big")


def seal(value: Record | Names | Part | Note) -> bytes:
    """A record with its checksum."""
    data = _encoder.encode(value)
    return checksum(data).to_bytes(CHECKSUM_BYTES, "big") + data


def _unseal(sealed: memoryview | bytes, decoder: msgspec.msgpack.Decoder[T]) -> T | None:
    data = memoryview(sealed)[CHECKSUM_BYTES:]
    if len(sealed) < CHECKSUM_BYTES or checksum(data) != int.from_bytes(sealed[:CHECKSUM_BYTES], "big"):
        return None
    try:
        return decoder.decode(data)
    except msgspec.MsgspecError:
        return None


def read_record(sealed: memoryview | bytes) -> Record | Names | None:
    """What has been sealed; None when it is not what was written."""
    return _unseal(sealed, _records)


def read_part(sealed: memoryview | bytes) -> Part | None:
    """What has been sealed; None when it is not what was written."""
    return _unseal(sealed, _parts)


def read_note(sealed: memoryview | bytes) -> Note | None:
    """What has been sealed; None when it is not what was written."""
    return _unseal(sealed, _notes)
