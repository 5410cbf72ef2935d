"""Condition operators of policy statements (IAM User Guide, "Condition operators").

A condition holds a key, an operator and values. Positive operators fail when the request has no such key, negated
ones succeed; `…IfExists` makes an absent key succeed; `ForAllValues:` and `ForAnyValue:` quantify over the request's
values.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from nearpoint.policy.patterns import Context, arn_matches, literal, matches, resolve

Quantifier = Literal["ForAllValues", "ForAnyValue"]

# Answers whether one request value meets one policy value; the policy value is already resolved.
Test = Callable[[str, str], bool]


def _number(text: str) -> float:
    number = float(text)
    if math.isnan(number):
        raise ValueError(text)
    return number


def _date(text: str) -> float:
    """Unix seconds of an ISO 8601 date or of epoch seconds."""
    try:
        return _number(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text, strict=False)


def _binary(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _in_network(value: str, policy: str) -> bool:
    address, network = ipaddress.ip_address(value), _network(policy)
    return address.version == network.version and address in network


# name: (test, reader that refuses a wrong policy value, negated, wildcards)
_Operator = tuple[Test, Callable[[str], object], bool, bool]
_OPERATORS: dict[str, _Operator] = {
    "stringequals": (lambda v, p: v == p, str, False, False),
    "stringnotequals": (lambda v, p: v == p, str, True, False),
    "stringequalsignorecase": (lambda v, p: v.lower() == p.lower(), str, False, False),
    "stringnotequalsignorecase": (lambda v, p: v.lower() == p.lower(), str, True, False),
    "stringlike": (lambda v, p: matches(p, v), str, False, True),
    "stringnotlike": (lambda v, p: matches(p, v), str, True, True),
    "numericequals": (lambda v, p: _number(v) == _number(p), _number, False, False),
    "numericnotequals": (lambda v, p: _number(v) == _number(p), _number, True, False),
    "numericlessthan": (lambda v, p: _number(v) < _number(p), _number, False, False),
    "numericlessthanequals": (lambda v, p: _number(v) <= _number(p), _number, False, False),
    "numericgreaterthan": (lambda v, p: _number(v) > _number(p), _number, False, False),
    "numericgreaterthanequals": (lambda v, p: _number(v) >= _number(p), _number, False, False),
    "dateequals": (lambda v, p: _date(v) == _date(p), _date, False, False),
    "datenotequals": (lambda v, p: _date(v) == _date(p), _date, True, False),
    "datelessthan": (lambda v, p: _date(v) < _date(p), _date, False, False),
    "datelessthanequals": (lambda v, p: _date(v) <= _date(p), _date, False, False),
    "dategreaterthan": (lambda v, p: _date(v) > _date(p), _date, False, False),
    "dategreaterthanequals": (lambda v, p: _date(v) >= _date(p), _date, False, False),
    "bool": (lambda v, p: v.lower() == p.lower(), str, False, False),
    "binaryequals": (lambda v, p: _binary(v) == _binary(p), _binary, False, False),
    "ipaddress": (_in_network, _network, False, False),
    "notipaddress": (_in_network, _network, True, False),
    "arnequals": (lambda v, p: arn_matches(p, v), str, False, True),
    "arnlike": (lambda v, p: arn_matches(p, v), str, False, True),
    "arnnotequals": (lambda v, p: arn_matches(p, v), str, True, True),
    "arnnotlike": (lambda v, p: arn_matches(p, v), str, True, True),
    "null": (lambda v, p: False, str, False, False),
}
# To take a key for absent that has a value would let through what a policy denies.
_NOT_KNOWN = "s3:existingobjecttag/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One operator over one key. `operator` and `key` are in lower case, `values` as written."""

    operator: str
    key: str
    values: tuple[str, ...]
    quantifier: Quantifier | None = None
    if_exists: bool = False


def parse_condition(operator: str, key: str, values: tuple[str, ...]) -> Condition:
    """The condition of one operator and key of a policy. Raises ValueError with the reason."""
    prefix, colon, rest = operator.partition(":")
    quantifier: Quantifier | None = None
    name = operator
    if colon:
        if prefix.lower() == "forallvalues":
            quantifier = "ForAllValues"
        elif prefix.lower() == "foranyvalue":
            quantifier = "ForAnyValue"
        else:
            raise ValueError(f"Invalid Condition type : {operator[:100]}")
        name = rest
    name = name.lower()
    if_exists = name.endswith("ifexists") and name != "nullifexists"
    name = name.removesuffix("ifexists") if if_exists else name
    found = _OPERATORS.get(name)
    if found is None:
        raise ValueError(f"Invalid Condition type : {operator[:100]}")
    if key.lower().startswith(_NOT_KNOWN):
        raise ValueError(f"{key[:100]} cannot be decided here: the tags that an object has are its store's to know")
    if name in ("null", "bool") and any(value.lower() not in ("true", "false") for value in values):
        raise ValueError(f"{operator[:100]} needs true or false")
    for value in values:
        if "${" in value:
            continue
        try:
            found[1](value)
        except (ValueError, binascii.Error, OverflowError):
            raise ValueError(f"{value[:100]} is not a value for {operator[:100]}") from None
    return Condition(operator=name, key=key.lower(), values=values, quantifier=quantifier, if_exists=if_exists)


def holds(condition: Condition, context: Context, *, variables: bool = True) -> bool:
    """Whether the request's context meets the condition. `variables`: policy variables are replaced."""
    present = context.get(condition.key)
    if condition.operator == "null":
        absent = not present
        return any((value.lower() == "true") == absent for value in condition.values)
    test, _, negated, wildcards = _OPERATORS[condition.operator]
    if not present:
        if condition.quantifier == "ForAnyValue":
            return condition.if_exists
        return condition.if_exists or negated or condition.quantifier == "ForAllValues"
    wanted = _resolved(condition.values, context, wildcards=wildcards) if variables else condition.values

    def meets(value: str) -> bool:
        return any(_safely(test, value, want) for want in wanted) != negated

    if condition.quantifier == "ForAllValues":
        return all(meets(value) for value in present)
    if condition.quantifier == "ForAnyValue" or not negated:
        return any(meets(value) for value in present)
    return all(meets(value) for value in present)


def _resolved(values: tuple[str, ...], context: Context, *, wildcards: bool) -> list[str]:
    replace = resolve if wildcards else literal
    return [value for value in (replace(one, context) for one in values) if value is not None]


def _safely(test: Test, value: str, wanted: str) -> bool:
    """A value that the operator cannot read does not match."""
    try:
        return test(value, wanted)
    except (ValueError, binascii.Error, OverflowError):
        return False
