"""Answers S3 requests for a region whose store is somebody else's. The phases of a request, in order:

claim and signature (the foreign store's own credentials) → replication's own calls (`internal`) → operation →
replication rules, which are kept here → the client's call (`calls`), on to the store and back.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog

from nearpoint.awsproto import AwsError, load_service
from nearpoint.bucket.internal import PATH as INTERNAL_PATH
from nearpoint.gateway.abilities import Abilities
from nearpoint.gateway.calls import Call, Calls, document
from nearpoint.gateway.entries import UnloggedError
from nearpoint.gateway.internal import Internal
from nearpoint.gateway.kept import Kept
from nearpoint.gateway.log import JetStreamLog
from nearpoint.gateway.origin import Origin
from nearpoint.regions.payload import payload_of
from nearpoint.regions.rules import check, destination_buckets
from nearpoint.signing import Credentials, Message, SignatureError, Verified, read_claim, verify
from nearpoint.wire.client import UpstreamError
from nearpoint.wire.message import Headers, Request, Response

log = structlog.get_logger("nearpoint.gateway")


class GatewayServer:
    """An Exchange that speaks S3, path style, for the holder of the store's access key."""

    def __init__(
        self,
        *,
        credentials: Credentials,
        signing_region: str,
        clock: Callable[[], datetime],
        origin: Origin,
        calls: Calls,
        internal: Internal,
        kept: Kept,
        log: JetStreamLog,
        abilities: Abilities,
    ) -> None:
        self._credentials = credentials
        self._signing_region = signing_region
        self._clock = clock
        self._origin = origin
        self._calls = calls
        self._internal = internal
        self._kept = kept
        self._log = log
        self._abilities = abilities
        self._service = load_service("s3")
        self._numbers = itertools.count(int.from_bytes(os.urandom(8), "big") >> 1)

    async def handle(self, request: Request) -> Response:
        """The Exchange."""
        try:
            return await self._answer(request)
        except AwsError as error:
            return self._error(request, error)
        except SignatureError as error:
            return self._error(request, AwsError(error.code, error.text, extra=error.fields))
        except UnloggedError as error:
            return self._error(request, AwsError("ServiceUnavailable", f"The log of {self._origin.region}: {error}"))
        except UpstreamError as error:
            # 503 says that nothing has been done (S3 API Reference, ServiceUnavailable); where that is not sure, 500.
            is_read = request.method in ("GET", "HEAD")
            code = "ServiceUnavailable" if error.retry_safe or is_read else "InternalError"
            return self._error(request, AwsError(code, f"The store of {self._origin.region}: {error}"))

    def _error(self, request: Request, error: AwsError) -> Response:
        request_id = f"{next(self._numbers):016X}"
        response = self._service.error(error, request_id, {"Resource": request.path})
        return Response(response.status, response.headers) if request.method == "HEAD" else response

    async def _answer(self, request: Request) -> Response:
        verified = self._authenticate(request)
        payload = payload_of(request.body, request.headers, verified)
        if request.path.startswith(INTERNAL_PATH):
            return await self._internal.answer(request, payload)
        operation, labels, query = self._service.route(request.method, request.target, request.headers)
        bucket, key = labels.get("Bucket"), labels.get("Key")
        call = Call(request=request, operation=operation, bucket=bucket, key=key, query=query, payload=payload)
        if bucket is None:
            return await self._root(call)
        name = operation.name
        if name in ("PutBucketReplication", "GetBucketReplication", "DeleteBucketReplication"):
            return await self._replication(call, bucket)
        response = await self._calls.answer(call)
        if name == "DeleteBucket" and response.status in (204, 404) and self._kept.takes_part(bucket):
            await self._kept.forget(bucket)
            await self._log.forget(bucket)
        if name in ("DeleteBucket", "PutBucketVersioning"):
            self._abilities.forget(bucket)
        return response

    def _authenticate(self, request: Request) -> Verified:
        message = Message(request.method, request.path, request.query, list(request.headers))
        claim = read_claim(message)
        if claim is None:
            raise AwsError("AccessDenied")
        if claim.access_key_id != self._credentials.access_key_id:
            raise AwsError("InvalidAccessKeyId", extra={"AWSAccessKeyId": claim.access_key_id})
        return verify(
            claim, message, self._credentials.secret_key, now=self._clock(), region=self._signing_region, service="s3"
        )

    async def _root(self, call: Call) -> Response:
        store = self._origin.store
        return await store.send(call.request.method, None, query=call.request.query)

    async def _replication(self, call: Call, bucket: str) -> Response:
        """The rules of a bucket are kept here: the store itself could do nothing with them. Raises AwsError."""
        if not await self._origin.has(bucket):
            raise AwsError("NoSuchBucket", extra={"BucketName": bucket})
        verb = call.operation.name[:3]
        before = self._kept.configuration(bucket)
        if verb == "Get":
            if before is None:
                raise AwsError("ReplicationConfigurationNotFoundError", extra={"BucketName": bucket})
            return self._service.serialize(call.operation, {"ReplicationConfiguration": before}, "")
        configuration: dict[str, Any] | None = None
        if verb == "Put":
            body = await document(call.payload)
            labels = {"Bucket": bucket}
            params = self._service.read_params(call.operation, labels, call.query, call.request.headers, body)
            configuration = params["ReplicationConfiguration"]
            check(configuration, source=bucket)
            obstacle = (await self._abilities.of(bucket)).obstacle
            if obstacle is not None:
                raise AwsError("InvalidRequest", f"Replication is not possible from this bucket: {obstacle}.")
        if configuration is not None or before is not None:
            await self._kept.configure(bucket, configuration)
        leads = {rule.destination for rule in self._kept.rules(bucket)}
        for destination in [] if before is None else destination_buckets(before):
            if destination not in leads:
                await self._log.give_up((bucket, destination), "no rule leads there any more")
        return Response(200 if verb == "Put" else 204, Headers())
