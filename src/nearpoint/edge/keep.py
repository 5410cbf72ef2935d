"""Keeps what an origin has answered, or says why not: whole, while it arrives, or part by part.

A small body is read before its answer begins. A larger one is kept while it is passed on: up to a part's size in one
piece (`fill`), beyond that in parts (`partfill`), of which a range needs only some.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
import structlog

from nearpoint.edge.answers import Fields, result_word
from nearpoint.edge.blob import Blob
from nearpoint.edge.bounds import Bounds
from nearpoint.edge.collapse import Filling, Landing, Private, Stored
from nearpoint.edge.compress import Coding, choose_coding, compressed, compressing, encoded_fields
from nearpoint.edge.deliver import PartsOf, from_entry, part_of, shaped
from nearpoint.edge.entry import Entry, Parts, encode_fields
from nearpoint.edge.fill import Fill, FillMemory
from nearpoint.edge.partfill import PartFiller, last_part
from nearpoint.edge.parts import PART_BYTES
from nearpoint.edge.storable import Keep, Verdict, Why
from nearpoint.edge.tiers import Tiers
from nearpoint.edge.visit import ERROR, REFRESH_HIT, Answer, Trouble, Visit, variant_of
from nearpoint.wire.message import BytesBody, Headers, Response, read_all
from nearpoint.wire.ranges import Span, content_range

log = structlog.get_logger("nearpoint.edge")


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """An origin's answer as it came, with what it will be called. `part`: first byte, last byte and size of a 206."""

    visit: Visit
    forwarded: Headers
    response: Response
    status: int
    fields: Fields
    requested_at: float
    received_at: float
    result: str
    how: str  # Cache-Status, so far
    part: tuple[int, int, int] | None = None


class Keeper:
    """Takes replies into the cache."""

    def __init__(
        self,
        *,
        tiers: Tiers,
        bounds: Bounds,
        spawn: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
        filler: PartFiller,
    ) -> None:
        self._tiers = tiers
        self._bounds = bounds
        self._spawn = spawn
        self._filler = filler
        self._fill_memory = FillMemory(bounds.fill_bytes_max)

    def refreshed(self, reply: Reply, entry: Entry, verdict: Verdict, parts: PartsOf) -> Landing:
        """The origin says that what is stored is still right (RFC 9111 §4.3.4)."""
        if isinstance(verdict, Keep):
            renewed = self._entry(reply, verdict, entry.body)
            self._filler.hand_over(entry, renewed)
            self._tiers.put(renewed)
            return Stored(entry=renewed, fields=reply.fields, result=REFRESH_HIT, note=f"{reply.how}; stored")
        self._tiers.drop(entry)
        note = f"{reply.how}; detail={verdict.value}"
        answer = from_entry(
            reply.visit.request, entry, now=reply.received_at, result=REFRESH_HIT, note=note, parts=parts
        )
        return Private(answer=answer, why=verdict)

    async def keep(self, reply: Reply, verdict: Keep, ended: Callable[[Why | None], None]) -> Landing:
        """Take the body in. `ended` is called when a landing that is a Filling has been filled, or has not been."""
        body = reply.response.body
        if reply.part is not None:
            return await self._keep_part(reply, verdict)
        length = body.length
        coding = _coding(reply, length)
        if length is not None and length > self._object_bytes_max:
            return self.private(reply, Why.TOO_LARGE)
        if length is None and not body.delimited:
            # Only the end of the connection would end it, so whether it is whole can't be known.
            return self.private(reply, Why.INCOMPLETE)
        if coding is not None:
            reply = msgspec.structs.replace(reply, fields=encoded_fields(reply.fields, coding))
        elif length is not None and length > PART_BYTES:
            return self._keep_parts(reply, verdict, length)
        if length is not None and length <= self._bounds.read_whole_bytes_max:
            data = body.data if isinstance(body, BytesBody) else await self._read(reply, length)
            if isinstance(data, Trouble):
                return data
            return self._stored(reply, verdict, data if coding is None else compressed(data, coding))
        body = body if coding is None else compressing(body, coding)
        fill = Fill(body, limit_bytes=self._bounds.object_bytes_max, memory=self._fill_memory)

        async def store() -> None:
            why: Why | None = None
            try:
                data = await fill.run()
                if data is not None:
                    self._tiers.put(self._entry(reply, verdict, self._tiers.hold(data)))
                elif fill.whole:
                    why = Why.INCOMPLETE
                else:
                    why = Why.BODY_LIMIT if fill.crowded else Why.TOO_LARGE
            finally:
                ended(why)

        self._spawn(store())
        return Filling(
            status=reply.status,
            fields=reply.fields,
            fill=fill,
            freshness=verdict.freshness,
            variance=verdict.variance,
            variant=variant_of(verdict.variance, reply.forwarded),
            requested_at=reply.requested_at,
            result=reply.result,
            note=f"{reply.how}; stored",
        )

    @property
    def _object_bytes_max(self) -> float:
        """The largest body that is kept: on disk its parts come and go by themselves."""
        return self._bounds.object_bytes_max if self._tiers.store is None else float("inf")

    async def _read(self, reply: Reply, length: int) -> bytes | Trouble:
        body = reply.response.body
        try:
            data = await read_all(body, length)
        except asyncio.CancelledError:
            await body.close()
            raise
        except Exception as error:
            log.warning("origin broke off", origin=reply.visit.behavior.origin.domain, error=repr(error))
            return Trouble(status=502, result=ERROR, reason="origin-lost", unreachable=True)
        if len(data) != length:
            return Trouble(status=502, result=ERROR, reason="origin-lost", unreachable=True)
        return data

    def _stored(self, reply: Reply, verdict: Keep, data: bytes) -> Stored:
        return self._put(reply, self._entry(reply, verdict, self._tiers.hold(data)))

    def _put(self, reply: Reply, entry: Entry) -> Stored:
        if self._tiers.put(entry):
            return Stored(entry=entry, fields=reply.fields, result=reply.result, note=f"{reply.how}; stored")
        why = Why.INVALIDATED if self._tiers.memory.is_invalidated(entry) else Why.TOO_LARGE
        note = f"{reply.how}; detail={why.value}"
        return Stored(entry=entry, fields=reply.fields, result=reply.result, note=note, why=why)

    def _keep_parts(self, reply: Reply, verdict: Keep, size: int, first: int = 0, last: int | None = None) -> Stored:
        """Cut a body into parts while it arrives, from part `first` to part `last`."""
        entry = self._entry(reply, verdict, self._tiers.parts(size))
        stored = self._put(reply, entry)
        self._filler.begin(entry, reply.response.body, first, last_part(size) if last is None else last)
        return stored

    async def _keep_part(self, reply: Reply, verdict: Keep) -> Landing:
        """A part of a body was asked for, and has come: what is kept of it can be completed later."""
        assert reply.part is not None
        first, last, size = reply.part
        length = reply.response.body.length
        if length is not None and length != last - first + 1:
            await reply.response.body.close()
            return Trouble(status=502, result=ERROR, reason="origin-range", unreachable=False)
        if size > self._object_bytes_max or length is None:
            return self.private(reply, Why.TOO_LARGE if length is not None else Why.INCOMPLETE)
        if size <= PART_BYTES and length == size:
            data = await self._read(reply, size)
            return data if isinstance(data, Trouble) else self._stored(reply, verdict, data)
        whole_parts = last_part(last + 1) if last + 1 == size else (last + 1) // PART_BYTES - 1
        if first % PART_BYTES or whole_parts < first // PART_BYTES:
            return self.private(reply, Why.PARTIAL)
        return self._keep_parts(reply, verdict, size, first // PART_BYTES, whole_parts)

    def private(self, reply: Reply, why: Why) -> Private:
        """The answer is for the one who asked, under the conditions that were kept from the origin."""
        request, body = reply.visit.request, reply.response.body
        size, begins_at = body.length, 0
        if reply.part is not None:
            begins_at, _, size = reply.part
        answer = shaped(request, reply.status, reply.fields, size)
        if isinstance(answer, Answer):
            self._spawn(body.close())
        elif isinstance(answer, Span):
            fields = [*reply.fields, ("Content-Range", content_range(answer, size))]
            wanted = Span(answer.first - begins_at, answer.last - begins_at)
            answer = Answer(status=206, fields=fields, body=part_of(body, wanted))
        else:
            answer = Answer(status=reply.status, fields=reply.fields)
            if request.method == "HEAD":
                answer.content_length = size
                self._spawn(body.close())
            else:
                answer.body = body
        answer.result = result_word(reply.visit, answer.status, reply.result)
        answer.status_note = f"{reply.how}; detail={why.value}"
        return Private(answer=answer, why=why)

    def _entry(self, reply: Reply, verdict: Keep, body: bytes | Blob | Parts) -> Entry:
        return Entry(
            key=reply.visit.key,
            variance=verdict.variance,
            variant=variant_of(verdict.variance, reply.forwarded),
            status=reply.status,
            fields=encode_fields(reply.fields),
            body=body,
            freshness=verdict.freshness,
            requested_at=reply.requested_at,
            received_at=reply.received_at,
        )


def _coding(reply: Reply, length: int | None) -> Coding | None:
    visit, source = reply.visit, reply.response.headers
    if visit.distribution.standalone:
        return None
    return choose_coding(visit.behavior, visit.request.headers, status=reply.status, headers=source, length=length)
