"""What an access point does beyond AWS, read and changed by the world's own commands.

GET   settings/NAME    the access point's name, alias and settings
PUT   settings/NAME    {"read_fallback": false, …}: what is named changes; answered when every node runs by it
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from nearpoint.awsapi.call import Context
from nearpoint.awsproto import AwsError
from nearpoint.stack.services import access_points
from nearpoint.state.resources import AccessPoint
from nearpoint.wire.message import BodyTooLargeError, Request, read_all

PUBLISH_TIMEOUT_S = 60.0
BODY_BYTES_MAX = 4096


class Change(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a PUT names; the others stay."""

    read_fallback: bool | None = None
    hedge_reads: bool | None = None
    affinity: bool | None = None


NAMES = Change.__struct_fields__


class PointSettings:
    """A `PrivateCall`."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def __call__(self, request: Request, name: str) -> dict[str, Any]:
        """Raises AwsError."""
        if request.method == "GET":
            return _shown(access_points.find(self._ctx.state, name))
        if request.method != "PUT":
            raise AwsError("MethodNotAllowed")
        try:
            change = msgspec.json.decode(await read_all(request.body, BODY_BYTES_MAX), type=Change)
        except (BodyTooLargeError, msgspec.MsgspecError) as error:
            raise AwsError("InvalidRequest", f"The body names settings ({', '.join(NAMES)}): {error}") from error
        named = {name: value for name in NAMES if (value := getattr(change, name)) is not None}
        point = await access_points.change_settings(self._ctx.domain, name, named)
        if not await self._ctx.published(PUBLISH_TIMEOUT_S):
            raise AwsError("ServiceUnavailable", "Not every node runs by the change yet. Try again.", status=503)
        return _shown(point)


def _shown(point: AccessPoint) -> dict[str, Any]:
    return {"name": point.name, "alias": point.alias, "settings": {name: getattr(point, name) for name in NAMES}}
