"""Who routes reads learns which keys are on their way, at once of its own writes, and that they have arrived."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.bucket import feed
from nearpoint.bucket.writer import Entry, LogChange
from nearpoint.replication.pending import NOTES_MAX, LogListener, Note, PendingKeys, name_of

US, EU = "us-east-1", "eu-west-1"
MEMBERS = [(US, "aaa"), (EU, "bbb")]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@pytest.fixture
async def keys(pair: Any) -> AsyncIterator[PendingKeys]:
    index = PendingKeys((US, EU))
    tasks = [asyncio.create_task(LogListener(pair[name].store, index).run()) for name in (US, EU)]
    yield index
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_a_key_is_behind_until_it_has_arrived(pair: Any, keys: PendingKeys) -> None:
    await pair[US].ask("PUT", "aaa", "k", b"1")
    await until(lambda: keys.newer_in("bbb", "k", MEMBERS) == [US])
    assert keys.newer_in("bbb", "other", MEMBERS) == keys.newer_in("aaa", "k", MEMBERS) == []
    await pair[EU].ask("DELETE", "bbb", "k")
    await until(lambda: keys.newer_in("aaa", "k", MEMBERS) == [EU])
    pair.copy()
    await until(lambda: not keys.busy)
    assert keys.newer_in("bbb", "k", MEMBERS) == []


async def test_what_was_pending_before_is_told_and_a_log_that_changed_as_a_whole_is_told_again(pair: Any) -> None:
    for key in ("k", "ключ", "a\nb"):
        await pair[US].ask("PUT", "aaa", key, b"1")
    index = PendingKeys((US, EU))
    task = asyncio.create_task(LogListener(pair[US].store, index).run())
    await until(lambda: index.busy)
    assert all(index.newer_in("bbb", key, MEMBERS) == [US] for key in ("k", "ключ", "a\nb"))
    await pair[US].ask("DELETE", "aaa", query="replication")
    await until(lambda: not index.busy)
    await pair[US].ask("PUT", "aaa", "k", b"2")
    await asyncio.sleep(0.05)
    assert not index.busy
    task.cancel()


async def test_of_a_long_log_every_key_may_be_behind(
    pair: Any, keys: PendingKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "KEYS_MAX", 4)
    monkeypatch.setattr(feed, "BEAT_S", 0.05)
    for at in range(9):
        await pair[US].ask("PUT", "aaa", f"k{at}", b"1")
    await until(lambda: keys.newer_in("bbb", "any", MEMBERS) == [US])
    pair.copy()
    await until(lambda: not keys.busy)
    await pair.stop_copying()
    await pair[US].ask("PUT", "aaa", "later", b"1")
    await until(lambda: keys.newer_in("bbb", "later", MEMBERS) == [US])
    assert keys.newer_in("bbb", "any", MEMBERS) == []


async def test_while_a_log_cannot_be_heard_what_was_pending_is_pending_still(pair: Any, keys: PendingKeys) -> None:
    await pair[US].ask("PUT", "aaa", "k", b"1")
    await until(lambda: keys.busy)
    pair[US].embedded.feed.close()  # nobody is told any more
    await asyncio.sleep(0.2)
    assert keys.newer_in("bbb", "k", MEMBERS) == [US]


async def test_a_write_says_what_it_has_logged(pair: Any) -> None:
    answer = await pair[US].ask("PUT", "aaa", "k", b"1")
    assert answer.header("x-nearpoint-logged") == "1;bbb"
    upload = (await pair[US].ask("POST", "aaa", "parts", query="uploads")).body.decode()
    upload = upload.partition("<UploadId>")[2].partition("<")[0]
    part = await pair[US].ask("PUT", "aaa", "parts", b"x", query=f"partNumber=1&uploadId={upload}")
    assert part.header("x-nearpoint-logged") is None
    listed = f"<Part><PartNumber>1</PartNumber><ETag>{part.header('etag')}</ETag></Part>"
    done = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>"
    answer = await pair[US].ask("POST", "aaa", "parts", done.encode(), query=f"uploadId={upload}")
    assert answer.header("x-nearpoint-logged") == "2;bbb"
    answer = await pair[US].ask("DELETE", "aaa", "k")
    assert answer.header("x-nearpoint-logged") == "3;bbb"
    assert (await pair[US].ask("GET", "aaa", "parts")).header("x-nearpoint-logged") is None


def note(key: str, sequence: int) -> Note:
    return Note(name_of("aaa"), name_of("bbb"), name_of(key), sequence)


def test_a_write_is_known_until_its_log_has_told_of_it() -> None:
    keys = PendingKeys((US, EU))
    assert keys.note(US, note("k", 7))
    assert keys.busy
    assert keys.newer_in("bbb", "k", MEMBERS) == [US]
    assert keys.newer_in("aaa", "k", MEMBERS) == keys.newer_in("bbb", "other", MEMBERS) == []
    keys.hear(US, [b'["at",6]'])
    assert keys.newer_in("bbb", "k", MEMBERS) == [US]
    keys.hear(US, [b'["+",7,"aaa","bbb","k"]', b'["at",7]'])
    assert keys.newer_in("bbb", "k", MEMBERS) == [US]
    keys.hear(US, [b'["-",7,"aaa","bbb","k"]'])
    assert keys.newer_in("bbb", "k", MEMBERS) == []
    assert not keys.note(US, note("k", 7)), "the log has told of it, and that it has arrived"
    assert not keys.busy
    assert not keys.note("elsewhere", note("k", 8))


def test_notes_are_bounded() -> None:
    keys = PendingKeys((US,))
    for at in range(NOTES_MAX + 5):
        keys.note(US, note(f"k{at}", at + 1))
    assert keys.newer_in("bbb", "k0", MEMBERS) == []
    assert keys.newer_in("bbb", f"k{NOTES_MAX + 4}", MEMBERS) == [US]


@pytest.mark.parametrize("line", [b"{}", b"[1]", b'["+",1]', b'["+","1","a","b","k"]', b"nonsense", b'["at",null]'])
def test_what_is_no_event_of_a_log_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        PendingKeys((US,)).hear(US, [line])


@given(st.lists(st.tuples(st.sampled_from("+-"), st.integers(0, 30), st.booleans()), max_size=80))
def test_what_is_told_is_what_is_pending_whatever_comes_twice(steps: list[tuple[str, int, bool]]) -> None:
    """Any bound, any order: told in full, the index is the log; beyond the bound it says more, never less."""
    follower = feed.Follower()
    keys = PendingKeys((US,))
    keys.begin(US)
    log: dict[int, str] = {}
    sequence = 0
    bound, feed.KEYS_MAX = feed.KEYS_MAX, 6
    try:
        for sign, number, again in steps:
            key = f"k{number % 8}"
            if sign == "+":
                sequence += 1
                entry = Entry(sequence, "aaa", "bbb", key.encode())
                log[sequence] = key
                follower.added(entry, feed._told("+", entry))
                follower.say(orjson.dumps(["at", sequence]) + b"\n")
            elif log:
                gone = sorted(log)[number % len(log)]
                entry = Entry(gone, "aaa", "bbb", log.pop(gone).encode())
                follower.struck(entry, feed._told("-", entry))
            if again and follower.untold and len(log) < 3:
                rows = [Entry(at, "aaa", "bbb", name.encode()) for at, name in sorted(log.items())]
                follower.list(("aaa", "bbb"), rows)
            lines = follower.taken().splitlines()
            keys.hear(US, lines + lines[-1:])
            assert follower.count <= feed.KEYS_MAX
            for name in {f"k{at}" for at in range(8)}:
                told = keys.newer_in("bbb", name, MEMBERS) == [US]
                assert told or name not in log.values()
                assert not told or name in log.values() or follower.untold
    finally:
        feed.KEYS_MAX = bound


async def test_a_follower_that_cannot_keep_up_is_let_go(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "WAITING_BYTES_MAX", 500)
    log = pair[US].embedded.feed
    stream = log.follow()
    assert await anext(stream) == b'["at",0]\n'
    for at in range(1, 20):
        log.publish(LogChange(added=[Entry(at, "aaa", "bbb", b"k" * 50)]))
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


def test_what_a_pending_key_costs() -> None:
    keys = PendingKeys((US,))
    keys.begin(US)
    gc.collect()
    tracemalloc.start()
    count = feed.KEYS_MAX
    keys.hear(US, (orjson.dumps(["+", at, "aaa", "bbb", f"{at:01000}"]) for at in range(count)))
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size / count < 300
