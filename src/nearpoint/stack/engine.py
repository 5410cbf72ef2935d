"""Stacks as callers see them: asked for, checked, started, found; and taken up again after a restart.

What can be refused is refused before anything is written; the rest happens in a task per stack (`deployment`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import structlog

from nearpoint.awsproto.errors import AwsError
from nearpoint.stack.deployment import STEPS, Deployment
from nearpoint.stack.errors import TemplateError
from nearpoint.stack.ledger import Ledger
from nearpoint.stack.matching import matches_in_time
from nearpoint.stack.parameters import Matcher, shown
from nearpoint.stack.plan import dependencies
from nearpoint.stack.preparation import (
    Prepared,
    capabilities_needed,
    check_capabilities,
    imports_of,
    prepare_stack,
)
from nearpoint.stack.records import Previous, Stack
from nearpoint.stack.requests import DELETABLE, REVIEW, StackRequest, check_create, check_update
from nearpoint.stack.services.context import Context
from nearpoint.stack.services.packages import sweep
from nearpoint.stack.template import Template, parse
from nearpoint.stack.types import ATTRIBUTES
from nearpoint.stack.types.base import BucketOperations, Means, ObjectReader
from nearpoint.stack.update import NO_UPDATES, Planned, plan_update
from nearpoint.state.resources import Function

log = structlog.get_logger("nearpoint.stack")

STACKS_MAX = 2000  # of a region


class Engine:
    """The stacks of all regions of a world. `start` once; `close` before the process ends."""

    def __init__(
        self,
        services: Context,
        *,
        reader: ObjectReader,
        buckets: BucketOperations,
        published: Callable[[float], Awaitable[bool]],
        matcher: Matcher = matches_in_time,
    ) -> None:
        self.ledger = Ledger(services.state, services.now, services.random_bytes)
        self._services = services
        self.reader = reader
        self._buckets = buckets
        self._published = published
        self._matcher = matcher
        self.lock = asyncio.Lock()
        self._deployments: dict[str, Deployment] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    # ------------------------------------------------------------------ life

    async def resume(self) -> list[Stack]:
        """Go on with every stack that a restart interrupted; answers them. Call before anything else is served."""
        in_use = {function.code_sha256 for function in self._services.state.list(Function)}
        await asyncio.to_thread(sweep, self._services.packages_dir, in_use)
        await self.ledger.prune()
        interrupted = [each for each in self.ledger.stacks() if each.status in STEPS]
        for stack in interrupted:
            log.info("going on", stack=stack.name, region=stack.region, status=stack.status)
            self._start(stack)
        return interrupted

    async def close(self) -> None:
        """Leave everything as it is on record; `resume` takes it up."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self, uuid: str) -> Stack:
        """Wait until nothing is under way for that stack."""
        while (task := self._tasks.get(uuid)) is not None:
            await asyncio.wait((task,))
        return self.ledger.stack(uuid)

    def _means(self, region: str) -> Means:
        return Means(
            services=self._services,
            region=region,
            reader=self.reader,
            buckets=self._buckets,
            published=self._published,
        )

    def _start(self, stack: Stack) -> None:
        deployment = Deployment(self.ledger, self._means(stack.region), stack.uuid)
        self._deployments[stack.uuid] = deployment
        task = asyncio.create_task(self._run(deployment, stack.uuid), name=f"stack {stack.name}")
        self._tasks[stack.uuid] = task

        def forget(finished: asyncio.Task[None]) -> None:
            if self._tasks.get(stack.uuid) is finished:
                del self._tasks[stack.uuid]
                del self._deployments[stack.uuid]

        task.add_done_callback(forget)

    async def _run(self, deployment: Deployment, uuid: str) -> None:
        pause_s = 0.5
        while True:
            try:
                await deployment.run()
            except Exception as error:
                # The state store is away, most likely; every step can be taken again.
                log.warning("stack step failed, trying again", stack=uuid, exc_info=error)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, 30.0)
            else:
                return

    # ------------------------------------------------------------------ looking

    def find(self, region: str, name_or_arn: str) -> Stack:
        """Raises ValidationError where there is none."""
        stack = self.ledger.find(region, name_or_arn)
        if stack is None:
            raise AwsError("ValidationError", f"Stack [{name_or_arn}] does not exist", status=400)
        return stack

    async def parsed(self, text: str) -> Template:
        """A template that is well formed. Raises TemplateError."""

        def read() -> Template:
            template = parse(text, ATTRIBUTES)
            if not template.conditions:  # which may take a circle apart
                dependencies(template, {})
            return template

        return await asyncio.to_thread(read)

    def capabilities(self, template: Template) -> list[str]:
        """What creating it has to acknowledge."""
        return capabilities_needed(template)

    # ------------------------------------------------------------------ asking

    async def create(self, request: StackRequest, *, change_set: str = "") -> Stack:
        """Start creating a stack; `change_set` is the uuid of the one that it comes from, for a stack that is in
        REVIEW_IN_PROGRESS. Raises AwsError: ValidationError, AlreadyExistsException, LimitExceededException,
        InsufficientCapabilitiesException."""
        check_create(request)
        assert request.template is not None
        if (known := self._same_request(request)) is not None:
            return known
        stack, prepared = await self.plan_create(request, "CREATE_IN_PROGRESS")
        async with self.lock:
            if (known := self._same_request(request)) is not None:
                return known
            reviewed = self.ledger.find(request.region, request.name) if change_set else None
            if reviewed is None or reviewed.status != REVIEW:
                self.check_room(request)
            else:
                stack = msgspec.structs.replace(stack, uuid=reviewed.uuid, created_at=reviewed.created_at)
            stack = msgspec.structs.replace(
                stack,
                description=prepared.template.description,
                shown_parameters=shown(prepared.template.parameters, request.parameters),
                change_set=change_set,
            )
            await self.ledger.put_template(stack.uuid, stack.target, request.template)
            await self.ledger.put_stack(stack)
            await self.ledger.drop_change_sets(stack.uuid, keep=change_set)
            self._start(stack)
            return stack

    async def plan_create(self, request: StackRequest, status: str) -> tuple[Stack, Prepared]:
        """The stack as it would be written, and what would be made of it. Raises AwsError as `create`."""
        assert request.template is not None
        stack = Stack(
            uuid=self.ledger.new_uuid(),
            name=request.name,
            region=request.region,
            account_id=self._services.account_id,
            status=status,
            status_reason="User Initiated",
            created_at=self._services.now(),
            parameters=request.parameters,
            tags=request.tags or {},
            capabilities=request.capabilities,
            on_failure=request.on_failure,
            timeout_minutes=request.timeout_minutes,
            notification_arns=request.notification_arns,
            role_arn=request.role_arn,
            termination_protection=request.termination_protection,
            client_request_token=request.client_request_token,
        )
        prepared = await prepare_stack(stack, request.template, self._matcher)
        check_capabilities(prepared.template, request.capabilities)
        imports_of(prepared)  # raises where a name can't be told beforehand
        return stack, prepared

    def check_room(self, request: StackRequest) -> None:
        """Raises AwsError where the name is taken or there are too many stacks."""
        if self.ledger.find(request.region, request.name) is not None:
            raise AwsError("AlreadyExistsException", f"Stack [{request.name}] already exists", status=400)
        if sum(1 for _ in self.ledger.live(request.region)) >= STACKS_MAX:
            raise AwsError("LimitExceededException", f"Limit for stack has been exceeded: {STACKS_MAX}", status=400)

    def _same_request(self, request: StackRequest) -> Stack | None:
        if request.client_request_token is None:
            return None
        stack = self.ledger.find(request.region, request.name)
        if stack is not None and stack.client_request_token == request.client_request_token:
            return stack
        return None

    async def plan_update(self, request: StackRequest, stack: Stack) -> Planned:
        """What the update would do. Raises AwsError as `update`."""
        check_update(request, stack)
        return await plan_update(stack, self.ledger.template(stack.uuid, stack.revision), request, self._matcher)

    async def update(self, request: StackRequest, *, change_set: str = "") -> Stack:
        """Start updating a stack; `change_set` is the uuid of the one that it comes from. Raises AwsError:
        ValidationError ("No updates are to be performed." among them), InsufficientCapabilitiesException."""
        async with self.lock:
            stack = self.find(request.region, request.name)
            if request.client_request_token is not None and stack.client_request_token == request.client_request_token:
                return stack
            planned = await self.plan_update(request, stack)
            if planned.changes_nothing:
                raise TemplateError(NO_UPDATES)
            target = stack.revision + 1
            await self.ledger.put_template(stack.uuid, target, planned.text)
            changed = msgspec.structs.replace(
                planned.stack,
                status="UPDATE_IN_PROGRESS",
                status_reason="User Initiated",
                updated_at=self._services.now(),
                target=target,
                client_request_token=request.client_request_token,
                change_set=change_set,
                previous=Previous(
                    parameters=stack.parameters,
                    shown_parameters=stack.shown_parameters,
                    tags=stack.tags,
                    capabilities=stack.capabilities,
                    description=stack.description,
                    imports=stack.imports,
                ),
            )
            await self.ledger.put_stack(changed)
            await self.ledger.drop_change_sets(stack.uuid, keep=change_set)
            self._start(changed)
            return changed

    async def cancel_update(self, region: str, name_or_arn: str) -> None:
        """Stop an update and start undoing it. Raises ValidationError where none is under way."""
        while True:
            async with self.lock:
                stack = self.find(region, name_or_arn)
                if stack.status != "UPDATE_IN_PROGRESS":
                    raise TemplateError("CancelUpdateStack cannot be called from current stack status")
                deployment = self._deployments.get(stack.uuid)
                if deployment is None:
                    self._start(
                        await self.ledger.move_stack(stack.uuid, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
                    )
                    return
                deployment.interrupt.set()
            await self.settled(stack.uuid)

    async def continue_rollback(self, region: str, name_or_arn: str, *, skip: tuple[str, ...] = ()) -> None:
        """Try once more to undo an update; the resources of `skip` are taken for undone. Raises ValidationError where
        no such rollback has failed, or these resources have not."""
        async with self.lock:
            stack = self.find(region, name_or_arn)
            if stack.status != "UPDATE_ROLLBACK_FAILED":
                raise TemplateError(f"Stack:{stack.arn} is in {stack.status} state and can not continue its rollback.")
            found = self.ledger.resources(stack.uuid)
            strangers = [name for name in skip if name not in found or found[name].status != "UPDATE_FAILED"]
            if strangers:
                raise TemplateError(f"Resources to skip have to be in UPDATE_FAILED: [{', '.join(strangers)}]")
            self._start(
                await self.ledger.move_stack(stack.uuid, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated", skip=skip)
            )

    async def delete(
        self, region: str, name_or_arn: str, *, retain: tuple[str, ...] = (), client_request_token: str | None = None
    ) -> None:
        """Start deleting; a stack that is not there, or going already, is fine. Raises ValidationError where the
        stack may not be deleted now."""
        while True:
            async with self.lock:
                stack = self.ledger.find(region, name_or_arn)
                if stack is None or stack.status in ("DELETE_COMPLETE", "DELETE_IN_PROGRESS"):
                    return
                self._check_delete(stack, retain)
                deployment = self._deployments.get(stack.uuid)
                if deployment is None:
                    stack = await self.ledger.move_stack(
                        stack.uuid,
                        "DELETE_IN_PROGRESS",
                        "User Initiated",
                        retain=retain,
                        client_request_token=client_request_token,
                    )
                    self._start(stack)
                    return
                deployment.interrupt.set()
            await self.settled(stack.uuid)

    def _check_delete(self, stack: Stack, retain: tuple[str, ...]) -> None:
        def refuse(text: str) -> AwsError:
            return AwsError("ValidationError", text, status=400)

        if stack.termination_protection:
            raise refuse(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        if stack.status not in DELETABLE:
            raise refuse(f"Stack [{stack.arn}] cannot be deleted while in status {stack.status}")
        for output in stack.outputs:
            importers = [] if output.export_name is None else self.ledger.importers(stack.region, output.export_name)
            if importers:
                names = " and ".join(each.name for each in importers)
                raise refuse(f"Export {output.export_name} cannot be deleted as it is in use by {names}")
        if retain and stack.status != "DELETE_FAILED":
            raise refuse(
                f"Invalid operation on stack [{stack.arn}]. The specified resources to retain must be in a valid "
                "state: the stack is not in DELETE_FAILED"
            )
        strangers = [name for name in retain if self.ledger.resource(stack.uuid, name) is None]
        if strangers:
            raise refuse(f"The stack has no resources [{', '.join(strangers)}] to retain")

    async def protect(self, region: str, name_or_arn: str, *, protection: bool) -> Stack:
        """Switch termination protection."""
        async with self.lock:
            stack = self.find(region, name_or_arn)
            return await self.ledger.change_stack(stack.uuid, termination_protection=protection)
