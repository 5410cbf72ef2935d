"""One line for each request, written when its answer has gone out: JSON, or text for a terminal.

A line never holds a signature: what a presigned URL carries of one is left out, and of the credentials only the access
key id is shown.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from urllib.parse import unquote

import orjson

from nearpoint.regions.forward import outgoing_query
from nearpoint.wire.message import Body, BytesBody, Exchange, Request, Response, StreamBody

FLUSH_S = 0.05
ACCESS_KEY_ID_MAX = 128
LINES_MAX = 1000  # that wait, then they are written at once
CLIENT_GONE = 499  # what nginx logs for it
_CREDENTIAL_IN_QUERY = re.compile(r"(?:^|&)X-Amz-Credential=([^&]{1,200})", re.IGNORECASE)


class RequestLog:
    """Wraps an Exchange. `write` gets whole lines, many at a time."""

    def __init__(
        self,
        handler: Exchange,
        write: Callable[[bytes], object],
        *,
        terminal: bool = False,
        time_s: Callable[[], float] = time.time,
        clock_s: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._handler = handler
        self._write = write
        self._terminal = terminal
        self._time_s = time_s
        self._second = -1
        self._moment = ""
        self._clock_s = clock_s
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None

    async def handle(self, request: Request) -> Response:
        """Answer by way of the wrapped handler."""
        started_s = self._clock_s()
        try:
            response = await self._handler(request)
        except BaseException:
            self._add(request, CLIENT_GONE, 0, started_s, None)
            raise
        body = response.body
        if isinstance(body, BytesBody):
            self._add(request, response.status, len(body.data), started_s, response)
        else:

            def done(sent_bytes: int, complete: bool) -> None:
                self._add(request, response.status, sent_bytes, started_s, response, complete)

            response.body = _counted(body, done)
        return response

    def flush(self) -> None:
        """Write the lines that wait."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            try:
                self._write(b"".join(lines))
            except OSError:
                return  # a full disk or a closed pipe costs lines, never answers

    def _add(
        self,
        request: Request,
        status: int,
        sent_bytes: int,
        started_s: float,
        response: Response | None,
        complete: bool = True,
    ) -> None:
        now_s = self._time_s()
        second = int(now_s)
        if second != self._second:
            self._second = second
            self._moment = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        target, _, query = request.target.partition("?")
        fields = {
            "at": f"{self._moment}.{int((now_s - second) * 1000):03}Z",
            "client": request.client_ip,
            "access_key_id": _access_key_id(request.headers.get("authorization"), query),
            "method": request.method,
            "host": request.headers.get("host") or "",
            "path": target,
            "query": _without_signature(query) if query else "",
            "status": status,
            "bytes": sent_bytes,
            "ms": round((self._clock_s() - started_s) * 1000, 2),
            "region": None if response is None else _region(response.headers.get("x-nearpoint-region")),
            "request_id": None if response is None else response.headers.get("x-amz-request-id"),
            "complete": complete,
        }
        self._lines.append(_text(fields) if self._terminal else orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE))
        if len(self._lines) >= LINES_MAX:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self.flush)


def _text(fields: Mapping[str, object]) -> bytes:
    target = f"{fields['path']}?{fields['query']}" if fields["query"] else fields["path"]
    line = (
        f"{str(fields['at'])[11:23]} {fields['status']} {fields['method']:<6} {target}  {fields['bytes']} B  "
        f"{fields['ms']} ms  {fields['region'] or '-'}  {fields['access_key_id'] or '-'}"
    )
    # A terminal must not be driven by what a client sends.
    return "".join(char if char.isprintable() else "?" for char in line).encode() + b"\n"


def _without_signature(query: str) -> str:
    """The query without what a presigned URL is signed by, in SigV4 and in the old SigV2 (which is refused)."""
    parts = outgoing_query(query).split("&")
    return "&".join(part for part in parts if unquote(part.partition("=")[0]).lower() != "signature")


def _region(said: str | None) -> str | None:
    """The region that answered; None where none did."""
    return None if said == "none" else said


def _access_key_id(authorization: str | None, query: str) -> str | None:
    if authorization is not None:
        _, _, rest = authorization.partition("Credential=")
        return rest.partition("/")[0][:ACCESS_KEY_ID_MAX] or None
    in_query = _CREDENTIAL_IN_QUERY.search(query) if query else None
    return None if in_query is None else unquote(in_query[1]).partition("/")[0]


def _counted(body: Body, done: Callable[[int, bool], None]) -> StreamBody:
    """The body; `done` hears once how much of it was sent, and whether that was all."""
    sent_bytes = 0
    told = False

    def tell(complete: bool) -> None:
        nonlocal told
        if not told:
            told = True
            done(sent_bytes, complete)

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent_bytes
        async for piece in body:
            sent_bytes += len(piece)
            yield piece
        tell(True)

    async def close() -> None:
        try:
            await body.close()
        finally:
            tell(False)

    return StreamBody(chunks(), body.length, close, delimited=body.delimited)
