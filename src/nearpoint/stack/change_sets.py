"""Change sets: what a request would do to a stack, shown before it is carried out.

Everything is decided when a change set is made, so it never stands in CREATE_PENDING. What may become of it follows
from the stack: carried out, it is the stack's `change_set`; once the stack has moved on otherwise, it is obsolete.
CloudFormation User Guide, "Update CloudFormation stacks using change sets".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.changes import resource_changes
from nearpoint.stack.engine import Engine
from nearpoint.stack.errors import TemplateError
from nearpoint.stack.parameters import shown
from nearpoint.stack.preparation import Prepared
from nearpoint.stack.records import ChangeSet, Stack, packed
from nearpoint.stack.requests import REVIEW, StackRequest, check_create

NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{0,127}")
ARN = re.compile(r"arn:aws:cloudformation:[a-z0-9-]+:[0-9]{12}:changeSet/(?P<name>[^/]+)/(?P<uuid>[0-9a-f-]{36})")
CHANGE_SETS_MAX = 100  # of a stack
NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."
KINDS = ("CREATE", "UPDATE")
WENT_WELL = ("CREATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE")
UNDER_WAY = ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS")


def arn_of(change_set: ChangeSet, stack: Stack) -> str:
    """The change set's ARN, which every call may name it by."""
    return f"arn:aws:cloudformation:{stack.region}:{stack.account_id}:changeSet/{change_set.name}/{change_set.uuid}"


def execution_status(change_set: ChangeSet, stack: Stack) -> str:
    """CloudFormation API Reference, `ExecutionStatus`."""
    if change_set.status != "CREATE_COMPLETE":
        return "UNAVAILABLE"
    if stack.change_set == change_set.uuid:
        if stack.status in UNDER_WAY:
            return "EXECUTE_IN_PROGRESS"
        return "EXECUTE_COMPLETE" if stack.status in WENT_WELL else "EXECUTE_FAILED"
    fresh = stack.status == REVIEW if change_set.kind == "CREATE" else stack.updated_at == change_set.base_updated_at
    return "AVAILABLE" if fresh else "OBSOLETE"


def _refuse(text: str) -> AwsError:
    return AwsError("ValidationError", text, status=400)


class ChangeSets:
    """The change sets of an engine's stacks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ledger = engine.ledger

    def find(self, region: str, name_or_arn: str, stack_name: str | None) -> tuple[ChangeSet, Stack]:
        """Raises ChangeSetNotFound, ValidationError."""
        arn = ARN.fullmatch(name_or_arn)
        if arn is not None:
            found = self._ledger.change_set(arn["uuid"])
            if found is not None:
                stack = self._ledger.stack(found.stack_uuid)
                if arn_of(found, stack) == name_or_arn and stack.region == region:
                    return found, stack
        elif stack_name is None:
            raise _refuse("StackName must be specified if ChangeSetName is not specified as an ARN.")
        else:
            stack = self._engine.find(region, stack_name)
            for each in self._ledger.change_sets(stack.uuid):
                if each.name == name_or_arn:
                    return each, stack
        raise AwsError("ChangeSetNotFound", f"ChangeSet [{name_or_arn}] does not exist", status=404)

    async def create(
        self,
        request: StackRequest,
        *,
        name: str,
        kind: str,
        description: str | None = None,
        on_failure: str | None = None,
    ) -> tuple[ChangeSet, Stack]:
        """Make one; for CREATE also the stack that it would fill, where there is none. A request that would change
        nothing makes a FAILED one. Raises AwsError: ValidationError, AlreadyExistsException,
        InsufficientCapabilitiesException, LimitExceededException."""
        if not NAME.fullmatch(name):
            raise _refuse(
                f"1 validation error detected: Value '{name[:256]}' at 'changeSetName' failed to satisfy constraint: "
                "Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"
            )
        async with self._engine.lock:
            existing = self._ledger.find(request.region, request.name)
            if existing is not None:
                known = self._known(existing, name, request.client_request_token)
                if known is not None:
                    return known, existing
            if kind == "CREATE":
                stack, made = await self._for_creation(request, existing, name)
            else:
                stack, made = await self._for_update(request, name)
            made = msgspec.structs.replace(
                made, description=description, on_failure=on_failure, client_token=request.client_request_token
            )
            if existing is None:
                self._engine.check_room(request)
                await self._ledger.put_stack(stack)
            await self._ledger.put_change_set(made)
            return made, stack

    def _known(self, stack: Stack, name: str, token: str | None) -> ChangeSet | None:
        """The one that the same request has made before. Raises AwsError for a name or a number taken."""
        change_sets = self._ledger.change_sets(stack.uuid)
        for each in change_sets:
            if each.name == name:
                if token is not None and token == each.client_token:
                    return each
                raise AwsError("AlreadyExistsException", f"ChangeSet {arn_of(each, stack)} already exists", status=400)
        if len(change_sets) >= CHANGE_SETS_MAX:
            raise AwsError("LimitExceededException", f"A stack has at most {CHANGE_SETS_MAX} change sets", status=400)
        return None

    async def _for_creation(self, request: StackRequest, existing: Stack | None, name: str) -> tuple[Stack, ChangeSet]:
        check_create(request)
        if existing is not None and existing.status != REVIEW:
            raise _refuse(
                f"Stack [{request.name}] already exists and cannot be created again with the changeSet [{name}]."
            )
        stack, prepared = await self._engine.plan_create(request, REVIEW)
        stack = existing or msgspec.structs.replace(stack, parameters={}, tags={}, capabilities=())
        assert request.template is not None
        made = self._record(
            stack,
            name,
            "CREATE",
            request.template,
            parameters=request.parameters,
            shown_parameters=shown(prepared.template.parameters, request.parameters),
            tags=request.tags or {},
            capabilities=request.capabilities,
            notification_arns=request.notification_arns,
            role_arn=request.role_arn,
        )
        return stack, self._with_changes(made, stack, {}, prepared)

    async def _for_update(self, request: StackRequest, name: str) -> tuple[Stack, ChangeSet]:
        stack = self._engine.find(request.region, request.name)
        planned = await self._engine.plan_update(request, stack)
        made = self._record(
            stack,
            name,
            "UPDATE",
            planned.text,
            parameters=planned.stack.parameters,
            shown_parameters=planned.stack.shown_parameters,
            tags=planned.stack.tags,
            capabilities=planned.stack.capabilities,
            base_updated_at=stack.updated_at,
        )
        if planned.changes_nothing:
            return stack, msgspec.structs.replace(made, status="FAILED", status_reason=NO_CHANGES)
        return stack, self._with_changes(made, stack, planned.before.scope.parameters, planned.after)

    def _record(self, stack: Stack, name: str, kind: str, text: str, **fields: object) -> ChangeSet:
        try:
            text_zlib = packed(text.encode())
        except ValueError:
            raise TemplateError("The template is too long to keep, even compressed") from None
        return msgspec.structs.replace(
            ChangeSet(
                uuid=self._ledger.new_uuid(),
                stack_uuid=stack.uuid,
                name=name,
                kind=kind,
                status="CREATE_COMPLETE",
                created_at=self._ledger.now(),
                text_zlib=text_zlib,
            ),
            **fields,
        )

    def _with_changes(
        self, made: ChangeSet, stack: Stack, parameters_before: Mapping[str, object], after: Prepared
    ) -> ChangeSet:
        exports = {name: value for name, (value, _) in self._ledger.exports(stack.region).items()}
        try:
            changes = resource_changes(self._ledger.resources(stack.uuid), parameters_before, after, exports)
        except TemplateError as error:
            return msgspec.structs.replace(made, status="FAILED", status_reason=error.message)
        return msgspec.structs.replace(made, changes=changes)

    async def execute(
        self,
        region: str,
        name_or_arn: str,
        stack_name: str | None,
        *,
        client_request_token: str | None = None,
        keep_on_failure: bool = False,
    ) -> Stack:
        """Start what it describes. Raises AwsError: InvalidChangeSetStatus, ChangeSetNotFound, and what creating or
        updating the stack may raise."""
        change_set, stack = self.find(region, name_or_arn, stack_name)
        status = execution_status(change_set, stack)
        if status != "AVAILABLE":
            raise AwsError(
                "InvalidChangeSetStatus",
                f"ChangeSet [{arn_of(change_set, stack)}] cannot be executed in its current execution status of "
                f"[{status}]",
                status=400,
            )
        request = StackRequest(
            name=stack.name,
            region=stack.region,
            template=change_set.text,
            parameters=change_set.parameters,
            capabilities=change_set.capabilities,
            tags=change_set.tags,
            on_failure="DO_NOTHING" if keep_on_failure else change_set.on_failure or "ROLLBACK",
            notification_arns=change_set.notification_arns,
            role_arn=change_set.role_arn,
            client_request_token=client_request_token,
        )
        if change_set.kind == "CREATE":
            return await self._engine.create(request, change_set=change_set.uuid)
        return await self._engine.update(request, change_set=change_set.uuid)

    async def delete(self, region: str, name_or_arn: str, stack_name: str | None) -> None:
        """Forget it; one that is not there is fine. Raises InvalidChangeSetStatus while it is being carried out."""
        try:
            change_set, stack = self.find(region, name_or_arn, stack_name)
        except AwsError as error:
            if error.code == "ChangeSetNotFound":
                return
            raise
        if execution_status(change_set, stack) == "EXECUTE_IN_PROGRESS":
            raise AwsError(
                "InvalidChangeSetStatus",
                f"ChangeSet [{arn_of(change_set, stack)}] cannot be deleted while it is being executed",
                status=400,
            )
        await self._ledger.drop_change_set(change_set)
