"""What one worker of the edge may hold and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Bounds of one edge.

    - `cache_bytes_max`: the memory tier, overhead included; `object_bytes_max`: a larger object passes uncached.
    - `fill_bytes_max`: bodies on their way into the cache, all together.
    - `read_whole_bytes_max`: a body up to this is read before its answer begins, without a task of its own.
    - `stale_wait_s`: how long a viewer waits for an origin while there is a stale answer that may be served.
    - `stale_retry_s`: after a failure that a stale answer hid, how long the origin is left alone.
    - `remember_s`: how long it is remembered that a key's answers are not kept.
    """

    cache_bytes_max: int = 268_435_456
    object_bytes_max: int = 16_777_216
    fill_bytes_max: int = 134_217_728
    read_whole_bytes_max: int = 65_536
    stale_wait_s: float = 2.0
    stale_retry_s: float = 2.0
    remember_s: float = 60.0
    remembered_max: int = 50_000
