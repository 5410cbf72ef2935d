"""Large bodies in parts: a range costs what it needs, what is missing is fetched, and no two bodies are mixed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.edge.blob import Blob
from nearpoint.edge.parts import PART_BYTES, aligned_range, part_count, part_size, read_content_range
from nearpoint.edge.store.disk import DiskStore
from nearpoint.wire.message import Headers, Request, Response, StreamBody
from nearpoint.wire.ranges import parse_range

DATA = random.Random(7).randbytes(5 * PART_BYTES + 12_345)


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("bytes=0-0", (0, PART_BYTES - 1)),
        ("bytes=1048575-1048576", (0, 2 * PART_BYTES - 1)),
        ("bytes=1048576-", (PART_BYTES, None)),
        ("bytes=5-4", None),
        ("bytes=-5", None),
        ("bytes=0-1,3-4", None),
        ("items=0-1", None),
        ("", None),
        (None, None),
    ],
)
def test_aligned_ranges(field: str | None, wanted: Any) -> None:
    assert aligned_range(field) == wanted


@pytest.mark.parametrize(
    ("field", "read"),
    [
        ("bytes 0-4/10", (0, 4, 10)),
        ("bytes 0-9/10", (0, 9, 10)),
        ("bytes 0-10/10", None),
        ("bytes 5-4/10", None),
        ("bytes */10", None),
        ("bytes 0-4/*", None),
        (None, None),
    ],
)
def test_content_ranges(field: str | None, read: Any) -> None:
    assert read_content_range(field) == read


@given(st.integers(1, 10 * PART_BYTES))
def test_parts_make_up_the_body(size: int) -> None:
    sizes = [part_size(size, number) for number in range(part_count(size))]
    assert sum(sizes) == size
    assert all(0 < each <= PART_BYTES for each in sizes)


class Ranged:
    """An origin that answers ranges. `broken` cuts the next answers after so many bytes."""

    def __init__(self, data: bytes = DATA, **fields: str) -> None:
        self.data = data
        self.fields = {"ETag": '"v1"', "Cache-Control": "max-age=60", **fields}
        self.broken: list[int | None] = []
        self.ignores_ranges = False
        self.gate: asyncio.Event | None = None

    def __call__(self, request: Request) -> Response:
        headers = Headers([(name.replace("_", "-"), value) for name, value in self.fields.items()])
        data, status = self.data, 200
        match = request.headers.get("if-range")
        field = request.headers.get("range")
        if field and not self.ignores_ranges and match in (None, self.fields.get("ETag")):
            spans = parse_range(field, len(data))
            if not spans:
                headers.add("Content-Range", f"bytes */{len(data)}")
                return Response(416, headers)
            span = spans[0]
            headers.add("Content-Range", f"bytes {span.first}-{span.last}/{len(data)}")
            data, status = data[span.first : span.last + 1], 206
        cut = self.broken.pop(0) if self.broken else None
        return Response(status, headers, StreamBody(self._chunks(data, cut), len(data)))

    async def _chunks(self, data: bytes, cut: int | None) -> AsyncIterator[bytes]:
        for at in range(0, len(data), 50_000):
            if cut is not None and at >= cut:
                raise ConnectionError("broken on purpose")
            if self.gate is not None:
                await self.gate.wait()
            yield data[at : at + 50_000]


@pytest.fixture(params=["memory", "disk"])
def store(request: Any, tmp_path: Path) -> Any:
    if request.param == "memory":
        yield None
        return
    made = DiskStore(tmp_path / "cache", 64 << 20)
    yield made
    made.close()


def asked(stage: Any) -> list[str | None]:
    return [seen.headers.get("range") for seen in stage.seen]


async def opened(stage: Any, store: Any, origin: Any, **bounds: Any) -> None:
    stage.answer = origin
    await stage.open(store=store, **bounds)


async def test_a_whole_body_is_kept_in_parts(stage: Any, store: Any) -> None:
    await opened(stage, store, Ranged())
    for _ in range(3):
        assert (await stage.get("/a")).body == DATA
    for first, last in ((0, 0), (PART_BYTES - 1, PART_BYTES), (3_000_000, 5_200_000), (len(DATA) - 1, len(DATA) - 1)):
        reply = await stage.get("/a", range=f"bytes={first}-{last}")
        assert (reply.status, reply.body, reply.cache) == (206, DATA[first : last + 1], "Hit")
        assert reply["content-range"] == f"bytes {first}-{last}/{len(DATA)}"
    assert (await stage.get("/a", range="bytes=-7")).body == DATA[-7:]
    assert (await stage.get("/a", range=f"bytes={len(DATA)}-")).status == 416
    assert (await stage.get("/a", if_none_match='"v1"')).status == 304
    assert asked(stage) == [None]


async def test_a_large_body_that_is_asked_for_again_is_not_verified_again(
    stage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = DATA * 2  # twelve parts
    store = DiskStore(tmp_path / "cache", 64 << 20)
    opened_again: list[int] = []
    open_part = store.open_part

    def noted(body_id: int, number: int) -> Any:
        opened_again.append(number)
        return open_part(body_id, number)

    monkeypatch.setattr(store, "open_part", noted)
    await opened(stage, store, Ranged(data))
    for _ in range(3):
        assert (await stage.get("/a")).body == data
    assert opened_again == []
    monkeypatch.setattr(Blob, "too_many", classmethod(lambda cls: True))  # then only one stays open
    entry = stage.edge.cache.get(next(iter(stage.edge.cache._entries)), ())
    entry.body.trim()
    assert len(entry.body.blobs) == 1
    assert (await stage.get("/a")).body == data
    assert len(opened_again) == 11
    store.close()


async def test_a_range_asks_for_what_it_needs(stage: Any, store: Any) -> None:
    await opened(stage, store, Ranged())
    reply = await stage.get("/a", range="bytes=2500000-2500009")
    assert (reply.status, reply.body, reply.cache) == (206, DATA[2_500_000:2_500_010], "Miss")
    assert (await stage.get("/a", range="bytes=2600000-2600009")).body == DATA[2_600_000:2_600_010]
    await stage.get("/a", range="bytes=0-9")
    reply = await stage.get("/a")
    assert (reply.status, reply.body, reply.cache) == (200, DATA, "Hit")
    assert asked(stage) == [
        "bytes=2097152-3145727",
        "bytes=0-1048575",
        "bytes=1048576-2097151",
        f"bytes=3145728-{len(DATA) - 1}",
    ]
    assert [seen.headers.get("if-range") for seen in stage.seen] == [None, '"v1"', '"v1"', '"v1"']


async def test_a_small_body_is_whole_after_a_range(stage: Any, store: Any) -> None:
    await opened(stage, store, Ranged(b"0123456789"))
    assert (await stage.get("/a", range="bytes=2-3")).body == b"23"
    assert (await stage.get("/a")).body == b"0123456789"
    assert len(stage.seen) == 1


async def test_an_origin_without_ranges(stage: Any, store: Any) -> None:
    origin = Ranged()
    origin.ignores_ranges = True
    await opened(stage, store, origin)
    reply = await stage.get("/a", range="bytes=4000000-4000009")
    assert (reply.status, reply.body) == (206, DATA[4_000_000:4_000_010])
    assert (await stage.get("/a")).body == DATA


async def test_a_part_that_must_not_be_kept_is_passed_on(stage: Any, store: Any) -> None:
    await opened(stage, store, Ranged(Cache_Control="no-store"))
    for _ in range(2):
        reply = await stage.get("/a", range="bytes=1048580-1048589")
        assert (reply.status, reply.body) == (206, DATA[1_048_580:1_048_590])
        assert reply["content-range"] == f"bytes 1048580-1048589/{len(DATA)}"
    assert len(stage.seen) == 2


async def test_nothing_is_completed_without_a_validator(stage: Any, store: Any) -> None:
    await opened(stage, store, Ranged(ETag='W/"v1"'))
    for _ in range(2):
        reply = await stage.get("/a", range="bytes=1048580-1048589")
        assert (reply.status, reply.body, reply.cache) == (206, DATA[1_048_580:1_048_590], "Miss")
        assert "detail=partial" in reply.note
    assert (await stage.get("/a")).body == DATA


async def test_a_body_that_has_changed_is_not_mixed(stage: Any, store: Any) -> None:
    origin = Ranged()
    await opened(stage, store, origin)
    await stage.get("/a", range="bytes=0-9")
    origin.fields["ETag"], origin.data = '"v2"', DATA[::-1]
    reply = await stage.get("/a", range="bytes=2097152-2097161")
    assert reply.body == DATA[::-1][2_097_152:2_097_162]
    assert (await stage.get("/a", range="bytes=0-9")).body == DATA[::-1][:10]
    assert (await stage.get("/a")).body == DATA[::-1]


async def test_many_at_once_cost_one_request(stage: Any, store: Any) -> None:
    origin = Ranged()
    origin.gate = asyncio.Event()
    await opened(stage, store, origin)
    tasks = [asyncio.create_task(stage.get("/a")) for _ in range(6)]
    tasks += [asyncio.create_task(stage.get("/a", range="bytes=100-2000000")) for _ in range(6)]
    await stage.until(lambda: stage.seen)
    await asyncio.sleep(0.05)
    origin.gate.set()
    replies = await asyncio.gather(*tasks)
    assert all(reply.body == DATA for reply in replies[:6])
    assert all(reply.body == DATA[100:2_000_001] for reply in replies[6:])
    assert len(stage.seen) == 1


async def test_a_broken_origin_is_asked_for_the_rest(stage: Any, store: Any) -> None:
    origin = Ranged()
    origin.broken = [2_500_000]
    await opened(stage, store, origin)
    assert (await stage.get("/a")).body == DATA
    assert asked(stage) == [None, f"bytes=2097152-{len(DATA) - 1}"]


async def test_an_origin_that_stays_broken_breaks_the_answer(stage: Any, store: Any) -> None:
    origin = Ranged()
    origin.broken = [2_500_000, 0, 0, 0, 0, 0, 0, 0]
    await opened(stage, store, origin)
    with pytest.raises(Exception, match=r"lost|short|closed|ended|broke"):
        await stage.get("/a")
    assert len(stage.seen) <= 5
    origin.broken = []
    assert (await stage.get("/a")).body == DATA


async def test_a_refreshed_answer_keeps_its_parts(stage: Any, store: Any) -> None:
    origin = Ranged()
    await opened(stage, store, origin)
    await stage.get("/a")
    stage.clock.now += 61
    stage.answer = lambda request: Response(304, Headers([("ETag", '"v1"'), ("Cache-Control", "max-age=60")]))
    reply = await stage.get("/a", range="bytes=3000000-3000009")
    assert (reply.body, reply.cache) == (DATA[3_000_000:3_000_010], "RefreshHit")
    assert (await stage.get("/a")).body == DATA
    assert len(stage.seen) == 2


async def test_what_is_refreshed_while_it_arrives_is_kept(stage: Any, store: Any) -> None:
    origin = Ranged()
    origin.gate = asyncio.Event()
    await opened(stage, store, origin)
    first = asyncio.create_task(stage.get("/a"))
    await stage.until(lambda: stage.edge.cache.used_bytes)
    stage.clock.now += 61
    stage.answer = lambda request: Response(304, Headers([("ETag", '"v1"'), ("Cache-Control", "max-age=60")]))
    second = asyncio.create_task(stage.get("/a"))
    await stage.until(lambda: next(iter(stage.edge.cache._entries.values())).fresh_until > stage.clock.now)
    origin.gate.set()
    replies = await asyncio.gather(first, second)
    assert [(reply.body, reply.cache) for reply in replies] == [(DATA, "Miss"), (DATA, "RefreshHit")]
    entry = next(iter(stage.edge.cache._entries.values()))
    await stage.until(lambda: not entry.body.runs)
    assert (await stage.get("/a")).body == DATA
    assert len(stage.seen) == 2


async def test_what_is_too_large_for_memory_is_passed_on_and_for_the_disk_is_not(stage: Any, store: Any) -> None:
    await opened(stage, store, Ranged(), object_bytes_max=3_000_000)
    for _ in range(2):
        assert (await stage.get("/a")).body == DATA
        assert (await stage.get("/a", range="bytes=9-18")).body == DATA[9:19]
    assert len(stage.seen) == (4 if store is None else 1)


async def test_an_abandoned_download_stops(stage: Any, store: Any) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += PART_BYTES
            yield bytes(PART_BYTES)

    fields = [("ETag", '"v"'), ("Cache-Control", "max-age=60")]
    stage.answer = lambda request: Response(200, Headers(fields), StreamBody(endless(), 1000 * PART_BYTES))
    await opened(stage, store, stage.answer, object_bytes_max=1 << 40, cache_bytes_max=1 << 40)
    reader, writer = await asyncio.open_connection("127.0.0.1", stage.edge_port)
    writer.write(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n")
    await reader.readexactly(3 * PART_BYTES)
    writer.transport.abort()
    entry = next(iter(stage.edge.cache._entries.values()))
    await stage.until(lambda: not entry.body.runs)
    assert sent < 200 * PART_BYTES
