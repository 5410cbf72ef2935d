"""Answers S3 requests for one store. The phases of a request, in order:

health? → request id → claim and signature → (replication's own calls: `internal`) → operation and parameters →
(XML bodies: read and checked) → operation → answer or error, with the request's ids.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import structlog

from nearpoint.awsproto import AwsError, load_service
from nearpoint.awsproto.routing import decode_text
from nearpoint.awsproto.service import host_id
from nearpoint.bucket.attributes import Attributes
from nearpoint.bucket.buckets import Buckets
from nearpoint.bucket.calls import Call, Result
from nearpoint.bucket.copying import Copying
from nearpoint.bucket.internal import PATH as INTERNAL_PATH
from nearpoint.bucket.internal import Internal
from nearpoint.bucket.listings import Listings
from nearpoint.bucket.multipart import Multipart
from nearpoint.bucket.objects import Objects
from nearpoint.bucket.reading import Reading
from nearpoint.bucket.settings import Settings
from nearpoint.bucket.store import Store
from nearpoint.bucket.writer import LOGGED, Entry
from nearpoint.regions.version import LOGGED_HEADER
from nearpoint.signing import Credentials, Message, SignatureError, Verified, read_claim, verify
from nearpoint.wire.message import Headers, Request, Response

log = structlog.get_logger("nearpoint.bucket")

LIVE_PATH = "/-/live"  # no bucket can be named `-`: names have at least three characters

_PLAIN = {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"}
_Operation = Callable[[Call], Awaitable[Result]]


class StoreServer:
    """An Exchange that speaks S3, path style, for the holder of one access key."""

    def __init__(self, store: Store, credentials: Credentials, *, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._credentials = credentials
        self._clock = clock
        self._service = load_service("s3")
        self._plain = {method: self._service.operations[name] for method, name in _PLAIN.items()}
        self._settings = Settings(store)
        self._internal = Internal(store)
        self._operations = _operations(store, self._settings)
        self._request_numbers = itertools.count(int.from_bytes(os.urandom(8), "big") >> 1)

    def new_request_id(self) -> str:
        """The id of a request: it comes back in the answer's header."""
        return f"{next(self._request_numbers):016X}"

    async def handle(self, request: Request) -> Response:
        """The Exchange."""
        if request.path == LIVE_PATH and request.method in ("GET", "HEAD"):
            return Response(200, Headers([("Content-Type", "text/plain")]), b"ok\n")
        request_id = self.new_request_id()
        logged: list[Entry] = []
        LOGGED.set(logged)
        try:
            response = await self._answer(request, request_id)
            if logged:
                response.headers.set(LOGGED_HEADER, logged_field(logged))
        except AwsError as error:
            response = self._error(request, error, request_id)
        except SignatureError as error:
            response = self._error(request, AwsError(error.code, error.text, extra=error.fields), request_id)
        response.headers.set("x-amz-request-id", request_id)
        response.headers.set("x-amz-id-2", host_id(request_id))
        return response

    async def _answer(self, request: Request, request_id: str) -> Response:
        verified = self.authenticate(Message(request.method, request.path, request.query, list(request.headers)))
        if request.path.startswith(INTERNAL_PATH):
            return await self._internal.answer(request, verified)
        call = self._plain_call(request, verified) or await self._any_call(request, verified)
        operation = call.operation
        handler = self._operations.get(operation.name)
        if handler is not None:
            result = await handler(call)
        else:
            found = self._settings.find(operation.name)
            if found is None:
                raise AwsError("NotImplemented", f"This store does not implement {operation.name}.")
            result = await self._settings.answer(*found, call)
        return result if isinstance(result, Response) else self._service.serialize(operation, result, request_id)

    async def _any_call(self, request: Request, verified: Verified) -> Call:
        service = self._service
        operation, labels, query = service.route(request.method, request.target, request.headers)
        body = b""
        if operation.streaming_input is None:
            body = await self._store.intake.read_document(request.body, request.headers, verified)
        params = service.read_params(operation, labels, query, request.headers, body)
        for member in ("ExpectedBucketOwner", "ExpectedSourceBucketOwner"):
            self._check_owner(params.get(member))
        return Call(request=request, operation=operation, params=params, query=query, verified=verified)

    def _plain_call(self, request: Request, verified: Verified) -> Call | None:
        """A call on an object that its method alone names, without going through the service's model; else None."""
        path, _, query = request.target.partition("?")
        bucket, _, key = path[1:].partition("/")
        operation = self._plain.get(request.method)
        if operation is None or not bucket or not key or "x-amz-copy-source" in request.headers:
            return None
        if query and not all(pair.startswith(("X-Amz-", "x-id=")) for pair in query.split("&")):
            return None
        self._check_owner(request.headers.get("x-amz-expected-bucket-owner"))
        params = {"Bucket": decode_text(bucket), "Key": decode_text(key)}
        return Call(request=request, operation=operation, params=params, query={}, verified=verified)

    def authenticate(self, message: Message) -> Verified:
        """The proof that the holder of the access key sent this. Raises AwsError, SignatureError."""
        if "AWSAccessKeyId=" in message.query or any(
            name.lower() == "authorization" and value.startswith("AWS ") for name, value in message.headers
        ):
            raise AwsError(
                "InvalidRequest",
                "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
            )
        claim = read_claim(message)
        if claim is None:
            raise AwsError("AccessDenied")
        credentials = self._credentials
        if claim.access_key_id != credentials.access_key_id:
            raise AwsError("InvalidAccessKeyId", extra={"AWSAccessKeyId": claim.access_key_id})
        if claim.session_token is not None:
            raise AwsError("InvalidToken", "The provided token is malformed or otherwise invalid.")
        if not claim.payload_hash:
            raise AwsError("InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
        return verify(
            claim, message, credentials.secret_key, now=self._clock(), region=self._store.region, service="s3"
        )

    def _check_owner(self, expected: str | None) -> None:
        account = self._store.account_id
        if account is not None and expected is not None and expected != account:
            raise AwsError("AccessDenied")

    def _error(self, request: Request, error: AwsError, request_id: str) -> Response:
        response = self._service.error(error, request_id, {"Resource": request.path})
        return Response(response.status, response.headers) if request.method == "HEAD" else response


def _operations(store: Store, settings: Settings) -> dict[str, _Operation]:
    attributes, buckets, copying, listings = Attributes(store), Buckets(store), Copying(store), Listings(store)
    multipart, objects, reading = Multipart(store), Objects(store), Reading(store)
    return {
        "AbortMultipartUpload": multipart.abort_multipart_upload,
        "CompleteMultipartUpload": multipart.complete_multipart_upload,
        "CopyObject": copying.copy_object,
        "CreateBucket": buckets.create_bucket,
        "CreateMultipartUpload": multipart.create_multipart_upload,
        "DeleteBucket": buckets.delete_bucket,
        "DeleteObject": objects.delete_object,
        "DeleteObjectTagging": attributes.delete_object_tagging,
        "DeleteObjects": objects.delete_objects,
        "GetBucketAcl": attributes.get_bucket_acl,
        "GetBucketLocation": buckets.get_bucket_location,
        "GetBucketPolicyStatus": settings.get_bucket_policy_status,
        "GetBucketVersioning": buckets.get_bucket_versioning,
        "GetObject": reading.get_object,
        "GetObjectAcl": attributes.get_object_acl,
        "GetObjectAttributes": reading.get_object_attributes,
        "GetObjectLegalHold": attributes.get_object_legal_hold,
        "GetObjectRetention": attributes.get_object_retention,
        "GetObjectTagging": attributes.get_object_tagging,
        "HeadBucket": buckets.head_bucket,
        "HeadObject": reading.head_object,
        "ListBuckets": buckets.list_buckets,
        "ListMultipartUploads": listings.list_multipart_uploads,
        "ListObjectVersions": listings.list_object_versions,
        "ListObjects": listings.list_objects,
        "ListObjectsV2": listings.list_objects_v2,
        "ListParts": multipart.list_parts,
        "PutBucketAcl": attributes.put_bucket_acl,
        "PutBucketVersioning": buckets.put_bucket_versioning,
        "PutObject": objects.put_object,
        "PutObjectAcl": attributes.put_object_acl,
        "PutObjectLegalHold": attributes.put_object_legal_hold,
        "PutObjectRetention": attributes.put_object_retention,
        "PutObjectTagging": attributes.put_object_tagging,
        "UploadPart": multipart.upload_part,
        "UploadPartCopy": multipart.upload_part_copy,
    }


def logged_field(logged: Sequence[Entry]) -> str:
    """The last sequence and the destinations of what was logged: `17;bucket-b,bucket-c`."""
    destinations = dict.fromkeys(entry.destination for entry in logged)
    return f"{logged[-1].sequence};{','.join(destinations)}"


def utc_now() -> datetime:
    """The clock."""
    return datetime.now(UTC)
