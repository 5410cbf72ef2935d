"""A body that has to be complete by a certain moment (Developer Guide, "Response completion timeout")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from nearpoint.wire.client import UpstreamError
from nearpoint.wire.message import Body


class BodyInTime:
    """A body (wire's `Body`) that raises UpstreamError when its end has not come by `deadline`, of the loop's clock."""

    __slots__ = ("_body", "_deadline")

    def __init__(self, body: Body, deadline: float) -> None:
        self._body = body
        self._deadline = deadline

    @property
    def length(self) -> int | None:
        return self._body.length

    @property
    def delimited(self) -> bool:
        return self._body.delimited

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._body)
        while True:
            try:
                async with asyncio.timeout_at(self._deadline):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError:
                await self._body.close()
                text = "the answer was not complete in time"
                raise UpstreamError("timeout", text, retry_safe=False) from None
            yield chunk

    async def close(self) -> None:
        """Stop reading."""
        await self._body.close()
