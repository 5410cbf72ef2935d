"""What an update would move a stack to, checked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from nearpoint.stack.errors import TemplateError
from nearpoint.stack.parameters import Matcher, shown
from nearpoint.stack.preparation import Prepared, check_capabilities, imports_of, prepare_stack, unchecked
from nearpoint.stack.records import Stack
from nearpoint.stack.requests import StackRequest

NO_UPDATES = "No updates are to be performed."


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """`stack` has the parameters, tags and capabilities asked for; `text` is the template to move to."""

    stack: Stack
    text: str
    before: Prepared
    after: Prepared
    changes_nothing: bool


async def plan_update(stack: Stack, text_before: str, request: StackRequest, matcher: Matcher) -> Planned:
    """Raises AwsError: TemplateError for what is wrong with it, InsufficientCapabilitiesException."""
    before = await prepare_stack(stack, text_before, unchecked)
    text = text_before if request.template is None else request.template
    strangers = [name for name in request.keep_parameters if name not in before.template.parameters]
    if strangers:
        raise TemplateError(f"Parameters: [{', '.join(strangers)}] do not exist in the template")
    kept = {name: stack.parameters[name] for name in request.keep_parameters if name in stack.parameters}
    changed = msgspec.structs.replace(
        stack,
        parameters={**kept, **request.parameters},
        tags=stack.tags if request.tags is None else request.tags,
        capabilities=request.capabilities,
    )
    after = await prepare_stack(changed, text, matcher)
    check_capabilities(after.template, request.capabilities)
    imports_of(after)
    switched = sorted(
        name
        for name, each in after.template.resources.items()
        if name in before.graph and name in after.graph and before.template.resources[name].type != each.type
    )
    if switched:
        raise TemplateError(
            "Update of resource type is not permitted. The new template modifies resource type of the "
            f"following resources: [{', '.join(switched)}]"
        )
    return Planned(
        stack=msgspec.structs.replace(
            changed,
            description=after.template.description,
            shown_parameters=shown(after.template.parameters, changed.parameters),
        ),
        text=text,
        before=before,
        after=after,
        changes_nothing=changed.tags == stack.tags and _same(before, after),
    )


def _same(before: Prepared, after: Prepared) -> bool:
    """Whether an update would change nothing: resources and outputs as declared, and all that they may look at."""

    def view(prepared: Prepared) -> tuple[Any, ...]:
        template, scope = prepared.template, prepared.scope
        resources = {
            name: (each.type, each.properties, each.deletion_policy, each.update_replace_policy, each.depends_on)
            for name, each in template.resources.items()
            if name in prepared.graph
        }
        outputs = {
            name: (each.value, each.description, each.export_name)
            for name, each in template.outputs.items()
            if each.condition is None or scope.conditions[each.condition]
        }
        return resources, outputs, dict(scope.parameters), dict(scope.conditions), dict(scope.mappings)

    return view(before) == view(after)
