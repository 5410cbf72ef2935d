"""Messages that two readers might read differently: the server refuses each, closes, and runs no handler for it."""

from __future__ import annotations

from typing import Any

import pytest

from nearpoint.wire.message import Request, Response, read_all

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n"
POST = b"POST / HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


async def swallow(request: Request) -> Response:
    await read_all(request.body, 2**20)
    return Response(200, None, b"handled " + request.target.encode())


HEADS = {
    "both lengths": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both lengths, turned": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": POST + b"Content-Length: +3\r\n\r\nabc",
    "a negative length": POST + b"Content-Length: -3\r\n\r\nabc",
    "a hexadecimal length": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "an empty length": POST + b"Content-Length:\r\n\r\nabc",
    "a huge length": POST + b"Content-Length: 99999999999999999999999999\r\n\r\nabc",
    "a length with a vertical tab": POST + b"Content-Length: \x0b3\r\n\r\nabc",
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, gzip": POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, then identity": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "quoted chunked": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "chunked after a vertical tab": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "an empty coding": POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": GET + b"A: b\r\n c\r\n\r\n",
    "a folded length": POST + b"Content-Length:\r\n 3\r\n\r\nabc",
    "a folded first line": b"GET / HTTP/1.1\r\n Host: h\r\n\r\n",
    "LF after the request line": b"GET / HTTP/1.1\nHost: h\r\n\r\n",
    "LF after a field": GET + b"A: b\n\r\n",
    "LF for the empty line": GET + b"\n",
    "CR in a value": GET + b"A: b\rContent-Length: 3\r\n\r\n",
    "CR before the end of a line": GET + b"A: b\r\r\n\r\n",
    "CR after the request line": b"GET / HTTP/1.1\rHost: h\r\n\r\n",
    "a space before the colon": GET + b"Content-Length : 3\r\n\r\nabc",
    "a tab before the colon": GET + b"Content-Length\t: 3\r\n\r\nabc",
    "a space in a name": GET + b"A B: c\r\n\r\n",
    "no name": GET + b": c\r\n\r\n",
    "no colon": GET + b"abc\r\n\r\n",
    "NUL in a value": GET + b"A: b\0c\r\n\r\n",
    "a control byte in a value": GET + b"A: b\x01c\r\n\r\n",
    "DEL in a value": GET + b"A: b\x7fc\r\n\r\n",
    "a control byte in a name": GET + b"A\x01: b\r\n\r\n",
    "a name beyond ASCII": GET + b"A\xff: b\r\n\r\n",
    "two hosts": GET + b"Host: other\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "a host with a path": b"GET / HTTP/1.1\r\nHost: h/x\r\n\r\n",
    "a host with a user": b"GET / HTTP/1.1\r\nHost: u@h\r\n\r\n",
    "an unknown method": b"SMUGGLE / HTTP/1.1\r\nHost: h\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: h\r\n\r\n",
    "a tab after the method": b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "CONNECT": b"CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n",
    "a target without a slash": b"GET x HTTP/1.1\r\nHost: h\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
    "a control byte in the target": b"GET /a\x01 HTTP/1.1\r\nHost: h\r\n\r\n",
    "NUL in the target": b"GET /a\0 HTTP/1.1\r\nHost: h\r\n\r\n",
    "a target beyond ASCII": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
    "* for GET": b"GET * HTTP/1.1\r\nHost: h\r\n\r\n",
    "another scheme": b"GET ftp://h/ HTTP/1.1\r\nHost: h\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: h\r\n\r\n",
    "no HTTP": b"GET / HTP/1.1\r\nHost: h\r\n\r\n",
    "http in lower case": b"GET / http/1.1\r\nHost: h\r\n\r\n",
    "HTTP/2 by prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an upgrade with a body": POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 3\r\n\r\nabc",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("label", HEADS)
async def test_refused_heads(world: Any, label: str) -> None:
    data = await world.ask(await world.serve(swallow), HEADS[label] + SMUGGLED)
    assert data.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nConnection: close\r\n" in data
    assert b"handled" not in data
    assert data.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("version", [b"0.9", b"2.0"])
async def test_other_versions(world: Any, version: bytes) -> None:
    data = await world.ask(await world.serve(swallow), b"GET / HTTP/" + version + b"\r\nHost: h\r\n\r\n")
    assert data.startswith(b"HTTP/1.1 505 ")


BODIES = {
    "LF after a size": b"3\nabc\r\n0\r\n\r\n",
    "LF after the data": b"3\r\nabc\n0\r\n\r\n",
    "CR after the data": b"3\r\nabc\r0\r\n\r\n",
    "more data than the size": b"3\r\nabcd\r\n0\r\n\r\n",
    "a space after the size": b"3 \r\nabc\r\n0\r\n\r\n",
    "a space before the size": b" 3\r\nabc\r\n0\r\n\r\n",
    "a hexadecimal prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "a signed size": b"+3\r\nabc\r\n0\r\n\r\n",
    "a negative size": b"-1\r\nabc\r\n0\r\n\r\n",
    "no size": b"\r\nabc\r\n0\r\n\r\n",
    "a huge size": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "LF in an extension": b"3;a\nabc\r\n0\r\n\r\n",
    "CR in an extension": b"3;a\rb\r\nabc\r\n0\r\n\r\n",
    "a control byte in an extension": b"3;a\x01\r\nabc\r\n0\r\n\r\n",
    "a line break in a quoted extension": b'3;a="\r\nabc\r\n0\r\n\r\n',
    "a length in a trailer": b"0\r\nContent-Length: 5\r\n\r\n",
    "a coding in a trailer": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "LF at the end": b"0\r\n\n",
}


@pytest.mark.parametrize("label", BODIES)
async def test_refused_chunks(world: Any, label: str) -> None:
    data = await world.ask(await world.serve(swallow), CHUNKED + BODIES[label] + SMUGGLED)
    assert data.startswith(b"HTTP/1.1 400 ")
    assert b"handled" not in data
    assert data.count(b"HTTP/1.1 ") == 1


async def test_a_flood_of_chunk_extensions(world: Any) -> None:
    port = await world.serve(swallow)
    talk = await world.dial(port)
    await talk.say(CHUNKED)
    for _ in range(64):
        await talk.say(b"1;" + b"x" * 4000 + b"\r\na\r\n")
    answer = await talk.answer()
    assert answer.status == 400


async def test_a_flood_of_trailers(world: Any) -> None:
    port = await world.serve(swallow)
    talk = await world.dial(port)
    await talk.say(CHUNKED + b"0\r\n")
    for number in range(64):
        await talk.say(b"X-%d: " % number + b"y" * 1000 + b"\r\n")
    answer = await talk.answer()
    assert answer.status == 400


async def test_many_tiny_chunks_are_no_flood(world: Any) -> None:
    talk = await world.dial(await world.serve(swallow))
    await talk.say(CHUNKED + b"1\r\na\r\n" * 50_000 + b"0\r\n\r\n")
    assert (await talk.answer()).status == 200


async def test_a_body_is_never_read_as_a_request(world: Any) -> None:
    talk = await world.dial(await world.serve(swallow))
    await talk.say(POST + b"Content-Length: %d\r\n\r\n" % len(SMUGGLED) + SMUGGLED)
    assert (await talk.answer()).body == b"handled /"
    await talk.say(GET + b"Connection: close\r\n\r\n")
    assert (await talk.answer()).body == b"handled /"
    assert await talk.closed()
