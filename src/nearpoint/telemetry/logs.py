"""One log line an event: text on a terminal, JSON otherwise. Always to standard error: standard output is data."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import orjson
import structlog


def _json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=str).decode()


class _StandardError:
    """What structlog writes to. A line that the disk does not take is dropped: no request may fail by its log."""

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, line.encode("utf-8", "backslashreplace") + b"\n")

    log = debug = info = warn = warning = error = critical = exception = failure = fatal = msg


def configure(process: str, *, level: int = 20) -> None:
    """Set up logging for this process, whose name goes into every line. `level`: the standard library's numbers."""
    terminal = sys.stderr.isatty()
    render: Any = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(serializer=_json)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: _StandardError(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(process=process)
