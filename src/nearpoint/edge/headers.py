"""Which headers an origin gets and which a viewer sees.

CloudFront Developer Guide, "Request and response behavior for custom origins" (its table of request headers) and
"How origin request policies and cache policies work together"; RFC 9110 §7.6 for what no intermediary passes on.
"""

from __future__ import annotations

from nearpoint.edge.key import ENCODINGS, encoding_class, encoding_mask, select_cookies
from nearpoint.edge.policies import CachePolicy, Forwarding
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
# Passed on, if at all, in the edge's own words.
_NEVER_AS_SENT = HOP_BY_HOP | _EDGE_ONLY | {"host", "cookie", "accept-encoding", "via", "x-forwarded-for"}
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
_NOT_KEPT = HOP_BY_HOP | {"age", "content-length", "x-cache", "x-amz-cf-id", "x-amz-cf-pop"}
_READS = frozenset({"GET", "HEAD", "OPTIONS"})
# What becomes of a viewer's field. Names seen are remembered; bounded so that no viewer can grow it.
_DROPPED, _PASSED, _USER_AGENT = range(3)
_NAMES_MAX = 1_024
_NAME_CHARACTERS_MAX = 64


def connection_options(headers: Headers) -> frozenset[str]:
    """The field names that Connection declares to be this hop's alone, in lower case."""
    return frozenset(
        name.strip().lower() for value in headers.get_all("connection") for name in value.split(",") if name.strip()
    )


class OriginFields:
    """Which of a viewer's fields go to the origin under a behavior's policies.

    What becomes of a field follows from its name: worked out when the name comes for the first time, then looked up.
    """

    __slots__ = ("_added", "_cache", "_cookies", "_fates", "_forward", "_mask", "_named")

    def __init__(self, cache: CachePolicy, forward: Forwarding) -> None:
        self._cache = cache
        self._forward = forward
        self._named = cache.headers | forward.headers
        self._added = cache.added | forward.added
        self._cookies = cache.cookies | forward.cookies
        self._mask = encoding_mask(cache)
        # By whether the method reads and whether the answer may be kept: names as they are written, of a few spellings.
        self._fates: tuple[dict[str, int], ...] = ({}, {}, {}, {})

    @property
    def passes_cookies(self) -> bool:
        """Whether the origin gets any cookie; otherwise its Set-Cookie does not go to viewers either (Developer Guide,
        "Cache content based on cookies")."""
        return self._cookies.mode != "none"

    def of(
        self, viewer: Headers, *, method: str, origin_host: str, client_ip: str, scheme: str, via: str, storing: bool
    ) -> Headers:
        """The headers of the request to the origin, before functions, custom headers and X-Amz-Cf-Id.

        `storing`: the answer may be kept, so it has to be whole: the viewer's conditions and range are left out.
        """
        forward, sent = self._forward, viewer.by_name()
        reads = method in _READS
        fates = self._fates[reads + 2 * storing]
        host = (viewer.get("host") or origin_host) if forward.viewer_host else origin_host
        fields = [("Host", host)]
        user_agent = forward.standalone
        for field in viewer:
            name = field[0]
            fate = fates.get(name)
            if fate is None:
                fate = self._fate(name.lower(), reads=reads, storing=storing)
                if len(fates) < _NAMES_MAX and len(name) <= _NAME_CHARACTERS_MAX:
                    fates[name] = fate
            if fate != _DROPPED:
                fields.append(field)
                user_agent = user_agent or fate == _USER_AGENT
        if "connection" in sent:
            options = connection_options(viewer)
            fields[1:] = [field for field in fields[1:] if field[0].lower() not in options]
            user_agent = user_agent and (forward.standalone or "user-agent" not in options)
        if not user_agent:
            fields.append(("User-Agent", USER_AGENT))
        accepted = sent.get("accept-encoding")
        if accepted is not None:
            coding = ", ".join(accepted)
            if storing or not self._named.takes("accept-encoding"):
                coding = ENCODINGS[encoding_class(coding) & self._mask]
            if coding:
                fields.append(("Accept-Encoding", coding))
        if "cookie" in sent:
            cookies = select_cookies(viewer, self._cookies)
            if cookies:
                fields.append(("Cookie", cookies))
        before = ", ".join(sent.get("x-forwarded-for", ()))
        if before or client_ip:
            both = f"{before}, {client_ip}" if before and client_ip else before or client_ip
            fields.append(("X-Forwarded-For", both))
        if forward.standalone:
            fields.append(("X-Forwarded-Proto", scheme))
        passed = ", ".join(sent.get("via", ()))
        fields.append(("Via", f"{passed}, {via}" if passed else via))
        return Headers(fields)

    def _fate(self, low: str, *, reads: bool, storing: bool) -> int:
        """What becomes of a field of this name, Connection's options aside."""
        if low in _NEVER_AS_SENT or low.startswith(_EDGE_ONLY_PREFIXES):
            return _DROPPED
        if low.startswith(ADDED_PREFIX):
            # The edge has put them in itself, those that the behavior names.
            return _PASSED if low in self._added else _DROPPED
        if storing and low in CONDITIONS:
            return _DROPPED
        standalone, named = self._forward.standalone, self._named.takes(low)
        if low in _POISONOUS and reads and not self._cache.headers.takes(low) and (standalone or storing):
            return _DROPPED
        if low == "authorization" and not standalone:
            # AllViewer forwards it too, but then it has to be kept out of the cache: see storable.decide.
            dropped = not named and reads
        elif self._forward.legacy_headers:
            dropped = (low in _LEGACY_DROPPED or low == "user-agent") and not named
        else:
            dropped = not named and low not in _POLICY_ALWAYS
        if dropped:
            return _DROPPED
        return _USER_AGENT if low == "user-agent" else _PASSED


def kept_headers(origin: Headers, *, keep_cookies: bool) -> list[tuple[str, str]]:
    """The fields of an origin's answer that are passed on and stored: none of one hop's or one moment's."""
    dropped = _NOT_KEPT
    if "connection" in origin.by_name():
        dropped |= connection_options(origin)
    if not keep_cookies:
        dropped |= {"set-cookie"}
    return [field for field in origin if field[0].lower() not in dropped]


def refreshed_headers(stored: list[tuple[str, str]], update: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Stored fields brought up to date by a 304's (RFC 9111 §3.2); what describes the stored body stays as it is."""
    fixed = {"content-length", "content-encoding", "content-type", "content-range", "etag"}
    news = [(name, value) for name, value in update if name.lower() not in fixed]
    replaced = {name.lower() for name, _ in news}
    return [(name, value) for name, value in stored if name.lower() not in replaced] + news
