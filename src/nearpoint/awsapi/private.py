"""What the world's own commands ask of the control plane and AWS has no call for: JSON, by the world's bearer token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote

import orjson

from nearpoint.awsproto import AwsError
from nearpoint.wire.message import Headers, Request, Response

PREFIX = "/-/"  # no bucket can be named `-`

# The request, and what follows its prefix, decoded. Raises AwsError.
PrivateCall = Callable[[Request, str], Awaitable[dict[str, Any]]]


class PrivateApi:
    """The Exchange below PREFIX. `calls` are by the first part of the path."""

    def __init__(self, token: str, calls: Mapping[str, PrivateCall]) -> None:
        self._authorization = f"Bearer {token}".encode()
        self._calls = calls

    async def handle(self, request: Request) -> Response:
        """The answer; what goes wrong is said as {"error": …}."""
        given = (request.headers.get("authorization") or "").encode("latin-1")
        if not hmac.compare_digest(given, self._authorization):
            return _json(401, {"error": "The token of this world's data folder is needed."})
        name, _, rest = request.path.removeprefix(PREFIX).partition("/")
        call = self._calls.get(name)
        if call is None:
            return _json(404, {"error": f"{request.path} is not known here."})
        try:
            return _json(200, await call(request, unquote(rest)))
        except AwsError as error:
            return _json(error.status, {"error": error.message, "code": error.code})


def _json(status: int, value: Any) -> Response:
    return Response(status, Headers([("Content-Type", "application/json")]), orjson.dumps(value))
