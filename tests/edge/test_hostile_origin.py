"""An origin that lies, breaks off, floods or stalls: the viewer is told, and nothing wrong or partial is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import structlog

from nearpoint.edge.config import standalone_distribution, with_origin_timeouts
from nearpoint.wire.client import UpstreamError

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GOOD = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 5\r\n\r\nright"


def says(data: bytes, *, then: str = "close") -> Script:
    """Answer each request with these bytes, then close, stay silent, or wait for the next."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(data)
            await writer.drain()
            if then == "silence":
                await asyncio.sleep(3600)
            if then == "close":
                return

    return script


class RawOrigin:
    """`scripts` are for one connection after the other; the last one is for all that follow."""

    def __init__(self) -> None:
        self.scripts: list[Script] = []
        self.connections = 0
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        try:
            await script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()


@pytest.fixture
async def raw(stage: Any) -> AsyncIterator[RawOrigin]:
    origin = RawOrigin()
    server = await asyncio.start_server(origin.serve, "127.0.0.1", 0)
    origin.port = server.sockets[0].getsockname()[1]
    await stage.open()
    distribution = standalone_distribution(host="127.0.0.1", port=origin.port, tls=False)
    impatient = with_origin_timeouts(distribution, connect_s=0.5, read_s=0.5, attempts=1)
    stage.edge.load((), default=impatient)
    yield origin
    origin.end()
    server.close()


def head(*lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", "Cache-Control: max-age=60", *lines, "", ""]).encode("latin-1")


async def outcome(stage: Any, **headers: str) -> Any:
    """What the viewer of /a gets: a reply, or None for an answer that broke off."""
    try:
        return await stage.get("/a", **headers)
    except (UpstreamError, ConnectionError):
        return None


NONSENSE = {
    "garbage": b"\x16\x03\x01\x02\x00garbage\r\n\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "no status": b"HTTP/1.1 \r\n\r\n",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
    "two lengths": head("Content-Length: 5", "Content-Length: 6") + b"wrong!",
    "a negative length": head("Content-Length: -5") + b"wrong",
    "length and chunks": head("Content-Length: 5", "Transfer-Encoding: chunked") + b"5\r\nwrong\r\n0\r\n\r\n",
    "an unknown coding": head("Transfer-Encoding: gzip, identity") + b"wrong",
    "a bare line break in a field": b"HTTP/1.1 200 OK\r\nX-A: b\nContent-Length: 5\r\n\r\nwrong",
    "NUL in a field": head("X-A: a\0b", "Content-Length: 5") + b"wrong",
    "a folded field": head("X-A: a", " b", "Content-Length: 5") + b"wrong",
    "a name with a space": head("X A: b", "Content-Length: 5") + b"wrong",
    "a bad chunk": head("Transfer-Encoding: chunked") + b"zz\r\nwrong\r\n0\r\n\r\n",
    "a huge field": head("X-A: " + "a" * 300_000, "Content-Length: 5") + b"wrong",
    "a thousand fields": head(*(f"X-{at}: b" for at in range(2_000)), "Content-Length: 5") + b"wrong",
    "a flood of 103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 10_000 + GOOD,
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "nothing": b"",
}


@pytest.mark.parametrize("data", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_is_a_502_or_a_broken_answer(stage: Any, raw: RawOrigin, data: bytes) -> None:
    raw.scripts = [says(data), says(GOOD, then="next")]
    reply = await outcome(stage)
    assert reply is None or (reply.status in (502, 504) and reply.cache == "Error" and b"wrong" not in reply.body)
    assert not stage.edge.cache._entries
    reply = await stage.get("/a")
    assert (reply.status, reply.body) == (200, b"right")


CUT = {
    "short of its length": head("Content-Length: 50") + b"short",
    "short of its length, large": head("Content-Length: 900000") + b"short" * 50_000,
    "short of its length, in parts": head("Content-Length: 3000000", 'ETag: "1"') + b"short" * 300_000,
    "without the last chunk": head("Transfer-Encoding: chunked") + b"5\r\nshort\r\n",
    "in the middle of a chunk": head("Transfer-Encoding: chunked") + b"50\r\nshort",
}


@pytest.mark.parametrize("then", ["close", "silence"])
@pytest.mark.parametrize("data", CUT.values(), ids=CUT.keys())
async def test_what_is_cut_short_is_never_whole(stage: Any, raw: RawOrigin, data: bytes, then: str) -> None:
    raw.scripts = [says(data, then=then), says(GOOD, then="next")]
    reply = await outcome(stage)
    assert reply is None or reply.status in (502, 504) or reply.body == b"right"  # asked for again, and whole
    reply = await stage.get("/a")
    assert (reply.status, reply.body) == (200, b"right")


async def test_more_than_its_length_is_not_taken_for_the_next_answer(stage: Any, raw: RawOrigin) -> None:
    poison = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 6\r\n\r\npoison"
    raw.scripts = [says(GOOD + poison, then="next"), says(GOOD, then="next")]
    assert (await stage.get("/a")).body == b"right"
    assert (await stage.get("/b")).body == b"right"
    assert raw.connections == 2


async def test_an_end_that_only_the_connection_tells_is_passed_on_and_not_kept(stage: Any, raw: RawOrigin) -> None:
    raw.scripts = [says(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n\r\nall there is")]
    for _ in range(2):
        assert (await stage.get("/a")).body == b"all there is"
    assert raw.connections == 2


async def test_chunks_without_number_cost_no_more_than_their_bytes(stage: Any, raw: RawOrigin) -> None:
    chunks = b"1;" + b"x" * 4_000 + b"\r\na\r\n"
    raw.scripts = [says(head("Transfer-Encoding: chunked") + chunks * 200 + b"0\r\n\r\n"), says(GOOD, then="next")]
    reply = await outcome(stage)
    assert reply is None or reply.status == 502
    assert (await stage.get("/a")).body == b"right"


async def test_a_304_that_nobody_asked_for_is_no_answer_for_others(stage: Any, raw: RawOrigin) -> None:
    raw.scripts = [says(head('ETag: "1"', status="304 Not Modified"), then="next")]
    await stage.get("/a")
    assert not stage.edge.cache._entries


@pytest.mark.parametrize(
    "field",
    ["bytes 5-9/10", "bytes 0-4/4", "bytes 0-9/10", "bytes */10", "nonsense", None],
)
async def test_a_range_that_is_not_what_was_asked_for(stage: Any, raw: RawOrigin, field: str | None) -> None:
    lines = ['ETag: "1"', "Content-Length: 5", *([f"Content-Range: {field}"] if field else [])]
    raw.scripts = [says(head(*lines, status="206 Partial Content") + b"wrong"), says(GOOD, then="next")]
    reply = await stage.get("/a", range="bytes=0-4")
    assert reply.status == 502
    assert not stage.edge.cache._entries


async def test_a_206_to_a_whole_request_is_passed_on_and_not_kept(stage: Any, raw: RawOrigin) -> None:
    lines = ('ETag: "1"', "Content-Length: 5", "Content-Range: bytes 0-4/10")
    raw.scripts = [says(head(*lines, status="206 Partial Content") + b"parts")]
    for _ in range(2):
        reply = await stage.get("/a")
        assert (reply.status, reply.body, reply.note.rpartition("=")[2]) == (206, b"parts", "partial")
    assert raw.connections == 2


async def test_a_slow_origin_is_given_up(stage: Any, raw: RawOrigin) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for at in range(100):
            writer.write(GOOD[at : at + 1])
            await asyncio.sleep(0.3)

    raw.scripts = [drip, says(GOOD, then="next")]
    assert (await stage.get("/a")).status == 504
    assert (await stage.get("/a")).body == b"right"


async def test_a_crowd_whose_leader_fails_is_told_at_once(stage: Any, raw: RawOrigin) -> None:
    gate = asyncio.Event()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await gate.wait()

    raw.scripts = [hang_up, says(GOOD, then="next")]
    distribution = standalone_distribution(host="127.0.0.1", port=raw.port, tls=False)
    stage.edge.load((), default=with_origin_timeouts(distribution, connect_s=5, read_s=30, attempts=1))
    with structlog.testing.capture_logs() as logs:
        crowd = [asyncio.create_task(stage.get("/a")) for _ in range(200)]
        await stage.until(lambda: raw.connections)
        await asyncio.sleep(0.3)  # for the others to come
        gate.set()
        replies = await asyncio.gather(*crowd)
    failed = [reply for reply in replies if reply.status == 502]
    assert len(failed) >= 100
    assert {reply.body for reply in replies if reply.status != 502} <= {b"right"}
    assert raw.connections <= 2
    assert len([line for line in logs if line["event"] == "no answer from the origin"]) == 1
    assert (await stage.get("/a")).body == b"right"


async def test_an_answer_that_is_not_complete_in_time_is_given_up(stage: Any, raw: RawOrigin) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head("Content-Length: 1000000", "Cache-Control: max-age=60"))
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    raw.scripts = [endless, says(GOOD)]
    config = stage.config(DefaultTTL=60)
    config["Origins"][0]["ResponseCompletionTimeout"] = 1
    config["Origins"][0]["CustomOriginConfig"]["HTTPPort"] = raw.port
    await stage.open(stage.distribution(config))
    with pytest.raises(UpstreamError):
        await stage.get("/a")
    assert (await stage.get("/a")).body == b"right"


# --- what an origin says is not to be used against other viewers


@pytest.mark.parametrize("suffix", ["/x.css", "/..%2fx.css", ";x.css", "%00.css", "%0ax.css", "?x.css", "/.css"])
async def test_a_private_page_is_not_kept_for_its_address(stage: Any, answer: Any, suffix: str) -> None:
    stage.answer = lambda request: answer(
        f"account of {request.headers.get('cookie')}".encode(), Cache_Control="private", Content_Type="text/html"
    )
    await stage.open()
    assert (await stage.get(f"/account{suffix}", cookie="victim")).body == b"account of victim"
    assert (await stage.get(f"/account{suffix}", cookie="thief")).body == b"account of thief"


POISON = ["X-Forwarded-Host", "X-Host", "Forwarded", "X-Original-URL", "X-Rewrite-URL", "X-HTTP-Method-Override",
          "X-Forwarded-Scheme", "X-Forwarded-Port", "X-Forwarded-Prefix"]  # fmt: skip


@pytest.mark.parametrize("name", POISON)
@pytest.mark.parametrize("standalone", [True, False])
async def test_a_field_outside_the_key_changes_nothing_that_is_kept(
    stage: Any, answer: Any, name: str, standalone: bool
) -> None:
    stage.answer = lambda request: answer(f"link to {request.headers.get(name)}".encode(), Cache_Control="max-age=60")
    await stage.open(*([] if standalone else [stage.distribution(ForwardedValues={"QueryString": True})]))
    await stage.get("/a", **{name.replace("-", "_"): "evil.example"})
    assert (await stage.get("/a")).body == b"link to None"
