"""One line of CloudFront's standard log: 33 tab-separated fields (Developer Guide, "Standard logging reference")."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from nearpoint.edge.visit import ERROR, GENERATED, Answer
from nearpoint.wire.message import Headers, Peer, Request

FIELDS = (
    "date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status cs(Referer) cs(User-Agent) "
    "cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id x-host-header cs-protocol cs-bytes time-taken "
    "x-forwarded-for ssl-protocol ssl-cipher x-edge-response-result-type cs-protocol-version fle-status "
    "fle-encrypted-fields c-port time-to-first-byte x-edge-detailed-result-type sc-content-type sc-content-len "
    "sc-range-start sc-range-end"
)
HEAD = f"#Version: 1.0\n#Fields: {FIELDS}\n".encode()
URL_CHARACTERS_MAX = 8_192
_SAFE = "!\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~%"
_UNKNOWN = Peer("", "http")
_DETAIL = re.compile(r"detail=([a-z-]+)")
# x-edge-detailed-result-type by the reason that Cache-Status gives.
_DETAILED = {
    "country": "ClientGeoBlocked",
    "disabled": "InvalidRequestBlocked",
    "https-only": "InvalidRequestBlocked",
    "method": "InvalidRequestMethod",
    "bad-target": "InvalidRequest",
    "request-body": "InvalidRequest",
    "url-too-long": "InvalidRequest",
    "body-too-large": "InvalidRequest",
    "headers-too-large": "InvalidRequestHeader",
    "origin-connect": "OriginConnectError",
    "origin-timeout": "OriginCommError",
    "origin-lost": "OriginReadError",
    "origin-protocol": "OriginInvalidResponseError",
    "origin-range": "OriginContentRangeLengthError",
}


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a request's fields say, as the log writes it, and their size in bytes."""

    host: str
    referer: str
    agent: str
    forwarded: str
    cookie: str
    size: int


def clean(value: str) -> str:
    """A value as the log writes it: white space, control and non-ASCII characters percent-encoded, `-` when empty."""
    if not value:
        return "-"
    if value.isascii() and value.isprintable() and " " not in value:  # all that quote would leave as it is
        return value
    return quote(value, safe=_SAFE, encoding="latin-1")


def read_fields(headers: Headers) -> Said:
    """What of a request's fields is logged: of one that comes twice the last, of cookies all."""
    size = 2
    for name, value in headers:
        size += len(name) + len(value) + 4
    found = headers.by_name()
    return Said(
        host=_last(found.get("host")),
        referer=_last(found.get("referer")),
        agent=_last(found.get("user-agent")),
        forwarded=_last(found.get("x-forwarded-for")),
        cookie=clean("; ".join(value.strip(" \t") for value in found["cookie"])) if "cookie" in found else "-",
        size=size,
    )


def _last(values: Sequence[str] | None) -> str:
    return "-" if values is None else clean(values[-1].strip(" \t"))


def detailed_result(answer: Answer) -> str:
    """x-edge-detailed-result-type: the result, or what it was in particular."""
    details = _DETAIL.findall(answer.status_note) if "detail=" in answer.status_note else ()
    if answer.result == ERROR:
        known = [_DETAILED[each] for each in details if each in _DETAILED]
        return known[-1] if known else "OriginError" if "fwd-status=" in answer.status_note else ERROR
    if answer.result == GENERATED and "viewer-request" not in details:
        return "MissGeneratedResponse"
    return "OriginShieldHit" if "shield-hit" in details else answer.result


def line(
    request: Request,
    answer: Answer,
    *,
    moment: str,
    pop: str,
    domain: str,
    cookies: bool,
    request_id: str,
    sent_bytes: int,
    taken_s: float,
    first_byte_s: float,
    why: str | None,
) -> str:
    """The line of a request whose answer has gone out, with its end.

    `moment`: date and time, with the tab between; `domain`: the distribution's, empty: what the viewer asked for;
    `why` the answer broke off, in the log's words.
    """
    said, peer, target = read_fields(request.headers), request.peer or _UNKNOWN, request.target
    stem, _, query = target.partition("?")
    received_bytes = said.size + len(target) + len(request.method) + 11
    content_type, first, last = "-", "-", "-"
    for name, value in answer.fields:
        low = name.lower()
        if low == "content-type":
            content_type = clean(value)
        elif low == "content-range" and answer.status == 206:
            first, _, last = value.partition(" ")[2].partition("/")[0].partition("-")
    length = answer.body.length
    return (
        f"{moment}\t{pop}\t{sent_bytes}\t{request.client_ip or '-'}\t{clean(request.method)}\t{domain or said.host}\t"
        f"{clean(stem[:URL_CHARACTERS_MAX])}\t{answer.status:03}\t{said.referer}\t{said.agent}\t"
        f"{clean(query[:URL_CHARACTERS_MAX])}\t{said.cookie if cookies else '-'}\t{answer.result}\t{request_id}\t"
        f"{said.host}\t{request.scheme}\t{received_bytes}\t{taken_s:.3f}\t{said.forwarded}\t{peer.tls or '-'}\t"
        f"{peer.cipher or '-'}\t{answer.result if why is None else ERROR}\t{peer.protocol}\t-\t-\t{peer.port or '-'}\t"
        f"{first_byte_s:.3f}\t{why or detailed_result(answer)}\t{content_type}\t{'-' if length is None else length}\t"
        f"{first or '-'}\t{last or '-'}\n"
    )
