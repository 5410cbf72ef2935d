from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearpoint.edge.cache import VARIANTS_MAX, MemoryCache
from nearpoint.edge.conditional import Condition, check_conditions
from nearpoint.edge.entry import Entry, decode_fields, encode_fields
from nearpoint.edge.eviction import Item, S3Fifo
from nearpoint.edge.fill import WINDOW_BYTES, Fill, FillMemory
from nearpoint.edge.freshness import Freshness, Source
from nearpoint.edge.invalidation import ITEMS_MAX, compile_invalidation
from nearpoint.edge.key import cache_key
from nearpoint.edge.policies import ALL, CachePolicy
from nearpoint.wire.message import Headers, StreamBody

FRESH = Freshness(
    fresh_s=100, initial_age_s=0, source=Source.MAX_AGE, stale_while_revalidate_s=0, stale_if_error_s=0,
    stale_when_unreachable=True,
)  # fmt: skip


def entry(
    path: str, body: bytes = b"x" * 100, *, variance: tuple[str, ...] = (), variant: Any = (), at: float = 0
) -> Entry:
    key = cache_key(
        distribution_id="E1", policy=CachePolicy(queries=ALL), method="GET", path=path, query="", headers=Headers()
    )
    return Entry(
        key=key, variance=variance, variant=variant, status=200, fields=b"", body=body, freshness=FRESH,
        requested_at=at, received_at=at,
    )  # fmt: skip


def test_what_is_put_is_found_until_it_is_dropped() -> None:
    gone: list[Entry] = []
    cache = MemoryCache(100_000)
    cache.on_drop = gone.append
    one = entry("/a")
    assert cache.put(one)
    assert cache.get(one.primary, ()) is one
    two = entry("/a", b"new")
    cache.put(two)
    assert cache.get(one.primary, ()) is two
    assert gone == [one]
    cache.drop_key(two.primary)
    assert cache.variance(two.primary) is None
    assert cache.used_bytes == 0


def test_variants_of_one_key_are_bounded() -> None:
    cache = MemoryCache(10_000_000)
    for number in range(VARIANTS_MAX + 10):
        cache.put(entry("/a", variance=("accept",), variant=(str(number),)))
    key = entry("/a").primary
    assert cache.get(key, ("0",)) is None
    assert cache.get(key, (str(VARIANTS_MAX + 9),)) is not None
    cache.put(entry("/a", variance=("origin",), variant=("o",)))
    assert cache.variance(key) == ("origin",)
    assert cache.get(key, ("70",)) is None


def test_an_object_larger_than_the_cache_is_not_kept() -> None:
    cache = MemoryCache(10_000)
    assert not cache.put(entry("/a", b"x" * 20_000))
    assert cache.used_bytes == 0
    assert cache.variance(entry("/a").primary) is None


def test_what_replaces_an_answer_again_and_again_leaves_nothing_behind() -> None:
    cache = MemoryCache(1_000_000)
    for _ in range(20_000):
        cache.put(entry("/a"))
    policy = cache._policy
    assert len(policy._small) + len(policy._main) < 5_000


@pytest.mark.parametrize(
    ("paths", "path", "gone"),
    [
        (["/a"], "/a", True),
        (["/a"], "/ab", False),
        (["/a*"], "/ab", True),
        (["a"], "/a", True),
        (["/*"], "/x/y", True),
        (["*"], "/x/y", True),
        (["/%7Ea"], "/~a", True),
        (["/ä"], "/%C3%A4", True),
        (["/a?b=1"], "/a", False),
        (["/"], "/index.html", True),
        (["/A"], "/a", False),
    ],
)
def test_invalidations(paths: list[str], path: str, gone: bool) -> None:
    cache = MemoryCache(100_000)
    stored = entry(path, at=10)
    cache.put(stored)
    made = compile_invalidation(invalidation_id="I", at=20, paths=paths, default_root_object="index.html")
    assert cache.invalidate("E1", [made])
    assert not cache.invalidate("E1", [made])
    assert cache.invalidate("E2", [made])
    assert (cache.get(stored.primary, ()) is None) is gone
    later = entry(path, at=21)
    assert cache.put(later)
    assert cache.get(later.primary, ()) is later
    assert not cache.put(entry(path, at=15)) or not gone


def test_forgotten_invalidations_take_their_time_with_them() -> None:
    cache = MemoryCache(100_000)
    old, new = entry("/old", at=5), entry("/new", at=1_000_000)
    cache.put(old)
    cache.put(new)
    many = [
        compile_invalidation(invalidation_id=f"I{n}", at=float(n + 10), paths=[f"/none/{n}"])
        for n in range(ITEMS_MAX + 1)
    ]
    cache.invalidate("E1", many)
    assert cache.get(old.primary, ()) is None
    assert cache.get(new.primary, ()) is new


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 400)), max_size=300), st.integers(500, 3_000))
def test_eviction_never_exceeds_its_bytes_and_loses_nothing(asked: list[tuple[int, int]], capacity: int) -> None:
    policy = S3Fifo(capacity)
    held: dict[int, Item] = {}
    for key, size in asked:
        if key in held and size % 7:
            held[key].uses = min(3, held[key].uses + 1)
            continue
        if key in held:
            policy.remove(held.pop(key))
        item = Item(key, size)
        held[key] = item
        for left in policy.admit(item):
            assert held.pop(left.key) is left  # type: ignore[call-overload]
        assert policy.used_bytes == sum(each.size_bytes for each in held.values()) <= capacity


def hit_rate(trace: list[int], capacity: int, *, lru: bool) -> float:
    hits = 0
    if lru:
        order: OrderedDict[int, None] = OrderedDict()
        for key in trace:
            if key in order:
                hits += 1
                order.move_to_end(key)
            else:
                order[key] = None
                if len(order) > capacity:
                    order.popitem(last=False)
        return hits / len(trace)
    policy, held = S3Fifo(capacity), dict[int, Item]()
    for key in trace:
        if key in held:
            hits += 1
            held[key].uses = min(3, held[key].uses + 1)
            continue
        held[key] = Item(key, 1)
        for left in policy.admit(held[key]):
            del held[left.key]  # type: ignore[arg-type]
    return hits / len(trace)


def test_scans_pass_through() -> None:
    rng = random.Random(7)
    weights = [1 / (rank + 1) ** 0.9 for rank in range(5_000)]
    popular = rng.choices(range(5_000), weights, k=60_000)
    trace: list[int] = []
    for at, key in enumerate(popular):
        trace.append(key)
        trace.append(10_000 + at)  # a scan that asks for everything once
    assert hit_rate(trace, 200, lru=False) > 1.3 * hit_rate(trace, 200, lru=True)


def test_fields_go_there_and_back() -> None:
    fields = [("A", "1: 2"), ("B", ""), ("C", "ä")]
    assert decode_fields(encode_fields(fields)) == fields
    with pytest.raises(ValueError):
        encode_fields([("A", "1\r\nSet-Cookie: x")])


@pytest.mark.parametrize(
    ("request_headers", "expected"),
    [
        ({"if-none-match": '"1"'}, Condition.NOT_MODIFIED),
        ({"if-none-match": '"2", W/"1"'}, Condition.NOT_MODIFIED),
        ({"if-none-match": "*"}, Condition.NOT_MODIFIED),
        ({"if-none-match": '"2"', "if-modified-since": "Sun, 06 Nov 1994 08:49:37 GMT"}, Condition.GO_ON),
        ({"if-modified-since": "Sunday, 06-Nov-94 08:49:37 GMT"}, Condition.NOT_MODIFIED),
        ({"if-modified-since": "rubbish"}, Condition.GO_ON),
        ({"if-match": '"1"'}, Condition.GO_ON),
        ({"if-match": "*"}, Condition.GO_ON),
        ({"if-match": 'W/"1"'}, Condition.FAILED),
        ({"if-unmodified-since": "Sun, 06 Nov 1994 08:49:36 GMT"}, Condition.FAILED),
        ({"if-match": '"1"', "if-none-match": '"1"'}, Condition.NOT_MODIFIED),
    ],
)
def test_conditions(request_headers: dict[str, str], expected: Condition) -> None:
    stored = Headers([("ETag", '"1"'), ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")])
    assert check_conditions(Headers(request_headers.items()), stored) is expected


async def source(parts: list[bytes], fail: bool = False) -> Any:
    for part in parts:
        await asyncio.sleep(0)
        yield part
    if fail:
        raise ConnectionError("broke off")


async def drain(body: Any) -> bytes:
    return b"".join([chunk async for chunk in body])


@settings(max_examples=40, deadline=None)
@given(
    parts=st.lists(st.binary(min_size=1, max_size=50), max_size=10),
    limit=st.integers(1, 300),
    ranges=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=3),
)
def test_every_reader_of_a_fill_gets_its_bytes(parts: list[bytes], limit: int, ranges: list[tuple[int, int]]) -> None:
    async def run() -> None:
        whole = b"".join(parts)
        memory = FillMemory(1_000)
        fill = Fill(StreamBody(source(parts), len(whole)), limit_bytes=limit, memory=memory)
        wanted = [(min(first, len(whole)), length) for first, length in ranges]
        readers = [fill.reader(), *(fill.reader(first, length) for first, length in wanted)]
        results = await asyncio.gather(fill.run(), *(drain(reader) for reader in readers))
        assert results[0] == (whole if len(whole) <= limit else None)
        assert results[1] == whole
        for (first, length), got in zip(wanted, results[2:], strict=True):
            assert got == whole[first : first + length]
        assert memory.used_bytes == 0

    asyncio.run(run())


async def test_a_fill_above_its_limit_waits_for_its_slowest_reader() -> None:
    given_out = 0

    async def endless() -> Any:
        nonlocal given_out
        for _ in range(100):
            given_out += 1
            yield b"x" * 100_000

    fill = Fill(StreamBody(endless(), None), limit_bytes=1_000, memory=FillMemory(10_000_000))
    reader = fill.reader()
    pump = asyncio.create_task(fill.run())
    for _ in range(200):
        await asyncio.sleep(0)
    assert given_out * 100_000 <= WINDOW_BYTES + 200_000
    assert len(await drain(reader)) == 10_000_000
    assert await pump is None


async def test_a_reader_that_does_not_read_holds_nobody_up_for_long(monkeypatch: Any) -> None:
    monkeypatch.setattr("nearpoint.edge.fill.PATIENCE_S", 0.05)
    fill = Fill(StreamBody(source([b"x" * 100_000] * 100), None), limit_bytes=1_000, memory=FillMemory(10_000_000))
    stuck, reader = aiter(fill.reader()), fill.reader()
    pump = asyncio.create_task(fill.run())
    assert await anext(stuck) == b"x" * 100_000
    assert len(await drain(reader)) == 10_000_000
    assert await pump is None
    with pytest.raises(ConnectionError, match="too slow"):
        await anext(stuck)


async def test_a_fill_that_nobody_reads_and_nobody_keeps_ends() -> None:
    fill = Fill(StreamBody(source([b"x" * 100] * 50), None), limit_bytes=1_000, memory=FillMemory(10_000))
    reader = fill.reader()
    pump = asyncio.create_task(fill.run())
    await asyncio.sleep(0)
    await reader.close()
    assert await pump is None


async def test_a_short_or_broken_body_fails_every_reader() -> None:
    for body in (StreamBody(source([b"abc"], True), 4), StreamBody(source([b"abc"]), 5)):
        fill = Fill(body, limit_bytes=1_000, memory=FillMemory(10_000))
        results = await asyncio.gather(fill.run(), drain(fill.reader()), return_exceptions=True)
        assert results[0] is None
        assert isinstance(results[1], ConnectionError)
