"""What an operator's tools ask a process: is it alive, is it ready and if not why, and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from nearpoint.telemetry.metrics import Family, read, render
from nearpoint.wire.message import Exchange, Headers, Request, Response

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def admin(
    folder: Path,
    families: Sequence[Family],
    blocked: Callable[[], Sequence[str]],
    more: Mapping[str, Exchange] | None = None,
) -> Exchange:
    """A handler for /metrics (of every process that counts in `folder`), /-/live and /-/ready.

    `blocked` names what is still missing before requests can be served; nothing: ready.
    `more` are further paths and who answers for them.
    """

    async def handle(request: Request) -> Response:
        other = (more or {}).get(request.path)
        if other is not None:
            return await other(request)
        if request.method not in ("GET", "HEAD"):
            return _text(405, "only GET\n")
        match request.path:
            case "/metrics":
                return _text(200, render(read(folder), families), METRICS_TYPE)
            case "/-/live":
                return _text(200, "live\n")
            case "/-/ready":
                missing = blocked()
                return _text(503, "".join(f"{each}\n" for each in missing)) if missing else _text(200, "ready\n")
            case _:
                return _text(404, ", ".join(("/metrics", "/-/live", "/-/ready", *(more or {}))) + "\n")

    return handle


def _text(status: int, text: str | bytes, content_type: str = "text/plain; charset=utf-8") -> Response:
    body = text.encode() if isinstance(text, str) else text
    return Response(status, Headers([("Content-Type", content_type), ("Cache-Control", "no-store")]), body)
