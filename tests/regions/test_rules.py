"""Which buckets a write is copied to, and which configurations S3 refuses."""

from __future__ import annotations

from typing import Any

import pytest

from nearpoint.awsproto import AwsError
from nearpoint.regions.rules import RULES_MAX, check, compile_rules, destination_buckets, destinations


def rule(bucket: str = "b", priority: int = 1, **members: Any) -> dict[str, Any]:
    return {
        "ID": f"to-{bucket}-{priority}",
        "Priority": priority,
        "Filter": {},
        "Status": "Enabled",
        "DeleteMarkerReplication": {"Status": "Disabled"},
        "Destination": {"Bucket": f"arn:aws:s3:::{bucket}"},
    } | members


def configuration(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"Role": "arn:aws:iam::123456789012:role/r", "Rules": list(rules)}


ENABLED = {"Status": "Enabled"}
MARKERS = {"DeleteMarkerReplication": ENABLED}
FIRST_SCHEMA = {"Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "arn:aws:s3:::b"}}
MODIFICATIONS = {"SourceSelectionCriteria": {"ReplicaModifications": ENABLED}}


def goes_to(*rules: dict[str, Any], key: str = "k", tags: Any = (), change: Any = "put", replica: bool = False) -> Any:
    given = configuration(*rules)
    check(given, source="a")
    return destinations(compile_rules(given), key=key, tags=list(tags), change=change, is_replica=replica)


def test_filters() -> None:
    assert goes_to(rule()) == ["b"]
    assert goes_to(rule(Status="Disabled")) == []
    assert goes_to(rule(Filter={"Prefix": "logs/"})) == []
    assert goes_to(rule(Filter={"Prefix": "logs/"}), key="logs/1") == ["b"]
    tagged = rule(Filter={"Tag": {"Key": "t", "Value": "1"}})
    assert goes_to(tagged) == goes_to(tagged, tags=[("t", "2")]) == []
    assert goes_to(tagged, tags=[("s", ""), ("t", "1")]) == ["b"]
    both = rule(Filter={"And": {"Prefix": "p", "Tags": [{"Key": "t", "Value": "1"}, {"Key": "u", "Value": ""}]}})
    assert goes_to(both, key="pq", tags=[("t", "1")]) == []
    assert goes_to(both, key="pq", tags=[("t", "1"), ("u", "")]) == ["b"]


def test_every_destination_once_by_the_rule_of_highest_priority() -> None:
    assert goes_to(rule("b", 1), rule("c", 2)) == ["c", "b"]
    assert goes_to(rule("b", 1, **MARKERS), rule("b", 2), change="marker") == []
    assert goes_to(rule("b", 2, **MARKERS), rule("b", 1), change="marker") == ["b"]
    # A rule that does not match decides nothing.
    assert goes_to(rule("b", 2, Filter={"Prefix": "x"}), rule("b", 1, **MARKERS), change="marker") == ["b"]


def test_delete_markers_and_copies() -> None:
    assert goes_to(rule(), change="marker") == []
    assert goes_to(rule(**MARKERS), change="marker") == ["b"]
    assert goes_to(FIRST_SCHEMA, change="marker") == ["b"]
    assert goes_to(rule(**MODIFICATIONS), replica=True) == []
    assert goes_to(rule(), change="amend", replica=True) == []
    assert goes_to(rule(**MODIFICATIONS), change="amend", replica=True) == ["b"]
    assert goes_to(rule(), change="amend") == ["b"]


def test_destination_buckets_are_all_that_are_named() -> None:
    assert destination_buckets(configuration(rule("b"), rule("c", 2, Status="Disabled"), rule("b", 3))) == ["b", "c"]


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (configuration(), "MalformedXML"),
        ({"Role": "", "Rules": [rule()]}, "MalformedXML"),
        ({"Role": "role/r", "Rules": [rule()]}, "InvalidArgument"),
        (configuration(rule(Prefix="p")), "MalformedXML"),
        (configuration(FIRST_SCHEMA | {"Priority": 1}), "InvalidRequest"),
        (configuration(FIRST_SCHEMA | MARKERS), "InvalidRequest"),
        (configuration(rule(Destination={"Bucket": "arn:aws:s3:::b", "StorageClass": "CHEAP"})), "MalformedXML"),
        (configuration(*(rule(f"b{at}", at) for at in range(RULES_MAX + 1))), "InvalidRequest"),
        (configuration(rule(ID="same"), rule("c", 2, ID="same")), "InvalidArgument"),
        (configuration(rule(ID="x" * 256)), "InvalidArgument"),
        (configuration(rule("b", 1), rule("c", 1)), "InvalidRequest"),
        (configuration(rule(Status="On")), "MalformedXML"),
        (configuration(rule(Destination={"Bucket": "b"})), "InvalidArgument"),
        (configuration(rule("a")), "InvalidRequest"),
        (configuration({k: v for k, v in rule().items() if k != "Priority"}), "InvalidRequest"),
        (configuration({k: v for k, v in rule().items() if k != "DeleteMarkerReplication"}), "InvalidRequest"),
        (configuration({k: v for k, v in rule().items() if k != "Filter"}), "MalformedXML"),
        (configuration(rule(Filter={"Prefix": "p", "Tag": {"Key": "t", "Value": "1"}})), "MalformedXML"),
        (configuration(rule(Filter={"And": {"Prefix": "p"}})), "MalformedXML"),
        (configuration(rule(Filter={"Tag": {"Key": "t", "Value": "1"}}, **MARKERS)), "InvalidRequest"),
        (configuration(rule(Filter={"Prefix": "p" * 1025})), "InvalidRequest"),
        (configuration(rule(SourceSelectionCriteria={"ReplicaModifications": {"Status": "x"}})), "MalformedXML"),
        (
            configuration(
                rule(Destination={"Bucket": "arn:aws:s3:::b", "ReplicationTime": {"Time": {"Minutes": 5}}})
            ),
            "InvalidArgument",
        ),
        (configuration(rule(), {"Status": "Enabled", "Prefix": "", "Destination": {"Bucket": "b"}}), "InvalidRequest"),
    ],
)  # fmt: skip
def test_refusals(given: dict[str, Any], code: str) -> None:
    with pytest.raises(AwsError) as caught:
        check(given, source="a")
    assert caught.value.code == code
