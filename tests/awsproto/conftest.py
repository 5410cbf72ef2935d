"""botocore as the other side of the wire: its serialisers make our requests, its parsers read our answers."""

from __future__ import annotations

import io
import string
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import botocore.awsrequest
import botocore.loaders
import botocore.model
import botocore.parsers
import botocore.serialize
import pytest
from hypothesis import strategies as st

from nearpoint.wire.message import Headers, Response

_LOADER = botocore.loaders.Loader(include_default_extras=False)
HEADER_TEXT = st.text(string.ascii_letters + string.digits + "-_./=:;+*!'()", min_size=1, max_size=12)
BODY_TEXT = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x2FFFF, exclude_categories=["Cs", "Cn", "Cc"]), max_size=12
)
LABEL_TEXT = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x3000, exclude_categories=["Cs"]), min_size=1)
_TIMES = st.integers(0, 4_000_000_000_000).map(
    lambda millis: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=millis)
)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@cache
def client_model(service: str) -> botocore.model.ServiceModel:
    """botocore's own view of a service, without its client-side patches of the S3 model."""
    return botocore.model.ServiceModel(_LOADER.load_service_model(service, "service-2"), service)


def values(shape: Any, where: str | None = None, depth: int = 0, whole_seconds: bool = False) -> st.SearchStrategy[Any]:
    """Any value of a botocore shape; `where` is its place (header, querystring, uri; None: the body)."""
    where = shape.serialization.get("location", where)
    kind = shape.type_name
    if where == "statusCode":
        return st.integers(200, 299)
    if kind == "structure":
        return structures(shape, depth)
    if kind == "list":
        return st.lists(values(shape.member, where, depth + 1, whole_seconds), min_size=1, max_size=3)
    if kind == "map":
        keys = HEADER_TEXT.map(str.lower) if where else BODY_TEXT.filter(bool)
        return st.dictionaries(keys, values(shape.value, where, depth + 1), min_size=1, max_size=3)
    if kind == "string":
        if shape.enum:
            return st.sampled_from(shape.enum)
        if shape.serialization.get("hostLabel") and where != "uri":
            return st.text("0123456789", min_size=12, max_size=12)
        return {None: BODY_TEXT, "uri": LABEL_TEXT}.get(where, HEADER_TEXT)
    if kind == "timestamp":
        seconds = (
            whole_seconds
            or (where or "").startswith("header")
            or (shape.serialization.get("timestampFormat", "").lower() == "rfc822")
        )
        return _TIMES.map(lambda at: at.replace(microsecond=0)) if seconds else _TIMES
    return {
        "integer": st.integers(-(2**31), 2**31 - 1),
        "long": st.integers(-(2**63), 2**63 - 1),
        "boolean": st.booleans(),
        "blob": st.binary(max_size=16),
        "float": _FLOATS,
        "double": _FLOATS,
    }[kind]


def structures(shape: Any, depth: int = 0) -> st.SearchStrategy[dict[str, Any]]:
    """Any value of a structure; deep down only what is required."""
    if shape.is_document_type:
        return st.just({"a": 1})
    required = {name: member for name, member in shape.members.items() if name in shape.required_members}
    optional = {
        name: member
        for name, member in shape.members.items()
        if name not in required
        and not member.serialization.get("eventstream")
        # Deep down only scalars, and those only where the structure would be empty: the query protocol has no way to
        # write an empty structure.
        and (depth < 3 or (not required and member.type_name not in {"structure", "list", "map"}))
    }

    @st.composite
    def draw_structure(draw: Callable[..., Any]) -> dict[str, Any]:
        if shape.is_tagged_union:
            name = draw(st.sampled_from(sorted(shape.members)))
            return {name: draw(values(shape.members[name], None, depth + 1))}
        chosen = dict(required)
        if optional:
            names = st.lists(st.sampled_from(sorted(optional)), unique=True, min_size=0 if required else 1, max_size=6)
            chosen |= {name: optional[name] for name in draw(names)}
        return {name: draw(values(member, None, depth + 1)) for name, member in chosen.items()}

    return draw_structure()


def send(service: str, operation: str, params: dict[str, Any]) -> tuple[str, str, Headers, bytes]:
    """Method, target, headers and body that botocore sends for these parameters."""
    model = client_model(service)
    serializer = botocore.serialize.create_serializer(model.metadata["protocol"], include_validation=False)
    parts = serializer.serialize_to_request(params, model.operation_model(operation))
    parts.pop("host_prefix", None)
    botocore.awsrequest.prepare_request_dict(parts, "https://host.example")
    request = botocore.awsrequest.create_request_object(parts).prepare()
    target = request.url.removeprefix("https://host.example") or "/"
    headers = Headers(
        (name, value.decode("latin-1") if isinstance(value, bytes) else str(value))
        for name, value in request.headers.items()
    )
    body = request.body or b""
    return request.method, target, headers, body.encode() if isinstance(body, str) else bytes(body)


def receive(service: str, operation: str, response: Response) -> dict[str, Any]:
    """What botocore makes of a response (its ResponseMetadata included)."""
    model = client_model(service)
    parser = botocore.parsers.create_parser(model.metadata["protocol"])
    headers = botocore.awsrequest.HeadersDict(dict(response.headers))
    body = response.body.data  # type: ignore[attr-defined]
    shape = model.operation_model(operation).output_shape
    payload = shape.serialization.get("payload") if shape is not None else None
    stream = payload is not None and shape.members[payload].type_name == "blob"
    parts = {"status_code": response.status, "headers": headers, "body": io.BytesIO(body) if stream else body}
    parsed: dict[str, Any] = parser.parse(parts, shape)
    if stream:
        parsed[payload] = parsed[payload].read()
    return parsed


@pytest.fixture
def botocore_side() -> Any:
    """The functions above, for tests that can't import a conftest."""

    class Side:
        client_model = staticmethod(client_model)
        structures = staticmethod(structures)
        send = staticmethod(send)
        receive = staticmethod(receive)

    return Side
