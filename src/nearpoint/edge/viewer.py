"""What the edge tells origins and functions of a viewer: the `CloudFront-…` fields. Pure.

CloudFront Developer Guide, "Add CloudFront request headers". They go along where a cache policy, an origin request
policy or ForwardedValues names them; what a viewer itself says under these names is never believed. Not known here, and
left out as CloudFront leaves out what it does not know: postal code, metro code, ASN, JA3 and JA4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from nearpoint.wire.message import Headers, Peer, Request

PREFIX = "cloudfront-"
HEADER_ORDER_CHARACTERS_MAX = 7_680


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where an edge takes its viewers to be. Codes are those of ISO 3166; what is empty or None is not known."""

    country: str
    country_name: str = ""
    region: str = ""
    region_name: str = ""
    city: str = ""
    latitude: float | None = None
    longitude: float | None = None
    time_zone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What a User-Agent says of the device. A tablet is mobile, too, as CloudFront's guide allows."""

    android: bool
    desktop: bool
    ios: bool
    mobile: bool
    smart_tv: bool
    tablet: bool


_TV = re.compile(
    r"smart-?tv|smarttv|googletv|appletv|apple tv|hbbtv|netcast|web0s|webos\.tv|\btizen.*\btv\b|roku|bravia|crkey|"
    r"\baft[a-z]{1,4}\b|viera|philipstv",
    re.IGNORECASE,
)
_TABLET = re.compile(r"ipad|\btablet\b|kindle|silk(?!.*mobile)|playbook|android(?!.*mobile)", re.IGNORECASE)
_MOBILE = re.compile(
    r"mobile|iphone|ipod|blackberry|\bbb10\b|opera m(?:ini|obi)|iemobile|windows phone|webos(?!\.tv)|symbian",
    re.IGNORECASE,
)
_USER_AGENT_CHARACTERS_MAX = 1_024  # of which the device is read


def device_of(user_agent: str) -> Device:
    """The device that a User-Agent names; a computer when it names none."""
    text = user_agent[:_USER_AGENT_CHARACTERS_MAX]
    tv = _TV.search(text) is not None
    tablet = not tv and _TABLET.search(text) is not None
    mobile = tablet or (not tv and _MOBILE.search(text) is not None)
    low = text.lower()
    return Device(
        android="android" in low,
        desktop=not (tv or mobile),
        ios=any(name in low for name in ("iphone", "ipad", "ipod")),
        mobile=mobile,
        smart_tv=tv,
        tablet=tablet,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    request: Request
    where: Whereabouts | None
    peer: Peer

    @property
    def device(self) -> Device:
        return device_of(self.request.headers.get("user-agent") or "")


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _degrees(value: float | None) -> str:
    return "" if value is None else f"{value:.5f}"


def _address(known: _Known) -> str:
    ip = known.request.client_ip
    return f"{ip}:{known.peer.port}" if ip else ""  # CloudFront writes no brackets around IPv6


def _tls(peer: Peer) -> str:
    handshake = "sessionResumed" if peer.resumed else "fullHandshake"
    return f"{peer.tls}:{peer.cipher}:{handshake}" if peer.tls else ""


def _order(headers: Headers) -> str:
    return ":".join(name for name, _ in headers)[:HEADER_ORDER_CHARACTERS_MAX]


# By field in lower case: its name, and its value (empty: not known).
_FIELDS: Mapping[str, tuple[str, Callable[[_Known], str]]] = {
    name.lower(): (name, value)
    for name, value in {
        "CloudFront-Forwarded-Proto": lambda known: known.request.scheme,
        "CloudFront-Is-Android-Viewer": lambda known: _flag(known.device.android),
        "CloudFront-Is-Desktop-Viewer": lambda known: _flag(known.device.desktop),
        "CloudFront-Is-IOS-Viewer": lambda known: _flag(known.device.ios),
        "CloudFront-Is-Mobile-Viewer": lambda known: _flag(known.device.mobile),
        "CloudFront-Is-SmartTV-Viewer": lambda known: _flag(known.device.smart_tv),
        "CloudFront-Is-Tablet-Viewer": lambda known: _flag(known.device.tablet),
        "CloudFront-Viewer-Address": _address,
        "CloudFront-Viewer-City": lambda known: known.where.city if known.where else "",
        "CloudFront-Viewer-Country": lambda known: known.where.country if known.where else "",
        "CloudFront-Viewer-Country-Name": lambda known: known.where.country_name if known.where else "",
        "CloudFront-Viewer-Country-Region": lambda known: known.where.region if known.where else "",
        "CloudFront-Viewer-Country-Region-Name": lambda known: known.where.region_name if known.where else "",
        "CloudFront-Viewer-Header-Count": lambda known: str(len(known.request.headers)),
        "CloudFront-Viewer-Header-Order": lambda known: _order(known.request.headers),
        "CloudFront-Viewer-Http-Version": lambda known: known.peer.protocol.removeprefix("HTTP/"),
        "CloudFront-Viewer-Latitude": lambda known: _degrees(known.where.latitude) if known.where else "",
        "CloudFront-Viewer-Longitude": lambda known: _degrees(known.where.longitude) if known.where else "",
        "CloudFront-Viewer-TLS": lambda known: _tls(known.peer),
        "CloudFront-Viewer-Time-Zone": lambda known: known.where.time_zone if known.where else "",
    }.items()
}
# What of a request's bytes decides a field; None: nothing, it is the same for every viewer of this edge and scheme.
_DECIDED_BY: Mapping[str, str | None] = {
    **{name: "user-agent" for name in _FIELDS if name.startswith("cloudfront-is-")},
    **{
        name: None
        for name in _FIELDS
        if name.startswith(("cloudfront-viewer-c", "cloudfront-viewer-l", "cloudfront-viewer-time", "cloudfront-f"))
    },
}


def added_fields(names: Iterable[str]) -> frozenset[str]:
    """Those among the names, in lower case, that the edge adds by itself."""
    return frozenset(name for name in names if name in _FIELDS)


def with_viewer_fields(request: Request, names: frozenset[str], where: Whereabouts | None) -> Request:
    """The request with these fields, and without what the viewer has said under such names."""
    if not names and PREFIX not in " ".join(request.headers.by_name()):
        return request
    known = _Known(request, where, request.peer or Peer(request.client_ip, request.scheme))
    kept = [(name, value) for name, value in request.headers if not name.lower().startswith(PREFIX)]
    for each in sorted(names):
        name, value_of = _FIELDS[each]
        value = value_of(known)
        if value:
            kept.append((name, value))
    return Request(
        request.method,
        request.target,
        Headers(kept),
        request.body,
        scheme=request.scheme,
        client_ip=request.client_ip,
    )


def decided_by(names: Iterable[str]) -> frozenset[str] | None:
    """The fields of a viewer's own request that decide these; None: more than its bytes does."""
    decided: set[str] = set()
    for name in names:
        if not name.startswith(PREFIX):
            decided.add(name)
        elif name not in _DECIDED_BY:
            return None
        elif (by := _DECIDED_BY[name]) is not None:
            decided.add(by)
    return frozenset(decided)
