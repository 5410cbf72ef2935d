"""What hangs on an object beside its content: tags, the access control list, legal hold and retention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nearpoint.awsproto import AwsError
from nearpoint.bucket import rows
from nearpoint.bucket.calls import Call, Result
from nearpoint.bucket.metadata import check_tags
from nearpoint.bucket.reading import find_object
from nearpoint.bucket.rows import Bucket, Stored
from nearpoint.bucket.store import Store
from nearpoint.bucket.writer import Transaction
from nearpoint.wire.dates import iso_date, parse_iso_date
from nearpoint.wire.message import Headers, Response


class Attributes:
    """The operations on tags, access control lists and locks of objects."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def get_object_tagging(self, call: Call) -> Result:
        bucket, stored = self._find(call)
        result: dict[str, Any] = {"TagSet": [{"Key": key, "Value": value} for key, value in stored.tag_list()]}
        return result | _shown(bucket, stored)

    async def put_object_tagging(self, call: Call) -> Result:
        tag_set = call.params["Tagging"].get("TagSet", [])
        tags = check_tags((tag.get("Key", ""), tag.get("Value", "")) for tag in tag_set)
        packed = rows.pack_tags(tags)
        return await self._update(call, lambda stored: (packed, stored.extras))

    async def delete_object_tagging(self, call: Call) -> Result:
        result = await self._update(call, lambda stored: (None, stored.extras))
        headers = Headers([("x-amz-version-id", result["VersionId"])] if "VersionId" in result else [])
        return Response(204, headers)

    async def get_object_acl(self, call: Call) -> Result:
        self._find(call)
        return self._acl()

    async def put_object_acl(self, call: Call) -> Result:
        self._find(call)
        return self._refuse_acl(call)

    async def get_bucket_acl(self, call: Call) -> Result:
        rows.find_bucket(self._store.db, call.bucket)
        return self._acl()

    async def put_bucket_acl(self, call: Call) -> Result:
        rows.find_bucket(self._store.db, call.bucket)
        return self._refuse_acl(call)

    def _acl(self) -> dict[str, Any]:
        owner = self._store.owner
        grantee = {"Type": "CanonicalUser"} | owner
        return {"Owner": owner, "Grants": [{"Grantee": grantee, "Permission": "FULL_CONTROL"}]}

    def _refuse_acl(self, call: Call) -> Result:
        if call.headers.get("x-amz-acl") == "bucket-owner-full-control":
            return Response(200)
        raise AwsError("AccessControlListNotSupported", "The bucket does not allow ACLs")

    async def get_object_legal_hold(self, call: Call) -> Result:
        hold = self._find(call)[1].extra().get("legal_hold")
        if hold is None:
            raise AwsError("NoSuchObjectLockConfiguration")
        return {"LegalHold": {"Status": hold}}

    async def put_object_legal_hold(self, call: Call) -> Result:
        status = call.params.get("LegalHold", {}).get("Status")
        if status not in ("ON", "OFF"):
            raise AwsError("MalformedXML")
        await self._update(call, lambda stored: _with_extra(stored, "legal_hold", status))
        return Response(200)

    async def get_object_retention(self, call: Call) -> Result:
        retention = self._find(call)[1].extra().get("retention")
        if retention is None:
            raise AwsError("NoSuchObjectLockConfiguration")
        return {"Retention": retention | {"RetainUntilDate": parse_iso_date(retention["RetainUntilDate"])}}

    async def put_object_retention(self, call: Call) -> Result:
        asked = call.params.get("Retention", {})
        retention = None
        if asked:
            if asked.get("Mode") not in ("GOVERNANCE", "COMPLIANCE") or "RetainUntilDate" not in asked:
                raise AwsError("MalformedXML")
            retention = {"Mode": asked["Mode"], "RetainUntilDate": iso_date(asked["RetainUntilDate"])}
        bypass = call.headers.get("x-amz-bypass-governance-retention") == "true"

        def change(stored: Stored) -> tuple[str | None, str | None]:
            before = stored.extra().get("retention")
            if before is None or (bypass and before["Mode"] == "GOVERNANCE"):
                return _with_extra(stored, "retention", retention)
            if retention is None or retention["RetainUntilDate"] < before["RetainUntilDate"]:
                raise AwsError("AccessDenied", "Access Denied because object protected by object lock.")
            return _with_extra(stored, "retention", retention)

        await self._update(call, change)
        return Response(200)

    def _find(self, call: Call) -> tuple[Bucket, Stored]:
        bucket = rows.find_bucket(self._store.db, call.bucket)
        return bucket, find_object(self._store.db, bucket, call.key, call.version)

    async def _update(self, call: Call, change: Callable[[Stored], tuple[str | None, str | None]]) -> dict[str, Any]:
        """Give the version that the call names the tags and extras (packed) that `change` says."""
        name, key, version = call.bucket, call.key, call.version

        def update(tx: Transaction) -> dict[str, Any]:
            bucket = rows.find_bucket(tx.db, name)
            stored = find_object(tx.db, bucket, key, version)
            rows.amend(tx, bucket, stored, *change(stored))
            return _shown(bucket, stored)

        return await self._store.writer.submit(update)


def _shown(bucket: Bucket, stored: Stored) -> dict[str, Any]:
    return {"VersionId": stored.version} if bucket.versioning else {}


def _with_extra(stored: Stored, name: str, value: Any) -> tuple[str | None, str | None]:
    extra = stored.extra()
    extra.pop(name, None)
    if value is not None:
        extra[name] = value
    return stored.tags, rows.pack_extras(extra)
