"""Which headers an origin gets and which a viewer sees.

CloudFront Developer Guide, "Request and response behavior for custom origins" (its table of request headers) and
"How origin request policies and cache policies work together"; RFC 9110 §7.6 for what no intermediary passes on.
"""

from __future__ import annotations

from nearpoint.edge.config import Behavior
from nearpoint.edge.key import ENCODINGS, encoding_class, encoding_mask, select_cookies
from nearpoint.edge.viewer import PREFIX as ADDED_PREFIX
from nearpoint.wire.message import Headers

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
USER_AGENT = "Amazon CloudFront"
CONDITIONS = frozenset({"if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range", "range"})
# Never from a viewer: only an edge may say these.
_EDGE_ONLY = frozenset({"x-forwarded-proto", "x-real-ip", "expect", "content-length", "x-cache"})
_EDGE_ONLY_PREFIXES = ("x-amz-cf-", "x-edge-", "x-accel-")
_LEGACY_DROPPED = frozenset({"accept", "accept-charset", "accept-language", "referer"})
# With cache policies these go without being named; everything else has to be.
_POLICY_ALWAYS = CONDITIONS | {
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-range",
    "content-type",
    "date",
    "max-forwards",
    "pragma",
}
# Fields that frameworks build URLs from. Not being in the key, they could put one viewer's lies into another's answer.
_POISONOUS = frozenset(
    {
        "forwarded",
        "x-forwarded-host",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x-forwarded-scheme",
        "x-forwarded-server",
        "x-forwarded-ssl",
        "x-host",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
        "x-original-host",
        "x-original-url",
        "x-rewrite-url",
    }
)
# What the edge says itself, and what belongs to one connection or one moment.
_NOT_KEPT = frozenset({"age", "content-length", "x-cache", "x-amz-cf-id", "x-amz-cf-pop"})


def connection_options(headers: Headers) -> frozenset[str]:
    """The field names that Connection declares to be this hop's alone, in lower case."""
    return frozenset(
        name.strip().lower() for value in headers.get_all("connection") for name in value.split(",") if name.strip()
    )


def origin_headers(
    *,
    viewer: Headers,
    method: str,
    behavior: Behavior,
    origin_host: str,
    client_ip: str,
    scheme: str,
    via: str,
    standalone: bool,
    storing: bool,
) -> Headers:
    """The headers of the request to the origin, before functions, custom headers and X-Amz-Cf-Id.

    `storing`: the answer may be kept, so it has to be whole: the viewer's conditions and range are left out.
    """
    reads = method in ("GET", "HEAD", "OPTIONS")
    selected = behavior.cache.headers | behavior.forward.headers
    legacy = behavior.forward.legacy_headers
    added = behavior.added
    dropped = HOP_BY_HOP | connection_options(viewer)
    out = Headers([("Host", (viewer.get("host") or origin_host) if behavior.forward.viewer_host else origin_host)])
    user_agent = False
    for name, value in viewer:
        low = name.lower()
        if low in dropped or low in _EDGE_ONLY or low.startswith(_EDGE_ONLY_PREFIXES):
            continue
        if low.startswith(ADDED_PREFIX):
            # The edge has put them in itself, those that the behavior names.
            if low in added:
                out.add(name, value)
            continue
        if low in ("host", "cookie", "accept-encoding", "via", "x-forwarded-for"):
            continue
        if storing and low in CONDITIONS:
            continue
        if low in _POISONOUS and reads and not behavior.cache.headers.takes(low) and (standalone or storing):
            continue
        named = selected.takes(low)
        if low == "authorization" and not standalone:
            # AllViewer forwards it too, but then it has to be kept out of the cache: see storable.decide.
            if not named and reads:
                continue
        elif legacy:
            if (low in _LEGACY_DROPPED or low == "user-agent") and not named:
                continue
        elif not named and low not in _POLICY_ALWAYS:
            continue
        user_agent = user_agent or low == "user-agent"
        out.add(name, value)
    if not user_agent and not standalone:
        out.add("User-Agent", USER_AGENT)
    _add_encoding(out, viewer, behavior, raw=(selected.takes("accept-encoding") and not storing))
    cookies = select_cookies(viewer, behavior.cache.cookies | behavior.forward.cookies)
    if cookies:
        out.add("Cookie", cookies)
    before = viewer.joined("x-forwarded-for")
    if client_ip:
        out.add("X-Forwarded-For", f"{before}, {client_ip}" if before else client_ip)
    elif before:
        out.add("X-Forwarded-For", before)
    if standalone:
        out.add("X-Forwarded-Proto", scheme)
    passed = viewer.joined("via")
    out.add("Via", f"{passed}, {via}" if passed else via)
    return out


def _add_encoding(out: Headers, viewer: Headers, behavior: Behavior, *, raw: bool) -> None:
    sent = viewer.joined("accept-encoding")
    if sent is None:
        return
    if raw:
        out.add("Accept-Encoding", sent)
        return
    coding = ENCODINGS[encoding_class(sent) & encoding_mask(behavior.cache)]
    if coding:
        out.add("Accept-Encoding", coding)


def kept_headers(
    origin: Headers, *, keep_cookies: bool, left_out: frozenset[str] = frozenset()
) -> list[tuple[str, str]]:
    """The fields of an origin's answer that are passed on and stored: none of one hop's or one moment's.

    `left_out` are further names, in lower case (no-cache="…").
    """
    dropped = HOP_BY_HOP | connection_options(origin) | _NOT_KEPT | left_out
    if not keep_cookies:
        dropped |= {"set-cookie"}
    return [(name, value) for name, value in origin if name.lower() not in dropped]


def refreshed_headers(stored: list[tuple[str, str]], update: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Stored fields brought up to date by a 304's (RFC 9111 §3.2); what describes the stored body stays as it is."""
    fixed = {"content-length", "content-encoding", "content-type", "content-range", "etag"}
    news = [(name, value) for name, value in update if name.lower() not in fixed]
    replaced = {name.lower() for name, _ in news}
    return [(name, value) for name, value in stored if name.lower() not in replaced] + news
