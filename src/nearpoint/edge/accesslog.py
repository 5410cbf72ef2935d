"""The access log of one edge: what has been answered, gathered, made lines of and given to whoever keeps them.

Lines wait in memory and are written in batches. What the lines of a request that comes again have in common is made
once and kept with it (`ready.Hit`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from nearpoint.edge.logline import clean, line, read_fields
from nearpoint.edge.ready import Hit
from nearpoint.edge.visit import Answer
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.filebody import FileBody, SpanBody
from nearpoint.wire.message import Body, BytesBody, Headers, Peer, Request

BATCH_LINES = 256
FLUSH_S = 1.0
_MEMO_MAX = 4_096


class LogSink(Protocol):
    """Where lines go."""

    def write(self, distribution_id: str, now: float, lines: bytes) -> None:
        """Keep whole lines of a distribution. Raises OSError when they cannot be kept."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """How a distribution is logged: `domain` is its own (empty: whatever the viewer asked for)."""

    domain: str = ""
    cookies: bool = False


class AccessLog:
    """Gathers what one edge answers. `start` begins the timer that writes what waits.

    `of` are the distributions that are logged, by id; `other` stands for a request that came to none.
    """

    def __init__(
        self,
        sink: LogSink,
        pop: str,
        of: Mapping[str, Logged] | None = None,
        *,
        other: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.failed = 0  # batches that could not be written
        self._sink = sink
        self._pop = pop
        self._other = other
        self._clock = clock
        self._of: Mapping[str, Logged] = {}
        self._lines: dict[str, list[str]] = {}
        self._second = 0
        self._moment = ""
        self._memo: dict[tuple[object, ...], tuple[str, str, str]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.serve(of or {})

    def serve(self, of: Mapping[str, Logged]) -> None:
        """From now on log these distributions."""
        self.flush()
        self._of = dict(of)
        self._lines = {id: [] for id in of}
        self._second, self._moment = 0, ""  # what hits have kept holds no more
        self._memo.clear()

    def start(self) -> None:
        """Write what waits once a second, from now on."""
        self.flush()
        self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.start)

    def hit(self, now: float, peer: Peer, hit: Hit, request_id: bytes) -> None:
        """A request that the hot path has answered."""
        second = int(now)
        moment = self._moment if second == self._second else self._moment_of(second)
        line: _HitLine | None = hit.logged
        if line is None or line.moment is not moment or line.head is not hit.ready.head or line.cipher != peer.cipher:
            line = hit.logged = self._hit_line(moment, peer, hit)
        waiting = line.waiting
        if waiting is None:
            return
        waiting.append(
            f"{line.start}{peer.ip or '-'}{line.middle}{request_id.decode()}{line.more}{peer.port or '-'}{line.end}"
        )
        if len(waiting) >= BATCH_LINES:
            self.flush()

    def answer(
        self,
        started_at: float,
        request: Request,
        answer: Answer,
        request_id: str,
        distribution_id: str | None,
        *,
        head_bytes: int,
    ) -> Body:
        """A request that the ordinary path has answered, with a head of about so many bytes.

        Returns the body to send, which is logged when it has gone.
        """
        id = distribution_id if distribution_id is not None else self._other
        how = self._of.get(id) if id is not None else None
        body = answer.body
        if id is None or how is None:
            return body
        now = self._clock()
        if isinstance(body, (BytesBody, FileBody)):
            self._gone(request, answer, request_id, id, how, head_bytes, started_at, now, now, body.length, None)
            return body
        done = partial(self._gone, request, answer, request_id, id, how, head_bytes, started_at, now)
        return (_CountedSpans if isinstance(body, SpanBody) else _Counted)(body, self._clock, done)

    def _gone(
        self,
        request: Request,
        answer: Answer,
        request_id: str,
        id: str,
        how: Logged,
        head_bytes: int,
        started_at: float,
        began_at: float,
        ended_at: float,
        sent_bytes: int,
        why: str | None,
    ) -> None:
        """The last byte of an answer has gone out, or `why` no more of them will."""
        waiting = self._lines.get(id)
        if waiting is None:
            return
        second = int(ended_at)
        waiting.append(
            line(
                request,
                answer,
                moment=self._moment if second == self._second else self._moment_of(second),
                pop=self._pop,
                domain=how.domain,
                cookies=how.cookies,
                request_id=request_id,
                sent_bytes=head_bytes + sent_bytes,
                taken_s=max(0.0, ended_at - started_at),
                first_byte_s=max(0.0, began_at - started_at),
                why=why,
            )
        )
        if len(waiting) >= BATCH_LINES:
            self.flush()

    def flush(self) -> None:
        """Write what waits. A full disk costs lines, never answers."""
        for id, lines in self._lines.items():
            if lines:
                text = "".join(lines)
                lines.clear()
                try:
                    self._sink.write(id, self._second, text.encode("latin-1", "replace"))
                except OSError:
                    self.failed += 1

    def close(self) -> None:
        """Write what waits and close what it is written to."""
        if self._timer is not None:
            self._timer.cancel()
        self.flush()
        self._sink.close()

    def _moment_of(self, second: int) -> str:
        if second != self._second:
            self._second = second
            self._moment = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d\t%H:%M:%S")
        return self._moment

    def _hit_line(self, moment: str, peer: Peer, hit: Hit) -> _HitLine:
        ready = hit.ready
        id = ready.entry.primary[0]
        assert isinstance(id, str)
        how = self._of.get(id)
        key = (id, hit.status, hit.method, hit.target, ready.result, peer.protocol, peer.cipher, *hit.headers)
        parts = self._memo.get(key)
        if parts is None:
            if len(self._memo) >= _MEMO_MAX:
                self._memo.clear()
            parts = self._memo[key] = _hit_parts(how if how is not None else Logged(), peer, hit)
        length = len(ready.entry.body)
        if hit.not_modified or hit.head_only:
            sent_bytes = len(ready.head_304 if hit.not_modified else ready.head)
            shown = "-"
        else:
            sent_bytes = len(ready.head) + length
            shown = str(length)
        return _HitLine(
            moment=moment,
            head=ready.head,
            cipher=peer.cipher,
            waiting=self._lines.get(id),
            start=f"{moment}\t{self._pop}\t{sent_bytes + 60}\t",
            middle=parts[0],
            more=parts[1],
            end=f"{parts[2]}{ready.content_type}\t{shown}\t-\t-\n",
        )


class _HitLine:
    """The lines of one hit, but for address, id and port: as long as the second, the head and the cipher are these."""

    __slots__ = ("cipher", "end", "head", "middle", "moment", "more", "start", "waiting")

    def __init__(
        self,
        *,
        moment: str,
        head: bytes,
        cipher: str,
        waiting: list[str] | None,
        start: str,
        middle: str,
        more: str,
        end: str,
    ) -> None:
        self.moment = moment
        self.head = head
        self.cipher = cipher
        self.waiting = waiting  # where they go; None: the distribution is not logged
        self.start = start
        self.middle = middle
        self.more = more
        self.end = end


def _hit_parts(how: Logged, peer: Peer, hit: Hit) -> tuple[str, str, str]:
    """What lines of the same hit have in common at all times: from c-ip to the id, to the port, to the type."""
    said = read_fields(Headers([(name.decode("latin-1"), value.decode("latin-1")) for name, value in hit.headers]))
    stem, _, query = hit.target.decode("latin-1").partition("?")
    verb, result = hit.method.decode(), hit.ready.result
    received_bytes = said.size + len(hit.target) + len(hit.method) + 11
    return (
        f"\t{verb}\t{how.domain or said.host}\t{clean(stem)}\t{hit.status}\t{said.referer}\t{said.agent}\t"
        f"{clean(query)}\t{said.cookie if how.cookies else '-'}\t{result}\t",
        f"\t{said.host}\t{peer.scheme}\t{received_bytes}\t0.000\t{said.forwarded}\t{peer.tls or '-'}\t"
        f"{peer.cipher or '-'}\t{result}\t{peer.protocol}\t-\t-\t",
        f"\t0.000\t{result}\t",
    )


class _Counted:
    """A body on its way to a viewer; `done` hears when that has ended: when, how many bytes, and why too early."""

    __slots__ = ("_body", "_clock", "_done", "_sent_bytes")

    def __init__(self, body: Body, clock: Callable[[], float], done: Callable[[float, int, str | None], None]) -> None:
        self._body = body
        self._clock = clock
        self._done: Callable[[float, int, str | None], None] | None = done
        self._sent_bytes = 0

    @property
    def length(self) -> int | None:
        return self._body.length

    @property
    def delimited(self) -> bool:
        return self._body.delimited

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._body:
                self._sent_bytes += len(chunk)
                yield chunk
        except UpstreamError:
            self._end("OriginReadError")
            raise
        self._end(None)

    async def close(self) -> None:
        complete = self._sent_bytes == self._body.length
        await self._body.close()
        self._end(None if complete else "ClientCommError")

    def _end(self, why: str | None) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self._clock(), self._sent_bytes, why)


class _CountedSpans(_Counted):
    """A body that lies in files, in part (`SpanBody`)."""

    __slots__ = ()

    async def spans(self) -> AsyncIterator[bytes | FileBody]:
        assert isinstance(self._body, SpanBody)
        try:
            async for span in self._body.spans():
                yield span
                self._sent_bytes += len(span) if isinstance(span, bytes) else span.length
        except UpstreamError:
            self._end("OriginReadError")
            raise
        self._end(None)
