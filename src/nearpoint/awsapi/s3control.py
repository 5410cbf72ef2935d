"""S3 control: Multi-Region Access Points, asynchronous as on AWS (S3 API Reference, S3 control).

Create, delete and put-policy are checked and done at once; the request that stands for them succeeds when every node
runs by the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import orjson

from nearpoint.awsapi.call import Call, Context, Handler
from nearpoint.awsapi.paging import page
from nearpoint.awsproto import AwsError
from nearpoint.stack.services import access_points
from nearpoint.state.resources import AccessPoint, Resource

SERVICE = "s3control"
# Where AWS serves them (S3 User Guide, "Managing Multi-Region Access Points", "failover controls").
HOME_REGION = "us-west-2"
ROUTE_REGIONS = ("us-east-1", "us-west-2", "ap-southeast-2", "ap-northeast-1", "eu-west-1")
PUBLISH_TIMEOUT_S = 120.0
ROUTES_TIMEOUT_S = 5.0
REQUESTS_KEPT = 1000
PAGE_DEFAULT, PAGE_MAX = 1000, 1000


class AsyncRequest(Resource, frozen=True, kw_only=True):
    """An asynchronous request. `status`: NEW (recorded), IN_PROGRESS (done, not yet at every node), SUCCESS, FAILED.

    `policy_before` is the policy that a put-policy takes the place of.
    """

    KIND: ClassVar[str] = "mrap-request"
    token: str
    operation: str
    client_token: str
    details: dict[str, Any]
    created_at: float
    status: str = "NEW"
    error_code: str = ""
    error_message: str = ""
    regions: tuple[str, ...] = ()
    policy_before: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        return self.token


_KINDS = {
    "CreateMultiRegionAccessPoint": "create",
    "DeleteMultiRegionAccessPoint": "delete",
    "PutMultiRegionAccessPointPolicy": "put-policy",
}


def _request_arn(account_id: str, request: AsyncRequest) -> str:
    kind = _KINDS[request.operation]
    return f"arn:aws:s3:{HOME_REGION}:{account_id}:async-request/mrap/{kind}/{request.token}"


def _check_place(call: Call, regions: tuple[str, ...]) -> None:
    if call.params.get("AccountId") != call.ctx.account_id:
        raise AwsError("AccessDenied", "Access Denied", status=403)
    if call.region not in regions:
        raise AwsError(
            "PermanentRedirect",
            f"{call.operation.name} is served in {', '.join(regions)}, not in {call.region}. Send the request there.",
            status=301,
            extra={"Endpoint": f"s3-control.{regions[0]}.amazonaws.com"},
        )


async def _submit(call: Call) -> Mapping[str, Any]:
    """Do what the call asks for, and answer with the request that stands for it."""
    _check_place(call, (HOME_REGION,))
    ctx, details, client_token = call.ctx, call.params["Details"], call.params["ClientToken"]
    if not 1 <= len(client_token) <= 64:
        raise AwsError("InvalidRequest", "A client token has 1 to 64 characters")
    for known in ctx.state.list(AsyncRequest):
        if known.client_token == client_token and known.operation == call.operation.name and known.status != "FAILED":
            if known.details != details:
                raise AwsError(
                    "IdempotencyException",
                    "The client token was used for another request with other parameters",
                    status=400,
                )
            return {"RequestTokenARN": _request_arn(ctx.account_id, known)}
    request = AsyncRequest(
        token=ctx.random_bytes(16).hex(),
        operation=call.operation.name,
        client_token=client_token,
        details=details,
        created_at=ctx.now(),
    )
    if request.operation == "PutMultiRegionAccessPointPolicy":
        request = _changed(request, policy_before=access_points.find(ctx.state, details["Name"]).policy)
    # Recorded first: what a crash leaves NEW is carried out by `resume`.
    await ctx.state.put(request)
    try:
        regions = await _apply(ctx, request)
    except AwsError:
        await ctx.state.delete(request)
        raise
    done = _changed(request, status="IN_PROGRESS", regions=regions)
    await ctx.state.put(done)
    ctx.spawn(_finish(ctx, done))
    return {"RequestTokenARN": _request_arn(ctx.account_id, done)}


def _changed(request: AsyncRequest, **changes: Any) -> AsyncRequest:
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    return AsyncRequest(**{**fields, **changes})


async def _apply(ctx: Context, request: AsyncRequest) -> tuple[str, ...]:
    """Carry it out; answers the regions it is about."""
    details = request.details
    name = details["Name"]
    if request.operation == "CreateMultiRegionAccessPoint":
        buckets = [
            access_points.BucketRef(bucket=region["Bucket"], account_id=region.get("BucketAccountId"))
            for region in details["Regions"]
        ]
        point = await access_points.create_access_point(
            ctx.domain, name=name, buckets=buckets, public_access_block=details.get("PublicAccessBlock")
        )
    elif request.operation == "DeleteMultiRegionAccessPoint":
        point = access_points.find(ctx.state, name)
        await access_points.delete_access_point(ctx.domain, name)
    else:
        point = await access_points.put_policy(ctx.domain, name, details["Policy"])
    return tuple(member.region for member in point.members)


async def _finish(ctx: Context, request: AsyncRequest) -> None:
    if not await ctx.published(PUBLISH_TIMEOUT_S):
        request = _changed(
            request,
            status="FAILED",
            error_code="InternalError",
            error_message=f"Not every node had the change after {PUBLISH_TIMEOUT_S:.0f} seconds",
        )
    else:
        request = _changed(request, status="SUCCESS")
    await ctx.state.put(request)
    finished = [known for known in ctx.state.list(AsyncRequest) if known.status in {"SUCCESS", "FAILED"}]
    finished.sort(key=lambda known: known.created_at)
    for old in finished[:-REQUESTS_KEPT]:
        await ctx.state.delete(old)


async def resume(ctx: Context) -> None:
    """Carry on with the requests that an earlier process left unfinished."""
    for request in ctx.state.list(AsyncRequest):
        if request.status == "NEW":
            try:
                regions = await _apply(ctx, request)
                request = _changed(request, status="IN_PROGRESS", regions=regions)  # noqa: PLW2901
            except AwsError as error:
                # It may have been done just before the end: then that is why it can't be done again.
                gone_through = error.code in {"MultiRegionAccessPointAlreadyOwnedByYou", "NoSuchMultiRegionAccessPoint"}
                request = _changed(  # noqa: PLW2901
                    request,
                    status="IN_PROGRESS" if gone_through else "FAILED",
                    error_code="" if gone_through else error.code,
                    error_message="" if gone_through else error.message,
                )
            await ctx.state.put(request)
        if request.status == "IN_PROGRESS":
            ctx.spawn(_finish(ctx, request))


async def describe_operation(call: Call) -> Mapping[str, Any]:
    _check_place(call, (HOME_REGION,))
    arn = call.params["RequestTokenARN"]
    request = call.ctx.state.get(AsyncRequest, arn.rpartition("/")[2])
    if request is None or arn not in {_request_arn(call.ctx.account_id, request), request.token}:
        raise AwsError("NoSuchAsyncRequest", "The specified async request does not exist", status=404)
    failed = request.status == "FAILED"
    return {
        "AsyncOperation": {
            "CreationTime": request.created_at,
            "Operation": request.operation,
            "RequestTokenARN": _request_arn(call.ctx.account_id, request),
            "RequestParameters": {f"{request.operation}Request": request.details},
            "RequestStatus": request.status,
            "ResponseDetails": {
                "MultiRegionAccessPointDetails": {
                    "Regions": [{"Name": region, "RequestStatus": request.status} for region in request.regions]
                },
                "ErrorDetails": {
                    "Code": request.error_code,
                    "Message": request.error_message,
                    "Resource": request.details["Name"],
                    "RequestId": request.token,
                }
                if failed
                else None,
            },
        }
    }


def _under_way(ctx: Context, operation: str, name: str) -> AsyncRequest | None:
    """The latest request of that kind that is not at every node yet."""
    found = [
        each
        for each in ctx.state.list(AsyncRequest)
        if each.operation == operation and each.status == "IN_PROGRESS" and each.details["Name"] == name
    ]
    return max(found, key=lambda each: each.created_at, default=None)


def _report(ctx: Context, point: AccessPoint) -> dict[str, Any]:
    is_new = _under_way(ctx, "CreateMultiRegionAccessPoint", point.name) is not None
    return {
        "Name": point.name,
        "Alias": point.alias,
        "CreatedAt": point.created_at,
        "PublicAccessBlock": point.public_access_block,
        "Status": "CREATING" if is_new else point.status,
        "Regions": [
            {"Bucket": member.bucket, "Region": member.region, "BucketAccountId": point.account_id}
            for member in point.members
        ],
    }


async def get_access_point(call: Call) -> Mapping[str, Any]:
    _check_place(call, (HOME_REGION,))
    return {"AccessPoint": _report(call.ctx, access_points.find(call.ctx.state, call.params["Name"]))}


async def list_access_points(call: Call) -> Mapping[str, Any]:
    _check_place(call, (HOME_REGION,))
    count = call.params.get("MaxResults", PAGE_DEFAULT)
    if not 0 <= count <= PAGE_MAX:
        raise AwsError("InvalidRequest", f"MaxResults is 0 to {PAGE_MAX}")
    points = sorted(call.ctx.state.list(AccessPoint), key=lambda point: point.name)
    found, token = page(
        points, lambda point: point.name, call.params.get("NextToken"), count, error_code="InvalidRequest"
    )
    return {"AccessPoints": [_report(call.ctx, point) for point in found], "NextToken": token}


async def get_policy(call: Call) -> Mapping[str, Any]:
    _check_place(call, (HOME_REGION,))
    point = access_points.find(call.ctx.state, call.params["Name"])
    if point.policy is None:
        raise AwsError("NoSuchMultiRegionAccessPointPolicy", "The Multi-Region Access Point has no policy", status=404)
    put = _under_way(call.ctx, "PutMultiRegionAccessPointPolicy", point.name)
    established = point.policy if put is None else put.policy_before
    return {"Policy": {"Established": _document(established), "Proposed": _document(point.policy)}}


def _document(policy: dict[str, Any] | None) -> dict[str, str] | None:
    return None if policy is None else {"Policy": orjson.dumps(policy).decode()}


async def get_policy_status(call: Call) -> Mapping[str, Any]:
    _check_place(call, (HOME_REGION,))
    point = access_points.find(call.ctx.state, call.params["Name"])
    if point.policy is None:
        raise AwsError("NoSuchMultiRegionAccessPointPolicy", "The Multi-Region Access Point has no policy", status=404)
    return {"Established": {"IsPublic": access_points.is_public_policy(point.policy)}}


def _by_arn(call: Call) -> AccessPoint:
    """The access point of a call about routes, which takes an ARN and nothing else. Raises AwsError."""
    arn = call.params["Mrap"]
    if not access_points.ARN.fullmatch(arn):
        raise AwsError("InvalidRequest", f"{arn[:200]!r} is not the ARN of a Multi-Region Access Point", status=400)
    return access_points.find(call.ctx.state, arn)


async def get_routes(call: Call) -> Mapping[str, Any]:
    _check_place(call, ROUTE_REGIONS)
    point = _by_arn(call)
    return {
        "Mrap": point.arn,
        "Routes": [
            {"Bucket": member.bucket, "Region": member.region, "TrafficDialPercentage": member.dial_percent}
            for member in point.members
        ],
    }


async def submit_routes(call: Call) -> Mapping[str, Any]:
    _check_place(call, ROUTE_REGIONS)
    updates = [
        access_points.RouteUpdate(
            bucket=route.get("Bucket"), region=route.get("Region"), dial_percent=route["TrafficDialPercentage"]
        )
        for route in call.params["RouteUpdates"]
    ]
    await access_points.submit_routes(call.ctx.domain, _by_arn(call).arn, updates)
    await call.ctx.published(ROUTES_TIMEOUT_S)  # a node that is silent for longer hears of it when it is back
    return {}


HANDLERS: dict[str, Handler] = {
    "CreateMultiRegionAccessPoint": _submit,
    "DeleteMultiRegionAccessPoint": _submit,
    "PutMultiRegionAccessPointPolicy": _submit,
    "DescribeMultiRegionAccessPointOperation": describe_operation,
    "GetMultiRegionAccessPoint": get_access_point,
    "ListMultiRegionAccessPoints": list_access_points,
    "GetMultiRegionAccessPointPolicy": get_policy,
    "GetMultiRegionAccessPointPolicyStatus": get_policy_status,
    "GetMultiRegionAccessPointRoutes": get_routes,
    "SubmitMultiRegionAccessPointRoutes": submit_routes,
}


def _arn(call: Call) -> str:
    """What policies are asked about: the access point's ARN with its alias, or with its name while there is none."""
    params = call.params
    wanted = params.get("Mrap") or params.get("Name") or params.get("Details", {}).get("Name", "")
    try:
        return access_points.find(call.ctx.state, wanted).arn
    except AwsError:
        return f"arn:aws:s3::{call.ctx.account_id}:accesspoint/{wanted}"


RESOURCES = {
    name: _arn
    for name in HANDLERS
    if name not in {"ListMultiRegionAccessPoints", "DescribeMultiRegionAccessPointOperation"}
}
