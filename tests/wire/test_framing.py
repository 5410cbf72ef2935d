"""Heads as they are written, and what is refused to be written."""

from __future__ import annotations

import pytest

from nearpoint.wire.framing import MalformedHeadError, chunk, request_head, response_head

DATE = "Mon, 23 Nov 2026 04:32:00 GMT"


def head(status: int, headers: list[tuple[str, str]], framing: str = "", **settings: bool) -> tuple[bytes, bool]:
    return response_head(
        status,
        headers,
        framing,
        keep_alive=settings.get("keep_alive", True),
        http10=settings.get("http10", False),
        date=DATE,
    )


def test_response_head() -> None:
    data, keep_alive = head(200, [("X-A", "1"), ("x-a", "2")], "Content-Length: 3")
    assert data == f"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nDate: {DATE}\r\nContent-Length: 3\r\n\r\n".encode()
    assert keep_alive


def test_response_head_keeps_its_own_date_and_unknown_status() -> None:
    data, _ = head(599, [("date", "then")])
    assert data == b"HTTP/1.1 599 \r\ndate: then\r\n\r\n"


def test_hop_by_hop_fields_stay_behind() -> None:
    data, keep_alive = head(
        200, [("Transfer-Encoding", "chunked"), ("Keep-Alive", "x"), ("content-length", "9"), ("Connection", "x")]
    )
    assert data == f"HTTP/1.1 200 OK\r\nDate: {DATE}\r\n\r\n".encode()
    assert keep_alive


def test_a_handler_may_close() -> None:
    data, keep_alive = head(200, [("Connection", "Close")])
    assert not keep_alive
    assert b"Connection: close\r\n" in data


def test_http10_is_told_that_it_is_kept() -> None:
    assert b"\r\nConnection: keep-alive\r\n" in head(200, [], http10=True)[0]


@pytest.mark.parametrize(
    "headers",
    [
        [("X", "a\r\nSet-Cookie: b")],
        [("X", "a\nb")],
        [("X", "a\rb")],
        [("X", "a\0b")],
        [("X\r\nY", "a")],
        [("X Y", "a")],
        [("X:", "a")],
        [("", "a")],
        [("X", "\u20ac")],
    ],
)
def test_what_would_split_a_message_is_refused(headers: list[tuple[str, str]]) -> None:
    with pytest.raises(MalformedHeadError):
        head(200, headers)
    with pytest.raises(MalformedHeadError):
        request_head("GET", "/", headers, "", authority="a")


@pytest.mark.parametrize("status", [99, 100, 101, 199, 600, 1000])
def test_no_such_final_status(status: int) -> None:
    with pytest.raises(MalformedHeadError):
        head(status, [])


def test_request_head() -> None:
    data = request_head(
        "PUT", "/a?b", [("Host", "h"), ("Connection", "x"), ("A", "b")], "Content-Length: 1", authority="o"
    )
    assert data == b"PUT /a?b HTTP/1.1\r\nHost: h\r\nA: b\r\nContent-Length: 1\r\n\r\n"


def test_request_head_names_the_origin_where_no_host_is_given() -> None:
    assert request_head("GET", "/", [], "", authority="o:1") == b"GET / HTTP/1.1\r\nHost: o:1\r\n\r\n"


def test_a_declared_empty_body_stays_declared() -> None:
    data = request_head("GET", "/", [("Host", "h"), ("content-length", "0")], "", authority="o")
    assert data == b"GET / HTTP/1.1\r\nHost: h\r\ncontent-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("method", "target", "hosts"),
    [
        ("GET /", "/", 1),
        ("GET\r\n", "/", 1),
        ("", "/", 1),
        ("GET", "/a b", 1),
        ("GET", "/a\r\nb", 1),
        ("GET", "", 1),
        ("GET", "/\xe9", 1),
        ("GET", "/", 2),
    ],
)
def test_bad_requests_are_not_written(method: str, target: str, hosts: int) -> None:
    with pytest.raises(MalformedHeadError):
        request_head(method, target, [("Host", "h")] * hosts, "", authority="o")


def test_chunk() -> None:
    assert b"".join(chunk(b"x" * 17)) == b"11\r\n" + b"x" * 17 + b"\r\n"
