"""Header lists: what is a request, what is malformed, what is refused; and responses as header blocks."""

from __future__ import annotations

import hpack
import pytest

from nearpoint.wire.framing import MalformedHeadError
from nearpoint.wire.http2_fields import MalformedError, check_trailers, encode_response, read_request
from nearpoint.wire.http2_translate import translate
from nearpoint.wire.limits import Limits
from nearpoint.wire.message import BytesBody, Peer

Fields = list[tuple[bytes, bytes]]
GET: Fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"h.example"), (b":path", b"/p?q")]
NO_HOST: Fields = [GET[0], GET[1], GET[3]]
LIMITS = Limits(request_line_bytes_max=100, headers_bytes_max=1_000, header_count_max=20, body_bytes_max=50)


def get(**pseudo: bytes | None) -> Fields:
    given = [(name, pseudo.get(name[1:].decode(), value)) for name, value in GET]
    return [(name, value) for name, value in given if value is not None]


def test_a_request() -> None:
    head = read_request(
        [
            *GET,
            (b"accept", b"*/*"),
            (b"cookie", b"a=1"),
            (b"x-a", b"\xe9 \t b"),
            (b"cookie", b"b=2"),
            (b"te", b"trailers"),
        ],
        "https",
        LIMITS,
    )
    assert head.fault is None
    assert (head.method, head.target, head.length, head.expects_continue) == (b"GET", b"/p?q", None, False)
    assert head.fields == [
        (b"host", b"h.example"),
        (b"accept", b"*/*"),
        (b"cookie", b"a=1; b=2"),
        (b"x-a", b"\xe9 \t b"),
        (b"te", b"trailers"),
    ]
    peer = Peer("10.0.0.1", "https")
    request = head.request(BytesBody(), peer)
    assert (request.host, request.headers.get("X-A"), request.client_ip) == ("h.example", "\xe9 \t b", "10.0.0.1")
    request.headers.set("accept", "changed")
    assert head.request(BytesBody(), peer).headers.get("accept") == "*/*"


@pytest.mark.parametrize(
    ("fields", "host"),
    [
        ([*GET, (b"host", b"h.example")], b"h.example"),
        ([*GET, (b"host", b"H.Example")], b"H.Example"),
        ([*NO_HOST, (b"host", b"other")], b"other"),
        (get(authority=b"[::1]:8443"), b"[::1]:8443"),
    ],
)
def test_the_host(fields: Fields, host: bytes) -> None:
    head = read_request(fields, "https", LIMITS)
    assert head.fault is None
    assert [value for name, value in head.fields if name == b"host"] == [host]


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"accept", b"*/*")],
        get(method=None),
        get(scheme=None),
        get(path=None),
        get(path=b""),
        get(method=b""),
        get(method=b"G T"),
        [*GET, (b":path", b"/other")],
        [*GET, (b":method", b"GET")],
        [*GET, (b":status", b"200")],
        [*GET, (b":protocol", b"websocket")],
        [*NO_HOST, (b":unknown", b"x")],
        [*NO_HOST, (b"accept", b"*/*"), GET[2]],
        [*GET, (b":", b"")],
        [*GET, (b"", b"x")],
        [*GET, (b"Accept", b"*/*")],
        [*GET, (b"x y", b"")],
        [*GET, (b"x:y", b"")],
        [*GET, (b"x\r\ny", b"")],
        [*GET, (b"x\xe9", b"")],
        [*GET, (b"x", b"a\r\nb: c")],
        [*GET, (b"x", b"a\nb")],
        [*GET, (b"x", b"a\0b")],
        [*GET, (b"x", b"a\x7fb")],
        [*GET, (b"x", b" a")],
        [*GET, (b"x", b"a ")],
        [*GET, (b"x", b"\ta")],
        get(path=b"/a\r\nHost: evil"),
        get(authority=b"h\r\nx: y"),
        [*GET, (b"connection", b"close")],
        [*GET, (b"keep-alive", b"1")],
        [*GET, (b"proxy-connection", b"close")],
        [*GET, (b"transfer-encoding", b"chunked")],
        [*GET, (b"upgrade", b"h2c")],
        [*GET, (b"te", b"gzip")],
        [*GET, (b"te", b"trailers, gzip")],
        [*GET, (b"content-length", b"")],
        [*GET, (b"content-length", b"+5")],
        [*GET, (b"content-length", b"-5")],
        [*GET, (b"content-length", b"5, 5")],
        [*GET, (b"content-length", b"9" * 30)],
        [*GET, (b"content-length", b"5"), (b"content-length", b"5")],
        [*GET, (b"host", b"other")],
        [*GET, (b"host", b"h.example"), (b"host", b"other")],
        [*NO_HOST, (b"host", b"a"), (b"host", b"b")],
    ],
)
def test_malformed(fields: Fields) -> None:
    with pytest.raises(MalformedError):
        read_request(fields, "https", LIMITS)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (get(method=b"CONNECT", scheme=None, path=None), 400),
        (NO_HOST, 400),
        (get(authority=b""), 400),
        (get(authority=b"user@h"), 400),
        (get(authority=b"a/b"), 400),
        ([*NO_HOST, (b"host", b"a b")], 400),
        (get(path=b"*"), 400),
        (get(path=b"p"), 400),
        (get(path=b"http://h/p"), 400),
        (get(path=b"/p#f"), 400),
        (get(path=b"/p q"), 400),
        (get(path=b"/\xe9"), 400),
        (get(scheme=b"http"), 421),
        (get(scheme=b"ftp"), 421),
        ([*GET, (b"expect", b"miracles")], 417),
        (get(path=b"/" + b"a" * 100), 414),
        ([*GET, (b"x", b"a" * 1_000)], 431),
        ([*GET, *[(b"x", b"a")] * 20], 431),
        ([*GET, (b"content-length", b"51")], 413),
    ],
)
def test_refused(fields: Fields, status: int) -> None:
    fault = read_request(fields, "https", LIMITS).fault
    assert fault is not None
    assert fault.status == status


def test_asterisk_and_expectation() -> None:
    assert read_request(get(method=b"OPTIONS", path=b"*"), "https", LIMITS).fault is None
    head = read_request([*GET, (b"expect", b"100-Continue"), (b"content-length", b"50")], "https", LIMITS)
    assert (head.expects_continue, head.length, head.fault) == (True, 50, None)


@pytest.mark.parametrize(
    "fields",
    [
        [(b":path", b"/")],
        [(b"X", b"")],
        [(b"x", b"\n")],
        [(b"content-length", b"1")],
        [(b"transfer-encoding", b"chunked")],
    ],
)
def test_trailers_that_are_none(fields: Fields) -> None:
    check_trailers([(b"x-checksum", b"1")])
    with pytest.raises(MalformedError):
        check_trailers(fields)


def read(block: bytes) -> Fields:
    return [(name, value) for name, value in hpack.Decoder().decode(block, raw=True)]


def test_a_response() -> None:
    headers = [
        ("Content-Type", "text/plain"),
        ("Connection", "close"),
        ("Transfer-Encoding", "chunked"),
        ("X-\x41", "\xe9"),
    ]
    assert read(encode_response(204, headers, "", "now")) == [
        (b":status", b"204"),
        (b"content-type", b"text/plain"),
        (b"x-a", b"\xe9"),
        (b"date", b"now"),
    ]
    assert read(encode_response(299, [("Date", "then"), ("content-length", "9")], "5", "now")) == [
        (b":status", b"299"),
        (b"date", b"then"),
        (b"content-length", b"5"),
    ]


@pytest.mark.parametrize(
    ("status", "name", "value"),
    [
        (199, "x", ""),
        (600, "x", ""),
        (200, "x y", ""),
        (200, ":path", ""),
        (200, "x", "a\nb"),
        (200, "x", "\r"),
        (200, "x", "\0"),
        (200, "x", "€"),
    ],
)
def test_a_response_that_can_not_be_written(status: int, name: str, value: str) -> None:
    with pytest.raises(MalformedHeadError):
        encode_response(status, [(name, value)], "", "now")


REPLY = (
    b"HTTP/1.1 200 OK\r\nContent-Type:  text/plain \r\nConnection: keep-alive\r\nContent-Length: 6\r\nX-Id: 17\r\n\r\n"
    b"ab\r\n\r\n"
)


@pytest.mark.parametrize("first", [*range(len(REPLY) + 1)])
def test_a_prebuilt_reply_however_it_is_cut(first: int) -> None:
    whole = [(b":status", b"200"), (b"content-type", b"text/plain"), (b"content-length", b"6"), (b"x-id", b"17")]
    for _ in range(2):
        for reply in (
            REPLY,
            (REPLY,),
            (REPLY[:first], REPLY[first:]),
            (REPLY[:first], b"", *[REPLY[first:][:3], REPLY[first:][3:]]),
        ):
            block, body = translate(reply)
            assert read(block) == whole
            assert body == b"ab\r\n\r\n"


def test_prebuilt_replies_that_never_repeat() -> None:
    for number in range(20_000):
        block, body = translate(b"HTTP/1.1 304 Not Modified\r\nX-Id: %d\r\nETag: %d\r\n\r\n" % (number, number % 7))
        assert body == b""
        if number % 1_000 == 0:
            assert read(block) == [(b":status", b"304"), (b"x-id", b"%d" % number), (b"etag", b"%d" % (number % 7))]


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n",
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\nb\r\n\r\n",
    ],
)
def test_prebuilt_replies_that_are_none(reply: bytes | tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError):
        translate(reply)
