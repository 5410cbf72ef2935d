"""botocore's service models as small typed values: operations, shapes, members.

Only the JSON files of botocore are used, not its code: a service loads in some 10 ms, and shapes are built when first
asked for.
"""

from __future__ import annotations

import gzip
import importlib.util
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import orjson


class Member:
    """A shape in its place (member of a structure, list element, map key or value, input, output) with its traits.

    A trait that the place does not set is the shape's own, as in botocore. `name` is the locationName, or None.
    """

    __slots__ = (
        "attribute",
        "event_stream",
        "flattened",
        "host_label",
        "location",
        "name",
        "namespace",
        "shape",
        "streaming",
        "timestamp_format",
        "type",
    )

    def __init__(self, shape: Shape, traits: dict[str, Any]) -> None:
        merged = {**shape.traits, **traits}
        self.shape = shape
        self.type = shape.type
        self.name: str | None = merged.get("locationName")
        self.location: str | None = merged.get("location")
        self.flattened: bool = bool(merged.get("flattened"))
        self.attribute: bool = bool(merged.get("xmlAttribute"))
        self.namespace: dict[str, str] | None = _namespace(merged.get("xmlNamespace"))
        self.timestamp_format: str | None = merged.get("timestampFormat")
        self.streaming: bool = bool(merged.get("streaming"))
        self.event_stream: bool = bool(merged.get("eventstream"))
        self.host_label: bool = bool(merged.get("hostLabel"))


def _namespace(value: object) -> dict[str, str] | None:
    if isinstance(value, str):
        return {"uri": value}
    return value if isinstance(value, dict) else None


class Shape:
    """A type of the model: `structure`, `list`, `map`, `string`, `integer`, `long`, `float`, `double`, `boolean`,
    `blob` or `timestamp`."""

    __slots__ = (
        "_body_index",
        "_body_members",
        "element",
        "key",
        "members",
        "name",
        "payload",
        "required",
        "traits",
        "type",
        "value",
    )

    def __init__(self, name: str, raw: dict[str, Any]) -> None:
        self.name = name
        self.type: str = raw["type"]
        self.traits = raw
        self.required: tuple[str, ...] = tuple(raw.get("required", ()))
        self.payload: str | None = raw.get("payload")
        self.members: dict[str, Member] = {}
        self.element: Member | None = None  # of a list
        self.key: Member | None = None  # of a map
        self.value: Member | None = None
        self._body_index: dict[str, tuple[str, Member]] | None = None
        self._body_members: list[tuple[str, str, Member]] | None = None

    @property
    def error_code(self) -> str:
        """For an exception: the code on the wire."""
        error = self.traits.get("error")
        return str(error.get("code", self.name)) if isinstance(error, dict) else self.name

    @property
    def body_members(self) -> list[tuple[str, str, Member]]:
        """The members that are written into an XML body: name, tag, member, in the model's order."""
        if self._body_members is None:
            self._body_members = [
                (name, member.name or name, member)
                for name, member in self.members.items()
                if member.location is None and not member.attribute
            ]
        return self._body_members

    @property
    def body_index(self) -> dict[str, tuple[str, Member]]:
        """The members that are read from an XML or JSON body, by their names there."""
        if self._body_index is None:
            index: dict[str, tuple[str, Member]] = {}
            for name, member in self.members.items():
                if member.location is None and not member.attribute:
                    index[member.name or name] = (name, member)
                    if member.flattened and member.shape.element is not None and member.shape.element.name:
                        index.setdefault(member.shape.element.name, (name, member))
            self._body_index = index
        return self._body_index


class Operation:
    """An operation of a service: how it looks on the wire, its input and output (None where it has none)."""

    def __init__(self, service: ServiceModel, name: str, raw: dict[str, Any]) -> None:
        self.name = name
        self.method: str = raw["http"]["method"]
        self.uri: str = raw["http"]["requestUri"]
        self.status: int = raw["http"].get("responseCode", 200)
        self.deprecated: bool = bool(raw.get("deprecated"))
        self._service = service
        self._raw = raw

    @cached_property
    def input(self) -> Member | None:
        return self._io("input")

    @cached_property
    def output(self) -> Member | None:
        return self._io("output")

    def _io(self, which: str) -> Member | None:
        ref = self._raw.get(which)
        return None if ref is None else Member(self._service.shape(ref["shape"]), ref)

    @property
    def result_wrapper(self) -> str | None:
        """The element around the result in the query protocol."""
        wrapper: str | None = self._raw.get("output", {}).get("resultWrapper")
        return wrapper

    @cached_property
    def streaming_input(self) -> str | None:
        """The input member that is the body as it is (never buffered or parsed), or None."""
        return self._streaming(self.input)

    @cached_property
    def streaming_output(self) -> str | None:
        """The output member that is the body as it is, or None."""
        return self._streaming(self.output)

    @staticmethod
    def _streaming(io: Member | None) -> str | None:
        if io is None or io.shape.payload is None:
            return None
        payload = io.shape.members[io.shape.payload]
        return io.shape.payload if payload.type == "blob" and payload.streaming else None

    @cached_property
    def located(self) -> Located:
        """Where the input's members outside the body are."""
        return Located(self.input)

    def __repr__(self) -> str:
        return f"<Operation {self.name}>"


class Located:
    """An input's members by place: `headers` by lower-case name, `header_maps` by lower-case prefix, `query` by name,
    `query_map` and `labels` by name."""

    __slots__ = ("header_maps", "headers", "labels", "query", "query_map")

    def __init__(self, input: Member | None) -> None:
        self.headers: dict[str, tuple[str, Member]] = {}
        self.header_maps: list[tuple[str, str, Member]] = []
        self.query: dict[str, tuple[str, Member]] = {}
        self.query_map: tuple[str, Member] | None = None
        self.labels: dict[str, tuple[str, Member]] = {}
        for name, member in input.shape.members.items() if input is not None else ():
            wire_name = member.name or name
            if member.location == "header":
                self.headers[wire_name.lower()] = (name, member)
            elif member.location == "headers":
                self.header_maps.append((wire_name.lower(), name, member))
            elif member.location == "querystring" and member.type == "map":
                self.query_map = (name, member)
            elif member.location == "querystring":
                self.query[wire_name] = (name, member)
            elif member.location == "uri":
                self.labels[wire_name] = (name, member)


class ServiceModel:
    """One service's model."""

    def __init__(self, name: str, raw: dict[str, Any]) -> None:
        self.name = name
        self.metadata: dict[str, Any] = raw["metadata"]
        self.protocol: str = self.metadata["protocol"]
        self.api_version: str = self.metadata["apiVersion"]
        self._raw_shapes: dict[str, dict[str, Any]] = raw["shapes"]
        self._shapes: dict[str, Shape] = {}
        self.operations = {name: Operation(self, name, operation) for name, operation in raw["operations"].items()}

    def shape(self, name: str) -> Shape:
        """The shape of that name. Shapes may refer to themselves."""
        found = self._shapes.get(name)
        if found is not None:
            return found
        raw = self._raw_shapes[name]
        shape = self._shapes[name] = Shape(name, raw)
        for member, ref in raw.get("members", {}).items():
            shape.members[member] = Member(self.shape(ref["shape"]), ref)
        if "member" in raw:
            shape.element = Member(self.shape(raw["member"]["shape"]), raw["member"])
        if "key" in raw:
            shape.key = Member(self.shape(raw["key"]["shape"]), raw["key"])
            shape.value = Member(self.shape(raw["value"]["shape"]), raw["value"])
        return shape

    @cached_property
    def error_statuses(self) -> dict[str, int]:
        """HTTP status by code, for the errors of the model that state one."""
        statuses: dict[str, int] = {}
        for name, raw in self._raw_shapes.items():
            if raw.get("exception"):
                status = raw.get("error", {}).get("httpStatusCode")
                if status:
                    statuses[Shape(name, raw).error_code] = status
        return statuses


def _model_file(service: str) -> Path:
    spec = importlib.util.find_spec("botocore")
    if spec is None or not spec.submodule_search_locations:
        raise LookupError("botocore is not installed: its service models are needed")
    folder = Path(spec.submodule_search_locations[0]) / "data" / service
    files = sorted(folder.glob("*/service-2.json*"))
    files = [file for file in files if file.name in {"service-2.json", "service-2.json.gz"}]
    if not files:
        raise LookupError(f"botocore has no model of the service {service!r}")
    return files[-1]


def _without_documentation(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_documentation(item) for key, item in value.items() if not _is_prose(key, item)}
    return value


def _is_prose(key: str, item: object) -> bool:
    return key in {"documentation", "deprecatedMessage"} and isinstance(item, str)


@cache
def load_model(service: str) -> ServiceModel:
    """The model of a service by botocore's name for it (`s3`, `s3control`, `lambda` …). Raises LookupError."""
    file = _model_file(service)
    data = file.read_bytes()
    raw = orjson.loads(gzip.decompress(data) if file.suffix == ".gz" else data)
    return ServiceModel(
        service,
        {
            "metadata": raw["metadata"],
            "operations": _without_documentation(raw["operations"]),
            "shapes": _without_documentation(raw["shapes"]),
        },
    )
