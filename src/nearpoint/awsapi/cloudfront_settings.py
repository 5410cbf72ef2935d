"""CloudFront's policies, origin access controls, public keys and key groups: the same calls for each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nearpoint.awsapi.call import Call, Handler
from nearpoint.awsapi.cloudfront_input import kept_value
from nearpoint.awsapi.cloudfront_paging import page
from nearpoint.awsapi.distribution_shape import api_value
from nearpoint.awsproto import AwsError
from nearpoint.awsproto.model import Member
from nearpoint.stack.services import edge_settings
from nearpoint.stack.services.edge_settings import (
    CACHE_POLICY,
    KEY_GROUP,
    KINDS,
    ORIGIN_ACCESS_CONTROL,
    ORIGIN_REQUEST_POLICY,
    PUBLIC_KEY,
    RESPONSE_HEADERS_POLICY,
    SettingKind,
)
from nearpoint.state.resources import EdgeSetting

_PLURALS = {kind.name: f"{kind.name}s" for kind in KINDS} | {
    kind.name: f"{kind.name.removesuffix('y')}ies"
    for kind in (CACHE_POLICY, ORIGIN_REQUEST_POLICY, RESPONSE_HEADERS_POLICY)
}


def _shape(call: Call, name: str) -> Member:
    return Member(call.service.model.shape(name), {})


def _config(call: Call, kind: SettingKind, setting: EdgeSetting) -> dict[str, Any]:
    defaults = {"Comment": ""} if "Comment" in call.service.model.shape(kind.config_name).members else {}
    config: dict[str, Any] = api_value(_shape(call, kind.config_name), {**defaults, **setting.config})
    return config


def _shown(call: Call, kind: SettingKind, setting: EdgeSetting) -> dict[str, Any]:
    time = "CreatedTime" if kind is PUBLIC_KEY else "LastModifiedTime"
    return {"Id": setting.id, time: setting.last_modified, kind.config_name: _config(call, kind, setting)}


def _summary(call: Call, kind: SettingKind, setting: EdgeSetting) -> dict[str, Any]:
    """An item of a list, which each kind has in a form of its own."""
    if kind.managed:
        own = "managed" if setting.id in kind.managed else "custom"
        return {"Type": own, kind.name: _shown(call, kind, setting)}
    if kind is KEY_GROUP:
        return {kind.name: _shown(call, kind, setting)}
    described = {"Description": ""} if kind is ORIGIN_ACCESS_CONTROL else {}
    return {**described, **_config(call, kind, setting), "Id": setting.id, "CreatedTime": setting.created_at}


def _create(kind: SettingKind) -> Handler:
    async def create(call: Call) -> Mapping[str, Any]:
        config = kept_value(_shape(call, kind.config_name), call.params[kind.config_name])
        setting = await edge_settings.create(call.ctx.domain, kind, config=config)
        return {
            kind.name: _shown(call, kind, setting),
            "ETag": setting.etag,
            "Location": f"https://cloudfront.amazonaws.com{call.operation.uri}/{setting.id}",
        }

    return create


def _get(kind: SettingKind) -> Handler:
    async def get(call: Call) -> Mapping[str, Any]:
        setting = edge_settings.find(call.ctx.state, kind, call.params["Id"])
        return {kind.name: _shown(call, kind, setting), "ETag": setting.etag}

    return get


def _get_config(kind: SettingKind) -> Handler:
    async def get_config(call: Call) -> Mapping[str, Any]:
        setting = edge_settings.find(call.ctx.state, kind, call.params["Id"])
        return {kind.config_name: _config(call, kind, setting), "ETag": setting.etag}

    return get_config


def _update(kind: SettingKind) -> Handler:
    async def update(call: Call) -> Mapping[str, Any]:
        config = kept_value(_shape(call, kind.config_name), call.params[kind.config_name])
        setting = await edge_settings.update(
            call.ctx.domain, kind, call.params["Id"], config=config, if_match=call.params.get("IfMatch")
        )
        return {kind.name: _shown(call, kind, setting), "ETag": setting.etag}

    return update


def _delete(kind: SettingKind) -> Handler:
    async def delete(call: Call) -> Mapping[str, Any]:
        await edge_settings.delete(call.ctx.domain, kind, call.params["Id"], if_match=call.params.get("IfMatch"))
        return {}

    return delete


def _list(kind: SettingKind) -> Handler:
    async def list_all(call: Call) -> Mapping[str, Any]:
        wanted = call.params.get("Type")
        if wanted not in (None, "managed", "custom"):
            raise AwsError("InvalidArgument", "The parameter Type is managed or custom.")
        settings: list[EdgeSetting] = []
        if wanted != "custom":
            settings += [edge_settings.managed(kind, id) for id in kind.managed]
        if wanted != "managed":
            settings += call.ctx.state.list(kind.resource)
        found, around = page(call, settings, [each.id for each in settings])
        items = [_summary(call, kind, each) for each in found]
        return {f"{kind.name}List": {**around, "Items": items or None}}

    return list_all


def _list_users(kind: SettingKind, parameter: str) -> Handler:
    async def list_distributions(call: Call) -> Mapping[str, Any]:
        setting = edge_settings.find(call.ctx.state, kind, call.params[parameter])
        ids = [each.distribution_id for each in edge_settings.users(call.ctx.state, kind, setting.id)]
        found, around = page(call, ids, ids)
        return {"DistributionIdList": {**around, "Items": found or None}}

    return list_distributions


def _handlers() -> dict[str, Handler]:
    found: dict[str, Handler] = {}
    for kind in KINDS:
        found |= {
            f"Create{kind.name}": _create(kind),
            f"Get{kind.name}": _get(kind),
            f"Get{kind.name}Config": _get_config(kind),
            f"Update{kind.name}": _update(kind),
            f"Delete{kind.name}": _delete(kind),
            f"List{_PLURALS[kind.name]}": _list(kind),
        }
        if kind.managed:
            found[f"ListDistributionsBy{kind.name}Id"] = _list_users(kind, f"{kind.name}Id")
    found["ListDistributionsByKeyGroup"] = _list_users(KEY_GROUP, "KeyGroupId")
    return found


HANDLERS = _handlers()


def _resource(word: str) -> Callable[[Call], str]:
    return lambda call: f"arn:aws:cloudfront::{call.ctx.account_id}:{word}/{call.params['Id']}"


# Public keys and key groups have no ARN (Service Authorization Reference, Amazon CloudFront).
RESOURCES = {
    operation: _resource(kind.word.replace(" ", "-"))
    for kind in (CACHE_POLICY, ORIGIN_REQUEST_POLICY, RESPONSE_HEADERS_POLICY, ORIGIN_ACCESS_CONTROL)
    for operation in (f"Get{kind.name}", f"Get{kind.name}Config", f"Update{kind.name}", f"Delete{kind.name}")
}
