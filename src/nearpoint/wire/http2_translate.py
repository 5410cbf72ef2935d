"""Turns prebuilt HTTP/1.1 responses into header blocks and bodies, as fast as they are looked up.

What repeats is translated once. Two shapes are known, both allowed by `server.Instant`:
- the whole response in one piece, or a whole head first: each line of the head is looked up by itself;
- a first piece that ends within the head, such as everything up to a request id: it is looked up as one, and only
  what follows is translated anew. This is the cheapest.
"""

from __future__ import annotations

from collections.abc import Sequence

from nearpoint.wire.filebody import FileBody
from nearpoint.wire.framing import HOP_BY_HOP
from nearpoint.wire.http2_hpack import encode_field, encode_name, encode_value

_END = b"\r\n\r\n"
_LINES_MAX = 16_384
_VALUES_MAX = 1_024  # of one name, after which its values are taken for ones that never repeat
_BEGINNINGS_MAX = 4_096
_DROPPED = frozenset(name.encode("ascii") for name in HOP_BY_HOP) - {b"content-length"}

_lines: dict[bytes, bytes] = {}
_names: dict[bytes, tuple[bytes, int]] = {}  # name as spelled → its encoding, and how many lines it has in `_lines`
# first piece → the block of its whole lines; CRLF and what is left
_beginnings: dict[bytes, tuple[bytes, bytes]] = {}


def translate(reply: bytes | Sequence[bytes | FileBody]) -> tuple[bytes, bytes | FileBody]:
    """The header block and the body of a prebuilt response; a body that lies in a file stays there.

    Raises ValueError when the response has no end of head.
    """
    if isinstance(reply, bytes):
        at = reply.find(_END)
        if at < 0:
            raise ValueError("a prebuilt reply without an end of head")
        return _block(reply[:at]), reply[at + 4 :]
    last = reply[-1]
    if type(last) is FileBody:
        block, before = _join(reply[:-1])  # type: ignore[arg-type]  # only the last piece is a file
        return block, (before + last.whole() if before else last)
    return _join(reply)  # type: ignore[arg-type]


def _join(reply: Sequence[bytes]) -> tuple[bytes, bytes]:
    first = reply[0]
    known = _beginnings.get(first)
    if known is None:
        at = first.find(_END)
        if at >= 0:
            body = reply[1] if len(reply) == 2 and at + 4 == len(first) else b"".join((first[at + 4 :], *reply[1:]))
            return _block(first[:at]), body
        known = _beginning(first)
    block, left = known
    rest = b"".join((left, *reply[1:]))
    at = rest.find(_END)
    if at < 0:
        raise ValueError("a prebuilt reply without an end of head")
    if at == 0:
        return block, rest[4:]
    line = rest[2:at]
    if b"\r\n" in line:
        return block + _block(line), rest[at + 4 :]
    return block + (_lines.get(line) or _line(line, keep=False)), rest[at + 4 :]


def _beginning(first: bytes) -> tuple[bytes, bytes]:
    at = first.rfind(b"\r\n")
    known = (_block(first[:at]), first[at:]) if at >= 0 else (b"", b"\r\n" + first)
    if len(_beginnings) >= _BEGINNINGS_MAX:
        _beginnings.clear()
    _beginnings[first] = known
    return known


def _block(head: bytes) -> bytes:
    known = _lines
    parts = []
    for line in head.split(b"\r\n"):
        part = known.get(line)
        parts.append(_line(line) if part is None else part)
    return b"".join(parts)


def _line(line: bytes, *, keep: bool = True) -> bytes:
    name, colon, value = line.partition(b":")
    if not colon:
        status = line.split(b" ", 2)
        if len(status) < 2 or not line.startswith(b"HTTP/1.") or not status[1].isdigit():
            raise ValueError("a prebuilt reply with a malformed head")
        part = encode_field(b":status", status[1])
        count = 0
    else:
        start, count = _names.get(name) or _name(name)
        value = value.strip(b" \t")
        part = start + encode_value(value) if start else b""
        if b"\n" in value or b"\0" in value or b"\r" in value:
            raise ValueError("a prebuilt reply with a line break or NUL in a header")
    if keep and count < _VALUES_MAX and len(line) <= 1_024:
        if len(_lines) >= _LINES_MAX:
            _lines.clear()
            _names.clear()
        _lines[line] = part
        if colon:
            _names[name] = (start, count + 1)
    return part


def _name(name: bytes) -> tuple[bytes, int]:
    lowered = name.lower()
    if not lowered or lowered != lowered.strip():
        raise ValueError("a prebuilt reply with a malformed head")
    known = (b"" if lowered in _DROPPED else encode_name(lowered), 0)
    if len(_names) < _VALUES_MAX:
        _names[name] = known
    return known
