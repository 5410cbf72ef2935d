"""From the address of a request to an access point, and from an access point to its routes.

Names and addresses as in the S3 User Guide, "Making requests through a Multi-Region Access Point".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec import Struct

from nearpoint.policy.document import MalformedPolicyError, Policy, parse_policy
from nearpoint.state.resources import AccessPoint

HOST_SUFFIX = ".accesspoint.s3-global.amazonaws.com"
_ALIAS = re.compile(r"[a-z][a-z0-9]{0,62}\.mrap")
# A policy that cannot be read must not open anything: it becomes this one.
DENY_ALL = parse_policy(
    {"Version": "2012-10-17", "Statement": {"Effect": "Deny", "Principal": "*", "Action": "*", "Resource": "*"}},
    kind="resource",
    name="unreadable policy",
)


class Address(Struct, frozen=True, kw_only=True):
    """An access point's alias, and the rest of the path: percent-encoded, from its slash on."""

    alias: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A bucket of an access point. `dial_percent` 0 is passive; what is between 0 and 100 is a share."""

    region: str
    bucket: str
    dial_percent: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteTable:
    """An access point as requests need it."""

    alias: str
    arn: str
    account_id: str
    routes: tuple[Route, ...]
    regions: frozenset[str]
    policy: Policy | None = None
    public_access_block: Mapping[str, bool] = field(default_factory=dict)
    read_fallback: bool = True
    hedge_reads: bool = False
    affinity: bool = True

    def route(self, region: str) -> Route | None:
        """The route to that region, or None."""
        return next((route for route in self.routes if route.region == region), None)


def address_of(host: str, path: str) -> Address | None:
    """The access point that a Host (lower case, no port) and path (percent-encoded) name, or None.

    `ALIAS.accesspoint.s3-global.amazonaws.com`, `ALIAS.any.endpoint` (virtual-host style) and `/ALIAS/key` (path
    style) all do. An alias ends in `.mrap`; on the first form anything else is an access point that doesn't exist.
    """
    if host.endswith(HOST_SUFFIX):
        return Address(alias=host.removesuffix(HOST_SUFFIX), path=path)
    found = _ALIAS.match(host)
    if found is not None and host[found.end() :].startswith("."):
        return Address(alias=found[0], path=path)
    bucket, slash, rest = path[1:].partition("/")
    if _ALIAS.fullmatch(bucket):
        return Address(alias=bucket, path=slash + rest or "/")
    return None


def compile_routes(access_point: AccessPoint) -> RouteTable:
    """The route table of an access point. A stored policy that cannot be read denies everything."""
    policy: Policy | None = None
    if access_point.policy is not None:
        try:
            policy = parse_policy(access_point.policy, kind="resource", name="access point policy")
        except MalformedPolicyError:
            policy = DENY_ALL
    return RouteTable(
        alias=access_point.alias,
        arn=access_point.arn,
        account_id=access_point.account_id,
        routes=tuple(
            Route(region=member.region, bucket=member.bucket, dial_percent=max(0, min(100, member.dial_percent)))
            for member in access_point.members
        ),
        regions=frozenset(member.region for member in access_point.members),
        policy=policy,
        public_access_block=access_point.public_access_block,
        read_fallback=access_point.read_fallback,
        hedge_reads=access_point.hedge_reads,
        affinity=access_point.affinity,
    )
