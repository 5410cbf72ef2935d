"""In what order resources are made and removed, and what an update changes.

A graph says for each resource which others have to be there before it; removing goes the other way round.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from nearpoint.stack.errors import TemplateError
from nearpoint.stack.references import references
from nearpoint.stack.template import Template

Graph = Mapping[str, frozenset[str]]
Change = Literal["add", "keep", "update", "replace", "remove"]


def is_live(condition: str | None, conditions: Mapping[str, bool]) -> bool:
    """Whether something with that condition is made at all."""
    return condition is None or conditions[condition]


def dependencies(template: Template, conditions: Mapping[str, bool]) -> dict[str, frozenset[str]]:
    """The graph of the resources whose condition holds. Raises TemplateError for a reference to one whose condition
    doesn't, or a circle."""
    live = [each for each in template.resources.values() if is_live(each.condition, conditions)]
    names = {each.logical_id for each in live}
    graph: dict[str, frozenset[str]] = {}
    for resource in live:
        needs = {name for name in resource.depends_on if name in names}
        for reference in references(resource.properties, conditions):
            if reference.kind in ("ref", "att") and reference.name in template.resources:
                if reference.name not in names:
                    raise TemplateError(
                        f"Template format error: Unresolved resource dependencies [{reference.name}] in the Resources "
                        "block of the template",
                        line=resource.line,
                    )
                needs.add(reference.name)
        graph[resource.logical_id] = frozenset(needs)
    for output in template.outputs.values():
        if is_live(output.condition, conditions):
            for reference in references(output.value, conditions):
                if reference.name in template.resources and reference.name not in names:
                    raise TemplateError(
                        f"Template format error: Unresolved resource dependencies [{reference.name}] in the Outputs "
                        "block of the template"
                    )
    circle = circles(graph)
    if circle:
        raise TemplateError(
            f"Circular dependency between resources: [{', '.join(circle)}]", line=template.resources[circle[0]].line
        )
    return graph


def circles(graph: Graph) -> list[str]:
    """Every name on a circle or between two of them, sorted; empty for a graph without circles."""
    left = {name: set(needs) for name, needs in graph.items()}
    for direction in (left, {name: set(users) for name, users in reverse(graph).items()}):
        trimmed = True
        while trimmed:
            trimmed = False
            for name in [name for name in left if not direction[name] & left.keys()]:
                del left[name]
                trimmed = True
    return sorted(left)


def reverse(graph: Graph) -> dict[str, frozenset[str]]:
    """Who needs each resource."""
    users: dict[str, set[str]] = {name: set() for name in graph}
    for name, needs in graph.items():
        for need in needs:
            if need in users:
                users[need].add(name)
    return {name: frozenset(each) for name, each in users.items()}


def ready(graph: Graph, done: Collection[str], started: Collection[str]) -> list[str]:
    """What can be started now, in the graph's order. A need that is no member of the graph counts as met."""
    return [
        name
        for name, needs in graph.items()
        if name not in started and name not in done and all(need in done or need not in graph for need in needs)
    ]


def waves(graph: Graph) -> list[list[str]]:
    """The order as layers: each needs only layers before it. The graph has no circle."""
    done: set[str] = set()
    layers: list[list[str]] = []
    while len(done) < len(graph):
        layer = ready(graph, done, ())
        assert layer, "a circle"
        layers.append(layer)
        done.update(layer)
    return layers


def change_of(
    *,
    type_before: str | None,
    type_after: str | None,
    properties_before: Mapping[str, object],
    properties_after: Mapping[str, object],
    replacing: Collection[str],
) -> Change:
    """What an update does to one resource. `replacing` names the properties that can't change in place; None for a
    type says that the resource is not there on that side."""
    if type_after is None:
        return "remove"
    if type_before is None:
        return "add"
    if type_before != type_after:
        return "replace"
    changed = {
        name
        for name in {*properties_before, *properties_after}
        if properties_before.get(name) != properties_after.get(name)
    }
    if not changed:
        return "keep"
    return "replace" if changed & set(replacing) else "update"
