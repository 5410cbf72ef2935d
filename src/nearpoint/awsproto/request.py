"""Reads the parameters of a request: the inverse of what an AWS client's serialiser did.

Unknown elements and fields are ignored, as AWS ignores them; a value that is not of its type, or a required member that
is missing, is an AwsError with the code of that protocol.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import orjson

from nearpoint.awsproto import xml
from nearpoint.awsproto.errors import AwsError
from nearpoint.awsproto.model import Member, Operation, Shape
from nearpoint.awsproto.routing import Query
from nearpoint.awsproto.scalars import read_scalar, read_timestamp
from nearpoint.wire.message import Headers

DEPTH_MAX = 32
FORM_FIELDS_MAX = 20_000

Params = dict[str, Any]


def read_located(operation: Operation, labels: dict[str, str], query: Query, headers: Headers) -> Params:
    """The parameters that are in path, query and headers. Raises AwsError(InvalidArgument)."""
    params: Params = {}
    located = operation.located
    for wire_name, value in labels.items():
        label = located.labels.get(wire_name)
        if label is not None:
            params[label[0]] = _scalar(label[1], value, wire_name)
    for wire_name, values in query.items():
        entry = located.query.get(wire_name)
        if entry is None:
            continue
        name, member = entry
        if member.type == "list":
            element = _of(member.shape.element)
            params[name] = [_scalar(element, value, wire_name) for value in values]
        else:
            params[name] = _scalar(member, values[0], wire_name)
    if located.query_map is not None:
        name, member = located.query_map
        constants = {item.partition("=")[0] for item in operation.uri.partition("?")[2].split("&")}
        many = _of(member.shape.value).type == "list"
        params[name] = {
            key: values if many else values[0]
            for key, values in query.items()
            if key not in located.query and key not in constants
        }
    if located.headers or located.header_maps:
        _read_headers(located.headers, located.header_maps, headers, params)
    return params


def _read_headers(
    known: dict[str, tuple[str, Member]], maps: list[tuple[str, str, Member]], headers: Headers, params: Params
) -> None:
    for field, value in headers:
        lowered = field.lower()
        entry = known.get(lowered)
        if entry is None:
            for prefix, name, _ in maps:
                if lowered.startswith(prefix):
                    params.setdefault(name, {})[lowered[len(prefix) :]] = value
            continue
        name, member = entry
        if member.type == "list":
            params.setdefault(name, []).extend(_header_list(member, value, field))
        elif name in params:
            continue
        elif member.type == "timestamp" and "if-" in lowered:
            try:
                params[name] = read_timestamp(value)
            except ValueError:
                continue  # RFC 9110 §13.1.3: a date that is not valid is ignored
        else:
            params[name] = _scalar(member, value, field)


_HEADER_ITEM = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|$)')
_HEADER_DATE = re.compile(r"\s*([A-Za-z]{3}, [^,]+|[^,]+)\s*(?:,|$)")  # an HTTP date has a comma of its own


def _header_list(member: Member, value: str, field: str) -> list[Any]:
    element = _of(member.shape.element)
    items: list[Any] = []
    at = 0
    while at < len(value):
        match = (_HEADER_DATE if element.type == "timestamp" else _HEADER_ITEM).match(value, at)
        if match is None or match.end() == at:
            break
        at = match.end()
        last = match.group(match.lastindex or 0).strip()
        quoted = element.type != "timestamp" and match.lastindex == 1
        items.append(_scalar(element, re.sub(r"\\(.)", r"\1", last) if quoted else last, field))
    return items


def _scalar(member: Member, text: str, where: str) -> Any:
    if member.type == "string":
        return text
    try:
        return read_scalar(member.type, text)
    except ValueError:
        raise AwsError(
            "InvalidArgument",
            f"The value of {where} is not a valid {member.type}.",
            extra={"ArgumentName": where, "ArgumentValue": text[:200]},
        ) from None


def _of(member: Member | None) -> Member:
    if member is None:
        raise AssertionError("a list has elements, a map has keys and values")
    return member


class XmlReader:
    """Reads shapes from XML nodes. Every error is AwsError(`error_code`)."""

    def __init__(self, error_code: str = "MalformedXML") -> None:
        self._code = error_code

    def read_document(self, member: Member, data: bytes) -> Any:
        """The value of a structure from a document; the name of the root element is not looked at."""
        try:
            root = xml.parse(data)
        except xml.XmlError as error:
            raise AwsError(self._code, None if self._code == "MalformedXML" else str(error)) from None
        return self.read(member, root, 0)

    def read(self, member: Member, node: xml.Node, depth: int) -> Any:
        kind = member.type
        if kind == "string":
            return node.text
        if depth > DEPTH_MAX:
            raise AwsError(self._code)
        if kind == "structure":
            return self._structure(member.shape, node, depth)
        if kind == "list":
            element = _of(member.shape.element)
            tag = element.name or "member"
            return [self.read(element, child, depth + 1) for child in node.children if child.tag == tag]
        if kind == "map":
            return dict(self._entry(member.shape, child, depth) for child in node.children if child.tag == "entry")
        try:
            return read_scalar(kind, node.text)
        except ValueError:
            raise AwsError(self._code) from None

    def _entry(self, shape: Shape, node: xml.Node, depth: int) -> tuple[str, Any]:
        key, value = _of(shape.key), _of(shape.value)
        key_node, value_node = node.child(key.name or "key"), node.child(value.name or "value")
        if key_node is None or value_node is None:
            raise AwsError(self._code)
        return self.read(key, key_node, depth + 1), self.read(value, value_node, depth + 1)

    def _structure(self, shape: Shape, node: xml.Node, depth: int) -> Params:
        found: Params = {}
        index = shape.body_index
        for child in node.children:
            entry = index.get(child.tag)
            if entry is None:
                continue
            name, member = entry
            if member.flattened and member.type == "list":
                found.setdefault(name, []).append(self.read(_of(member.shape.element), child, depth + 1))
            elif member.flattened and member.type == "map":
                key, value = self._entry(member.shape, child, depth)
                found.setdefault(name, {})[key] = value
            elif name in found:
                raise AwsError(self._code)
            else:
                found[name] = self.read(member, child, depth + 1)
        for name, member in shape.members.items():
            if member.attribute and member.name in node.attributes:
                found[name] = node.attributes[member.name]
        for name in shape.required:
            if name not in found and shape.members[name].location is None:
                raise AwsError(self._code)
        return found


def read_json(data: bytes) -> dict[str, Any]:
    """A JSON object; an empty body is an empty object. Raises AwsError(SerializationException)."""
    if not data:
        return {}
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise AwsError("SerializationException", f"The request body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise AwsError("SerializationException", "The request body is not a JSON object")
    return value


_JSON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "boolean": (bool,),
    "float": (int, float, str),
    "double": (int, float, str),
}


def read_json_value(member: Member, value: Any, path: str = "", depth: int = 0) -> Any:
    """The value of a shape from JSON. Raises AwsError(SerializationException) that names the path."""
    kind = member.type
    if kind == "structure" and isinstance(value, dict) and depth <= DEPTH_MAX:
        if member.shape.traits.get("document"):
            return value
        index = member.shape.body_index
        return {
            index[key][0]: read_json_value(index[key][1], item, f"{path}.{key}", depth + 1)
            for key, item in value.items()
            if key in index and item is not None
        }
    if kind == "list" and isinstance(value, list) and depth <= DEPTH_MAX:
        element = _of(member.shape.element)
        return [
            None if item is None else read_json_value(element, item, f"{path}[{at}]", depth + 1)
            for at, item in enumerate(value)
        ]
    if kind == "map" and isinstance(value, dict) and depth <= DEPTH_MAX:
        of_map = _of(member.shape.value)
        return {
            key: None if item is None else read_json_value(of_map, item, f"{path}.{key}", depth + 1)
            for key, item in value.items()
        }
    try:
        if kind == "timestamp" and isinstance(value, str | int | float) and not isinstance(value, bool):
            return read_timestamp(str(value))
        if kind == "blob" and isinstance(value, str):
            return read_scalar("blob", value)
        if isinstance(value, bool) == (kind == "boolean") and isinstance(value, _JSON_TYPES.get(kind, ())):
            return float(str(value)) if kind in {"float", "double"} else value
    except ValueError:
        pass
    raise AwsError("SerializationException", f"The value of {path.removeprefix('.') or 'the body'} is not a {kind}")


def read_form(text: bytes) -> dict[str, str]:
    """The fields of a query-protocol request. Raises AwsError(MalformedQueryString)."""
    try:
        pairs = parse_qsl(
            text.decode("ascii"),
            keep_blank_values=True,
            encoding="utf-8",
            errors="strict",
            max_num_fields=FORM_FIELDS_MAX,
        )
    except ValueError:
        raise AwsError("MalformedQueryString") from None
    return dict(pairs)


def read_form_value(member: Member, fields: dict[str, str]) -> Params:
    """The value of an input structure from the fields of a query-protocol request."""
    tree: dict[str, Any] = {}
    for name, value in fields.items():
        node = tree
        parts = name.split(".")
        if len(parts) > DEPTH_MAX:
            raise AwsError("MalformedQueryString")
        for part in parts:
            node = node.setdefault(part, {})
        node[""] = value
    found = _form_value(member, tree, "")
    assert isinstance(found, dict)
    return found


def _form_value(member: Member, tree: dict[str, Any], path: str) -> Any:
    shape, kind = member.shape, member.type
    if kind == "structure":
        found: Params = {}
        for name, inner in shape.members.items():
            wire_name = inner.name or name
            if inner.flattened and inner.type == "list" and inner.shape.element is not None:
                wire_name = inner.shape.element.name or wire_name
            if wire_name in tree:
                found[name] = _form_value(inner, tree[wire_name], f"{path}.{wire_name}")
        return found
    if kind == "list":
        element = _of(shape.element)
        items = tree if member.flattened else tree.get(element.name or "member", {})
        return [_form_value(element, item, path) for item in _numbered(items, path)]
    if kind == "map":
        key, value = _of(shape.key), _of(shape.value)
        entries = _numbered(tree if member.flattened else tree.get("entry", {}), path)
        return {
            _form_value(key, entry.get(key.name or "key", {}), path): _form_value(
                value, entry.get(value.name or "value", {}), path
            )
            for entry in entries
        }
    text = tree.get("", "")
    try:
        return read_scalar(kind, text)
    except ValueError:
        raise AwsError("ValidationError", f"The value of {path.removeprefix('.')} is not a valid {kind}") from None


def _numbered(items: dict[str, Any], path: str) -> list[dict[str, Any]]:
    try:
        return [item for _, item in sorted((int(at), item) for at, item in items.items() if at != "")]
    except ValueError:
        raise AwsError("MalformedQueryString", f"The members of {path.removeprefix('.')} are not numbered") from None


def missing_members(member: Member, value: Any, path: str = "") -> list[str]:
    """Paths of required members that are absent, through structures, lists and maps."""
    shape = member.shape
    if member.type == "structure" and isinstance(value, dict):
        missing = [f"{path}.{name}".removeprefix(".") for name in shape.required if value.get(name) is None]
        for name, item in value.items():
            inner = shape.members.get(name)
            if inner is not None:
                missing += missing_members(inner, item, f"{path}.{name}")
        return missing
    if member.type == "list" and isinstance(value, list):
        element = _of(shape.element)
        return [
            found for at, item in enumerate(value, 1) for found in missing_members(element, item, f"{path}.{at}.member")
        ]
    if member.type == "map" and isinstance(value, dict):
        of_map = _of(shape.value)
        return [found for key, item in value.items() for found in missing_members(of_map, item, f"{path}.{key}")]
    return []
