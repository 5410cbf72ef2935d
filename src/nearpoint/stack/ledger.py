"""Where stacks are written down: records in the state, an index of them in memory, and the events that go with each
change."""

from __future__ import annotations

import uuid as uuids
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from nearpoint.stack.errors import TemplateError
from nearpoint.stack.records import ChangeSet, Stack, StackEvent, StackResource, StackTemplate, packed
from nearpoint.state.store import State

EVENTS_MAX = 2000  # of one stack; the oldest go first
DELETED_KEPT_S = 90 * 86400.0  # CloudFormation: deleted stacks are listed for 90 days
DELETED_KEPT_MAX = 200
STACK_TYPE = "AWS::CloudFormation::Stack"


class Ledger:
    """Reads are immediate; a write has reached the state when it returns."""

    def __init__(self, state: State, now: Callable[[], float], random_bytes: Callable[[int], bytes]) -> None:
        self._state = state
        self._now = now
        self._random_bytes = random_bytes
        self._resources: dict[str, dict[str, StackResource]] = {}
        self._events: dict[str, list[StackEvent]] = {}
        for resource in state.list(StackResource):
            self._resources.setdefault(resource.uuid, {})[resource.logical_id] = resource
        for event in state.list(StackEvent):
            self._events.setdefault(event.uuid, []).append(event)

    def now(self) -> float:
        """Unix seconds."""
        return self._now()

    def new_uuid(self) -> str:
        return str(uuids.UUID(bytes=self._random_bytes(16), version=4))

    def stacks(self) -> list[Stack]:
        """Every stack, deleted ones too, newest first."""
        return sorted(self._state.list(Stack), key=lambda each: (-each.created_at, each.uuid))

    def stack(self, uuid: str) -> Stack:
        stack = self._state.get(Stack, uuid)
        assert stack is not None
        return stack

    def find(self, region: str, name_or_arn: str) -> Stack | None:
        """By name the stack that is not deleted; by ARN deleted ones too."""
        for stack in self.stacks():
            if stack.region == region and (
                stack.arn == name_or_arn or (stack.name == name_or_arn and stack.status != "DELETE_COMPLETE")
            ):
                return stack
        return None

    def live(self, region: str) -> Iterator[Stack]:
        return (each for each in self.stacks() if each.region == region and each.status != "DELETE_COMPLETE")

    def exports(self, region: str) -> dict[str, tuple[str, Stack]]:
        """Value and exporting stack of every export by name."""
        return {
            output.export_name: (output.value, stack)
            for stack in self.live(region)
            for output in stack.outputs
            if output.export_name is not None
        }

    def importers(self, region: str, export_name: str) -> list[Stack]:
        return [stack for stack in self.live(region) if export_name in stack.imports]

    def template(self, uuid: str, revision: int) -> str:
        """The text of that revision; empty where it has been dropped."""
        template = self._state.get(StackTemplate, f"{uuid}.{revision}")
        return "" if template is None else template.text

    def resources(self, uuid: str) -> dict[str, StackResource]:
        """Records by logical id, in the order of their first writing."""
        return dict(self._resources.get(uuid, {}))

    def resource(self, uuid: str, logical_id: str) -> StackResource | None:
        return self._resources.get(uuid, {}).get(logical_id)

    def events(self, uuid: str) -> list[StackEvent]:
        """Newest first."""
        return list(reversed(self._events.get(uuid, [])))

    def change_sets(self, uuid: str) -> list[ChangeSet]:
        """Those of a stack, oldest first."""
        found = [each for each in self._state.list(ChangeSet) if each.stack_uuid == uuid]
        return sorted(found, key=lambda each: (each.created_at, each.uuid))

    def change_set(self, uuid: str) -> ChangeSet | None:
        return self._state.get(ChangeSet, uuid)

    async def put_change_set(self, change_set: ChangeSet) -> None:
        await self._state.put(change_set)

    async def drop_change_set(self, change_set: ChangeSet) -> None:
        await self._state.delete(change_set)

    async def drop_change_sets(self, uuid: str, *, keep: str = "") -> None:
        """Forget those of a stack but one, as CloudFormation does once the stack is changed."""
        for each in self.change_sets(uuid):
            if each.uuid != keep:
                await self._state.delete(each)

    async def put_template(self, uuid: str, revision: int, text: str) -> None:
        try:
            text_zlib = packed(text.encode())
        except ValueError:
            raise TemplateError("The template is too long to keep, even compressed") from None
        await self._state.put(StackTemplate(uuid=uuid, revision=revision, text_zlib=text_zlib))

    async def drop_template(self, uuid: str, revision: int) -> None:
        template = self._state.get(StackTemplate, f"{uuid}.{revision}")
        if template is not None:
            await self._state.delete(template)

    async def put_stack(self, stack: Stack, *, event: bool = True) -> None:
        """Write the stack and, unless said otherwise, the event of its status."""
        await self._state.put(stack)
        if event:
            await self._add_event(stack, stack.name, stack.arn, STACK_TYPE, stack.status, stack.status_reason)

    async def change_stack(self, uuid: str, **changes: Any) -> Stack:
        """Change fields of a stack, without an event."""
        stack = msgspec.structs.replace(self.stack(uuid), **changes)
        await self._state.put(stack)
        return stack

    async def move_stack(self, uuid: str, status: str, reason: str | None = None, **changes: Any) -> Stack:
        """Give the stack another status, with its event."""
        stack = msgspec.structs.replace(self.stack(uuid), status=status, status_reason=reason, **changes)
        await self.put_stack(stack)
        return stack

    async def put_resource(self, resource: StackResource, *, event: bool = True) -> StackResource:
        """Write the record (its time becomes now) and, unless said otherwise, the event of its status."""
        resource = msgspec.structs.replace(resource, updated_at=self._now())
        await self._state.put(resource)
        self._resources.setdefault(resource.uuid, {})[resource.logical_id] = resource
        if event:
            await self.add_resource_event(resource, resource.status, resource.status_reason)
        return resource

    async def add_resource_event(self, resource: StackResource, status: str, reason: str | None = None) -> None:
        """An event alone, for what happens between two statuses."""
        await self._add_event(
            self.stack(resource.uuid),
            resource.logical_id,
            resource.physical_id,
            resource.type,
            status,
            reason,
            resource.properties_zlib,
        )

    async def drop_resource(self, resource: StackResource) -> None:
        await self._state.delete(resource)
        self._resources.get(resource.uuid, {}).pop(resource.logical_id, None)

    async def _add_event(  # the columns of an event
        self,
        stack: Stack,
        logical_id: str,
        physical_id: str,
        kind: str,
        status: str,
        reason: str | None,
        properties_zlib: bytes = b"",
    ) -> None:
        events = self._events.setdefault(stack.uuid, [])
        number = events[-1].number + 1 if events else 1
        event = StackEvent(
            uuid=stack.uuid,
            number=number,
            event_id=self.new_uuid() if kind == STACK_TYPE else f"{logical_id}-{status}-{number}",
            logical_id=logical_id,
            physical_id=physical_id,
            type=kind,
            status=status,
            status_reason=reason,
            at=self._now(),
            client_request_token=stack.client_request_token,
            properties_zlib=properties_zlib,
        )
        events.append(event)  # before the write: two that write at once take different numbers
        await self._state.put(event)
        while len(events) > EVENTS_MAX:
            await self._state.delete(events.pop(0))

    async def prune(self) -> None:
        """Forget stacks deleted long ago, templates of stacks that never came to be, change sets of deleted ones."""
        deleted = [each for each in self.stacks() if each.status == "DELETE_COMPLETE"]
        deleted.sort(key=lambda each: -(each.deleted_at or 0))
        oldest = self._now() - DELETED_KEPT_S
        for place, stack in enumerate(deleted):
            if place >= DELETED_KEPT_MAX or (stack.deleted_at or 0) < oldest:
                for event in self._events.pop(stack.uuid, []):
                    await self._state.delete(event)
                for resource in self._resources.pop(stack.uuid, {}).values():
                    await self._state.delete(resource)
                await self._state.delete(stack)
        for change_set in self._state.list(ChangeSet):
            owner = self._state.get(Stack, change_set.stack_uuid)
            if owner is None or owner.status == "DELETE_COMPLETE":
                await self._state.delete(change_set)
        known = {each.uuid for each in self._state.list(Stack)}
        for template in self._state.list(StackTemplate):
            if template.uuid not in known:
                await self._state.delete(template)
