"""S3: which region has the bucket. Names are global and kept in the state; all else is the region's store's.

CreateBucket, DeleteBucket, HeadBucket, ListBuckets and GetBucketLocation are answered here; every other call goes to
the store of the bucket's region, streaming both ways (S3 API Reference; User Guide, "Making requests").
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearpoint.accesspoint.documents import BYTES_MAX, read_document
from nearpoint.accesspoint.public_access import refuse_public_acl, refuse_public_grants
from nearpoint.awsapi.authorize import policies_of
from nearpoint.awsapi.call import Context
from nearpoint.awsapi.endpoint import GLOBAL_REGION, Endpoint
from nearpoint.awsapi.paging import decode_token, encode_token
from nearpoint.awsapi.s3_permission import S3Permission, copy_source
from nearpoint.awsapi.s3_service_access import bucket_policy, demand_of_service
from nearpoint.awsproto import AwsError, Operation, load_service
from nearpoint.bucket.names import is_bucket_name
from nearpoint.policy.document import Policy
from nearpoint.policy.managed import administrator
from nearpoint.regions.copy import copy_across
from nearpoint.regions.forward import forward
from nearpoint.regions.payload import Payload, payload_of
from nearpoint.regions.store import Store
from nearpoint.regions.version import LOGGED_HEADER
from nearpoint.signing import Verified
from nearpoint.stack.services import bucket_access
from nearpoint.stack.services.bucket_replication import CONFIGURATION_BYTES_MAX as REPLICATION_BYTES_MAX
from nearpoint.stack.services.bucket_replication import check_destinations
from nearpoint.stack.services.buckets import Buckets
from nearpoint.state.resources import Bucket, StoreLimits
from nearpoint.state.sessions import Identity
from nearpoint.wire.message import Headers, Request, Response, read_all

CONFIGURATION_BYTES_MAX = 64 * 1024
DELETE_BYTES_MAX = 2 * 1024 * 1024  # 1,000 keys of 1,024 bytes, escaped
_ACCESS = frozenset({"PutBucketPolicy", "DeleteBucketPolicy", "PutPublicAccessBlock", "DeletePublicAccessBlock"})
_POLICY = frozenset({"GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"})
LIST_BUCKETS_MAX = 10_000
# A store of the user's own may do more, or less, after these.
# What CreateBucket says of the bucket beside its region: the store knows what it can do of it.
_OF_CREATION = ("x-amz-acl", "x-amz-bucket-object-lock-enabled", "x-amz-grant-", "x-amz-object-ownership")
_CHANGES_WHAT_STORES_DO = frozenset({"PutBucketVersioning", "PutBucketOwnershipControls", "PutObjectLockConfiguration"})


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Call:
    """An authenticated call of S3: what it is, of which bucket and key, at which region's endpoint."""

    request: Request
    request_id: str
    operation: Operation
    query: dict[str, list[str]]
    bucket: str | None
    key: str | None
    region: str
    identity: Identity
    verified: Verified


def owner_id(account_id: str) -> str:
    """The canonical user id of an account: 64 hex digits."""
    return hashlib.sha256(f"canonical user of {account_id}".encode()).hexdigest()


def region_of_endpoint(ctx: Context, endpoint: Endpoint) -> str | None:
    """The region a request has to be signed for. None: whichever it is signed for (an endpoint of the client's own).

    `BUCKET.s3.amazonaws.com` leads to the bucket's region, as DNS sees to on AWS.
    """
    if endpoint.bucket is not None and not endpoint.regional:
        bucket = ctx.state.get(Bucket, endpoint.bucket)
        if bucket is not None:
            return bucket.region
    return endpoint.region


class S3:
    """Answers S3's calls."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._codec = load_service("s3")
        self._buckets = Buckets(ctx.domain, ctx.stores)

    async def handle(self, call: S3Call) -> Response:
        """The answer. Raises AwsError, and UpstreamError when the store cannot be reached."""
        name = call.operation.name
        payload = payload_of(call.request.body, call.request.headers, call.verified)
        await self._authorize(call, payload)
        if name == "CreateBucket":
            return await self._create(call, payload)
        if name == "ListBuckets":
            return self._result(call, self._list(call))
        if call.bucket is None:
            raise AwsError("NotImplemented", f"The operation {name} of s3 is not implemented here.", status=501)
        bucket = self._ctx.state.get(Bucket, call.bucket)
        if bucket is None:
            raise AwsError("NoSuchBucket", extra={"BucketName": call.bucket})
        if name == "GetBucketLocation":
            location = None if bucket.region == GLOBAL_REGION else bucket.region
            return self._result(call, {"LocationConstraint": location})
        if bucket.region != call.region:
            raise self._redirect(bucket)
        if name == "HeadBucket":
            return self._result(call, {"BucketRegion": bucket.region, "AccessPointAlias": False})
        if name == "DeleteBucket":
            return await self._delete(call, bucket)
        if name in {"CopyObject", "UploadPartCopy"}:
            source_name, source_key, version_id = copy_source(call.request.headers.get("x-amz-copy-source") or "")
            source = self._ctx.state.get(Bucket, source_name)
            if source is None:
                raise AwsError("NoSuchBucket", extra={"BucketName": source_name})
            if source.region != bucket.region:
                return await self._copy(call, bucket, source, source_key, version_id)
        if name in _ACCESS:
            return await self._configure_access(call, bucket, payload)
        if name == "PutBucketReplication":
            await self._check_replication(call, bucket, payload)
        if bucket.public_access_block and self._store(bucket.region).spec.kind != "embedded":
            await self._refuse_public(call, bucket, payload)
        response = await self._forward(call, bucket, payload)
        if name in _CHANGES_WHAT_STORES_DO and response.status < 300:
            tried = self._ctx.state.get(StoreLimits, f"{bucket.region}/{bucket.name}")
            if tried is not None:
                await self._ctx.state.delete(tried)  # it is tried again
        return response

    def _result(self, call: S3Call, result: Mapping[str, Any]) -> Response:
        return self._codec.serialize(call.operation, result, call.request_id)

    def _redirect(self, bucket: Bucket) -> AwsError:
        # botocore's and the CLI's redirectors read the region from the header, the endpoint is for everybody else.
        return AwsError(
            "PermanentRedirect",
            extra={"Endpoint": f"{bucket.name}.s3.{bucket.region}.amazonaws.com", "Bucket": bucket.name},
            headers={"x-amz-bucket-region": bucket.region},
        )

    def _store(self, region: str) -> Store:
        store = self._ctx.stores.get(region)
        if store is None:
            raise AwsError("ServiceUnavailable", f"The region {region} has no store in this world.")
        return store

    async def _authorize(self, call: S3Call, payload: Payload) -> None:
        if call.identity.service is not None:
            await self._authorize_service(call)
            return
        policies = policies_of(call.identity, self._ctx.snapshot())
        if policies is None:
            # The root may do all that no bucket policy denies, and can always put a policy right.
            if call.operation.name in _POLICY or not self._has_policy(call):
                return
            policies = [administrator()]
        permission = S3Permission(
            policies,
            call.identity,
            call.request,
            call.query,
            now_s=self._ctx.now(),
            region=call.region,
            policy_of=self._policy_of,
        )
        if call.operation.name != "DeleteObjects" or call.bucket is None:
            permission.demand_call(call.operation.name, call.bucket, call.key)
            return
        await payload.keep(DELETE_BYTES_MAX)
        if not payload.kept:
            raise AwsError("MissingContentLength" if payload.length is None else "MaxMessageLengthExceeded")
        body = await read_all(payload.open(), DELETE_BYTES_MAX)
        params = self._codec.read_params(
            call.operation, {"Bucket": call.bucket}, call.query, call.request.headers, body
        )
        permission.demand_deletes(call.bucket, params["Delete"]["Objects"])

    async def _authorize_service(self, call: S3Call) -> None:
        """A service of AWS may do what the bucket's policy lets it."""
        bucket = None if call.bucket is None else self._ctx.state.get(Bucket, call.bucket)
        if bucket is None:
            raise AwsError("AccessDenied")
        demand_of_service(
            call.identity,
            await bucket_policy(self._store(bucket.region), bucket.name),
            call.request,
            bucket=bucket.name,
            key=call.key,
            parameters=set(call.query),
            now_s=self._ctx.now(),
        )

    def _has_policy(self, call: S3Call) -> bool:
        source = call.request.headers.get("x-amz-copy-source")
        names = [call.bucket, None if source is None or call.key is None else copy_source(source)[0]]
        return any(self._policy_of(name) is not None for name in names if name is not None)

    def _policy_of(self, name: str) -> Policy | None:
        bucket = self._ctx.state.get(Bucket, name)
        return None if bucket is None else bucket_access.policy_of(bucket)

    def _list(self, call: S3Call) -> dict[str, Any]:
        params = self._codec.read_params(call.operation, {}, call.query, call.request.headers)
        count = params.get("MaxBuckets", LIST_BUCKETS_MAX)
        if not 1 <= count <= LIST_BUCKETS_MAX:
            raise AwsError(
                "InvalidArgument",
                f"Argument max-buckets must be an integer between 1 and {LIST_BUCKETS_MAX}",
                extra={"ArgumentName": "max-buckets", "ArgumentValue": str(count)},
            )
        prefix, region = params.get("Prefix", ""), params.get("BucketRegion")
        token = params.get("ContinuationToken")
        after = "" if token is None else decode_token(token, "InvalidArgument")
        found = [
            bucket
            for bucket in self._ctx.state.list(Bucket)
            if bucket.name > after and bucket.name.startswith(prefix) and region in (None, bucket.region)
        ]
        found.sort(key=lambda bucket: bucket.name)
        page = found[:count]
        return {
            "Buckets": [
                {"Name": bucket.name, "CreationDate": bucket.created_at, "BucketRegion": bucket.region}
                for bucket in page
            ],
            "Owner": {"ID": owner_id(self._ctx.account_id)},
            "ContinuationToken": encode_token(page[-1].name) if len(found) > count else None,
            "Prefix": params.get("Prefix"),
        }

    async def _create(self, call: S3Call, payload: Payload) -> Response:
        assert call.bucket is not None
        name = call.bucket
        await payload.keep(CONFIGURATION_BYTES_MAX)
        body = await read_all(payload.open(), CONFIGURATION_BYTES_MAX)
        params = self._codec.read_params(call.operation, {"Bucket": name}, call.query, call.request.headers, body)
        if not is_bucket_name(name):
            raise AwsError("InvalidBucketName", extra={"BucketName": name})
        region = self._wanted_region(call, params)
        said = Headers(
            (field, value) for field, value in call.request.headers if field.lower().startswith(_OF_CREATION)
        )
        if not await self._buckets.create(name, region, said) and region != GLOBAL_REGION:
            # us-east-1 alone answers 200 to the owner (S3 API Reference, CreateBucket).
            raise AwsError("BucketAlreadyOwnedByYou", extra={"BucketName": name})
        return self._result(call, {"Location": f"/{name}" if region == GLOBAL_REGION else _url(name)})

    def _wanted_region(self, call: S3Call, params: dict[str, Any]) -> str:
        configuration = params.get("CreateBucketConfiguration") or {}
        if {"Location", "Bucket"} & set(configuration):
            raise AwsError("NotImplemented", "Directory buckets are not implemented here.")
        constraint: str = configuration.get("LocationConstraint") or ""
        region = {"": GLOBAL_REGION, "EU": "eu-west-1"}.get(constraint, constraint)
        if call.region not in {GLOBAL_REGION, region}:
            raise AwsError(
                "IllegalLocationConstraintException",
                f"The {constraint or 'unspecified'} location constraint is incompatible for the region specific "
                "endpoint this request was sent to.",
            )
        if constraint == GLOBAL_REGION or region not in self._ctx.stores:
            raise AwsError("InvalidLocationConstraint", extra={"LocationConstraint": constraint or region})
        return region

    async def _delete(self, call: S3Call, bucket: Bucket) -> Response:
        await self._buckets.delete(bucket.name, bucket.region)
        return self._result(call, {})

    async def _configure_access(self, call: S3Call, bucket: Bucket, payload: Payload) -> Response:
        """Bucket policy and Block Public Access: checked here, kept by the store, copied to the nodes."""
        await payload.keep(CONFIGURATION_BYTES_MAX)
        document = payload.data
        if document is None:
            raise AwsError("MissingContentLength" if payload.length is None else "MaxMessageLengthExceeded")
        policy: dict[str, Any] | None = None
        settings: dict[str, bool] = {}
        name = call.operation.name
        if name == "PutBucketPolicy":
            policy = bucket_access.check_policy(bucket, document)
        elif name == "PutPublicAccessBlock":
            settings = bucket_access.read_public_access_block(document)
        response = await self._forward(call, bucket, payload)
        if response.status < 300:
            if name in {"PutBucketPolicy", "DeleteBucketPolicy"}:
                await bucket_access.note_policy(self._ctx.domain, bucket.name, policy)
            else:
                await bucket_access.note_public_access_block(self._ctx.domain, bucket.name, settings)
        return response

    async def _refuse_public(self, call: S3Call, bucket: Bucket, payload: Payload) -> None:
        """Block Public Access in front of a store that knows nothing of it, as the embedded one does."""
        blocks = bucket.public_access_block.get
        refuse_public_acl(call.request, lambda setting: bool(blocks(setting)))
        if call.operation.name in ("PutBucketAcl", "PutObjectAcl"):
            await payload.keep(BYTES_MAX)
            document = read_document(payload.data, "AccessControlPolicy", has_length=payload.length is not None)
            refuse_public_grants(document, lambda setting: bool(blocks(setting)))

    async def _check_replication(self, call: S3Call, bucket: Bucket, payload: Payload) -> None:
        await payload.keep(REPLICATION_BYTES_MAX)
        body = await read_all(payload.open(), REPLICATION_BYTES_MAX)
        labels = {"Bucket": bucket.name}
        params = self._codec.read_params(call.operation, labels, call.query, call.request.headers, body)
        await check_destinations(
            params["ReplicationConfiguration"],
            source=bucket.name,
            bucket_of=lambda name: self._ctx.state.get(Bucket, name),
            store_of=self._store,
        )

    async def _forward(self, call: S3Call, bucket: Bucket, payload: Payload) -> Response:
        response = await forward(call.request, payload, self._store(bucket.region), bucket=bucket.name, key=call.key)
        response.headers.remove(LOGGED_HEADER)
        if "x-amz-request-id" not in response.headers:
            response.headers.add("x-amz-request-id", call.request_id)
        return response

    async def _copy(
        self, call: S3Call, bucket: Bucket, source: Bucket, source_key: str, version_id: str | None
    ) -> Response:
        is_part = call.operation.name == "UploadPartCopy"
        copied, put = await copy_across(
            call.request,
            sources=[(self._store(source.region), source.name)],
            source_key=source_key,
            source_version=version_id,
            target=self._store(bucket.region),
            target_bucket=bucket.name,
            target_key=call.key or "",
            part={name: call.query[name][0] for name in ("partNumber", "uploadId")} if is_part else None,
        )
        result = {"ETag": copied.pop("ETag"), "LastModified": self._ctx.now()}
        if not is_part:
            copied["VersionId"] = put.headers.get("x-amz-version-id")
        return self._result(call, {"CopyPartResult" if is_part else "CopyObjectResult": result, **copied})


def _url(name: str) -> str:
    return f"http://{name}.s3.amazonaws.com/"
