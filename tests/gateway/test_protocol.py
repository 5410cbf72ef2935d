"""The protocol of intents under a clock and a store that are played: killed at every step, and in every order.

Every step on disk (the store, the log, the marks) is a place to crash, before it and after it. After a crash a new
gateway takes up what is left. Then what the store has must be what the log says the others are owed.
`NEARPOINT_SCHEDULES=2000 pytest …/test_protocol.py` plays more of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs

import pytest

from nearpoint.bucket.document import Inlet, Manifest, frame
from nearpoint.gateway.abilities import Abilities, Ability
from nearpoint.gateway.entries import Entry, Intent, Standing
from nearpoint.gateway.origin import Origin
from nearpoint.gateway.stamps import FIELD, Known, Mark, Note
from nearpoint.gateway.taking import Taking
from nearpoint.gateway.writes import Writes
from nearpoint.regions.rules import Rule
from nearpoint.regions.version import Stamp
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.message import BytesBody, Headers, Response

BUCKET, KEY, HERE, THERE = "bbb", "k", "eu-west-1", "us-east-1"
SCHEDULES = int(os.environ.get("NEARPOINT_SCHEDULES", "80"))
RULE = Rule(
    id="r", priority=1, destination="aaa", prefix="", tags=(), delete_markers=True, replica_modifications=True
)  # fmt: skip


class Crash(BaseException):
    """The process is gone."""


class Scene:
    """What outlives a process, and when the process dies. `pace` is awaited at every step."""

    def __init__(self) -> None:
        self.steps = 0
        self.crash_at: int | None = None
        self.dead = False
        self.clock_us = 1_700_000_000_000_000
        self.pace: Callable[[], Awaitable[None]] | None = None
        self.store = PlayedStore(self)
        self.log = PlayedLog(self)
        self.marks = PlayedMarks(self)

    async def step(self) -> None:
        if self.pace is not None:
            await self.pace()
        if self.dead:
            raise Crash
        self.steps += 1
        self.clock_us += 1_000_000
        if self.steps == self.crash_at:
            self.dead = True
            raise Crash

    def now_us(self) -> int:
        return self.clock_us


class Layered:
    """A version in the played store."""

    def __init__(self, id: str, content: bytes | None, headers: dict[str, str], etag: str, at_us: int) -> None:
        self.id = id
        self.content = content
        self.headers = headers
        self.etag = etag
        self.at_us = at_us
        self.tags: list[tuple[str, str]] = []


class PlayedStore:
    """A versioned S3 store of one key. `honest`: it heeds conditions."""

    region = HERE

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._count = 0
        self.layers: list[Layered] = []  # the newest last
        self.honest = True

    @property
    def top(self) -> Layered | None:
        return self.layers[-1] if self.layers and self.layers[-1].content is not None else None

    def put(self, content: bytes | None, headers: dict[str, str], etag: str | None = None) -> Layered:
        self._count += 1
        etag = etag or hashlib.md5(content or b"").hexdigest()
        made = Layered(f"v{self._count}", content, headers, etag, self._scene.clock_us)
        self.layers.append(made)
        return made

    async def send(
        self, method: str, bucket: str, key: str | None = None, *, query: str = "", headers: Headers | None = None,
        body: Any = b"",
    ) -> Response:  # fmt: skip
        await self._scene.step()
        answer = self._answer(method, parse_qs(query, keep_blank_values=True), headers or Headers(), body)
        if method != "HEAD":
            await self._scene.step()
        return answer

    def _answer(self, method: str, query: dict[str, list[str]], headers: Headers, body: Any) -> Response:
        if "versions" in query:
            return self._versions()
        if "tagging" in query:
            return self._tagging(method, body)
        wanted = query.get("versionId", [""])[0]
        found = next((each for each in self.layers if each.id == wanted), None) if wanted else self.top
        if method == "HEAD":
            if found is None or found.content is None:
                return Response(404)
            date = formatdate(found.at_us / 1e6, usegmt=True)
            fields = [*found.headers.items(), ("ETag", f'"{found.etag}"'), ("Last-Modified", date)]
            return Response(200, Headers(fields))
        if method == "DELETE" and wanted:
            self.layers = [each for each in self.layers if each.id != wanted]
            return Response(204)
        if self.honest and self._fails(headers):
            return Response(412, body=b"<Error><Code>PreconditionFailed</Code></Error>")
        if method == "DELETE":
            return Response(204, Headers([("x-amz-version-id", self.put(None, {}).id)]))
        kept = {name: value for name, value in headers if name.lower().startswith("x-amz-meta-")}
        made = self.put(body.data if isinstance(body, BytesBody) else body, kept)
        return Response(200, Headers([("ETag", f'"{made.etag}"'), ("x-amz-version-id", made.id)]))

    def _fails(self, headers: Headers) -> bool:
        there = None if self.top is None else f'"{self.top.etag}"'
        return ("If-None-Match" in headers and there is not None) or (headers.get("If-Match") or there) != there

    def _versions(self) -> Response:
        items = "".join(
            f"<{'Version' if each.content is not None else 'DeleteMarker'}><Key>{KEY}</Key><VersionId>{each.id}"
            f"</VersionId><IsLatest>{'true' if each is self.layers[-1] else 'false'}</IsLatest>"
            f"</{'Version' if each.content is not None else 'DeleteMarker'}>"
            for each in reversed(self.layers)
        )
        return Response(200, body=f"<ListVersionsResult>{items}</ListVersionsResult>".encode())

    def _tagging(self, method: str, body: Any) -> Response:
        if self.top is None:
            return Response(404, body=b"<Error><Code>NoSuchKey</Code></Error>")
        if method == "PUT":
            self.top.tags = [("t", body.decode())]
            return Response(200)
        tags = "".join(f"<Tag><Key>{name}</Key><Value>{value}</Value></Tag>" for name, value in self.top.tags)
        return Response(200, body=f"<Tagging><TagSet>{tags}</TagSet></Tagging>".encode())


class PlayedLog:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._last = 0
        self.intents: dict[int, Intent] = {}
        self.entries: list[Entry] = []

    async def begin(self, intent: Intent) -> int:
        await self._scene.step()
        self._last += 1
        number = self._last
        self.intents[number] = intent
        await self._scene.step()
        return number

    async def end(self, number: int, entries: list[Entry]) -> None:
        for entry in entries:
            await self._scene.step()
            self.entries.append(entry)
        await self._scene.step()
        del self.intents[number]
        await self._scene.step()

    async def open(self) -> list[tuple[int, Intent]]:
        return list(self.intents.items())

    async def standing(self, bucket: str, destinations: list[str], key: str) -> Standing:
        return "PENDING" if self.entries else ""


class PlayedMarks:
    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.mark: Mark | None = None

    async def get(self, bucket: str, key: str) -> Mark | None:
        await self._scene.step()
        return self.mark

    async def put(self, bucket: str, key: str, mark: Mark) -> None:
        await self._scene.step()
        self.mark = mark
        await self._scene.step()


class PlayedRules:
    def rules(self, bucket: str) -> tuple[Rule, ...]:
        return (RULE,)


class Process:
    """A gateway's writing and taking in, until it is killed."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.tasks: list[asyncio.Future[None]] = []
        store: Any = scene.store
        origin = Origin(store, scene.marks, now_us=scene.now_us)
        rules: Any = PlayedRules()
        self.origin = origin
        self.writes = Writes(origin, scene.log, rules, sleep=self._sleep, spawn=self._spawn)
        able = Ability(
            missing={}, conditional_create=scene.store.honest, conditional_replace=scene.store.honest,
            conditional_delete=scene.store.honest,
        )  # fmt: skip

        async def find_out(bucket: str) -> Ability:
            return able

        self.taking = Taking(origin, self.writes, Abilities(find_out))

    async def _sleep(self, _: float) -> None:
        await asyncio.sleep(0)

    def _spawn(self, work: Awaitable[None]) -> None:
        self.tasks.append(asyncio.ensure_future(self._survive(work)))

    async def _survive(self, work: Awaitable[None]) -> None:
        with suppress(Crash):
            await work

    async def idle(self) -> None:
        while self.tasks:
            await self.tasks.pop()

    async def put(self, content: bytes) -> int:
        """The stamp's time."""
        return await self._write(
            "put",
            lambda time_us: self._sent("PUT", note=Note(role="logged", time_us=time_us, region=HERE), body=content),
        )

    async def delete(self) -> int:
        return await self._write("marker", lambda _: self._sent("DELETE"))

    async def tag(self, value: str) -> int:
        return await self._write(
            "amend", lambda _: self._sent("PUT", query="tagging", body=value.encode()), tags=[("t", value)]
        )

    async def complete(self, content: bytes) -> int:
        note = Note(role="upload", time_us=self.scene.now_us(), region=HERE)  # as the upload began

        async def send(_: int) -> Response:
            await self.scene.step()
            etag = hashlib.md5(content).hexdigest() + "-2"
            made = self.scene.store.put(content, {FIELD: note.pack(KEY)}, etag)
            await self.scene.step()
            return Response(200, Headers([("ETag", f'"{etag}"'), ("x-amz-version-id", made.id)]))

        return await self._write("put", send, completes=True)

    async def _sent(self, method: str, *, note: Note | None = None, query: str = "", body: bytes = b"") -> Response:
        headers = Headers() if note is None else Headers([(FIELD, note.pack(KEY))])
        return await self.scene.store.send(method, BUCKET, KEY, query=query, headers=headers, body=body)

    async def _write(self, operation: Any, send: Any, **more: Any) -> int:
        times: list[int] = []

        async def sent(time_us: int) -> Response:
            times.append(time_us)
            answer: Response = await send(time_us)
            return answer

        answer = await self.writes.write(BUCKET, KEY, operation, sent, **more)
        assert answer.status < 300, answer.status
        return times[0]

    async def deliver(self, stamp: Stamp, content: bytes | None) -> str:
        """What became of a version of another region; no content: a delete marker."""
        manifest = Manifest(
            key=KEY, version=f"V{stamp.time_us}", content=content is not None, time_us=stamp.time_us,
            origin=stamp.region, marker=content is None, size=len(content or b""), etag=stamp.etag,
        )  # fmt: skip
        [outcome] = await self.taking.take(BUCKET, Inlet(BytesBody(frame(manifest) + (content or b""))))
        return str(outcome["outcome"])

    async def known(self) -> Known:
        return (await self.origin.look(BUCKET, KEY)).known


OPERATIONS: dict[str, Callable[[Process], Awaitable[int]]] = {
    "put": lambda process: process.put(b"new"),
    "delete": lambda process: process.delete(),
    "upload": lambda process: process.complete(b"new"),
    "tag": lambda process: process.tag("new"),
}


@pytest.mark.parametrize("before", ["nothing", "an object", "a delete"])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_killed_at_every_step_there_is_no_write_or_one_that_is_owed(operation: str, before: str) -> None:
    if operation == "tag" and before != "an object":
        return
    acknowledged = steps = 0
    for crash_at in range(1, 200):
        scene = Scene()
        process = Process(scene)
        if before != "nothing":
            await process.put(b"old")
        if before == "a delete":
            await process.delete()
        await process.idle()
        scene.log.entries.clear()
        known_before, layers_before = await process.known(), list(scene.store.layers)
        tags_before = list(scene.store.top.tags) if scene.store.top else []
        scene.steps, scene.crash_at = 0, crash_at
        time_us = None
        with suppress(Crash):
            time_us = await OPERATIONS[operation](process)
        await process.idle()
        scene.dead, scene.crash_at = False, None
        again = Process(scene)
        await again.writes.recover()
        await again.idle()
        assert not scene.log.intents
        known = await again.known()
        changed = scene.store.layers != layers_before or (scene.store.top and scene.store.top.tags != tags_before)
        if changed:
            assert [entry.key for entry in scene.log.entries], f"a write that nobody is told of, at step {crash_at}"
            assert (known.stamp, known.amended) > (known_before.stamp or Stamp(0, "", ""), known_before.amended)
            assert known.is_deleted == (operation == "delete")
            assert not known.adopted
        if time_us is not None:
            acknowledged += 1
            assert changed
            assert known.stamp is not None
            assert time_us in (known.stamp.time_us, known.amended[0])
            assert scene.log.entries
        if crash_at > scene.steps and time_us is not None:
            steps = crash_at
            break
    assert steps > 5
    assert acknowledged > 0


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_a_client_that_goes_away_leaves_nothing_open(operation: str) -> None:
    landed = 0
    for patience in range(70):
        scene = Scene()
        process = Process(scene)
        await process.put(b"old")
        await process.idle()
        scene.log.entries.clear()
        layers, tags = list(scene.store.layers), list(scene.store.layers[-1].tags)
        scene.pace = lambda: asyncio.sleep(0)
        task = asyncio.ensure_future(OPERATIONS[operation](process))
        for _ in range(patience):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        await process.idle()
        assert not process.writes._ending, f"a write that is never ended, after {patience} steps"
        again = Process(scene)  # what was cut off before it had a number is found by the next process
        await again.writes.recover()
        await again.idle()
        assert not scene.log.intents
        if scene.store.layers != layers or layers[-1].tags != tags:
            landed += 1
            assert scene.log.entries, f"a write that nobody is told of, after {patience} steps"
            assert not process.writes.flights._flights
    assert landed > 3


async def test_a_write_whose_look_up_fails_is_not_made_and_leaves_nothing_open() -> None:
    """The intent is on its way by then, or there."""
    for patience in range(4):
        scene = Scene()
        process = Process(scene)
        asked: list[str] = []

        async def fail(
            method: str, *args: Any, asked: list[str] = asked, patience: int = patience, **given: Any
        ) -> Response:
            asked.append(method)
            for _ in range(patience):
                await asyncio.sleep(0)
            raise UpstreamError("timeout", "no answer")

        scene.store.send = fail  # type: ignore[method-assign]
        scene.pace = lambda: asyncio.sleep(0)
        with pytest.raises(UpstreamError):
            await process.put(b"new")
        await process.idle()
        assert (asked, scene.log.intents, scene.log.entries, process.writes._ending) == (["HEAD"], {}, [], {})


async def settled(pace: random.Random, works: Sequence[Awaitable[Any]], scene: Scene) -> list[Any]:
    async def wait() -> None:
        for _ in range(pace.randrange(4)):
            await asyncio.sleep(0)

    scene.pace = wait
    found = await asyncio.gather(*works)
    scene.pace = None
    return list(found)


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("seed", range(SCHEDULES))
async def test_in_whatever_order_things_happen_the_newest_stays(seed: int, honest: bool) -> None:
    """Clients through the gateway, and versions from elsewhere, older and newer."""
    chance = random.Random(seed)
    scene = Scene()
    scene.store.honest = honest
    process = Process(scene)
    stamps: list[Stamp] = []

    async def local(number: int) -> None:
        roll = chance.random()
        content = f"local {number}".encode()
        if roll < 0.5:
            stamps.append(Stamp(await process.put(content), HERE, hashlib.md5(content).hexdigest()))
        elif roll < 0.8:
            stamps.append(Stamp(await process.delete(), HERE, ""))
        else:
            etag = hashlib.md5(content).hexdigest() + "-2"
            stamps.append(Stamp(await process.complete(content), HERE, etag))

    async def arrival(number: int) -> None:
        content = None if chance.random() < 0.3 else f"theirs {number}".encode()
        etag = "" if content is None else hashlib.md5(content).hexdigest()
        stamp = Stamp(scene.clock_us + chance.randrange(-20, 40) * 1_000_000, THERE, etag)
        for _ in range(10):
            if await process.deliver(stamp, content) != "refused":
                stamps.append(stamp)
                return
        raise AssertionError("refused again and again")

    seen: list[Stamp] = []  # by the other region, which copies what the log says

    async def copied() -> None:
        scene.log.entries.pop()
        known = await process.known()
        seen.extend([] if known.stamp is None else [known.stamp])

    async def copier() -> None:
        for _ in range(chance.randrange(100)):
            await asyncio.sleep(0)
            if scene.log.entries:
                await copied()

    works = [chance.choice((local, arrival))(number) for number in range(chance.randrange(2, 7))]
    await settled(chance, [*works, copier()], scene)
    await process.idle()
    found = await process.known()
    assert found.stamp == max(stamps)
    assert not scene.log.intents
    while scene.log.entries:
        await copied()
    theirs = [stamp for stamp in stamps if stamp.region == THERE]
    assert max(seen + theirs) == found.stamp, "the other region was not told"


@pytest.mark.parametrize("honest", [True, False])
@pytest.mark.parametrize("seed", range(SCHEDULES))
async def test_older_never_overwrites_what_is_written_behind_our_back(seed: int, honest: bool) -> None:
    chance = random.Random(seed)
    scene = Scene()
    scene.store.honest = honest
    process = Process(scene)
    stamps: list[Stamp] = []

    async def behind(number: int) -> None:
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        made = scene.store.put(f"behind {number}".encode(), {})
        stamps.append(Stamp(made.at_us // 1_000_000 * 1_000_000, HERE, made.etag))

    async def arrival(number: int) -> None:
        content = f"theirs {number}".encode()
        for _ in range(chance.randrange(30)):
            await asyncio.sleep(0)
        stamp = Stamp(scene.clock_us - chance.randrange(9) * 1_000_000, THERE, hashlib.md5(content).hexdigest())
        while await process.deliver(stamp, content) == "refused":
            pass
        stamps.append(stamp)

    works = [arrival(number) for number in range(3)] + [behind(3)]
    await settled(chance, works, scene)
    await process.idle()
    assert (await process.known()).stamp == max(stamps)
