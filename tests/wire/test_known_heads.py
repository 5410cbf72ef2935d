"""Heads that the hook has answered are not parsed again; nobody can tell the difference."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearpoint.wire.connection import Connection
from nearpoint.wire.message import Request, Response
from nearpoint.wire.server import Server

GET = b"GET /a HTTP/1.1\r\nHost: h\r\nX-One: 1\r\n\r\n"
OTHER = b"HEAD /b?c HTTP/1.1\r\nHost: h\r\nConnection: keep-alive\r\n\r\n"
PIECES = [
    GET,
    OTHER,
    GET + OTHER,
    GET[:2],
    GET[2:],
    GET[:20],
    GET[20:],
    b"\r\n",
    b"GET /x HTTP/1.1\r\nHost: h\r\n\n" + GET,
    b"GET /close HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
    b"GET /body HTTP/1.1\r\nHost: h\r\nContent-Length: 40\r\n\r\n",
    b"x" * 40,
]


class Transport:
    def __init__(self) -> None:
        self.closed = False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else None

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: 0


async def handler(request: Request) -> Response:
    raise AssertionError("nothing is run here")


def answered(pieces: list[bytes], *, remembers: bool) -> list[tuple[Any, ...]]:
    """What the hook is asked for by one connection after another that get the same pieces."""
    asked: list[tuple[Any, ...]] = []

    def instant(method: bytes, target: bytes, headers: Any, peer: Any) -> bytes:
        asked.append((method, target, tuple(headers)))
        return b"HTTP/1.1 204 No Content\r\n\r\n"

    class Loop:
        def create_task(self, work: Any) -> Any:
            work.close()
            asked.append(("task",))

    server = Server(handler, instant=instant)
    server.loop = Loop()  # type: ignore[assignment]
    if not remembers:
        server.known_heads = type("Forgetful", (dict,), {"__setitem__": lambda *_: None})()
    for _ in range(3):
        connection = Connection(server)
        connection.connection_made(Transport())  # type: ignore[arg-type]
        for piece in pieces:
            connection.data_received(piece)
        asked.append(("next connection",))
    return asked


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(st.lists(st.sampled_from(PIECES), max_size=6))
def test_remembering_heads_changes_nothing(pieces: list[bytes]) -> None:
    assert answered(pieces, remembers=True) == answered(pieces, remembers=False)


def test_a_head_is_remembered_once_the_hook_has_answered_it() -> None:
    asked: list[Any] = []

    def instant(method: bytes, target: bytes, headers: Any, peer: Any) -> bytes | None:
        asked.append(headers)
        return b"HTTP/1.1 204 No Content\r\n\r\n" if target == b"/a" else None

    server = Server(handler, instant=instant)
    connection = Connection(server)
    connection.connection_made(Transport())  # type: ignore[arg-type]
    for _ in range(3):
        connection.data_received(GET)
    assert asked[1] is asked[2]
    assert list(server.known_heads) == [GET]
