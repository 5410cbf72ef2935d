"""Compiles a DistributionConfig into what the edge works with: origins and ordered behaviors, as immutable values.

The input has CloudFormation's shape (AWS::CloudFront::Distribution, plain lists). CloudFormation passes numbers and
booleans as text too, so both are taken. What is missing has CloudFront's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from nearpoint.edge.behavior import PathPattern, compile_pattern
from nearpoint.edge.geo import GeoRestriction, compile_restriction
from nearpoint.edge.headers import OriginFields
from nearpoint.edge.log_target import Logging, compile_logging
from nearpoint.edge.managed import KEEPING_FROM_S3, KEPT_FROM_S3, MANAGED_POLICIES
from nearpoint.edge.origin_config import Origin, compile_origin
from nearpoint.edge.policies import (
    ALL,
    CachePolicy,
    Forwarding,
    Policies,
    Selection,
    compile_cache_policy,
    forwarded_values,
    origin_request_policy,
    ttl_of,
)
from nearpoint.edge.properties import ConfigError, flag_of, list_of, number_of, required_text, text_of, texts_of
from nearpoint.edge.references import References
from nearpoint.edge.response_headers import ResponseHeaders, check_policy, compile_response_headers
from nearpoint.edge.signed_url import Key
from nearpoint.edge.tags import compile_tag_field

EventType = Literal["viewer-request", "origin-request", "origin-response", "viewer-response"]
EVENT_TYPES: tuple[EventType, ...] = ("viewer-request", "origin-request", "origin-response", "viewer-response")
ALL_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "POST", "DELETE"})
READ_METHODS = frozenset({"GET", "HEAD"})
ERROR_TTL_S = 10  # CloudFront Developer Guide, "How long CloudFront caches errors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Association:
    """A Lambda@Edge function at its place in a request's life."""

    event_type: EventType
    function_arn: str
    include_body: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """The second member of an origin group, and on which statuses of the first it is asked."""

    origin: Origin
    statuses: frozenset[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behavior:
    """How requests whose path matches are served.

    `pattern` is None for the default behavior. `keys`: those that may have signed the URL or cookies of a request, by
    id; None: nothing need be signed.
    """

    pattern: PathPattern | None
    origin: Origin
    failover: Failover | None = None
    viewer_protocol: Literal["allow-all", "https-only", "redirect-to-https"] = "allow-all"
    allowed_methods: frozenset[str] | None = READ_METHODS  # None: every method
    cached_methods: frozenset[str] = READ_METHODS
    cache: CachePolicy
    forward: Forwarding
    compress: bool = False
    functions: Mapping[EventType, Association]
    response_headers: ResponseHeaders | None = None
    keys: Mapping[str, Key] | None = None

    # What follows from the above: worked out once, not for each request.
    name: str = field(init=False, repr=False, compare=False)  # the pattern, or `default`
    added: frozenset[str] = field(init=False, repr=False, compare=False)  # fields of the edge's own that requests get
    queries: Selection = field(init=False, repr=False, compare=False)  # the parameters that the origin gets
    origin_fields: OriginFields = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, value in (
            ("name", self.pattern.text if self.pattern else "default"),
            ("added", self.cache.added | self.forward.added),
            ("queries", self.cache.queries | self.forward.queries),
            ("origin_fields", OriginFields(self.cache, self.forward)),
        ):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorResponse:
    """What to answer in place of an origin's error, and how long to keep the error."""

    status: int
    response_status: int | None = None
    page_path: str | None = None
    min_ttl_s: float = ERROR_TTL_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution, ready to serve. `hosts` are its domain and aliases, in lower case.

    `tag_field` is the field of an origin's answer that has its cache tags, in lower case; empty: there are none.
    """

    id: str
    domain: str
    hosts: tuple[str, ...]
    enabled: bool = True
    default_root_object: str = ""
    behaviors: tuple[Behavior, ...]  # in order, the default behavior last
    errors: Mapping[int, ErrorResponse]
    geo: GeoRestriction | None = None
    tag_field: str = ""
    logging: Logging | None = None
    standalone: bool = False


def compile_distribution(
    *, distribution_id: str, domain: str, config: Mapping[str, Any], references: References | None = None
) -> Distribution:
    """Compile one DistributionConfig. `references` are what the account has made and the configuration names.

    Raises ConfigError, which names the property at fault.
    """
    known = references if references is not None else References()
    known = replace(known, policies={**MANAGED_POLICIES, **known.policies})
    origins: dict[str, Origin] = {}
    for at, item in enumerate(list_of(config, "Origins", "")):
        origin = compile_origin(item, f"Origins[{at}]", known)
        if origin.id in origins:
            raise ConfigError(f"Origins[{at}].Id", f"{origin.id!r} is used twice")
        origins[origin.id] = origin
    if not origins:
        raise ConfigError("Origins", "at least one origin is required")
    targets = _targets(config, origins)
    behaviors = [
        _behavior(item, f"CacheBehaviors[{at}]", targets, known)
        for at, item in enumerate(list_of(config, "CacheBehaviors", ""))
    ]
    default = config.get("DefaultCacheBehavior")
    if not isinstance(default, Mapping):
        raise ConfigError("DefaultCacheBehavior", "is required")
    behaviors.append(_behavior(default, "DefaultCacheBehavior", targets, known))
    aliases = [*texts_of(config, "Aliases", ""), *texts_of(config, "CNAMEs", "")]
    return Distribution(
        id=distribution_id,
        domain=domain,
        hosts=(domain.lower(), *(alias.lower() for alias in aliases)),
        enabled=flag_of(config, "Enabled", True, ""),
        default_root_object=text_of(config, "DefaultRootObject", "").lstrip("/"),
        behaviors=tuple(behaviors),
        errors={
            error.status: error
            for at, item in enumerate(list_of(config, "CustomErrorResponses", ""))
            for error in [_error_response(item, f"CustomErrorResponses[{at}]")]
        },
        geo=compile_restriction(config),
        tag_field=compile_tag_field(config),
        logging=compile_logging(config),
    )


def standalone_distribution(*, host: str, port: int, tls: bool, path: str = "", tag_field: str = "") -> Distribution:
    """The stand-alone edge: one origin, every method, the query string in the key, freshness from the origin alone."""
    origin = Origin(
        id="origin",
        kind="custom",
        domain=host,
        path=path.rstrip("/"),
        protocol="https-only" if tls else "http-only",
        http_port=port,
        https_port=port,
        keepalive_timeout_s=30,
    )
    behavior = Behavior(
        pattern=None,
        origin=origin,
        allowed_methods=None,
        cache=CachePolicy(
            default_ttl_s=0, max_ttl_s=float("inf"), gzip=True, brotli=True, queries=ALL, explicit_only=True
        ),
        forward=Forwarding(headers=ALL, cookies=ALL, queries=ALL, standalone=True),
        functions={},
    )
    return Distribution(
        id="standalone",
        domain=host,
        hosts=(),
        behaviors=(behavior,),
        errors={},
        standalone=True,
        tag_field=tag_field.lower(),
    )


def with_origin_timeouts(distribution: Distribution, *, connect_s: float, read_s: float, attempts: int) -> Distribution:
    """The same distribution with other time-outs for every origin."""

    def changed(behavior: Behavior) -> Behavior:
        origin = replace(
            behavior.origin, connect_timeout_s=connect_s, read_timeout_s=read_s, connection_attempts=attempts
        )
        return replace(behavior, origin=origin)

    return replace(distribution, behaviors=tuple(changed(behavior) for behavior in distribution.behaviors))


Targets = Mapping[str, tuple[Origin, Failover | None]]  # by the id of an origin or an origin group


def _targets(config: Mapping[str, Any], origins: Mapping[str, Origin]) -> Targets:
    targets: dict[str, tuple[Origin, Failover | None]] = {id: (origin, None) for id, origin in origins.items()}
    for at, item in enumerate(list_of(config, "OriginGroups", "") if config.get("OriginGroups") else ()):
        where = f"OriginGroups[{at}]"
        members = [required_text(member, "OriginId", where) for member in list_of(item, "Members", where)]
        if len(members) != 2 or not set(members) <= set(origins):
            raise ConfigError(f"{where}.Members", "must be two of the origins")
        criteria = item.get("FailoverCriteria") or {}
        statuses = frozenset(int(code) for code in texts_of(criteria, "StatusCodes", where))
        failover = Failover(origin=origins[members[1]], statuses=statuses)
        targets[required_text(item, "Id", where)] = (origins[members[0]], failover)
    return targets


def _behavior(item: Any, where: str, targets: Targets, known: References) -> Behavior:
    policies = known.policies
    if not isinstance(item, Mapping):
        raise ConfigError(where, "must be an object")
    target = required_text(item, "TargetOriginId", where)
    if target not in targets:
        raise ConfigError(f"{where}.TargetOriginId", f"no origin or origin group has the id {target!r}")
    origin, failover = targets[target]
    viewer_protocol = required_text(item, "ViewerProtocolPolicy", where)
    if viewer_protocol not in ("allow-all", "https-only", "redirect-to-https"):
        raise ConfigError(
            f"{where}.ViewerProtocolPolicy", f"{viewer_protocol!r} is not allow-all, https-only or redirect-to-https"
        )
    allowed = frozenset(texts_of(item, "AllowedMethods", where)) or READ_METHODS
    if allowed not in (READ_METHODS, READ_METHODS | {"OPTIONS"}, ALL_METHODS):
        raise ConfigError(f"{where}.AllowedMethods", "must be GET, HEAD or GET, HEAD, OPTIONS or all seven methods")
    cached = frozenset(texts_of(item, "CachedMethods", where)) or READ_METHODS
    if cached not in (READ_METHODS, READ_METHODS | {"OPTIONS"}) or not cached <= allowed:
        raise ConfigError(f"{where}.CachedMethods", "must be GET, HEAD or GET, HEAD, OPTIONS, and allowed")
    legacy = item.get("ForwardedValues")
    cache_id = text_of(item, "CachePolicyId", "", where)
    if cache_id:
        policy = policies.get(cache_id)
        if policy is None or "ParametersInCacheKeyAndForwardedToOrigin" not in policy:
            raise ConfigError(f"{where}.CachePolicyId", f"no cache policy has the id {cache_id!r}")
        cache = compile_cache_policy(policy)
        request_id = text_of(item, "OriginRequestPolicyId", "", where)
        forward = origin_request_policy(request_id, policies, where)
        if origin.kind == "s3" and request_id in KEEPING_FROM_S3:
            forward = replace(forward, queries=Selection(mode="all-except", names=KEPT_FROM_S3))
    elif isinstance(legacy, Mapping):
        cache, forward = forwarded_values(item, legacy, where)
    else:
        raise ConfigError(where, "needs ForwardedValues or CachePolicyId")
    pattern = None
    if where != "DefaultCacheBehavior":
        pattern = compile_pattern(required_text(item, "PathPattern", where))
    return Behavior(
        pattern=pattern,
        origin=origin,
        failover=failover,
        viewer_protocol=viewer_protocol,  # type: ignore[arg-type]
        allowed_methods=allowed,
        cached_methods=cached,
        cache=cache,
        forward=forward,
        compress=flag_of(item, "Compress", False, where),
        functions=_functions(item, where),
        response_headers=_response_headers(item, where, policies),
        keys=_keys(item, where, known),
    )


def _response_headers(item: Mapping[str, Any], where: str, policies: Policies) -> ResponseHeaders | None:
    policy_id = text_of(item, "ResponseHeadersPolicyId", "", where)
    if not policy_id:
        return None
    return compile_response_headers(check_policy(policies.get(policy_id), where, policy_id))


def _keys(item: Mapping[str, Any], where: str, known: References) -> Mapping[str, Key] | None:
    groups = texts_of(item, "TrustedKeyGroups", where)
    if not groups and not texts_of(item, "TrustedSigners", where):
        return None
    # Trusted signers are accounts; none has a key pair here, so they admit nobody.
    keys: dict[str, Key] = {}
    for group in groups:
        # A group that is gone admits nobody; it must not open what it closed.
        if group not in known.key_groups:
            raise ConfigError(f"{where}.TrustedKeyGroups", f"no key group has the id {group!r}")
        keys.update(known.key_groups[group])
    return keys


def _functions(item: Mapping[str, Any], where: str) -> dict[EventType, Association]:
    functions: dict[EventType, Association] = {}
    for at, entry in enumerate(list_of(item, "LambdaFunctionAssociations", where)):
        inside = f"{where}.LambdaFunctionAssociations[{at}]"
        event_type = required_text(entry, "EventType", inside)
        if event_type not in EVENT_TYPES:
            raise ConfigError(f"{inside}.EventType", f"{event_type!r} is not one of {', '.join(EVENT_TYPES)}")
        if event_type in functions:
            raise ConfigError(f"{inside}.EventType", f"a second function for {event_type}")
        functions[event_type] = Association(
            event_type=event_type,
            function_arn=required_text(entry, "LambdaFunctionARN", inside),
            include_body=flag_of(entry, "IncludeBody", False, inside),
        )
    return functions


def _error_response(item: Any, where: str) -> ErrorResponse:
    if not isinstance(item, Mapping):
        raise ConfigError(where, "must be an object")
    status = int(number_of(item, "ErrorCode", None, where, between=(400, 599)))
    page = text_of(item, "ResponsePagePath", "", where) or None
    response_status = item.get("ResponseCode")
    if (page is None) != (response_status in (None, "")):
        raise ConfigError(where, "ResponseCode and ResponsePagePath come together")
    if page is not None and not page.startswith("/"):
        raise ConfigError(f"{where}.ResponsePagePath", "must begin with /")
    return ErrorResponse(
        status=status,
        response_status=None if page is None else int(number_of(item, "ResponseCode", None, where, between=(200, 599))),
        page_path=page,
        min_ttl_s=ttl_of(item, "ErrorCachingMinTTL", ERROR_TTL_S, where),
    )
