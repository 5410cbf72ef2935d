"""The policy against an exact simulation of the published one (Yang et al., SOSP 2023), on a Zipf trace."""

from __future__ import annotations

import bisect
import itertools
import random
from collections import OrderedDict, deque
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from nearpoint.edge.eviction import Item, S3Fifo
from nearpoint.edge.store.counts import Counts, number_of
from nearpoint.edge.store.index import Index, Put, charged_bytes
from nearpoint.edge.store.record import Record, key_bytes, record_key, seal

OBJECTS, REQUESTS, CACHED = 100_000, 200_000, 1_000


def zipf(*, alpha: float, objects: int, requests: int, seed: int) -> list[int]:
    weights = list(itertools.accumulate(1 / (rank**alpha) for rank in range(1, objects + 1)))
    numbers = random.Random(seed)
    return [bisect.bisect_left(weights, numbers.random() * weights[-1]) for _ in range(requests)]


def simulated_hits(trace: list[int], capacity: int) -> int:
    """Algorithm 1 of the paper: objects of one size, a tenth in the small queue, ghosts as many as the main queue."""
    small_max, main_max = capacity // 10, capacity - capacity // 10
    small: deque[int] = deque()
    main: deque[int] = deque()
    ghosts: OrderedDict[int, None] = OrderedDict()
    uses: dict[int, int] = {}
    hits = 0

    def evict_main() -> None:
        while True:
            key = main.popleft()
            if uses[key] == 0:
                del uses[key]
                return
            uses[key] -= 1
            main.append(key)

    def evict_small() -> None:
        while small:
            key = small.popleft()
            if uses[key] <= 1:
                del uses[key]
                ghosts[key] = None
                if len(ghosts) > main_max:
                    ghosts.popitem(last=False)
                return
            uses[key] = 0
            main.append(key)
            if len(main) > main_max:
                evict_main()

    for key in trace:
        if key in uses:
            hits += 1
            uses[key] = min(3, uses[key] + 1)
            continue
        if len(small) + len(main) >= capacity:
            if len(small) >= small_max:
                evict_small()
            else:
                evict_main()
        if key in ghosts:
            del ghosts[key]
            main.append(key)
        else:
            small.append(key)
        uses[key] = 0
    return hits


def memory_hits(trace: list[int], capacity: int) -> int:
    policy = S3Fifo(capacity)
    items: dict[int, Item] = {}
    hits = 0
    for key in trace:
        item = items.get(key)
        if item is not None:
            hits += 1
            item.uses = min(3, item.uses + 1)
            continue
        items[key] = Item(key, 1)
        for left in policy.admit(items[key]):
            del items[left.key]  # type: ignore[arg-type]
    return hits


def test_memory_hits_as_often_as_the_published_policy() -> None:
    trace = zipf(alpha=0.9, objects=OBJECTS, requests=REQUESTS, seed=1)
    published, ours = simulated_hits(trace, CACHED) / REQUESTS, memory_hits(trace, CACHED) / REQUESTS
    assert published > 0.3
    assert ours > published - 0.02


def test_disk_hits_as_often_as_the_published_policy(tmp_path: Path) -> None:
    objects, requests, cached = 30_000, 30_000, 300
    trace = zipf(alpha=0.9, objects=objects, requests=requests, seed=2)

    def made(key: int) -> Record:
        return Record(
            key=key_bytes((key + 1_000_000,)), variance=(), variant=(), status=200, fields=b"", requested_at=1.0,
            born_at=1.0, fresh_until=1.0, stale_while_until=1.0, stale_if_error_until=1.0,
            stale_when_unreachable=True, size=0, body=b"x" * 1_000,
        )  # fmt: skip

    size = charged_bytes(len(seal(made(0))))
    counts = Counts(tmp_path / "counts", size * cached)
    index = Index(tmp_path / "index", capacity_bytes=size * cached, counts=counts)
    hits = 0
    for key in trace:
        record = made(key)
        at = record_key(record.key)
        if index.record(at) is not None:
            hits += 1
            counts.touch(number_of(at))
        else:
            index.apply([Put(key=at, record=record)])
    index.close()
    published = simulated_hits(trace, cached) / requests
    assert published > 0.2
    assert hits / requests > published - 0.02


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 40)), max_size=200))
def test_what_is_counted_is_what_is_there(steps: list[tuple[int, int]]) -> None:
    policy = S3Fifo(100)
    items: dict[int, Item] = {}
    for key, size in steps:
        item = items.get(key)
        if item is not None and size % 3 == 0:
            left = policy.grow(item, size)
        elif item is not None:
            policy.remove(items.pop(key))
            continue
        else:
            items[key] = Item(key, size)
            left = policy.admit(items[key])
        for each in left:
            del items[each.key]  # type: ignore[arg-type]
        assert policy.used_bytes == sum(each.size_bytes for each in items.values()) <= 100


def test_removed_items_hold_no_more_than_their_share() -> None:
    policy = S3Fifo(1_000)
    for number in range(500):
        before = Item(number, 100)
        policy.admit(before)
        policy.remove(before)
        assert sum(item.size_bytes for item in (*policy._small, *policy._main)) <= 1_000 * 0.25 + 100
    assert policy.used_bytes == 0
