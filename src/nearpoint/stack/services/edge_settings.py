"""What distributions refer to by id: policies, origin access controls, public keys and key groups.

One set of operations serves the six kinds; `SettingKind` says how they differ.

CloudFront API Reference (CreateCachePolicy and its sisters); numbers: CloudFront quotas of 2026.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from nearpoint.awsproto.errors import AwsError
from nearpoint.edge.managed import (
    MANAGED_CACHE_POLICIES,
    MANAGED_ORIGIN_REQUEST_POLICIES,
    MANAGED_RESPONSE_HEADERS_POLICIES,
)
from nearpoint.stack.services import edge_setting_config as shapes
from nearpoint.stack.services.context import UPPER_AND_DIGITS, Context, text_of
from nearpoint.stack.services.distribution_config import behaviors
from nearpoint.state.resources import (
    CachePolicy,
    Distribution,
    EdgeSetting,
    KeyGroup,
    OriginAccessControl,
    OriginRequestPolicy,
    PublicKey,
    ResponseHeadersPolicy,
)
from nearpoint.state.store import State


def _uuid(random_bytes: bytes) -> str:
    return str(uuid.UUID(bytes=random_bytes[:16], version=4))


def _id(letter: str) -> Callable[[bytes], str]:
    """The letter and 13 capitals or digits."""
    return lambda random_bytes: letter + text_of(random_bytes[:13], UPPER_AND_DIGITS)


Used = Callable[[State, Distribution, str], bool]


def _by_behavior(name: str) -> Used:
    return lambda state, distribution, id: any(each.get(name) == id for each in behaviors(distribution.config))


def _by_key_group(state: State, distribution: Distribution, id: str) -> bool:
    return any(id in each.get("TrustedKeyGroups", ()) for each in behaviors(distribution.config))


def _by_origin(state: State, distribution: Distribution, id: str) -> bool:
    return any(origin.get("OriginAccessControlId") == id for origin in distribution.config["Origins"])


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingKind:
    """One kind: what CloudFront calls it, its codes, how it is checked, and which distributions use it.

    `name` is CloudFormation's (`CachePolicy`), `word` that of messages. `fixed` are members that no update changes.
    """

    resource: type[EdgeSetting]
    name: str
    word: str
    missing: str
    exists: str
    in_use: str
    too_many: str
    count_max: int
    id_of: Callable[[bytes], str]
    check: Callable[[Any], dict[str, Any]]
    used: Used
    managed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()

    @property
    def config_name(self) -> str:
        """`CachePolicyConfig`."""
        return f"{self.name}Config"


CACHE_POLICY = SettingKind(
    resource=CachePolicy,
    name="CachePolicy",
    word="cache policy",
    missing="NoSuchCachePolicy",
    exists="CachePolicyAlreadyExists",
    in_use="CachePolicyInUse",
    too_many="TooManyCachePolicies",
    count_max=20,
    id_of=_uuid,
    check=shapes.check_cache_policy,
    used=_by_behavior("CachePolicyId"),
    managed=MANAGED_CACHE_POLICIES,
)
ORIGIN_REQUEST_POLICY = SettingKind(
    resource=OriginRequestPolicy,
    name="OriginRequestPolicy",
    word="origin request policy",
    missing="NoSuchOriginRequestPolicy",
    exists="OriginRequestPolicyAlreadyExists",
    in_use="OriginRequestPolicyInUse",
    too_many="TooManyOriginRequestPolicies",
    count_max=20,
    id_of=_uuid,
    check=shapes.check_origin_request_policy,
    used=_by_behavior("OriginRequestPolicyId"),
    managed=MANAGED_ORIGIN_REQUEST_POLICIES,
)
RESPONSE_HEADERS_POLICY = SettingKind(
    resource=ResponseHeadersPolicy,
    name="ResponseHeadersPolicy",
    word="response headers policy",
    missing="NoSuchResponseHeadersPolicy",
    exists="ResponseHeadersPolicyAlreadyExists",
    in_use="ResponseHeadersPolicyInUse",
    too_many="TooManyResponseHeadersPolicies",
    count_max=20,
    id_of=_uuid,
    check=shapes.check_response_headers_policy,
    used=_by_behavior("ResponseHeadersPolicyId"),
    managed=MANAGED_RESPONSE_HEADERS_POLICIES,
)
ORIGIN_ACCESS_CONTROL = SettingKind(
    resource=OriginAccessControl,
    name="OriginAccessControl",
    word="origin access control",
    missing="NoSuchOriginAccessControl",
    exists="OriginAccessControlAlreadyExists",
    in_use="OriginAccessControlInUse",
    too_many="TooManyOriginAccessControls",
    count_max=100,
    id_of=_id("E"),
    check=shapes.check_origin_access_control,
    used=_by_origin,
)
PUBLIC_KEY = SettingKind(
    resource=PublicKey,
    name="PublicKey",
    word="public key",
    missing="NoSuchPublicKey",
    exists="PublicKeyAlreadyExists",
    in_use="PublicKeyInUse",
    too_many="TooManyPublicKeys",
    count_max=10,
    id_of=_id("K"),
    check=shapes.check_public_key,
    used=lambda state, distribution, id: False,
    fixed=("CallerReference", "Name", "EncodedKey"),
)
KEY_GROUP = SettingKind(
    resource=KeyGroup,
    name="KeyGroup",
    word="key group",
    missing="NoSuchResource",
    exists="KeyGroupAlreadyExists",
    in_use="ResourceInUse",
    too_many="TooManyKeyGroups",
    count_max=10,
    id_of=_uuid,
    check=shapes.check_key_group,
    used=_by_key_group,
)
KINDS = (CACHE_POLICY, ORIGIN_REQUEST_POLICY, RESPONSE_HEADERS_POLICY, ORIGIN_ACCESS_CONTROL, PUBLIC_KEY, KEY_GROUP)


def find(state: State, kind: SettingKind, id: str) -> EdgeSetting:
    """Raises AwsError (NoSuchCachePolicy …). Managed policies are found too."""
    setting = state.get(kind.resource, id)
    if setting is not None:
        return setting
    if id in kind.managed:
        return managed(kind, id)
    raise AwsError(kind.missing, f"The specified {kind.word} does not exist.", status=404)


def managed(kind: SettingKind, id: str) -> EdgeSetting:
    """A policy that AWS manages, as if it were the account's."""
    config = dict(kind.managed[id])
    return kind.resource(setting_id=id, config=config, etag="E23ZP02F085DFQ", created_at=0, last_modified=0)


def users(state: State, kind: SettingKind, id: str) -> list[Distribution]:
    """The distributions that refer to it."""
    return [each for each in state.list(Distribution) if kind.used(state, each, id)]


def _taken(state: State, kind: SettingKind, config: Mapping[str, Any], but: str = "") -> AwsError | None:
    for other in state.list(kind.resource):
        if other.id != but and other.name == config["Name"]:
            return AwsError(kind.exists, f"A {kind.word} with this name already exists in this account.", status=409)
    if kind is PUBLIC_KEY:
        for other in state.list(PublicKey):
            if other.id != but and other.config["CallerReference"] == config["CallerReference"]:
                text = "The caller reference has been used for another public key."
                return AwsError(kind.exists, text, status=409)
    return None


def _check_keys(state: State, kind: SettingKind, config: Mapping[str, Any]) -> None:
    if kind is KEY_GROUP:
        for key_id in config["Items"]:
            if state.get(PublicKey, key_id) is None:
                raise AwsError("InvalidArgument", f"There is no public key with the id {key_id}.", status=400)


async def create(context: Context, kind: SettingKind, *, config: Any, id: str | None = None) -> EdgeSetting:
    """Create, with an id that the caller has chosen beforehand (`kind.id_of`) or a new one. Raises AwsError
    (InvalidArgument, …AlreadyExists, TooMany…)."""
    checked = kind.check(config)
    async with context.lock:
        state = context.state
        taken = _taken(state, kind, checked)
        if taken is not None:
            raise taken
        _check_keys(state, kind, checked)
        if len(state.list(kind.resource)) >= kind.count_max:
            raise AwsError(kind.too_many, f"You have reached the maximum number of {kind.word}s.", status=400)
        if id is not None and state.get(kind.resource, id) is not None:
            raise AwsError(kind.exists, f"The id of the {kind.word} is in use.", status=409)
        while id is None or state.get(kind.resource, id) is not None:
            id = kind.id_of(context.random_bytes(16))
        now = context.now()
        setting = kind.resource(setting_id=id, config=checked, etag=_etag(context), created_at=now, last_modified=now)
        await state.put(setting)
        return setting


def _etag(context: Context) -> str:
    return _id("E")(context.random_bytes(13))


def _check_etag(setting: EdgeSetting, if_match: str | None) -> None:
    if not if_match:
        raise AwsError(
            "InvalidIfMatchVersion", "The If-Match version is missing or not valid for the resource.", status=400
        )
    if if_match != setting.etag:
        raise AwsError(
            "PreconditionFailed",
            "The request failed because it didn't meet the preconditions in one or more request-header fields.",
            status=412,
        )


async def update(context: Context, kind: SettingKind, id: str, *, config: Any, if_match: str | None) -> EdgeSetting:
    """Replace the configuration. `if_match` is the ETag the caller knows. Raises AwsError (NoSuch…,
    InvalidIfMatchVersion, PreconditionFailed, IllegalUpdate for managed policies, or as `create`)."""
    checked = kind.check(config)
    async with context.lock:
        before = find(context.state, kind, id)
        if id in kind.managed:
            raise AwsError("IllegalUpdate", f"A managed {kind.word} cannot be changed.", status=400)
        _check_etag(before, if_match)
        if any(before.config[name] != checked[name] for name in kind.fixed):
            raise AwsError(
                "CannotChangeImmutablePublicKeyFields", "You can't change the value of a public key.", status=400
            )
        taken = _taken(context.state, kind, checked, but=id)
        if taken is not None:
            raise taken
        _check_keys(context.state, kind, checked)
        setting = msgspec.structs.replace(before, config=checked, etag=_etag(context), last_modified=context.now())
        await context.state.put(setting)
        return setting


async def delete(context: Context, kind: SettingKind, id: str, *, if_match: str | None) -> None:
    """Delete. Raises AwsError (NoSuch…, InvalidIfMatchVersion, PreconditionFailed, …InUse, IllegalDelete)."""
    async with context.lock:
        setting = find(context.state, kind, id)
        if id in kind.managed:
            raise AwsError("IllegalDelete", f"A managed {kind.word} cannot be deleted.", status=400)
        _check_etag(setting, if_match)
        grouped = kind is PUBLIC_KEY and any(id in group.config["Items"] for group in context.state.list(KeyGroup))
        if grouped or users(context.state, kind, id):
            raise AwsError(kind.in_use, f"The specified {kind.word} is in use.", status=409)
        await context.state.delete(setting)


def check_references(state: State, config: Mapping[str, Any]) -> None:
    """Everything that a distribution's configuration names exists and fits. Raises AwsError."""
    for behavior in behaviors(dict(config)):
        for kind in (CACHE_POLICY, ORIGIN_REQUEST_POLICY, RESPONSE_HEADERS_POLICY):
            id = behavior.get(f"{kind.name}Id")
            if id:
                find(state, kind, id)
        for id in behavior.get("TrustedKeyGroups", ()):
            if state.get(KeyGroup, id) is None:
                raise AwsError("TrustedKeyGroupDoesNotExist", "The specified key group does not exist.", status=400)
    for origin in config["Origins"]:
        id = origin.get("OriginAccessControlId")
        if not id:
            continue
        control = state.get(OriginAccessControl, id)
        if control is None:
            raise AwsError(
                "InvalidOriginAccessControl", "The origin access control that you specified does not exist.", status=400
            )


def active_keys(state: State, config: Mapping[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """The key groups that a distribution trusts, each with the ids of its keys."""
    named = dict.fromkeys(id for behavior in behaviors(dict(config)) for id in behavior.get("TrustedKeyGroups", ()))
    for id in named:
        group = state.get(KeyGroup, id)
        if group is not None:
            yield id, list(group.config["Items"])
