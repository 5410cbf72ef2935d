"""Moves one stack from status to status: `STEPS` says which step belongs to which status, and that is all of it.

A step brings the stack to its next status, so a stack that a crash left anywhere goes on by taking the step of the
status it is in. Making runs in parallel in the order of needs, removing the other way round.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

import msgspec

from nearpoint.stack import plan
from nearpoint.stack.errors import TemplateError
from nearpoint.stack.intrinsics import Made, Scope, evaluate, text_of
from nearpoint.stack.ledger import Ledger
from nearpoint.stack.preparation import Prepared, imports_of, prepare_stack, unchecked
from nearpoint.stack.provisioning import Provisioner
from nearpoint.stack.records import Output, Stack, StackResource
from nearpoint.stack.types.base import Means

EXPORT_NAME = re.compile(r"[A-Za-z0-9:-]{1,255}")
OUTPUT_BYTES_MAX = 4096
BY_USER = " requested by user."


class Deployment:
    """The steps of one stack. `interrupt` is set to make it stop making things (a deletion or a rollback has been asked
    for)."""

    def __init__(self, ledger: Ledger, means: Means, uuid: str) -> None:
        self._ledger = ledger
        self._means = means
        self._uuid = uuid
        self.interrupt = asyncio.Event()

    @property
    def _stack(self) -> Stack:
        return self._ledger.stack(self._uuid)

    async def run(self) -> None:
        """Take steps until the stack rests, or `interrupt` is set while it was being created or updated."""
        while (step := STEPS.get(self._stack.status)) is not None:
            status = self._stack.status
            await step(self)
            if self._stack.status == status:
                return

    # ------------------------------------------------------------------ creating

    async def create(self) -> None:
        stack = self._stack
        stop = asyncio.Event()
        failure: str | None
        try:
            prepared, scope = await self._prepared(stack, stack.target)
            failure = await self._bring_all(prepared, scope, stop, "create", self._deadline_s(stack))
            if failure is None:
                await self._finish(prepared, scope, "CREATE_COMPLETE")
                return
        except TemplateError as error:  # an import that is missing, an output that is none
            failure = error.message
        if self.interrupt.is_set():
            return
        if stack.on_failure == "ROLLBACK":
            await self._ledger.move_stack(self._uuid, "ROLLBACK_IN_PROGRESS", f"{_sentence(failure)} Rollback{BY_USER}")
        elif stack.on_failure == "DELETE":
            await self._ledger.move_stack(self._uuid, "DELETE_IN_PROGRESS", f"{_sentence(failure)} Delete{BY_USER}")
        else:
            await self._ledger.move_stack(self._uuid, "CREATE_FAILED", _sentence(failure))

    def _deadline_s(self, stack: Stack) -> float | None:
        if stack.timeout_minutes is None:
            return None
        return max(0.0, stack.created_at + 60 * stack.timeout_minutes - self._means.services.now())

    async def _prepared(self, stack: Stack, revision: int) -> tuple[Prepared, Scope]:
        prepared = await prepare_stack(stack, self._ledger.template(self._uuid, revision), unchecked)
        exports = self._ledger.exports(stack.region)
        imports = {}
        for name in imports_of(prepared):
            if name not in exports:
                raise TemplateError(f"No export named {name} found")
            imports[name] = exports[name][0]
        made: dict[str, Made] = {}
        base = prepared.scope
        scope = Scope(
            parameters=base.parameters,
            pseudo=base.pseudo,
            conditions=base.conditions,
            mappings=base.mappings,
            resources=made,
            imports=imports,
        )
        return prepared, scope

    async def _bring_all(
        self, prepared: Prepared, scope: Scope, stop: asyncio.Event, verb: str, timeout_s: float | None
    ) -> str | None:
        """Make or change every resource in order; None when all went well, else why not."""
        provisioner = Provisioner(self._ledger, self._means, self._uuid, stop)
        revision = self._stack.target
        made = scope.resources
        assert isinstance(made, dict)
        running: dict[asyncio.Task[Made | None], str] = {}
        started: set[str] = set()
        failed: list[str] = []
        loop = asyncio.get_running_loop()
        deadline = None if timeout_s is None else loop.time() + timeout_s
        interrupted = asyncio.ensure_future(self.interrupt.wait())
        timed_out = False
        try:
            while True:
                if not (failed or timed_out or self.interrupt.is_set()):
                    for name in plan.ready(prepared.graph, made, started):
                        started.add(name)
                        bring = provisioner.bring(
                            prepared.template.resources[name],
                            scope,
                            revision=revision,
                            needs=prepared.graph[name],
                            updating=verb == "update",
                        )
                        running[asyncio.create_task(bring)] = name
                if not running:
                    break
                left_s = None if deadline is None or timed_out else max(0.0, deadline - loop.time())
                waits: set[asyncio.Future[Any]] = {*running}
                if not stop.is_set():
                    waits.add(interrupted)
                finished, _ = await asyncio.wait(waits, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in running if task in finished]:
                    name, result = running.pop(task), task.result()
                    if result is None:
                        failed.append(name)
                    else:
                        made[name] = result
                timed_out = timed_out or (not finished and deadline is not None)
                if failed or timed_out or self.interrupt.is_set():
                    stop.set()
        finally:
            interrupted.cancel()
            for task in running:
                task.cancel()
        if timed_out:
            return "Stack creation time exceeded the specified timeout"
        if failed:
            return f"The following resource(s) failed to {verb}: [{', '.join(sorted(failed))}]"
        return "Interrupted" if self.interrupt.is_set() else None

    async def _finish(self, prepared: Prepared, scope: Scope, status: str) -> None:
        """Evaluate the outputs, claim the exports and give the stack its last status. Raises TemplateError."""
        outputs = tuple(
            Output(
                key=output.name,
                value=_output_text(output.name, evaluate(output.value, scope)),
                description=output.description,
                export_name=None if output.export_name is None else _export_name(evaluate(output.export_name, scope)),
            )
            for output in prepared.template.outputs.values()
            if plan.is_live(output.condition, scope.conditions)
        )
        stack = self._stack
        names = [output.export_name for output in outputs if output.export_name is not None]
        taken = self._ledger.exports(stack.region)
        for name in names:
            if names.count(name) > 1:
                raise TemplateError(f"Duplicate Export names: [{name}]")
            if name in taken and taken[name][1].uuid != stack.uuid:
                raise TemplateError(f"Export with name {name} is already exported by stack {taken[name][1].name}")
        for name, (value, exporter) in taken.items():
            importers = [each.name for each in self._ledger.importers(stack.region, name) if each.uuid != stack.uuid]
            still = {output.export_name: output.value for output in outputs}
            if exporter.uuid == stack.uuid and importers and still.get(name) != value:
                verb = "updated" if name in still else "deleted"
                raise TemplateError(f"Export {name} cannot be {verb} as it is in use by {' and '.join(importers)}")
        await self._ledger.move_stack(
            self._uuid,
            status,
            outputs=outputs,
            imports=tuple(scope.imports),
            revision=stack.target,
            target=0 if status == "CREATE_COMPLETE" else stack.target,
        )

    # ------------------------------------------------------------------ removing

    async def rollback(self) -> None:
        failed = await self._remove_all(self._ledger.resources(self._uuid), created_now=True)
        status = "ROLLBACK_FAILED" if failed else "ROLLBACK_COMPLETE"
        await self._ledger.move_stack(self._uuid, status, _not_deleted(failed), target=0, outputs=())

    async def delete(self) -> None:
        stack = self._stack
        resources = self._ledger.resources(self._uuid)
        failed = await self._remove_all(
            {name: each for name, each in resources.items() if name not in stack.retain},
            created_now=stack.revision == 0,
        )
        if failed:
            await self._ledger.move_stack(self._uuid, "DELETE_FAILED", _not_deleted(failed), target=0)
            return
        for name in stack.retain:
            kept = resources.get(name)
            if kept is not None and kept.status not in ("DELETE_COMPLETE", "DELETE_SKIPPED"):
                skipped = msgspec.structs.replace(kept, status="DELETE_SKIPPED", status_reason=None, former=None)
                await self._ledger.put_resource(skipped)
        await self._ledger.move_stack(
            self._uuid,
            "DELETE_COMPLETE",
            None,
            target=0,
            outputs=(),
            imports=(),
            deleted_at=self._means.services.now(),
        )
        await self._ledger.prune()

    async def _remove_all(self, resources: Mapping[str, StackResource], *, created_now: bool) -> list[str]:
        """Remove in the order opposite to making; those whose users could not be removed stay. Answers the failed."""
        provisioner = Provisioner(self._ledger, self._means, self._uuid, asyncio.Event())
        graph = plan.reverse({name: frozenset(each.depends_on) for name, each in resources.items()})
        if plan.circles(graph):  # what a failed update left may need each other both ways
            graph = dict.fromkeys(graph, frozenset())
        done: set[str] = set()
        started: set[str] = set()
        failed: set[str] = set()
        running: dict[asyncio.Task[bool], str] = {}
        try:
            while True:
                for name in plan.ready(graph, done, started):
                    started.add(name)
                    running[asyncio.create_task(provisioner.remove(name, created_now=created_now))] = name
                if not running:
                    return sorted(failed)
                finished, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in finished:
                    name = running.pop(task)
                    (done if task.result() else failed).add(name)
        finally:
            for task in running:
                task.cancel()

    # ------------------------------------------------------------------ updating

    async def update(self) -> None:
        stack = self._stack
        stop = asyncio.Event()
        failure: str | None
        try:
            prepared, scope = await self._prepared(stack, stack.target)
            failure = await self._bring_all(prepared, scope, stop, "update", None)
            if failure is None:
                await self._finish(prepared, scope, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
                return
        except TemplateError as error:
            failure = error.message
        if not self.interrupt.is_set():
            await self._ledger.move_stack(self._uuid, "UPDATE_ROLLBACK_IN_PROGRESS", _sentence(failure))

    async def clean_up(self) -> None:
        stack = self._stack
        prepared, _ = await self._prepared(stack, stack.revision)
        await self._discard(set(prepared.graph), created_now=False)
        await self._drop_templates(keep=stack.revision)
        await self._ledger.move_stack(self._uuid, "UPDATE_COMPLETE", None, target=0, previous=None)

    async def rollback_update(self) -> None:
        provisioner = Provisioner(self._ledger, self._means, self._uuid, asyncio.Event())
        resources, skip = self._ledger.resources(self._uuid), self._stack.skip
        graph = {name: frozenset(each.depends_on) for name, each in resources.items()}
        for layer in _layers(graph):
            restored = await asyncio.gather(*(provisioner.restore(name, skip=name in skip) for name in layer))
            failed = [name for name, went_well in zip(layer, restored, strict=True) if not went_well]
            if failed:
                reason = f"The following resource(s) failed to update: [{', '.join(sorted(failed))}]."
                await self._ledger.move_stack(self._uuid, "UPDATE_ROLLBACK_FAILED", reason)
                return
        before = self._stack.previous
        changes = (
            {}
            if before is None
            else {
                "parameters": before.parameters,
                "shown_parameters": before.shown_parameters,
                "tags": before.tags,
                "capabilities": before.capabilities,
                "description": before.description,
                "imports": before.imports,
            }
        )
        await self._ledger.move_stack(
            self._uuid, "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS", None, previous=None, skip=(), **changes
        )

    async def clean_up_rollback(self) -> None:
        stack = self._stack
        kept = {name for name, each in self._ledger.resources(self._uuid).items() if not each.added}
        await self._discard(kept, created_now=True)
        await self._drop_templates(keep=stack.revision)
        await self._ledger.move_stack(self._uuid, "UPDATE_ROLLBACK_COMPLETE", None, target=0)

    async def _discard(self, wanted: Collection[str], *, created_now: bool) -> None:
        """Remove what is not wanted any more and what was replaced, users first."""
        provisioner = Provisioner(self._ledger, self._means, self._uuid, asyncio.Event())
        resources = self._ledger.resources(self._uuid)
        unwanted = {name: each for name, each in resources.items() if name not in wanted}
        await self._remove_all(unwanted, created_now=created_now)
        for resource in unwanted.values():
            await self._ledger.drop_resource(resource)
        needs = {
            name: frozenset(each.former.depends_on if each.former is not None else each.depends_on) & set(wanted)
            for name, each in resources.items()
            if name in wanted
        }
        for layer in reversed(_layers(needs)):
            for name in layer:
                await provisioner.clean_up(name)

    async def _drop_templates(self, *, keep: int) -> None:
        for revision in {self._stack.target, keep - 1, self._stack.revision - 1} - {keep}:
            await self._ledger.drop_template(self._uuid, revision)


def _layers(graph: plan.Graph) -> list[list[str]]:
    return [list(graph)] if plan.circles(graph) else plan.waves(graph)


def _sentence(text: str | None) -> str:
    return f"{(text or 'Unknown failure').rstrip('.')}."


def _not_deleted(failed: list[str]) -> str | None:
    return f"The following resource(s) failed to delete: [{', '.join(failed)}]." if failed else None


def _output_text(name: str, value: object) -> str:
    if isinstance(value, dict | list) or not isinstance(value, str | int | float):
        raise TemplateError(
            f"Template format error: The Value field of Outputs member {name} must evaluate to a String."
        )
    text = text_of(value)
    if len(text.encode()) > OUTPUT_BYTES_MAX:
        raise TemplateError(f"The value of output {name} is longer than {OUTPUT_BYTES_MAX} bytes")
    return text


def _export_name(value: object) -> str:
    if not isinstance(value, str) or not EXPORT_NAME.fullmatch(value):
        raise TemplateError(
            "Template format error: The Name field of every Export member must be specified and consist only of "
            "alphanumeric characters, colons, or hyphens."
        )
    return value


Step = Callable[[Deployment], Awaitable[None]]
STEPS: dict[str, Step] = {
    "CREATE_IN_PROGRESS": Deployment.create,
    "ROLLBACK_IN_PROGRESS": Deployment.rollback,
    "DELETE_IN_PROGRESS": Deployment.delete,
    "UPDATE_IN_PROGRESS": Deployment.update,
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": Deployment.clean_up,
    "UPDATE_ROLLBACK_IN_PROGRESS": Deployment.rollback_update,
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": Deployment.clean_up_rollback,
}
