"""Presigned requests that have been verified before: the same URL is the same signature, good until it expires.

Only requests whose signature covers nothing but the method, the target and the Host are remembered, so nothing that a
client may vary goes unchecked.
"""

from __future__ import annotations

from collections import OrderedDict
from datetime import datetime, timedelta

from nearpoint.accesspoint.authorize import Caller
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


class KnownCallers:
    """The latest verified presigned requests, least recently used forgotten first."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, str | None], tuple[Caller, datetime, Snapshot]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, request: Request, snapshot: Snapshot, now: datetime) -> Caller | None:
        """Who sent this request, when it has been verified before and nothing has changed since."""
        key = (request.method, request.target, request.headers.get("host"))
        found = self._known.get(key)
        if found is None or _varies(request) or request.body.length != 0:
            return None
        caller, good_until, seen = found
        if now > good_until:
            del self._known[key]
            return None
        if seen is not snapshot:
            claim = caller.claim
            if find_identity(snapshot, claim.access_key_id, claim.session_token) != caller.identity:
                del self._known[key]
                return None
            self._known[key] = (caller, good_until, snapshot)
        self._known.move_to_end(key)
        return caller

    def remember(self, request: Request, caller: Caller, snapshot: Snapshot) -> None:
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
            return
        good_until = claim.signed_at + timedelta(seconds=claim.expires_s)
        if caller.identity.expires_at is not None:
            good_until = min(good_until, datetime.fromtimestamp(caller.identity.expires_at, claim.signed_at.tzinfo))
        key = (request.method, request.target, request.headers.get("host"))
        self._known[key] = (caller, good_until, snapshot)
        if len(self._known) > CALLERS_MAX:
            self._known.popitem(last=False)
