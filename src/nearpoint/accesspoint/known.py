"""Presigned requests that have been verified before: the same URL is the same signature, good until it expires.

What was found out about such a request is kept with it: its call, and the requests that went to the stores for it.
Only requests whose signature covers nothing but the method, the target and the Host are remembered, so nothing that a
client may vary goes unchecked.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

from nearpoint.accesspoint.authorize import Caller
from nearpoint.accesspoint.call import Call
from nearpoint.accesspoint.routes import RouteTable
from nearpoint.state.resources import Snapshot
from nearpoint.state.sessions import find_identity
from nearpoint.wire.message import Request

CALLERS_MAX = 4_096
# A target of 16 KB each would make 64 MB of it; longer ones are verified every time.
TARGET_CHARACTERS_MAX = 2_048
_METHODS = frozenset({"GET", "HEAD"})


def _varies(request: Request) -> bool:
    """Whether the request carries anything that a signature would have to cover."""
    return any(name[:6].lower() == "x-amz-" or name.lower() == "content-md5" for name, _ in request.headers)


class Known:
    """A verified request. `table` and `call` are what it asks for; `prepared` holds, by region, the header fields it
    came with, until when (monotonic seconds) the store's request is good, its bucket, and the store's request itself.
    """

    __slots__ = ("call", "caller", "good_until", "prepared", "snapshot", "table")

    def __init__(self, caller: Caller, good_until: datetime, snapshot: Snapshot) -> None:
        self.caller = caller
        self.good_until = good_until
        self.snapshot = snapshot
        self.table: RouteTable | None = None
        self.call: Call | None = None
        self.prepared: dict[str, tuple[list[tuple[str, str]], float, str, Request]] = {}


class KnownCallers:
    """The latest verified presigned requests, least recently used forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, str | None], Known] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, request: Request, snapshot: Snapshot, now: datetime) -> Known | None:
        """This request, when it has been verified before and nothing has changed since."""
        key = (request.method, request.target, request.headers.get("host"))
        found = self._known.get(key)
        if found is None or _varies(request) or request.body.length != 0:
            return None
        if now > found.good_until:
            del self._known[key]
            return None
        if found.snapshot is not snapshot:
            claim = found.caller.claim
            if find_identity(snapshot, claim.access_key_id, claim.session_token) != found.caller.identity:
                del self._known[key]
                return None
            found.snapshot = snapshot
        self._known.move_to_end(key)
        return found

    def remember(self, request: Request, caller: Caller, snapshot: Snapshot) -> Known | None:
        """Take in a caller that has just been verified, if the request is one that can be remembered."""
        claim = caller.claim
        if (
            claim.form != "query"
            or claim.expires_s is None
            or claim.signed_headers != ("host",)
            or request.method not in _METHODS
            or len(request.target) > TARGET_CHARACTERS_MAX
            or request.body.length != 0
            or _varies(request)
        ):
            return None
        good_until = claim.signed_at + timedelta(seconds=claim.expires_s)
        if caller.identity.expires_at is not None:
            good_until = min(good_until, datetime.fromtimestamp(caller.identity.expires_at, claim.signed_at.tzinfo))
        known = Known(caller, good_until, snapshot)
        self._known[request.method, request.target, request.headers.get("host")] = known
        if len(self._known) > CALLERS_MAX:
            self._known.popitem(last=False)
        return known
