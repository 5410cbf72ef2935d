"""The access log of one edge: what has been answered, gathered, made lines of and given to whoever keeps them.

The hot path only puts a tuple into a list; lines are made and written in batches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from nearpoint.edge.deliver import viewer_bytes
from nearpoint.edge.logline import Line, clean, detailed_result, read_fields
from nearpoint.edge.ready import Ready
from nearpoint.edge.visit import ERROR, Answer
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.filebody import FileBody, SpanBody
from nearpoint.wire.message import Body, BytesBody, Peer, Request

BATCH_LINES = 256
FLUSH_S = 1.0
_MEMO_MAX = 4_096
_UNKNOWN = Peer("", "http")

_Hit = tuple[float, Peer, bytes, bytes, "list[tuple[bytes, bytes]]", Ready, bytes, int]


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
        self._hits: dict[str, list[_Hit]] = {}
        self._lines: dict[str, list[str]] = {}
        self._waiting = 0
        self._second = 0
        self._moment = ""
        self._memo: dict[tuple[object, ...], tuple[str, str, str, str, bool]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.serve(of or {})

    def serve(self, of: Mapping[str, Logged]) -> None:
        """From now on log these distributions."""
        self.flush()
        self._of = dict(of)
        self._hits = {id: [] for id in of}
        self._lines = {id: [] for id in of}
        self._memo.clear()

    def start(self) -> None:
        """Write what waits once a second, from now on."""
        self.flush()
        self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.start)

    def hit(self, *record: Any) -> None:
        """A request that the hot path has answered."""
        waiting = self._hits.get(record[5].entry.primary[0])
        if waiting is not None:
            waiting.append(record)
            if len(waiting) >= BATCH_LINES:
                self.flush()

    def answer(
        self, started_at: float, request: Request, answer: Answer, request_id: str, distribution_id: str | None
    ) -> Body:
        """A request that the ordinary path has answered. Returns the body to send, which is logged when it has gone."""
        id = distribution_id if distribution_id is not None else self._other
        how = self._of.get(id) if id is not None else None
        body = answer.body
        if id is None or how is None:
            return body
        now = self._clock()
        head_bytes = viewer_bytes(answer) - (body.length or 0)

        def done(ended_at: float, sent_bytes: int, why: str | None) -> None:
            said = read_fields([(name.encode("latin-1"), value.encode("latin-1")) for name, value in request.headers])
            headers = {name.lower(): value for name, value in answer.fields}
            first, last = "-", "-"
            if answer.status == 206:
                first, _, last = headers.get("content-range", "").partition(" ")[2].partition("/")[0].partition("-")
            peer = request.peer or _UNKNOWN
            line = Line(
                moment=self._moment_of(int(ended_at)),
                pop=self._pop,
                sent_bytes=head_bytes + sent_bytes,
                client=request.client_ip,
                method=request.method,
                domain=how.domain,
                target=request.target,
                status=answer.status,
                said=said,
                cookies=how.cookies,
                result=answer.result,
                request_id=request_id,
                protocol=request.scheme,
                taken_s=max(0.0, ended_at - started_at),
                first_byte_s=max(0.0, now - started_at),
                tls=peer.tls,
                cipher=peer.cipher,
                final_result=answer.result if why is None else ERROR,
                version=peer.protocol,
                port=peer.port,
                detailed=why or detailed_result(answer),
                content_type=headers.get("content-type", ""),
                content_length=body.length,
                part=(first or "-", last or "-"),
            )
            waiting = self._lines.get(id)
            if waiting is not None:
                waiting.append(line.text())
                if len(waiting) >= BATCH_LINES:
                    self.flush()

        if isinstance(body, BytesBody | FileBody):
            done(now, body.length or 0, None)
            return body
        return (_CountedSpans if isinstance(body, SpanBody) else _Counted)(body, self._clock, done)

    def flush(self) -> None:
        """Write what waits. A full disk costs lines, never answers."""
        for id, hits in self._hits.items():
            lines = self._lines[id]
            if not hits and not lines:
                continue
            self._hits[id], self._lines[id] = [], []
            if hits:
                lines.extend(self._hit_lines(hits, self._of[id]))
            try:
                self._sink.write(id, self._second, "".join(lines).encode("latin-1", "replace"))
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

    def _hit_lines(self, hits: list[_Hit], how: Logged) -> list[str]:
        memo, pop, lines = self._memo, self._pop, []
        for now, peer, method, target, headers, ready, request_id, status in hits:
            key = (status, method, target, ready.result, ready.content_type, peer.protocol, peer.cipher, *headers)
            parts = memo.get(key)
            if parts is None:
                if len(memo) >= _MEMO_MAX:
                    memo.clear()
                parts = memo[key] = _hit_parts(how, peer, method, target, headers, ready, status)
            moment = self._moment if int(now) == self._second else self._moment_of(int(now))
            sent_bytes = len(ready.head_304 if status == 304 else ready.head) + 60
            if parts[4]:
                length = len(ready.entry.body)
                sent_bytes += length
                shown = f"{length}"
            else:
                shown = "-"
            lines.append(
                f"{moment}\t{pop}\t{sent_bytes}\t{peer.ip or '-'}{parts[0]}{request_id.decode()}{parts[1]}"
                f"{peer.scheme}{parts[2]}{peer.port or '-'}{parts[3]}{shown}\t-\t-\n"
            )
        return lines


def _hit_parts(
    how: Logged,
    peer: Peer,
    method: bytes,
    target: bytes,
    headers: list[tuple[bytes, bytes]],
    ready: Ready,
    status: int,
) -> tuple[str, str, str, str, bool]:
    """What lines of the same hit have in common: from c-ip to the id, to the scheme, to the port, to the length."""
    said = read_fields(headers)
    stem, _, query = target.decode("latin-1").partition("?")
    verb, result = method.decode(), ready.result
    received_bytes = said.size + len(target) + len(method) + 11
    return (
        f"\t{verb}\t{how.domain or said.host}\t{clean(stem)}\t{status}\t{said.referer}\t{said.agent}\t{clean(query)}\t"
        f"{said.cookie if how.cookies else '-'}\t{result}\t",
        f"\t{said.host}\t",
        f"\t{received_bytes}\t0.000\t{said.forwarded}\t{peer.tls or '-'}\t{peer.cipher or '-'}\t{result}\t"
        f"{peer.protocol}\t-\t-\t",
        f"\t0.000\t{result}\t{ready.content_type}\t",
        status != 304 and method == b"GET",
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
