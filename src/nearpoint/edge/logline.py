"""One line of CloudFront's standard log: 33 tab-separated fields (Developer Guide, "Standard logging reference")."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote

from nearpoint.edge.visit import ERROR, GENERATED, Answer

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
_CLEAN = re.compile(r"[!-~]+")  # all that quote would leave as it is, which is the most common
_LOGGED = (b"host", b"referer", b"user-agent", b"x-forwarded-for", b"cookie")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a request's fields say, as the log writes it, and their size in bytes."""

    host: str
    referer: str
    agent: str
    forwarded: str
    cookie: str
    size: int


def clean(value: str) -> str:
    """A value as the log writes it: white space, control and non-ASCII characters percent-encoded, `-` when empty."""
    if _CLEAN.fullmatch(value):
        return value
    return quote(value, safe=_SAFE, encoding="latin-1") if value else "-"


def read_fields(headers: Iterable[tuple[bytes, bytes]]) -> Said:
    """What of a request's fields is logged."""
    found: dict[bytes, str] = {}
    size = 2
    for name, value in headers:
        size += len(name) + len(value) + 4
        low = name.lower()
        if low in _LOGGED:
            text = value.decode("latin-1").strip(" \t")
            found[low] = f"{found[low]}; {text}" if low in found and low == b"cookie" else text
    host, referer, agent, forwarded, cookie = (clean(found.get(name, "")) for name in _LOGGED)
    return Said(host=host, referer=referer, agent=agent, forwarded=forwarded, cookie=cookie, size=size)


def detailed_result(answer: Answer) -> str:
    """x-edge-detailed-result-type: the result, or what it was in particular."""
    details = _DETAIL.findall(answer.status_note)
    if answer.result == ERROR:
        known = [_DETAILED[each] for each in details if each in _DETAILED]
        return known[-1] if known else "OriginError" if "fwd-status=" in answer.status_note else ERROR
    if answer.result == GENERATED and "viewer-request" not in details:
        return "MissGeneratedResponse"
    return "OriginShieldHit" if "shield-hit" in details else answer.result


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What is known of one request when its answer has gone out. Text is as the log writes it.

    `client`: address; `stem` and `query`: of the target; `protocol`: `http` or `https`; `version`: `HTTP/1.1`.
    """

    moment: str  # date and time, with the tab between
    pop: str
    sent_bytes: int
    client: str
    method: str
    domain: str
    target: str
    status: int
    said: Said
    cookies: bool
    result: str
    request_id: str
    protocol: str
    taken_s: float
    first_byte_s: float
    tls: str
    cipher: str
    final_result: str
    version: str
    port: int
    detailed: str
    content_type: str
    content_length: int | None
    part: tuple[str, str] = ("-", "-")

    def text(self) -> str:
        """The line with its end."""
        said = self.said
        stem, _, query = self.target.partition("?")
        received_bytes = said.size + len(self.target) + len(self.method) + 11
        return (
            "\t".join(
                (
                    self.moment,
                    self.pop,
                    str(self.sent_bytes),
                    self.client or "-",
                    clean(self.method),
                    self.domain or said.host,
                    clean(stem[:URL_CHARACTERS_MAX]),
                    f"{self.status:03}",
                    said.referer,
                    said.agent,
                    clean(query[:URL_CHARACTERS_MAX]),
                    said.cookie if self.cookies else "-",
                    self.result,
                    self.request_id,
                    said.host,
                    self.protocol,
                    str(received_bytes),
                    f"{self.taken_s:.3f}",
                    said.forwarded,
                    self.tls or "-",
                    self.cipher or "-",
                    self.final_result,
                    self.version,
                    "-",
                    "-",
                    str(self.port) if self.port else "-",
                    f"{self.first_byte_s:.3f}",
                    self.detailed,
                    clean(self.content_type),
                    "-" if self.content_length is None else str(self.content_length),
                    *self.part,
                )
            )
            + "\n"
        )
