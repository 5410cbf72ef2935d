"""What hangs on an object beside its content: tags, the access control list, legal hold and retention."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nearpoint.awsproto import AwsError
from nearpoint.bucket import acl, rows
from nearpoint.bucket.admission import check_acls, check_grants, check_lockable, has_acls
from nearpoint.bucket.calls import Call, Result
from nearpoint.bucket.locks import MODES, check_future
from nearpoint.bucket.metadata import check_tags
from nearpoint.bucket.reading import find_object
from nearpoint.bucket.rows import Bucket, Stored
from nearpoint.bucket.settings import BUCKET_ACL, read_setting, write_setting
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
        bucket, stored = self._find(call)
        return self._acl(bucket, stored.extra().get("acl"))

    async def put_object_acl(self, call: Call) -> Result:
        bucket, _ = self._find(call)
        grants = self._asked_grants(call, bucket, of_bucket=False)
        kept = None if grants == acl.private(self._store.owner) else grants
        await self._update(call, lambda stored: _with_extra(stored, "acl", kept))
        return Response(200)

    async def get_bucket_acl(self, call: Call) -> Result:
        bucket = rows.find_bucket(self._store.db, call.bucket)
        return self._acl(bucket, read_setting(self._store.db, bucket.id, BUCKET_ACL))

    async def put_bucket_acl(self, call: Call) -> Result:
        name = call.bucket
        grants = self._asked_grants(call, rows.find_bucket(self._store.db, name), of_bucket=True)
        kept = None if grants == acl.private(self._store.owner) else grants

        def put(tx: Transaction) -> None:
            write_setting(tx, rows.find_bucket(tx.db, name).id, BUCKET_ACL, kept)

        await self._store.writer.submit(put)
        return Response(200)

    def _acl(self, bucket: Bucket, grants: acl.Grants | None) -> dict[str, Any]:
        owner = self._store.owner
        if grants is None or not has_acls(self._store.db, bucket):
            grants = acl.private(owner)
        return {"Owner": owner, "Grants": grants}

    def _asked_grants(self, call: Call, bucket: Bucket, *, of_bucket: bool) -> acl.Grants:
        """The grants of a request for an ACL: from its header or its document, never both."""
        db, owner = self._store.db, self._store.owner
        check_acls(db, bucket)
        policy = call.params.get("AccessControlPolicy")
        grants = acl.of_headers(call.headers, owner, of_bucket=of_bucket)
        if policy is not None and grants is not None:
            raise AwsError("UnexpectedContent")
        if policy is not None:
            grants = acl.of_document(policy, owner)
        if grants is None:
            raise AwsError("MissingSecurityHeader", extra={"MissingHeaderName": "x-amz-acl"})
        check_grants(db, bucket, grants)
        return grants

    async def get_object_legal_hold(self, call: Call) -> Result:
        hold = self._find_lockable(call).extra().get("legal_hold")
        if hold is None:
            raise AwsError("NoSuchObjectLockConfiguration")
        return {"LegalHold": {"Status": hold}}

    async def put_object_legal_hold(self, call: Call) -> Result:
        status = call.params.get("LegalHold", {}).get("Status")
        if status not in ("ON", "OFF"):
            raise AwsError("MalformedXML")
        self._find_lockable(call)
        await self._update(call, lambda stored: _with_extra(stored, "legal_hold", status))
        return Response(200)

    async def get_object_retention(self, call: Call) -> Result:
        retention = self._find_lockable(call).extra().get("retention")
        if retention is None:
            raise AwsError("NoSuchObjectLockConfiguration")
        return {"Retention": retention | {"RetainUntilDate": parse_iso_date(retention["RetainUntilDate"])}}

    async def put_object_retention(self, call: Call) -> Result:
        asked = call.params.get("Retention", {})
        retention = None
        if asked:
            if asked.get("Mode") not in MODES or "RetainUntilDate" not in asked:
                raise AwsError("MalformedXML")
            retention = {"Mode": asked["Mode"], "RetainUntilDate": iso_date(asked["RetainUntilDate"])}
        bypass = call.headers.get("x-amz-bypass-governance-retention") == "true"
        self._find_lockable(call)
        check_future(retention, datetime.now(UTC))

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

    def _find_lockable(self, call: Call) -> Stored:
        """The version of a call on a lock. Raises InvalidRequest in a bucket without object lock."""
        check_lockable(self._store.db, rows.find_bucket(self._store.db, call.bucket))
        return self._find(call)[1]

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
