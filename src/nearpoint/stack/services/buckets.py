"""Buckets: a global registry of names in the state, and the bucket itself in its region's store."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import msgspec

from nearpoint.awsproto import AwsError, xml
from nearpoint.regions.store import Store
from nearpoint.stack.services import bucket_access, bucket_replication
from nearpoint.stack.services.bucket_settings import BLOCK_ALL, PUBLIC_ACCESS, SETTINGS
from nearpoint.stack.services.context import Context
from nearpoint.state.resources import Bucket
from nearpoint.wire.message import BodyTooLargeError, Headers, Response, read_all
from nearpoint.wire.upstream_error import UpstreamError

ERROR_BYTES_MAX = 64 * 1024
BUCKETS_MAX = 10_000  # per account (S3 quotas)


class Buckets:
    """Makes, removes and reads the buckets of a world. `stores` are the regions' stores by region name."""

    def __init__(self, services: Context, stores: Mapping[str, Store]) -> None:
        self._services = services
        self._stores = stores

    def store(self, region: str) -> Store:
        """The store of a region. Raises AwsError where this world has none."""
        store = self._stores.get(region)
        if store is None:
            raise AwsError("InvalidLocationConstraint", extra={"LocationConstraint": region})
        return store

    async def create(self, name: str, region: str, headers: Headers | None = None) -> bool:
        """Make a bucket; False when it was there already, in that region. `headers` are what a request says of its
        ownership, its ACL and object lock.

        Raises AwsError (BucketAlreadyOwnedByYou for one in another region, TooManyBuckets …).
        """
        state, store = self._services.state, self.store(region)
        async with self._services.bucket_lock:
            taken = state.get(Bucket, name)
            if taken is not None and taken.region != region:
                raise AwsError("BucketAlreadyOwnedByYou", extra={"BucketName": name})
            if taken is None and len(state.list(Bucket)) >= BUCKETS_MAX:
                raise AwsError("TooManyBuckets")
            # The store first: a name stands in the state only once there is a bucket behind it, and what a crash leaves
            # between the two is taken over by the next try.
            made = await _create_in_store(store, name, headers)
            if taken is None:
                now = self._services.now()
                blocked = BLOCK_ALL if made else await self._blocked_in_store(store, name)
                await state.put(Bucket(name=name, region=region, created_at=now, public_access_block=dict(blocked)))
            return made or taken is None

    async def delete(self, name: str, region: str) -> None:
        """Remove an empty bucket. Raises AwsError (NoSuchBucket, BucketNotEmpty …)."""
        async with self._services.bucket_lock:
            bucket = self._services.state.get(Bucket, name)
            if bucket is None or bucket.region != region:
                raise AwsError("NoSuchBucket", extra={"BucketName": name})
            answer = await self.store(region).send("DELETE", name)
            code = await _error_code(answer)
            if answer.status != 204 and code != "NoSuchBucket":
                raise AwsError(code or "ServiceUnavailable", extra={"BucketName": name})
            await self._services.state.delete(bucket)

    async def _blocked_in_store(self, store: Store, name: str) -> Mapping[str, bool]:
        """Block Public Access of a bucket that was there before the state knew of it; nothing where it has none."""
        answer = await store.send("GET", name, query="publicAccessBlock")
        data = await read_all(answer.body, ERROR_BYTES_MAX)
        try:
            return bucket_access.read_public_access_block(data) if answer.status == 200 else {}
        except AwsError:
            return {}

    async def put_setting(self, name: str, kind: str, value: Mapping[str, Any] | None) -> None:
        """Configure a bucket: `kind` is one of `bucket_settings.SETTINGS`; None is what a new bucket has.

        Raises AwsError (NoSuchBucket, MalformedXML …).
        """
        bucket, setting = self._known(name), SETTINGS[kind]
        put = setting.default if value is None else value
        document = b"" if put is None else setting.document(put)
        headers = Headers([("Content-Type", "application/xml"), ("Content-MD5", _md5(document))] if document else [])
        answer = await self.store(bucket.region).send(
            "PUT" if document else "DELETE", name, query=setting.query, headers=headers, body=document
        )
        code = await _error_code(answer)
        if answer.status >= 300:
            what = f"The store of {bucket.region} did not take the configuration ({setting.query})."
            raise AwsError(code or "ServiceUnavailable", None if code else what, extra={"BucketName": name})
        if kind == PUBLIC_ACCESS:
            await bucket_access.note_public_access_block(self._services, name, put or {})

    async def put_policy(self, name: str, policy: Mapping[str, Any]) -> None:
        """Set a bucket's policy. Raises AwsError (NoSuchBucket, MalformedPolicy, AccessDenied …)."""
        bucket = self._known(name)
        document = msgspec.json.encode(policy)
        checked = bucket_access.check_policy(bucket, document)
        headers = Headers([("Content-Type", "application/json"), ("Content-MD5", _md5(document))])
        answer = await self.store(bucket.region).send("PUT", name, query="policy", headers=headers, body=document)
        if answer.status >= 300:
            raise AwsError(await _error_code(answer) or "ServiceUnavailable", extra={"BucketName": name})
        await _error_code(answer)
        await bucket_access.note_policy(self._services, name, checked)

    async def delete_policy(self, name: str) -> None:
        """Remove a bucket's policy. Raises AwsError (NoSuchBucket …)."""
        bucket = self._known(name)
        answer = await self.store(bucket.region).send("DELETE", name, query="policy")
        code = await _error_code(answer)
        if answer.status >= 300 and code != "NoSuchBucketPolicy":
            raise AwsError(code or "ServiceUnavailable", extra={"BucketName": name})
        await bucket_access.note_policy(self._services, name, None)

    async def put_replication(self, name: str, configuration: Mapping[str, Any] | None) -> None:
        """Set a bucket's replication rules; None removes them. Raises AwsError (NoSuchBucket, InvalidRequest …)."""
        bucket, state = self._known(name), self._services.state
        store = self.store(bucket.region)
        if configuration is None:
            answer = await store.send("DELETE", name, query="replication")
        else:
            await bucket_replication.check_destinations(
                configuration,
                source=name,
                bucket_of=lambda destination: state.get(Bucket, destination),
                store_of=self.store,
            )
            body = bucket_replication.document(configuration)
            answer = await store.send("PUT", name, query="replication", body=body)
        error = await _error(answer)
        if answer.status >= 300 and (error is None or error[0] != "ReplicationConfigurationNotFoundError"):
            code, message = error or ("ServiceUnavailable", None)
            raise AwsError(code, message, extra={"BucketName": name})

    def _known(self, name: str) -> Bucket:
        bucket = self._services.state.get(Bucket, name)
        if bucket is None:
            raise AwsError("NoSuchBucket", extra={"BucketName": name})
        return bucket

    async def get(self, bucket: str, key: str, version_id: str | None, limit_bytes: int) -> bytes:
        """An object's content. Raises AwsError (NoSuchBucket, NoSuchKey, EntityTooLarge beyond the limit …)."""
        known = self._services.state.get(Bucket, bucket)
        if known is None:
            raise AwsError("NoSuchBucket", extra={"BucketName": bucket})
        query = "" if version_id is None else f"versionId={quote(version_id, safe='')}"
        try:
            answer = await self.store(known.region).send("GET", bucket, key, query=query)
            if answer.status != 200:
                code = await _error_code(answer)
                raise AwsError(code or "ServiceUnavailable", extra={"Key": key})
            return await read_all(answer.body, limit_bytes)
        except BodyTooLargeError:
            raise AwsError("EntityTooLarge") from None
        except UpstreamError as error:
            raise AwsError("ServiceUnavailable", f"The store of {known.region} did not answer.") from error


async def _create_in_store(store: Store, name: str, headers: Headers | None) -> bool:
    """Whether the bucket was made now; False: it was there already."""
    answer = await store.send("PUT", name, headers=headers)
    code, message = await _error(answer) or (None, None)
    if code == "IllegalLocationConstraintException":
        # S3's own regions and the embedded store want to be named, other stores refuse to be.
        inner = xml.element("LocationConstraint", store.spec.signing_region)
        body = xml.document("CreateBucketConfiguration", "http://s3.amazonaws.com/doc/2006-03-01/", inner)
        answer = await store.send("PUT", name, headers=headers, body=body)
        code, message = await _error(answer) or (None, None)
    if answer.status == 200:
        return True
    if code == "BucketAlreadyOwnedByYou":
        return False
    if code is None:
        raise AwsError("ServiceUnavailable", f"The store of {store.region} did not make the bucket.")
    raise AwsError(code, message, status=answer.status if 400 <= answer.status < 500 else None)


async def _error_code(answer: Response) -> str | None:
    """The S3 error code of a store's answer; None where it has none. The answer has been read then."""
    error = await _error(answer)
    return None if error is None else error[0]


async def _error(answer: Response) -> tuple[str, str | None] | None:
    """Code and message of a store's refusal."""
    try:
        data = await read_all(answer.body, ERROR_BYTES_MAX)
    except (BodyTooLargeError, UpstreamError):
        return None
    if answer.status < 300 or not data:
        return None
    try:
        root = xml.parse(data)
    except xml.XmlError:
        return None
    code, message = root.child("Code"), root.child("Message")
    return None if code is None else (code.text, message.text if message is not None else None)


def _md5(document: bytes) -> str:
    return base64.b64encode(hashlib.md5(document, usedforsecurity=False).digest()).decode()
