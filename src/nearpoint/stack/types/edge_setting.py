"""What distributions refer to, as resource types: one property each, the configuration; Ref is the id.

`AWS::CloudFront::CachePolicy`, `OriginRequestPolicy`, `ResponseHeadersPolicy`, `OriginAccessControl`, `PublicKey` and
`KeyGroup`; attributes as in CloudFormation's registry.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from nearpoint.stack.intrinsics import Made
from nearpoint.stack.schema import Document, Fields
from nearpoint.stack.services import edge_settings
from nearpoint.stack.services.edge_settings import ORIGIN_ACCESS_CONTROL, PUBLIC_KEY, SettingKind
from nearpoint.stack.types.base import Immediate, Means, Naming
from nearpoint.state.resources import EdgeSetting


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class EdgeSettingType(Immediate):
    """The resource type of one kind. Names are the configuration's: two of one name cannot be, as on AWS."""

    replacing: frozenset[str] = frozenset()

    def __init__(self, kind: SettingKind) -> None:
        self.name = f"AWS::CloudFront::{kind.name}"
        # The configuration's own shape is checked by the service.
        self.properties = Fields({kind.config_name: Document()}, (kind.config_name,))
        self._kind = kind
        self._time = {PUBLIC_KEY.name: "CreatedTime", ORIGIN_ACCESS_CONTROL.name: ""}.get(kind.name, "LastModifiedTime")
        self.attributes = frozenset({"Id", self._time} - {""})

    def _made(self, setting: EdgeSetting) -> Made:
        at = setting.created_at if self._kind is PUBLIC_KEY else setting.last_modified
        times = {self._time: _time(at)} if self._time else {}
        return Made(ref=setting.id, attributes={"Id": setting.id, **times})

    def physical_id(self, naming: Naming, properties: Mapping[str, Any], means: Means) -> str:
        return self._kind.id_of(naming.random_bytes)

    def exists(self, physical_id: str, means: Means) -> Made | None:
        setting = means.services.state.get(self._kind.resource, physical_id)
        return None if setting is None else self._made(setting)

    async def create(self, physical_id: str, properties: dict[str, Any], means: Means) -> Made:
        config = properties[self._kind.config_name]
        return self._made(await edge_settings.create(means.services, self._kind, config=config, id=physical_id))

    async def update(self, physical_id: str, before: dict[str, Any], properties: dict[str, Any], means: Means) -> Made:
        etag = edge_settings.find(means.services.state, self._kind, physical_id).etag
        config = properties[self._kind.config_name]
        return self._made(
            await edge_settings.update(means.services, self._kind, physical_id, config=config, if_match=etag)
        )

    async def delete(self, physical_id: str, properties: dict[str, Any], means: Means) -> None:
        setting = means.services.state.get(self._kind.resource, physical_id)
        if setting is not None:
            await edge_settings.delete(means.services, self._kind, physical_id, if_match=setting.etag)


EDGE_SETTINGS = tuple(EdgeSettingType(kind) for kind in edge_settings.KINDS)
