"""Where the code of a function is fetched from: `Code.Location` of Lambda's GetFunction, good for ten minutes.

On AWS it is a presigned address in a bucket of Lambda's own. Here it is signed with the caller's own key, so whoever
uses it is known, and asked for the same permission again.
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from nearpoint.awsapi.authorize import allows, conditions_of, policies_of
from nearpoint.awsapi.call import Call, Context
from nearpoint.awsproto import AwsError
from nearpoint.signing import Credentials, Message, presign_v4
from nearpoint.stack.services import functions
from nearpoint.stack.services.packages import path_of
from nearpoint.state.resources import Function
from nearpoint.state.sessions import Identity
from nearpoint.wire.message import Headers, Request, Response
from nearpoint.wire.uri import encode

EXPIRES_S = 600  # Lambda API Reference, GetFunction: "a presigned URL that's valid for 10 minutes"
ACTION = "lambda:GetFunction"


def _bucket(region: str) -> str:
    return f"awslambda-{region}-tasks"


def is_code_bucket(name: str | None) -> bool:
    """Whether that is the bucket that Lambda's addresses lead to; on AWS these are Lambda's own."""
    return name is not None and name.startswith("awslambda-") and name.endswith("-tasks")


def location(call: Call, function: Function) -> str:
    """The address that the function's package is fetched from."""
    host = f"{_bucket(call.region)}.s3.{call.region}.amazonaws.com"
    path = f"/snapshots/{call.ctx.account_id}/{encode(f'{function.name}:{function.version}')}"
    identity = call.identity
    query = presign_v4(
        Message("GET", path, "", [("host", host)]),
        Credentials(identity.access_key_id, identity.secret_key, identity.session_token),
        region=call.region,
        now=datetime.fromtimestamp(call.ctx.now(), UTC),
        expires_s=EXPIRES_S,
    )
    return f"https://{host}{path}?{query}"


async def answer(ctx: Context, request: Request, identity: Identity, key: str | None, region: str) -> Response:
    """The package at such an address, whose signature has been proven. Raises AwsError (AccessDenied, NoSuchKey)."""
    reference = (key or "").rpartition("/")[2]
    try:
        function = functions.find(ctx.domain, region, reference)
    except AwsError:
        raise AwsError("NoSuchKey", extra={"Key": key or ""}) from None
    conditions = conditions_of(request, identity, ctx.now(), region)
    if not allows(policies_of(identity, ctx.snapshot()), ACTION, function.arn, conditions):
        raise AwsError("AccessDenied")
    path = path_of(ctx.packages, function.code_sha256)
    try:
        data = await asyncio.to_thread(path.read_bytes)
    except FileNotFoundError:  # the function has been given another package a moment ago
        raise AwsError("NoSuchKey", extra={"Key": key or ""}) from None
    return Response(200, Headers([("Content-Type", "application/zip")]), data)
