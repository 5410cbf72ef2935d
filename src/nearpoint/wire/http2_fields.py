"""What a header block means, and how a response becomes one (RFC 9113 §8.2, §8.3).

A request that breaks the rules of HTTP/2 itself is malformed and its stream is reset; one that HTTP/1.1 would refuse
with a status is refused with the same status. What passes can be written as HTTP/1.1 without meaning anything else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nearpoint.wire.framing import HOP_BY_HOP, MalformedHeadError
from nearpoint.wire.guard import Fault, tokens, valid_host
from nearpoint.wire.http2_hpack import Field, encode_field, encode_name, encode_value
from nearpoint.wire.limits import Limits
from nearpoint.wire.message import Body, Headers, Peer, Request

_NAME = re.compile(rb"[a-z0-9!#$%&'*+.^_`|~-]+")
_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_TARGET = re.compile(rb"/[!-~]*")
# As strict as HTTP/1.1's parser: RFC 9113 §8.2.1 demands no more than NUL, CR and LF.
_CONTROL = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]")
_SPACE = b" \t"
_NAMES_MAX = 4_096

_PASS, _FORBIDDEN, _TE, _HOST, _LENGTH, _COOKIE, _EXPECT = range(7)
_KINDS = {
    b"connection": _FORBIDDEN,
    b"keep-alive": _FORBIDDEN,
    b"proxy-connection": _FORBIDDEN,
    b"transfer-encoding": _FORBIDDEN,
    b"upgrade": _FORBIDDEN,
    b"te": _TE,
    b"host": _HOST,
    b"content-length": _LENGTH,
    b"cookie": _COOKIE,
    b"expect": _EXPECT,
}
_known_names = dict(_KINDS)  # names that have been checked; bounded so that a peer can't grow it


class MalformedError(Exception):
    """A message that HTTP/2 forbids: its stream is reset with PROTOCOL_ERROR (RFC 9113 §8.1.1)."""


class Head:
    """The head of a request in HTTP/1.1's terms: Host first, cookies joined, nothing of the connection's.

    `length` is the declared Content-Length; `fault` a refusal in place of an answer. Shared between requests whose
    blocks are equal: not to be changed.
    """

    __slots__ = ("_text", "expects_continue", "fault", "fields", "length", "method", "target")

    def __init__(self, method: bytes, target: bytes, fields: list[Field]) -> None:
        self.method = method
        self.target = target
        self.fields = fields
        self.length: int | None = None
        self.expects_continue = False
        self.fault: Fault | None = None
        self._text: list[tuple[str, str]] | None = None

    def request(self, body: Body, peer: Peer) -> Request:
        """The request for a handler."""
        if self._text is None:
            self._text = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in self.fields]
        return Request(
            self.method.decode("latin-1"),
            self.target.decode("latin-1"),
            Headers(self._text),
            body,
            scheme=peer.scheme,
            client_ip=peer.ip,
            peer=peer,
        )


def read_request(fields: Sequence[Field], scheme: str, limits: Limits) -> Head:
    """The head that a decoded block stands for; `scheme` is that of the connection. Raises MalformedError."""
    _check_values(fields)
    pseudo: dict[bytes, bytes] = {}
    for name, value in fields:
        if name[:1] != b":":
            break
        if name in pseudo:
            raise MalformedError(f"a second {name.decode('latin-1')}")
        pseudo[name] = value
    head = _read_regular(fields[len(pseudo) :], pseudo)
    head.fault = head.fault or _check_pseudo(pseudo, scheme) or _check_limits(head, fields, limits)
    if head.fault is None and not head.fields[0][1]:
        head.fault = Fault(400, "no Host")
    return head


def check_trailers(fields: Sequence[Field]) -> None:
    """Trailer fields are checked, and that is all. Raises MalformedError."""
    _check_values(fields)
    for name, value in fields:
        if _kind(name) in (_FORBIDDEN, _LENGTH) or (name == b"te" and value != b"trailers"):
            raise MalformedError("a trailer that is none")


def _check_values(fields: Sequence[Field]) -> None:
    if _CONTROL.search(b"".join([value for _, value in fields])) is not None:
        raise MalformedError("a control character in a value")
    for _, value in fields:
        if value and (value[0] in _SPACE or value[-1] in _SPACE):
            raise MalformedError("white space around a value")


def _kind(name: bytes) -> int:
    kind = _known_names.get(name)
    if kind is None:
        if _NAME.fullmatch(name) is None:
            raise MalformedError("a field name that is no lower-case token, or a pseudo-header that is out of place")
        kind = _PASS
        if len(_known_names) < _NAMES_MAX and len(name) < 128:
            _known_names[name] = kind
    return kind


def _read_regular(fields: Sequence[Field], pseudo: dict[bytes, bytes]) -> Head:
    authority = pseudo.get(b":authority")
    passed: list[Field] = [(b"host", authority or b"")]
    head = Head(pseudo.get(b":method", b""), pseudo.get(b":path", b""), passed)
    cookies: list[bytes] = []
    cookie_at = 0
    expectations: list[bytes] = []
    for field in fields:
        name, value = field
        kind = _known_names.get(name)
        if kind is None:
            kind = _kind(name)
        if kind == _PASS:
            passed.append(field)
        elif kind == _FORBIDDEN:
            raise MalformedError(f"{name.decode('latin-1')} in HTTP/2")
        elif kind == _HOST:
            # Taken as malformed when it differs (§8.3.1): what is cached and what is asked for must be one name.
            if authority is not None and authority.lower() != value.lower():
                raise MalformedError("a Host that is not the :authority, or a second one")
            authority = value
            passed[0] = (b"host", value)
        elif kind == _TE:
            if value.lower() != b"trailers":
                raise MalformedError("te other than trailers")
            passed.append(field)
        elif kind == _LENGTH:
            if head.length is not None or not value.isdigit() or len(value) > 18:
                raise MalformedError("malformed content-length")
            head.length = int(value)
            passed.append(field)
        elif kind == _COOKIE:
            if not cookies:
                cookie_at = len(passed)
                passed.append(field)
            cookies.append(value)
        else:
            expectations.append(value)
            passed.append(field)
    if len(cookies) > 1:
        passed[cookie_at] = (b"cookie", b"; ".join(cookies))
    if expectations:
        head.expects_continue = tokens(expectations) == {b"100-continue"}
        if not head.expects_continue:
            head.fault = Fault(417, "an expectation other than 100-continue")
    return head


def _check_pseudo(pseudo: dict[bytes, bytes], scheme: str) -> Fault | None:
    method = pseudo.get(b":method", b"")
    if _TOKEN.fullmatch(method) is None:
        raise MalformedError("a method that is no token")
    if method == b"CONNECT":
        return Fault(400, "CONNECT is not served here")
    path = pseudo.get(b":path", b"")
    authority = pseudo.get(b":authority")
    if len(pseudo) != (3 if authority is None else 4) or not path or b":scheme" not in pseudo:
        raise MalformedError("pseudo-headers are missing, empty or unknown")
    if authority is not None and not valid_host(authority):
        return Fault(400, "malformed Host")
    if pseudo[b":scheme"].lower() != scheme.encode("ascii"):
        return Fault(421, "a scheme other than the connection's")
    if path == b"*":
        return None if method == b"OPTIONS" else Fault(400, "the target * is for OPTIONS")
    if _TARGET.fullmatch(path) is None or b"#" in path:
        return Fault(400, "the target is no path")
    return None


def _check_limits(head: Head, fields: Sequence[Field], limits: Limits) -> Fault | None:
    if len(head.target) > limits.request_line_bytes_max:
        return Fault(414, "the target is too long")
    size = sum([len(name) + len(value) + 4 for name, value in fields])
    if size - len(head.target) > limits.headers_bytes_max or len(head.fields) > limits.header_count_max:
        return Fault(431, "the header fields are too large")
    if not valid_host(head.fields[0][1]):
        return Fault(400, "malformed Host")
    most = limits.body_bytes_max
    if most is not None and head.length is not None and head.length > most:
        return Fault(413, f"a body of more than {most} bytes")
    return None


# --- responses

_OMIT, _PLAIN, _DATE = range(3)
_response_names: dict[str, tuple[int, bytes]] = {}


def _response_name(name: str) -> tuple[int, bytes]:
    lowered = name.lower()
    raw = lowered.encode("latin-1", "replace")
    if _NAME.fullmatch(raw) is None:
        raise MalformedHeadError(f"header name {name!r}")
    kind = _OMIT if lowered in HOP_BY_HOP else _DATE if lowered == "date" else _PLAIN
    known = (kind, encode_name(raw))
    if len(_response_names) < _NAMES_MAX and len(name) < 128:
        _response_names[name] = known
    return known


def encode_response(status: int, headers: Iterable[tuple[str, str]], length: str, date: str) -> bytes:
    """The header block of a response.

    Fields of the connection and Content-Length are left out; `length` is the Content-Length or empty; `date` is added
    when there is none. Raises MalformedHeadError.
    """
    if not 200 <= status <= 599:
        raise MalformedHeadError(f"status {status}")
    parts = [encode_field(b":status", b"%d" % status)]
    values: list[str] = []
    dated = False
    for name, value in headers:
        kind, start = _response_names.get(name) or _response_name(name)
        if kind == _OMIT:
            continue
        dated = dated or kind == _DATE
        values.append(value)
        try:
            parts.append(start + encode_value(value.encode("latin-1")))
        except UnicodeEncodeError as error:
            raise MalformedHeadError("a header that is not latin-1") from error
    text = "".join(values)
    if "\n" in text or "\r" in text or "\0" in text:
        raise MalformedHeadError("a line break or NUL in a header")
    if not dated:
        parts.append(_DATE_NAME + encode_value(date.encode("ascii")))
    if length:
        parts.append(_LENGTH_NAME + encode_value(length.encode("ascii")))
    return b"".join(parts)


_DATE_NAME = encode_name(b"date")
_LENGTH_NAME = encode_name(b"content-length")
