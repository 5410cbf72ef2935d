"""Buckets themselves: create, delete, head, list, location, versioning."""

from __future__ import annotations

from typing import Any

from nearpoint.awsproto import AwsError
from nearpoint.bucket import acl, rows
from nearpoint.bucket.calls import Call, Result
from nearpoint.bucket.multipart import drop_upload
from nearpoint.bucket.names import is_bucket_name
from nearpoint.bucket.schema import fetch_all, fetch_one
from nearpoint.bucket.settings import BUCKET_ACL, NEW_BUCKET, check_ownership, is_enforced, read_setting, write_setting
from nearpoint.bucket.store import Store
from nearpoint.bucket.writer import Transaction
from nearpoint.wire.message import Headers, Response

_CLASSIC_REGION = "us-east-1"
_LIST_MAX = 10_000


class Buckets:
    """The operations on buckets."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def create_bucket(self, call: Call) -> Result:
        store, name = self._store, call.bucket
        if not is_bucket_name(name):
            raise AwsError("InvalidBucketName", extra={"BucketName": name})
        self._check_location(call.params.get("CreateBucketConfiguration", {}))
        settings: dict[str, Any] = dict(NEW_BUCKET)
        ownership = call.params.get("ObjectOwnership")
        if ownership is not None:
            settings["BucketOwnershipControls"] = {"Rules": [{"ObjectOwnership": ownership}]}
            check_ownership(settings["BucketOwnershipControls"])
        grants = acl.of_headers(call.headers, store.owner, of_bucket=True)
        if grants is not None and grants != acl.private(store.owner):
            if is_enforced(settings["BucketOwnershipControls"]):
                raise AwsError(
                    "InvalidBucketAclWithObjectOwnership",
                    "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting",
                    status=400,
                )
            if acl.is_public(grants):  # public access is blocked in every new bucket
                raise AwsError(
                    "InvalidBucketAclWithBlockPublicAccessError",
                    "Bucket cannot have public ACLs set with BlockPublicAccess enabled",
                    status=400,
                )
            settings[BUCKET_ACL] = grants
        locked = call.params.get("ObjectLockEnabledForBucket") is True
        tags = call.params.get("CreateBucketConfiguration", {}).get("Tags")

        def create(tx: Transaction) -> None:
            if fetch_one(tx.db, "SELECT 1 FROM bucket WHERE name = ?", (name,)):
                if store.region == _CLASSIC_REGION:
                    return
                raise AwsError("BucketAlreadyOwnedByYou", extra={"BucketName": name})
            tx.db.execute(
                "INSERT INTO bucket (name, created, versioning) VALUES (?, ?, ?)",
                (name, tx.now_us, rows.ENABLED if locked else ""),
            )
            bucket_id = tx.db.last_insert_rowid()
            for kind, value in settings.items():
                write_setting(tx, bucket_id, kind, value)
            if locked:
                write_setting(tx, bucket_id, "ObjectLockConfiguration", {"ObjectLockEnabled": "Enabled"})
            if tags:
                write_setting(tx, bucket_id, "BucketTagging", {"TagSet": tags})

        await store.writer.submit(create)
        return Response(200, Headers([("Location", f"/{name}"), ("Content-Length", "0")]))

    def _check_location(self, configuration: dict[str, Any]) -> None:
        region = self._store.region
        asked = configuration.get("LocationConstraint")
        if asked == "EU":
            asked = "eu-west-1"
        if asked is None and region != _CLASSIC_REGION:
            raise AwsError(
                "IllegalLocationConstraintException",
                "The unspecified location constraint is incompatible for the region specific endpoint this request was "
                "sent to.",
            )
        if asked is not None and (asked != region or region == _CLASSIC_REGION):
            if asked == _CLASSIC_REGION:
                raise AwsError("InvalidLocationConstraint", extra={"LocationConstraint": asked})
            raise AwsError(
                "IllegalLocationConstraintException",
                f"The {asked} location constraint is incompatible for the region specific endpoint this request was "
                "sent to.",
            )

    async def delete_bucket(self, call: Call) -> Result:
        name = call.bucket

        def delete(tx: Transaction) -> None:
            bucket = rows.find_bucket(tx.db, name)
            if fetch_one(tx.db, "SELECT 1 FROM object WHERE bucket = ? LIMIT 1", (bucket.id,)):
                raise AwsError("BucketNotEmpty", extra={"BucketName": name})
            for (upload,) in fetch_all(tx.db, "SELECT id FROM upload WHERE bucket = ?", (bucket.id,)):
                drop_upload(tx, upload)
            tx.db.execute("DELETE FROM setting WHERE bucket = ?", (bucket.id,))
            tx.db.execute("DELETE FROM outbox WHERE bucket = ?", (name,))
            tx.log.afresh = True
            tx.db.execute("DELETE FROM removed WHERE bucket = ?", (bucket.id,))
            tx.db.execute("DELETE FROM bucket WHERE id = ?", (bucket.id,))

        await self._store.writer.submit(delete)
        return Response(204)

    async def head_bucket(self, call: Call) -> Result:
        rows.find_bucket(self._store.db, call.bucket)
        return Response(
            200, Headers([("x-amz-bucket-region", self._store.region), ("Content-Type", "application/xml")])
        )

    async def list_buckets(self, call: Call) -> Result:
        store = self._store
        prefix = call.params.get("Prefix", "")
        limit = min(call.params.get("MaxBuckets", _LIST_MAX), _LIST_MAX)
        after = call.params.get("ContinuationToken", "")
        if call.params.get("BucketRegion", store.region) != store.region:
            return {"Buckets": [], "Owner": store.owner}
        found = fetch_all(
            store.db,
            "SELECT name, created FROM bucket WHERE name > ? AND substr(name, 1, ?) = ? ORDER BY name LIMIT ?",
            (after, len(prefix), prefix, limit + 1),
        )
        result: dict[str, Any] = {
            "Buckets": [
                {"Name": name, "CreationDate": created / 1_000_000, "BucketRegion": store.region}
                for name, created in found[:limit]
            ],
            "Owner": store.owner,
        }
        if len(found) > limit > 0:
            result["ContinuationToken"] = found[limit - 1][0]
        if prefix:
            result["Prefix"] = prefix
        return result

    async def get_bucket_location(self, call: Call) -> Result:
        rows.find_bucket(self._store.db, call.bucket)
        region = self._store.region
        return {"LocationConstraint": None if region == _CLASSIC_REGION else region}

    async def get_bucket_versioning(self, call: Call) -> Result:
        bucket = rows.find_bucket(self._store.db, call.bucket)
        return {"Status": bucket.versioning} if bucket.versioning else {}

    async def put_bucket_versioning(self, call: Call) -> Result:
        name = call.bucket
        asked = call.params.get("VersioningConfiguration", {}).get("Status")
        if asked not in (rows.ENABLED, rows.SUSPENDED):
            raise AwsError("IllegalVersioningConfigurationException", "The Versioning element must be specified")

        def change(tx: Transaction) -> None:
            bucket = rows.find_bucket(tx.db, name)
            if asked == rows.SUSPENDED and bucket.replicated:
                raise AwsError(
                    "InvalidBucketState",
                    "A replication configuration is present on this bucket, so the versioning state cannot be changed.",
                )
            if asked == rows.SUSPENDED and read_setting(tx.db, bucket.id, "ObjectLockConfiguration"):
                raise AwsError(
                    "InvalidBucketState",
                    "An Object Lock configuration is present on this bucket, so the versioning state cannot be "
                    "changed.",
                )
            tx.db.execute("UPDATE bucket SET versioning = ? WHERE id = ?", (asked, bucket.id))

        await self._store.writer.submit(change)
        return Response(200)
