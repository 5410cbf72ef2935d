"""What is kept of a stack: itself, its templates, its resources and its events, each small and written by itself.

So a write stays small, and whatever a killed process leaves says how to go on.
"""

from __future__ import annotations

import zlib
from typing import Any, ClassVar

import msgspec
from msgspec import Struct, field

from nearpoint.state.resources import Resource

STORED_BYTES_MAX = 700_000  # a message of the state store is 1 MB at most


def packed(data: bytes) -> bytes:
    """Compressed. Raises ValueError where even that is too long to keep."""
    small = zlib.compress(data, 6)
    if len(small) > STORED_BYTES_MAX:
        raise ValueError(f"{len(small)} bytes, {STORED_BYTES_MAX} can be kept")
    return small


class Output(Struct, frozen=True, kw_only=True):
    """An output with its value."""

    key: str
    value: str
    description: str | None = None
    export_name: str | None = None


class Previous(Struct, frozen=True, kw_only=True):
    """What an update changes of the stack itself, as it was before, to go back to."""

    parameters: dict[str, str]
    shown_parameters: dict[str, str]
    tags: dict[str, str]
    capabilities: tuple[str, ...]
    description: str | None
    imports: tuple[str, ...]


class Stack(Resource, frozen=True, kw_only=True):
    """A stack. `revision` numbers the template in force, `target` the one it is being moved to (0: none).

    `parameters` are as given, defaults left out; `shown_parameters` as described (NoEcho masked).
    """

    KIND: ClassVar[str] = "stack"
    uuid: str
    name: str
    region: str
    account_id: str
    status: str
    status_reason: str | None = None
    description: str | None = None
    created_at: float
    updated_at: float | None = None
    deleted_at: float | None = None
    revision: int = 0
    target: int = 1
    parameters: dict[str, str] = field(default_factory=dict)
    shown_parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    on_failure: str = "ROLLBACK"
    timeout_minutes: int | None = None
    notification_arns: tuple[str, ...] = ()
    role_arn: str | None = None
    termination_protection: bool = False
    client_request_token: str | None = None
    outputs: tuple[Output, ...] = ()
    imports: tuple[str, ...] = ()
    retain: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()  # what a rollback that is gone on with leaves as it is
    change_set: str = ""  # the one that the last creation or update came from
    previous: Previous | None = None

    @property
    def id(self) -> str:
        return self.uuid

    @property
    def arn(self) -> str:
        return f"arn:aws:cloudformation:{self.region}:{self.account_id}:stack/{self.name}/{self.uuid}"


class StackTemplate(Resource, frozen=True, kw_only=True):
    """One revision of a stack's template."""

    KIND: ClassVar[str] = "stack-template"
    uuid: str
    revision: int
    text_zlib: bytes

    @property
    def id(self) -> str:
        return f"{self.uuid}.{self.revision}"

    @property
    def text(self) -> str:
        return zlib.decompress(self.text_zlib).decode()


class PropertyChange(Struct, frozen=True, kw_only=True):
    """One thing that changes about a resource, and why; words of `ResourceChangeDetail`. `name` is the property's,
    where `attribute` is `Properties` or `Tags`."""

    attribute: str
    name: str | None = None
    recreation: str = "Never"
    evaluation: str = "Static"
    source: str = "DirectModification"
    entity: str | None = None


class ResourceChange(Struct, frozen=True, kw_only=True):
    """What a change set would do to a resource; words of CloudFormation's `ResourceChange`."""

    action: str
    logical_id: str
    type: str
    physical_id: str | None = None
    replacement: str | None = None
    policy_action: str | None = None
    details: tuple[PropertyChange, ...] = ()

    @property
    def scope(self) -> list[str]:
        return sorted({detail.attribute for detail in self.details})


class ChangeSet(Resource, frozen=True, kw_only=True):
    """A change set: the whole request, so that carrying it out asks nothing more, and what it would change.

    `base_updated_at` is the stack's `updated_at` when it was made: later, it is obsolete.
    """

    KIND: ClassVar[str] = "stack-change-set"
    uuid: str
    stack_uuid: str
    name: str
    kind: str  # CREATE or UPDATE
    status: str
    status_reason: str | None = None
    description: str | None = None
    created_at: float
    base_updated_at: float | None = None
    client_token: str | None = None
    text_zlib: bytes
    parameters: dict[str, str] = field(default_factory=dict)
    shown_parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    capabilities: tuple[str, ...] = ()
    on_failure: str | None = None
    notification_arns: tuple[str, ...] = ()
    role_arn: str | None = None
    changes: tuple[ResourceChange, ...] = ()

    @property
    def id(self) -> str:
        return self.uuid

    @property
    def text(self) -> str:
        return zlib.decompress(self.text_zlib).decode()


class Former(Struct, frozen=True, kw_only=True):
    """What a resource was before the update that is under way. `replaced`: it is still there, beside the new one.
    `undone`: the update has been taken back, and this is the new one, which has to go."""

    type: str
    physical_id: str
    attributes: dict[str, Any]
    properties_zlib: bytes
    replaced: bool
    undone: bool = False
    deletion_policy: str
    update_replace_policy: str
    depends_on: tuple[str, ...]
    revision: int


class StackResource(Resource, frozen=True, kw_only=True):
    """A resource of a stack. `revision` is that of the template it was last brought to; `physical_id` is recorded
    before the resource is made and empty where it never came so far. `added`: by the update that is under way."""

    KIND: ClassVar[str] = "stack-resource"
    uuid: str
    logical_id: str
    type: str
    physical_id: str = ""
    status: str
    status_reason: str | None = None
    updated_at: float
    attributes: dict[str, Any] = field(default_factory=dict)
    properties_zlib: bytes = b""
    depends_on: tuple[str, ...] = ()
    deletion_policy: str = "Delete"
    update_replace_policy: str = "Delete"
    line: int | None = None
    revision: int = 0
    added: bool = False
    former: Former | None = None

    @property
    def id(self) -> str:
        return f"{self.uuid}.{self.logical_id}"


class StackEvent(Resource, frozen=True, kw_only=True):
    """One event; `number` counts a stack's events from 1."""

    KIND: ClassVar[str] = "stack-event"
    uuid: str
    number: int
    event_id: str
    logical_id: str
    physical_id: str
    type: str
    status: str
    status_reason: str | None
    at: float
    client_request_token: str | None
    properties_zlib: bytes = b""  # the resource's, as they were then

    @property
    def id(self) -> str:
        return f"{self.uuid}.{self.number:08d}"


def pack_properties(properties: dict[str, Any]) -> bytes:
    """Raises ValueError for properties too long to keep."""
    return packed(msgspec.json.encode(properties))


def unpack_properties(data: bytes) -> dict[str, Any]:
    """What `pack_properties` made of them; nothing for a resource that was never made."""
    return msgspec.json.decode(zlib.decompress(data), type=dict[str, Any]) if data else {}
