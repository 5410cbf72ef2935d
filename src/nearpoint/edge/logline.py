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
_LOGGED = ("host", "referer", "user-agent", "x-forwarded-for", "cookie")
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


def read_fields(headers: Iterable[tuple[str, str]]) -> Said:
    """What of a request's fields is logged."""
    found: dict[str, str] = {}
    size = 2
    for name, value in headers:
        size += len(name) + len(value) + 4
        low = name.lower()
        if low in _LOGGED:
            text = value.strip(" \t")
            found[low] = f"{found[low]}; {text}" if low in found and low == "cookie" else text
    host, referer, agent, forwarded, cookie = [clean(found[name]) if name in found else "-" for name in _LOGGED]
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


def line(
    *,
    moment: str,
    pop: str,
    sent_bytes: int,
    client: str,
    method: str,
    domain: str,
    target: str,
    status: int,
    said: Said,
    cookies: bool,
    result: str,
    request_id: str,
    protocol: str,
    taken_s: float,
    first_byte_s: float,
    tls: str,
    cipher: str,
    final_result: str,
    version: str,
    port: int,
    detailed: str,
    content_type: str,
    content_length: int | None,
    part: tuple[str, str] = ("-", "-"),
) -> str:
    """The line of a request whose answer has gone out, with its end. Text is as the log writes it.

    `moment`: date and time, with the tab between; `client`: address; `protocol`: `http` or `https`; `version`:
    `HTTP/1.1`.
    """
    stem, _, query = target.partition("?")
    received_bytes = said.size + len(target) + len(method) + 11
    return (
        f"{moment}\t{pop}\t{sent_bytes}\t{client or '-'}\t{clean(method)}\t{domain or said.host}\t"
        f"{clean(stem[:URL_CHARACTERS_MAX])}\t{status:03}\t{said.referer}\t{said.agent}\t"
        f"{clean(query[:URL_CHARACTERS_MAX])}\t{said.cookie if cookies else '-'}\t{result}\t{request_id}\t{said.host}\t"
        f"{protocol}\t{received_bytes}\t{taken_s:.3f}\t{said.forwarded}\t{tls or '-'}\t{cipher or '-'}\t"
        f"{final_result}\t{version}\t-\t-\t{port or '-'}\t{first_byte_s:.3f}\t{detailed}\t{clean(content_type)}\t"
        f"{'-' if content_length is None else content_length}\t{part[0]}\t{part[1]}\n"
    )
