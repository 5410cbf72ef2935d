"""Writes the heads of HTTP/1.1 messages and frames their bodies (RFC 9112).

Refuses what would split a message: a name that is no token, a value with CR, LF or NUL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

# Set by whoever frames a message, never copied from one connection to the next (RFC 9110 §7.6.1).
HOP_BY_HOP = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    }
)
LAST_CHUNK = b"0\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS"})
_TARGET = re.compile(r"[!-~]+")
_REASONS = {status.value: status.phrase for status in HTTPStatus} | {
    # RFC 9110 §15.5 has renamed them; Python has since 3.13. The same bytes whichever runs this.
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}
_STATUS_LINES = {status: f"HTTP/1.1 {status} {phrase}" for status, phrase in _REASONS.items()}

# What a field is to whoever writes a head. Names seen are remembered; bounded so that a peer can't grow it.
_PASS, _DROP, _DATE, _CONNECTION, _HOST, _LENGTH = range(6)
_SPECIAL = {"connection": _CONNECTION, "date": _DATE, "host": _HOST, "content-length": _LENGTH}
_NAMES_MAX = 4096
_kinds: dict[str, int] = {}


class MalformedHeadError(ValueError):
    """A head that can't be written: a bad name, value, method, target or status."""


def reason_phrase(status: int) -> str:
    """The phrase of a status; empty for one that has none."""
    return _REASONS.get(status, "")


def _kind(name: str) -> int:
    """What the field is. Raises MalformedHeadError if the name is no token."""
    if _TOKEN.fullmatch(name) is None:
        raise MalformedHeadError(f"header name {name!r}")
    lowered = name.lower()
    kind = _SPECIAL.get(lowered, _DROP if lowered in HOP_BY_HOP else _PASS)
    if len(_kinds) < _NAMES_MAX and len(name) < 128:
        _kinds[name] = kind
    return kind


def _assemble(lines: list[str]) -> bytes:
    text = "\r\n".join(lines)  # the last one is the line break that makes the empty line
    breaks = len(lines)
    if text.count("\n") != breaks or text.count("\r") != breaks or "\0" in text:
        raise MalformedHeadError("a line break or NUL in a header")
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError as error:
        raise MalformedHeadError("a header that is not latin-1") from error


def response_head(
    status: int, headers: Iterable[tuple[str, str]], framing: str, *, keep_alive: bool, http10: bool, date: str
) -> tuple[bytes, bool]:
    """Status line and header block with the empty line that ends it, and whether the connection stays open.

    Hop-by-hop fields of `headers` are left out, except that `Connection: close` closes; `framing` is the line that
    frames the body, or empty; `date` is added when there is none (RFC 9110 §6.6.1).
    Raises MalformedHeadError.
    """
    line = _STATUS_LINES.get(status)
    if line is None:
        line = f"HTTP/1.1 {status} "
    if not 200 <= status <= 599:
        raise MalformedHeadError(f"status {status}")
    lines = [line]
    kinds = _kinds
    dated = False
    for name, value in headers:
        kind = kinds.get(name)
        if kind is None:
            kind = _kind(name)
        if kind == _PASS:
            lines.append(f"{name}: {value}")
        elif kind == _DATE:
            dated = True
            lines.append(f"{name}: {value}")
        elif kind == _HOST:
            lines.append(f"{name}: {value}")
        elif kind == _CONNECTION and "close" in value.lower():
            keep_alive = False
    if not dated:
        lines.append(f"Date: {date}")
    if framing:
        lines.append(framing)
    if not keep_alive:
        lines.append("Connection: close")
    elif http10:
        lines.append("Connection: keep-alive")
    lines.append("\r\n")
    return _assemble(lines), keep_alive


def request_head(
    method: str, target: str, headers: Iterable[tuple[str, str]], framing: str, *, authority: str
) -> bytes:
    """Request line and header block with the empty line that ends it.

    Hop-by-hop fields of `headers` are left out; `framing` is the line that frames the body, or empty (then a
    `Content-Length: 0` stays); `authority` is the Host where `headers` has none.
    Raises MalformedHeadError.
    """
    if method not in _METHODS and _TOKEN.fullmatch(method) is None:
        raise MalformedHeadError(f"method {method!r}")
    if _TARGET.fullmatch(target) is None:
        raise MalformedHeadError("a target with white space, control or non-ASCII characters")
    lines = [f"{method} {target} HTTP/1.1"]
    kinds = _kinds
    for name, value in headers:
        kind = kinds.get(name)
        if kind is None:
            kind = _kind(name)
        if kind == _PASS:
            lines.append(f"{name}: {value}")
        elif kind == _HOST:
            if not authority:
                raise MalformedHeadError("more than one Host")
            authority = ""
            lines.append(f"{name}: {value}")
        elif kind == _DATE:
            lines.append(f"{name}: {value}")
        elif kind == _LENGTH and value == "0" and not framing:
            framing = f"{name}: 0"
    if authority:
        lines.append(f"Host: {authority}")
    if framing:
        lines.append(framing)
    lines.append("\r\n")
    return _assemble(lines)


def chunk(data: bytes) -> list[bytes]:
    """The parts of one chunk; `data` is not empty."""
    return [b"%x\r\n" % len(data), data, b"\r\n"]
