"""The log of a foreign store over a real JetStream: what is pending is known, though answers are lost on their way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from nearpoint.gateway.entries import Entry, Intent, UnloggedError
from nearpoint.gateway.log import JetStreamLog
from nearpoint.state import nats

PAIR = ("bbb", "aaa")


class Deaf:
    """A client to which answers get lost: those to subjects that begin as `lost` says."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.lost: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def request(self, subject: str, *given: Any, **more: Any) -> Any:
        answer = await self._client.request(subject, *given, **more)
        if subject.startswith(self.lost):
            raise TimeoutError
        return answer


@pytest.fixture
async def client(nats_server: Any) -> AsyncIterator[Deaf]:
    made = await nats.connect(nats_server.url, name="test")
    yield Deaf(made)
    await made.close()


@pytest.fixture
async def log(client: Any) -> AsyncIterator[JetStreamLog]:
    made = await started(client)
    sweeping = asyncio.create_task(made.sweep())
    yield made
    sweeping.cancel()


async def started(client: Any) -> JetStreamLog:
    made = JetStreamLog(client, "eu-west-1")
    await made.start()
    await made.count()
    return made


def entry(key: str) -> Entry:
    return Entry(bucket="bbb", destination="aaa", key=key, operation="put", written_us=1, size=10)


async def owe(log: JetStreamLog, *keys: str) -> None:
    intent = Intent(bucket="bbb", key="k", operation="put", time_us=1, written_us=1, destinations=("aaa",))
    await log.end(await log.begin(intent), [entry(key) for key in keys])


def tallied(log: JetStreamLog) -> tuple[int, int, int]:
    tally = log.tallies[PAIR]
    return tally.pending, tally.size, tally.failed


async def test_an_entry_that_was_written_twice_counts_twice_and_goes_twice(log: JetStreamLog, client: Deaf) -> None:
    client.lost = ("nearpoint-log.",)
    with suppress(UnloggedError):
        await owe(log, "k")
    client.lost = ()
    await owe(log, "k")  # as whoever ends an intent does
    rows = await log.due(PAIR, 0, 10)
    assert (len(rows), tallied(log)) == (2, (2, 20, 0))
    await log.settle([row.sequence for row in rows], ())
    assert tallied(log) == (0, 0, 0)
    await owe(log, "k")
    assert await log.standing("bbb", ["aaa"], "k") == "PENDING"


async def test_an_entry_that_went_without_an_answer_is_no_longer_pending(log: JetStreamLog, client: Deaf) -> None:
    await owe(log, "a", "b")
    rows = await log.due(PAIR, 0, 10)
    client.lost = ("$JS.API.STREAM.MSG.DELETE.",)
    with pytest.raises(UnloggedError):
        await log.settle([rows[0].sequence], ())
    client.lost = ()
    async with asyncio.timeout(10):
        while tallied(log) != (1, 10, 0):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    await log.settle([row.sequence for row in rows], ())
    assert tallied(log) == (0, 0, 0)


async def test_what_is_given_up_is_given_up_once(log: JetStreamLog, client: Deaf) -> None:
    await owe(log, "k")
    [row] = await log.due(PAIR, 0, 10)
    client.lost = ("nearpoint-log.",)
    with pytest.raises(UnloggedError):
        await log.settle((), [(row.sequence, "why")])
    client.lost = ()
    await log.settle((), [(row.sequence, "why")])
    assert [each.reason for each in await log.parked(10)] == ["why"]
    assert tallied(log) == (0, 0, 1)
    assert await log.retry({PAIR}) == 1
    assert tallied(log) == (1, 10, 0)


async def test_counting_at_the_start_goes_on_while_entries_go(log: JetStreamLog, client: Any) -> None:
    await owe(log, *(f"k{at}" for at in range(1200)))
    again = JetStreamLog(client, "eu-west-1")
    await again.start()
    counting = asyncio.create_task(again.count())
    rows = await again.due(PAIR, 0, 1000)
    await again.settle([row.sequence for row in rows], ())
    await owe(again, "more")
    await counting
    assert tallied(again) == (201, 2010, 0)
