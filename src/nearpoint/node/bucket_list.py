"""ListBuckets of a stand-alone access point: the aliases, which clients use as bucket names."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from nearpoint.accesspoint.authorize import View, authenticate
from nearpoint.awsproto import AwsError, load_service
from nearpoint.policy.evaluate import RequestContext, evaluate
from nearpoint.state.resources import Snapshot
from nearpoint.wire.message import Request, Response

ACTION = "s3:ListAllMyBuckets"


def answer_list_buckets(request: Request, snapshot: Snapshot, now: datetime) -> Response:
    """Every access point, for a caller who may list buckets; S3's error for another."""
    service = load_service("s3")
    request_id = secrets.token_hex(8).upper()
    try:
        view = View(snapshot)
        identity = authenticate(request, view.identity, now).identity
        context = RequestContext(
            action=ACTION, resource="*", principals=(("AWS", identity.principal_arn),), conditions={}
        )
        if not evaluate(view.policies_of(identity), context).allowed:
            text = f'User: {identity.principal_arn} is not authorized to perform: {ACTION} on resource: "*"'
            raise AwsError("AccessDenied", text)
    except AwsError as error:
        return service.error(error, request_id)
    buckets = [
        {"Name": one.alias, "CreationDate": datetime.fromtimestamp(one.created_at, UTC)}
        for _, one in sorted(snapshot.access_points.items())
    ]
    owner = {"ID": snapshot.account_id, "DisplayName": snapshot.account_id}
    return service.serialize(service.operations["ListBuckets"], {"Buckets": buckets, "Owner": owner}, request_id)
