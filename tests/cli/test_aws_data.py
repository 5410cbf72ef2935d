"""Endpoint rules, changed: what the installed botocore has, and what it does not do when the rules are others."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import Loader

from nearpoint.cli.aws_data import RULES, RulesError, with_endpoint_for_arns, without_account_in_front, write


def _rules(service: str) -> dict[str, Any]:
    rules: dict[str, Any] = Loader().load_service_model(service, RULES)
    return rules


def test_only_what_has_to_change_does() -> None:
    before = _rules("s3")
    kept = copy.deepcopy(before)
    after = with_endpoint_for_arns(before)
    assert before == kept
    assert after["parameters"] == before["parameters"]

    def endpoints(rule: dict[str, Any]) -> list[str]:
        here = [rule["endpoint"]["url"]] if rule.get("type") == "endpoint" else []
        return here + [url for each in rule.get("rules", []) for url in endpoints(each)]

    added = endpoints(after)
    for url in endpoints(before):
        added.remove(url)
    assert added == ["{url#scheme}://{url#authority}{url#normalizedPath}{accessPointName}"]


def test_rules_of_another_kind_are_refused() -> None:
    with pytest.raises(RulesError, match="0 times"):
        with_endpoint_for_arns({"rules": []})
    with pytest.raises(RulesError, match="0 times"):
        with_endpoint_for_arns(_rules("s3control"))
    with pytest.raises(RulesError, match="no account"):
        without_account_in_front(_rules("s3"))
    twice = with_endpoint_for_arns(_rules("s3"))
    twice["rules"] = [*twice["rules"], *twice["rules"]]
    with pytest.raises(RulesError, match="2 times"):
        with_endpoint_for_arns(twice)


def test_the_folder_can_be_written_again(tmp_path: Path) -> None:
    first = write(tmp_path / "new" / "folder")
    texts = [file.read_bytes() for file in first]
    assert [file.read_bytes() for file in write(tmp_path / "new" / "folder")] == texts
    assert sorted(path.name for path in (tmp_path / "new").rglob("*") if path.is_file()) == [f"{RULES}.json"] * 2
