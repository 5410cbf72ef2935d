"""A stored answer as bytes to send: all of it is made beforehand, but what changes with the second.

`Ready` is the answer, `Hit` a request that it answers.
"""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

from nearpoint.edge.deliver import CACHE_NAME, fields_304
from nearpoint.edge.entry import Entry, Parts, decode_fields, encode_fields
from nearpoint.edge.response_headers import ResponseHeaders, apply_response_headers
from nearpoint.edge.visit import ERROR, HIT
from nearpoint.telemetry.metrics import Counter
from nearpoint.wire.framing import reason_phrase
from nearpoint.wire.message import Headers

JOINED_BYTES_MAX = 16_384  # above it head and body are written as two buffers: no copy of the body


class Ready:
    """An entry as bytes to send. The part that changes with time is made anew when Age moves on."""

    __slots__ = (
        "_edge",
        "_moving",
        "_shown",
        "body",
        "bytes_at",
        "content_type",
        "entry",
        "generation",
        "head",
        "joined",
        "made_304",
        "places",
        "policy",
        "requests_at",
        "result",
        "until",
    )

    def __init__(
        self,
        entry: Entry,
        *,
        generation: object,
        pop: str,
        standalone: bool,
        policy: ResponseHeaders | None,
        counters: tuple[Counter, Counter],
    ) -> None:
        self.entry = entry
        self.generation = generation
        self.requests_at, self.bytes_at = counters[0].at, counters[1].at
        self.policy = policy
        self.places: tuple[Any, ...] = ()  # what leads here: the paths' own
        self.result = ERROR if entry.status >= 400 and not standalone else HIT
        self._edge = _edge_fields(self.result, pop)
        fields = decode_fields(entry.fields)
        self._shown = entry.fields if policy is None else encode_fields(_dressed(policy, fields))
        self.content_type = _content_type(Headers(fields).get("content-type") or "-")
        body = entry.body
        assert not isinstance(body, Parts)
        self.body = body if isinstance(body, bytes) else body.body(0, len(body))
        self.joined = isinstance(body, bytes) and len(body) <= JOINED_BYTES_MAX
        self.until = 0.0
        self.head = b""
        self.made_304 = b""  # made when it is wanted
        self._moving = b""

    @property
    def etag(self) -> str | None:
        """What tells this answer from others under the same address."""
        return self.entry.headers().get("etag")

    @property
    def size(self) -> int:
        """Bytes of an answer, the fields of the edge included."""
        return len(self._shown) + len(self.entry.body) + 250

    def renew(self, now: float) -> bool:
        """Bring Age and Cache-Status up to date. False: no longer fresh."""
        entry = self.entry
        if not self.places or now >= entry.fresh_until or entry.gone:
            return False
        age_s = entry.age_s(now)
        self._moving = b"%bAge: %d\r\nCache-Status: %b; hit; ttl=%d\r\nX-Amz-Cf-Id: " % (
            self._edge,
            age_s,
            CACHE_NAME.encode(),
            int(entry.fresh_until - now),
        )
        length = b"" if entry.status in (204, 304) else b"Content-Length: %d\r\n" % len(entry.body)
        self.head = b"".join((_status_line(entry.status), self._shown, length, self._moving))
        self.made_304 = b""
        self.until = min(entry.fresh_until, entry.born_at + age_s + 1)
        return True

    @property
    def head_304(self) -> bytes:
        """The head of the answer to who has this already."""
        if not self.made_304:
            fields = _dressed(self.policy, fields_304(decode_fields(self.entry.fields)))
            self.made_304 = b"".join((_status_line(304), encode_fields(fields), self._moving))
        return self.made_304

    def rest(self) -> None:
        """Hold no head until somebody asks again."""
        self.until = 0.0
        self.head = self.made_304 = self._moving = b""

    def end(self) -> None:
        """Nothing leads here any more; a `Hit` that still knows of it gets nothing and holds nothing."""
        self.places = ()
        self.rest()
        self.body = b""
        self.entry = None  # type: ignore[assignment]  # `renew` says no from now on


class Hit:
    """A request that a Ready answers as long as `epoch` is that of the paths. `logged` is the access log's own."""

    __slots__ = (
        "epoch",
        "head_only",
        "headers",
        "logged",
        "method",
        "not_modified",
        "ready",
        "size",
        "status",
        "target",
    )

    def __init__(
        self,
        epoch: object,
        ready: Ready,
        method: bytes,
        target: bytes,
        headers: list[tuple[bytes, bytes]],
        *,
        not_modified: bool,
    ) -> None:
        self.epoch = epoch
        self.ready = ready
        self.method = method
        self.target = target
        self.headers = headers
        self.not_modified = not_modified
        self.status = 304 if not_modified else ready.entry.status
        self.head_only = method == b"HEAD"
        self.size = 300 if not_modified else ready.size - (len(ready.entry.body) if self.head_only else 0)
        self.logged: Any = None


@cache
def _status_line(status: int) -> bytes:
    return f"HTTP/1.1 {status} {reason_phrase(status)}\r\n".encode("latin-1")


@lru_cache(maxsize=1_024)  # one text for all answers of a kind
def _content_type(value: str) -> str:
    """As the log writes it."""
    return value.replace(" ", "%20")


@lru_cache(maxsize=1_024)
def _edge_fields(result: str, pop: str) -> bytes:
    return f"X-Cache: {result} from cloudfront\r\nX-Amz-Cf-Pop: {pop}\r\n".encode("latin-1")


def _dressed(policy: ResponseHeaders | None, fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if policy is None:
        return fields
    return apply_response_headers(policy, fields, method="GET", request=Headers(), date="")
