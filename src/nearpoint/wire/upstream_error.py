"""How an exchange with an origin fails."""

from __future__ import annotations

from typing import Literal

Reason = Literal["connect", "timeout", "lost", "protocol"]


class UpstreamError(Exception):
    """An exchange failed.

    - `reason`: `connect` no connection (refused, unreachable, handshake failed, too slow, none free in the pool),
      `timeout` no progress, `lost` the connection ended too early, `protocol` what came is not sound HTTP.
    - `retry_safe`: no byte of the request can have been acted on.
    """

    def __init__(self, reason: Reason, text: str, *, retry_safe: bool = False) -> None:
        super().__init__(text)
        self.reason: Reason = reason
        self.retry_safe = retry_safe


class StaleError(UpstreamError):
    """A pooled connection ended before a byte of the response: the server had most likely closed it already."""

    def __init__(self) -> None:
        super().__init__("lost", "a kept-alive connection had gone")
