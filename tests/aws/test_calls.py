"""Every call to AWS in `nearpoint.aws`, also those that no test makes, against botocore's service models: the operation
is there, takes these parameters, and misses none that it needs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

import nearpoint.aws

SERVICES = ("s3", "s3control", "cloudformation", "cloudfront", "lambda", "iam", "sts", "sns", "cloudwatch")
# compose.py calls nobody, and has parameters in a template's words.
SOURCES = [path for path in sorted(Path(nearpoint.aws.__file__).parent.rglob("*.py")) if path.name != "compose.py"]


def calls(tree: ast.AST) -> Iterator[tuple[int, str, set[str], bool]]:
    """Line, method, parameters, and whether there may be others; of calls whose parameters are written as AWS does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            names = {each.arg for each in node.keywords if each.arg is not None}
            open_ended = any(each.arg is None for each in node.keywords)
            method = node.func.attr
            first = node.args[0] if node.args else None
            if method in ("_call", "paginate") and isinstance(first, ast.Constant):
                method = str(first.value)
            if method == "paginate":  # get_paginator("x").paginate(…)
                inner = node.func.value
                assert isinstance(inner, ast.Call)
                assert isinstance(inner.args[0], ast.Constant)
                method = str(inner.args[0].value)
            if names and all(name[0].isupper() for name in names):
                yield node.lineno, method, names, open_ended


@pytest.fixture(scope="module")
def operations() -> dict[str, list[Any]]:
    """The input shapes by the name that boto3 gives the operation."""
    session = botocore.session.get_session()
    found: dict[str, list[Any]] = {}
    for service in SERVICES:
        model = session.get_service_model(service)
        for name in model.operation_names:
            found.setdefault(xform_name(name), []).append(model.operation_model(name).input_shape)
    return found


def test_every_call_is_one_that_aws_has(operations: dict[str, list[Any]]) -> None:
    seen = set()
    for source in SOURCES:
        for line, method, names, open_ended in calls(ast.parse(source.read_text())):
            where = f"{source.name}:{line}: {method}({', '.join(sorted(names))})"
            assert method in operations, where
            fitting = [
                shape
                for shape in operations[method]
                if names <= shape.members.keys() and (open_ended or names >= set(shape.required_members))
            ]
            assert fitting, where
            seen.add(method)
    assert {"create_change_set", "put_metric_alarm", "submit_multi_region_access_point_routes", "put_object"} <= seen
    assert len(seen) > 40
