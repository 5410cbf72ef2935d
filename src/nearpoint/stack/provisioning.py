"""Brings one resource to what the template says, or removes it, and records every step before it is taken.

Each step may be taken again after a crash: a resource's physical id is on record before the resource is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import msgspec
import structlog

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.failures import UPDATE_CANCELLED, CancelledError, handler_error_code, reason_of
from nearpoint.stack.intrinsics import Made, Scope, evaluate
from nearpoint.stack.ledger import Ledger
from nearpoint.stack.plan import Change, change_of
from nearpoint.stack.records import Former, StackResource, pack_properties, unpack_properties
from nearpoint.stack.schema import PropertyError
from nearpoint.stack.template import ResourceDeclaration
from nearpoint.stack.types import TYPES
from nearpoint.stack.types.base import Means, Naming, NotStabilizedError, ResourceType

log = structlog.get_logger("nearpoint.stack")

ON_FILE = ("CREATE_COMPLETE", "UPDATE_COMPLETE")


class Provisioner:
    """The resources of one stack. `stop` ends waiting for what is under way; nothing is broken off in the middle."""

    def __init__(self, ledger: Ledger, means: Means, uuid: str, stop: asyncio.Event) -> None:
        self._ledger = ledger
        self._means = means
        self._uuid = uuid
        self._stop = stop

    # ------------------------------------------------------------------ making and changing

    async def bring(
        self,
        declaration: ResourceDeclaration,
        scope: Scope,
        *,
        revision: int,
        needs: frozenset[str],
        updating: bool,
    ) -> Made | None:
        """Make, change, replace or keep the resource; None when that failed, with the reason on record."""
        record = self._ledger.resource(self._uuid, declaration.logical_id)
        if record is not None and record.revision == revision:
            if record.status in ON_FILE:
                return Made(ref=record.physical_id, attributes=record.attributes)
            if record.status.endswith("_FAILED"):  # a crash came before the stack took note
                return None
        verb = "UPDATE" if updating and record is not None and record.physical_id and not record.added else "CREATE"
        try:
            kind = TYPES[declaration.type]
            properties = kind.properties.check(evaluate(declaration.properties, scope), "")
            if verb == "CREATE":
                record = await self._create(declaration, kind, record, properties, revision, needs, updating)
            else:
                assert record is not None
                record = await self._update(declaration, kind, record, properties, revision, needs)
        except Exception as error:
            await self._failed(declaration, f"{verb}_FAILED", error, revision, needs)
            return None
        return Made(ref=record.physical_id, attributes=record.attributes)

    def _record(
        self,
        declaration: ResourceDeclaration,
        properties: dict[str, Any],
        revision: int,
        needs: frozenset[str],
        **changes: Any,
    ) -> StackResource:
        try:
            properties_zlib = pack_properties(properties)
        except ValueError as error:
            raise AwsError("InvalidRequest", f"The properties are too long to keep: {error}") from None
        return StackResource(
            uuid=self._uuid,
            logical_id=declaration.logical_id,
            type=declaration.type,
            updated_at=0.0,
            properties_zlib=properties_zlib,
            depends_on=tuple(sorted(needs)),
            deletion_policy=declaration.deletion_policy,
            update_replace_policy=declaration.update_replace_policy,
            line=declaration.line,
            revision=revision,
            **changes,
        )

    async def _create(
        self,
        declaration: ResourceDeclaration,
        kind: ResourceType,
        record: StackResource | None,
        properties: dict[str, Any],
        revision: int,
        needs: frozenset[str],
        added: bool,
    ) -> StackResource:
        made = None
        if record is not None and record.physical_id and record.status == "CREATE_IN_PROGRESS":
            made = kind.exists(record.physical_id, self._means)  # interrupted: it may or may not have been made
        else:
            blank = self._record(declaration, {}, revision, needs, status="CREATE_IN_PROGRESS", added=added)
            await self._ledger.put_resource(blank)
            physical_id = self._fresh_id(declaration, kind, properties)
            record = self._record(
                declaration,
                properties,
                revision,
                needs,
                status="CREATE_IN_PROGRESS",
                status_reason="Resource creation Initiated",
                physical_id=physical_id,
                added=added,
            )
            await self._ledger.put_resource(record)
        if made is None:
            made = await kind.create(record.physical_id, properties, self._means)
        return await self._settled(kind, record, made, "CREATE_COMPLETE")

    def _fresh_id(self, declaration: ResourceDeclaration, kind: ResourceType, properties: dict[str, Any]) -> str:
        naming = Naming(
            stack_name=self._ledger.stack(self._uuid).name,
            logical_id=declaration.logical_id,
            random_bytes=self._means.services.random_bytes(16),
        )
        physical_id = kind.physical_id(naming, properties, self._means)
        if kind.exists(physical_id, self._means) is not None:
            raise AwsError("AlreadyExists", f"{physical_id} already exists", status=409)
        return physical_id

    async def _settled(self, kind: ResourceType, record: StackResource, made: Made, status: str) -> StackResource:
        record = await self._ledger.put_resource(
            msgspec.structs.replace(record, physical_id=made.ref, attributes=dict(made.attributes)), event=False
        )
        await self._unless_stopped(kind.settle(made.ref, self._means))
        return await self._ledger.put_resource(msgspec.structs.replace(record, status=status, status_reason=None))

    async def _unless_stopped(self, waiting: Awaitable[None]) -> None:
        work = asyncio.ensure_future(waiting)
        stopped = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                raise CancelledError
            work.result()
        finally:
            work.cancel()
            stopped.cancel()

    async def _update(
        self,
        declaration: ResourceDeclaration,
        kind: ResourceType,
        record: StackResource,
        properties: dict[str, Any],
        revision: int,
        needs: frozenset[str],
    ) -> StackResource:
        made = None
        if record.revision == revision and record.former is not None:  # interrupted, or asked again after a failure
            if record.former.replaced:
                made = kind.exists(record.physical_id, self._means)
        else:
            change = change_of(
                type_before=record.type,
                type_after=declaration.type,
                properties_before=unpack_properties(record.properties_zlib),
                properties_after=properties,
                replacing=kind.replacing,
            )
            noted = self._noted(declaration, kind, record, properties, revision, needs, change)
            if change == "keep":
                return await self._ledger.put_resource(noted, event=False)
            record = noted
            await self._ledger.put_resource(record)
        former = record.former
        assert former is not None
        if not former.replaced:
            before_properties = unpack_properties(former.properties_zlib)
            if before_properties == properties:
                return record
            made = await kind.update(record.physical_id, before_properties, properties, self._means)
        elif made is None:
            made = await kind.create(record.physical_id, properties, self._means)
            await self._ledger.add_resource_event(record, "UPDATE_IN_PROGRESS", "Resource creation Initiated")
        return await self._settled(kind, record, made, "UPDATE_COMPLETE")

    def _noted(
        self,
        declaration: ResourceDeclaration,
        kind: ResourceType,
        before: StackResource,
        properties: dict[str, Any],
        revision: int,
        needs: frozenset[str],
        change: Change,
    ) -> StackResource:
        """What is written down of a resource before it is changed: an update that is interrupted goes on from it."""
        record = self._record(
            declaration,
            properties,
            revision,
            needs,
            status=before.status if change == "keep" else "UPDATE_IN_PROGRESS",
            physical_id=before.physical_id,
            attributes=before.attributes,
            former=_former(before, replaced=change == "replace"),
        )
        if change != "replace":
            return record
        return msgspec.structs.replace(
            record,
            physical_id=self._replacement_id(declaration, kind, properties, before),
            attributes={},
            status_reason="Requested update requires the creation of a new physical resource; hence creating one.",
        )

    def _replacement_id(
        self, declaration: ResourceDeclaration, kind: ResourceType, properties: dict[str, Any], before: StackResource
    ) -> str:
        try:
            return self._fresh_id(declaration, kind, properties)
        except AwsError as error:
            if error.code == "AlreadyExists" and error.message.startswith(f"{before.physical_id} "):
                raise AwsError(
                    "InvalidRequest",
                    "CloudFormation cannot update a stack when a custom-named resource requires replacing. Rename "
                    f"{before.physical_id} and update the stack again.",
                ) from None
            raise

    async def _failed(
        self,
        declaration: ResourceDeclaration,
        status: str,
        error: Exception,
        revision: int,
        needs: frozenset[str],
    ) -> None:
        if not isinstance(error, AwsError | CancelledError | NotStabilizedError | PropertyError):
            log.warning("resource failed", logical_id=declaration.logical_id, exc_info=error)
        record = self._ledger.resource(self._uuid, declaration.logical_id)
        reason = reason_of(
            error,
            type_name=declaration.type,
            request_token=self._ledger.new_uuid(),
            **({"cancelled": UPDATE_CANCELLED} if status.startswith("UPDATE") else {}),
        )
        if record is None or (record.status == "DELETE_COMPLETE" and status == "CREATE_FAILED"):
            record = self._record(declaration, {}, revision, needs, status=status)
        if status == "CREATE_FAILED" and isinstance(error, AwsError) and handler_error_code(error) == "AlreadyExists":
            record = msgspec.structs.replace(record, physical_id="")  # what is there is somebody else's
        await self._ledger.put_resource(msgspec.structs.replace(record, status=status, status_reason=reason))

    # ------------------------------------------------------------------ going back and removing

    async def restore(self, logical_id: str, *, skip: bool = False) -> bool:
        """Undo what the update under way did to the resource; what it replaced comes back, the new one is left to
        `clean_up`. `skip`: only say so. False when that failed."""
        record = self._ledger.resource(self._uuid, logical_id)
        if record is None:
            return True
        if record.former is None:
            if record.status == "UPDATE_FAILED":  # it failed before anything was changed
                await self._ledger.put_resource(
                    msgspec.structs.replace(record, status="UPDATE_COMPLETE", status_reason=None)
                )
            return True
        former, kind = record.former, TYPES[record.type]
        if former.undone:
            return True
        touched = (
            former.replaced
            or record.status == "UPDATE_FAILED"
            or unpack_properties(former.properties_zlib) != unpack_properties(record.properties_zlib)
        )
        if touched and not former.replaced and not skip:
            await self._ledger.add_resource_event(record, "UPDATE_IN_PROGRESS")
            try:
                await kind.update(
                    record.physical_id,
                    unpack_properties(record.properties_zlib),
                    unpack_properties(former.properties_zlib),
                    self._means,
                )
                await self._unless_stopped(kind.settle(record.physical_id, self._means))
            except Exception as error:
                reason = reason_of(error, type_name=record.type, request_token=self._ledger.new_uuid())
                await self._ledger.put_resource(
                    msgspec.structs.replace(record, status="UPDATE_FAILED", status_reason=reason)
                )
                return False
        back = msgspec.structs.replace(
            record,
            type=former.type,
            physical_id=former.physical_id,
            attributes=former.attributes,
            properties_zlib=former.properties_zlib,
            deletion_policy=former.deletion_policy,
            update_replace_policy=former.update_replace_policy,
            depends_on=former.depends_on,
            revision=former.revision,
            status="UPDATE_COMPLETE" if touched else record.status,
            status_reason=None,
            # The new one, if there is one, is now what has to be cleaned up.
            former=_former(record, replaced=True, undone=True) if former.replaced else None,
        )
        await self._ledger.put_resource(back, event=touched)
        return True

    async def clean_up(self, logical_id: str) -> None:
        """Remove what was replaced. A failure is written down and passed over, as CloudFormation does."""
        record = self._ledger.resource(self._uuid, logical_id)
        if record is None or (record.former is None and not record.added):
            return
        former = record.former
        if former is not None and former.replaced and (former.undone or former.update_replace_policy == "Delete"):
            old = msgspec.structs.replace(record, physical_id=former.physical_id, type=former.type)
            await self._ledger.add_resource_event(old, "DELETE_IN_PROGRESS")
            try:
                await TYPES[former.type].delete(
                    former.physical_id, unpack_properties(former.properties_zlib), self._means
                )
                await self._ledger.add_resource_event(old, "DELETE_COMPLETE")
            except Exception as error:
                reason = reason_of(error, type_name=former.type, request_token=self._ledger.new_uuid())
                await self._ledger.add_resource_event(old, "DELETE_FAILED", reason)
        record = msgspec.structs.replace(record, former=None, added=False)
        await self._ledger.put_resource(record, event=False)

    async def remove(self, logical_id: str, *, created_now: bool = False) -> bool:
        """Delete, or leave where the deletion policy says so. `created_now`: by the stack creation that is being
        rolled back. False when that failed, with the reason on record."""
        record = self._ledger.resource(self._uuid, logical_id)
        if record is None or record.status in ("DELETE_COMPLETE", "DELETE_SKIPPED"):
            return True
        keep = record.deletion_policy == "Retain" or (
            record.deletion_policy == "RetainExceptOnCreate" and not created_now
        )
        if keep and record.physical_id and record.status in (*ON_FILE, "DELETE_FAILED"):
            await self._ledger.put_resource(
                msgspec.structs.replace(record, status="DELETE_SKIPPED", status_reason=None, former=None)
            )
            return True
        record = await self._ledger.put_resource(
            msgspec.structs.replace(record, status="DELETE_IN_PROGRESS", status_reason=None),
            event=bool(record.physical_id),
        )
        try:
            if record.physical_id:
                properties = unpack_properties(record.properties_zlib)
                await TYPES[record.type].delete(record.physical_id, properties, self._means)
        except Exception as error:
            reason = reason_of(error, type_name=record.type, request_token=self._ledger.new_uuid())
            await self._ledger.put_resource(
                msgspec.structs.replace(record, status="DELETE_FAILED", status_reason=reason)
            )
            return False
        await self._ledger.put_resource(msgspec.structs.replace(record, status="DELETE_COMPLETE", former=None))
        return True


def _former(record: StackResource, *, replaced: bool, undone: bool = False) -> Former:
    return Former(
        type=record.type,
        physical_id=record.physical_id,
        attributes=record.attributes,
        properties_zlib=record.properties_zlib,
        replaced=replaced,
        undone=undone,
        deletion_policy=record.deletion_policy,
        update_replace_policy=record.update_replace_policy,
        depends_on=record.depends_on,
        revision=record.revision,
    )
