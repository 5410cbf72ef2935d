"""Policies: tables of what is allowed, and the laws of evaluation."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import botocore.session
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearpoint.policy.document import MalformedPolicyError, Policy, parse_policy
from nearpoint.policy.evaluate import RequestContext, evaluate
from nearpoint.policy.managed import MANAGED_POLICIES, managed_policy
from nearpoint.policy.patterns import arn_matches, matches
from nearpoint.policy.s3_actions import s3_action

ALICE = "arn:aws:iam::123456789012:user/alice"
KEY = "arn:aws:s3:::bucket/home/alice/x"


def _policy(*statements: dict[str, Any], version: str = "2012-10-17", kind: Any = "identity") -> Policy:
    return parse_policy({"Version": version, "Statement": list(statements)}, kind=kind, name="p")


def _allowed(policy: Policy, action: str = "s3:GetObject", resource: str = KEY, **conditions: Any) -> bool:
    values = {key.replace("__", ":").replace("_", "-"): value for key, value in conditions.items()}
    request = RequestContext(
        action=action,
        resource=resource,
        principals=(("AWS", ALICE), ("Account", "arn:aws:iam::123456789012:root")),
        conditions={key: (value,) if isinstance(value, str) else value for key, value in values.items()},
    )
    return evaluate([policy], request).allowed


def _on(action: Any = "s3:*", resource: Any = "*", **rest: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **rest}


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("*", "", True),
        ("", "", True),
        ("a*", "a", True),
        ("a*c", "abc", True),
        ("a*c", "abcd", False),
        ("*b*", "abc", True),
        ("a?c", "abc", True),
        ("a?c", "ac", False),
        ("*a*b*", "bbaab", True),
        ("*ab*ab", "ab", False),
        ("*ab*ab", "abab", True),
        ("a**b", "a\nb", True),
        ("**", "x", True),
        ("A", "a", False),
        ("a.c", "abc", False),
    ],
)
def test_wildcards(pattern: str, text: str, expected: bool) -> None:
    assert matches(pattern, text) is expected


@given(st.text(alphabet="ab*?", max_size=12), st.text(alphabet="ab", max_size=12))
def test_wildcards_agree_with_the_plain_definition(pattern: str, text: str) -> None:
    def plain(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "*":
            return plain(p[1:], t) or (bool(t) and plain(p, t[1:]))
        return bool(t) and (p[0] in ("?", t[0])) and plain(p[1:], t[1:])

    assert matches(pattern, text) == plain(pattern, text)


def test_a_hostile_pattern_costs_little() -> None:
    assert not matches("*a" * 400 + "b", "a" * 2000)


@pytest.mark.parametrize(
    ("pattern", "arn", "expected"),
    [
        ("arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/a:b/c", True),
        ("arn:aws:s3:::bucket*", "arn:aws:s3:::bucket/a", True),
        ("arn:aws:s3:::bucket", "arn:aws:s3:::bucket/a", False),
        ("arn:aws:s3::1:accesspoint/a.mrap/*", "arn:aws:s3::1:accesspoint/a.mrap/object/k", True),
        ("arn:aws:s3::1:accesspoint/a.mrap", "arn:aws:s3::1:accesspoint/a.mrap", True),
        ("arn:aws:s3:*:*:*", "arn:aws:s3::1:accesspoint/x", True),
        ("arn:aws:s3", "arn:aws:s3:::b", True),
        ("arn:aws:*", "arn:aws:s3:::b", True),
        ("arn:aws:s3:::B", "arn:aws:s3:::b", False),
    ],
)
def test_patterns_of_arns_match_part_by_part(pattern: str, arn: str, expected: bool) -> None:
    assert arn_matches(pattern, arn) is expected


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (_on("s3:GetObject", KEY), True),
        (_on("S3:getobject", KEY), True),
        (_on(["s3:Put*", "s3:Get*"], [KEY]), True),
        (_on("s3:GetObject", KEY.upper()), False),
        (_on("s3:PutObject", KEY), False),
        ({"Effect": "Allow", "NotAction": "s3:Put*", "Resource": KEY}, True),
        ({"Effect": "Allow", "NotAction": "s3:Get*", "Resource": KEY}, False),
        ({"Effect": "Allow", "Action": "*", "NotResource": "arn:aws:s3:::other/*"}, True),
        ({"Effect": "Allow", "Action": "*", "NotResource": KEY}, False),
        ({"Effect": "Deny", "Action": "*", "Resource": "*"}, False),
        (_on(resource="arn:aws:s3:::bucket/home/${aws:username}/*"), True),
        (_on(resource="arn:aws:s3:::bucket/home/${aws:nothing}/*"), False),
        (_on(resource="arn:aws:s3:::bucket/home/${aws:nothing, 'alice'}/*"), True),
        (_on(resource="arn:aws:s3:::bucket/home/${*}/*"), False),
    ],
)
def test_statements(statement: dict[str, Any], expected: bool) -> None:
    assert _allowed(_policy(statement), aws__username="alice") is expected


def test_variables_are_plain_text_in_the_old_version() -> None:
    statement = _on(resource="arn:aws:s3:::bucket/home/${aws:username}/*")
    assert not _allowed(_policy(statement, version="2008-10-17"), aws__username="alice")
    assert _allowed(_policy(statement, version="2008-10-17"), resource="arn:aws:s3:::bucket/home/${aws:username}/x")


def test_a_variables_value_is_never_a_wildcard() -> None:
    statement = _on(resource="arn:aws:s3:::bucket/home/${aws:username}/*")
    assert not _allowed(_policy(statement), aws__username="*")
    assert _allowed(_policy(statement), resource="arn:aws:s3:::bucket/home/*/x", aws__username="*")


CONDITIONS = [
    ("StringEquals", "s3:prefix", "a", {"s3__prefix": "a"}, True),
    ("StringEquals", "s3:prefix", ["b", "a"], {"s3__prefix": "a"}, True),
    ("StringEquals", "S3:Prefix", "A", {"s3__prefix": "a"}, False),
    ("StringEqualsIgnoreCase", "s3:prefix", "A", {"s3__prefix": "a"}, True),
    ("StringEquals", "s3:prefix", "a", {}, False),
    ("StringEqualsIfExists", "s3:prefix", "a", {}, True),
    ("StringEqualsIfExists", "s3:prefix", "a", {"s3__prefix": "b"}, False),
    ("StringNotEquals", "s3:prefix", ["a", "b"], {"s3__prefix": "a"}, False),
    ("StringNotEquals", "s3:prefix", ["a", "b"], {"s3__prefix": "c"}, True),
    ("StringNotEquals", "s3:prefix", "a", {}, True),
    ("StringLike", "s3:prefix", "home/${aws:username}/*", {"s3__prefix": "home/al/x", "aws__username": "al"}, True),
    ("StringLike", "s3:prefix", "home/?/*", {"s3__prefix": "home/al/x"}, False),
    ("StringNotLike", "s3:prefix", "home/*", {"s3__prefix": "home/"}, False),
    ("StringEquals", "s3:prefix", "${aws:username}", {"s3__prefix": "*", "aws__username": "*"}, True),
    ("NumericLessThanEquals", "s3:max-keys", 10, {"s3__max_keys": "10"}, True),
    ("NumericLessThan", "s3:max-keys", "10", {"s3__max_keys": "10"}, False),
    ("NumericGreaterThan", "s3:signatureage", "10", {"s3__signatureage": "nonsense"}, False),
    ("NumericNotEquals", "s3:max-keys", "10", {"s3__max_keys": "11"}, True),
    ("DateGreaterThan", "aws:currenttime", "2020-01-01T00:00:00Z", {"aws__currenttime": "2026-11-23T00:00:00Z"}, True),
    ("DateLessThan", "aws:currenttime", "2020-01-01", {"aws__currenttime": "2026-11-23T00:00:00Z"}, False),
    ("DateLessThan", "aws:epochtime", "1577836801", {"aws__epochtime": "1577836800"}, True),
    ("Bool", "aws:securetransport", "true", {"aws__securetransport": "true"}, True),
    ("Bool", "aws:securetransport", True, {"aws__securetransport": "false"}, False),
    ("BinaryEquals", "s3:x", "QUJD", {"s3__x": "QUJD"}, True),
    ("IpAddress", "aws:sourceip", ["10.0.0.0/8", "2001:db8::/32"], {"aws__sourceip": "10.1.2.3"}, True),
    ("IpAddress", "aws:sourceip", "10.0.0.0/8", {"aws__sourceip": "2001:db8::1"}, False),
    ("NotIpAddress", "aws:sourceip", "10.0.0.0/8", {"aws__sourceip": "11.1.2.3"}, True),
    ("IpAddress", "aws:sourceip", "10.0.0.0/8", {"aws__sourceip": "not an address"}, False),
    ("ArnLike", "aws:sourcearn", "arn:aws:cf::*:dist/*", {"aws__sourcearn": "arn:aws:cf::1:dist/E"}, True),
    ("ArnEquals", "aws:sourcearn", "arn:aws:s3:::b", {"aws__sourcearn": "arn:aws:s3:::c"}, False),
    ("ArnNotLike", "aws:sourcearn", "arn:aws:s3:::b*", {"aws__sourcearn": "arn:aws:s3:::c"}, True),
    ("Null", "s3:prefix", "true", {}, True),
    ("Null", "s3:prefix", "true", {"s3__prefix": "x"}, False),
    ("Null", "s3:prefix", "false", {"s3__prefix": "x"}, True),
    ("ForAllValues:StringEquals", "aws:tagkeys", ["a", "b"], {"aws__tagkeys": ("a", "b")}, True),
    ("ForAllValues:StringEquals", "aws:tagkeys", ["a"], {"aws__tagkeys": ("a", "b")}, False),
    ("ForAllValues:StringEquals", "aws:tagkeys", ["a"], {}, True),
    ("ForAnyValue:StringEquals", "aws:tagkeys", ["b"], {"aws__tagkeys": ("a", "b")}, True),
    ("ForAnyValue:StringEquals", "aws:tagkeys", ["c"], {"aws__tagkeys": ("a", "b")}, False),
    ("ForAnyValue:StringEquals", "aws:tagkeys", ["c"], {}, False),
    ("ForAllValues:StringNotEquals", "aws:tagkeys", ["c"], {"aws__tagkeys": ("a", "b")}, True),
    ("ForAnyValue:StringNotLike", "aws:tagkeys", ["a*"], {"aws__tagkeys": ("ab", "a")}, False),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "key", "value", "context", "expected"), CONDITIONS)
def test_conditions(operator: str, key: str, value: Any, context: dict[str, Any], expected: bool) -> None:
    assert _allowed(_policy(_on(Condition={operator: {key: value}})), **context) is expected


def test_all_conditions_must_hold() -> None:
    both = {"StringEquals": {"s3:prefix": "a"}, "Bool": {"aws:SecureTransport": "true"}}
    assert _allowed(_policy(_on(Condition=both)), s3__prefix="a", aws__securetransport="true")
    assert not _allowed(_policy(_on(Condition=both)), s3__prefix="a", aws__securetransport="false")


@pytest.mark.parametrize(
    ("principal", "expected"),
    [
        ("*", True),
        ({"AWS": "*"}, True),
        ({"AWS": ALICE}, True),
        ({"AWS": "arn:aws:iam::123456789012:user/bob"}, False),
        ({"AWS": "arn:aws:iam::123456789012:user/*"}, False),
        ({"Service": "cloudfront.amazonaws.com"}, False),
    ],
)
def test_principals(principal: Any, expected: bool) -> None:
    assert _allowed(_policy(_on(Principal=principal), kind="resource")) is expected
    other = {"Effect": "Allow", "Action": "*", "Resource": "*", "NotPrincipal": principal}
    assert _allowed(_policy(other, kind="resource")) is not expected


@pytest.mark.parametrize("principal", [{"AWS": "123456789012"}, {"AWS": ["arn:aws:iam::123456789012:root"]}])
def test_an_account_that_is_let_in_says_itself_who_of_it(principal: Any) -> None:
    let_in = _policy(_on(Principal=principal), kind="resource")
    assert not _allowed(let_in)
    root = RequestContext(action="s3:GetObject", resource=KEY, principals=(("AWS", "arn:aws:iam::123456789012:root"),))
    assert evaluate([let_in], root).allowed
    shut_out = {"Effect": "Deny", "Action": "*", "Resource": "*", "Principal": principal}
    assert not _allowed(_policy(_on(Principal={"AWS": ALICE}), shut_out, kind="resource"))
    all_but = {"Effect": "Deny", "Action": "*", "Resource": "*", "NotPrincipal": principal}
    assert _allowed(_policy(_on(Principal={"AWS": ALICE}), all_but, kind="resource"))


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "{}",
        {},
        {"Version": "2012-10-17"},
        {"Version": "2020-01-01", "Statement": [_on()]},
        {"Statement": []},
        {"Statement": [_on()], "Extra": 1},
        {"Statement": [_on(Sid="a"), _on(Sid="a")]},
        {"Statement": {**_on(), "Effect": "allow"}},
        {"Statement": {**_on(), "Unknown": 1}},
        {"Statement": {"Effect": "Allow", "Resource": "*"}},
        {"Statement": {"Effect": "Allow", "Action": "*"}},
        {"Statement": {**_on(), "NotAction": "*"}},
        {"Statement": _on(action="GetObject")},
        {"Statement": _on(action=[])},
        {"Statement": _on(action=7)},
        {"Statement": _on(Principal="*")},
        {"Statement": _on(Condition=[])},
        {"Statement": _on(Condition={"StringEqual": {"a": "b"}})},
        {"Statement": _on(Condition={"NumericEquals": {"a": "b"}})},
        {"Statement": _on(Condition={"IpAddress": {"a": "10.0.0.0/99"}})},
        {"Statement": _on(Condition={"ForSomeValue:StringEquals": {"a": "b"}})},
        {"Statement": _on(Condition={"Null": {"a": "perhaps"}})},
        {"Statement": _on(resource="a\0b")},
    ],
)
def test_malformed_documents_are_refused(document: Any) -> None:
    with pytest.raises(MalformedPolicyError):
        parse_policy(document, kind="identity")


statements = st.builds(
    lambda effect, action, resource, condition: {
        "Effect": effect,
        "Action": action,
        "Resource": resource,
        **({"Condition": condition} if condition else {}),
    },
    st.sampled_from(["Allow", "Deny"]),
    st.sampled_from(["*", "s3:*", "s3:Get*", "s3:PutObject"]),
    st.sampled_from(["*", "arn:aws:s3:::bucket/*", "arn:aws:s3:::other/*", KEY]),
    st.sampled_from([None, {"Bool": {"aws:securetransport": "true"}}, {"StringLike": {"s3:prefix": "a*"}}]),
)
requests = st.builds(
    lambda action, resource, conditions: RequestContext(action=action, resource=resource, conditions=conditions),
    st.sampled_from(["s3:GetObject", "s3:PutObject", "s3:ListBucket"]),
    st.sampled_from([KEY, "arn:aws:s3:::other/k", "arn:aws:s3:::bucket"]),
    st.sampled_from([{}, {"aws:securetransport": ("true",)}, {"s3:prefix": ("ab",)}]),
)


@given(st.lists(statements, min_size=1, max_size=6), statements, requests)
def test_adding_a_deny_never_allows_more(some, extra, request) -> None:
    before = evaluate([_policy(*some)], request)
    after = evaluate([_policy(*some), _policy({**extra, "Effect": "Deny"})], request)
    assert before.allowed or not after.allowed


def _plainly(statement: dict[str, Any], request: RequestContext) -> bool:
    """Whether a statement speaks of a request, by the letter of the user guide."""
    action, resource = statement["Action"].lower(), statement["Resource"]
    (operator, wanted) = next(iter(statement.get("Condition", {"": {}}).items()))
    condition = True
    for key, value in wanted.items():
        given_values = request.conditions.get(key, ())
        condition = any(fnmatchcase(one, value) if operator == "StringLike" else one == value for one in given_values)
    return fnmatchcase(request.action.lower(), action) and fnmatchcase(request.resource, resource) and condition


@given(st.lists(statements, min_size=1, max_size=6), requests)
def test_the_verdict_is_that_of_the_user_guide(some, request) -> None:
    """IAM User Guide, "Policy evaluation logic": a deny that applies, else an allow that applies, else no."""
    effects = {one["Effect"] for one in some if _plainly(one, request)}
    verdict = "explicit deny" if "Deny" in effects else "allow" if effects else "default deny"
    assert evaluate([_policy(*some)], request).verdict == verdict
    assert evaluate([_policy(one) for one in some], request).verdict == verdict  # however they are spread


@given(st.lists(statements, min_size=1, max_size=6), requests)
def test_taking_an_allow_away_never_allows_more(some, request) -> None:
    fewer = some[1:] if some[0]["Effect"] == "Allow" else some
    before = evaluate([_policy(*some)], request)
    after = evaluate([_policy(*fewer)] if fewer else [], request)
    assert before.allowed or not after.allowed


@given(statements, requests)
def test_a_negated_element_speaks_of_exactly_the_rest(statement, request) -> None:
    plain = {**statement, "Effect": "Allow"}
    plain.pop("Condition", None)
    for element in ("Action", "Resource"):
        turned = {name: value for name, value in plain.items() if name != element} | {f"Not{element}": plain[element]}
        alone = {**plain, "Action": "*", "Resource": "*", element: plain[element]}
        turned_alone = {**turned, **{other: "*" for other in ("Action", "Resource") if other != element}}
        assert evaluate([_policy(alone)], request).allowed != evaluate([_policy(turned_alone)], request).allowed


@given(statements, requests)
def test_the_case_of_an_action_says_nothing(statement, request) -> None:
    upper = {**statement, "Action": statement["Action"].replace("s3:", "S3:").upper()}
    assert evaluate([_policy(upper)], request).verdict == evaluate([_policy(statement)], request).verdict


_TURNED = {
    "StringEquals": "StringNotEquals", "StringLike": "StringNotLike", "NumericEquals": "NumericNotEquals",
    "IpAddress": "NotIpAddress", "ArnLike": "ArnNotLike", "DateEquals": "DateNotEquals",
}  # fmt: skip
_VALUES = {
    "StringEquals": st.sampled_from(["a", "b", ""]),
    "StringLike": st.sampled_from(["a", "b", "ab"]),
    "NumericEquals": st.sampled_from(["1", "1.0", "2"]),
    "IpAddress": st.sampled_from(["10.0.0.1", "10.1.0.1", "::1"]),
    "ArnLike": st.sampled_from(["arn:aws:s3:::a", "arn:aws:s3:::b"]),
    "DateEquals": st.sampled_from(["2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"]),
}


@given(st.data(), st.sampled_from(list(_TURNED)))
def test_an_operator_and_its_negation_never_agree_on_one_value(data, operator) -> None:
    wanted = data.draw(st.lists(_VALUES[operator], min_size=1, max_size=3))
    present = data.draw(st.none() | _VALUES[operator])
    conditions = {} if present is None else {"k:k": (present,)}
    request = RequestContext(action="s3:GetObject", resource=KEY, conditions=conditions)

    def allows(name: str) -> bool:
        return evaluate([_policy(_on(Condition={name: {"k:k": wanted}}))], request).allowed

    assert allows(operator) != allows(_TURNED[operator])
    if present is None:  # without the key: only the negation holds, and whatever says that it need not be there
        assert not allows(operator)
        assert allows(f"{operator}IfExists")


@given(st.lists(statements, min_size=1, max_size=6), requests, st.randoms())
def test_an_explicit_deny_wins_in_any_order(some, request, random) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)
    decision, other = evaluate([_policy(*some)], request), evaluate([_policy(*shuffled)], request)
    assert decision.verdict == other.verdict
    denies = [one for one in some if one["Effect"] == "Deny"]
    if any(evaluate([_policy({**one, "Effect": "Allow"})], request).allowed for one in denies):
        assert decision.verdict == "explicit deny"
    if decision.verdict == "default deny":
        assert decision.statement is None
    else:
        assert decision.statement is not None


def test_managed_policies_can_all_be_read() -> None:
    for arn in MANAGED_POLICIES:
        assert managed_policy(arn) is not None
    assert managed_policy("arn:aws:iam::aws:policy/Nothing") is None


@pytest.mark.parametrize(
    ("name", "action", "expected"),
    [
        ("AmazonS3ReadOnlyAccess", "s3:GetObject", True),
        ("AmazonS3ReadOnlyAccess", "s3:PutObject", False),
        ("AmazonS3FullAccess", "s3:DeleteObject", True),
        ("AdministratorAccess", "s3:DeleteBucket", True),
        ("service-role/AWSLambdaBasicExecutionRole", "s3:GetObject", False),
    ],
)
def test_managed_policies(name: str, action: str, expected: bool) -> None:
    policy = managed_policy(f"arn:aws:iam::aws:policy/{name}")
    assert policy is not None
    assert _allowed(policy, action) is expected


@pytest.mark.parametrize(
    ("method", "has_key", "parameters", "action"),
    [
        ("GET", True, [], "s3:GetObject"),
        ("GET", True, ["versionId"], "s3:GetObjectVersion"),
        ("GET", True, ["tagging", "versionId"], "s3:GetObjectVersionTagging"),
        ("PUT", True, ["partNumber", "uploadId"], "s3:PutObject"),
        ("DELETE", True, ["uploadId"], "s3:AbortMultipartUpload"),
        ("GET", False, ["list-type", "prefix"], "s3:ListBucket"),
        ("GET", False, ["versions"], "s3:ListBucketVersions"),
        ("POST", False, ["delete"], "s3:DeleteObject"),
        ("PATCH", True, [], None),
        ("GET", True, ["acl", "tagging"], None),
        ("POST", True, [], None),
        ("GET", False, ["inventory"], "s3:GetInventoryConfiguration"),
        ("GET", False, ["session"], None),
        ("DELETE", True, ["annotation"], None),
    ],
)
def test_s3_actions(method: str, has_key: bool, parameters: list[str], action: str | None) -> None:
    assert s3_action(method, has_key=has_key, parameters=parameters) == action


def test_no_call_of_a_sub_resource_passes_for_the_plain_one() -> None:
    model = botocore.session.get_session().get_service_model("s3")
    for operation in map(model.operation_model, model.operation_names):
        path, _, query = operation.http["requestUri"].partition("?")
        named = {part.partition("=")[0] for part in query.split("&")} - {"", "list-type", "select-type", "x-id"}
        method, has_key = operation.http["method"], "{Key+}" in path
        if named:
            action = s3_action(method, has_key=has_key, parameters=named)
            assert action is None or action != s3_action(method, has_key=has_key, parameters=[]), operation.name
