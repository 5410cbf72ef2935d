from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.stack import plan
from nearpoint.stack.errors import TemplateError
from nearpoint.stack.preparation import imports_of, prepare, pseudo_parameters
from nearpoint.stack.template import parse
from nearpoint.stack.types import ATTRIBUTES

PSEUDO = pseudo_parameters(
    account_id="123456789012", region="us-east-1", stack_name="app", stack_id="arn", notification_arns=()
)


@st.composite
def graphs(draw: st.DrawFn, *, circles: bool) -> dict[str, frozenset[str]]:
    names = [f"N{number}" for number in range(draw(st.integers(0, 9)))]
    order = draw(st.permutations(names))
    graph = {}
    for at, name in enumerate(order):
        choices = names if circles else order[:at]
        graph[name] = frozenset(draw(st.sets(st.sampled_from(choices)))) if choices else frozenset[str]()
    return graph


@given(graphs(circles=False))
def test_waves_keep_the_order(graph: dict[str, frozenset[str]]) -> None:
    assert plan.circles(graph) == []
    place = {name: at for at, layer in enumerate(plan.waves(graph)) for name in layer}
    assert set(place) == set(graph)
    for name, needs in graph.items():
        # As early as possible: one layer after the last need.
        assert place[name] == max((place[need] + 1 for need in needs), default=0)
    removal = {name: at for at, layer in enumerate(plan.waves(plan.reverse(graph))) for name in layer}
    for name, needs in graph.items():
        assert all(removal[need] > removal[name] for need in needs)


@given(graphs(circles=True))
def test_circles_are_what_cannot_be_ordered(graph: dict[str, frozenset[str]]) -> None:
    def reaches(start: str, goal: str) -> bool:
        seen, front = set(), list(graph[start])
        while front:
            name = front.pop()
            if name == goal:
                return True
            if name not in seen:
                seen.add(name)
                front.extend(graph[name])
        return False

    found = plan.circles(graph)
    on_circle = {name for name in graph if reaches(name, name)}
    assert on_circle <= set(found)
    assert bool(found) == bool(on_circle)
    assert found == sorted(found)
    assert plan.reverse(plan.reverse(graph)) == graph


def _dependencies(resources: dict[str, Any], **sections: Any) -> dict[str, frozenset[str]]:
    text = json.dumps({"Resources": resources, **sections})
    return prepare(text, {}, PSEUDO).graph


def _bucket(properties: dict[str, Any] | None = None, **attributes: Any) -> dict[str, Any]:
    return {"Type": "AWS::S3::Bucket", "Properties": properties or {}, **attributes}


def test_needs_come_from_every_kind_of_reference() -> None:
    graph = _dependencies(
        {
            "A": _bucket(),
            "B": _bucket({"X": {"Ref": "A"}}),
            "C": _bucket({"X": [{"Fn::GetAtt": ["A", "Arn"]}]}),
            "D": _bucket({"X": {"Fn::Sub": "${B}-${C.Arn}-${!A}"}}),
            "E": _bucket({"X": {"Fn::Sub": ["${V}", {"V": {"Ref": "D"}}]}}),
            "F": _bucket(DependsOn=["A", "E"]),
        }
    )
    assert graph == {
        "A": frozenset(),
        "B": {"A"},
        "C": {"A"},
        "D": {"B", "C"},
        "E": {"D"},
        "F": {"A", "E"},
    }


def test_conditions_take_resources_and_branches_out() -> None:
    never = {"Conditions": {"Never": {"Fn::Equals": [1, 2]}}}
    graph = _dependencies(
        {
            "A": _bucket(Condition="Never"),
            "B": _bucket({"X": {"Fn::If": ["Never", {"Ref": "A"}, {"Ref": "C"}]}}),
            "C": _bucket(DependsOn="A"),
        },
        **never,
    )
    assert graph == {"B": {"C"}, "C": frozenset()}
    for extra in ({"B": _bucket({"X": {"Ref": "A"}})}, {"B": _bucket(Condition="Never")}):
        outputs = {} if "X" in extra["B"]["Properties"] else {"Outputs": {"O": {"Value": {"Ref": "A"}}}}
        with pytest.raises(TemplateError, match=r"Unresolved resource dependencies \[A\]"):
            _dependencies({"A": _bucket(Condition="Never"), "C": _bucket()} | extra, **never, **outputs)


@pytest.mark.parametrize(
    ("resources", "names"),
    [
        ({"A": _bucket({"X": {"Ref": "A"}})}, "[A]"),
        ({"B": _bucket(DependsOn="A"), "A": _bucket({"X": {"Ref": "B"}}), "C": _bucket(DependsOn="A")}, "[A, B]"),
    ],
)
def test_circular_dependencies(resources: dict[str, Any], names: str) -> None:
    with pytest.raises(TemplateError) as refused:
        _dependencies(resources)
    assert refused.value.message == f"Circular dependency between resources: {names}"


def test_imports_are_known_beforehand() -> None:
    resources = {
        "A": _bucket({"X": {"Fn::ImportValue": {"Fn::Sub": "${AWS::StackName}-x"}}, "Y": {"Fn::ImportValue": "y"}})
    }
    outputs = {"O": {"Value": {"Fn::ImportValue": "y"}}}
    prepared = prepare(json.dumps({"Resources": resources, "Outputs": outputs}), {}, PSEUDO)
    assert imports_of(prepared) == ["app-x", "y"]


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        ((None, {}), ("T", {}), "add"),
        (("T", {}), (None, {}), "remove"),
        (("T", {"A": 1}), ("T", {"A": 1}), "keep"),
        (("T", {"A": 1}), ("T", {"A": 2}), "update"),
        (("T", {"A": 1}), ("T", {}), "update"),
        (("T", {"Name": "a"}), ("T", {"Name": "b"}), "replace"),
        (("T", {}), ("T", {"Name": "b"}), "replace"),
        (("T", {}), ("U", {}), "replace"),
    ],
)
def test_changes(before: tuple[Any, Any], after: tuple[Any, Any], change: str) -> None:
    assert change == plan.change_of(
        type_before=before[0],
        type_after=after[0],
        properties_before=before[1],
        properties_after=after[1],
        replacing={"Name"},
    )


def test_every_type_is_known_to_templates() -> None:
    text = json.dumps({"Resources": {f"R{at}": {"Type": name} for at, name in enumerate(ATTRIBUTES)}})
    assert len(parse(text, ATTRIBUTES).resources) == len(ATTRIBUTES)
