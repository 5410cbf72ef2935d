"""A stored answer: its fields and body as they go out, and the arithmetic of its age."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from nearpoint.edge.blob import Blob
from nearpoint.edge.eviction import Item
from nearpoint.edge.freshness import Freshness
from nearpoint.edge.key import Key
from nearpoint.edge.parts import PART_BYTES
from nearpoint.edge.vary import Variance
from nearpoint.wire.message import Body, BytesBody, Headers

Variant = tuple[str | None, ...]
BLOB_OVERHEAD_BYTES = 2_048  # of an open file, the kernel's share included
# Of one body: opening a part means reading it to verify it, so what is asked for again and again should stay open.
OPEN_PARTS_MAX = 32
# Of one entry beside its body and fields, its place on the hot path included: resident memory of a million
# (`bench.edge_store`; 650 without that place).
OVERHEAD_BYTES = 1_000


def encode_fields(fields: Iterable[tuple[str, str]]) -> bytes:
    """Header fields as they go on the wire, each with its line end. Raises ValueError for a field with a line break."""
    lines = [f"{name}: {value}" for name, value in fields]
    text = "\n".join(lines)
    if lines and (text.count("\n") != len(lines) - 1 or "\r" in text or "\0" in text):
        raise ValueError("a line break or NUL in a header")
    return (text.replace("\n", "\r\n") + "\r\n").encode("latin-1") if lines else b""


class Parts:
    """A body in parts, some of which may be missing. `body_id` names it in the disk tier, 0: there is none.

    `blobs` are the parts at hand; without a disk tier they are all that are kept. `runs` fetch others (`partfill`).
    """

    __slots__ = ("blobs", "body_id", "runs", "size")

    def __init__(self, size: int, body_id: int) -> None:
        self.size = size
        self.body_id = body_id
        self.blobs: dict[int, Blob] = {}
        self.runs: list[Any] = []

    def __len__(self) -> int:
        return self.size

    def trim(self) -> None:
        """Keep no more parts open than there may be, one where files are scarce; those on disk are found again."""
        most = 1 if Blob.too_many() else OPEN_PARTS_MAX
        while len(self.blobs) > most:
            del self.blobs[next(iter(self.blobs))]


def _memory_bytes(body: bytes | Blob | Parts) -> int:
    """What a body takes of this process's memory; what lies on disk is the kernel's to keep in memory or not."""
    if isinstance(body, Parts):
        if not body.body_id:
            return sum(blob.size for blob in body.blobs.values())
        return BLOB_OVERHEAD_BYTES * min(OPEN_PARTS_MAX, -(-body.size // PART_BYTES))
    if isinstance(body, Blob):
        return BLOB_OVERHEAD_BYTES + (0 if body.body_id else body.size)
    return len(body)


class Entry(Item):
    """One stored answer. Times are Unix seconds; nothing of it changes but `uses`, `retry_at` and `checked`.

    `fields` are the stored header fields as wire bytes, without those that the edge adds to each answer.
    """

    __slots__ = (
        "body",
        "born_at",
        "checked",
        "fields",
        "fresh_until",
        "hot",
        "primary",
        "requested_at",
        "retry_at",
        "stale_if_error_until",
        "stale_when_unreachable",
        "stale_while_until",
        "status",
        "variance",
        "variant",
    )

    def __init__(
        self,
        *,
        key: Key,
        variance: Variance,
        variant: Variant,
        status: int,
        fields: bytes,
        body: bytes | Blob | Parts,
        freshness: Freshness,
        requested_at: float,
        received_at: float,
    ) -> None:
        super().__init__((key, variant), _memory_bytes(body) + len(fields) + OVERHEAD_BYTES)
        self.primary = key
        self.variance = variance
        self.variant = variant
        self.status = status
        self.fields = fields
        self.body = body
        self.requested_at = requested_at
        self.born_at = received_at - freshness.initial_age_s
        self.fresh_until = received_at + freshness.fresh_s
        until, while_s, error_s = self.fresh_until, freshness.stale_while_revalidate_s, freshness.stale_if_error_s
        self.stale_while_until = until + while_s if while_s else until  # the same number takes no more memory
        self.stale_if_error_until = until + error_s if error_s else until
        self.stale_when_unreachable = freshness.stale_when_unreachable
        self.retry_at = 0.0  # while stale after a failure: the origin is not asked before
        self.checked = 0  # the number of the last invalidation that it has been compared with
        self.hot: object | None = None  # the instant path's own view of it

    def headers(self) -> Headers:
        """The stored fields as headers."""
        return Headers(decode_fields(self.fields))

    def part(self, first: int, length: int) -> Body:
        """Some of the body, ready to be sent. Not for a body in parts."""
        body = self.body
        assert not isinstance(body, Parts)
        if isinstance(body, Blob):
            return body.body(first, length)
        return BytesBody(body if length == len(body) else body[first : first + length])

    def age_s(self, now: float) -> int:
        """The Age that goes out (RFC 9111 §4.2.3)."""
        return max(0, int(now - self.born_at))


def decode_fields(fields: bytes) -> list[tuple[str, str]]:
    """The reverse of encode_fields."""
    lines = fields.decode("latin-1").split("\r\n")
    return [(name, value) for line in lines if line for name, _, value in [line.partition(": ")]]
