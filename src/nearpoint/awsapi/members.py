"""What AWS has no call for: reading and editing the members of an access point, for the world's own commands.

GET    members/NAME           the access point's name, alias and members
PUT    members/NAME           {"bucket": B, "dial_percent": N}: add it, or turn its dial
DELETE members/NAME/REGION    take a member out whose dial is 0

Answered when every node runs by it.
"""

from __future__ import annotations

from typing import Any

import orjson

from nearpoint.awsapi.call import Context
from nearpoint.awsproto import AwsError
from nearpoint.stack.services import access_points, members
from nearpoint.state.resources import AccessPoint
from nearpoint.wire.message import BodyTooLargeError, Request, read_all

PUBLISH_TIMEOUT_S = 60.0
BODY_BYTES_MAX = 4096


class Members:
    """A `PrivateCall`."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx

    async def __call__(self, request: Request, path: str) -> dict[str, Any]:
        """Raises AwsError."""
        return _shown(await self._answer(request, path))

    async def _answer(self, request: Request, path: str) -> AccessPoint:
        name, _, region = path.partition("/")
        match request.method, region:
            case "GET", "":
                return access_points.find(self._ctx.state, name)
            case "PUT", "":
                try:
                    wanted = orjson.loads(await read_all(request.body, BODY_BYTES_MAX))
                    bucket, dial_percent = str(wanted["bucket"]), int(wanted["dial_percent"])
                except (BodyTooLargeError, ValueError, KeyError, TypeError) as error:
                    raise AwsError("InvalidRequest", 'The body is {"bucket": …, "dial_percent": …}.') from error
                point = await members.put_member(self._ctx.domain, name, bucket, dial_percent)
            case "DELETE", region if region:
                point = await members.remove_member(self._ctx.domain, name, region)
            case _:
                raise AwsError("MethodNotAllowed")
        if not await self._ctx.published(PUBLISH_TIMEOUT_S):
            raise AwsError("ServiceUnavailable", "Not every node runs by the change yet. Try again.", status=503)
        return point


def _shown(point: AccessPoint) -> dict[str, Any]:
    return {
        "name": point.name,
        "alias": point.alias,
        "members": [
            {"region": member.region, "bucket": member.bucket, "dial_percent": member.dial_percent}
            for member in point.members
        ],
    }
