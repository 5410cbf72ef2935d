"""The way from one location's edge to another's, which is the shield of an origin.

Whoever asks shows a token that the nodes of one control plane share; without it a request is any viewer's.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping

from nearpoint.edge.shield import HOST, TOKEN_FIELD
from nearpoint.state.resources import Snapshot
from nearpoint.wire.client import Client, Origin, Timeouts
from nearpoint.wire.message import Request, Response

CONNECT_S = 2.0


def shield_token(snapshot: Snapshot) -> str:
    """What the nodes of this control plane know each other by."""
    return hmac.digest(snapshot.session_secret.encode(), b"nearpoint origin shield", "sha256").hex()


def is_from_shielded(request: Request, snapshot: Snapshot) -> bool:
    """Whether a request comes from another location's edge."""
    if request.host != HOST or not snapshot.session_secret:
        return False
    shown = request.headers.get(TOKEN_FIELD) or ""
    return hmac.compare_digest(shown.encode("latin-1", "replace"), shield_token(snapshot).encode())


class Shields:
    """`OriginShields` of one location. `ways`: by Region, where its shield is reached; None: it is this location."""

    def __init__(self, ways: Mapping[str, Origin | None], *, client: Client, snapshot: Callable[[], Snapshot]) -> None:
        self._ways = ways
        self._client = client
        self._snapshot = snapshot

    def stands_before(self, region: str) -> bool:
        """Whether there is a shield for origins in this Region, and it is not this edge itself."""
        return self._ways.get(region) is not None

    async def ask(self, region: str, request: Request, timeout_s: float) -> Response:
        """Ask it. Raises UpstreamError."""
        way = self._ways[region]
        assert way is not None
        request.headers.set(TOKEN_FIELD, shield_token(self._snapshot()))
        return await self._client.send(request, way, Timeouts(connect_s=CONNECT_S, read_s=timeout_s))
