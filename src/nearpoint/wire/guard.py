"""Decides how a request is framed, or why it is refused (RFC 9112 §3, §6, §9.3).

llhttp, as httptools 0.9 sets it up, already refuses: both length headers, repeated or malformed Content-Length,
chunked not last or twice, folded lines, bare CR or LF, control bytes in names and values, white space before a colon,
malformed chunk sizes, unknown methods, control or non-ASCII bytes in the target. What it lets through is refused here:
missing, repeated or malformed Host, any transfer coding but `chunked`, transfer codings in HTTP/1.0, versions other
than 1.0 and 1.1, fragments, CONNECT, an upgrade that carries a body. The tables in tests/wire hold both halves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

# The fields that shape a message; everything else passes by unread.
FRAMING = frozenset({b"host", b"connection", b"content-length", b"transfer-encoding", b"expect", b"upgrade"})

_HOST = re.compile(rb"(?:[A-Za-z0-9._~!$&'()*+;=%-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]+)([^#]*)")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a message is refused: the status to answer and a sentence for people."""

    status: int
    reason: str


@dataclass(slots=True)
class Framing:
    """How a request is read and answered.

    `length` is the declared Content-Length, None without one. `chunked` excludes it.
    `authority` is the host of an absolute-form target, which replaces the Host field (RFC 9112 §3.2.2).
    """

    target: bytes
    length: int | None = None
    chunked: bool = False
    keep_alive: bool = True
    http10: bool = False
    expects_continue: bool = False
    authority: bytes | None = None

    @property
    def has_body(self) -> bool:
        return self.chunked or bool(self.length)


def valid_host(value: bytes) -> bool:
    """True for a host with an optional port (RFC 9110 §7.2), or nothing."""
    return len(value) <= 320 and _HOST.fullmatch(value) is not None


def tokens(values: Sequence[bytes]) -> set[bytes]:
    """The members of a comma-separated list header, in lower case."""
    return {token.strip(b" \t").lower() for value in values for token in value.split(b",")}


def frame_request(
    method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]], version: str
) -> Framing | Fault:
    """The framing of a request whose head has been parsed.

    `headers` as received; `version` as `"1.1"`.
    """
    fields: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        lowered = name.lower()
        if lowered in FRAMING:
            fields.setdefault(lowered, []).append(value.strip(b" \t"))
    if version not in ("1.1", "1.0"):
        return Fault(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    framing = Framing(target=target, http10=version == "1.0")
    return (
        _target(framing, method)
        or _host(framing, fields.get(b"host", []))
        or _connection(framing, fields)
        or _body(framing, fields)
        or framing
    )


def _target(framing: Framing, method: bytes) -> Fault | None:
    target = framing.target
    if method == b"CONNECT":
        return Fault(400, "CONNECT is not served here")
    if b"#" in target:
        return Fault(400, "the target has a fragment")
    if target.startswith(b"/"):
        return None
    if target == b"*":
        return None if method == b"OPTIONS" else Fault(400, "the target * is for OPTIONS")
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None or not valid_host(absolute[1]):
        return Fault(400, "the target is neither a path nor an http URI")
    rest = absolute[2]
    framing.authority = absolute[1]
    framing.target = rest if rest.startswith(b"/") else b"/" + rest
    return None


def _host(framing: Framing, hosts: Sequence[bytes]) -> Fault | None:
    if len(hosts) > 1:
        return Fault(400, "more than one Host")
    if not hosts:
        return None if framing.http10 else Fault(400, "no Host")
    return None if valid_host(hosts[0]) else Fault(400, "malformed Host")


def _connection(framing: Framing, fields: dict[bytes, list[bytes]]) -> Fault | None:
    options = tokens(fields.get(b"connection", ()))
    if framing.http10:
        framing.keep_alive = b"keep-alive" in options and b"close" not in options
    else:
        framing.keep_alive = b"close" not in options
    upgrading = b"upgrade" in fields and b"upgrade" in options
    if upgrading and (b"transfer-encoding" in fields or fields.get(b"content-length", [b"0"]) != [b"0"]):
        return Fault(400, "an upgrade with a body")
    return None


def _body(framing: Framing, fields: dict[bytes, list[bytes]]) -> Fault | None:
    codings = fields.get(b"transfer-encoding")
    lengths = fields.get(b"content-length")
    if codings is not None:
        if framing.http10:
            return Fault(400, "Transfer-Encoding in HTTP/1.0")
        if lengths is not None:
            return Fault(400, "both Content-Length and Transfer-Encoding")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            return Fault(400, "a transfer coding other than chunked")
        framing.chunked = True
    elif lengths is not None:
        if len(lengths) > 1 or not lengths[0].isdigit():
            return Fault(400, "malformed Content-Length")
        framing.length = int(lengths[0])
    expectations = fields.get(b"expect")
    if expectations is not None and not framing.http10:
        if tokens(expectations) != {b"100-continue"}:
            return Fault(417, "an expectation other than 100-continue")
        framing.expects_continue = framing.has_body
    return None
