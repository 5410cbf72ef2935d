"""Answers a waiter when there is something to tell.

`aws … wait`, `aws cloudformation deploy` and boto3's waiters ask at once and then every 20 to 60 seconds, as suits AWS.
What takes a second here would cost them half a minute, so the answer to a waiter that would hear "not yet" is held.
Clients say in User-Agent what they use: `m/` and letters, `B` for a waiter (botocore, `useragent`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from nearpoint.awsapi.call import Call

HOLD_S = 20.0  # clients give up on an answer after 60
_LOOK_S = 0.05
_FEATURES = re.compile(r"(?:^| )m/([A-Za-z0-9,+-]{1,1024})")


def is_waiter(user_agent: str) -> bool:
    """Whether a User-Agent is that of a waiter."""
    found = _FEATURES.search(user_agent)
    return found is not None and "B" in found[1].split(",")


async def until(call: Call, is_over: Callable[[], bool]) -> None:
    """Return when `is_over` says so, after HOLD_S at the latest; at once where no waiter asks. Raises as it does."""
    if is_waiter(call.request.headers.get("user-agent") or ""):
        for _ in range(int(HOLD_S / _LOOK_S)):
            if is_over():
                return
            await asyncio.sleep(_LOOK_S)
