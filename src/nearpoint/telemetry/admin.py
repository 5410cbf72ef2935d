"""What an operator's tools ask a process: is it alive, is it ready and if not why, and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from nearpoint.telemetry.metrics import Family, read, render
from nearpoint.wire.message import Exchange, Headers, Request, Response

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def admin(folder: Path, families: Sequence[Family], blocked: Callable[[], Sequence[str]]) -> Exchange:
    """A handler for /metrics (of every process that counts in `folder`), /-/live and /-/ready.

    `blocked` names what is still missing before requests can be served; nothing: ready.
    """

    async def handle(request: Request) -> Response:
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
                return _text(404, "/metrics, /-/live or /-/ready\n")

    return handle


def _text(status: int, text: str | bytes, content_type: str = "text/plain; charset=utf-8") -> Response:
    body = text.encode() if isinstance(text, str) else text
    return Response(status, Headers([("Content-Type", content_type), ("Cache-Control", "no-store")]), body)
