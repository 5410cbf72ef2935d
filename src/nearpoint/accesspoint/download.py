"""The body of a download, carried on by the other regions, then by the first again, when it breaks off."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from nearpoint.accesspoint.attempt import Attempts, Incoming
from nearpoint.accesspoint.resume import Download, fits, resume_headers, resume_query
from nearpoint.accesspoint.routes import Route
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.message import Request, Response, StreamBody

log = structlog.get_logger("nearpoint.accesspoint")


class _Current:
    """The answer that a download is being read from at the moment."""

    __slots__ = ("response",)

    def __init__(self, response: Response) -> None:
        self.response = Response(response.status, response.headers, response.body)

    async def close(self) -> None:
        await self.response.body.close()


def carried_on(
    incoming: Incoming,
    route: Route,
    others: Sequence[Route],
    response: Response,
    download: Download,
    attempts: Attempts,
    failed: Callable[[Route, UpstreamError], None],
) -> StreamBody:
    """The whole body of `response`, which came from `route`. `others` are asked in their order; `failed` is told."""
    current = _Current(response)

    async def chunks() -> AsyncIterator[bytes]:
        sent = 0
        left = [*others, route]
        at = route
        while True:
            try:
                async for piece in current.response.body:
                    sent += len(piece)
                    yield piece
            except UpstreamError as error:
                failed(at, error)
                await current.close()
                found = await _rest(incoming, left, download, sent, attempts, failed)
                if found is None:
                    raise
                at, current.response = found
                left.remove(at)
                log.info("download goes on", region=at.region, after_bytes=sent)
            else:
                return

    return StreamBody(chunks(), download.length, current.close)


async def _rest(
    incoming: Incoming,
    routes: Sequence[Route],
    download: Download,
    sent: int,
    attempts: Attempts,
    failed: Callable[[Route, UpstreamError], None],
) -> tuple[Route, Response] | None:
    request = incoming.request
    rest = Request(request.method, request.path, resume_headers(request.headers, download, sent))
    query = resume_query(request.query)
    ordered = attempts.living_first(routes)
    for route in ordered:
        try:
            response = await attempts.rest(incoming, rest, query, route, is_last=route is ordered[-1])
        except UpstreamError as error:
            failed(route, error)
            continue
        if fits(download, sent, response.status, response.headers):
            return route, response
        await response.body.close()
    return None
