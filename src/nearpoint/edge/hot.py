"""The hot path: a fresh hit answered from prebuilt bytes, without a Request object or a task.

What arrived on the wire leads straight to an entry: host, target, class of Accept-Encoding, and the raw values of the
fields that the key or a Vary names. The ordinary path puts an entry in here when it has served it to such a request;
whatever could make a difference (a range, a date condition, an unusual Connection field) goes the ordinary way.
A request that comes again byte for byte brings along what it led to (`ready.Hit`), and nothing is looked up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

from nearpoint.edge.conditional import none_matches
from nearpoint.edge.entry import Entry, Parts
from nearpoint.edge.eviction import USES_MAX
from nearpoint.edge.key import encoding_class
from nearpoint.edge.ready import Hit, Ready
from nearpoint.edge.response_headers import ResponseHeaders
from nearpoint.edge.viewer import decided_by
from nearpoint.edge.visit import Visit
from nearpoint.telemetry.metrics import Counter
from nearpoint.wire.exchange import KnownFields
from nearpoint.wire.filebody import FileBody
from nearpoint.wire.message import Headers
from nearpoint.wire.server import Instant, Peer

HOT_BYTES_MAX = 1_048_576  # what is larger is sent at the viewer's pace
PLACES_MAX = 16  # addresses on the wire that lead to one entry
VARIED_MAX = 64  # combinations of field values under one address
HEADS_MAX = 16_384  # kept ready to send; of a million answers few are asked for in the same second
TIDIED_AT_ONCE = 10_000  # takes about a millisecond
_MEMO_MAX = 4_096

# What a header field is to the hot path.
_IGNORED, _HOST, _ENCODING, _NONE_MATCH, _MODIFIED_SINCE, _CONNECTION, _NAMED, _SLOW = range(8)
_FIELDS = {
    b"host": _HOST,
    b"accept-encoding": _ENCODING,
    b"if-none-match": _NONE_MATCH,
    b"connection": _CONNECTION,
    b"range": _SLOW,
    b"if-match": _SLOW,
    b"if-modified-since": _MODIFIED_SINCE,
    b"if-unmodified-since": _SLOW,
    b"if-range": _SLOW,
    b"expect": _SLOW,
    b"upgrade": _SLOW,
}
# Fields that the edge changes by itself on the way to the origin, or that this path reads in its own way.
NEVER_HOT = frozenset(
    {"via", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "connection", "if-none-match", "if-modified-since"}
)

URL_BYTES_MAX = 8_192  # CloudFront quotas; a longer one is refused on the ordinary path

LogHit = Callable[[float, Peer, Hit, bytes], None]  # now, who asked, what was asked, the id of the request


def hot_names(visit: Visit, entry: Entry) -> list[str] | None:
    """The request fields that tell this answer from others, or None: more than the request's bytes decides."""
    request, behavior = visit.request, visit.behavior
    if visit.inner or request.method == "OPTIONS" or behavior.cache.headers.mode in ("all", "all-except"):
        return None
    if "viewer-request" in behavior.functions or "viewer-response" in behavior.functions:
        return None
    if behavior.keys is not None:
        return None
    policy = behavior.response_headers
    if policy is not None and (not policy.fixed or "date" in policy.removed):
        return None
    if not request.target.startswith("/") or len(request.target) > URL_BYTES_MAX:
        return None
    if len(entry.body) > HOT_BYTES_MAX or isinstance(entry.body, Parts):
        return None
    error = visit.distribution.errors.get(entry.status)
    if error is not None and error.page_path is not None:
        return None
    names = decided_by(behavior.cache.headers.names | set(entry.variance))
    if names is None:
        return None
    if behavior.cache.cookies.mode != "none":
        names |= {"cookie"}
    return None if names & NEVER_HOT else sorted(names)


class _Varied:
    """An address whose answer depends on named fields."""

    __slots__ = ("names", "ready")

    def __init__(self, names: tuple[bytes, ...]) -> None:
        self.names = names
        self.ready: dict[object, Ready] = {}


Place = dict[bytes, "Ready | _Varied"]


class _Tables:
    """The addresses of one host, a table for each class of Accept-Encoding.

    Answers refer to this, not to the tables: what is to go away must not be part of a cycle.
    """

    __slots__ = ("places",)

    def __init__(self) -> None:
        self.places: tuple[Place, Place, Place, Place] = ({}, {}, {}, {})


class HotPaths:
    """Every address that leads to a Ready. One for each worker."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        ids: Iterator[bytes],
        pop: str,
        values: memoryview[float],
        log: LogHit | None = None,
        used: Callable[[Entry], None] | None = None,
    ) -> None:
        self.hits = 0
        self._used = used  # told of an entry that is being used, at most once a second
        self._clock = clock
        self._ids = ids
        self._pop = pop
        self._log = log
        self._values = values  # of the registry that the counters of `offer` belong to
        self._hosts: dict[str, dict[bytes, _Tables]] = {"http": {}, "https": {}}  # by scheme
        self._renewed: deque[Ready] = deque()  # what has a head, oldest first
        self._retired: list[dict[bytes, Ready | _Varied]] = []  # tables that lead nowhere any more, being emptied
        self._names = dict(_FIELDS)  # field names as spelled on the wire, learnt as they come
        self._named: set[bytes] = set()
        self._epoch = object()  # another one when what a request led to holds no more
        self._generation = self._epoch  # another one when no address does
        self._encodings: dict[bytes, int] = {}

    def offer(
        self,
        *,
        scheme: str,
        headers: Headers,
        target: str,
        names: Sequence[str],
        entry: Entry,
        standalone: bool,
        counters: tuple[Counter, Counter],
        policy: ResponseHeaders | None = None,
    ) -> None:
        """Let requests like this one, which the entry has just answered, be answered at once.

        `names`: the request fields, in lower case, that the key or the entry's Vary tells apart; Host and
        Accept-Encoding need not be among them. `counters` are those of such requests, and of the bytes they get.
        """
        connection = (headers.get("connection") or "").lower()
        if connection not in ("", "keep-alive", "close") or len(headers.get_all("host")) > 1:
            return
        ready = entry.hot
        if not isinstance(ready, Ready) or ready.generation is not self._generation or ready.policy != policy:
            if isinstance(ready, Ready):
                ready.end()
            ready = entry.hot = Ready(
                entry,
                generation=self._generation,
                pop=self._pop,
                standalone=standalone,
                policy=policy,
                counters=counters,
            )
        if len(ready.places) >= PLACES_MAX * 4:
            return
        host = (headers.get("host") or "").encode("latin-1")
        tables = self._hosts[scheme].get(host)
        if tables is None:
            if len(self._hosts[scheme]) >= _MEMO_MAX:
                return
            tables = self._hosts[scheme][host] = _Tables()
        encoding = encoding_class(headers.joined("accept-encoding"))
        place = tables.places[encoding]
        address = target.encode("latin-1")
        wanted = tuple(sorted({name.encode("latin-1") for name in names} - {b"host", b"accept-encoding"}))
        if not wanted:
            if place.get(address) is not ready:
                place[address] = ready
                ready.places += (tables, encoding, address, None)
            return
        values: list[bytes | None] = []
        for name in wanted:
            found = headers.get_all(name.decode("latin-1"))
            if len(found) > 1:
                return
            values.append(found[0].encode("latin-1") if found else None)
        varied = place.get(address)
        if not isinstance(varied, _Varied) or varied.names != wanted:
            if varied is not None or not self._named.issuperset(wanted):
                self._epoch = object()
            varied = place[address] = _Varied(wanted)
            if not self._named.issuperset(wanted):
                self._named.update(wanted)
                self._names = {**_FIELDS, **{name: _NAMED for name in self._named if name not in _FIELDS}}
        told_apart = tuple(values)
        if len(varied.ready) < VARIED_MAX and varied.ready.get(told_apart) is not ready:
            varied.ready[told_apart] = ready
            ready.places += (tables, encoding, address, told_apart)

    def forget(self, entry: Entry) -> None:
        """An entry has left the cache."""
        ready = entry.hot
        if isinstance(ready, Ready):
            entry.hot = None
            places = iter(ready.places)
            for tables, encoding, address, told_apart in zip(places, places, places, places, strict=True):
                place = tables.places[encoding]
                found = place.get(address)
                if found is ready:
                    del place[address]
                elif isinstance(found, _Varied) and found.ready.get(told_apart) is ready:
                    del found.ready[told_apart]
                    if not found.ready:
                        del place[address]
            ready.end()

    def clear(self) -> None:
        """Forget every address: behaviors have changed, or something has been invalidated.

        Takes no longer for a million of them: what is known of each is of another generation from now on. The tables
        are emptied little by little (`tidy`).
        """
        self._epoch = self._generation = object()
        for hosts in self._hosts.values():
            for tables in hosts.values():
                self._retired += filter(None, tables.places)
                tables.places = ({}, {}, {}, {})
            hosts.clear()

    def tidy(self) -> None:
        """Let go of some of what has been forgotten; to be called again and again."""
        for _ in range(TIDIED_AT_ONCE):
            if not self._retired:
                return
            self._retired[-1].popitem()
            if not self._retired[-1]:
                self._retired.pop()

    def _learn(self, name: bytes) -> int:
        low = name.lower()
        kind = _FIELDS.get(low, _NAMED if low in self._named else _IGNORED)
        if len(self._names) < _MEMO_MAX:
            self._names[name] = kind
        return kind

    def _encoding(self, value: bytes) -> int:
        found = encoding_class(value.decode("latin-1"))
        if len(self._encodings) < _MEMO_MAX and len(value) <= 128:
            self._encodings[value] = found
        return found

    def _find(
        self,
        hosts: dict[bytes, _Tables],
        method: bytes,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
    ) -> Hit | None:
        """What a request leads to, None where the ordinary path has to look at it."""
        if method != b"GET" and method != b"HEAD":  # noqa: PLR1714 - twice as fast as `in`
            return None
        names = self._names
        host = b""
        encoding = 0
        none_match: bytes | None = None
        dated = False
        named: dict[bytes, bytes] | None = None
        for name, value in headers:
            kind = names.get(name)
            if kind is None:
                kind = self._learn(name)
            if not kind:
                continue
            if kind == _HOST:
                host = value
            elif kind == _ENCODING:
                if encoding:
                    return None
                found = self._encodings.get(value)
                encoding = self._encoding(value) if found is None else found
            elif kind == _NONE_MATCH:
                if none_match is not None:
                    return None
                none_match = value
            elif kind == _MODIFIED_SINCE:
                dated = True
            elif kind == _CONNECTION:
                if value.lower() not in (b"keep-alive", b"close"):
                    return None
            elif kind == _NAMED:
                if named is None:
                    named = {}
                low = name.lower()
                if low in named:
                    return None
                named[low] = value.rstrip(b" \t")
            else:
                return None
        tables = hosts.get(host)
        ready = None if tables is None else tables.places[encoding].get(target)
        if ready is None or (
            dated and none_match is None
        ):  # RFC 9110 §13.1.3: beside If-None-Match a date says nothing
            return None
        if type(ready) is not Ready:
            assert isinstance(ready, _Varied)
            values = tuple([named.get(name) for name in ready.names]) if named else (None,) * len(ready.names)
            ready = ready.ready.get(values)
            if ready is None:
                return None
        if not ready.places:
            return None
        not_modified = (
            none_match is not None
            and ready.entry.status == 200
            and none_matches(none_match.decode("latin-1"), ready.etag)
        )
        return Hit(self._epoch, ready, method, target, headers, not_modified=not_modified)

    def _renew(self, ready: Ready, now: float) -> bool:
        if not ready.renew(now):
            return False
        self._renewed.append(ready)
        if len(self._renewed) > HEADS_MAX:
            self._renewed.popleft().rest()
        if self._used is not None:
            self._used(ready.entry)
        return True

    def instant(self, scheme: str) -> Instant:
        """The hook for a server that speaks this scheme to viewers."""
        hosts = self._hosts[scheme]
        clock, ids, log, counted = self._clock, self._ids, self._log, self._values

        def answer(
            method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], peer: Peer
        ) -> bytes | Sequence[bytes | FileBody] | None:
            hit: Hit | None = headers.memo if type(headers) is KnownFields else None
            if hit is None or hit.epoch is not self._epoch:
                hit = self._find(hosts, method, target, headers)
                if hit is None:
                    return None
                if type(headers) is KnownFields:
                    headers.memo = hit
            ready = hit.ready
            now = clock()
            if now >= ready.until and not self._renew(ready, now):
                if type(headers) is KnownFields:
                    headers.memo = None
                return None
            entry = ready.entry
            if entry.uses < USES_MAX:
                entry.uses += 1
            self.hits += 1
            counted[ready.requests_at] += 1.0
            counted[ready.bytes_at] += hit.size
            request_id = next(ids)
            if log is not None:
                log(now, peer, hit, request_id)
            if peer.protocol == "HTTP/2.0" and (ready.joined or hit.head_only or hit.not_modified):
                # The first piece comes again, and what it is over HTTP/2 is looked up by it.
                if hit.not_modified or hit.head_only:
                    head = ready.head if not hit.not_modified else ready.made_304 or ready.head_304
                    return (head, request_id + b"\r\n\r\n")
                return (ready.head, request_id + b"\r\n\r\n", ready.body)
            if hit.not_modified:
                return b"".join((ready.made_304 or ready.head_304, request_id, b"\r\n\r\n"))
            if hit.head_only:
                return b"".join((ready.head, request_id, b"\r\n\r\n"))
            if ready.joined:
                return b"".join((ready.head, request_id, b"\r\n\r\n", ready.body))  # type: ignore[arg-type]
            return (b"".join((ready.head, request_id, b"\r\n\r\n")), ready.body)

        return answer
