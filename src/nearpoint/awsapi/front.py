"""The front for `*.amazonaws.com`: from a request to the service, caller and operation, and back.

In this order: endpoint (host or signing scope), claim, caller, body (bounded), signature, operation, permission,
handler, answer. Whatever goes wrong is answered in the service's own error shape. S3 streams: its bodies are not read
here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog

from nearpoint.awsapi import cloudformation, cloudfront, iam, lambda_, lambda_code, s3control, sts
from nearpoint.awsapi.authenticate import find_caller, message_of, prove, refusal, unsigned
from nearpoint.awsapi.authorize import allows, conditions_of, denied, policies_of
from nearpoint.awsapi.call import Call, Context, ServiceModule
from nearpoint.awsapi.endpoint import Endpoint, find_endpoint
from nearpoint.awsapi.s3 import S3, S3Call, region_of_endpoint
from nearpoint.awsproto import AwsError, Service, load_service, xml
from nearpoint.policy.s3_conditions import refuse_repeated
from nearpoint.regions.hoisted import unhoisted
from nearpoint.signing import Claim, SignatureError, read_claim
from nearpoint.state.resources import Bucket
from nearpoint.state.sessions import Identity
from nearpoint.wire.message import BodyTooLargeError, BytesBody, Headers, Request, Response, read_all
from nearpoint.wire.server import RequestBodyError
from nearpoint.wire.upstream_error import UpstreamError

log = structlog.get_logger("nearpoint.awsapi")

BODY_BYTES_MAX = 1024 * 1024  # a template given in the body has at most 51,200 bytes (CloudFormation quotas)
MODULES: tuple[ServiceModule, ...] = (cloudformation, s3control, cloudfront, lambda_, iam, sts)
_SIGNING_NAMES = {"s3control": "s3"}
# Codes after which S3's clients look for the bucket's region (botocore's redirector; the CLI's).
_REGION_CODES = frozenset({"AuthorizationHeaderMalformed", "AuthorizationQueryParametersError"})


class Front:
    """Answers every call to AWS in this world.

    `modules` are the services besides S3; `handle` is an Exchange. `start` takes up what an earlier process left half
    done, `close` ends background work.
    """

    def __init__(self, ctx: Context, modules: Sequence[ServiceModule] = MODULES) -> None:
        self._ctx = ctx
        self._modules = {module.SERVICE: module for module in modules}
        self._s3 = S3(ctx)

    async def start(self) -> None:
        """Resume unfinished work. Call once the state is loaded."""
        for module in self._modules.values():
            resume = getattr(module, "resume", None)
            if resume is not None:
                await resume(self._ctx)

    async def close(self) -> None:
        """End background work."""
        await self._ctx.close()

    async def handle(self, request: Request) -> Response:
        """The answer to any request; raises only when the client's own connection has failed."""
        message = message_of(request)
        claim: Claim | None = None
        malformed: SignatureError | None = None
        try:
            claim = read_claim(message)
        except SignatureError as error:
            malformed = error
        endpoint = find_endpoint(
            request.host,
            request.path,
            claim.service if claim is not None else None,
            (claim.region or claim.region_set) if claim is not None else None,
        )
        request_id = self._request_id(endpoint)
        if not endpoint.known or (endpoint.service != "s3" and endpoint.service not in self._modules):
            return unknown_service(endpoint.service, request, request_id)
        service = load_service(endpoint.service)
        try:
            if malformed is not None:
                raise refusal(malformed, service.name, service.protocol)
            if claim is None:
                raise unsigned(service.name, service.protocol)
            if service.name == "s3":
                response = await self._handle_s3(request, endpoint, claim, service, request_id)
            else:
                response = await self._handle(request, endpoint, claim, service, request_id)
        except Exception as error:
            response = service.error(self._as_answer(error, service, request_id), request_id)
            self._name_region(endpoint, error, response)
        if request.method == "HEAD" and isinstance(response.body, BytesBody):
            response.body = BytesBody()
        return response

    def _request_id(self, endpoint: Endpoint) -> str:
        if endpoint.service in {"s3", "s3control"}:
            return self._ctx.random_bytes(8).hex().upper()
        text = self._ctx.random_bytes(16).hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def _as_answer(self, error: Exception, service: Service, request_id: str) -> AwsError:
        if isinstance(error, AwsError):
            return error
        if isinstance(error, RequestBodyError):
            raise error  # the client's connection is in no state for an answer of ours
        if isinstance(error, BodyTooLargeError):
            s3 = service.name in {"s3", "s3control"}
            return AwsError("MaxMessageLengthExceeded" if s3 else "RequestEntityTooLargeException", status=413)
        if isinstance(error, UpstreamError):
            log.warning("a store did not answer", reason=error.reason, request_id=request_id)
            return AwsError("ServiceUnavailable", f"The region's store did not answer ({error.reason}).")
        log.error("a call failed", service=service.name, request_id=request_id, exc_info=error)
        s3 = service.name in {"s3", "s3control", "cloudfront"}
        return AwsError("InternalError" if s3 else "InternalFailure", status=500)

    def _name_region(self, endpoint: Endpoint, error: Exception, response: Response) -> None:
        if endpoint.bucket is None or not isinstance(error, AwsError) or error.code not in _REGION_CODES:
            return
        bucket = self._ctx.state.get(Bucket, endpoint.bucket)
        if bucket is not None:
            response.headers.set("x-amz-bucket-region", bucket.region)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._ctx.now(), UTC)

    async def _handle_s3(
        self, request: Request, endpoint: Endpoint, claim: Claim, service: Service, request_id: str
    ) -> Response:
        identity = find_caller(claim, self._ctx.snapshot(), self._ctx.now(), "s3", service.protocol)
        region = region_of_endpoint(self._ctx, endpoint)
        verified = prove(
            claim,
            message_of(request),
            identity,
            now=self._now(),
            region=region,
            service="s3",
            signing_name="s3",
            protocol=service.protocol,
            payload_hash=None,
        )
        request = unhoisted(request)
        operation, labels, query = service.route(
            request.method, request.target, request.headers, bucket=endpoint.bucket
        )
        refuse_repeated(name for name, values in query.items() for _ in values)
        if lambda_code.is_code_bucket(endpoint.bucket) and operation.name == "GetObject":
            return await lambda_code.answer(self._ctx, request, identity, labels.get("Key"), region or "us-east-1")
        return await self._s3.handle(
            S3Call(
                request=request,
                request_id=request_id,
                operation=operation,
                query=query,
                bucket=labels.get("Bucket"),
                key=labels.get("Key"),
                region=region or "us-east-1",
                identity=identity,
                verified=verified,
            )
        )

    async def _handle(
        self, request: Request, endpoint: Endpoint, claim: Claim, service: Service, request_id: str
    ) -> Response:
        module = self._modules[service.name]
        identity = find_caller(claim, self._ctx.snapshot(), self._ctx.now(), service.name, service.protocol)
        length = request.body.length
        if length is not None and length > BODY_BYTES_MAX:
            raise BodyTooLargeError(f"{length} bytes")
        body = await read_all(request.body, BODY_BYTES_MAX)
        prove(
            claim,
            message_of(request),
            identity,
            now=self._now(),
            region=endpoint.region,
            service=service.name,
            signing_name=_SIGNING_NAMES.get(service.name, service.name),
            protocol=service.protocol,
            payload_hash=hashlib.sha256(body).hexdigest(),
        )
        operation, labels, query = service.route(request.method, request.target, request.headers, body)
        handler = module.HANDLERS.get(operation.name)
        if handler is None:
            raise AwsError(
                "NotImplemented",
                f"The operation {operation.name} of {service.name} is not implemented here.",
                status=501,
            )
        host_labels = {} if endpoint.account_id is None else {"AccountId": endpoint.account_id}
        call = Call(
            service=service,
            operation=operation,
            params=service.read_params(operation, labels, query, request.headers, body, labels=host_labels),
            identity=identity,
            region=endpoint.region or "us-east-1",
            request=request,
            request_id=request_id,
            ctx=self._ctx,
        )
        self._authorize(module, call)
        result: Mapping[str, Any] = await handler(call)
        return service.serialize(operation, result, request_id)

    def _authorize(self, module: ServiceModule, call: Call) -> None:
        identity: Identity = call.identity
        name = call.operation.name
        if name in getattr(module, "ALWAYS_ALLOWED", ()):
            return
        action = f"{_SIGNING_NAMES.get(call.service.name, call.service.name)}:{name}"
        resource_of = getattr(module, "RESOURCES", {}).get(name)
        resource = "*" if resource_of is None else resource_of(call)
        conditions = conditions_of(call.request, identity, self._ctx.now(), call.region)
        if not allows(policies_of(identity, self._ctx.snapshot()), action, resource, conditions):
            raise denied(identity, action, resource, protocol=call.service.protocol)


def unknown_service(name: str, request: Request, request_id: str) -> Response:
    """501 for a service that this world has not, in the shape its client most likely reads (JSON or XML)."""
    text = f"The service {name} is not implemented in this world, and the call has not left the machine."
    headers = Headers([("x-amzn-RequestId", request_id)])
    content_type = (request.headers.get("content-type") or "").lower()
    form = "x-www-form-urlencoded" in content_type
    if "x-amz-target" in request.headers or ("json" in content_type and not form):
        headers.add("Content-Type", "application/x-amz-json-1.1")
        headers.add("x-amzn-ErrorType", "NotImplemented")
        body = orjson.dumps({"__type": "NotImplemented", "message": text})
    else:
        headers.add("Content-Type", "text/xml")
        error = xml.element("Code", "NotImplemented") + xml.element("Message", text)
        # Both the query services' place for it and EC2's.
        inner = f"<Errors><Error>{error}</Error></Errors>" if name == "ec2" else f"<Error>{error}</Error>"
        tag = "RequestID" if name == "ec2" else "RequestId"
        root = "Response" if name == "ec2" else "ErrorResponse"
        body = xml.document(root, None, inner + xml.element(tag, request_id))
    return Response(501, headers, b"" if request.method == "HEAD" else body)
