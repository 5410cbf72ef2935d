"""What the guard takes and refuses."""

from __future__ import annotations

import pytest

from nearpoint.wire.guard import Fault, Framing, frame_request, valid_host

HOST = (b"Host", b"example.org")


def framed(
    *headers: tuple[bytes, bytes], method: bytes = b"GET", target: bytes = b"/", version: str = "1.1"
) -> Framing | Fault:
    return frame_request(method, target, headers, version)


@pytest.mark.parametrize(
    ("headers", "length", "chunked"),
    [
        ((), None, False),
        (((b"Content-Length", b"0"),), 0, False),
        (((b"content-length", b"12 "),), 12, False),
        (((b"Transfer-Encoding", b"Chunked"),), None, True),
    ],
)
def test_bodies(headers: tuple[tuple[bytes, bytes], ...], length: int | None, chunked: bool) -> None:
    framing = framed(HOST, *headers, method=b"PUT")
    assert isinstance(framing, Framing)
    assert (framing.length, framing.chunked) == (length, chunked)
    assert framing.has_body == (chunked or bool(length))


@pytest.mark.parametrize(
    ("version", "connection", "keep_alive"),
    [
        ("1.1", None, True),
        ("1.1", b"close", False),
        ("1.1", b"Keep-Alive, CLOSE", False),
        ("1.1", b"closed", True),
        ("1.0", None, False),
        ("1.0", b"keep-alive", True),
        ("1.0", b"keep-alive, close", False),
    ],
)
def test_persistence(version: str, connection: bytes | None, keep_alive: bool) -> None:
    headers = [HOST] if connection is None else [HOST, (b"Connection", connection)]
    framing = framed(*headers, version=version)
    assert isinstance(framing, Framing)
    assert framing.keep_alive is keep_alive


@pytest.mark.parametrize(
    ("status", "headers", "method", "target", "version"),
    [
        (400, (), b"GET", b"/", "1.1"),
        (400, (HOST, HOST), b"GET", b"/", "1.1"),
        (400, (HOST, (b"hOsT", b"other")), b"GET", b"/", "1.1"),
        (400, ((b"Host", b"a/b"),), b"GET", b"/", "1.1"),
        (400, ((b"Host", b"a b"),), b"GET", b"/", "1.1"),
        (400, ((b"Host", b"user@a"),), b"GET", b"/", "1.1"),
        (400, ((b"Host", b"a,b"),), b"GET", b"/", "1.1"),
        (400, ((b"Host", b"a:port"),), b"GET", b"/", "1.1"),
        (400, ((b"Host", b"a" * 400),), b"GET", b"/", "1.1"),
        (400, (HOST,), b"CONNECT", b"example.org:443", "1.1"),
        (400, (HOST,), b"GET", b"/a#b", "1.1"),
        (400, (HOST,), b"GET", b"*", "1.1"),
        (400, (HOST,), b"GET", b"ftp://a/", "1.1"),
        (400, (HOST,), b"GET", b"http:///x", "1.1"),
        (400, (HOST,), b"GET", b"http://user@a/x", "1.1"),
        (505, (HOST,), b"GET", b"/", "2.0"),
        (505, (HOST,), b"GET", b"/", "0.9"),
        (400, (HOST, (b"Transfer-Encoding", b"gzip, chunked")), b"PUT", b"/", "1.1"),
        (400, (HOST, (b"Transfer-Encoding", b"identity")), b"PUT", b"/", "1.1"),
        (400, (HOST, (b"Transfer-Encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")), b"PUT", b"/", "1.1"),
        (400, (HOST, (b"Transfer-Encoding", b"chunked"), (b"Content-Length", b"3")), b"PUT", b"/", "1.1"),
        (400, (HOST, (b"Transfer-Encoding", b"chunked")), b"PUT", b"/", "1.0"),
        (400, (HOST, (b"Content-Length", b"3"), (b"Content-Length", b"4")), b"PUT", b"/", "1.1"),
        (400, (HOST, (b"Content-Length", b"+3")), b"PUT", b"/", "1.1"),
        (400, (HOST, (b"Content-Length", b"\xb2")), b"PUT", b"/", "1.1"),
        (417, (HOST, (b"Expect", b"200-ok"), (b"Content-Length", b"3")), b"PUT", b"/", "1.1"),
        (
            400,
            (HOST, (b"Upgrade", b"h2c"), (b"Connection", b"upgrade"), (b"Content-Length", b"3")),
            b"PUT",
            b"/",
            "1.1",
        ),
    ],
)
def test_refusals(
    status: int, headers: tuple[tuple[bytes, bytes], ...], method: bytes, target: bytes, version: str
) -> None:
    fault = framed(*headers, method=method, target=target, version=version)
    assert isinstance(fault, Fault)
    assert fault.status == status


@pytest.mark.parametrize(
    ("target", "authority", "path"),
    [
        (b"http://a.example/x?y", b"a.example", b"/x?y"),
        (b"HTTPS://a:8443/", b"a:8443", b"/"),
        (b"http://a", b"a", b"/"),
        (b"http://a?y=/", b"a", b"/?y=/"),
    ],
)
def test_absolute_form_becomes_origin_form(target: bytes, authority: bytes, path: bytes) -> None:
    framing = framed(HOST, target=target)
    assert isinstance(framing, Framing)
    assert (framing.authority, framing.target) == (authority, path)


def test_http10_needs_no_host() -> None:
    assert isinstance(framed(version="1.0"), Framing)


def test_options_of_everything() -> None:
    framing = framed(HOST, method=b"OPTIONS", target=b"*")
    assert isinstance(framing, Framing)
    assert framing.target == b"*"


def test_an_expectation_without_a_body_expects_nothing() -> None:
    framing = framed(HOST, (b"Expect", b"100-continue"))
    assert isinstance(framing, Framing)
    assert not framing.expects_continue


@pytest.mark.parametrize("value", [b"a", b"a.b:80", b"[::1]", b"[::1]:443", b"127.0.0.1:8080", b"", b"a_b.example"])
def test_good_hosts(value: bytes) -> None:
    assert valid_host(value)


@pytest.mark.parametrize("value", [b"[::1", b"::1", b"a:b:c", b"a?b", b"a#b", b"\xff", b"a\tb", b"[zz]", b"a\\b"])
def test_bad_hosts(value: bytes) -> None:
    assert not valid_host(value)
