"""Conversations over real sockets, with the h2 package as the client; and real clients over TLS."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
import pytest

from nearpoint.wire.client import Origin
from nearpoint.wire.http2 import Http2Connection
from nearpoint.wire.limits import Limits
from nearpoint.wire.message import Headers, Request, Response, StreamBody, read_all
from nearpoint.wire.server import Peer, RequestBodyError
from nearpoint.wire.tls import Authority, client_context

PATIENCE_S = 10


@dataclass
class Answer:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    informational: list[int] = field(default_factory=list)
    reset: int | None = None
    ended: bool = False


class Talk:
    """A client connection of the h2 package."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, scheme: str) -> None:
        config = h2.config.H2Configuration(
            header_encoding="latin-1", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.reader, self.writer, self.scheme = reader, writer, scheme
        self.answers: dict[int, Answer] = {}
        self.goaways: list[int] = []
        self.acknowledges = True  # give back the windows of what has come
        self.closed = False

    async def hello(self, **settings: int) -> None:
        self.h2.local_settings = h2.settings.Settings(client=True, initial_values=settings.get("values", {}))  # type: ignore[attr-defined]
        self.h2.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())
        await self.writer.drain()

    async def ask(self, path: str, *fields: tuple[str, str], method: str = "GET", end: bool = True) -> int:
        stream_id: int = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", self.scheme), (":authority", "h"), (":path", path), *fields]
        self.h2.send_headers(stream_id, head, end_stream=end)
        self.answers[stream_id] = Answer()
        await self.flush()
        return stream_id

    async def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send within the server's windows."""
        view = memoryview(data)
        while view:
            size = min(len(view), self.h2.local_flow_control_window(stream_id), self.h2.max_outbound_frame_size)
            if size <= 0:
                await self.hear()
                continue
            self.h2.send_data(stream_id, bytes(view[:size]))
            view = view[size:]
            await self.flush()
        if end:
            self.h2.end_stream(stream_id)
            await self.flush()

    async def hear(self) -> None:
        """Take in what the server says next."""
        async with asyncio.timeout(PATIENCE_S):
            data = await self.reader.read(65_536)
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            self._take(event)
        if not self.writer.is_closing():
            await self.flush()

    def _take(self, event: Any) -> None:
        answer = self.answers.get(getattr(event, "stream_id", 0), Answer())
        if isinstance(event, h2.events.InformationalResponseReceived):
            answer.informational.append(int(dict(event.headers)[":status"]))
        elif isinstance(event, h2.events.ResponseReceived):
            answer.headers = dict(event.headers)
            answer.status = int(answer.headers[":status"])
        elif isinstance(event, h2.events.DataReceived):
            answer.body += event.data
            if self.acknowledges and event.flow_controlled_length:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = event.error_code
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaways.append(event.error_code)

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition() and not self.closed:
            await self.hear()
        assert condition()

    async def answer(self, stream_id: int) -> Answer:
        answer = self.answers[stream_id]
        await self.until(lambda: answer.ended or answer.reset is not None)
        return answer

    async def get(self, path: str, *fields: tuple[str, str], method: str = "GET") -> Answer:
        return await self.answer(await self.ask(path, *fields, method=method))

    async def end(self) -> None:
        await self.until(lambda: self.closed)


Dial = Callable[..., Awaitable[Talk]]


@pytest.fixture
async def dial(world: Any) -> Dial:
    """Serve a handler without TLS and open a connection to it."""

    async def start(handler: Any, *, values: dict[int, int] | None = None, **settings: Any) -> Talk:
        await world.serve(handler, **settings)
        server = world.servers[-1]
        sock = socket.create_server(("127.0.0.1", 0))
        listener = await asyncio.get_running_loop().create_server(lambda: Http2Connection(server), sock=sock)
        world.raw.append(listener)
        dialogue = await world.dial(sock.getsockname()[1])
        talk = Talk(dialogue.reader, dialogue.writer, scheme="http")
        await talk.hello(values=values or {})  # type: ignore[arg-type]
        return talk

    return start


class Station:
    """A handler that does what the path says, and notes what happens to it."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.cancelled = asyncio.Event()
        self.running = asyncio.Event()
        self.gate = asyncio.Event()
        self.errors: list[Exception] = []
        self.produced = 0
        self.stopped = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        self.running.set()
        match request.path:
            case "/echo":
                return Response(200, None, await read_all(request.body, 2**30))
            case "/fields":
                fields = "\n".join(f"{name}: {value}" for name, value in request.headers)
                return Response(200, None, fields.encode("latin-1"))
            case "/hang":
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
            case "/gate":
                await self.gate.wait()
            case "/raise":
                raise ValueError("secret")
            case "/short":
                return Response(200, None, StreamBody(self.chunks(1, 10), 20))
            case "/stream":
                return Response(200, None, StreamBody(self.chunks(64, 32_768)))
            case "/read":
                try:
                    return Response(200, None, str(len(await read_all(request.body, 2**30))).encode())
                except RequestBodyError as error:
                    self.errors.append(error)
                    raise
            case "/empty":
                return Response(204)
            case "/bad-header":
                return Response(200, Headers([("x", "a\r\nb: c")]))
        return Response(200, Headers([("Content-Type", "text/plain"), ("Connection", "close")]), b"plain")

    async def chunks(self, count: int, size: int) -> AsyncIterator[bytes]:
        try:
            for _ in range(count):
                self.produced += 1
                yield b"x" * size
        finally:
            self.stopped.set()


@pytest.fixture
async def station() -> Station:
    return Station()


async def test_answers_in_any_order(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    first = await talk.ask("/gate")
    second = await talk.get("/")
    assert (second.status, second.body) == (200, b"plain")
    assert second.headers["content-length"] == "5"
    assert "connection" not in second.headers
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT", second.headers["date"])
    assert not talk.answers[first].ended
    station.gate.set()
    assert (await talk.answer(first)).body == b"plain"


async def test_the_request_as_the_handler_sees_it(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    answer = await talk.get("/fields?q=%20", ("cookie", "a=1"), ("x-a", "v"), ("cookie", "b=2"))
    assert answer.body.decode("latin-1").split("\n") == ["host: h", "cookie: a=1; b=2", "x-a: v"]
    (request,) = station.requests
    assert (request.method, request.target, request.scheme) == ("GET", "/fields?q=%20", "http")
    assert (request.client_ip, request.host, request.body.length) == ("127.0.0.1", "h", 0)


@pytest.mark.parametrize(
    ("path", "method", "status", "body", "length"),
    [
        ("/", "HEAD", 200, b"", "5"),
        ("/empty", "GET", 204, b"", None),
        ("/raise", "GET", 500, b"500 Internal Server Error: internal error\n", "42"),
        ("/bad-header", "GET", 500, b"500 Internal Server Error: internal error\n", "42"),
        ("*", "OPTIONS", 200, b"plain", "5"),
        ("*", "GET", 400, b"400 Bad Request: the target * is for OPTIONS\n", "45"),
        ("/" + "a" * 20_000, "GET", 414, b"414 URI Too Long: the target is too long\n", "41"),
        ("/stream", "HEAD", 200, b"", None),
    ],
)
async def test_statuses(
    dial: Dial, station: Station, path: str, method: str, status: int, body: bytes, length: str | None
) -> None:
    talk = await dial(station)
    answer = await talk.get(path, method=method)
    assert (answer.status, answer.body, answer.headers.get("content-length")) == (status, body, length)
    assert (await talk.get("/")).status == 200


@pytest.mark.parametrize("size", [0, 1, 16_384, 16_385, 3_000_000])
async def test_bodies_both_ways(dial: Dial, station: Station, size: int) -> None:
    talk = await dial(station)
    data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    stream_id = await talk.ask("/echo", ("content-length", str(size)), method="PUT", end=False)
    await talk.send(stream_id, data, end=True)
    answer = await talk.answer(stream_id)
    assert answer.status == 200
    assert answer.body == data
    assert station.requests[0].body.length == size


async def test_a_body_of_unknown_length_with_padding_and_trailers(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    stream_id = await talk.ask("/echo", method="POST", end=False)
    talk.h2.send_data(stream_id, b"ab", pad_length=200)
    talk.h2.send_data(stream_id, b"cd", pad_length=0)
    talk.h2.send_headers(stream_id, [("x-checksum", "1")], end_stream=True)
    await talk.flush()
    assert (await talk.answer(stream_id)).body == b"abcd"
    assert station.requests[0].body.length is None


async def test_a_handler_that_does_not_read_holds_the_sender_back(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    stream_id = await talk.ask("/gate", method="POST", end=False)
    await talk.get("/")  # by now the server's SETTINGS have come
    window = talk.h2.local_flow_control_window(stream_id)
    assert window == 262_144
    await talk.send(stream_id, b"x" * window)
    await talk.get("/")
    assert talk.h2.local_flow_control_window(stream_id) == 0
    other = await talk.ask("/echo", method="POST", end=False)  # another stream is not held back
    await talk.send(other, b"y" * 600_000, end=True)
    assert len((await talk.answer(other)).body) == 600_000
    station.gate.set()
    answer = await talk.answer(stream_id)
    assert (answer.status, answer.body) == (200, b"plain")
    await talk.send(stream_id, b"z" * 600_000, end=True)  # what nobody wants is dropped, for a while
    await talk.get("/")
    assert answer.reset is None
    assert talk.h2.outbound_flow_control_window >= 1_048_576 - 524_288 - 262_144


async def test_continue_is_said_when_the_handler_reads(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    fields = [("expect", "100-continue"), ("content-length", "3")]
    stream_id = await talk.ask("/echo", *fields, method="PUT", end=False)
    answer = talk.answers[stream_id]
    await talk.until(lambda: answer.informational == [100])
    await talk.send(stream_id, b"abc", end=True)
    assert (await talk.answer(stream_id)).body == b"abc"
    refused = await talk.ask("/", *fields, method="PUT", end=False)  # a handler that does not read
    answer = await talk.answer(refused)
    assert (answer.informational, answer.body) == ([], b"plain")


async def test_a_slow_reader_holds_the_handler_back(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    talk.acknowledges = False
    stream_id = await talk.ask("/stream")
    await talk.until(lambda: len(talk.answers[stream_id].body) == 65_535)
    assert (await talk.get("/empty")).status == 204
    assert station.produced < 8
    talk.acknowledges = True
    talk.h2.acknowledge_received_data(65_535, stream_id)
    await talk.flush()
    assert len((await talk.answer(stream_id)).body) == 64 * 32_768
    assert station.stopped.is_set()


async def test_streams_share_a_connection(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    streams = [await talk.ask("/stream") for _ in range(8)]
    for stream_id in streams:
        assert len((await talk.answer(stream_id)).body) == 64 * 32_768


async def test_a_reset_cancels_the_handler(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    stream_id = await talk.ask("/hang")
    await station.running.wait()
    talk.h2.reset_stream(stream_id, 8)
    await talk.flush()
    async with asyncio.timeout(PATIENCE_S):
        await station.cancelled.wait()
    assert (await talk.get("/")).body == b"plain"


async def test_a_reset_stops_a_response(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    talk.acknowledges = False
    stream_id = await talk.ask("/stream")
    await talk.until(lambda: len(talk.answers[stream_id].body) == 65_535)
    talk.h2.reset_stream(stream_id, 8)
    await talk.flush()
    assert (await talk.get("/empty")).status == 204
    assert station.stopped.is_set()


async def test_a_client_that_goes_cancels_the_handler(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    await talk.ask("/hang")
    await station.running.wait()
    talk.writer.close()
    async with asyncio.timeout(PATIENCE_S):
        await station.cancelled.wait()


async def test_a_client_that_goes_in_the_middle_of_a_body(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    stream_id = await talk.ask("/read", method="PUT", end=False)
    await talk.send(stream_id, b"abc")
    await station.running.wait()
    talk.h2.reset_stream(stream_id, 8)
    await talk.flush()
    await talk.get("/")
    assert station.errors == []  # the handler was cancelled, not told that the body ended


async def test_a_response_that_breaks_off(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    stream_id = await talk.ask("/short")
    answer = talk.answers[stream_id]
    await talk.until(lambda: answer.reset is not None)
    assert (answer.reset, answer.ended) == (2, False)  # INTERNAL_ERROR
    assert (await talk.get("/")).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        [("Upper", "x")],
        [("connection", "close")],
        [("transfer-encoding", "chunked")],
        [("x", "a\r\nb: c")],
        [("x", " a")],
        [("host", "other")],
        [(":path", "/late")],
        [("content-length", "4")],
        [("te", "gzip")],
    ],
)
async def test_malformed_requests_are_reset(dial: Dial, station: Station, fields: list[tuple[str, str]]) -> None:
    talk = await dial(station)
    answer = await talk.get("/", *fields)
    assert (answer.reset, answer.status) == (1, 0)
    assert (await talk.get("/")).status == 200
    assert len(station.requests) == 1


async def test_a_body_that_is_too_large(dial: Dial, station: Station) -> None:
    talk = await dial(station, limits=Limits(body_bytes_max=100_000))
    declared = await talk.answer(await talk.ask("/read", ("content-length", "100001"), method="PUT", end=False))
    assert declared.status == 413
    assert station.requests == []
    stream_id = await talk.ask("/read", method="PUT", end=False)
    await talk.send(stream_id, b"x" * 100_001)
    assert (await talk.answer(stream_id)).status == 413


async def test_many_header_fields_in_continuations(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    fields = [(f"x-{number}", "v" * 1_000) for number in range(40)]
    answer = await talk.get("/fields", *fields)
    assert answer.status == 200
    assert answer.body.count(b"\n") == 40
    more = await talk.get("/fields", *[(f"y-{number}", "v" * 1_000) for number in range(70)])
    assert more.status == 431


async def test_dynamic_table_of_the_client(dial: Dial, station: Station) -> None:
    talk = await dial(station)
    for number in range(60):
        answer = await talk.get("/fields", ("x-same", "same"), (f"x-{number % 7}", "v" * number))
        assert answer.body.decode().split("\n")[1:] == ["x-same: same", f"x-{number % 7}: " + "v" * number]


async def test_a_client_with_a_small_table(dial: Dial, station: Station) -> None:
    talk = await dial(station, values={1: 0})
    assert (await talk.get("/")).status == 200
    talk.h2.update_settings({1: 100})
    await talk.flush()
    assert (await talk.get("/")).status == 200


# --- time


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        (b"", "header_timeout_s"),
        (b"PRI * HTTP/2.0\r\n", "header_timeout_s"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000"), "idle_timeout_s"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("0000000400000000000000050100"), "header_timeout_s"),
        (
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("00000004000000000000000101000000000182"),
            "header_timeout_s",
        ),
    ],
)
async def test_silence_ends_the_connection(dial: Dial, station: Station, said: bytes, limit: str) -> None:
    silent = await dial(station, limits=Limits(**{limit: 0.1}))
    reader, writer = await asyncio.open_connection(*silent.writer.get_extra_info("peername"))
    writer.write(said)
    async with asyncio.timeout(PATIENCE_S):
        while await reader.read(65_536):
            pass
    writer.close()


async def test_a_body_that_stops(dial: Dial, station: Station) -> None:
    talk = await dial(station, limits=Limits(body_timeout_s=0.1))
    stream_id = await talk.ask("/read", method="PUT", end=False)
    await talk.send(stream_id, b"abc")
    answer = await talk.answer(stream_id)
    assert answer.status == 408
    assert (await talk.get("/")).status == 200


async def test_a_window_that_stays_shut(dial: Dial, station: Station) -> None:
    talk = await dial(station, limits=Limits(write_timeout_s=0.1))
    talk.acknowledges = False
    answer = await talk.get("/stream")
    assert answer.reset == 8  # CANCEL
    assert station.stopped.is_set()


async def test_a_peer_that_reads_nothing(dial: Dial, station: Station) -> None:
    talk = await dial(station, limits=Limits(write_timeout_s=0.2), values={4: 2**30})
    talk.h2.increment_flow_control_window(2**30)
    for _ in range(20):
        await talk.ask("/stream")
    async with asyncio.timeout(PATIENCE_S):
        await station.stopped.wait()


async def raw_frames(talk: Talk) -> AsyncIterator[tuple[int, int, bytes]]:
    """(type, stream, payload) until the server closes: the h2 package gives up at the first GOAWAY."""
    async with asyncio.timeout(PATIENCE_S):
        while head := await talk.reader.read(9):
            head += await talk.reader.readexactly(9 - len(head))
            payload = await talk.reader.readexactly(int.from_bytes(head[:3], "big"))
            yield head[3], int.from_bytes(head[5:], "big"), payload
            if head[3] == 6 and not head[4] & 1:
                talk.writer.write(b"\0\0\x08\x06\x01\0\0\0\0" + payload)


async def test_drain(dial: Dial, station: Station, world: Any) -> None:
    talk = await dial(station)
    stream_id = await talk.ask("/gate")
    await station.running.wait()
    draining = asyncio.create_task(world.servers[-1].drain(PATIENCE_S))
    lasts, body = [], b""
    async for kind, stream, payload in raw_frames(talk):
        if kind == 7:
            lasts.append((int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")))
            if len(lasts) == 2:
                station.gate.set()
        elif kind == 0:
            assert stream == stream_id
            body += payload
    assert body == b"plain"
    assert lasts == [(2**31 - 1, 0), (1, 0), (1, 0)]
    talk.writer.close()
    await draining


async def test_drain_of_an_idle_connection(dial: Dial, station: Station, world: Any) -> None:
    talk = await dial(station)
    await talk.get("/")
    draining = asyncio.create_task(world.servers[-1].drain(PATIENCE_S))
    assert [kind async for kind, _, _ in raw_frames(talk) if kind == 7] == [7, 7, 7]
    talk.writer.close()
    await draining


async def test_drain_of_a_handler_that_hangs(dial: Dial, station: Station, world: Any) -> None:
    talk = await dial(station)
    await talk.ask("/hang")
    await station.running.wait()
    await world.servers[-1].drain(0)
    assert station.cancelled.is_set()


# --- real clients, over TLS


def hook(
    method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], peer: Peer
) -> bytes | tuple[bytes, ...] | None:
    assert peer.scheme == "https"
    if target == b"/hit":
        return b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhit"
    if target == b"/large":
        return (b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n", b"x" * 300_000)
    return None


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.load_or_create(tmp_path_factory.mktemp("authority"))


@pytest.fixture
async def port(world: Any, station: Station, authority: Authority) -> int:
    served: int = await world.serve(
        station, instant=hook, tls=authority.server_context(alpn=("h2", "http/1.1")), limits=Limits(streams_max=100)
    )
    return served


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(40):
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


@pytest.mark.parametrize(
    ("offered", "chosen"),
    [
        (["h2", "http/1.1"], "h2"),
        (["http/1.1"], "http/1.1"),
        (["http/1.1", "h2"], "h2"),
        (["spdy/3"], None),
        ([], None),
    ],
)
async def test_the_protocol_that_the_handshake_chose(
    world: Any, port: int, authority: Authority, offered: list[str], chosen: str | None
) -> None:
    context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    if offered:
        context.set_alpn_protocols(offered)
    dialogue = await world.dial(port, ssl=context, server_hostname="d1.cloudfront.net")
    assert dialogue.writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
    if chosen == "h2":
        talk = Talk(dialogue.reader, dialogue.writer, scheme="https")
        await talk.hello()
        assert (await talk.get("/hit")).body == b"hit"
        assert len((await talk.get("/large")).body) == 300_000
        assert (await talk.get("/")).body == b"plain"
    else:
        for path, body in (("/hit", b"hit"), ("/", b"plain")):
            await dialogue.say(f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            assert (await dialogue.answer()).body == body


async def test_our_own_client_on_the_same_port(world: Any, port: int, authority: Authority) -> None:
    client = world.client(tls=client_context(authority.certificate_pem))
    response = await client.send(Request("GET", "/"), Origin(host="127.0.0.1", port=port, tls=True))
    assert await read_all(response.body, 100) == b"plain"


async def test_end_of_connection_over_tls(world: Any, port: int, authority: Authority, station: Station) -> None:
    context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    context.set_alpn_protocols(["h2"])
    dialogue = await world.dial(port, ssl=context, server_hostname="localhost")
    talk = Talk(dialogue.reader, dialogue.writer, scheme="https")
    await talk.hello()
    await talk.ask("/hang")
    await station.running.wait()
    for _ in range(2_100):
        talk.h2.ping(b"12345678")
    await talk.flush()
    await talk.until(lambda: talk.goaways == [11])  # ENHANCE_YOUR_CALM
    async with asyncio.timeout(PATIENCE_S):
        await station.cancelled.wait()


needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed (apt-get install curl)")
needs_nghttp = pytest.mark.skipif(
    shutil.which("h2load") is None, reason="h2load is not installed (apt-get install nghttp2-client)"
)


@needs_curl
async def test_curl(port: int, authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(authority.certificate_pem)
    (tmp_path / "up").write_bytes(b"0123456789" * 100_000)
    base = f"https://localhost:{port}"
    curl = ["curl", "-s", "--cacert", str(tmp_path / "ca.pem"), "-w", " %{http_version} %{http_code} %{size_download}"]
    assert await run(*curl, "--http2", f"{base}/hit") == "hit 2 200 3"
    assert await run(*curl, "--http1.1", f"{base}/hit") == "hit 1.1 200 3"
    assert await run(*curl, "--http2", "-I", "-o", "/dev/null", f"{base}/") == " 2 200 0"
    assert (await run(*curl, "--http2", "-o", "/dev/null", f"{base}/stream")).endswith(" 2 200 2097152")
    uploaded = await run(*curl, "--http2", "-T", str(tmp_path / "up"), "-o", str(tmp_path / "down"), f"{base}/echo")
    assert uploaded.endswith(" 2 200 1000000")
    assert (tmp_path / "down").read_bytes() == (tmp_path / "up").read_bytes()
    # Within the first window: beyond it curl 7.88 waits for ever when the response ends before the request.
    (tmp_path / "up").write_bytes(b"0123456789" * 20_000)
    unread = await run(*curl, "--http2", "-T", str(tmp_path / "up"), f"{base}/unread")
    assert unread == "plain 2 200 5"


@needs_nghttp
@pytest.mark.parametrize("path", ["/hit", "/large", "/", "/stream"])
async def test_h2load(port: int, path: str) -> None:
    count = 40 if path == "/stream" else 2_000
    output = await run("h2load", "-n", str(count), "-c", "4", "-m", "16", f"https://localhost:{port}{path}")
    assert f"{count} succeeded, 0 failed, 0 errored, 0 timeout" in output
    assert "Application protocol: h2" in output


@needs_nghttp
async def test_nghttp_with_priorities_padding_and_a_small_window(port: int) -> None:
    urls = [f"https://localhost:{port}{path}" for path in ("/hit", "/large", "/stream", "/")]
    output = await run("nghttp", "-ns", "-b", "100", "-w", "10", "-W", "11", *urls)
    assert len(re.findall(r" 200 ", output)) == 4
