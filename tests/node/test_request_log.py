"""A line for each request: when it is written, what is in it, and what never is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import orjson
import pytest

from nearpoint.node.request_log import CLIENT_GONE, LINES_MAX, RequestLog
from nearpoint.wire.message import Headers, Request, Response, StreamBody, read_all

AT = datetime(2026, 11, 23, 5, 0, 0, 250_000, tzinfo=UTC)
AUTHORIZATION = "AWS4-HMAC-SHA256 Credential=AKID/20261123/r/s3/aws4_request, SignedHeaders=host, Signature=secret"


def _request(target: str = "/b/k", **headers: str) -> Request:
    fields = [("Host", "h:1"), *((name.replace("_", "-"), value) for name, value in headers.items())]
    return Request("GET", target, Headers(fields), client_ip="192.0.2.1")


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _log(response: Response | Exception, *, terminal: bool = False) -> tuple[RequestLog, list[bytes]]:
    async def handle(request: Request) -> Response:
        if isinstance(response, Exception):
            raise response
        return response

    written: list[bytes] = []
    ticks = iter(range(1_000_000))
    log = RequestLog(handle, written.append, terminal=terminal, time_s=AT.timestamp, clock_s=lambda: next(ticks) / 1000)
    return log, written


async def test_a_line_for_an_answer_in_memory() -> None:
    headers = Headers([("x-nearpoint-region", "eu"), ("x-amz-request-id", "R1")])
    log, written = _log(Response(200, headers, b"12345"))
    await log.handle(_request(authorization=AUTHORIZATION))
    log.flush()
    assert orjson.loads(written[0]) == {
        "at": "2026-11-23T05:00:00.250Z",
        "client": "192.0.2.1",
        "access_key_id": "AKID",
        "method": "GET",
        "host": "h:1",
        "path": "/b/k",
        "query": "",
        "status": 200,
        "bytes": 5,
        "ms": 1.0,
        "region": "eu",
        "request_id": "R1",
        "complete": True,
    }


async def test_a_stream_is_logged_when_it_has_gone_out() -> None:
    log, written = _log(Response(200, body=StreamBody(_pieces(b"abc", b"de"), 5)))
    response = await log.handle(_request())
    log.flush()
    assert written == []
    assert response.body.length == 5
    assert await read_all(response.body, 100) == b"abcde"
    await response.body.close()
    log.flush()
    (line,) = (orjson.loads(each) for each in written)
    assert (line["bytes"], line["complete"]) == (5, True)


async def test_a_stream_that_is_cut() -> None:
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    log, written = _log(Response(200, body=StreamBody(_pieces(b"abc", b"de"), 5, close)))
    response = await log.handle(_request())
    async for _ in response.body:
        break
    await response.body.close()
    log.flush()
    line = orjson.loads(written[0])
    assert (line["bytes"], line["complete"], closed) == (3, False, [True])


async def test_a_client_that_has_gone() -> None:
    log, written = _log(ConnectionResetError())
    with pytest.raises(ConnectionResetError):
        await log.handle(_request())
    log.flush()
    assert orjson.loads(written[0])["status"] == CLIENT_GONE


async def test_no_signature_is_written() -> None:
    log, written = _log(Response(200))
    query = "X-Amz-Credential=AKID%2F20261123%2Fr&X-Amz-Signature=secret&X-Amz-Security-Token=secret&versionId=1"
    old = "AWSAccessKeyId=AKID&%53ignature=secret&Expires=1"
    await log.handle(_request(f"/b/k?{query}"))
    await log.handle(_request(f"/b/k?{old}"))
    await log.handle(_request(authorization=AUTHORIZATION))
    log.flush()
    assert b"secret" not in written[0]
    line = orjson.loads(written[0].splitlines()[0])
    assert (line["query"], line["access_key_id"]) == ("versionId=1", "AKID")


async def test_a_terminal_is_not_driven() -> None:
    log, written = _log(Response(404), terminal=True)
    await log.handle(_request("/b/\x1b[2J\x9b"))
    log.flush()
    assert written[0].decode().startswith("05:00:00.250 404 GET    /b/?[2J?  0 B  1.0 ms")
    assert written[0].count(b"\n") == 1


async def test_lines_wait_but_not_for_ever() -> None:
    log, written = _log(Response(200))
    for _ in range(LINES_MAX):
        await log.handle(_request())
    assert len(written) == 1
    assert written[0].count(b"\n") == LINES_MAX
    log.flush()
    assert len(written) == 1


async def test_a_full_disk_costs_no_answer() -> None:
    async def handle(request: Request) -> Response:
        return Response(200)

    def write(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    log = RequestLog(handle, write)
    assert (await log.handle(_request())).status == 200
    log.flush()
