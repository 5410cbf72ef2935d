"""Bodies that can be sent again: in memory, in a file, and no longer."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.regions.payload import Payload, PayloadSpentError
from nearpoint.regions.replay import Replay, SpoolSpace
from nearpoint.wire.message import StreamBody


def _space(directory: Path | None = None) -> SpoolSpace:
    return SpoolSpace(directory=directory, space_bytes_max=200, file_bytes_max=100, memory_bytes_max=20)


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=12))
def test_what_fits_comes_back_and_the_rest_costs_nothing(pieces: list[bytes]) -> None:
    space = _space()
    replay = Replay(space)
    for piece in pieces:
        replay.add(piece)
    if replay.whole:
        assert b"".join(replay) == b"".join(pieces)
        assert b"".join(replay) == b"".join(pieces)
    else:
        assert len(b"".join(pieces)) > 100
        assert space.left_bytes == 200
    replay.close()
    assert space.left_bytes == 200


def test_all_bodies_share_one_bound(tmp_path: Path) -> None:
    space = _space(tmp_path)
    kept = [Replay(space) for _ in range(3)]
    for replay in kept:
        for _ in range(8):
            replay.add(b"x" * 11)
    assert [replay.whole for replay in kept] == [True, True, False]
    assert list(tmp_path.iterdir()) == []  # the files have no names
    kept.pop(0).close()
    another = Replay(space)
    for _ in range(8):
        another.add(b"x" * 11)
    assert another.whole


def test_a_disk_that_cannot_be_written_only_ends_the_keeping(tmp_path: Path) -> None:
    replay = Replay(_space(tmp_path / "missing"))
    replay.add(b"x" * 50)
    assert not replay.whole


async def _slowly(data: bytes, gate: asyncio.Event | None = None) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 10):
        if gate is not None and at == 30:
            await gate.wait()
        yield data[at : at + 10]


def _payload(data: bytes, gate: asyncio.Event | None = None, *, digest: str | None = None) -> Payload:
    body = StreamBody(_slowly(data, gate), len(data))
    return Payload(body, length=len(data), headers=[], digest=digest)


@pytest.mark.parametrize("digest", [True, False])
async def test_a_body_that_was_cut_off_in_the_middle_is_sent_whole_again(digest: bool) -> None:
    data = bytes(range(90))
    gate = asyncio.Event()
    payload = _payload(data, gate, digest=hashlib.sha256(data).hexdigest() if digest else None)
    payload.record(_space())
    seen = asyncio.Event()

    async def first() -> None:
        async for _ in payload.open():
            seen.set()

    task = asyncio.create_task(first())
    await seen.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    gate.set()
    assert payload.sendable
    assert b"".join([piece async for piece in payload.open()]) == data
    assert b"".join([piece async for piece in payload.open()]) == data


async def test_a_body_too_long_to_keep_goes_once() -> None:
    payload = _payload(b"x" * 500)
    payload.record(_space())
    assert len(b"".join([piece async for piece in payload.open()])) == 500
    assert not payload.sendable
    with pytest.raises(PayloadSpentError):
        payload.open()
